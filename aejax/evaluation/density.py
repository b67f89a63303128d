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
from scipy.linalg import eigh, solve_triangular
from scipy.special import logsumexp

from aejax.runtime import validate
from aejax.runtime.errors import ConfigError, suggest

KINDS = ("gaussian", "mixture")
REGULARISATION = 1e-6
"""Added to the diagonal of every covariance, as a share of the codings' mean variance: dead codings have none."""
MOST_NUMBERS = 65_536
"""Numbers in a Gaussian's factor: with more codings than 256 it keeps the leading directions of the covariance, and the
variance of each coding that is left."""
MOST_OF_A_COMPONENT = 16_384
"""The same of each component of a mixture of so many codings."""


class Density(NamedTuple):
    """A mixture of c Gaussians over k codings: weights, means, and covariances `factor @ factor.T + diag(noise)`.

    weights_c, means_ck, factors_ckr, noise_k, all float32. Of a full Gaussian c is 1; of a mixture each factor is the
    Cholesky factor of its covariance and the noise 0, but with more than 256 codings a factor of low rank and the noise
    what the factors leave, on average.
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

    With more than 256 codings Gaussians are of low rank, and those of a mixture are fitted to the clusters of k-means:
    a covariance of 1024 codings has more numbers than most data sets can say anything about.
    Raises ConfigError for a kind there is not, a number of components below 1 or above the number of rows, and codings
    that are not finite.
    """
    if kind not in KINDS:
        raise ConfigError("density", repr(kind), suggest(kind, KINDS))
    z_nk = np.asarray(z_nk, np.float64)
    if z_nk.ndim != 2 or not len(z_nk) or not np.isfinite(z_nk).all():
        raise ConfigError("density", f"codings of shape {z_nk.shape}, not all finite", "give finite codings (n, k)")
    return _gaussian(z_nk) if kind == "gaussian" else _mixture(z_nk, components, seed)


def _gaussian(z_nk: np.ndarray) -> Density:
    k, mean_k = z_nk.shape[1], z_nk.mean(axis=0)
    factor_kr, left_k = _leading(z_nk - mean_k, min(k, MOST_NUMBERS // k))
    return _density(np.ones(1), mean_k[None], factor_kr[None], left_k + _floor(z_nk))


def _leading(centred_nk: np.ndarray, rank: int) -> tuple[np.ndarray, np.ndarray]:
    """A factor (k, rank) of the leading directions of the rows' covariance, and each coding's variance that is left."""
    n, k = centred_nk.shape
    factor_kr, held = np.zeros((k, max(1, rank))), min(max(1, rank), n)
    small = centred_nk.T @ centred_nk if n > k else centred_nk @ centred_nk.T  # of the same eigenvalues
    values_r, vectors = eigh(small, subset_by_index=(len(small) - held, len(small) - 1))
    values_r = np.maximum(values_r, 0.0)
    if n > k:
        factor_kr[:, :held] = vectors * np.sqrt(values_r / n)
    else:
        factor_kr[:, :held] = centred_nk.T @ vectors / np.sqrt(n)
    return factor_kr, np.maximum(np.square(centred_nk).mean(axis=0) - np.square(factor_kr).sum(axis=1), 0.0)


def _floor(z_nk: np.ndarray) -> float:
    return REGULARISATION * float(z_nk.var(axis=0).mean()) or REGULARISATION


def _clusters(z_nk: np.ndarray, components: int, seed: int) -> Density:
    from sklearn.cluster import MiniBatchKMeans  # slow imports
    from sklearn.exceptions import ConvergenceWarning

    model = MiniBatchKMeans(components, batch_size=2048, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # fewer distinct codings than components
        which_n = model.fit(z_nk).labels_
    clusters = [z_nk[which_n == c] for c in np.unique(which_n)]
    weights_c = np.asarray([len(one) / len(z_nk) for one in clusters])
    means_ck = np.stack([one.mean(axis=0) for one in clusters])
    rank = MOST_OF_A_COMPONENT // z_nk.shape[1]
    factors = [_leading(one - mean_k, rank) for one, mean_k in zip(clusters, means_ck, strict=True)]
    left_k = weights_c @ np.stack([left_k for _, left_k in factors])
    return _density(weights_c, means_ck, np.stack([factor_kr for factor_kr, _ in factors]), left_k + _floor(z_nk))


def _mixture(z_nk: np.ndarray, components: int, seed: int) -> Density:
    from sklearn.exceptions import ConvergenceWarning  # slow imports
    from sklearn.mixture import GaussianMixture

    components = validate.whole_number("density.components", components, minimum=1, maximum=len(z_nk))
    if MOST_NUMBERS // z_nk.shape[1] < z_nk.shape[1]:
        return _clusters(z_nk, components, seed)
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
    z_nk, noise_k, logs = np.asarray(z_nk, np.float64), density.noise_k.astype(np.float64), []
    for weight, mean_k, factor in zip(density.weights_c, density.means_ck, density.factors_ckr, strict=True):
        centred_nk, factor_kr = z_nk - mean_k, factor.astype(np.float64)
        squares_n, determinant = _whitened(centred_nk, factor_kr, noise_k)
        logs.append(np.log(float(weight)) - 0.5 * (squares_n + determinant + z_nk.shape[1] * np.log(2 * np.pi)))
    return np.asarray(logsumexp(np.stack(logs), axis=0))


def _whitened(centred_nk: np.ndarray, factor_kr: np.ndarray, noise_k: np.ndarray) -> tuple[np.ndarray, float]:
    """Squared Mahalanobis distances (n,) of centred codings, and the log determinant of the covariance.

    Of a factor of low rank, beside which every coding has noise, out of r x r matrices (Woodbury's identity and the
    matrix determinant lemma).
    """
    k, r = factor_kr.shape
    if r >= k:
        lower_kk = np.linalg.cholesky(factor_kr @ factor_kr.T + np.diag(noise_k))
        whitened_kn = solve_triangular(lower_kk, centred_nk.T, lower=True)
        return np.square(whitened_kn).sum(axis=0), 2 * np.log(np.diag(lower_kk)).sum()
    scale_k = np.sqrt(noise_k)
    scaled_nk, scaled_kr = centred_nk / scale_k, factor_kr / scale_k[:, None]
    lower_rr = np.linalg.cholesky(np.eye(r) + scaled_kr.T @ scaled_kr)
    along_rn = solve_triangular(lower_rr, scaled_kr.T @ scaled_nk.T, lower=True)
    squares_n = np.square(scaled_nk).sum(axis=1) - np.square(along_rn).sum(axis=0)
    return squares_n, 2 * np.log(np.diag(lower_rr)).sum() + np.log(noise_k).sum()
