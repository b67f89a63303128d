"""Sums over importance samples, with weights whose distribution is known, and the numbers that follow from them."""

import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import multivariate_normal

from aejax import nets, variants
from aejax.evaluation import scores
from aejax.evaluation.scores.base import TrainedRun
from aejax.evaluation.scores.likelihood import estimate_log_likelihood
from support import small_dataset

MODULE = sys.modules[estimate_log_likelihood.__module__]
DATASET = small_dataset(rows=200, unit=255.0)
X_TEST = DATASET.x_test / 255
CODINGS = 3
SPREAD = 0.8
"""Standard deviation of the log weights. The mean weight is then exp(SPREAD ** 2 / 2)."""
SAMPLES = 1001


def run_of(log_weights, dataset=DATASET):
    """A run with these log weights, whose posterior means are the first inputs."""
    autoencoder = variants.variational(nets.mlp(12, (CODINGS,)))

    def posterior(params, x_bd):
        return x_bd[:, :CODINGS], jnp.zeros((len(x_bd), CODINGS))

    assert autoencoder.generative is not None
    generative = autoencoder.generative._replace(log_weights=log_weights, posterior=posterior)
    params = autoencoder.init(jax.random.key(0))
    return TrainedRun(autoencoder._replace(generative=generative), params, {}, dataset, CODINGS, jax.random.key(3))


def of_the_row(params, key, x_bd):
    """All samples of a row have the same log weight."""
    return x_bd.sum(axis=1)


def normal(params, key, x_bd):
    """Log weights are drawn from a normal distribution."""
    return SPREAD * jax.random.normal(key, x_bd.shape[:1])


@pytest.fixture(params=[3, 64])
def at_once(request, monkeypatch):
    """Samples that are drawn at once."""
    monkeypatch.setattr(MODULE, "PASSES", {"cpu": request.param * MODULE.ROWS_AT_ONCE})
    monkeypatch.setattr(MODULE, "PASSES_OF_ACCELERATORS", request.param * MODULE.ROWS_AT_ONCE)
    return request.param


@pytest.mark.parametrize("samples", [1, 3, 5, 67])
def test_exactly_as_many_samples_as_asked_for_count(samples, at_once):
    result = estimate_log_likelihood(run_of(of_the_row), X_TEST.astype(np.float32), samples)
    np.testing.assert_allclose(result.log_likelihood_n, X_TEST.sum(axis=1), rtol=1e-5)
    np.testing.assert_allclose(result.elbo_n, X_TEST.sum(axis=1), rtol=1e-5)
    np.testing.assert_allclose(result.effective_n, samples, rtol=1e-5)


def test_all_samples_of_a_row_are_drawn_anew(at_once):
    """The mean of n independent draws has the variance of one, divided by n. So has that of the logarithm of the mean
    weight: its variance is about (exp(SPREAD ** 2) - 1) / n."""
    result = estimate_log_likelihood(run_of(normal), X_TEST.astype(np.float32), SAMPLES)
    assert result.elbo_n.std() == pytest.approx(SPREAD / np.sqrt(SAMPLES), rel=0.2)
    assert result.elbo_n.mean() == pytest.approx(0, abs=0.01)
    deviation = np.sqrt((np.exp(SPREAD**2) - 1) / SAMPLES)
    assert result.log_likelihood_n.std() == pytest.approx(deviation, rel=0.2)
    assert result.log_likelihood_n.mean() == pytest.approx(SPREAD**2 / 2, abs=0.01)
    assert np.corrcoef(result.elbo_n[:64], result.elbo_n[64:128])[0, 1] < 0.5, "blocks of rows have draws of their own"


def test_effective_samples_and_bias_are_those_of_log_normal_weights(at_once):
    """The square of the mean weight is exp(-SPREAD ** 2) of the mean square."""
    numbers, _ = scores.likelihood(samples=SAMPLES)(run_of(normal))
    assert numbers["effective_samples"] == pytest.approx(SAMPLES * np.exp(-(SPREAD**2)), rel=0.05)
    assert numbers["nll_bias"] == pytest.approx((np.exp(SPREAD**2) - 1) / (2 * SAMPLES), rel=0.1)
    assert numbers["nll_test"] == pytest.approx(-(SPREAD**2) / 2, abs=0.01)
    assert numbers["nelbo_test"] == pytest.approx(0, abs=0.01)


def test_units_are_active_by_the_variance_of_their_means():
    """The threshold is a variance of 0.01 (Burda et al. 2015), a standard deviation of 0.1."""
    x_test = DATASET.x_test.copy()
    for i, deviation in enumerate((0.05, 0.09, 0.11)):
        x_test[:, i] = 255 * (0.5 + deviation * np.resize([-1, 1], len(x_test)))
    numbers, _ = scores.likelihood(samples=2)(run_of(of_the_row, DATASET.replace(x_test=x_test)))
    assert numbers["active_units"] == 1


def test_probabilistic_pca_is_measured_on_the_same_rows():
    fitted_nd = np.concatenate([DATASET.x_train, DATASET.x_validation]) / 255
    values_d, vectors_dd = np.linalg.eigh(np.cov(fitted_nd.T, bias=True))
    values_d[:-CODINGS] = values_d[:-CODINGS].mean()
    covariance_dd: Any = (vectors_dd * values_d) @ vectors_dd.T
    model: Any = multivariate_normal(fitted_nd.mean(axis=0), covariance_dd)
    for rows in (20, None):
        numbers, arrays = scores.likelihood(samples=2, rows=rows)(run_of(of_the_row))
        assert numbers["ppca_nll_test"] == pytest.approx(-model.logpdf(X_TEST[:rows]).mean(), rel=1e-6)
        assert len(arrays["likelihood/test"]) == len(X_TEST[:rows])
