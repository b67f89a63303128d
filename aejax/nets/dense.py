"""Dense nets."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from aejax.nets.base import (
    Activation,
    CodingAxes,
    Net,
    Params,
    check_rows,
    identity,
    layer_precision,
    mask_codings,
    mask_initial,
)
from aejax.runtime import validate
from aejax.runtime.errors import ConfigError, suggest

INITIALISERS = {"he": nn.initializers.he_normal, "glorot": nn.initializers.glorot_normal}


class _Stack(nn.Module):
    """Dense layers; `activation` between them, `last_activation` after the last."""

    widths: tuple[int, ...]
    activation: Activation
    last_activation: Activation
    precision: str | None
    bias: bool
    initialiser: str

    @nn.compact
    def __call__(self, x_bd: jax.Array) -> jax.Array:
        last, kernel_init = len(self.widths) - 1, INITIALISERS[self.initialiser]()
        for i, width in enumerate(self.widths):
            dense = nn.Dense(width, self.bias, kernel_init=kernel_init, precision=self.precision, name=f"layer_{i}")
            x_bd = dense(x_bd)
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
    bias: bool = True,
    initialiser: str = "he",
) -> Net:
    """Dense encoder of layer sizes `widths`, the last being the number of codings, and its mirror as decoder.

    `widths=(k,)` with the default `coding_activation` is the linear autoencoder. `decoder_widths` are the decoder's
    hidden layers when they are not the encoder's mirrored. Kernels start from He's variance-scaling initialiser
    (truncated normal, variance 2 / fan_in; He et al. 2015), or with `initialiser="glorot"` with variance
    2 / (fan_in + fan_out), the same for a kernel and its mirror (Glorot & Bengio 2010); biases from zero, or with
    `bias=False` there are none, for data that is centred. `precision` is JAX's matmul precision: "default" (TF32 or
    bfloat16 passes on accelerators), "high" or "highest" (float32).

    Equal arguments give the same `Net`, so a net built twice compiles once. Raises ConfigError on sizes that are no
    positive whole numbers, and on options that cannot be.
    """
    inputs = validate.whole_number("inputs", inputs, minimum=1)
    sizes = validate.whole_numbers("widths", widths, minimum=1)
    mirrored = sizes[-2::-1]
    if decoder_widths is not None:
        mirrored = validate.whole_numbers("decoder_widths", decoder_widths, minimum=1, empty=None)
    if not isinstance(bias, bool):
        raise ConfigError("bias", repr(bias), "give True or False")
    if initialiser not in INITIALISERS:
        raise ConfigError("initialiser", repr(initialiser), suggest(initialiser, INITIALISERS))
    return _mlp(inputs, sizes, mirrored, activation, coding_activation, precision, bias, initialiser)


@functools.lru_cache(maxsize=256)
def _mlp(
    inputs: int,
    widths: tuple[int, ...],
    decoder_widths: tuple[int, ...],
    activation: Activation,
    coding_activation: Activation,
    precision: str,
    bias: bool,
    initialiser: str,
) -> Net:
    options = (layer_precision(precision), bias, initialiser)
    encoder = _Stack(widths, activation, coding_activation, *options)
    decoder = _Stack((*decoder_widths, inputs), activation, identity, *options)
    lower = _Stack(widths[:-1], activation, activation, *options) if widths[1:] else None
    upper = _Stack(widths[-1:], activation, coding_activation, *options)

    last = f"layer_{len(widths) - 1}"
    of_bias = ((("encoder", last, "bias"), 0),) if bias else ()
    axes: CodingAxes = ((("encoder", last, "kernel"), 1), *of_bias, (("decoder", "layer_0", "kernel"), 0))
    hidden_width, next_width = (inputs, *widths)[-2], (*decoder_widths, inputs)[0]

    def init(key: jax.Array, codings: jax.Array | None = None) -> Params:
        encoder_key, decoder_key = jax.random.split(key)
        params: Params = {
            "encoder": encoder.init(encoder_key, jnp.zeros((1, inputs)))["params"],
            "decoder": decoder.init(decoder_key, jnp.zeros((1, widths[-1])))["params"],
        }
        if codings is None:
            return params
        if initialiser == "he":
            return mask_initial(params, axes, widths[-1], codings)
        for stack, name, other in (("encoder", last, hidden_width), ("decoder", "layer_0", next_width)):
            kernel = params[stack][name]["kernel"] * jnp.sqrt((other + widths[-1]) / (other + codings))
            params[stack] = {**params[stack], name: {**params[stack][name], "kernel": kernel}}
        return mask_codings(params, axes, codings)

    def encode(params: Params, x_bd: jax.Array) -> jax.Array:
        check_rows(x_bd, inputs)
        return encoder.apply({"params": params["encoder"]}, x_bd)  # pyright: ignore[reportReturnType]

    def decode(params: Params, z_bk: jax.Array) -> jax.Array:
        return decoder.apply({"params": params["decoder"]}, z_bk)  # pyright: ignore[reportReturnType]

    def hidden(params: Params, x_bd: jax.Array) -> jax.Array:
        check_rows(x_bd, inputs)
        return lower.apply({"params": params["encoder"]}, x_bd) if lower is not None else x_bd  # pyright: ignore[reportReturnType]

    def coding(params: Params, h_bh: jax.Array) -> jax.Array:
        return upper.apply({"params": {"layer_0": params["encoder"][last]}}, h_bh)  # pyright: ignore[reportReturnType]

    def mirror(encoder_params: Params) -> dict[str, jax.Array]:
        last = len(widths) - 1
        return {f"layer_{i}": encoder_params[f"layer_{last - i}"]["kernel"].T for i in range(len(widths))}

    linear = coding_activation is identity
    affine = linear and not widths[1:] and not decoder_widths
    return Net(init, encode, decode, inputs, widths[-1], axes, hidden, coding, hidden_width, mirror, affine, linear)
