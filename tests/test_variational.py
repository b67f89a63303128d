"""Variational: every formula compared with a second derivation, and refused options."""

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats

from aejax import nets, variants
from aejax.evaluation import scores
from aejax.runtime.errors import ConfigError
from aejax.variants import likelihoods
from aejax.variants.penalties import cross_entropy

RNG = np.random.default_rng(0)
NET = nets.mlp(12, (8, 3))
BERNOULLI = {"output": jax.nn.sigmoid, "error": cross_entropy}
PLAIN = {"beta": 1.0, "warmup": 0.0, "free_bits": 0.0, "l2": 0.0}
X_BD = jnp.asarray(RNG.uniform(0, 1, (16, 12)), jnp.float32)


def build(net=NET, **options) -> Any:
    return variants.variational(net, **options)


def initial(autoencoder, **changed):
    """Parameters whose posteriors differ from the prior: the biases of the log variances are not zero."""
    params = jax.jit(autoencoder.init)(jax.random.key(3))
    params["posterior"]["log_variance"]["bias"] = jnp.asarray([-1.0, 0.5, -2.0])
    return {**params, **changed}


def metrics_of(autoencoder, params, key=0, progress=1.0, **hyper):
    value, metrics = jax.jit(autoencoder.loss)(params, jax.random.key(key), X_BD, progress=progress, **PLAIN | hyper)
    return float(value), {name: float(metric) for name, metric in metrics.items()}


def test_log_bernoulli_and_its_gradient_agree_with_the_plain_formula():
    logits = RNG.normal(0, 4, (5, 300))
    x = RNG.uniform(0, 1, (5, 300))
    log_p = likelihoods.log_bernoulli(jnp.asarray(logits, jnp.float32), jnp.asarray(x, jnp.float32))
    p = scipy.special.expit(logits)
    np.testing.assert_allclose(log_p, (x * np.log(p) + (1 - x) * np.log1p(-p)).sum(axis=1), rtol=1e-5)

    def plain_formula(logits_bd, x_bd):
        return jnp.sum(x_bd * jax.nn.log_sigmoid(logits_bd) + (1 - x_bd) * jax.nn.log_sigmoid(-logits_bd))

    arrays = jnp.asarray(logits, jnp.float32), jnp.asarray(x, jnp.float32)
    gradients = jax.grad(lambda *both: likelihoods.log_bernoulli(*both).sum(), argnums=(0, 1))(*arrays)
    for gradient, expected in zip(gradients, jax.grad(plain_formula, argnums=(0, 1))(*arrays), strict=True):
        np.testing.assert_allclose(gradient, expected, atol=1e-5)
    extreme = likelihoods.log_bernoulli(jnp.asarray([[1e4, -1e4], [-1e4, 1e4]]), jnp.asarray([[1.0, 0.0]] * 2))
    np.testing.assert_allclose(extreme, [0.0, -2e4])


def test_log_normal_kl_and_log_ratio_agree_with_scipy_and_with_draws():
    mean = np.array([0.5, 0.0, -2.0])
    log_variance = np.array([-1.0, 0.0, 0.7])
    kl_k = likelihoods.kl_normal(jnp.asarray(mean, jnp.float32), jnp.asarray(log_variance, jnp.float32))
    deviation = np.exp(log_variance / 2)
    expected = []
    for m, s in zip(mean, deviation, strict=True):
        u = np.linspace(-12, 12, 20_001)
        log_q = scipy.stats.norm.logpdf(u, m, s)
        expected.append(np.trapezoid(np.exp(log_q) * (log_q - scipy.stats.norm.logpdf(u)), u))
    np.testing.assert_allclose(kl_k, expected, atol=1e-6)
    assert kl_k[1] == 0
    noise = RNG.normal(size=(100_000, 3)).astype(np.float32)
    z = mean + deviation * noise
    ratios = likelihoods.log_ratio(
        jnp.asarray(z, jnp.float32), jnp.asarray(log_variance, jnp.float32)[None], jnp.asarray(noise)
    )
    np.testing.assert_allclose(-ratios.mean(axis=0), expected, atol=0.02)
    x = RNG.normal(size=(4, 3))
    x_variance = 0.3
    density = scipy.stats.norm.logpdf(x, mean, np.sqrt(x_variance)).sum(axis=1)
    arrays = jnp.asarray(x, jnp.float32), jnp.broadcast_to(jnp.asarray(mean, jnp.float32), (4, 3))
    np.testing.assert_allclose(likelihoods.log_normal(*arrays, jnp.float32(x_variance)), density, rtol=1e-5)


