"""What a net is, and what every kind of net shares."""

from __future__ import annotations

import functools
import inspect
import math
import operator
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, ParamSpec

import jax
import jax.numpy as jnp

from aejax.runtime import validate
from aejax.runtime.errors import ConfigError, DataError

Params = dict[str, Any]
"""A nested dict of arrays."""
Activation = Callable[[jax.Array], jax.Array]
CodingAxes = tuple[tuple[tuple[str, ...], int], ...]
"""Path and axis of every parameter that has one entry per coding."""

P = ParamSpec("P")


class Net(NamedTuple):
    """A net of d inputs and k codings, as pure functions.

    init: `init(key, codings=None) -> params`. With `codings`, which may be traced, the parameters of the first
        `codings` codings are distributed as in a net of that size, and those of the other codings are zero. They stay
        zero while their gradients are masked (`mask_codings`), so one shape trains every number of codings.
    encode: `encode(params, x_bd) -> z_bk`, which equals `coding(params, hidden(params, x_bd))`.
    decode: `decode(params, z_bk) -> output_bd`, the linear output of the last layer.
    inputs: the number of inputs, d.
    codings: the number of codings, k.
    coding_axes: path and axis of every parameter that has one entry per coding.
    hidden: `hidden(params, x_bd) -> h_bh`, all layers of the encoder but the last. A variant that needs more than one
        number per coding adds a layer of its own on these hidden units.
    coding: `coding(params, h_bh) -> z_bk`, the last layer of the encoder.
    hidden_width: the number of hidden units, h.
    mirror: `mirror(params["encoder"])` returns the kernel of each decoder layer, by the layer's name, derived from the
        encoder as a tied net needs it. None where the decoder cannot be tied.
    affine: whether encoder and decoder are one kernel and at most one bias each (`affine_kernels`).
    linear_codings: whether the last layer of the encoder and the first layer of the decoder are affine, so that the
        decoder can undo a rotation of the codings.
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


def parameter_shapes(net: Net) -> Params:
    """The net's parameters as `jax.ShapeDtypeStruct`s: nothing is computed."""
    return jax.eval_shape(lambda: net.init(jax.random.key(0)))


def identity(x: jax.Array) -> jax.Array:
    """No activation."""
    return x


def dense_init(key: jax.Array, inputs: int, outputs: int, scale: float = 2.0) -> Params:
    """Parameters of a dense layer: a kernel of variance `scale` / inputs (2: He et al. 2015), and biases of zero."""
    kernel = jax.nn.initializers.variance_scaling(scale, "fan_in", "truncated_normal")(key, (inputs, outputs))
    return {"kernel": kernel, "bias": jnp.zeros(outputs)}


def dense_apply(layer: Params, h_bh: jax.Array, precision: str | None = None) -> jax.Array:
    """The linear output of a dense layer. `h_bh` may have any number of leading axes, or none."""
    bias = jnp.expand_dims(layer["bias"], tuple(range(h_bh.ndim - 1)))
    return jnp.matmul(h_bh, layer["kernel"], precision=precision) + bias


def affine_kernels(params: Params) -> tuple[jax.Array, jax.Array]:
    """Encoder kernel (d, k) and decoder kernel (k, d) of an `affine` net, tied or not."""
    encoder_dk = params["encoder"]["layer_0"]["kernel"]
    return encoder_dk, params.get("decoder", {}).get("layer_0", {}).get("kernel", encoder_dk.T)


def mask_codings(params: Params, axes: CodingAxes, codings: jax.Array | int) -> Params:
    """The same parameters, with zeros for all codings but the first `codings`, which may be traced."""

    def mask(leaf: jax.Array, axis: int) -> jax.Array:
        kept = jnp.arange(leaf.shape[axis]) < codings
        return jnp.where(jnp.expand_dims(kept, other_axes(leaf, axis)), leaf, 0.0)

    return _map_coding_leaves(params, axes, mask)


def slice_codings(params: Params, axes: CodingAxes, codings: int) -> Params:
    """The parameters of the first `codings` codings, in the shapes of a net of that size."""
    return _map_coding_leaves(params, axes, lambda leaf, axis: leaf[(slice(None),) * axis + (slice(codings),)])


def coding_mask(params: Params, axes: CodingAxes, codings: int) -> jax.Array:
    """(k,) 1 for a coding that is trained, 0 for one that is masked: all parameters of a masked coding are zero."""
    leaves = [(leaf_at(params, path), axis) for path, axis in sorted(axes)]  # in the order of the parameters' tree
    masks = [jnp.any(leaf != 0, axis=other_axes(leaf, axis)) for leaf, axis in leaves]
    return functools.reduce(jnp.logical_or, masks).astype(jnp.float32) if masks else jnp.ones(codings)


