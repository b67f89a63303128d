"""Ex-post densities, compared with scikit-learn, with SciPy and with the moments of samples."""

from typing import Any

import jax
import numpy as np
import pytest
from scipy.stats import multivariate_normal
from sklearn.mixture import GaussianMixture

from aejax.config import run_identity
from aejax.config.sweep import Sweep
from aejax.evaluation import density, scores
from aejax.evaluation.reconstruction import reconstruct
from aejax.runner import scoring
from aejax.runtime.errors import ConfigError
from aejax.training import train
from support import small_dataset

RNG = np.random.default_rng(0)
MIXING = RNG.normal(size=(4, 4))
CENTRES = np.array([[4.0, 0, 0, 0], [-4, 0, 2, 0]])
Z = (RNG.normal(size=(900, 4)) @ MIXING * 0.5 + CENTRES[(RNG.uniform(size=900) < 0.3).astype(int)]).astype(np.float32)


def logpdf(z_nk, fitted_nk):
    """SciPy's log-density of codings under the Gaussian with the mean and covariance of other codings."""
    covariance: Any = np.cov(fitted_nk.T, bias=True)
    return multivariate_normal(fitted_nk.mean(axis=0), covariance, allow_singular=True).logpdf(z_nk)


def test_gaussian_has_the_mean_and_covariance_of_the_codings():
    fitted = density.fit(Z)
    np.testing.assert_allclose(fitted.means_ck[0], Z.mean(axis=0), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(fitted.covariances_ckk[0], np.cov(Z.T, bias=True), rtol=1e-4, atol=1e-4)
    wanted = logpdf(Z, Z)
    np.testing.assert_allclose(density.log_density(fitted, Z), wanted, rtol=1e-3, atol=1e-3)


def test_mixture_agrees_with_scikit_learn():
    fitted = density.fit(Z, "mixture", components=3, seed=7)
    model = GaussianMixture(3, random_state=7, reg_covar=1e-6 * Z.var(axis=0).mean()).fit(Z.astype(np.float64))
    np.testing.assert_allclose(fitted.weights_c, np.asarray(model.weights_), rtol=1e-3)
    np.testing.assert_allclose(density.log_density(fitted, Z), model.score_samples(Z), rtol=1e-3, atol=1e-3)
    repeated = density.fit(Z, "mixture", components=3, seed=7)
    assert all(np.array_equal(a, b) for a, b in zip(fitted, repeated, strict=True))


def test_mixture_has_a_higher_log_density_than_a_gaussian_on_new_codings():
    gaussian = density.fit(Z[:600])
    mixture = density.fit(Z[:600], "mixture", components=2)
    assert density.log_density(mixture, Z[600:]).mean() > density.log_density(gaussian, Z[600:]).mean() + 0.3
    np.testing.assert_allclose(sorted(mixture.means_ck[:, 0]), [-4, 4], atol=0.4)
    np.testing.assert_allclose(sorted(mixture.weights_c), [0.3, 0.7], atol=0.04)


@pytest.mark.parametrize("kind", density.KINDS)
def test_samples_have_the_moments_of_the_density(kind):
    fitted = density.fit(Z, kind, components=2)
    drawn = np.asarray(density.sample(fitted, jax.random.key(1), 20_000))
    assert drawn.shape == (20_000, 4)
    weights = fitted.weights_c.astype(np.float64)
    mean = weights @ fitted.means_ck
    spread = fitted.means_ck - mean
    covariance = np.einsum("c,cij->ij", weights, fitted.covariances_ckk) + np.einsum(
        "c,ci,cj->ij", weights, spread, spread
    )
    deviation = np.sqrt(np.diag(covariance))
    np.testing.assert_allclose(drawn.mean(axis=0), mean, atol=0.04 * deviation.max())
    np.testing.assert_allclose(
        np.cov(drawn.T) / np.outer(deviation, deviation), covariance / np.outer(deviation, deviation), atol=0.04
    )
    if kind == "gaussian":  # the mean log-density of its samples is minus its entropy, known in closed form
        entropy = multivariate_normal(mean, covariance).entropy()
        assert -density.log_density(fitted, drawn).mean() == pytest.approx(entropy, abs=0.05)


def test_samples_of_each_component_have_its_mean_and_covariance():
    """The choice of a component, the draw along its factor and the noise do not depend on each other."""
    means_ck = np.array([[50.0, 0.0], [-50.0, 10.0]])
    factors_ckr = np.array([[[1.0, 0.0], [0.5, 2.0]], [[0.3, 0.0], [-1.0, 0.5]]])
    noise_k = np.array([4.0, 0.25])
    weights_c = np.array([0.6, 0.4])
    arrays = (weights_c, means_ck, factors_ckr, noise_k)
    mixture = density.Density(*(array.astype(np.float32) for array in arrays))
    drawn = np.asarray(density.sample(mixture, jax.random.key(2), 20_000))
    assert (drawn[:, 0] > 0).mean() == pytest.approx(0.6, abs=0.02)
    for sign, mean_k, factor_kr in zip((1, -1), means_ck, factors_ckr, strict=True):
        component_nk = drawn[sign * drawn[:, 0] > 0]
        covariance_kk = factor_kr @ factor_kr.T + np.diag(noise_k)
        deviation_k = np.sqrt(np.diag(covariance_kk))
        scales_kk = np.outer(deviation_k, deviation_k)
        np.testing.assert_allclose((component_nk.mean(axis=0) - mean_k) / deviation_k, 0, atol=0.05)
        np.testing.assert_allclose(np.cov(component_nk.T) / scales_kk, covariance_kk / scales_kk, atol=0.05)


def test_samples_depend_on_the_key_alone():
    fitted = density.fit(Z, "mixture", components=2)
    first, again, other = (np.asarray(density.sample(fitted, jax.random.key(i), 5)) for i in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 0.1


@pytest.mark.parametrize("kind", density.KINDS)
@pytest.mark.parametrize("collapsed", [False, True])
def test_densities_of_dead_and_constant_codings_are_finite(kind, collapsed):
    z_nk = Z.copy()
    z_nk[:, 1] = 0.5
    if collapsed:
        z_nk[:] = 0.5
    fitted = density.fit(z_nk, kind, components=3)
    drawn = np.asarray(density.sample(fitted, jax.random.key(0), 200))
    assert np.isfinite(density.log_density(fitted, z_nk)).all()
    np.testing.assert_allclose(drawn[:, 1], 0.5, atol=0.02)


def test_gaussian_of_many_codings_keeps_variances_and_leading_directions():
    base = RNG.normal(size=(500, 3)) @ RNG.normal(size=(3, 700)) + 0.1 * RNG.normal(size=(500, 700))
    fitted = density.fit(base)
    assert sum(array.size for array in fitted) < 70_000
    np.testing.assert_allclose(np.diag(fitted.covariances_ckk[0]), base.var(axis=0), rtol=1e-3)
    np.testing.assert_allclose(fitted.covariances_ckk[0], np.cov(base.T, bias=True), atol=0.02)


def test_mixture_of_many_codings_has_a_gaussian_of_low_rank_per_cluster():
    rng = np.random.default_rng(3)
    mixing_rk = rng.normal(size=(2, 2, 300))
    centres_ck = 5 * rng.normal(size=(2, 300))
    cluster_n = (np.arange(900) % 3 == 0).astype(int)
    z_nk = np.einsum("nr,nrk->nk", rng.normal(size=(900, 2)), mixing_rk[cluster_n]) + centres_ck[cluster_n]
    z_nk += 0.3 * rng.normal(size=z_nk.shape)
    fitted = density.fit(z_nk, "mixture", components=2, seed=1)
    order = np.argsort(fitted.weights_c)
    np.testing.assert_allclose(fitted.weights_c[order], [1 / 3, 2 / 3], rtol=1e-5)
    assert (
        (fitted.noise_k > 0.02) & (fitted.noise_k < 0.09)
    ).all()  # variance of 0.09 that a factor of rank 54 does not hold
    for c, cluster in zip(order, (1, 0), strict=True):
        np.testing.assert_allclose(fitted.means_ck[c], z_nk[cluster_n == cluster].mean(axis=0), rtol=1e-3, atol=1e-4)
        wanted_kk = mixing_rk[cluster].T @ mixing_rk[cluster]
        assert np.linalg.norm(fitted.covariances_ckk[c] - wanted_kk) < 0.25 * np.linalg.norm(wanted_kk)
    parts = [
        multivariate_normal(mean_k, covariance).logpdf(z_nk) + np.log(weight)
        for weight, mean_k, covariance in zip(
            fitted.weights_c, fitted.means_ck, list(fitted.covariances_ckk), strict=True
        )
    ]
    np.testing.assert_allclose(density.log_density(fitted, z_nk), np.logaddexp(*parts), rtol=1e-6)
    assert density.log_density(fitted, z_nk).mean() > density.log_density(density.fit(z_nk), z_nk).mean()
    drawn = np.asarray(density.sample(fitted, jax.random.key(0), 3000))
    nearest_n = np.linalg.norm(drawn[:, None] - fitted.means_ck[None, order], axis=2).argmin(axis=1)
    assert nearest_n.mean() == pytest.approx(2 / 3, abs=0.03)
    constant = density.fit(np.ones((40, 300)), "mixture", components=3)
    np.testing.assert_allclose(np.asarray(density.sample(constant, jax.random.key(0), 5)), 1.0, atol=0.02)


def test_invalid_options_and_codings_are_refused(refused):
    refused(ConfigError, "density", "mixture", call=lambda: density.fit(Z, "mixtrue"))
    refused(ConfigError, "density.components", "0", call=lambda: density.fit(Z, "mixture", components=0))
    refused(ConfigError, "density.components", "5", call=lambda: density.fit(Z[:4], "mixture", components=5))
    refused(ConfigError, "density", "finite", call=lambda: density.fit(np.full((4, 2), np.nan)))
    refused(ConfigError, "scores.density.kind", "prior", call=lambda: scores.density(kind="prior"))
    refused(ConfigError, "scores.density.components", "2.5", call=lambda: scores.density(components=2.5))  # pyright: ignore[reportArgumentType]


def test_score_stores_the_density_of_training_codings():
    dataset = small_dataset()
    hyper = {"learning_rate": 0.01, "l2": 0.0}
    measured = (scores.density(components=3), scores.density(kind="gaussian"))
    sweep = Sweep(dataset="digits", widths=(4, 3), epochs=1, batch_size=64, hyper=hyper, scores=measured)
    assert run_identity.decode_config(sweep.config())["scores"] == measured
    autoencoder = sweep.build(12)
    fit = train.fit(autoencoder, dataset, seed=0, epochs=1, batch_size=18, learning_rate=0.01, l2=0.0)
    scored = scoring.score_run(sweep, 0, hyper, dataset, fit)
    row = scored.row
    arrays = scored.arrays
    assert set(row["scores"]) == {"mixture_log_likelihood", "gaussian_log_likelihood"}
    mixture, gaussian = (density.from_arrays(arrays, f"density/{kind}") for kind in ("mixture", "gaussian"))
    assert mixture is not None
    assert gaussian is not None
    assert mixture.means_ck.shape == (3, 3)
    z_nk = reconstruct(autoencoder, fit.params, dataset.x_train, unit=dataset.unit)[0]
    np.testing.assert_allclose(gaussian.means_ck[0], z_nk.mean(axis=0), rtol=1e-5)
    test_nk = reconstruct(autoencoder, fit.params, dataset.x_test, unit=dataset.unit)[0]
    assert row["scores"]["gaussian_log_likelihood"] == pytest.approx(logpdf(test_nk, z_nk).mean(), rel=0.01)
    assert density.from_arrays({}, "density/mixture") is None
