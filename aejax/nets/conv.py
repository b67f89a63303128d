"""Convolutional nets for images of any shape and any number of channels."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

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
    layer_precision,
    mask_initial,
)
from aejax.runtime import validate
from aejax.runtime.errors import ConfigError

Size = tuple[int, int, int]
"""Height, width and channels of a feature map."""


def convolve(x_bhwc: jax.Array, kernel: jax.Array, stride: int, precision: str | None = None) -> jax.Array:
    """Correlate (b, H, W, C) with a kernel (h, w, C, D), zeros around it, to (b, ⌈H / stride⌉, ⌈W / stride⌉, D)."""
    layout = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(
        x_bhwc, kernel, (stride, stride), "SAME", dimension_numbers=layout, precision=precision
    )


def convolve_back(
    y_bhwd: jax.Array, kernel: jax.Array, stride: int, size: Size, precision: str | None = None
) -> jax.Array:
    """Exact adjoint: `<convolve(x), y> = <x, back(y)>` for every y and every x of this size.

    So every size comes back as it was, odd ones too, where a transposed convolution defined by padding has to guess.
    """
    forward = functools.partial(convolve, kernel=kernel, stride=stride, precision=precision)
    x_bhwc = jax.ShapeDtypeStruct((len(y_bhwd), *size), y_bhwd.dtype)
    return jax.linear_transpose(forward, x_bhwc)(y_bhwd)[0]


def conv(
    inputs: int,
    widths: Sequence[int],
    *,
    image_shape: Sequence[int],
    kernel_size: int = 3,
    stride: int = 2,
    activation: Activation = jax.nn.elu,
    coding_activation: Activation = identity,
    decoder_widths: Sequence[int] | None = None,
    precision: str = "default",
) -> Net:
    """Convolutions with `widths[:-1]` channels, each `stride` times smaller, then a dense layer to the codings.

    The decoder is a dense layer back to the last feature map, then the adjoint of each convolution with a kernel and
    biases of its own (`convolve_back`); `decoder_widths` are the channels of its feature maps from the smallest up
    where they are not the encoder's mirrored. Its tied net uses the encoder's very kernels. Rows are flat outside,
    images (H, W) or (H, W, C) = `image_shape` inside. Kernels start from He's initialiser, for the number of values
    that one output sums (in the decoder `kernel_size² / stride²` a channel, on average), biases from zero.

    Equal arguments give the same `Net`. Raises ConfigError on sizes that cannot be.
    """
    inputs = validate.whole_number("inputs", inputs, minimum=1)
    sizes = validate.whole_numbers("widths", widths, minimum=1)
    mirrored = sizes[-2::-1]
    if decoder_widths is not None:
        mirrored = validate.whole_numbers("decoder_widths", decoder_widths, minimum=1, empty=None)
        if len(mirrored) != len(sizes) - 1:
            found = f"{mirrored}, where {len(sizes) - 1} convolutions have to be undone"
            raise ConfigError("decoder_widths", found, "give as many channels as there are convolutions, or none")
    kernel_size = validate.whole_number("kernel_size", kernel_size, minimum=1)
    stride = validate.whole_number("stride", stride, minimum=1)
    size = image_size(inputs, image_shape)
    return _conv(inputs, sizes, size, kernel_size, stride, activation, coding_activation, mirrored, precision)


@functools.lru_cache(maxsize=256)
def _conv(
    inputs: int,
    widths: tuple[int, ...],
    size: Size,
    kernel_size: int,
    stride: int,
    activation: Activation,
    coding_activation: Activation,
    decoder_widths: tuple[int, ...],
    precision: str,
) -> Net:
    passes, codings, layers = layer_precision(precision), widths[-1], len(widths) - 1
    maps = [size]  # the encoder's feature maps, the image first
    for width in widths[:-1]:
        height, across, _ = maps[-1]
        maps.append((-(-height // stride), -(-across // stride), width))
    # the decoder's, of the same heights and widths
    undone = [size, *((*maps[i][:2], decoder_widths[layers - i]) for i in range(1, layers + 1))]
    hidden_width, first_width = math.prod(maps[-1]), math.prod(undone[-1])
    window = (kernel_size, kernel_size)

    last = f"layer_{layers}"
    axes: CodingAxes = (
        (("encoder", last, "kernel"), 1),
        (("encoder", last, "bias"), 0),
        (("decoder", "layer_0", "kernel"), 0),
    )
    he = jax.nn.initializers.he_normal()
    # an adjoint sums over the kernel's last axis, and over one window position in stride² only
    he_back = jax.nn.initializers.variance_scaling(2.0 * stride**2, "fan_in", "truncated_normal", -1, -2)

    def init(key: jax.Array, codings: jax.Array | None = None) -> Params:
        encoder_key, decoder_key = (jax.random.split(part, layers + 1) for part in jax.random.split(key))
        encoder = {last: dense_init(encoder_key[layers], hidden_width, widths[-1])}
        decoder = {"layer_0": dense_init(decoder_key[0], widths[-1], first_width)}
        for i in range(layers):
            kernel = he(encoder_key[i], (*window, maps[i][2], maps[i + 1][2]))
            encoder[f"layer_{i}"] = {"kernel": kernel, "bias": jnp.zeros(maps[i + 1][2])}
            kernel = he_back(decoder_key[layers - i], (*window, undone[i][2], undone[i + 1][2]))
            decoder[f"layer_{layers - i}"] = {"kernel": kernel, "bias": jnp.zeros(undone[i][2])}
        params: Params = {"encoder": encoder, "decoder": decoder}
        return params if codings is None else mask_initial(params, axes, widths[-1], codings)

    def hidden(params: Params, x_bd: jax.Array) -> jax.Array:
        check_rows(x_bd, inputs)
        h_bhwc = x_bd.reshape(-1, *size)
        for i in range(layers):
            layer = params["encoder"][f"layer_{i}"]
            h_bhwc = convolve(h_bhwc, layer["kernel"], stride, passes)
            h_bhwc = activation(h_bhwc + layer["bias"][None, None, None, :])
        return h_bhwc.reshape(*x_bd.shape[:-1], hidden_width)

    def coding(params: Params, h_bh: jax.Array) -> jax.Array:
        return coding_activation(dense_apply(params["encoder"][last], h_bh, passes))

    def encode(params: Params, x_bd: jax.Array) -> jax.Array:
        return coding(params, hidden(params, x_bd))

    def decode(params: Params, z_bk: jax.Array) -> jax.Array:
        h_bh = dense_apply(params["decoder"]["layer_0"], z_bk, passes)
        h_bhwc = h_bh.reshape(-1, *undone[-1])
        for i in reversed(range(layers)):
            layer = params["decoder"][f"layer_{layers - i}"]
            h_bhwc = convolve_back(activation(h_bhwc), layer["kernel"], stride, undone[i], passes)
            h_bhwc = h_bhwc + layer["bias"][None, None, None, :]
        return h_bhwc.reshape(*z_bk.shape[:-1], inputs)

    def mirror(encoder_params: Params) -> dict[str, jax.Array]:
        kernels = {f"layer_{layers - i}": encoder_params[f"layer_{i}"]["kernel"] for i in range(layers)}
        return {**kernels, "layer_0": encoder_params[last]["kernel"].T}

    return Net(init, encode, decode, inputs, codings, axes, hidden, coding, hidden_width, mirror)
