"""Convolutional nets: adjoints, equal dense nets, restored sizes, tied weights and refused arguments."""

import itertools
import math
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aejax import nets, variants
from aejax.config import run_identity, sweep
from aejax.nets.conv import convolve, convolve_back
from aejax.runtime.errors import ConfigError
from aejax.variants import penalties
from support import rows_of


def code(net, params, x_bd):
    """Codings and reconstruction."""
    return jax.jit(lambda p, x: ((z := net.encode(p, x)), net.decode(p, z)))(params, x_bd)


def by_hand(x_hwc, kernel, stride):
    """Zero-padded correlation computed value by value; half of the padding, rounded down, comes before the image."""
    height, width, _ = x_hwc.shape
    rows, columns, _, channels = kernel.shape
    out_height = -(-height // stride)
    out_width = -(-width // stride)
    top = max((out_height - 1) * stride + rows - height, 0) // 2
    left = max((out_width - 1) * stride + columns - width, 0) // 2
    out = np.zeros((out_height, out_width, channels))
    for i, j, a, b in itertools.product(range(out_height), range(out_width), range(rows), range(columns)):
        y = i * stride + a - top
        x = j * stride + b - left
        if 0 <= y < height and 0 <= x < width:
            out[i, j] += x_hwc[y, x] @ kernel[a, b]
    return out


@pytest.mark.parametrize(
    ("size", "kernel_size", "stride"),
    [
        ((8, 8, 1), 3, 2),
        ((7, 5, 3), 3, 2),
        ((7, 6, 1), 5, 2),
        ((7, 5, 2), 2, 2),
        ((1, 6, 2), 3, 2),
        ((2, 3, 1), 5, 2),
        ((5, 4, 3), 3, 1),
        ((8, 5, 1), 3, 3),
    ],
)
def test_convolve_equals_a_loop_over_values_and_convolve_back_is_its_adjoint(size, kernel_size, stride):
    rng = np.random.default_rng(0)
    kernel = rng.normal(size=(kernel_size, kernel_size, size[2], 4))
    x_bhwc = rng.normal(size=(2, *size))
    expected = np.stack([by_hand(image, kernel, stride) for image in x_bhwc])
    convolved = convolve(jnp.float32(x_bhwc), jnp.float32(kernel), stride)
    np.testing.assert_allclose(convolved, expected, atol=1e-4)
    y_bhwd = rng.normal(size=expected.shape)
    back = convolve_back(jnp.float32(y_bhwd), jnp.float32(kernel), stride, size)
    assert back.shape == x_bhwc.shape
    np.testing.assert_allclose((expected * y_bhwd).sum((1, 2, 3)), (x_bhwc * back).sum((1, 2, 3)), atol=2e-4)


def back_by_hand(y_hwd, kernel, stride, size):
    """The adjoint of `by_hand`: a value is the product of y and the correlation of an image of this pixel alone."""
    pixels = np.eye(math.prod(size)).reshape(-1, *size)
    return np.reshape([np.sum(by_hand(pixel, kernel, stride) * y_hwd) for pixel in pixels], size)


def reconstruction_by_hand(params, x_hwc, stride):
    """Codings and reconstruction of one image with tanh, layer by layer in float64."""
    params = jax.tree.map(np.float64, params)
    encoder = params["encoder"]
    decoder = params["decoder"]
    convolutions = len(encoder) - 1
    maps = [x_hwc]
    for i in range(convolutions):
        maps.append(np.tanh(by_hand(maps[-1], encoder[f"layer_{i}"]["kernel"], stride) + encoder[f"layer_{i}"]["bias"]))
    dense = encoder[f"layer_{convolutions}"]
    z_k = maps[-1].ravel() @ dense["kernel"] + dense["bias"]
    h_hwc = (z_k @ decoder["layer_0"]["kernel"] + decoder["layer_0"]["bias"]).reshape(maps[-1].shape)
    for i in range(convolutions):
        layer = decoder[f"layer_{i + 1}"]
        h_hwc = back_by_hand(np.tanh(h_hwc), layer["kernel"], stride, maps[-2 - i].shape) + layer["bias"]
    return z_k, h_hwc.ravel()


@pytest.mark.parametrize(("image_shape", "stride"), [((6, 3), 2), ((3, 5, 2), 2), ((4, 3, 2), 1)])
def test_codings_and_reconstruction_follow_the_layers_by_hand(image_shape, stride):
    """On images that are not square, with biases that are not zero."""
    size = (*image_shape, 1)[:3]
    net = nets.conv(math.prod(size), (4, 3, 2), image_shape=image_shape, stride=stride, activation=jnp.tanh)
    params = jax.tree.map(lambda leaf: leaf + 0.1, jax.jit(net.init)(jax.random.key(0)))
    x_bd = np.random.default_rng(0).normal(size=(2, math.prod(size)))
    expected = [reconstruction_by_hand(params, x_d.reshape(size), stride) for x_d in x_bd]
    for found, by_layers in zip(code(net, params, jnp.float32(x_bd)), zip(*expected, strict=True), strict=True):
        np.testing.assert_allclose(found, np.stack(by_layers), atol=1e-5)


def matrix(function, inputs):
    """The matrix (inputs, outputs) of a linear function of flat rows."""
    return function(jnp.eye(inputs)) - function(jnp.zeros((1, inputs)))


def test_a_convolution_is_a_matrix_of_shared_weights_and_its_adjoint_the_transposed_matrix():
    size = (5, 4, 2)
    kernel = jax.random.normal(jax.random.key(0), (3, 3, 2, 3))

    def forward(x_bd):
        return convolve(x_bd.reshape(-1, *size), kernel, 2).reshape(len(x_bd), -1)

    def back(y_bd):
        return convolve_back(y_bd.reshape(-1, 3, 2, 3), kernel, 2, size).reshape(len(y_bd), -1)

    np.testing.assert_allclose(matrix(back, 18), matrix(forward, 40).T, atol=1e-6)
    assert len(np.unique(np.round(matrix(forward, 40), 5))) <= kernel.size + 1  # shared weights, and zero


def test_a_kernel_as_large_as_the_image_is_a_dense_layer():
    """The convolution then sums every pixel once, as a dense layer does."""
    shape = (5, 5)
    size = 25
    net = nets.conv(size, (4, 2), image_shape=shape, kernel_size=5, stride=5, activation=jnp.tanh)
    dense = nets.mlp(size, (4, 2), activation=jnp.tanh)
    params = jax.jit(net.init)(jax.random.key(0))
    dense_params = jax.tree.map(lambda leaf: leaf, params)
    dense_params["encoder"]["layer_0"]["kernel"] = params["encoder"]["layer_0"]["kernel"].reshape(size, 4)
    dense_params["decoder"]["layer_1"]["kernel"] = params["decoder"]["layer_1"]["kernel"].reshape(size, 4).T
    dense_params["decoder"]["layer_1"]["bias"] = jnp.repeat(params["decoder"]["layer_1"]["bias"], size)
    x_bd = jax.random.uniform(jax.random.key(1), (3, size))
    for output, expected in zip(code(net, params, x_bd), code(dense, dense_params, x_bd), strict=True):
        np.testing.assert_allclose(output, expected, atol=1e-5)


def test_the_decoder_restores_every_image_size():
    shape = (7, 5, 3)
    inputs = int(np.prod(shape))
    net = nets.conv(inputs, (4, 6, 5), image_shape=shape, kernel_size=5, decoder_widths=(8, 3))
    params = jax.jit(net.init)(jax.random.key(0))
    x_sbd = jnp.ones((2, 3, inputs))
    z_sbk, x_again_sbd = code(net, params, x_sbd)
    assert (z_sbk.shape, x_again_sbd.shape) == ((2, 3, 5), x_sbd.shape)
    np.testing.assert_allclose(code(net, params, x_sbd[0, 0])[1], x_again_sbd[0, 0], atol=1e-5)
    hidden_sbh, by_parts_sbk = jax.jit(lambda p, x: ((h := net.hidden(p, x)), net.coding(p, h)))(params, x_sbd)
    assert hidden_sbh.shape[-1] == net.hidden_width == 6 * 2 * 2
    np.testing.assert_allclose(by_parts_sbk, z_sbk, atol=1e-5)
    for other_shape in ((9, 6), (28, 28), (1, 3), (13, 2, 5)):
        inputs = int(np.prod(other_shape))
        other = nets.conv(inputs, (4, 6, 2), image_shape=other_shape)
        given = jax.eval_shape(other.init, jax.random.key(0)), jax.ShapeDtypeStruct((3, inputs), jnp.float32)
        assert jax.eval_shape(lambda p, x, net=other: net.decode(p, net.encode(p, x)), *given).shape == (3, inputs)
    assert params["decoder"]["layer_1"]["kernel"].shape == (5, 5, 3, 8)


def test_without_convolutions_it_equals_the_linear_net():
    net = nets.conv(12, (3,), image_shape=(4, 3))
    dense = nets.mlp(12, (3,))
    params = dense.init(jax.random.key(0))
    x_bd = jax.random.normal(jax.random.key(1), (4, 12))
    np.testing.assert_allclose(net.encode(params, x_bd), dense.encode(params, x_bd), rtol=1e-6)
    np.testing.assert_allclose(net.decode(params, x_bd[:, :3]), dense.decode(params, x_bd[:, :3]), rtol=1e-6)


def test_initial_kernels_keep_the_variance_from_layer_to_layer():
    """With He's initialiser the mean square after a ReLU equals the mean square of the layer before."""
    net = nets.conv(64 * 64, (128, 64), image_shape=(64, 64), decoder_widths=(128,), activation=jax.nn.relu)
    params = jax.jit(net.init)(jax.random.key(0))
    x_bd = jax.random.normal(jax.random.key(1), (4, 64 * 64))
    hidden = net.hidden(params, x_bd)
    assert float(jnp.mean(jnp.square(hidden))) == pytest.approx(1, abs=0.15)
    z_bk = jax.random.normal(jax.random.key(2), (4, 64))
    assert float(jnp.mean(jnp.square(net.decode(params, z_bk)))) == pytest.approx(
        2, abs=0.4
    )  # the last layer has no ReLU


def untie(params):
    """Parameters of the untied net that computes the same as a tied net: equal kernels, the dense one transposed."""
    encoder = params["encoder"]
    decoder = params["decoder"]
    kernels = {"layer_0": encoder["layer_2"]["kernel"].T}
    kernels |= {f"layer_{2 - i}": encoder[f"layer_{i}"]["kernel"] for i in (0, 1)}
    return {
        "encoder": encoder,
        "decoder": {name: {**layer, "kernel": kernels[name]} for name, layer in decoder.items()},
    }


def test_the_gradient_of_a_tied_kernel_is_encoder_gradient_plus_that_of_the_transposed_convolution():
    net = nets.conv(7 * 5 * 3, (4, 6, 2), image_shape=(7, 5, 3))
    untied = variants.plain(net)
    tied = variants.plain(nets.tied(net))
    params = jax.jit(tied.init)(jax.random.key(0))
    x_bd = jax.random.normal(jax.random.key(1), (8, 105))
    assert all(set(layer) == {"bias"} for layer in params["decoder"].values())
    np.testing.assert_allclose(code(tied, params, x_bd)[1], code(untied, untie(params), x_bd)[1], atol=1e-5)
    gradient = jax.jit(jax.grad(lambda p: tied.loss(p, jax.random.key(2), x_bd, l2=0.0)[0]))(params)
    untied_gradient = jax.jit(jax.grad(lambda p: untied.loss(p, jax.random.key(2), x_bd, l2=0.0)[0]))(untie(params))
    for i in range(3):
        of_decoder = untied_gradient["decoder"][f"layer_{2 - i}"]["kernel"]
        of_decoder = of_decoder.T if i == 2 else of_decoder
        expected = untied_gradient["encoder"][f"layer_{i}"]["kernel"] + of_decoder
        np.testing.assert_allclose(gradient["encoder"][f"layer_{i}"]["kernel"], expected, rtol=1e-4, atol=1e-7)
        assert np.abs(of_decoder).max() > 1e-4  # more than a rounding error


def test_l2_counts_a_tied_kernel_once_and_no_bias():
    net = nets.conv(35, (4, 2), image_shape=(7, 5))
    params = jax.tree.map(lambda leaf: leaf + 1.0, nets.tied(net).init(jax.random.key(0)))
    once = sum(float(np.square(layer["kernel"], dtype=np.float64).sum()) for layer in params["encoder"].values()) / 2
    assert float(penalties.l2(params)) == pytest.approx(once, rel=1e-5)


@pytest.mark.parametrize("tied", [False, True])
def test_a_masked_net_equals_the_smaller_net(tied):
    net, small = (nets.conv(35, (4, k), image_shape=(7, 5)) for k in (5, 3))
    net, small = (nets.tied(untied) if tied else untied for untied in (net, small))
    params = jax.jit(net.init)(jax.random.key(0), 3)
    x_bd = jax.random.normal(jax.random.key(1), (4, 35))
    z_bk, x_again_bd = code(net, params, x_bd)
    assert not np.any(z_bk[:, 3:])
    sliced = nets.slice_codings(params, net.coding_axes, 3)
    assert jax.tree.map(jnp.shape, sliced) == jax.tree.map(jnp.shape, jax.eval_shape(small.init, jax.random.key(0)))
    np.testing.assert_allclose(code(small, sliced, x_bd)[1], x_again_bd, atol=1e-5)


def test_invalid_sizes_are_refused(refused):
    valid = {"inputs": 35, "widths": (4, 2), "image_shape": (7, 5)}
    for name, value, part in (
        ("image_shape", (7, 6), "35 inputs"),
        ("image_shape", (35,), "(height, width)"),
        ("image_shape", (7, 0), "image_shape[1]"),
        ("kernel_size", 0, "at least 1"),
        ("stride", 2.5, "whole number"),
        ("decoder_widths", (4, 4), "1 convolutions"),
        ("widths", (), "at least one"),
    ):
        refused(ConfigError, name, part, call=lambda name=name, value=value: nets.conv(**{**valid, name: value}))
    wider = nets.conv(35, (4, 2), image_shape=(7, 5), decoder_widths=(6,))
    refused(ConfigError, "tied", "do not mirror", call=lambda: nets.tied(wider))


def test_equal_arguments_give_the_same_net():
    assert nets.conv(35, [4, 2], image_shape=[7, 5]) is nets.conv(35, (4, 2), image_shape=(7, 5, 1))
    assert nets.conv(35, (4, 2), image_shape=(7, 5)) is not nets.conv(35, (4, 2), image_shape=(5, 7))


def test_a_sweep_of_a_convolutional_net_is_stored_and_read_back(refused):
    given = {"dataset": "digits", "epochs": 1, "batch_size": 64, "hyper": {"learning_rate": 0.01, "l2": 0.0}}
    original = sweep.Sweep(**given, net=nets.conv, widths=(4, 2), tied=True, options={"kernel_size": 5})
    assert (original.name, original.linear) == ("tied conv", False)
    read_back = sweep.from_config(original.config(), {"learning_rate": 0.01, "l2": 0.0}, 0)
    assert read_back.build(64, (8, 8)) is original.build(64, (8, 8))
    assert run_identity.decode_config(original.config())["net"] == "conv"
    refused(
        ConfigError,
        "Sweep.net",
        "plane3d",
        call=lambda: sweep.Sweep(**{**given, "dataset": "plane3d"}, net=nets.conv, widths=(4, 2)).build(3),
    )


def committed(label, **hyper):
    """The committed rows with this label and these hyper-parameters."""
    rows = rows_of(Path(__file__).resolve().parents[1] / "results/conv")
    selected = [row for row in rows if row["label"] == label and hyper.items() <= row["hyper"].items()]
    assert len(selected) == 3
    return selected


def test_the_committed_results_support_the_claims():
    """All nets are better than PCA, tied or not. Tying a convolutional net changes its error by less than 5 %."""
    error = {}
    for label in ("dense", "tied dense", "convolutional", "tied convolutional"):
        rows = committed(label, learning_rate=0.01)
        assert all(row["sse_ratio"] < 0.6 for row in rows)
        error[label] = np.mean([row["sse_test"] for row in rows])
    assert error["convolutional"] < error["dense"] < error["tied convolutional"] < error["tied dense"]
    assert error["tied convolutional"] < 1.05 * error["convolutional"]
    rows = rows_of(Path(__file__).resolve().parents[1] / "results/conv")
    on_mnist = {row["label"]: round(row["sse_test"], 2) for row in rows if row["dataset"] == "mnist"}
    convolutional = {"convolutional": 6.43, "tied convolutional": 5.21}
    assert on_mnist == {**convolutional, "dense": 6.67, "dense, for as long": 3.4}
