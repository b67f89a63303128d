"""The likelihood score: importance sampling is compared with exact densities, and the optimum of the linear variational
autoencoder with probabilistic PCA.

With x = W z + m + noise of variance s2 and z standard normal, x is normal with mean m and covariance W W^T + s2 I. At
the maximum likelihood (Tipping & Bishop 1999) s2 is the mean of the d - k smallest eigenvalues of the covariance, and
W W^T = U (L - s2 I) U^T with the k largest. The posterior of z is normal with covariance s2 (W^T W + s2 I)^-1, which is
diagonal where the columns of W are orthogonal. The bound of a linear encoder with a diagonal posterior can therefore be
tight, and it is tight at its maximum (Lucas et al. 2019).
"""

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from aejax import nets, variants
from aejax.config import run_identity
from aejax.config.sweep import Sweep
from aejax.datasets.base import Dataset, Scaling
from aejax.evaluation import pca, scores
from aejax.evaluation.scores.base import TrainedRun
from aejax.evaluation.scores.likelihood import estimate_log_likelihood, exact_log_likelihood
from aejax.runtime.errors import ConfigError
from aejax.training import train
from aejax.training.schedules import cosine
from aejax.variants.penalties import cross_entropy
from support import small_dataset

CODINGS = 3
HYPER: dict[str, Any] = {"beta": 1.0, "warmup": 0.0, "free_bits": 0.0, "l2": 0.0}


def continuous(rows: int = 600) -> Dataset:
    """Rows from a probabilistic PCA with well separated components and a mean that is not 0."""
    rng = np.random.default_rng(1)
    w_dk = np.linalg.qr(rng.normal(size=(12, CODINGS)))[0] * [2.0, 1.4, 0.9]

    def draw(n: int) -> np.ndarray:
        return (rng.normal(size=(n, CODINGS)) @ w_dk.T + 0.4 * rng.normal(size=(n, 12)) + 0.3).astype(np.float32)

    x = {f"x_{split}": draw(rows) for split in ("train", "validation", "test")}
    y = dict.fromkeys(("y_train", "y_validation", "y_test"))
    scaling = Scaling(np.zeros(1), np.ones(1))
    return Dataset(name="normal", **x, **y, image_shape=None, scaling=scaling, unit=1.0, fingerprint="")


DATASET = continuous()


@pytest.fixture(scope="module")
def linear() -> tuple[Any, Any]:
    """A trained linear variational autoencoder and its parameters."""
    autoencoder = variants.variational(nets.mlp(12, (CODINGS,)), variance="learned")
    fit = train.fit(
        autoencoder, DATASET, seed=0, epochs=4000, batch_size=None, learning_rate=0.02, schedule=cosine, **HYPER
    )
    return autoencoder, fit.last_params


def estimate(autoencoder, params, rows, samples, check=lambda: None):
    trained = TrainedRun(autoencoder, params, HYPER, DATASET, CODINGS, jax.random.key(0), check)
    return estimate_log_likelihood(trained, rows, samples)


def density(params) -> Any:
    """The exact density of a linear decoder with a learned variance."""
    layer = params["decoder"]["layer_0"]
    w_dk = np.asarray(layer["kernel"], np.float64).T
    variance = 1e-6 + np.exp(2 * float(params["likelihood"]["log_sigma"]))
    return scipy.stats.multivariate_normal(np.asarray(layer["bias"]), w_dk @ w_dk.T + variance * np.eye(12))


def test_probabilistic_pca_is_the_normal_density_of_its_covariance():
    x_nd = np.random.default_rng(0).normal(size=(50, 6)) * [5, 3, 2, 1, 0.5, 0.4] * 10 + 7
    fitted = pca.fit(x_nd, unit=10.0)
    covariance = np.cov(x_nd / 10, rowvar=False, bias=True)
    values, vectors = np.linalg.eigh(covariance)
    noise = values[:4].mean()
    model = vectors[:, 4:] @ np.diag(values[4:] - noise) @ vectors[:, 4:].T + noise * np.eye(6)
    exact = scipy.stats.multivariate_normal(x_nd.mean(axis=0) / 10, model).logpdf(x_nd / 10)
    log_likelihood_n = pca.log_likelihood(fitted, 2, x_nd, unit=10.0)
    assert log_likelihood_n is not None
    np.testing.assert_allclose(log_likelihood_n, exact, rtol=1e-9)
    best = exact.mean()
    for factor in (0.9, 1.1):  # it is a maximum
        other = model + (factor - 1) * noise * np.eye(6)
        assert scipy.stats.multivariate_normal(x_nd.mean(axis=0) / 10, other).logpdf(x_nd / 10).mean() < best
    assert pca.log_likelihood(fitted, 6, x_nd, unit=10.0) is None


