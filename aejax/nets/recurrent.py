"""Recurrent nets for sequences, and for images read row by row."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from aejax.nets.base import (
    Activation,
    CodingAxes,
    Net,
    Params,
    check_rows,
    dense_apply,
    dense_init,
    identity,
    image_size,
    mask_initial,
)
from aejax.runtime import validate
from aejax.runtime.errors import ConfigError


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
    """Gated recurrent units (Cho et al. 2014) that read a row a step; the last state, by a dense layer, is coded.

    `image_shape` is (T, F), a sequence of T steps of F values, or (T, W, C), images of T rows of W pixels of C
    channels. `widths[:-1]` are the units of stacked layers. The decoder starts its first layer from a dense layer of
    the codings (tanh), the others from zero, gives the codings to the first layer again at every step, and reads each
    step's values from the last layer's state by one dense layer; `decoder_widths` are its layers' units where they are
    not the encoder's mirrored. `activation` is that of the candidate state; tanh, the classic, keeps states within
    -1 and 1. It cannot be tied: a step back in time is not the transpose of a step.

    Equal arguments give the same `Net`. Raises ConfigError on sizes that cannot be.
    """
    inputs = validate.whole_number("inputs", inputs, minimum=1)
    sizes = validate.whole_numbers("widths", widths, minimum=1)
    if len(sizes) == 1:
        raise ConfigError("widths", f"{sizes}, with no recurrent layer before the codings", "give (units, codings)")
    mirrored = sizes[-2::-1]
    if decoder_widths is not None:
        mirrored = validate.whole_numbers("decoder_widths", decoder_widths, minimum=1, empty="no recurrent layer")
    steps, across, channels = image_size(inputs, image_shape)
    return _recurrent(steps, across * channels, sizes, activation, coding_activation, mirrored, precision)


@functools.lru_cache(maxsize=256)
def _recurrent(
    steps: int,
    features: int,
    widths: tuple[int, ...],
    activation: Activation,
    coding_activation: Activation,
    decoder_widths: tuple[int, ...],
    precision: str,
) -> Net:
    inputs, units, codings = steps * features, widths[:-1], widths[-1]

    def layer(width: int) -> nn.RNN:
        return nn.RNN(nn.GRUCell(width, activation_fn=activation, parent=None))

    lower = [layer(width) for width in units]
    upper = [layer(width) for width in decoder_widths]
    last, output = f"layer_{len(units)}", f"layer_{len(upper) + 1}"
    axes: CodingAxes = (
        (("encoder", last, "kernel"), 1),
        (("encoder", last, "bias"), 0),
        (("decoder", "layer_0", "kernel"), 0),
        *((("decoder", "layer_1", gate, "kernel"), 0) for gate in ("ir", "iz", "in")),
    )

    def matmuls() -> contextlib.AbstractContextManager:
        """What Flax's cell leaves to the context; "default" leaves the choice open to whoever calls."""
        return contextlib.nullcontext() if precision == "default" else jax.default_matmul_precision(precision)

    def unroll(one: nn.RNN, cell: Params, x_btf: jax.Array, first_bh: jax.Array | None = None) -> jax.Array:
        """States after each step, from this first state or from zero."""
        h_bth: Any = one.apply({"params": {"cell": cell}}, x_btf, initial_carry=first_bh)
        return h_bth

    def init(key: jax.Array, codings: jax.Array | None = None) -> Params:
        encoder_key, decoder_key = (jax.random.split(part, 2) for part in jax.random.split(key))
        encoder = _init_layers(lower, encoder_key[0], features, 0)
        encoder[last] = dense_init(encoder_key[1], units[-1], widths[-1])
        decoder = _init_layers(upper, decoder_key[0], widths[-1], 1)
        start_key, output_key = jax.random.split(decoder_key[1])
        decoder["layer_0"] = dense_init(start_key, widths[-1], decoder_widths[0], scale=1.0)
        decoder[output] = dense_init(output_key, decoder_widths[-1], features)
        params: Params = {"encoder": encoder, "decoder": decoder}
        return params if codings is None else mask_initial(params, axes, widths[-1], codings)

    def hidden(params: Params, x_bd: jax.Array) -> jax.Array:
        check_rows(x_bd, inputs)
        h_btf = x_bd.reshape(-1, steps, features)
        with matmuls():
            for i, one in enumerate(lower):
                h_btf = unroll(one, params["encoder"][f"layer_{i}"], h_btf)
        return h_btf[:, -1].reshape(*x_bd.shape[:-1], units[-1])

    def coding(params: Params, h_bh: jax.Array) -> jax.Array:
        with matmuls():
            return coding_activation(dense_apply(params["encoder"][last], h_bh))

    def encode(params: Params, x_bd: jax.Array) -> jax.Array:
        return coding(params, hidden(params, x_bd))

    def decode(params: Params, z_bk: jax.Array) -> jax.Array:
        decoder, z_nk = params["decoder"], z_bk.reshape(-1, codings)
        h_btf = jnp.broadcast_to(z_nk[:, None, :], (len(z_nk), steps, codings))
        with matmuls():
            first_bh = jnp.tanh(dense_apply(decoder["layer_0"], z_nk))
            for i, one in enumerate(upper):
                h_btf = unroll(one, decoder[f"layer_{i + 1}"], h_btf, None if i else first_bh)
            output_btf = dense_apply(decoder[output], h_btf)
        return output_btf.reshape(*z_bk.shape[:-1], inputs)

    return Net(init, encode, decode, inputs, codings, axes, hidden, coding, units[-1], None)


def _init_layers(layers: Sequence[nn.RNN], key: jax.Array, inputs: int, first: int) -> Params:
    """Parameters of stacked layers, each of what the one before gives, named from `layer_{first}` on."""
    params: Params = {}
    for i, one in enumerate(layers):
        found = one.init(jax.random.fold_in(key, i), jnp.zeros((1, 1, inputs)))["params"]
        params[f"layer_{first + i}"] = found["cell"]
        inputs = one.cell.features  # pyright: ignore[reportAttributeAccessIssue]
    return params
