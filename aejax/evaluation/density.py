"""Ex-post densities: distributions fitted to the codings of a trained autoencoder, from which new rows are generated.

Source: Ghosh, Sajjadi, Vergari, Black, Schölkopf: From Variational to Deterministic Autoencoders, ICLR 2020.
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
"""Share of the mean variance of the codings that is added to every variance: dead codings have none themselves."""
MOST_NUMBERS = 65_536
"""Most entries of a Gaussian's factor. With more than 256 codings the factor has a low rank: it holds the leading
directions of the covariance, and the noise holds the remaining variance of each coding."""
MOST_OF_A_COMPONENT = 16_384
"""Most entries of the factor of each component of a mixture with more than 256 codings."""


class Density(NamedTuple):
    """A mixture of c Gaussians over k codings, with covariances `factor @ factor.T + diag(noise)`, all float32.

    weights_c: weights of the components.
    means_ck: means.
    factors_ckr: factors of the covariances. With at most 256 codings those of a mixture are Cholesky factors.
    noise_k: variances shared by all components; 0 where the factors are Cholesky factors.
    """

    weights_c: np.ndarray
    means_ck: np.ndarray
    factors_ckr: np.ndarray
    noise_k: np.ndarray

    @property
    def covariances_ckk(self) -> np.ndarray:
        """Covariance of each component, (c, k, k) float64."""
        factors_ckr = self.factors_ckr.astype(np.float64)
        return factors_ckr @ factors_ckr.transpose(0, 2, 1) + np.diag(self.noise_k.astype(np.float64))

    def arrays(self, prefix: str) -> dict[str, np.ndarray]:
        """The arrays by name, to be stored; `from_arrays` is the inverse."""
        return {f"{prefix}/{name}": array for name, array in self._asdict().items()}


def from_arrays(arrays: Mapping[str, np.ndarray], prefix: str) -> Density | None:
    """The density that is stored under a prefix, or None."""
    names = [f"{prefix}/{name}" for name in Density._fields]
    return Density(*(arrays[name] for name in names)) if all(name in arrays for name in names) else None


def fit(z_nk: np.ndarray, kind: str = "gaussian", components: int = 10, seed: int = 0) -> Density:
    """Fit a Gaussian, or a mixture of `components` Gaussians, to codings (n, k).

    With at most 256 codings the covariances are full, and a mixture is fitted by EM from k-means (scikit-learn). With
    more, a full covariance has more entries than most datasets can determine: the covariances have a low rank plus a
    diagonal, and each component of a mixture is fitted to a cluster of k-means. `seed` is used by mixtures only.

    Raises ConfigError for an unknown kind, for a number of components below 1 or above n, and for codings that are not
    finite.
    """
    if kind not in KINDS:
        raise ConfigError("density", repr(kind), suggest(kind, KINDS))
    z_nk = np.asarray(z_nk, np.float64)
    if z_nk.ndim != 2 or not len(z_nk) or not np.isfinite(z_nk).all():
        raise ConfigError("density", f"codings of shape {z_nk.shape}, not all finite", "give finite codings (n, k)")
    k = z_nk.shape[1]
    if kind == "gaussian":
        return _fit_clusters(z_nk, np.zeros(len(z_nk)), min(k, MOST_NUMBERS // k))
    from sklearn.cluster import MiniBatchKMeans  # slow imports
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture

    components = validate.whole_number("density.components", components, minimum=1, maximum=len(z_nk))
    # where there are fewer distinct codings than components, or EM stops early, the density is valid all the same
    with warnings.catch_warnings(action="ignore", category=ConvergenceWarning):
        if MOST_NUMBERS // k < k:
            clusters = MiniBatchKMeans(components, batch_size=2048, random_state=seed).fit(z_nk)
            return _fit_clusters(z_nk, np.asarray(clusters.labels_), MOST_OF_A_COMPONENT // k)
        scale = float(np.sqrt(z_nk.var(axis=0).mean())) or 1.0  # so that the regularisation is a share of the variance
        model = GaussianMixture(components, reg_covar=REGULARISATION, random_state=seed).fit(z_nk / scale)
    weights_c, means_ck, covariances_ckk = map(np.asarray, (model.weights_, model.means_, model.covariances_))
    return _density(weights_c, means_ck * scale, np.linalg.cholesky(covariances_ckk) * scale, np.zeros(k))


def _fit_clusters(z_nk: np.ndarray, cluster_n: np.ndarray, rank: int) -> Density:
    """A Gaussian for each cluster of rows, with a factor of this rank."""
    clusters = [z_nk[cluster_n == c] for c in np.unique(cluster_n)]
    weights_c = np.asarray([len(cluster_bk) / len(z_nk) for cluster_bk in clusters])
    means_ck = np.stack([cluster_bk.mean(axis=0) for cluster_bk in clusters])
    parts = [_leading(cluster_bk - mean_k, rank) for cluster_bk, mean_k in zip(clusters, means_ck, strict=True)]
    factors, remaining = zip(*parts, strict=True)
    regularisation = REGULARISATION * float(z_nk.var(axis=0).mean()) or REGULARISATION
    return _density(weights_c, means_ck, np.stack(factors), weights_c @ np.stack(remaining) + regularisation)


def _leading(centred_nk: np.ndarray, rank: int) -> tuple[np.ndarray, np.ndarray]:
    """A factor (k, rank) of the leading directions of the rows' covariance, and the remaining variances, (k,)."""
    n, k = centred_nk.shape
    rank = max(1, rank)
    factor_kr = np.zeros((k, rank))
    columns = min(rank, n)
    scatter = centred_nk.T @ centred_nk if n > k else centred_nk @ centred_nk.T  # both have the same eigenvalues
    values_r, vectors = eigh(scatter, subset_by_index=(len(scatter) - columns, len(scatter) - 1))
    values_r = np.maximum(values_r, 0.0)
    if n > k:
        factor_kr[:, :columns] = vectors * np.sqrt(values_r / n)
    else:
        factor_kr[:, :columns] = centred_nk.T @ vectors / np.sqrt(n)
    return factor_kr, np.maximum(np.square(centred_nk).mean(axis=0) - np.square(factor_kr).sum(axis=1), 0.0)


