"""Initial parameters of every kind of net for a fixed seed, leaf by leaf.

All stored results depend on them. They depend on Flax and JAX: on how Flax derives a layer's key and on what the
initialisers draw from that key. A release that changes either fails here. The expected values are derived in float64
from JAX's uniform and normal draws, without Flax and without any initialiser. `PINNED` holds the derived numbers, so a
change of JAX's random bits fails, too.
"""

import functools
import hashlib
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

from aejax import nets

MLP = nets.mlp(6, (4, 2))
CONV = nets.conv(20, (3, 2), image_shape=(5, 4))
RECURRENT = nets.recurrent(12, (4, 2), image_shape=(4, 3))
DEEP = nets.recurrent(12, (4, 4, 2), image_shape=(4, 3))


def flat(tree, prefix=""):
    """The leaves of nested dicts by path, in float64."""
    leaves = {}
    for name, value in tree.items():
        if isinstance(value, dict):
            leaves |= flat(value, f"{prefix}{name}/")
        else:
            leaves[prefix + name] = np.float64(value)
    return leaves


@functools.cache
def initial_parameters(net, seed=0):
    """A net's initial parameters, by path."""
    return flat(jax.jit(net.init)(jax.random.key(seed)))


def flax_key(key, *path):
    """Flax's key for the first parameter of a layer: the net's key with a hash of the layer's path folded in."""
    digest = hashlib.sha1("".join(path).encode() + b"\x01").digest()
    return jax.random.fold_in(key, int.from_bytes(digest[:4], "big"))


def normal(key, shape, variance):
    """Draws of a normal distribution truncated at two standard deviations, scaled to this variance."""
    edge = special.erf(math.sqrt(2))
    u = np.float64(jax.random.uniform(key, shape, jnp.float32, -edge, edge))
    truncated = np.sqrt(2) * special.erfinv(u)
    density = math.exp(-2) / math.sqrt(2 * math.pi)
    truncated_variance = 1 - 4 * density / edge
    return truncated * math.sqrt(variance / truncated_variance)


def orthogonal(key, size):
    """An orthogonal matrix, uniformly distributed (Mezzadri 2007)."""
    q, r = np.linalg.qr(np.float64(jax.random.normal(key, (size, size))))
    return q * np.sign(np.diag(r))


def dense_kernel(key, fan_in, fan_out, scale=2.0):
    return normal(key, (fan_in, fan_out), scale / fan_in)


def dense(key, sizes):
    """Kernels of Flax's dense layers with He's initialiser."""
    pairs = enumerate(itertools.pairwise(sizes))
    return {f"layer_{i}/kernel": dense_kernel(flax_key(key, f"layer_{i}"), *pair) for i, pair in pairs}


def gru(key, inputs, units):
    """Kernels of Flax's gated recurrent unit: LeCun's initialiser for inputs, an orthogonal one for the state."""
    kernels = {}
    for gate in "rzn":
        kernels[f"i{gate}/kernel"] = dense_kernel(flax_key(key, "cell", f"i{gate}"), inputs, units, scale=1.0)
        kernels[f"h{gate}/kernel"] = orthogonal(flax_key(key, "cell", f"h{gate}"), units)
    return kernels


def grus(key, sizes, first_layer):
    kernels = {}
    for i, (inputs, units) in enumerate(itertools.pairwise(sizes)):
        layer = gru(jax.random.fold_in(key, i), inputs, units)
        kernels |= {f"layer_{first_layer + i}/{name}": kernel for name, kernel in layer.items()}
    return kernels


def prefixed(part, kernels):
    return {f"{part}/{name}": kernel for name, kernel in kernels.items()}


def derived_mlp():
    encoder_key, decoder_key = jax.random.split(jax.random.key(0))
    return prefixed("encoder", dense(encoder_key, (6, 4, 2))) | prefixed("decoder", dense(decoder_key, (2, 4, 6)))


def derived_conv():
    """One convolution to a 3 × 2 map of 3 channels, and its adjoint: an output sums a quarter of the window."""
    encoder_keys, decoder_keys = (jax.random.split(key, 2) for key in jax.random.split(jax.random.key(0)))
    return {
        "encoder/layer_0/kernel": normal(encoder_keys[0], (3, 3, 1, 3), 2 / 9),
        "encoder/layer_1/kernel": dense_kernel(encoder_keys[1], 18, 2),
        "decoder/layer_0/kernel": dense_kernel(decoder_keys[0], 2, 18),
        "decoder/layer_1/kernel": normal(decoder_keys[1], (3, 3, 1, 3), 2 / (3 * 9 / 4)),
    }


