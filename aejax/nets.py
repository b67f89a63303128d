"""Nets: pure functions from inputs to codings and back. The only file that imports Flax.

A `Net` says nothing about losses. Its parameters are a plain nested dict,
`{"encoder": {"layer_0": {"kernel", "bias"}, …}, "decoder": {…}}`; `decode` gives the last layer's linear output, and
the variant decides what that output means (values, or logits of a sigmoid).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from aejax import checks
from aejax.errors import ConfigError, DataError

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


def identity(x: jax.Array) -> jax.Array:
    """No activation."""
    return x


class _Stack(nn.Module):
    """Dense layers; `activation` between them, `last_activation` after the last."""

    widths: tuple[int, ...]
    activation: Activation
    last_activation: Activation
    precision: str | None

    @nn.compact
    def __call__(self, x_bd: jax.Array) -> jax.Array:
        last = len(self.widths) - 1
        for i, width in enumerate(self.widths):
            x_bd = nn.Dense(
                width, kernel_init=nn.initializers.he_normal(), precision=self.precision, name=f"layer_{i}"
            )(x_bd)
            x_bd = (self.last_activation if i == last else self.activation)(x_bd)
        return x_bd


def mlp(
    inputs: int,
    widths: Sequence[int],
    *,
    activation: Activation = nn.elu,
    coding_activation: Activation = identity,
    decoder_widths: Sequence[int] | None = None,
    precision: str = "default",
) -> Net:
    """Dense encoder of layer sizes `widths`, the last being the number of codings, and its mirror as decoder.

    `widths=(k,)` with the default `coding_activation` is the linear autoencoder. `decoder_widths` are the decoder's
    hidden layers when they are not the encoder's mirrored. Kernels start from He's variance-scaling initialiser
    (truncated normal, variance 2 / fan_in; He et al. 2015), biases from zero. `precision` is JAX's matmul precision:
    "default" (TF32 or bfloat16 passes on accelerators), "high" or "highest" (float32).

    Equal arguments give the same `Net`, so a net built twice compiles once. Raises ConfigError on sizes that are no
    positive whole numbers.
    """
    inputs = checks.whole_number("inputs", inputs, least=1)
    sizes = checks.whole_numbers("widths", widths, least=1)
    mirrored = sizes[-2::-1]
    if decoder_widths is not None:
        mirrored = checks.whole_numbers("decoder_widths", decoder_widths, least=1, empty=None)
    return _mlp(inputs, sizes, mirrored, activation, coding_activation, precision)


@functools.lru_cache(maxsize=256)
def _mlp(
    inputs: int,
    widths: tuple[int, ...],
    decoder_widths: tuple[int, ...],
    activation: Activation,
    coding_activation: Activation,
    precision: str,
) -> Net:
    # None, unlike "default", leaves the choice open to jax.default_matmul_precision, which scoring uses
    layer_precision = None if precision == "default" else precision
    encoder = _Stack(widths, activation, coding_activation, layer_precision)
    decoder = _Stack((*decoder_widths, inputs), activation, identity, layer_precision)
    lower = _Stack(widths[:-1], activation, activation, layer_precision) if widths[1:] else None
    upper = _Stack(widths[-1:], activation, coding_activation, layer_precision)

    last = f"layer_{len(widths) - 1}"
    axes: CodingAxes = (
        (("encoder", last, "kernel"), 1),
        (("encoder", last, "bias"), 0),
        (("decoder", "layer_0", "kernel"), 0),
    )

    def init(key: jax.Array, codings: jax.Array | None = None) -> Params:
        encoder_key, decoder_key = jax.random.split(key)
        params: Params = {
            "encoder": encoder.init(encoder_key, jnp.zeros((1, inputs)))["params"],
            "decoder": decoder.init(decoder_key, jnp.zeros((1, widths[-1])))["params"],
        }
        if codings is None:
            return params
        first = params["decoder"]["layer_0"]
        fan_in = jnp.sqrt(widths[-1] / codings)  # He's variance is that of the codings there are
        params["decoder"] = {**params["decoder"], "layer_0": {**first, "kernel": first["kernel"] * fan_in}}
        return narrow(params, axes, codings)

    def encode(params: Params, x_bd: jax.Array) -> jax.Array:
        _check_rows(x_bd, inputs)
        return encoder.apply({"params": params["encoder"]}, x_bd)  # pyright: ignore[reportReturnType]

    def decode(params: Params, z_bk: jax.Array) -> jax.Array:
        return decoder.apply({"params": params["decoder"]}, z_bk)  # pyright: ignore[reportReturnType]

    def hidden(params: Params, x_bd: jax.Array) -> jax.Array:
        _check_rows(x_bd, inputs)
        return lower.apply({"params": params["encoder"]}, x_bd) if lower is not None else x_bd  # pyright: ignore[reportReturnType]

    def coding(params: Params, h_bh: jax.Array) -> jax.Array:
        return upper.apply({"params": {"layer_0": params["encoder"][last]}}, h_bh)  # pyright: ignore[reportReturnType]

    hidden_width = (inputs, *widths)[-2]
    return Net(init, encode, decode, inputs, widths[-1], axes, hidden, coding, hidden_width)


@functools.lru_cache(maxsize=256)
def tied(net: Net) -> Net:
    """The net whose i-th decoder kernel, counted from the output, *is* the transpose of its i-th encoder kernel.

    Stores the encoder kernels and all biases. The decoder is the given net's own, applied to `kernel.T`: there is
    nothing shared that could drift apart, the gradient of a kernel is the sum of both uses, and a penalty on the
    parameters counts it once. Raises ConfigError when the decoder does not mirror the encoder.
    """
    shapes = jax.eval_shape(lambda: net.init(jax.random.key(0)))
    encoder_kernels = _kernel_shapes(shapes["encoder"])
    decoder_kernels = _kernel_shapes(shapes["decoder"])
    mirror = [shape[::-1] for shape in reversed(encoder_kernels)]
    if decoder_kernels != mirror:
        raise ConfigError(
            "tied",
            f"decoder kernels {decoder_kernels} do not mirror encoder kernels {encoder_kernels}",
            f"tied decoder kernels would be {mirror}: leave decoder_widths out, or set tied=False",
        )
    layers = len(encoder_kernels)

    def init(key: jax.Array, codings: jax.Array | None = None) -> Params:
        params = net.init(key, codings)
        biases = {name: {"bias": layer["bias"]} for name, layer in params["decoder"].items()}
        return {"encoder": params["encoder"], "decoder": biases}

    def decode(params: Params, z_bk: jax.Array) -> jax.Array:
        encoder, decoder = params["encoder"], params["decoder"]
        derived = {
            f"layer_{i}": {
                "kernel": encoder[f"layer_{layers - 1 - i}"]["kernel"].T,
                "bias": decoder[f"layer_{i}"]["bias"],
            }
            for i in range(layers)
        }
        return net.decode({"decoder": derived}, z_bk)

    axes = tuple((path, axis) for path, axis in net.coding_axes if path[0] == "encoder")
    return net._replace(init=init, decode=decode, coding_axes=axes)


def head(key: jax.Array, inputs: int, outputs: int, scale: float = 2.0) -> Params:
    """A dense layer's kernel, of variance `scale` / inputs (2 is He's), and zero biases; `apply_head` applies it."""
    kernel = jax.nn.initializers.variance_scaling(scale, "fan_in", "truncated_normal")(key, (inputs, outputs))
    return {"kernel": kernel, "bias": jnp.zeros(outputs)}


def apply_head(layer: Params, h_bh: jax.Array) -> jax.Array:
    """The layer's linear output."""
    return h_bh @ layer["kernel"] + layer["bias"][None, :]