def _density(*arrays: np.ndarray) -> Density:
    return Density(*(np.asarray(array, np.float32) for array in arrays))


def sample(density: Density, key: jax.Array, n: int) -> jax.Array:
    """Draw n codings, (n, k) float32."""
    component_key, factor_key, noise_key = jax.random.split(key, 3)
    weights_c, means_ck, factors_ckr, noise_k = (jnp.asarray(array) for array in density)
    component_n = jax.random.categorical(component_key, jnp.log(weights_c), shape=(n,))
    e_nr = jax.random.normal(factor_key, (n, factors_ckr.shape[-1]))
    e_nk = jax.random.normal(noise_key, (n, len(noise_k)))
    spread_nk = jnp.einsum("nkr,nr->nk", factors_ckr[component_n], e_nr, precision="highest")
    return means_ck[component_n] + spread_nk + jnp.sqrt(noise_k)[None, :] * e_nk


def log_density(density: Density, z_nk: np.ndarray) -> np.ndarray:
    """Log-density of codings in nats, (n,) float64."""
    z_nk = np.asarray(z_nk, np.float64)
    noise_k = density.noise_k.astype(np.float64)
    logs = []
    for weight, mean_k, factor_kr in zip(density.weights_c, density.means_ck, density.factors_ckr, strict=True):
        squares_n, log_determinant = _mahalanobis(z_nk - mean_k, factor_kr.astype(np.float64), noise_k)
        logs.append(np.log(float(weight)) - 0.5 * (squares_n + log_determinant + z_nk.shape[1] * np.log(2 * np.pi)))
    return np.asarray(logsumexp(np.stack(logs), axis=0))


def _mahalanobis(centred_nk: np.ndarray, factor_kr: np.ndarray, noise_k: np.ndarray) -> tuple[np.ndarray, float]:
    """Squared Mahalanobis distances (n,) of centred codings, and the log determinant of the covariance.

    A factor of low rank needs r x r matrices only (Woodbury's identity and the matrix determinant lemma); all noise
    variances must then be above 0.
    """
    k, r = factor_kr.shape
    if r >= k:
        lower_kk = np.linalg.cholesky(factor_kr @ factor_kr.T + np.diag(noise_k))
        whitened_kn = solve_triangular(lower_kk, centred_nk.T, lower=True)
        return np.square(whitened_kn).sum(axis=0), 2 * np.log(np.diag(lower_kk)).sum()
    scale_k = np.sqrt(noise_k)
    scaled_nk = centred_nk / scale_k
    scaled_kr = factor_kr / scale_k[:, None]
    lower_rr = np.linalg.cholesky(np.eye(r) + scaled_kr.T @ scaled_kr)
    whitened_rn = solve_triangular(lower_rr, scaled_kr.T @ scaled_nk.T, lower=True)
    squares_n = np.square(scaled_nk).sum(axis=1) - np.square(whitened_rn).sum(axis=0)
    return squares_n, 2 * np.log(np.diag(lower_rr)).sum() + np.log(noise_k).sum()
