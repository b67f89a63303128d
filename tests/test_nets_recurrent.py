"""Recurrent nets: equal to the unit's equations in a loop, and better than PCA on curved sequences."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aejax import nets, variants
from aejax.config import sweep
from aejax.datasets.base import RawData, assemble
from aejax.evaluation import reconstruction
from aejax.runtime.errors import ConfigError
from aejax.training import train
from support import rows_of


def code(net, params, x_bd):
    """Codings and reconstruction."""
    return jax.jit(lambda p, x: ((z := net.encode(p, x)), net.decode(p, z)))(params, jnp.float32(x_bd))


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def relu(x):
    return np.maximum(x, 0)


def states_by_hand(cell, x_btf, h_bh, activation=np.tanh):
    """The states after each step of a gated recurrent unit (Cho et al. 2014), in float64."""
    w = jax.tree.map(np.float64, cell)
    states = []
    for t in range(x_btf.shape[1]):
        x_bf = x_btf[:, t]
        r = sigmoid(x_bf @ w["ir"]["kernel"] + w["ir"]["bias"] + h_bh @ w["hr"]["kernel"])
        z = sigmoid(x_bf @ w["iz"]["kernel"] + w["iz"]["bias"] + h_bh @ w["hz"]["kernel"])
        recalled = h_bh @ w["hn"]["kernel"] + w["hn"]["bias"]
        n = activation(x_bf @ w["in"]["kernel"] + w["in"]["bias"] + r * recalled)
        h_bh = (1 - z) * n + z * h_bh
        states.append(h_bh)
    return np.stack(states, axis=1)


def by_hand(params, x_btf, units, decoder_units, activation):
    """Codings and reconstruction by the equations; `units` and `decoder_units` are the units of each layer."""
    params = jax.tree.map(np.float64, params)
    rows = len(x_btf)
    encoder = params["encoder"]
    decoder = params["decoder"]
    h_bth = x_btf
    for i, width in enumerate(units):
        h_bth = states_by_hand(encoder[f"layer_{i}"], h_bth, np.zeros((rows, width)), activation)
    layer = encoder[f"layer_{len(units)}"]
    z_bk = h_bth[:, -1] @ layer["kernel"] + layer["bias"]
    h_bth = np.repeat(z_bk[:, None], x_btf.shape[1], axis=1)
    for i, width in enumerate(decoder_units):
        first = np.tanh(z_bk @ decoder["layer_0"]["kernel"] + decoder["layer_0"]["bias"])
        h_bth = states_by_hand(
            decoder[f"layer_{i + 1}"], h_bth, first if i == 0 else np.zeros((rows, width)), activation
        )
    layer = decoder[f"layer_{len(decoder_units) + 1}"]
    return z_bk, (h_bth @ layer["kernel"] + layer["bias"]).reshape(rows, -1)


@pytest.mark.parametrize(
    ("widths", "decoder_widths", "activation", "activation_by_numpy"),
    [((5, 2), None, jnp.tanh, np.tanh), ((5, 4, 2), (6,), jnp.tanh, np.tanh), ((5, 2), None, jax.nn.relu, relu)],
)
def test_codings_and_reconstruction_follow_the_units_equations(widths, decoder_widths, activation, activation_by_numpy):
    options = {"decoder_widths": decoder_widths, "activation": activation}
    net = nets.recurrent(6 * 3, widths, image_shape=(6, 3), **options)
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda leaf: leaf + 0.1 * rng.normal(size=leaf.shape), jax.jit(net.init)(jax.random.key(0)))
    params = jax.tree.map(jnp.float32, params)
    x_bd = rng.normal(size=(4, 18))
    units = (widths[:-1], decoder_widths or widths[-2::-1])
    z_bk, expected_bd = by_hand(params, x_bd.reshape(4, 6, 3), *units, activation_by_numpy)
    found_bk, found_bd = code(net, params, x_bd)
    np.testing.assert_allclose(found_bk, z_bk, atol=1e-5)
    np.testing.assert_allclose(found_bd, expected_bd, atol=1e-5)
    assert net.hidden_width == widths[-2]
    for shape in ((2, 2), ()) if decoder_widths is None else ():  # two leading axes, or none
        some_bk, some_bd = code(net, params, x_bd.reshape(2, 2, 18) if shape else x_bd[0])
        np.testing.assert_allclose(some_bk, z_bk.reshape(2, 2, 2) if shape else z_bk[0], atol=1e-5)
        np.testing.assert_allclose(some_bd, expected_bd.reshape(2, 2, 18) if shape else expected_bd[0], atol=1e-5)


def test_pixels_are_read_row_by_row():
    """The first two steps read the first two rows, and the last step reads the last row."""
    net = nets.recurrent(3 * 2 * 2, (4, 2), image_shape=(3, 2, 2))
    params = jax.jit(net.init)(jax.random.key(0))
    x_bd = jax.random.normal(jax.random.key(1), (1, 12))
    first_two = states_by_hand(params["encoder"]["layer_0"], np.asarray(x_bd).reshape(1, 3, 4)[:, :2], np.zeros((1, 4)))
    whole = states_by_hand(params["encoder"]["layer_0"], np.asarray(x_bd).reshape(1, 3, 4)[:, 2:], first_two[:, -1])
    np.testing.assert_allclose(net.hidden(params, x_bd), whole[:, -1], atol=1e-6)


def test_on_a_constant_sequence_the_state_reaches_its_fixed_point():
    """A step at the fixed point changes nothing, so twice as many steps give the same state."""
    short, long = (nets.recurrent(steps * 2, (4, 2), image_shape=(steps, 2)) for steps in (60, 120))
    params = short.init(jax.random.key(0))
    x_f = jnp.asarray([0.3, -0.7])
    states = [net.hidden(params, jnp.tile(x_f, steps)[None]) for net, steps in ((short, 60), (long, 120))]
    np.testing.assert_allclose(states[0], states[1], atol=1e-4)
    next_state = states_by_hand(params["encoder"]["layer_0"], np.asarray(x_f)[None, None], np.float64(states[1]))
    np.testing.assert_allclose(next_state[:, 0], states[1], atol=1e-5)


def waves(rows, steps, seed=0):
    """Sine waves that differ in phase and frequency: a curved surface of two dimensions, far from every plane."""
    rng = np.random.default_rng(seed)
    phase_n = rng.uniform(0, np.pi, rows)
    cycles_n = rng.uniform(0.5, 2, rows)
    t = np.arange(steps) / steps
    return np.sin(2 * np.pi * cycles_n[:, None] * t + phase_n[:, None]).astype(np.float32)


@pytest.mark.slow
def test_two_codings_of_sine_waves_reconstruct_much_better_than_two_components():
    steps = 16
    x = {split: waves(rows, steps, seed) for seed, (split, rows) in enumerate(SPLITS.items())}
    dataset = assemble("waves", RawData(x, dict.fromkeys(x), (steps, 1), 1.0), 0)
    net = nets.recurrent(steps, (32, 2), image_shape=(steps, 1))
    settings = {"epochs": 30, "batch_size": 64, "learning_rate": 0.01, "l2": 0.0}
    fit = train.fit(variants.plain(net), dataset, seed=0, **settings)
    numbers = reconstruction.score(variants.plain(net), fit.params, dataset)
    assert numbers["sse_ratio"] < 0.3, numbers


SPLITS = {"train": 512, "validation": 128, "test": 256}


def test_a_masked_net_equals_the_smaller_net():
    net, small = (nets.recurrent(15, (4, k), image_shape=(5, 3)) for k in (5, 3))
    params = jax.jit(net.init)(jax.random.key(0), 3)
    x_bd = jax.random.normal(jax.random.key(1), (4, 15))
    z_bk, x_again_bd = code(net, params, x_bd)
    assert not np.any(z_bk[:, 3:])
    sliced = nets.slice_codings(params, net.coding_axes, 3)
    assert jax.tree.map(jnp.shape, sliced) == jax.tree.map(jnp.shape, jax.eval_shape(small.init, jax.random.key(0)))
    np.testing.assert_allclose(code(small, sliced, x_bd)[1], x_again_bd, atol=1e-5)
    full = jax.jit(net.init)(jax.random.key(0))
    for (path, leaf), (_, whole) in zip(*(jax.tree_util.tree_leaves_with_path(p) for p in (sliced, full)), strict=True):
        if path[0].key == "decoder" and leaf.shape != whole.shape:  # scaled to the variance for three inputs
            np.testing.assert_allclose(leaf, whole[:3] * np.sqrt(5 / 3), rtol=1e-5)


def test_invalid_arguments_are_refused(refused):
    valid = {"inputs": 15, "widths": (4, 2), "image_shape": (5, 3)}
    for name, value, part in (
        ("image_shape", (5, 4), "15 inputs"),
        ("widths", (2,), "no recurrent layer"),
        ("decoder_widths", (), "no recurrent layer"),
    ):
        refused(ConfigError, name, part, call=lambda name=name, value=value: nets.recurrent(**{**valid, name: value}))
    refused(ConfigError, "tied", "no mirror", "tied=False", call=lambda: nets.tied(nets.recurrent(**valid)))
    given = {"dataset": "digits", "epochs": 1, "batch_size": 64, "hyper": {"learning_rate": 0.01, "l2": 0.0}}
    given |= {"net": nets.recurrent, "widths": (4, 2)}
    refused(ConfigError, "tied", "no mirror", call=lambda: sweep.Sweep(**given, tied=True))
    original = sweep.Sweep(**given, activation=jnp.tanh)
    read_back = sweep.from_config(original.config(), original.points()[0], 0)
    assert read_back.build(64, (8, 8)) is original.build(64, (8, 8))


def test_equal_arguments_give_the_same_net():
    assert nets.recurrent(15, [4, 2], image_shape=[5, 3]) is nets.recurrent(15, (4, 2), image_shape=(5, 3, 1))
    assert nets.recurrent(15, (4, 2), image_shape=(5, 3)) is not nets.recurrent(15, (4, 2), image_shape=(3, 5))


def test_highest_precision_applies_to_every_matrix_product():
    counts = {}
    for precision in ("default", "highest"):
        net = nets.recurrent(15, (4, 2), image_shape=(5, 3), precision=precision)
        params = jax.eval_shape(net.init, jax.random.key(0))
        x_bd = jax.ShapeDtypeStruct((2, 15), jnp.float32)
        text = str(jax.make_jaxpr(lambda p, x, net=net: net.decode(p, net.encode(p, x)))(params, x_bd))
        products = text.count("dot_general[")
        counts[precision] = (products, text.count("Precision.HIGHEST"))
    assert counts["default"][1] == 0
    assert counts["highest"][1] >= counts["highest"][0] > 10


def committed(label, **hyper):
    """The committed rows with this label and these hyper-parameters."""
    rows = rows_of(Path(__file__).resolve().parents[1] / "results/recurrent")
    selected = [row for row in rows if row["label"] == label and hyper.items() <= row["hyper"].items()]
    assert len(selected) == 3
    return selected


def test_the_committed_results_support_the_claims():
    recurrent, dense = (committed(label, learning_rate=0.01) for label in ("recurrent", "dense"))
    assert all(row["sse_ratio"] < 0.53 for row in recurrent)
    assert max(row["sse_test"] for row in recurrent) < 0.85 * min(row["sse_test"] for row in dense)
    rows = rows_of(Path(__file__).resolve().parents[1] / "results/recurrent")
    on_mnist = {row["label"]: round(row["sse_test"], 2) for row in rows if row["dataset"] == "mnist"}
    assert on_mnist == {"recurrent": 4.42, "dense": 6.05}
