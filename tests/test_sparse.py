"""Sparse variants, each compared with its formula written in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

from aejax import nets, variants
from aejax.config.sweep import Sweep
from aejax.evaluation import scores
from aejax.runtime.errors import ConfigError
from aejax.variants.penalties import cross_entropy
from aejax.variants.sparse import columns
from aejax.variants.sparse.dictionary import unit_columns
from aejax.variants.sparse.jump_relu import jump, step
from aejax.variants.sparse.kl import kl_of_mean
from aejax.variants.sparse.selection import largest
from every_variant import ON_DICTIONARIES
from sparse_nets import CODINGS, INPUTS, KEY, NET, ROWS, TIED, TOPK, error_of, moved, thresholded, top, units_of
from support import small_dataset


@pytest.fixture
def x_bd():
    return jnp.asarray(np.random.default_rng(0).uniform(0, 1, (ROWS, INPUTS)), jnp.float32)


@pytest.mark.parametrize("count", [1, 5, CODINGS, CODINGS + 3])
def test_largest_agrees_with_numpy(count):
    values_bk = np.random.default_rng(1).normal(size=(ROWS, CODINGS)).astype(np.float32)
    values_bk[0] = 0.0
    mask_bk = np.asarray(largest(jnp.asarray(values_bk), count))
    assert (mask_bk.sum(axis=1) == min(count, CODINGS)).all()
    for value_k, mask_k in zip(values_bk[1:], mask_bk[1:], strict=True):
        assert set(value_k[mask_k]) == set(np.sort(value_k)[-count:])
    assert list(np.flatnonzero(mask_bk[0])) == list(range(min(count, CODINGS)))  # the first of equal values
    whole = np.asarray(largest(jnp.asarray(values_bk), count * ROWS / 2, of_batch=True))
    assert whole.sum() == min(count * ROWS / 2, values_bk.size)
    smallest = np.sort(values_bk, axis=None)[-int(whole.sum())]
    assert values_bk[whole].min() == smallest
    assert whole[values_bk > smallest].all()


def test_largest_takes_a_traced_count_and_infinite_values():
    values_bk = jnp.asarray([[-jnp.inf, 2.0, -1.0, 2.0], [3.0, jnp.inf, -jnp.inf, -jnp.inf]])
    masks = jax.jit(jax.vmap(lambda count: largest(values_bk, count)))(jnp.asarray([1.0, 1.5, 3.0]))
    expected = [
        [[False, True, False, False], [False, True, False, False]],
        [[False, True, False, True], [True, True, False, False]],
        [[False, True, True, True], [True, True, True, False]],
    ]
    np.testing.assert_array_equal(masks, expected)


@pytest.mark.parametrize("net", [NET, TIED], ids=["untied", "tied"])
@pytest.mark.parametrize("name", ON_DICTIONARIES)
def test_a_dictionary_starts_with_columns_of_length_1_and_its_encoder_as_their_transpose(name, net):
    function, options, _ = ON_DICTIONARIES[name]
    params = function(net, **options).init(KEY)
    kernel_dk = params["encoder"]["layer_0"]["kernel"]
    np.testing.assert_allclose(np.linalg.norm(kernel_dk, axis=0), 1.0, rtol=1e-5)
    np.testing.assert_array_equal(kernel_dk.T, columns(params))


@pytest.mark.parametrize("name", ON_DICTIONARIES)
def test_rows_are_centred_by_the_reconstruction_of_codings_of_zero(name, x_bd):
    """With a sigmoid this is the sigmoid of the decoder's bias; without an output activation it is the bias itself."""
    function, options, _ = ON_DICTIONARIES[name]
    linear = function(NET, **options)
    squashed = function(NET, **options, output=jax.nn.sigmoid)
    params = moved(squashed)
    bias_d = params["decoder"]["layer_0"]["bias"]
    moved_bd = x_bd + (bias_d - scipy.special.expit(np.asarray(bias_d)))[None, :]
    z_bk = squashed.encode(params, x_bd)
    np.testing.assert_allclose(z_bk, linear.encode(params, moved_bd), atol=1e-5)
    assert np.any(z_bk)