def narrow(params: Params, axes: CodingAxes, codings: jax.Array | int) -> Params:
    """The same tree with what belongs to all but the first `codings` codings set to zero; `codings` may be traced."""

    def zero(leaf: jax.Array, axis: int) -> jax.Array:
        kept = jnp.arange(leaf.shape[axis]) < codings
        return jnp.where(jnp.expand_dims(kept, [i for i in range(leaf.ndim) if i != axis]), leaf, 0.0)

    return _at(params, axes, zero)


def cut(params: Params, axes: CodingAxes, codings: int) -> Params:
    """The parameters of a net of `codings` codings, out of those of a wider one."""
    return _at(params, axes, lambda leaf, axis: leaf[(slice(None),) * axis + (slice(codings),)])


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


def _check_rows(x_bd: jax.Array, inputs: int) -> None:
    if not jnp.issubdtype(x_bd.dtype, jnp.floating):
        raise DataError("encode", f"{x_bd.dtype} rows", "pass floats as the net was trained on: dataset.floats(x)")
    if x_bd.shape[-1] != inputs:
        raise DataError("encode", f"{x_bd.shape[-1]} columns, the net has {inputs} inputs", "pass rows of that size")


def _kernel_shapes(stack: Params) -> list[tuple[int, ...]]:
    """Kernel shapes in layer order (dict order is alphabetical after a tree map: layer_10 before layer_2)."""
    return [tuple(stack[f"layer_{i}"]["kernel"].shape) for i in range(len(stack))]


NETS: dict[str, Callable[..., Net]] = {"mlp": mlp}
"""Every kind of net by its name, as stored runs name it."""
IMAGE_NETS: tuple[str, ...] = ()
"""Those that are made for the shape of images, `image_shape`, rather than for a number of inputs."""
STANDARD = ("activation", "coding_activation", "decoder_widths", "precision", "image_shape")
"""Keyword arguments that every kind of net takes, `image_shape` where it is one of IMAGE_NETS; others are options."""