def test_linear_optimum_is_probabilistic_pca(linear):
    _, params = linear
    values, vectors = np.linalg.eigh(np.cov(DATASET.x_train, rowvar=False, bias=True))
    noise = values[:-CODINGS].mean()
    first = vectors[:, -CODINGS:]
    wanted = first @ np.diag(values[-CODINGS:] - noise) @ first.T
    w_dk = np.asarray(params["decoder"]["layer_0"]["kernel"], np.float64).T
    assert np.exp(2 * float(params["likelihood"]["log_sigma"])) == pytest.approx(noise, rel=0.01)
    assert np.linalg.norm(w_dk @ w_dk.T - wanted) < 0.01 * np.linalg.norm(wanted)
    on_training_rows = pca.log_likelihood(pca.fit(DATASET.x_train), CODINGS, DATASET.x_train)
    assert on_training_rows is not None
    assert density(params).logpdf(DATASET.x_train).mean() == pytest.approx(on_training_rows.mean(), abs=0.01)


def test_importance_samples_give_the_exact_log_likelihood(linear):
    """The model is the trained one, and then one with a wide posterior, for which few samples are not enough."""
    autoencoder, params = linear
    x_nd = DATASET.x_test[:200]
    exact_n = density(params).logpdf(DATASET.x_test[:200])
    result = estimate(autoencoder, params, x_nd, 1000)
    assert abs(result.log_likelihood_n.mean() - exact_n.mean()) < 0.05
    np.testing.assert_allclose(result.log_likelihood_n, exact_n, atol=0.2)
    assert np.median(result.effective_n) > 800
    bias = params["posterior"]["log_variance"]["bias"] + 1.5
    wide = {**params, "posterior": {"log_variance": {**params["posterior"]["log_variance"], "bias": bias}}}
    few, many = (estimate(autoencoder, wide, x_nd, samples) for samples in (5, 5000))
    assert abs(many.log_likelihood_n.mean() - exact_n.mean()) < 0.05
    assert many.elbo_n.mean() < few.log_likelihood_n.mean() < many.log_likelihood_n.mean()
    assert many.elbo_n.mean() < exact_n.mean() - 0.5
    assert np.median(many.effective_n) < 2500
    bias = (1 / few.effective_n - 1 / 5).mean() / 2
    assert 0.05 < bias < 1
    hyper = {name: value for name, value in HYPER.items() if name != "free_bits"}
    weighted = variants.variational(nets.mlp(12, (CODINGS,)), variance="learned", samples=5)
    keys = jax.random.split(jax.random.key(1), 50)
    x_bd = jnp.asarray(x_nd)
    bounds = jax.jit(jax.vmap(lambda key: weighted.loss(wide, key, x_bd, progress=1.0, **hyper)[0]))(keys)
    assert -float(bounds.mean()) == pytest.approx(few.log_likelihood_n.mean(), abs=0.05)


