"""Recurrent nets for sequences, and for images read row by row."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from aejax.nets import base
from aejax.nets.base import Activation, CodingAxes, Net, Params, check_sizes, identity
from aejax.runtime.errors import ConfigError
from aejax.runtime.memoise import build_once


@check_sizes
@build_once
def recurrent(
    inputs: int,
    widths: Sequence[int],
    *,
    image_shape: Sequence[int],
    activation: Activation = jnp.tanh,
    coding_activation: Activation = identity,
    decoder_widths: Sequence[int] | None = None,
    precision: str = "default",
) -> Net:
    """Stacked gated recurrent units (Cho et al. 2014) that read one row of the image at each step.

    A dense layer maps the last state of the last unit layer to the codings. In the decoder a dense layer with tanh maps
    the codings to the first state of the first layer; the other layers start from zero. The first layer reads the
    codings at every step, and a dense layer maps each state of the last layer to the values of that step. The net
    cannot be tied: a step back in time is not the transpose of a step.

    widths: units of each encoder layer, then the number of codings.
    image_shape: (T, F), a sequence of T steps of F values, or (T, W, C), an image of T rows of W pixels of C channels.
    activation: of the candidate state. With tanh, the usual one, states stay between -1 and 1.
    coding_activation: after the dense layer to the codings.
    decoder_widths: units of each decoder layer; by default the encoder's, mirrored.
    precision: JAX's matmul precision: "default", "high" or "highest".

    Equal arguments give the same `Net`. Raises ConfigError on sizes that are not positive whole numbers or do not fit
    each other, and where encoder or decoder have no recurrent layer.
    """
    if len(widths) == 1:
        problem = f"{tuple(widths)}, with no recurrent layer before the codings"
        raise ConfigError("widths", problem, "give (units, codings)")
    if decoder_widths is None:
        decoder_widths = base.mirrored(widths)
    if not decoder_widths:
        raise ConfigError("decoder_widths", "no recurrent layer", "give at least one")
    steps, row_width, channels = image_shape
    features = row_width * channels
    units = widths[:-1]
    codings = widths[-1]

    encoder_layers = [_unit_layer(width, activation) for width in units]
    decoder_layers = [_unit_layer(width, activation) for width in decoder_widths]
    coding_layer = f"layer_{len(encoder_layers)}"
    output_layer = f"layer_{len(decoder_layers) + 1}"
    axes: CodingAxes = (
        (("encoder", coding_layer, "kernel"), 1),
        (("encoder", coding_layer, "bias"), 0),
        (("decoder", "layer_0", "kernel"), 0),
        *((("decoder", "layer_1", gate, "kernel"), 0) for gate in ("ir", "iz", "in")),
    )

    def matmul_precision() -> contextlib.AbstractContextManager:
        """Flax's unit takes its precision from the context. "default" leaves the choice to the caller's context."""
        return contextlib.nullcontext() if precision == "default" else jax.default_matmul_precision(precision)

    def init(key: jax.Array, codings: jax.Array | None = None) -> Params:
        encoder_keys, decoder_keys = (jax.random.split(part_key, 2) for part_key in jax.random.split(key))
        encoder = _init_layers(encoder_layers, encoder_keys[0], features, 0)
        encoder[coding_layer] = base.dense_init(encoder_keys[1], units[-1], widths[-1])
        decoder = _init_layers(decoder_layers, decoder_keys[0], widths[-1], 1)
        start_key, output_key = jax.random.split(decoder_keys[1])
        decoder["layer_0"] = base.dense_init(start_key, widths[-1], decoder_widths[0], scale=1.0)
        decoder[output_layer] = base.dense_init(output_key, decoder_widths[-1], features)
        params: Params = {"encoder": encoder, "decoder": decoder}
        return params if codings is None else base.mask_initial(params, axes, widths[-1], codings)

    def hidden(params: Params, x_bd: jax.Array) -> jax.Array:
        base.check_rows(x_bd, inputs)
        h_btf = x_bd.reshape(-1, steps, features)
        with matmul_precision():
            for i, layer in enumerate(encoder_layers):
                h_btf = _states(layer, params["encoder"][f"layer_{i}"], h_btf)
        return h_btf[:, -1].reshape(*x_bd.shape[:-1], units[-1])

    def coding(params: Params, h_bh: jax.Array) -> jax.Array:
        with matmul_precision():
            return coding_activation(base.dense_apply(params["encoder"][coding_layer], h_bh))

    def encode(params: Params, x_bd: jax.Array) -> jax.Array:
        return coding(params, hidden(params, x_bd))

    def decode(params: Params, z_bk: jax.Array) -> jax.Array:
        decoder = params["decoder"]
        z_nk = z_bk.reshape(-1, codings)
        h_btf = jnp.broadcast_to(z_nk[:, None, :], (len(z_nk), steps, codings))
        with matmul_precision():
            first_bh = jnp.tanh(base.dense_apply(decoder["layer_0"], z_nk))
            for i, layer in enumerate(decoder_layers):
                h_btf = _states(layer, decoder[f"layer_{i + 1}"], h_btf, first_bh if i == 0 else None)
            output_btf = base.dense_apply(decoder[output_layer], h_btf)
        return output_btf.reshape(*z_bk.shape[:-1], inputs)

    return Net(init, encode, decode, inputs, codings, axes, hidden, coding, units[-1], None)


def _unit_layer(width: int, activation: Activation) -> nn.RNN:
    return nn.RNN(nn.GRUCell(width, activation_fn=activation, parent=None))


def _init_layers(layers: Sequence[nn.RNN], key: jax.Array, inputs: int, first: int) -> Params:
    """Parameters of stacked layers, named `layer_{first}` and so on; each layer reads the states of the one before."""
    params: Params = {}
    for i, layer in enumerate(layers):
        variables = layer.init(jax.random.fold_in(key, i), jnp.zeros((1, 1, inputs)))
        params[f"layer_{first + i}"] = variables["params"]["cell"]
        inputs = layer.cell.features  # pyright: ignore[reportAttributeAccessIssue]
    return params


def _states(layer: nn.RNN, cell: Params, x_btf: jax.Array, first_bh: jax.Array | None = None) -> jax.Array:
    """The states (b, t, h) of a layer after each step, from the state `first_bh` or from zero."""
    h_bth: Any = layer.apply({"params": {"cell": cell}}, x_btf, initial_carry=first_bh)
    return h_bth
