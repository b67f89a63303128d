"""Dense nets: initialisers, layer sizes, tied weights, the L2 penalty and refused arguments."""

import functools
import operator

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aejax import nets, variants
from aejax.runtime.errors import ConfigError, DataError
from aejax.training import train
from aejax.variants import penalties
from support import small_dataset

WIDTHS = (9, 7, 3)


def kernels(params, part):
    layers = [params[part][f"layer_{i}"] for i in range(len(params[part]))]
    return [layer["kernel"] for layer in layers if "kernel" in layer]


def test_kernels_start_at_hes_variance_and_biases_at_zero():
    params = nets.mlp(400, (300, 200)).init(jax.random.key(0))
    for part in ("encoder", "decoder"):
        for kernel in kernels(params, part):
            fan_in = kernel.shape[0]
            assert np.var(kernel) == pytest.approx(2 / fan_in, rel=0.02)
            assert np.abs(kernel).max() < 2.3 * np.sqrt(2 / fan_in)  # truncated at two standard deviations
        assert not any(np.any(layer["bias"]) for layer in params[part].values())


def test_the_decoder_mirrors_the_encoders_layer_sizes():
    params = nets.mlp(20, WIDTHS).init(jax.random.key(0))
    assert [k.shape for k in kernels(params, "encoder")] == [(20, 9), (9, 7), (7, 3)]
    assert [k.shape for k in kernels(params, "decoder")] == [(3, 7), (7, 9), (9, 20)]


def dense_by_hand(part, h_bh, activation, last_activation):
    """The output of dense layers by NumPy, in float64."""
    layers = [jax.tree.map(np.float64, part[f"layer_{i}"]) for i in range(len(part))]
    for layer in layers[:-1]:
        h_bh = activation(h_bh @ layer["kernel"] + layer["bias"])
    return last_activation(h_bh @ layers[-1]["kernel"] + layers[-1]["bias"])


@pytest.mark.parametrize(("widths", "decoder_widths"), [((3,), None), ((5, 3), None), (WIDTHS, None), (WIDTHS, (6,))])
def test_codings_and_reconstruction_are_those_of_dense_layers_by_numpy(widths, decoder_widths):
    options = {"activation": jax.nn.tanh, "coding_activation": jax.nn.sigmoid}
    net = nets.mlp(20, widths, decoder_widths=decoder_widths, **options)
    params = jax.tree.map(lambda leaf: leaf + 0.1, net.init(jax.random.key(0)))
    x_bd = np.random.default_rng(0).normal(size=(4, 20))
    z_bk = dense_by_hand(params["encoder"], x_bd, np.tanh, lambda x: 1 / (1 + np.exp(-x)))
    found_bk = net.encode(params, jnp.float32(x_bd))
    np.testing.assert_allclose(found_bk, z_bk, atol=1e-5)
    expected_bd = dense_by_hand(params["decoder"], z_bk, np.tanh, lambda x: x)
    np.testing.assert_allclose(net.decode(params, found_bk), expected_bd, atol=1e-5)


def test_a_linear_net_is_an_affine_map():
    net = nets.mlp(6, (2,))
    params = net.init(jax.random.key(0))
    x_bd, y_bd = jax.random.normal(jax.random.key(1), (2, 5, 6))
    both = net.decode(params, net.encode(params, x_bd + y_bd))
    each = [net.decode(params, net.encode(params, part)) for part in (x_bd, y_bd)]
    np.testing.assert_allclose(both, each[0] + each[1], atol=1e-5)  # biases start at zero


def test_a_tied_net_stores_half_the_kernel_weights_and_all_biases():
    net = nets.mlp(20, WIDTHS)
    untied = net.init(jax.random.key(0))
    tied = nets.tied(net).init(jax.random.key(0))
    sizes = [sum(kernel.size for part in params for kernel in kernels(params, part)) for params in (tied, untied)]
    assert 2 * sizes[0] == sizes[1]
    biases = [[layer["bias"].shape for part in p.values() for layer in part.values()] for p in (untied, tied)]
    assert biases[0] == biases[1]
    assert kernels(tied, "decoder") == []


def untie(params):
    """Parameters of the untied net that computes the same as a tied net: the decoder kernels transposed by hand."""
    transposed = [k.T for k in reversed(kernels(params, "encoder"))]
    decoder = {f"layer_{i}": {**params["decoder"][f"layer_{i}"], "kernel": k} for i, k in enumerate(transposed)}
    return {"encoder": params["encoder"], "decoder": decoder}