def derived_recurrent(units, decoder_units):
    encoder_keys, decoder_keys = (jax.random.split(key, 2) for key in jax.random.split(jax.random.key(0)))
    start_key, output_key = jax.random.split(decoder_keys[1])
    encoder = grus(encoder_keys[0], (3, *units), 0)
    encoder[f"layer_{len(units)}/kernel"] = dense_kernel(encoder_keys[1], units[-1], 2)
    decoder = grus(decoder_keys[0], (2, *decoder_units), 1)
    decoder["layer_0/kernel"] = dense_kernel(start_key, 2, decoder_units[0], scale=1.0)
    decoder[f"layer_{len(decoder_units) + 1}/kernel"] = dense_kernel(output_key, decoder_units[-1], 3)
    return prefixed("encoder", encoder) | prefixed("decoder", decoder)


PINNED = {
    "mlp": {
        "encoder/layer_0/kernel": ((6, 4), -0.68619022, 0.95555243, 1.6408782, 10.27858482),
        "encoder/layer_1/kernel": ((4, 2), 0.07517699, 1.04367218, 4.6795697, 6.47026060),
        "decoder/layer_0/kernel": ((2, 4), 0.86064782, -0.91112108, -0.2701675, 3.63972094),
        "decoder/layer_1/kernel": ((4, 6), 0.45798175, -1.11945725, 4.2416602, 13.61457993),
    },
    "conv": {
        "encoder/layer_0/kernel": ((3, 3, 1, 3), -0.29249527, -0.14774410, 0.9488373, 6.19805068),
        "encoder/layer_1/kernel": ((18, 2), -0.44094106, 0.44596799, -1.8172613, 3.18945178),
        "decoder/layer_0/kernel": ((2, 18), 0.21571099, 0.98497092, -0.9579351, 31.00181136),
        "decoder/layer_1/kernel": ((3, 3, 1, 3), -0.76080498, 0.36040594, 4.1368513, 9.28382144),
    },
    "recurrent": {
        "encoder/layer_0/hn/kernel": ((4, 4), 0.71504896, 0.25662334, -0.0309060, 4.00000000),
        "encoder/layer_0/hr/kernel": ((4, 4), 0.69895697, 0.09625586, 0.7992263, 4.00000000),
        "encoder/layer_0/hz/kernel": ((4, 4), -0.03313049, 0.49089720, -1.6098827, 4.00000000),
        "encoder/layer_0/in/kernel": ((3, 4), -0.52052133, -0.65548873, 0.7524046, 4.51737543),
        "encoder/layer_0/ir/kernel": ((3, 4), -1.13580022, 1.20150819, 2.1257048, 6.07074537),
        "encoder/layer_0/iz/kernel": ((3, 4), -0.60522320, 0.70678148, -0.3040386, 3.36257790),
        "encoder/layer_1/kernel": ((4, 2), -0.93537725, -0.09385278, -1.1889836, 3.12908866),
        "decoder/layer_0/kernel": ((2, 4), -1.30959817, 0.21510614, -0.6902627, 4.40048154),
        "decoder/layer_1/hn/kernel": ((4, 4), 0.50706576, -0.55596706, -0.4729095, 4.00000000),
        "decoder/layer_1/hr/kernel": ((4, 4), -0.95286690, 0.27696210, -3.7608501, 4.00000000),
        "decoder/layer_1/hz/kernel": ((4, 4), 0.16635000, 0.81810405, 2.8845381, 4.00000000),
        "decoder/layer_1/in/kernel": ((2, 4), 0.45540384, -0.04638511, -1.7901242, 6.18097800),
        "decoder/layer_1/ir/kernel": ((2, 4), 0.28981288, 0.38710914, 2.0296003, 4.92685866),
        "decoder/layer_1/iz/kernel": ((2, 4), 0.19998696, -0.20927660, -1.8411499, 4.17304919),
        "decoder/layer_2/kernel": ((4, 3), 1.45145541, 0.43135945, 5.4745673, 6.31504172),
    },
}
"""Shape, first entry, last entry, sum and sum of squares of every kernel, computed by `derived_…`."""


def check_pinned(actual, expected):
    """Compare every kernel with its pinned numbers. All other parameters are zero."""
    for path, leaf in actual.items():
        if not path.endswith("kernel"):
            assert not leaf.any(), path
    kernels = {path: leaf for path, leaf in actual.items() if path.endswith("kernel")}
    assert set(kernels) == set(expected)
    for path, (shape, start, end, total, squares) in expected.items():
        leaf = kernels[path]
        assert leaf.shape == shape, path
        assert (leaf.flat[0], leaf.flat[-1]) == pytest.approx((start, end), rel=1e-5, abs=1e-6), path
        assert (leaf**2).sum() == pytest.approx(squares, rel=1e-6), path
        assert leaf.sum() == pytest.approx(total, abs=1e-6 * math.sqrt(leaf.size * squares)), path