def test_topk_keeps_the_largest_units_and_remembers_their_number(x_bd):
    autoencoder = variants.topk(NET)
    params = moved(autoencoder)
    loss, metrics = autoencoder.loss(params, KEY, x_bd, active=3.0, revive=0.0, l2=0.1)
    units_bk, kernel_kd, bias_d = units_of(params, x_bd)
    z_bk = top(units_bk, 3)
    error = error_of(z_bk, kernel_kd, bias_d, x_bd)
    l2 = sum(float((np.asarray(params[part]["layer_0"]["kernel"]) ** 2).sum() / 2) for part in ("encoder", "decoder"))
    assert float(metrics["error"]) == pytest.approx(error, rel=1e-5)
    assert float(loss) == pytest.approx(error + 0.1 * l2, rel=1e-5)
    assert autoencoder.post_update is not None
    updated = autoencoder.post_update(params, metrics)
    np.testing.assert_allclose(autoencoder.encode(updated, x_bd), z_bk, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(updated["memory"]["idle"], np.where((z_bk > 0).any(axis=0), 0, 1))


def test_kl_of_mean_agrees_with_scipy_and_is_finite_for_extreme_logits():
    logits_bk = np.random.default_rng(2).normal(size=(ROWS, CODINGS)).astype(np.float32) * 3
    mean_k = scipy.special.expit(logits_bk.astype(np.float64)).mean(axis=0)
    expected_k = scipy.special.rel_entr(0.05, mean_k) + scipy.special.rel_entr(0.95, 1 - mean_k)
    np.testing.assert_allclose(kl_of_mean(jnp.asarray(logits_bk), 0.05), expected_k, rtol=1e-5)
    for logit in (1e4, -1e4):
        value, gradient = jax.value_and_grad(lambda z: kl_of_mean(z, 0.05).sum())(jnp.full((4, 1), logit))
        assert float(value) == pytest.approx(0.95e4 if logit > 0 else 0.05e4, rel=1e-3)
        assert np.isfinite(gradient).all()


def test_kl_sparse_adds_the_divergence_of_unmasked_codings(x_bd):
    autoencoder = variants.kl_sparse(NET)
    hyper = {"sparsity": 0.5, "target": 0.1, "l2": 0.0}
    params = autoencoder.init(KEY)
    mean_k = np.asarray(autoencoder.encode(params, x_bd), np.float64).mean(axis=0)
    kl = (scipy.special.rel_entr(0.1, mean_k) + scipy.special.rel_entr(0.9, 1 - mean_k)).sum()
    loss, metrics = autoencoder.loss(params, KEY, x_bd, **hyper)
    assert float(loss - metrics["error"]) == pytest.approx(0.5 * kl, rel=1e-4)
    masked = nets.mask_codings(params, autoencoder.coding_axes, 5)
    smaller = nets.slice_codings(params, autoencoder.coding_axes, 5)
    expected = variants.kl_sparse(nets.mlp(INPUTS, (5,))).loss(smaller, KEY, x_bd, **hyper)[0]
    assert float(autoencoder.loss(masked, KEY, x_bd, **hyper)[0]) == pytest.approx(float(expected), rel=1e-5)


def test_batch_topk_keeps_the_largest_units_of_the_batch_and_encodes_with_a_running_threshold(x_bd):
    autoencoder = variants.batch_topk(NET, memory_of=0.75)
    params = moved(autoencoder)
    units_bk, kernel_kd, bias_d = units_of(params, x_bd)
    smallest = np.sort(units_bk, axis=None)[-3 * ROWS]
    assert smallest > 0
    z_bk = np.where(units_bk >= smallest, units_bk, 0)
    assert (z_bk > 0).sum() == 3 * ROWS
    assert len(set((z_bk > 0).sum(axis=1))) > 1  # rows keep different numbers
    _, metrics = autoencoder.loss(params, KEY, x_bd, **TOPK, progress=0.5)
    assert float(metrics["error"]) == pytest.approx(error_of(z_bk, kernel_kd, bias_d, x_bd), rel=1e-5)
    assert autoencoder.post_update is not None
    updated = autoencoder.post_update(params, metrics)
    assert float(updated["memory"]["threshold"]) == pytest.approx(smallest, rel=1e-5)
    _, metrics = autoencoder.loss(updated, KEY, x_bd, **{**TOPK, "active": 1.0}, progress=0.5)
    smallest_of_fewer = np.sort(units_bk, axis=None)[-ROWS]
    later = autoencoder.post_update(updated, metrics)
    threshold = 0.75 * smallest + 0.25 * smallest_of_fewer
    assert float(later["memory"]["threshold"]) == pytest.approx(threshold, rel=1e-5)
    kept_bk = np.where(units_bk > threshold, units_bk, 0)
    np.testing.assert_allclose(autoencoder.encode(later, x_bd), kept_bk, rtol=1e-4, atol=1e-5)
    evaluated = autoencoder.loss(later, KEY, x_bd, **TOPK, progress=1.0)[1]["error"]
    assert float(evaluated) == pytest.approx(error_of(kept_bk, kernel_kd, bias_d, x_bd), rel=1e-5)


def test_the_pseudo_derivative_of_step_is_the_derivative_of_its_mean_under_uniform_noise():
    bandwidth = 0.2
    h = 0.01
    noise_n = (np.arange(100_000) + 0.5) / 100_000 - 0.5
    for unit in (0.1, 0.45, 0.53, 0.57, 0.9):

        def expected(threshold, unit=unit):
            return np.mean(unit + bandwidth * noise_n > threshold)

        gradient = jax.grad(lambda t, u=unit: step(jnp.full((1, 1), u), jnp.full((1, 1), t), bandwidth)[0, 0])(0.5)
        assert float(gradient) == pytest.approx((expected(0.5 + h) - expected(0.5 - h)) / (2 * h), rel=1e-3, abs=1e-6)


def test_the_pseudo_derivative_of_jump_is_the_derivative_of_its_mean_over_units():
    n = 200_000
    h = 0.02
    units_n1 = scipy.special.ndtri((np.arange(n) + 0.5) / n)[:, None]  # normal quantiles: their mean is the expectation
    threshold = 0.8
    u = jnp.asarray(units_n1, jnp.float32)

    def expected(t):
        return np.mean(np.where(units_n1 > t, units_n1, 0))

    def mean_jump(t):
        return jump(u, jnp.full((1, 1), t), 0.05).mean()

    difference = (expected(threshold + h) - expected(threshold - h)) / (2 * h)
    assert float(mean_jump(threshold)) == pytest.approx(expected(threshold), rel=1e-4)
    assert float(jax.grad(mean_jump)(threshold)) == pytest.approx(difference, rel=0.01)
    density = np.exp(-(threshold**2) / 2) / np.sqrt(2 * np.pi)
    assert difference == pytest.approx(-threshold * density, rel=0.01)
    by_unit = jax.grad(lambda v: jump(v, jnp.full((1, 1), threshold), 0.05).sum())(u)
    np.testing.assert_array_equal(by_unit, units_n1.astype(np.float32) > np.float32(threshold))


def test_the_jump_relu_loss_is_the_error_plus_a_price_per_active_coding(x_bd):
    autoencoder = variants.jump_relu(NET, first_threshold=0.3)
    params = unit_columns(moved(autoencoder))
    units_bk, kernel_kd, bias_d = units_of(params, x_bd)
    z_bk = np.where(units_bk > np.exp(params["threshold"]["log"]), units_bk, 0)
    np.testing.assert_allclose(autoencoder.encode(params, x_bd), z_bk, rtol=1e-4, atol=1e-5)
    loss = autoencoder.loss(params, KEY, x_bd, l0=0.01, bandwidth=0.1, revive=0.0, l2=0.0)[0]
    error = error_of(z_bk, kernel_kd, bias_d, x_bd)
    assert 0 < (z_bk > 0).mean() < 1
    assert float(loss) == pytest.approx(error + 0.01 * (z_bk > 0).sum(axis=1).mean(), rel=1e-5)


def test_gated_follows_its_formula_and_the_auxiliary_error_has_no_decoder_gradient(x_bd):
    autoencoder = variants.gated(NET)
    params = unit_columns(moved(autoencoder))
    gate_bk, kernel_kd, bias_d = units_of(params, x_bd)
    magnitude = {name: np.asarray(leaf, np.float64) for name, leaf in params["magnitude"].items()}
    linear_bk = (np.asarray(x_bd, np.float64) - bias_d) @ np.asarray(params["encoder"]["layer_0"]["kernel"], np.float64)
    z_bk = (gate_bk > 0) * np.maximum(linear_bk * np.exp(magnitude["log_scale"]) + magnitude["bias"], 0)
    np.testing.assert_allclose(autoencoder.encode(params, x_bd), z_bk, rtol=1e-4, atol=1e-5)
    open_bk = np.maximum(gate_bk, 0)
    errors = [error_of(codings, kernel_kd, bias_d, x_bd) for codings in (z_bk, open_bk)]
    loss = autoencoder.loss(params, KEY, x_bd, l1=0.01, revive=0.0, l2=0.0)[0]
    assert float(loss) == pytest.approx(sum(errors) + 0.01 * open_bk.sum(axis=1).mean(), rel=1e-5)

    def gradient_of(name):
        return jax.grad(lambda p: autoencoder.loss(p, KEY, x_bd, l1=0.01, revive=0.0, l2=0.0)[1][name])(params)

    assert not np.any(gradient_of("auxiliary")["decoder"]["layer_0"]["kernel"])
    assert np.any(gradient_of("auxiliary")["encoder"]["layer_0"]["bias"])
    assert not np.any(gradient_of("error")["encoder"]["layer_0"]["bias"])  # the gate's bias: its step has no derivative


def test_the_l1_loss_is_the_error_plus_the_sum_of_the_codings_for_columns_of_length_1(x_bd):
    autoencoder = variants.l1_sparse(NET)
    params = unit_columns(moved(autoencoder))
    units_bk, kernel_kd, bias_d = units_of(params, x_bd)
    z_bk = np.maximum(units_bk, 0)
    loss = autoencoder.loss(params, KEY, x_bd, l1=0.01, revive=0.0, l2=0.0)[0]
    error = error_of(z_bk, kernel_kd, bias_d, x_bd)
    assert float(loss) == pytest.approx(error + 0.01 * z_bk.sum(axis=1).mean(), rel=1e-5)
    gradients = jax.grad(lambda p: autoencoder.loss(p, KEY, x_bd, l1=0.01, revive=0.0, l2=0.0)[0])(params)
    along_k = (np.asarray(gradients["decoder"]["layer_0"]["kernel"]) * kernel_kd).sum(axis=1)
    np.testing.assert_allclose(along_k, 0, atol=1e-6)  # a longer column does not lower the loss


@thresholded
def test_columns_stay_at_length_1_and_masked_ones_at_0(name, hyper):
    hyper = {**hyper, "revive": 0.1, "l2": 0.1}
    ones_bd = jnp.ones((2, INPUTS))
    for net in (NET, TIED):
        autoencoder = getattr(variants, name)(net, dead_after=1)
        params = autoencoder.init(KEY, 5)
        assert autoencoder.post_update is not None
        gradients, metrics = jax.grad(lambda p, a=autoencoder: a.loss(p, KEY, ones_bd, **hyper), has_aux=True)(params)
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradients))
        stepped = jax.tree.map(
            lambda p, g: p - 0.1 * g, params, nets.mask_codings(gradients, autoencoder.coding_axes, 5)
        )
        lengths_k = np.linalg.norm(columns(autoencoder.post_update(stepped, metrics)), axis=1)
        np.testing.assert_allclose(lengths_k, [1] * 5 + [0] * (CODINGS - 5), rtol=1e-5)
        z_bk = autoencoder.encode(stepped, ones_bd)
        assert not np.any(z_bk[:, 5:])