@pytest.mark.parametrize("options", [{"variance": "learned"}, BERNOULLI])
def test_the_loss_is_the_bound_estimated_by_log_weights(options):
    """`nelbo`, which has the KL in closed form, agrees with the mean of log weights, and `kl` with the posteriors."""
    autoencoder = build(**options)
    params = initial(autoencoder)
    generative = autoencoder.generative
    weigh = jax.jit(jax.vmap(lambda key: generative.log_weights(params, key, X_BD)))
    logs = weigh(jax.random.split(jax.random.key(1), 4000))
    many = [metrics_of(autoencoder, params, key) for key in range(200)]
    error = np.std([metrics["nelbo"] for _, metrics in many]) / np.sqrt(200)
    assert np.mean([metrics["nelbo"] for _, metrics in many]) == pytest.approx(-float(logs.mean()), abs=5 * error)
    assert many[0][0] == pytest.approx(many[0][1]["nelbo"], rel=1e-6)
    mean, log_variance = (np.asarray(array, np.float64) for array in generative.posterior(params, X_BD))
    kl = 0.5 * (np.exp(log_variance) + mean**2 - 1 - log_variance).sum(axis=1).mean()
    assert many[0][1]["kl"] == pytest.approx(kl, rel=1e-5)
    np.testing.assert_allclose(mean, autoencoder.encode(params, X_BD), rtol=1e-6)


def test_beta_warmup_and_free_bits_change_the_loss_and_not_the_metrics():
    autoencoder = build(**BERNOULLI)
    params = initial(autoencoder)
    loss, plain = metrics_of(autoencoder, params)
    distortion = loss - plain["kl"]
    for beta, warmup, progress, weight in ((3, 0, 0, 3), (3, 0.4, 0.1, 0.75), (3, 0.4, 0.4, 3), (1, 0.5, 0, 0)):
        value, metrics = metrics_of(autoencoder, params, beta=beta, warmup=warmup, progress=progress)
        assert value == pytest.approx(distortion + weight * plain["kl"], rel=1e-5)
        assert metrics == pytest.approx(plain)
    mean, log_variance = autoencoder.generative.posterior(params, X_BD)
    kl_k = np.asarray(likelihoods.kl_normal(mean, log_variance)).mean(axis=0)
    between = float(np.sort(kl_k)[:2].mean())  # one coding is below it, two are above
    value, metrics = metrics_of(autoencoder, params, free_bits=between)
    assert value == pytest.approx(distortion + np.maximum(kl_k, between).sum(), rel=1e-5)
    assert metrics == pytest.approx(plain)

    def loss_at(params):
        return autoencoder.loss(params, jax.random.key(0), X_BD, progress=1.0, **PLAIN | {"free_bits": 1e6})[0]

    def distortion_at(params):
        return autoencoder.loss(params, jax.random.key(0), X_BD, progress=1.0, **PLAIN | {"beta": 0.0})[0]

    free = jax.jit(jax.grad(loss_at))(params)
    without_kl = jax.jit(jax.grad(distortion_at))(params)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), free, without_kl)


