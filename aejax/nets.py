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


class Net(NamedTuple):
    """`init(key) -> params`, `encode(params, x_bd) -> z_bk`, `decode(params, z_bk) -> output_bd`."""

    init: Callable[[jax.Array], Params]
    encode: Callable[[Params, jax.Array], jax.Array]
    decode: Callable[[Params, jax.Array], jax.Array]
    inputs: int
    codings: int


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

    def init(key: jax.Array) -> Params:
        encoder_key, decoder_key = jax.random.split(key)
        return {
            "encoder": encoder.init(encoder_key, jnp.zeros((1, inputs)))["params"],
            "decoder": decoder.init(decoder_key, jnp.zeros((1, widths[-1])))["params"],
        }

    def encode(params: Params, x_bd: jax.Array) -> jax.Array:
        _check_rows(x_bd, inputs)
        return encoder.apply({"params": params["encoder"]}, x_bd)  # pyright: ignore[reportReturnType]

    def decode(params: Params, z_bk: jax.Array) -> jax.Array:
        return decoder.apply({"params": params["decoder"]}, z_bk)  # pyright: ignore[reportReturnType]

    return Net(init, encode, decode, inputs, widths[-1])


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

    def init(key: jax.Array) -> Params:
        params = net.init(key)
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

    return Net(init, net.encode, decode, net.inputs, net.codings)


def _check_rows(x_bd: jax.Array, inputs: int) -> None:
    if not jnp.issubdtype(x_bd.dtype, jnp.floating):
        raise DataError("encode", f"{x_bd.dtype} rows", "pass floats as the net was trained on: dataset.floats(x)")
    if x_bd.shape[-1] != inputs:
        raise DataError("encode", f"{x_bd.shape[-1]} columns, the net has {inputs} inputs", "pass rows of that size")


def _kernel_shapes(stack: Params) -> list[tuple[int, ...]]:
    """Kernel shapes in layer order (dict order is alphabetical after a tree map: layer_10 before layer_2)."""
    return [tuple(stack[f"layer_{i}"]["kernel"].shape) for i in range(len(stack))]