def test_matryoshka_without_prefixes_is_topk_and_each_prefix_adds_its_error(x_bd):
    topk = variants.topk(NET)
    nested = variants.matryoshka(NET, prefixes=(3, 8))
    params = moved(topk)
    hyper = {**TOPK, "revive": 0.1, "l2": 0.01}
    params["memory"]["idle"] = params["memory"]["idle"].at[2].set(500.0)
    of_topk, without_prefixes = (
        jax.value_and_grad(lambda p, a=a: a.loss(p, KEY, x_bd, **hyper)[0])(params)
        for a in (topk, variants.matryoshka(NET, prefixes=()))
    )
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), of_topk, without_prefixes)
    units_bk, kernel_kd, bias_d = units_of(params, x_bd)
    z_bk = top(units_bk, 3)
    errors = [error_of(z_bk[:, :m], kernel_kd[:m], bias_d, x_bd) for m in (3, 8, CODINGS)]
    loss, metrics = nested.loss(params, KEY, x_bd, **TOPK)
    assert float(loss) == pytest.approx(sum(errors), rel=1e-5)
    assert float(metrics["error"]) == pytest.approx(errors[-1], rel=1e-5)
    assert nested.coding_axes == ()


@pytest.mark.parametrize(("codings", "prefixes"), [(CODINGS, (1, 2, 4, 8)), (40, (2, 5, 10, 20)), (4, (1, 2))])
def test_the_default_prefixes_of_matryoshka_are_a_sixteenth_to_a_half_of_the_codings(codings, prefixes, x_bd):
    autoencoder = variants.matryoshka(nets.mlp(INPUTS, (codings,)))
    params = moved(autoencoder)
    units_bk, kernel_kd, bias_d = units_of(params, x_bd)
    z_bk = top(units_bk, 3)
    expected = sum(error_of(z_bk[:, :m], kernel_kd[:m], bias_d, x_bd) for m in prefixes)
    metrics = autoencoder.loss(params, KEY, x_bd, **TOPK)[1]
    assert float(metrics["nested_error"]) == pytest.approx(expected, rel=1e-5)