def test_the_importance_weighted_bound_is_the_log_of_the_mean_weight():
    """Two samples: the bound computed in float64 from the same draws."""
    autoencoder = build(variance="learned", samples=2)
    params = initial(autoencoder)
    hyper = {name: value for name, value in PLAIN.items() if name != "free_bits"}
    value, metrics = jax.jit(autoencoder.loss)(params, jax.random.key(0), X_BD, progress=1.0, **hyper)
    mean, log_variance = (np.asarray(a, np.float64) for a in autoencoder.generative.posterior(params, X_BD))
    noise = np.asarray(jax.random.normal(jax.random.split(jax.random.key(0))[1], (2, 16, 3)), np.float64)
    z = mean + np.exp(log_variance / 2) * noise
    logs = []
    ratios = []
    for z_bk in z:
        decoded = np.asarray(autoencoder.decode(params, jnp.asarray(z_bk, jnp.float32)), np.float64)
        log_p = scipy.stats.norm.logpdf(np.asarray(X_BD, np.float64), decoded, np.sqrt(1 + 1e-6)).sum(axis=1)
        log_q = scipy.stats.norm.logpdf(z_bk, mean, np.exp(log_variance / 2)).sum(axis=1)
        ratios.append(scipy.stats.norm.logpdf(z_bk).sum(axis=1) - log_q)
        logs.append(log_p + ratios[-1])
    expected = (scipy.special.logsumexp(logs, axis=0) - np.log(2)).mean()
    assert float(value) == pytest.approx(-expected, rel=1e-5)
    assert float(metrics["bound"]) == pytest.approx(-expected, rel=1e-5)
    kl = 0.5 * (np.exp(log_variance) + mean**2 - 1 - log_variance).sum(axis=1).mean()
    distortion = -np.mean([np.subtract(log, ratio) for log, ratio in zip(logs, ratios, strict=True)])
    assert float(metrics["nelbo"]) == pytest.approx(kl + distortion, rel=1e-5)
    assert float(metrics["bound"]) <= float(metrics["nelbo"])
    weighted = jax.jit(autoencoder.loss)(params, jax.random.key(0), X_BD, progress=1.0, **{**hyper, "beta": 0.25})[0]
    logs_of_weights = [log - 0.75 * ratio for log, ratio in zip(logs, ratios, strict=True)]
    expected = (scipy.special.logsumexp(logs_of_weights, axis=0) - np.log(2)).mean()
    assert float(weighted) == pytest.approx(-expected, rel=1e-5)


def test_optimal_and_learned_variances_have_the_same_fixed_point():
    """Where the learned variance equals the optimal one, its gradient is zero and both losses are equal."""
    learned, optimal = (build(variance=name) for name in ("learned", "optimal"))
    optimal_params = initial(optimal)
    value, metrics = metrics_of(optimal, optimal_params)
    log_sigma = 0.5 * np.log(metrics["variance"] - 1e-6)
    params = {name: part for name, part in optimal_params.items() if name != "memory"}
    params["likelihood"] = {"log_sigma": jnp.float32(log_sigma)}
    assert metrics_of(learned, params)[0] == pytest.approx(value, rel=1e-6)

    def loss(autoencoder, params):
        return autoencoder.loss(params, jax.random.key(0), X_BD, progress=1.0, **PLAIN)[0]

    learned_gradient = jax.jit(jax.grad(lambda p: loss(learned, p)))(params)
    optimal_gradient = jax.jit(jax.grad(lambda p: loss(optimal, p)))(optimal_params)
    assert abs(float(learned_gradient.pop("likelihood")["log_sigma"])) < 1e-4
    del optimal_gradient["memory"]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4), learned_gradient, optimal_gradient)
    first = optimal.post_update(optimal_params, metrics)
    assert first["memory"]["variance"] == metrics["variance"]
    second = optimal.post_update(first, {"variance": 2 * metrics["variance"]})
    assert float(second["memory"]["variance"]) == pytest.approx(1.1 * metrics["variance"])
    fixed = build()
    remembered = fixed.post_update(initial(fixed), {"variance": jnp.float32(0.25)})["memory"]["variance"]
    assert remembered == 0.25


@pytest.mark.parametrize("remembered", [0.0, 0.1, 2.0])
def test_the_loss_takes_the_optimal_variance_of_the_batch_and_the_bound_the_remembered_one(remembered):
    """Both by SciPy, from the same draws. Where none is remembered yet, the bound takes that of the batch, too."""
    autoencoder = build(variance="optimal")
    params = initial(autoencoder, memory={"variance": jnp.float32(remembered)})
    value, metrics = metrics_of(autoencoder, params)
    mean_bk, log_variance_bk = autoencoder.generative.posterior(params, X_BD)
    noise_bk = jax.random.normal(jax.random.split(jax.random.key(0))[1], (1, 16, 3))[0]
    decoded_bd = np.asarray(autoencoder.decode(params, mean_bk + jnp.exp(log_variance_bk / 2) * noise_bk), np.float64)
    optimal = np.square(decoded_bd - X_BD).mean()

    def distortion(variance):
        return -scipy.stats.norm.logpdf(X_BD, decoded_bd, np.sqrt(variance)).sum(axis=1).mean()

    assert value - metrics["kl"] == pytest.approx(distortion(optimal), rel=1e-5)
    assert metrics["nelbo"] - metrics["kl"] == pytest.approx(distortion(remembered or optimal), rel=1e-5)


