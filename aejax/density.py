"""Ex-post density: a distribution fitted to the codings of a trained autoencoder, so that any of them generates.

Ghosh, Sajjadi, Vergari, Black, Schölkopf: From Variational to Deterministic Autoencoders, ICLR 2020.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy.linalg import solve_triangular
from scipy.special import logsumexp

from aejax import checks
from aejax.errors import ConfigError, nearest

KINDS = ("gaussian", "mixture")
REGULARISATION = 1e-6
"""Added to the diagonal of every covariance, as a share of the codings' mean variance: dead codings have none."""
MOST_NUMBERS = 65_536
"""Numbers in a Gaussian's factor: with more codings than 256 it keeps the leading directions of the covariance, and the
variance of each coding that is left."""


class Density(NamedTuple):
    """A mixture of c Gaussians over k codings: weights, means, and covariances `factor @ factor.T + diag(noise)`.

    weights_c, means_ck, factors_ckr, noise_k, all float32. Of a full Gaussian c is 1; of a mixture each factor is the
    Cholesky factor of its covariance and the noise 0.
    """

    weights_c: np.ndarray
    means_ck: np.ndarray
    factors_ckr: np.ndarray
    noise_k: np.ndarray

    @property
    def covariances_ckk(self) -> np.ndarray:
        """Covariance of each component, float64."""
        factors_ckr = self.factors_ckr.astype(np.float64)
        return factors_ckr @ factors_ckr.transpose(0, 2, 1) + np.diag(self.noise_k.astype(np.float64))

    def arrays(self, prefix: str) -> dict[str, np.ndarray]:
        """Its arrays by name, to be stored; `from_arrays` reads them back."""
        return {f"{prefix}/{name}": array for name, array in self._asdict().items()}


def from_arrays(arrays: Mapping[str, np.ndarray], prefix: str) -> Density | None:
    """The density that was stored under this prefix, None where there is none."""
    names = [f"{prefix}/{name}" for name in Density._fields]
    return Density(*(arrays[name] for name in names)) if all(name in arrays for name in names) else None


def fit(z_nk: np.ndarray, kind: str = "gaussian", components: int = 10, seed: int = 0) -> Density:
    """Fit a full Gaussian, or a mixture of `components` full Gaussians (scikit-learn's, by EM from k-means).

    Raises ConfigError for a kind there is not, a number of components below 1 or above the number of rows, and codings
    that are not finite.
    """
    if kind not in KINDS:
        raise ConfigError("density", repr(kind), nearest(kind, KINDS))
    z_nk = np.asarray(z_nk, np.float64)
    if z_nk.ndim != 2 or not len(z_nk) or not np.isfinite(z_nk).all():
        raise ConfigError("density", f"codings of shape {z_nk.shape}, not all finite", "give finite codings (n, k)")
    return _gaussian(z_nk) if kind == "gaussian" else _mixture(z_nk, components, seed)


def _gaussian(z_nk: np.ndarray) -> Density:
    (n, k), mean_k = z_nk.shape, z_nk.mean(axis=0)
    centred_nk, rank = z_nk - mean_k, MOST_NUMBERS // k
    if rank >= k:
        values_k, directions_kk = np.linalg.eigh(centred_nk.T @ centred_nk / n)
        factor_kr = directions_kk * np.sqrt(np.maximum(values_k, 0.0))
    else:
        from sklearn.utils.extmath import randomized_svd  # a slow import

        _, values_r, directions_rk = randomized_svd(centred_nk, max(1, min(rank, n)), random_state=0)
        factor_kr = directions_rk.T * (values_r / np.sqrt(n))
    left_k = np.maximum(centred_nk.var(axis=0) - np.square(factor_kr).sum(axis=1), 0.0)
    floor = REGULARISATION * float(z_nk.var(axis=0).mean()) or REGULARISATION
    return _density(np.ones(1), mean_k[None], factor_kr[None], left_k + floor)


def _mixture(z_nk: np.ndarray, components: int, seed: int) -> Density:
    from sklearn.exceptions import ConvergenceWarning  # slow imports
    from sklearn.mixture import GaussianMixture

    components = checks.whole_number("density.components", components, least=1, most=len(z_nk))
    scale = float(np.sqrt(z_nk.var(axis=0).mean())) or 1.0  # so that the regularisation is a share of the variance
    model = GaussianMixture(components, reg_covar=REGULARISATION, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # EM that stops early is a density all the same
        model.fit(z_nk / scale)
    weights_c, means_ck, covariances_ckk = map(np.asarray, (model.weights_, model.means_, model.covariances_))
    factors_ckk = np.linalg.cholesky(covariances_ckk) * scale
    return _density(weights_c, means_ck * scale, factors_ckk, np.zeros(z_nk.shape[1]))


def _density(*arrays: np.ndarray) -> Density:
    return Density(*(np.asarray(array, np.float32) for array in arrays))


def sample(density: Density, key: jax.Array, n: int) -> jax.Array:
    """Draw n codings, (n, k)."""
    which_key, factor_key, noise_key = jax.random.split(key, 3)
    weights_c, means_ck, factors_ckr, noise_k = (jnp.asarray(array) for array in density)
    which_n = jax.random.categorical(which_key, jnp.log(weights_c), shape=(n,))
    e_nr = jax.random.normal(factor_key, (n, factors_ckr.shape[-1]))
    e_nk = jax.random.normal(noise_key, (n, len(noise_k)))
    spread_nk = jnp.einsum("nkr,nr->nk", factors_ckr[which_n], e_nr, precision="highest")
    return means_ck[which_n] + spread_nk + jnp.sqrt(noise_k)[None, :] * e_nk


def log_density(density: Density, z_nk: np.ndarray) -> np.ndarray:
    """Log-density of codings in nats, (n,), in float64."""
    z_nk, logs = np.asarray(z_nk, np.float64), []
    for weight, mean_k, covariance_kk in zip(density.weights_c, density.means_ck, density.covariances_ckk, strict=True):
        lower_kk = np.linalg.cholesky(covariance_kk)
        whitened_kn = solve_triangular(lower_kk, (z_nk - mean_k).T, lower=True)
        determinant = 2 * np.log(np.diag(lower_kk)).sum()
        squares_n = np.square(whitened_kn).sum(axis=0)
        logs.append(np.log(float(weight)) - 0.5 * (squares_n + determinant + z_nk.shape[1] * np.log(2 * np.pi)))
    return np.asarray(logsumexp(np.stack(logs), axis=0))