SWEEP = {"dataset": "digits", "widths": (80,), "epochs": 1, "batch_size": 64, "variant": variants.topk}
SWEEP |= {"hyper": {"learning_rate": 0.01, "active": (3, 6), "revive": 0.0, "l2": 0.0}, "scores": (scores.sparsity(),)}


def test_there_may_be_more_codings_than_inputs_or_rows():
    Sweep(**SWEEP).check_shape(100, 64)
    Sweep(**{**SWEEP, "widths": (200,)}).check_data(small_dataset())


def test_invalid_options_and_hyper_parameters_are_refused(refused):
    stacked = nets.mlp(INPUTS, (8, 3))
    for name in ("l1_sparse", "topk", "batch_topk", "jump_relu", "gated", "matryoshka"):
        build = getattr(variants, name)
        for net in (stacked, nets.tied(stacked)):
            call = lambda build=build, net=net: build(net)  # noqa: E731
            refused(ConfigError, "decoder_widths", "2 layers", "decoder_widths=()", call=call)
        refused(ConfigError, "error", "sigmoid", call=lambda build=build: build(NET, error=cross_entropy))
    refused(ConfigError, "dead_after", "0", call=lambda: variants.topk(NET, dead_after=0))
    for build in (variants.l1_sparse, variants.jump_relu, variants.gated):
        refused(ConfigError, "dead_after", "0", call=lambda build=build: build(NET, dead_after=0))
    refused(ConfigError, "revived", "0", call=lambda: variants.matryoshka(NET, revived=0))
    refused(ConfigError, "memory_of", "1.0", call=lambda: variants.batch_topk(NET, memory_of=1.0))
    refused(ConfigError, "first_threshold", "0", call=lambda: variants.jump_relu(NET, first_threshold=0.0))
    for prefixes in ((4, 3), (4, 4), (CODINGS,), (0,)):
        refused(ConfigError, "prefixes", call=lambda p=prefixes: variants.matryoshka(NET, prefixes=p))
    for active in (0, 81, -1):
        hyper = {**SWEEP["hyper"], "active": active}
        refused(ConfigError, "Sweep.hyper.active", call=lambda h=hyper: Sweep(**{**SWEEP, "hyper": h}))
    fewer = {**SWEEP["hyper"], "codings": (4, 80)}
    refused(ConfigError, "Sweep.hyper.active", "6 active", call=lambda: Sweep(**{**SWEEP, "hyper": fewer}))
    refused(ConfigError, "Sweep.coding_activation", call=lambda: Sweep(**SWEEP, coding_activation=jax.nn.relu))
    target = {"learning_rate": 0.01, "sparsity": 1.0, "target": 1.0, "l2": 0.0}
    kl = {**SWEEP, "variant": variants.kl_sparse, "hyper": target}
    refused(ConfigError, "Sweep.hyper.target", call=lambda: Sweep(**kl))
