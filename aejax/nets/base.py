"""What a net is, and what every kind of net shares."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from aejax.runtime import validate
from aejax.runtime.errors import ConfigError, DataError

Params = dict[str, Any]
Activation = Callable[[jax.Array], jax.Array]
CodingAxes = tuple[tuple[tuple[str, ...], int], ...]
"""Path and axis of every parameter that has one entry a coding."""


class Net(NamedTuple):
    """`init(key, codings=None) -> params`, `encode(params, x_bd) -> z_bk`, `decode(params, z_bk) -> output_bd`.

    `encode` is `coding(params, hidden(params, x_bd))`: all layers but the last, with `hidden_width` units, then the
    last; a variant that wants more than one number a coding gives the hidden units a `head` of its own.

    `codings` of `init` may be traced: parameters for the first so many codings, distributed as in a net of that many,
    the others zero. Zeros stay zero while their gradients are `narrow`ed, so that one shape trains every number.

    `mirror(params["encoder"])` gives the kernel of each decoder layer by name as its tied net has it, derived from the
    encoder's (`tied`); None where a decoder cannot be tied.

    An `affine` net is one kernel, and at most one bias, on either side (`affine_kernels`). With `linear_codings` the
    encoder's last layer is affine and so is the decoder's first: what rotates the codings, the decoder can rotate back.
    """

    init: Callable[..., Params]
    encode: Callable[[Params, jax.Array], jax.Array]
    decode: Callable[[Params, jax.Array], jax.Array]
    inputs: int
    codings: int
    coding_axes: CodingAxes
    hidden: Callable[[Params, jax.Array], jax.Array]
    coding: Callable[[Params, jax.Array], jax.Array]
    hidden_width: int
    mirror: Callable[[Params], dict[str, jax.Array]] | None
    affine: bool = False
    linear_codings: bool = False


def identity(x: jax.Array) -> jax.Array:
    """No activation."""
    return x


def dense_init(key: jax.Array, inputs: int, outputs: int, scale: float = 2.0) -> Params:
    """A dense layer's kernel, of variance `scale` / inputs (2 is He's), and zero biases; `apply_head` applies it."""
    kernel = jax.nn.initializers.variance_scaling(scale, "fan_in", "truncated_normal")(key, (inputs, outputs))
    return {"kernel": kernel, "bias": jnp.zeros(outputs)}


def dense_apply(layer: Params, h_bh: jax.Array, precision: str | None = None) -> jax.Array:
    """The layer's linear output, of rows or of one."""
    bias = jnp.expand_dims(layer["bias"], tuple(range(h_bh.ndim - 1)))
    return jnp.matmul(h_bh, layer["kernel"], precision=precision) + bias


def mask_initial(params: Params, axes: CodingAxes, most: int, codings: jax.Array) -> Params:
    """Parameters of a net of `most` codings as `init` gives them for its first `codings`: the others zero, and the
    decoder's kernels scaled to the variance that fewer inputs ask for.
    """
    fan_in = jnp.sqrt(most / codings)
    of_decoder = tuple((path, axis) for path, axis in axes if path[0] == "decoder" and path[-1] == "kernel")
    return mask_codings(_at(params, of_decoder, lambda leaf, axis: leaf * fan_in), axes, codings)


def affine_kernels(params: Params) -> tuple[jax.Array, jax.Array]:
    """Encoder (d, k) and decoder (k, d) kernel of an `affine` net, tied or not."""
    encoder_dk = params["encoder"]["layer_0"]["kernel"]
    return encoder_dk, params.get("decoder", {}).get("layer_0", {}).get("kernel", encoder_dk.T)


def mask_codings(params: Params, axes: CodingAxes, codings: jax.Array | int) -> Params:
    """The same tree with what belongs to all but the first `codings` codings set to zero; `codings` may be traced."""

    def zero(leaf: jax.Array, axis: int) -> jax.Array:
        kept = jnp.arange(leaf.shape[axis]) < codings
        return jnp.where(jnp.expand_dims(kept, [i for i in range(leaf.ndim) if i != axis]), leaf, 0.0)

    return _at(params, axes, zero)


def slice_codings(params: Params, axes: CodingAxes, codings: int) -> Params:
    """The parameters of a net of `codings` codings, out of those of a wider one."""
    return _at(params, axes, lambda leaf, axis: leaf[(slice(None),) * axis + (slice(codings),)])


def coding_mask(params: Params, axes: CodingAxes, codings: int) -> jax.Array:
    """(k,) 1 for a coding that is trained, 0 for one that `narrow` has masked: all that belongs to it is zero."""
    found: list[jax.Array] = []

    def note(leaf: jax.Array, axis: int) -> jax.Array:
        found.append(jnp.any(leaf != 0, axis=tuple(i for i in range(leaf.ndim) if i != axis)))
        return leaf

    _at(params, axes, note)
    return functools.reduce(jnp.logical_or, found).astype(jnp.float32) if found else jnp.ones(codings)


def _at(tree: Params, axes: CodingAxes, change: Callable[[Any, int], Any], path: tuple[str, ...] = ()) -> Params:
    along = dict(axes)
    changed = {}
    for name, value in tree.items():
        here = (*path, name)
        if isinstance(value, dict):
            changed[name] = _at(value, axes, change, here)
        else:
            changed[name] = change(value, along[here]) if here in along else value
    return changed


def layer_precision(precision: str) -> str | None:
    """What a layer is given: None, unlike "default", leaves the choice open to jax.default_matmul_precision, which
    scoring uses.
    """
    return None if precision == "default" else precision


def image_size(inputs: int, image_shape: Sequence[int]) -> tuple[int, int, int]:
    """(height, width, channels) of images of (H, W) or (H, W, C), `inputs` values each. Raises ConfigError."""
    shape = validate.whole_numbers("image_shape", image_shape, minimum=1)
    if len(shape) not in (2, 3) or math.prod(shape) != inputs:
        fix = f"give (height, width) or (height, width, channels) of {inputs} values"
        raise ConfigError("image_shape", f"{shape}, for rows of {inputs} inputs", fix)
    height, width, channels = (*shape, 1)[:3]
    return height, width, channels


def check_rows(x_bd: jax.Array, inputs: int) -> None:
    """Raise DataError unless these are rows of floats, `inputs` of them each."""
    if not jnp.issubdtype(x_bd.dtype, jnp.floating):
        raise DataError("encode", f"{x_bd.dtype} rows", "pass floats as the net was trained on: dataset.floats(x)")
    if x_bd.shape[-1] != inputs:
        raise DataError("encode", f"{x_bd.shape[-1]} columns, the net has {inputs} inputs", "pass rows of that size")