@pytest.mark.parametrize(("name", "net"), [("mlp", MLP), ("conv", CONV), ("recurrent", RECURRENT)])
def test_initial_parameters_are_the_pinned_ones(name, net):
    check_pinned(initial_parameters(net), PINNED[name])


@pytest.mark.parametrize(("name", "net"), [("mlp", MLP), ("conv", CONV)])
def test_a_tied_net_starts_from_the_pinned_encoder(name, net):
    encoder = {path: pins for path, pins in PINNED[name].items() if path.startswith("encoder")}
    actual = initial_parameters(nets.tied(net))
    check_pinned(actual, encoder)
    assert {path for path in actual if path.endswith("bias")} == {
        path for path in initial_parameters(net) if path.endswith("bias")
    }


@pytest.mark.parametrize(
    ("net", "derived"),
    [
        (MLP, derived_mlp),
        (CONV, derived_conv),
        (RECURRENT, lambda: derived_recurrent((4,), (4,))),
        (DEEP, lambda: derived_recurrent((4, 4), (4, 4))),
    ],
    ids=["mlp", "conv", "recurrent", "deep recurrent"],
)
def test_initial_kernels_follow_from_key_and_path(net, derived):
    actual = {path: leaf for path, leaf in initial_parameters(net).items() if path.endswith("kernel")}
    expected = derived()
    assert set(actual) == set(expected)
    for path, kernel in expected.items():
        np.testing.assert_allclose(actual[path], kernel, rtol=1e-5, atol=1e-6, err_msg=path)


@pytest.mark.parametrize("name", ["mlp", "conv", "recurrent"])
def test_pinned_numbers_are_the_derived_ones(name):
    derived = {"mlp": derived_mlp, "conv": derived_conv, "recurrent": lambda: derived_recurrent((4,), (4,))}
    check_pinned(derived[name](), PINNED[name])


def test_another_key_or_scale_is_noticed():
    with pytest.raises(AssertionError):
        check_pinned(initial_parameters(MLP, seed=1), PINNED["mlp"])
    with pytest.raises(AssertionError):
        check_pinned({path: 1.00001 * leaf for path, leaf in initial_parameters(MLP).items()}, PINNED["mlp"])


def test_large_kernels_have_the_variance_of_their_initialiser():
    """2 / fan_in (He) or 1 / fan_in (LeCun), whatever the keys are; recurrent kernels are orthogonal."""
    dense_net = initial_parameters(nets.mlp(300, (200, 100)))
    images = initial_parameters(nets.conv(32 * 32 * 16, (64, 32, 8), image_shape=(32, 32, 16)))
    sequences = initial_parameters(nets.recurrent(4 * 80, (100, 50), image_shape=(4, 80)))
    variances = [
        (dense_net["encoder/layer_0/kernel"], 2 / 300),
        (dense_net["encoder/layer_1/kernel"], 2 / 200),
        (dense_net["decoder/layer_0/kernel"], 2 / 100),
        (dense_net["decoder/layer_1/kernel"], 2 / 200),
        (images["encoder/layer_0/kernel"], 2 / (9 * 16)),
        (images["encoder/layer_1/kernel"], 2 / (9 * 64)),
        (images["decoder/layer_1/kernel"], 2 / (9 * 32 / 4)),
        (images["decoder/layer_2/kernel"], 2 / (9 * 64 / 4)),
        *((sequences[f"encoder/layer_0/i{gate}/kernel"], 1 / 80) for gate in "rzn"),
        *((sequences[f"decoder/layer_1/i{gate}/kernel"], 1 / 50) for gate in "rzn"),
        (sequences["encoder/layer_1/kernel"], 2 / 100),
        (sequences["decoder/layer_0/kernel"], 1 / 50),
        (sequences["decoder/layer_2/kernel"], 2 / 100),
    ]
    for kernel, variance in variances:
        noise = 5 / math.sqrt(kernel.size)
        assert kernel.var() == pytest.approx(variance, rel=noise)
        assert abs(kernel.mean()) < noise * math.sqrt(variance)
    for gate in "rzn":
        rotation = sequences[f"encoder/layer_0/h{gate}/kernel"]
        np.testing.assert_allclose(rotation @ rotation.T, np.eye(100), atol=1e-5)
