"""Convolutional nets for images of any shape and any number of channels."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp

from aejax.nets import base
from aejax.nets.base import Activation, CodingAxes, Net, Params, check_sizes, identity
from aejax.runtime import validate
from aejax.runtime.errors import ConfigError
from aejax.runtime.memoise import build_once

Size = tuple[int, int, int]
"""Height, width and channels of a feature map."""


def convolve(x_bhwc: jax.Array, kernel: jax.Array, stride: int, precision: str | None = None) -> jax.Array:
    """Correlate zero-padded maps (b, H, W, C) with a kernel (h, w, C, D), to (b, ⌈H / stride⌉, ⌈W / stride⌉, D)."""
    axes = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(
        x_bhwc, kernel, (stride, stride), "SAME", dimension_numbers=axes, precision=precision
    )


def convolve_back(
    y_bhwd: jax.Array, kernel: jax.Array, stride: int, size: Size, precision: str | None = None
) -> jax.Array:
    """The exact adjoint of a convolution: `<convolve(x), y> = <x, back(y)>` for all x of this size and all y.

    It returns maps of the given size, (b, H, W, C), for odd heights and widths too. A transposed convolution defined by
    its padding cannot: several sizes of x give the same size of y.
    """
    forward = functools.partial(convolve, kernel=kernel, stride=stride, precision=precision)
    x_bhwc = jax.ShapeDtypeStruct((len(y_bhwd), *size), y_bhwd.dtype)
    return jax.linear_transpose(forward, x_bhwc)(y_bhwd)[0]


@check_sizes
@build_once
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
    """Convolutions and a dense layer to the codings; the decoder is a dense layer and adjoint convolutions.

    Rows are flat outside the net and images of shape `image_shape` inside it. Each convolution divides height and width
    by `stride`. The decoder's dense layer gives the smallest feature map; then each `convolve_back`, with its own
    kernel and biases, undoes one convolution. A tied decoder uses the encoder's kernels unchanged. Kernels start from
    He's initialiser for the number of values that one output sums (in the decoder `kernel_size² / stride²` per channel,
    on average), biases from zero.

    widths: channels of each convolution, then the number of codings.
    image_shape: (H, W) or (H, W, C), of `inputs` values.
    kernel_size: height and width of the kernels, in pixels.
    stride: step of the kernels, in pixels.
    activation: after every convolution of the encoder and before every one of the decoder.
    coding_activation: after the dense layer to the codings.
    decoder_widths: channels of the decoder's feature maps, from the smallest map; by default the encoder's, mirrored.
    precision: JAX's matmul precision: "default", "high" or "highest".

    Equal arguments give the same `Net`. Raises ConfigError on sizes that are not positive whole numbers or do not fit
    each other.
    """
    layers = len(widths) - 1
    if decoder_widths is None:
        decoder_widths = base.mirrored(widths)
    if len(decoder_widths) != layers:
        problem = f"{tuple(decoder_widths)}, where {layers} convolutions have to be undone"
        raise ConfigError("decoder_widths", problem, "give as many channels as there are convolutions, or none")
    kernel_size = validate.whole_number("kernel_size", kernel_size, minimum=1)
    stride = validate.whole_number("stride", stride, minimum=1)

    height, width, channels = image_shape
    size = (height, width, channels)
    encoder_maps = [size]  # sizes of the encoder's feature maps, from the image
    for channels in widths[:-1]:
        height, width, _ = encoder_maps[-1]
        encoder_maps.append((-(-height // stride), -(-width // stride), channels))
    decoder_maps = [size]  # of the decoder's: the same heights and widths, also from the image
    for (height, width, _), channels in zip(encoder_maps[1:], reversed(decoder_widths), strict=True):
        decoder_maps.append((height, width, channels))
    hidden_width = math.prod(encoder_maps[-1])
    first_decoder_width = math.prod(decoder_maps[-1])

    last = f"layer_{layers}"
    axes: CodingAxes = (
        (("encoder", last, "kernel"), 1),
        (("encoder", last, "bias"), 0),
        (("decoder", "layer_0", "kernel"), 0),
    )
    window = (kernel_size, kernel_size)
    passes = base.layer_precision(precision)
    he = jax.nn.initializers.he_normal()
    # an adjoint sums over the kernel's last axis, and over only one in stride² of the window's positions
    he_back = jax.nn.initializers.variance_scaling(2.0 * stride**2, "fan_in", "truncated_normal", -1, -2)

    def init(key: jax.Array, codings: jax.Array | None = None) -> Params:
        encoder_keys, decoder_keys = (jax.random.split(part_key, layers + 1) for part_key in jax.random.split(key))
        encoder = {last: base.dense_init(encoder_keys[layers], hidden_width, widths[-1])}
        decoder = {"layer_0": base.dense_init(decoder_keys[0], widths[-1], first_decoder_width)}
        for i in range(layers):
            kernel = he(encoder_keys[i], (*window, encoder_maps[i][2], encoder_maps[i + 1][2]))
            encoder[f"layer_{i}"] = {"kernel": kernel, "bias": jnp.zeros(encoder_maps[i + 1][2])}
            kernel = he_back(decoder_keys[layers - i], (*window, decoder_maps[i][2], decoder_maps[i + 1][2]))
            decoder[f"layer_{layers - i}"] = {"kernel": kernel, "bias": jnp.zeros(decoder_maps[i][2])}
        params: Params = {"encoder": encoder, "decoder": decoder}
        return params if codings is None else base.mask_initial(params, axes, widths[-1], codings)

    def hidden(params: Params, x_bd: jax.Array) -> jax.Array:
        base.check_rows(x_bd, inputs)
        h_bhwc = x_bd.reshape(-1, *size)
        for i in range(layers):
            layer = params["encoder"][f"layer_{i}"]
            h_bhwc = convolve(h_bhwc, layer["kernel"], stride, passes)
            h_bhwc = activation(h_bhwc + layer["bias"][None, None, None, :])
        return h_bhwc.reshape(*x_bd.shape[:-1], hidden_width)

    def coding(params: Params, h_bh: jax.Array) -> jax.Array:
        return coding_activation(base.dense_apply(params["encoder"][last], h_bh, passes))

    def encode(params: Params, x_bd: jax.Array) -> jax.Array:
        return coding(params, hidden(params, x_bd))

    def decode(params: Params, z_bk: jax.Array) -> jax.Array:
        h_bh = base.dense_apply(params["decoder"]["layer_0"], z_bk, passes)
        h_bhwc = h_bh.reshape(-1, *decoder_maps[-1])
        for i in reversed(range(layers)):
            layer = params["decoder"][f"layer_{layers - i}"]
            h_bhwc = convolve_back(activation(h_bhwc), layer["kernel"], stride, decoder_maps[i], passes)
            h_bhwc = h_bhwc + layer["bias"][None, None, None, :]
        return h_bhwc.reshape(*z_bk.shape[:-1], inputs)

    def mirror(encoder_params: Params) -> dict[str, jax.Array]:
        kernels = {f"layer_{layers - i}": encoder_params[f"layer_{i}"]["kernel"] for i in range(layers)}
        return {**kernels, "layer_0": encoder_params[last]["kernel"].T}

    return Net(init, encode, decode, inputs, widths[-1], axes, hidden, coding, hidden_width, mirror)