def test_the_gradient_of_a_tied_kernel_is_encoder_gradient_plus_transposed_decoder_gradient():
    net = nets.mlp(20, WIDTHS)
    untied = variants.plain(net)
    tied = variants.plain(nets.tied(net))
    params = tied.init(jax.random.key(0))
    x_bd = jax.random.normal(jax.random.key(1), (32, 20))
    gradient = jax.grad(lambda p: tied.loss(p, jax.random.key(2), x_bd, l2=0.0)[0])(params)
    untied_gradient = jax.grad(lambda p: untied.loss(p, jax.random.key(2), x_bd, l2=0.0)[0])(untie(params))
    for i, kernel_gradient in enumerate(kernels(gradient, "encoder")):
        of_encoder = kernels(untied_gradient, "encoder")[i]
        of_decoder = kernels(untied_gradient, "decoder")[len(WIDTHS) - 1 - i]
        np.testing.assert_allclose(kernel_gradient, of_encoder + of_decoder.T, rtol=1e-5, atol=1e-7)
        assert np.abs(of_decoder).max() > 1e-4  # more than a rounding error


def test_a_trained_tied_net_equals_the_net_with_transposed_kernels_bit_for_bit():
    dataset = small_dataset(inputs=20)
    net = nets.mlp(20, WIDTHS)
    tied = variants.plain(nets.tied(net))
    fit = train.fit(tied, dataset, seed=0, epochs=5, batch_size=16, learning_rate=0.01, l2=0.001)
    x_bd = jnp.asarray(dataset.floats(dataset.x_test))
    reconstruction_bd = tied.decode(fit.params, tied.encode(fit.params, x_bd))
    expected_bd = net.decode(untie(fit.params), net.encode(untie(fit.params), x_bd))
    np.testing.assert_array_equal(reconstruction_bd, expected_bd)
    assert not np.array_equal(kernels(fit.params, "encoder")[0], kernels(tied.init(jax.random.key(0)), "encoder")[0])


def test_l2_is_half_the_sum_of_squared_kernels_and_counts_a_tied_kernel_once():
    net = nets.mlp(20, WIDTHS)
    params = jax.tree.map(lambda leaf: leaf + 1.0, nets.tied(net).init(jax.random.key(0)))
    once = sum(float(np.square(k, dtype=np.float64).sum()) for k in kernels(params, "encoder")) / 2
    assert float(penalties.l2(params)) == pytest.approx(once, rel=1e-5)
    assert float(penalties.l2(untie(params))) == pytest.approx(2 * once, rel=1e-5)
    gradient = jax.grad(penalties.l2)(params)
    np.testing.assert_allclose(kernels(gradient, "encoder")[0], kernels(params, "encoder")[0], rtol=1e-6)
    assert not np.any(gradient["decoder"]["layer_0"]["bias"])


def test_a_decoder_that_does_not_mirror_cannot_be_tied():
    with pytest.raises(ConfigError, match=r"decoder kernels .*\(8, 20\).* do not mirror encoder kernels .*\(9, 7\)"):
        nets.tied(nets.mlp(20, WIDTHS, decoder_widths=(7, 8)))


def test_cross_entropy_equals_its_definition_and_is_finite_for_extreme_logits():
    logits = jnp.asarray([[-3.0, 0.0, 2.5]])
    x = jnp.asarray([[0.2, 0.5, 0.9]])
    p = 1 / (1 + np.exp(-np.asarray(logits, np.float64)))
    by_definition = -(x * np.log(p) + (1 - x) * np.log(1 - p)).mean()
    assert float(penalties.cross_entropy(logits, x)) == pytest.approx(float(by_definition), rel=1e-5)
    extreme = penalties.cross_entropy(jnp.asarray([[1e4, -1e4, 1e4]]), jnp.asarray([[0.0, 1.0, 1.0]]))
    assert float(extreme) == pytest.approx(2e4 / 3, rel=1e-5)


@pytest.mark.parametrize("widths", [(), (0,), (3, -1), 8, "88", (2.5,), (True,)])
def test_invalid_sizes_are_refused(widths):
    with pytest.raises(ConfigError, match="widths"):
        nets.mlp(64, widths)
    with pytest.raises(ConfigError, match="inputs"):
        nets.mlp(0, (3,))


def test_rows_of_the_wrong_type_or_width_are_refused():
    net = nets.mlp(20, (3,))
    params = net.init(jax.random.key(0))
    with pytest.raises(DataError, match=r"uint8 rows; pass floats .* dataset\.floats\(x\)"):
        net.encode(params, jnp.ones((2, 20), jnp.uint8))
    with pytest.raises(DataError, match="19 columns, the net has 20 inputs"):
        net.encode(params, jnp.ones((2, 19)))