@pytest.mark.parametrize("options", [{}, {"output": jax.nn.sigmoid}, {"variance": "learned", "samples": 3}, BERNOULLI])
def test_the_recorded_error_is_that_of_the_decoded_mean(options):
    autoencoder = build(**options)
    params = initial(autoencoder)
    hyper = {name: PLAIN.get(name, 1.0) for name in variants.hyper_names(autoencoder)}
    metrics = jax.jit(autoencoder.loss)(params, jax.random.key(0), X_BD, progress=1.0, **hyper)[1]
    decoded_bd = np.asarray(autoencoder.decode(params, autoencoder.encode(params, X_BD)), np.float64)
    expected_bd = np.square(decoded_bd - X_BD)
    if options is BERNOULLI:
        expected_bd = -(X_BD * np.log(decoded_bd) + (1 - X_BD) * np.log1p(-decoded_bd))
    assert float(metrics["error"]) == pytest.approx(float(expected_bd.mean()), rel=1e-5)


@pytest.mark.parametrize("variance", ["fixed", "learned", "optimal"])
def test_sampled_rows_have_the_variance_of_the_density(variance):
    autoencoder = build(variance=variance)
    params = initial(autoencoder, memory={"variance": jnp.float32(0.04)})
    if variance == "learned":
        params = initial(autoencoder, likelihood={"log_sigma": jnp.log(0.2)})
    z_bk = jnp.tile(jnp.asarray([[0.5, -1.0, 0.0]]), (2000, 1))
    drawn_bd = autoencoder.generative.sample(params, jax.random.key(0), z_bk)
    noise_bd = np.asarray(drawn_bd - autoencoder.decode(params, z_bk))
    assert noise_bd.std() == pytest.approx(0.2, rel=4 / np.sqrt(2 * noise_bd.size))
    assert noise_bd.mean() == pytest.approx(0, abs=4 * 0.2 / np.sqrt(noise_bd.size))


@pytest.mark.parametrize("options", [{"variance": "learned"}, {"variance": "optimal", "samples": 2}, BERNOULLI])
def test_log_variances_and_means_of_1e4_are_finite(options):
    autoencoder = build(**options)
    hyper = {name: PLAIN[name] for name in variants.hyper_names(autoencoder)}

    @jax.jit
    def everything(params):
        def loss(params):
            return autoencoder.loss(params, jax.random.key(0), X_BD, progress=1.0, **hyper)[0]

        return jax.value_and_grad(loss)(params), autoencoder.generative.log_weights(params, jax.random.key(0), X_BD)

    for sign in (1, -1):
        params = initial(autoencoder)
        params["posterior"]["log_variance"]["bias"] = jnp.full(3, sign * 1e4)
        params["encoder"]["layer_1"]["bias"] = jnp.full(3, sign * 1e4)
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(everything(params)))


def test_a_masked_coding_has_no_kl_and_costs_no_free_bits():
    """Also where the activation of 0 is not 0, as that of a sigmoid."""
    net = nets.mlp(12, (8, 3), coding_activation=jax.nn.sigmoid)
    autoencoder = build(net, **BERNOULLI)
    masked = jax.jit(autoencoder.init)(jax.random.key(0), 2)
    smaller = build(nets.mlp(12, (8, 2), coding_activation=jax.nn.sigmoid), **BERNOULLI)
    sliced = nets.slice_codings(masked, autoencoder.coding_axes, 2)
    hyper = {**PLAIN, "free_bits": 1e3}
    value, metrics = jax.jit(autoencoder.loss)(masked, jax.random.key(0), X_BD, progress=1.0, **hyper)
    of_smaller = jax.jit(smaller.loss)(sliced, jax.random.key(0), X_BD, progress=1.0, **hyper)
    assert float(metrics["kl"]) == pytest.approx(float(of_smaller[1]["kl"]), rel=1e-6)
    assert (
        abs(float(value) - float(of_smaller[0])) < 10
    )  # the draws differ; free bits of the masked coding would add 1000