def mask_initial(params: Params, axes: CodingAxes, all_codings: int, codings: jax.Array) -> Params:
    """Initial parameters of `all_codings` codings as those of a net of `codings`: the other codings are zero, and the
    decoder's kernels are scaled to the larger variance that He's initialiser gives for fewer inputs.
    """
    factor = jnp.sqrt(all_codings / codings)
    decoder_kernels = tuple((path, axis) for path, axis in axes if path[0] == "decoder" and path[-1] == "kernel")
    scaled = _map_coding_leaves(params, decoder_kernels, lambda leaf, axis: leaf * factor)
    return mask_codings(scaled, axes, codings)


def leaf_at(params: Params, path: tuple[str, ...]) -> jax.Array:
    """The parameter at a path."""
    return functools.reduce(operator.getitem, path, params)  # pyright: ignore[reportReturnType]


def _map_coding_leaves(tree: Params, axes: CodingAxes, change: Callable[..., Any], parents: tuple = ()) -> Params:
    """The tree with `change(leaf, axis)` in the place of every leaf that `axes` names."""
    axis_of = dict(axes)
    changed = {}
    for name, value in tree.items():
        path = (*parents, name)
        if isinstance(value, dict):
            changed[name] = _map_coding_leaves(value, axes, change, path)
        else:
            changed[name] = change(value, axis_of[path]) if path in axis_of else value
    return changed


def other_axes(leaf: jax.Array, axis: int) -> tuple[int, ...]:
    """All axes of an array but this one."""
    return tuple(i for i in range(leaf.ndim) if i != axis)


def layer_precision(precision: str) -> str | None:
    """The precision to give to a layer. It is None for "default", so that `jax.default_matmul_precision`, which scoring
    sets, decides; JAX would ignore this setting for a layer whose precision is "default".
    """
    return None if precision == "default" else precision


def check_sizes(build: Callable[P, Net]) -> Callable[P, Net]:
    """Decorate a builder of nets: it gets its sizes checked, and in one form each.

    The builder gets `inputs` as an int, `widths` and `decoder_widths` as tuples of ints, and `image_shape` as (height,
    width, channels). `decoder_widths` is None where it is the mirror of the encoder's hidden widths. In this form equal
    nets have equal arguments. Raises ConfigError.
    """
    signature = inspect.signature(build)

    @functools.wraps(build)
    def build_checked(*arguments: P.args, **keywords: P.kwargs) -> Net:
        bound = signature.bind(*arguments, **keywords)
        sizes = bound.arguments
        sizes["inputs"] = validate.whole_number("inputs", sizes["inputs"], minimum=1)
        sizes["widths"] = validate.whole_numbers("widths", sizes["widths"], minimum=1)
        if sizes.get("decoder_widths") is not None:
            widths = validate.whole_numbers("decoder_widths", sizes["decoder_widths"], minimum=1, empty=None)
            sizes["decoder_widths"] = None if widths == mirrored(sizes["widths"]) else widths
        if "image_shape" in sizes:
            sizes["image_shape"] = _image_size(sizes["inputs"], sizes["image_shape"])
        return build(*bound.args, **bound.kwargs)

    return build_checked


def mirrored(widths: Sequence[int]) -> tuple[int, ...]:
    """The hidden widths of an encoder from last to first. The last of `widths` is the number of codings."""
    return tuple(widths[-2::-1])


def _image_size(inputs: int, image_shape: Sequence[int]) -> tuple[int, int, int]:
    """(height, width, channels) of images of shape (H, W) or (H, W, C), of `inputs` values each. Raises ConfigError."""
    shape = validate.whole_numbers("image_shape", image_shape, minimum=1)
    if len(shape) not in (2, 3) or math.prod(shape) != inputs:
        fix = f"give (height, width) or (height, width, channels) of {inputs} values"
        raise ConfigError("image_shape", f"{shape}, for rows of {inputs} inputs", fix)
    height, width, channels = (*shape, 1)[:3]
    return height, width, channels


def check_rows(x_bd: jax.Array, inputs: int) -> None:
    """Raise DataError unless `x_bd` holds floats, `inputs` of them in each row."""
    if not jnp.issubdtype(x_bd.dtype, jnp.floating):
        raise DataError("encode", f"{x_bd.dtype} rows", "pass floats as the net was trained on: dataset.floats(x)")
    if x_bd.shape[-1] != inputs:
        raise DataError("encode", f"{x_bd.shape[-1]} columns, the net has {inputs} inputs", "pass rows of that size")