def test_chunks_and_padding_change_only_the_draws(linear, monkeypatch):
    autoencoder, params = linear
    calls = []
    some = estimate(autoencoder, params, DATASET.x_test[:150], 37, lambda: calls.append(1))
    assert len(calls) == -(-150 // (64 * len(jax.local_devices())))
    assert some.log_likelihood_n.shape == (150,)
    assert (some.effective_n <= 37.001).all()
    again = estimate(autoencoder, params, DATASET.x_test[:150], 37)
    np.testing.assert_array_equal(some.log_likelihood_n, again.log_likelihood_n)
    # with one sample the estimate is the log weight, whose mean is the bound
    single = estimate(autoencoder, params, DATASET.x_test[:150], 1)
    np.testing.assert_allclose(single.log_likelihood_n, single.elbo_n, rtol=1e-6)
    np.testing.assert_allclose(single.effective_n, 1.0, rtol=1e-6)
    # other sizes of full and padded blocks of rows and of draws: other draws of the same density
    module = sys.modules[estimate_log_likelihood.__module__]
    exact_n = density(params).logpdf(DATASET.x_test[:150])
    for rows, at_once in ((16, 64), (64, 3), (150, 500)):
        monkeypatch.setattr(module, "ROWS_AT_ONCE", rows)
        monkeypatch.setattr(module, "PASSES", {"cpu": rows * at_once})
        result = estimate(autoencoder, params, DATASET.x_test[:150], 1000)
        np.testing.assert_allclose(result.log_likelihood_n, exact_n, atol=0.2)
        assert result.log_likelihood_n.mean() == pytest.approx(exact_n.mean(), abs=0.02)
        assert 800 < np.median(result.effective_n) <= 1000.001


def test_numbers_of_the_score(linear, refused):
    autoencoder, params = linear
    trained = TrainedRun(autoencoder, params, HYPER, DATASET, CODINGS, train.make_key(0))
    measured: Any = scores.likelihood(samples=500, rows=100)(trained)
    numbers, arrays = measured
    exact = density(params).logpdf(DATASET.x_test[:100])
    assert numbers["nll_test"] == pytest.approx(-exact.mean(), abs=0.05)
    assert numbers["nelbo_test"] == pytest.approx(numbers["kl_test"] + numbers["reconstruction_test"])
    assert numbers["nelbo_test"] == pytest.approx(-exact.mean(), abs=0.1)
    assert numbers["nelbo_test"] >= numbers["nll_test"]
    assert numbers["ppca_nll_test"] == pytest.approx(numbers["nll_test"], abs=0.2)
    assert numbers["exact_nll_test"] == pytest.approx(-exact.mean(), rel=1e-6)
    assert numbers["active_units"] == CODINGS
    assert 0 <= numbers["nll_bias"] < 0.01
    assert arrays["likelihood/test"].shape == (100,)
    assert arrays["likelihood/kl"].sum() == pytest.approx(numbers["kl_test"], rel=1e-5)
    plain = variants.plain(nets.mlp(12, (CODINGS,)))
    refused(
        ConfigError, "likelihood", call=lambda: scores.likelihood()(dataclasses.replace(trained, autoencoder=plain))
    )


@pytest.mark.parametrize("variance", ["fixed", "optimal"])
def test_exact_likelihood_exists_for_affine_decoders_only(variance):
    autoencoder = variants.variational(nets.mlp(12, (CODINGS,)), variance=variance)
    hyper: dict[str, Any] = HYPER | ({"sigma": 0.7} if variance == "fixed" else {})
    fit = train.fit(autoencoder, DATASET, seed=0, epochs=3, batch_size=50, learning_rate=0.01, **hyper)
    layer = fit.params["decoder"]["layer_0"]
    noise = float(fit.params["memory"]["variance"])
    w_dk = np.asarray(layer["kernel"], np.float64).T
    covariance_dd: Any = w_dk @ w_dk.T + noise * np.eye(12)
    model: Any = scipy.stats.multivariate_normal(np.asarray(layer["bias"]), covariance_dd)
    exact_n = exact_log_likelihood(autoencoder, fit.params, CODINGS, DATASET.x_test)
    assert exact_n is not None
    np.testing.assert_allclose(exact_n, model.logpdf(DATASET.x_test), rtol=1e-4)
    assert noise == pytest.approx(0.49) if variance == "fixed" else noise > 0
    nonlinear = variants.variational(nets.mlp(12, (6, CODINGS)), variance=variance)
    assert exact_log_likelihood(nonlinear, nonlinear.init(jax.random.key(0)), CODINGS, DATASET.x_test) is None
    plain = variants.plain(nets.mlp(12, (CODINGS,)))
    assert exact_log_likelihood(plain, plain.init(jax.random.key(0)), CODINGS, DATASET.x_test) is None


def test_binary_rows_are_the_same_for_every_run():
    """A decoder that ignores its codings is a product of Bernoulli distributions, whose likelihood is exact."""
    net = nets.mlp(12, (CODINGS,))
    autoencoder = variants.variational(net, output=jax.nn.sigmoid, error=cross_entropy, binarise=True)
    params = jax.jit(autoencoder.init)(jax.random.key(0))
    layer = params["decoder"]["layer_0"]
    logits = np.linspace(-2, 2, 12)
    params["decoder"]["layer_0"] = {"kernel": 0 * layer["kernel"], "bias": jnp.asarray(logits, jnp.float32)}
    params["encoder"] = jax.tree.map(jnp.zeros_like, params["encoder"])
    params["posterior"] = jax.tree.map(jnp.zeros_like, params["posterior"])
    grey = np.random.default_rng(0).uniform(size=(150, 12)).astype(np.float32)
    data = dataclasses.replace(DATASET, x_test=grey)
    trained = TrainedRun(autoencoder, params, HYPER, data, CODINGS, train.make_key(5))
    numbers, _ = scores.likelihood(samples=3)(trained)
    assert autoencoder.generative is not None
    x_nd = np.asarray(autoencoder.generative.observed(jax.random.key(0), jnp.asarray(grey)))
    exact = scipy.stats.bernoulli.logpmf(x_nd, 1 / (1 + np.exp(-logits))).sum(axis=1).mean()
    assert numbers["nll_test"] == pytest.approx(-exact, rel=1e-5)
    assert numbers["kl_test"] == numbers["active_units"] == 0
    assert numbers["effective_samples"] == pytest.approx(3)
    assert "ppca_nll_test" not in numbers


def test_config_of_a_sweep_with_the_score_can_be_decoded():
    sweep = Sweep(
        dataset="digits",
        widths=(4, 2),
        epochs=1,
        batch_size=64,
        variant=variants.variational,
        hyper={"learning_rate": 0.01, "sigma": 0.1, **HYPER},
        scores=(scores.likelihood(samples=7),),
    )
    assert sweep.config()["scores"] == [{"name": "likelihood", "samples": 7, "rows": None}]
    assert run_identity.decode_config(sweep.config())["scores"] == sweep.scores


def test_committed_numbers():
    """-ELBO is above the NLL, and the linear models are within 1 % of probabilistic PCA."""
    path = Path(__file__).resolve().parents[1] / "results/variational/runs.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    (nonlinear,) = (row for row in rows if row["label"] == "variational")
    assert nonlinear["data"]["test_rows"] == 10_000
    assert nonlinear["config"]["scores"] == [{"name": "likelihood", "samples": 5000, "rows": None}]
    assert nonlinear["score_seconds"]["likelihood"] < 300  # on two cores
    assert nonlinear["scores"]["nll_test"] == pytest.approx(92.1, abs=0.05)
    assert nonlinear["scores"]["nelbo_test"] == pytest.approx(96.5, abs=0.1)
    assert nonlinear["scores"]["active_units"] == 17
    assert nonlinear["sse_ratio"] < 0.76
    short, weighted = (
        next(row["scores"] for row in rows if row["label"] == f"{label}, 15 epochs")
        for label in ("variational", "importance-weighted")
    )
    assert short["nll_test"] == pytest.approx(100.5, abs=0.05)
    assert weighted["nll_test"] == pytest.approx(97.0, abs=0.05)
    assert (short["active_units"], weighted["active_units"]) == (22, 38)
    warm, free = (
        next(row for row in rows if row["label"] == f"variational, 15 epochs, {how}")
        for how in ("warm-up", "free bits")
    )
    assert warm["scores"]["nll_test"] == pytest.approx(97.7, abs=0.05)
    assert warm["sse_test"] == pytest.approx(6.43, abs=0.01)
    assert free["scores"]["nll_test"] == pytest.approx(100.2, abs=0.05)
    assert free["scores"]["active_units"] == 50
    linear = [row for row in rows if row["label"].startswith("linear variational")]
    assert len([row for row in linear if row["label"] == "linear variational"]) == 3
    assert len(linear) == 5
    for row in linear:
        measured = row["scores"]
        assert measured["exact_nll_test"] == pytest.approx(measured["ppca_nll_test"], rel=0.007)
        assert measured["ppca_nll_test"] < measured["nll_test"] < measured["nelbo_test"]
        if row["label"].endswith("fixed variance"):  # its posteriors have not converged: importance sampling fails
            assert measured["nll_test"] > measured["exact_nll_test"] + 1
            assert measured["effective_samples"] < 20
        else:
            assert measured["nll_test"] == pytest.approx(measured["exact_nll_test"], abs=0.05)
            assert measured["effective_samples"] > 300
        assert row["sse_ratio"] < 1.005


def test_rows_between_0_and_1_have_no_likelihood_under_cross_entropy(refused):
    """Binarised rows have a likelihood. The cross-entropy of values between 0 and 1 is not that of a density."""
    dataset = small_dataset(inputs=6)
    for binarise in (False, True):
        build: dict[str, Any] = {"output": jax.nn.sigmoid, "error": cross_entropy, "binarise": binarise}
        autoencoder = variants.variational(nets.mlp(6, (2,)), **build)
        params = autoencoder.init(jax.random.key(0))
        trained = TrainedRun(autoencoder, params, {}, dataset, 2, jax.random.key(0))
        if binarise:
            assert (scores.likelihood(samples=4)(trained)[0]["nll_test"] or 0) > 0
        else:
            refused(
                ConfigError, "zeros and ones", "binarise=True", call=lambda t=trained: scores.likelihood(samples=4)(t)
            )