def test_equal_arguments_give_the_same_net():
    assert nets.mlp(inputs=20, widths=[9, 7, 3], bias=True) is nets.mlp(20, WIDTHS)
    assert nets.mlp(20, WIDTHS, decoder_widths=[7, 9]) is nets.mlp(20, WIDTHS)
    assert nets.tied(nets.mlp(20, WIDTHS)) is nets.tied(nets.mlp(20, WIDTHS))
    assert nets.mlp(20, WIDTHS, activation=jax.nn.relu) is not nets.mlp(20, WIDTHS)


def test_glorot_gives_a_kernel_and_its_mirror_equal_variance_and_bias_false_leaves_biases_out():
    net = nets.mlp(400, (200,), initialiser="glorot", bias=False)
    params = net.init(jax.random.key(0))
    assert jax.tree.map(jnp.shape, params) == {
        "encoder": {"layer_0": {"kernel": (400, 200)}},
        "decoder": {"layer_0": {"kernel": (200, 400)}},
    }
    for kernel in nets.affine_kernels(params):
        assert float(kernel.var()) == pytest.approx(2 / 600, rel=0.03)
    tied = nets.tied(net)
    stored = tied.init(jax.random.key(0))
    assert list(stored) == ["encoder"]
    encoder_dk, decoder_kd = nets.affine_kernels(stored)
    np.testing.assert_array_equal(decoder_kd, encoder_dk.T)
    z_bk = jnp.ones((2, 200))
    np.testing.assert_array_equal(
        tied.decode(stored, z_bk), net.decode({"decoder": {"layer_0": {"kernel": encoder_dk.T}}}, z_bk)
    )


MASKED_STARTS = {
    "one layer": (lambda: nets.mlp(400, (200,)), {"encoder layer_0": 2 / 400, "decoder layer_0": 2 / 100}),
    "deep": (lambda: nets.mlp(60, (300, 200)), {"encoder layer_1": 2 / 300, "decoder layer_0": 2 / 100}),
    "one layer, Glorot": (
        lambda: nets.mlp(400, (200,), initialiser="glorot", bias=False),
        {"encoder layer_0": 2 / 500, "decoder layer_0": 2 / 500},
    ),
    "deep, Glorot": (
        lambda: nets.mlp(60, (300, 200), initialiser="glorot"),
        {"encoder layer_1": 2 / 400, "decoder layer_0": 2 / 400},
    ),
    "other decoder, Glorot": (
        lambda: nets.mlp(60, (300, 200), decoder_widths=(150,), initialiser="glorot"),
        {"encoder layer_1": 2 / 400, "decoder layer_0": 2 / 250},
    ),
    "convolutional": (
        lambda: nets.conv(64, (16, 200), image_shape=(8, 8)),
        {"encoder layer_1": 2 / (4 * 4 * 16), "decoder layer_0": 2 / 100},
    ),
    "recurrent": (
        lambda: nets.recurrent(8, (64, 200), image_shape=(2, 4)),
        {"encoder layer_1": 2 / 64, "decoder layer_0": 1 / 100, "decoder layer_1 in": 1 / 100},
    ),
}
"""Nets of 200 codings, and the variance of the kernels of each layer next to the codings where there are 100."""


@pytest.mark.parametrize(("build", "variances"), MASKED_STARTS.values(), ids=MASKED_STARTS)
def test_a_masked_net_starts_with_the_variances_of_the_smaller_net(build, variances):
    wide = build()
    params = nets.slice_codings(jax.jit(wide.init)(jax.random.key(0), 100), wide.coding_axes, 100)
    for layer, variance in variances.items():
        kernel = functools.reduce(operator.getitem, layer.split(), params)["kernel"]
        assert float(kernel.var()) == pytest.approx(variance, rel=0.08), layer


def test_which_nets_are_affine_and_which_codings_linear():
    for net, affine, linear in (
        (nets.mlp(6, (2,)), True, True),
        (nets.tied(nets.mlp(6, (2,))), True, True),
        (nets.mlp(6, (4, 2)), False, True),
        (nets.mlp(6, (2,), decoder_widths=(4,)), False, True),
        (nets.mlp(6, (2,), coding_activation=jax.nn.tanh), False, False),
    ):
        assert (net.affine, net.linear_codings) == (affine, linear)
