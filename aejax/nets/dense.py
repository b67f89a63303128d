"""Nets of dense layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from aejax.nets import base
from aejax.nets.base import Activation, CodingAxes, Net, Params, check_sizes, identity
from aejax.runtime.errors import ConfigError, suggest
from aejax.runtime.memoise import build_once

INITIALISERS = {"he": nn.initializers.he_normal, "glorot": nn.initializers.glorot_normal}


class _Stack(nn.Module):
    """Dense layers with `activation` between them and `last_activation` after the last; no layer: the identity."""

    widths: Sequence[int]
    activation: Activation
    last_activation: Activation
    precision: str | None
    bias: bool
    initialiser: str

    @nn.compact
    def __call__(self, x_bd: jax.Array) -> jax.Array:
        kernel_init = INITIALISERS[self.initialiser]()
        last = len(self.widths) - 1
        for i, width in enumerate(self.widths):
            dense = nn.Dense(width, self.bias, kernel_init=kernel_init, precision=self.precision, name=f"layer_{i}")
            x_bd = dense(x_bd)
            x_bd = (self.last_activation if i == last else self.activation)(x_bd)
        return x_bd


@check_sizes
@build_once
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
    """A dense encoder and its mirror as decoder. `widths=(k,)` with default options is the linear autoencoder.

    widths: units of each encoder layer; the last is the number of codings.
    activation: after every hidden layer of encoder and decoder.
    coding_activation: after the encoder's last layer. The decoder's last layer has none.
    decoder_widths: units of the decoder's hidden layers; by default the encoder's, mirrored.
    precision: JAX's matmul precision: "default" (TF32 or bfloat16 on accelerators), "high", or "highest" (float32).
    bias: whether layers have biases, which start from zero. Centred data needs none.
    initialiser: of the kernels: "he", variance 2 / fan_in, truncated normal (He et al. 2015); or "glorot", variance
        2 / (fan_in + fan_out), the same for a kernel and its mirror (Glorot & Bengio 2010).

    Equal arguments give the same `Net`, so a net that is built twice compiles once. Raises ConfigError on sizes that
    are not positive whole numbers and on unknown options.
    """
    if not isinstance(bias, bool):
        raise ConfigError("bias", repr(bias), "give True or False")
    if initialiser not in INITIALISERS:
        raise ConfigError("initialiser", repr(initialiser), suggest(initialiser, INITIALISERS))
    if decoder_widths is None:
        decoder_widths = base.mirrored(widths)
    codings = widths[-1]
    last = f"layer_{len(widths) - 1}"
    hidden_width = (inputs, *widths)[-2]
    first_decoder_width = (*decoder_widths, inputs)[0]

    options = (base.layer_precision(precision), bias, initialiser)
    encoder = _Stack(widths, activation, coding_activation, *options)
    hidden_layers = _Stack(widths[:-1], activation, activation, *options)
    coding_layer = _Stack(widths[-1:], activation, coding_activation, *options)
    decoder = _Stack((*decoder_widths, inputs), activation, identity, *options)
    bias_axes: CodingAxes = ((("encoder", last, "bias"), 0),) if bias else ()
    axes: CodingAxes = ((("encoder", last, "kernel"), 1), *bias_axes, (("decoder", "layer_0", "kernel"), 0))

    def init(key: jax.Array, codings: jax.Array | None = None) -> Params:
        encoder_key, decoder_key = jax.random.split(key)
        params: Params = {
            "encoder": encoder.init(encoder_key, jnp.zeros((1, inputs)))["params"],
            "decoder": decoder.init(decoder_key, jnp.zeros((1, widths[-1])))["params"],
        }
        if codings is None:
            return params
        if initialiser == "he":
            return base.mask_initial(params, axes, widths[-1], codings)
        for part, layer, width in (("encoder", last, hidden_width), ("decoder", "layer_0", first_decoder_width)):
            kernel = params[part][layer]["kernel"] * jnp.sqrt((width + widths[-1]) / (width + codings))
            params[part] = {**params[part], layer: {**params[part][layer], "kernel": kernel}}
        return base.mask_codings(params, axes, codings)

    def hidden(params: Params, x_bd: jax.Array) -> jax.Array:
        base.check_rows(x_bd, inputs)
        return _apply(hidden_layers, params["encoder"], x_bd)

    def coding(params: Params, h_bh: jax.Array) -> jax.Array:
        return _apply(coding_layer, {"layer_0": params["encoder"][last]}, h_bh)

    def encode(params: Params, x_bd: jax.Array) -> jax.Array:
        return coding(params, hidden(params, x_bd))

    def decode(params: Params, z_bk: jax.Array) -> jax.Array:
        return _apply(decoder, params["decoder"], z_bk)

    def mirror(encoder_params: Params) -> dict[str, jax.Array]:
        layers = len(widths)
        return {f"layer_{i}": encoder_params[f"layer_{layers - 1 - i}"]["kernel"].T for i in range(layers)}

    linear = coding_activation is identity
    affine = linear and len(widths) == 1 and not decoder_widths
    return Net(init, encode, decode, inputs, codings, axes, hidden, coding, hidden_width, mirror, affine, linear)


def _apply(stack: _Stack, params: Params, x_bd: jax.Array) -> jax.Array:
    output_bd: Any = stack.apply({"params": params}, x_bd)
    return output_bd
