"""Shared code of the sparse variants whose decoder is one affine layer: a dictionary of columns, weighted by codings.

Their parameters have a `memory`, which gets no gradient: `memory["idle"]`, (k,), counts for each unit the steps since
it was last active, and a variant may remember further scalars.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp

from aejax.nets import Activation, Net, Params, parameter_shapes
from aejax.runtime.errors import ConfigError
from aejax.variants.base import Apply, Autoencoder, ErrorFunction, Loss, Ranges, decode_and_target


def dictionary_autoencoder(
    net: Net,
    encode: Apply,
    decode: Apply,
    loss: Loss,
    *,
    unit_parameters: Callable[[], Params] = dict,
    remembered: Mapping[str, float] = MappingProxyType({}),
    unit_lengths: bool = False,
    hyper_ranges: Ranges = (),
) -> Autoencoder:
    """The record of a variant whose decoder is a dictionary. The loss returns the next memory as its metric `memory`.

    unit_parameters: returns the initial parameters besides the net's, (k,) each.
    remembered: initial value of every scalar in the memory besides `idle`.
    unit_lengths: whether every step of the optimiser ends with columns of length 1.

    The columns start with length 1, and an encoder of one layer of its own starts as the transpose of the decoder, so
    that fewer units are dead from the start (Gao et al. 2024). Raises ConfigError where the decoder is no dictionary.
    """
    _check_dictionary(net)

    def init(key: jax.Array, codings: jax.Array | None = None) -> Params:
        params = unit_columns(net.init(key, codings))
        if len(params["encoder"]) == 1 and "kernel" in params["decoder"]["layer_0"]:
            layer = {**params["encoder"]["layer_0"], "kernel": columns(params).T}
            params = {**params, "encoder": {"layer_0": layer}}
        scalars = {name: jnp.asarray(value, jnp.float32) for name, value in remembered.items()}
        return {**params, **unit_parameters(), "memory": {**scalars, "idle": jnp.zeros(net.codings)}}

    def post_update(params: Params, metrics: dict[str, Any]) -> Params:
        params = unit_columns(params) if unit_lengths else params
        return {**params, "memory": metrics["memory"]}

    added = jax.tree_util.tree_leaves_with_path(jax.eval_shape(unit_parameters))
    paths = [*(tuple(part.key for part in path) for path, _ in added), ("memory", "idle")]
    return Autoencoder(
        init,
        encode,
        decode,
        loss,
        coding_axes=(*net.coding_axes, *((path, 0) for path in paths)),
        post_update=post_update,
        overcomplete=True,
        hyper_ranges=hyper_ranges,
        activates_codings=True,
    )


def columns(params: Params) -> jax.Array:
    """The dictionary (k, d). Its row k is the column of coding k in the papers' notation, W z."""
    kernel = params["decoder"]["layer_0"].get("kernel")
    return params["encoder"]["layer_0"]["kernel"].T if kernel is None else kernel


def dictionary_decoder(net: Net, output: Activation, error: ErrorFunction) -> tuple[Apply, Apply, Apply]:
    """`decode` and `predict` of `decode_and_target`, and `centre(params, x_bd)`.

    `centre` returns rows less the reconstruction of codings of zero, the bias of an affine decoder. Raises ConfigError
    where error and output do not fit.
    """
    decode, predict = decode_and_target(net, output, error)

    def centre(params: Params, x_bd: jax.Array) -> jax.Array:
        return x_bd - decode(params, jnp.zeros((1, net.codings)))

    return decode, predict, centre


def unit_columns(params: Params) -> Params:
    """The same parameters with columns of length 1. Columns of zeros, which masked codings have, stay zero.

    In a loss, on columns of length 1, it changes no value but removes the part of the gradient along each column,
    which would only change the column's length.
    """
    part, axis = _column_place(params) or ("decoder", 1)
    layer = params[part]["layer_0"]
    squares = jnp.sum(jnp.square(layer["kernel"]), axis=axis, keepdims=True)
    kernel = layer["kernel"] * jnp.where(squares > 0, jax.lax.rsqrt(jnp.where(squares > 0, squares, 1.0)), 1.0)
    return {**params, part: {**params[part], "layer_0": {**layer, "kernel": kernel}}}


def _check_dictionary(net: Net) -> None:
    """Raise ConfigError unless the decoder is one dense layer, its own or the encoder's only layer transposed."""
    shapes = parameter_shapes(net)
    layers = len(shapes["decoder"])
    if layers == 1 and _column_place(shapes) is not None:
        return
    problem = f"a decoder of {layers} layers" if layers > 1 else "a decoder that is not one dense layer"
    fix = "set decoder_widths=() for an untied dense net of any depth, or take one with a single encoder layer"
    raise ConfigError("decoder_widths", f"{problem}; codings of this variant weight the columns of one", fix)


def _column_place(params: Params) -> tuple[str, int] | None:
    """The part whose `layer_0` kernel holds the columns, and the axis along a column; None where there is none."""
    encoder = params["encoder"]
    decoder_layer = params["decoder"].get("layer_0", {})
    if "kernel" in decoder_layer:
        return ("decoder", 1) if decoder_layer["kernel"].ndim == 2 else None
    kernel = encoder.get("layer_0", {}).get("kernel") if len(encoder) == 1 else None
    return None if kernel is None or kernel.ndim != 2 else ("encoder", 0)
