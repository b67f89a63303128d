"""The decoder of a sparse autoencoder as a dictionary: one affine layer, whose columns the codings weight."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from aejax.nets import Net, Params
from aejax.runtime.errors import ConfigError

_OfRows = Callable[[Params, jax.Array], jax.Array]


def check_dictionary(net: Net) -> None:
    """Raise ConfigError unless the decoder is one dense layer, its own or the only one of the encoder transposed."""
    shapes = jax.eval_shape(lambda: net.init(jax.random.key(0)))
    layers = len(shapes["decoder"])
    if layers == 1 and _where(shapes) is not None:
        return
    found = f"a decoder of {layers} layers" if layers > 1 else "a decoder that is not one dense layer"
    fix = "set decoder_widths=() for an untied dense net of any depth, or take one with a single encoder layer"
    raise ConfigError("decoder_widths", f"{found}; codings of this variant weight the columns of one", fix)


def starting(net: Net) -> Callable[..., Params]:
    """`init` of the net with columns of length 1, and an encoder that starts as the transpose of its decoder where it
    is one layer: fewer units are dead from the start (Gao et al. 2024).
    """

    def init(key: jax.Array, codings: jax.Array | None = None) -> Params:
        params = unit_columns(net.init(key, codings))
        if len(params["encoder"]) > 1 or "kernel" not in params["decoder"]["layer_0"]:
            return params
        layer = {**params["encoder"]["layer_0"], "kernel": columns(params).T}
        return {**params, "encoder": {"layer_0": layer}}

    return init


def columns(params: Params) -> jax.Array:
    """The dictionary (k, d), one row a coding: the decoder's columns as papers write it."""
    kernel = params["decoder"]["layer_0"].get("kernel")
    return params["encoder"]["layer_0"]["kernel"].T if kernel is None else kernel


def centring(decode: _OfRows, codings: int) -> _OfRows:
    """What subtracts from rows (b, d) the reconstruction of no codings at all: of an affine decoder its bias."""
    return lambda params, x_bd: x_bd - decode(params, jnp.zeros((1, codings)))


def unit_columns(params: Params) -> Params:
    """The same parameters with columns of length 1; columns of zeros, of masked codings, stay zero.

    As `settle` it keeps the columns there. In a loss it changes no value then, but takes away the part of the gradient
    that would only change their lengths.
    """
    stack, axis = _where(params) or ("decoder", 1)
    kernel = params[stack]["layer_0"]["kernel"]
    squares = jnp.sum(jnp.square(kernel), axis=axis, keepdims=True)
    kernel = kernel * jnp.where(squares > 0, jax.lax.rsqrt(jnp.where(squares > 0, squares, 1.0)), 1.0)
    return {**params, stack: {**params[stack], "layer_0": {**params[stack]["layer_0"], "kernel": kernel}}}


def _where(params: Params) -> tuple[str, int] | None:
    """Whose kernel holds the columns, and along which axis a column lies; None where there is none."""
    encoder, decoder = params["encoder"], params["decoder"].get("layer_0", {})
    if "kernel" in decoder:
        return ("decoder", 1) if decoder["kernel"].ndim == 2 else None
    alone = encoder.get("layer_0", {}).get("kernel") if len(encoder) == 1 else None
    return None if alone is None or alone.ndim != 2 else ("encoder", 0)