def test_binarised_rows_are_draws_of_their_probabilities():
    autoencoder = build(**BERNOULLI, binarise=True)
    observe = jax.jit(jax.vmap(lambda key: autoencoder.generative.observed(key, X_BD)))
    draws = np.asarray(observe(jax.random.split(jax.random.key(0), 500)))
    assert set(np.unique(draws)) == {0.0, 1.0}
    np.testing.assert_allclose(draws.mean(axis=0), X_BD, atol=0.12)
    zeros_and_ones = jnp.asarray([[0.0, 1.0] * 6])
    np.testing.assert_array_equal(autoencoder.generative.observed(jax.random.key(0), zeros_and_ones), zeros_and_ones)
    params = initial(autoencoder)
    assert metrics_of(autoencoder, params, 0)[1]["nelbo"] != metrics_of(autoencoder, params, 1)[1]["nelbo"]
    drawn = autoencoder.generative.sample(params, jax.random.key(0), jnp.zeros((7, 3)))
    assert set(np.unique(drawn)) == {0.0, 1.0}


@pytest.mark.parametrize("samples", [1, 2])
def test_with_binarised_rows_the_posterior_is_that_of_the_drawn_rows(samples):
    """The mean KL divergence over draws is that of all eight rows of three zeros and ones, by their probabilities."""
    autoencoder = build(nets.mlp(3, (4, 3), activation=jnp.tanh), **BERNOULLI, binarise=True, samples=samples)
    params = jax.tree.map(lambda leaf: 3 * leaf, initial(autoencoder))
    x_bd = jnp.asarray([[0.2, 0.5, 0.7]])
    rows_nd = np.array(list(itertools.product((0.0, 1.0), repeat=3)))
    chances_n = np.prod(np.where(rows_nd == 1, x_bd, 1 - x_bd), axis=1)
    mean_nk, log_variance_nk = autoencoder.generative.posterior(params, jnp.float32(rows_nd))
    kl_n = 0.5 * (jnp.exp(log_variance_nk) + mean_nk**2 - 1 - log_variance_nk).sum(axis=1)
    hyper = {name: PLAIN[name] for name in variants.hyper_names(autoencoder)}
    loss = jax.jit(jax.vmap(lambda key: autoencoder.loss(params, key, x_bd, progress=1.0, **hyper)[1]["kl"]))
    drawn = np.asarray(loss(jax.random.split(jax.random.key(0), 2000)))
    spread = drawn.std() / np.sqrt(len(drawn))
    assert drawn.mean() == pytest.approx(float(chances_n @ kl_n), abs=4 * spread)
    assert 0 < spread < 0.03 * drawn.mean()


def test_options_that_do_not_fit_each_other_are_refused(refused):
    refusals: list[tuple[str, dict[str, Any]]] = [
        ("variance", {"variance": "free"}),
        ("variance", {"variance": "learned", **BERNOULLI}),
        ("binarise", {"binarise": True}),
        ("binarise", {"binarise": 1, **BERNOULLI}),
        ("samples", {"samples": 0}),
        ("error", {"error": cross_entropy}),
    ]
    build(binarise=True, **BERNOULLI)  # the accepted True must not make 1 accepted
    for name, options in refusals:
        refused(ConfigError, name, call=lambda options=options: build(**options))
    built = {"fixed": build(), "learned": build(variance="learned"), "weighted": build(samples=5)}
    names = {name: variants.hyper_names(autoencoder) for name, autoencoder in built.items()}
    assert names["fixed"] == ("beta", "warmup", "free_bits", "sigma", "l2")
    assert names["learned"] == ("beta", "warmup", "free_bits", "l2")
    assert names["weighted"] == ("beta", "warmup", "sigma", "l2")
    refused(ConfigError, "samples", call=lambda: scores.likelihood(samples=0))
