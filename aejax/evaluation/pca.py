"""Exact principal component analysis (PCA): the baseline of every autoencoder.

PCA has the interface of a variant: `encode(params, x_bd)` and `decode(params, z_bk)` are pure functions; `fit` takes
the place of `init`. The decomposition is exact, never randomised or incremental. It is computed in float64 under a
scoped setting, which does not change the precision of the process: in float32 the small components of MNIST are wrong
in the fourth digit, and accelerators round float32 products further. On a TPU, which has no float64 decomposition, the
host computes it.

Sources: Pearson 1901; Hotelling 1933. The signs follow scikit-learn's `svd_flip`.
"""

from __future__ import annotations

import contextlib
import functools
import warnings
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from aejax.runtime.errors import DataError

BLOCK_ROWS = 8192
"""Rows that are converted to float64 at once."""


class PCAParams(NamedTuple):
    """A fitted PCA with all its components, as float64 arrays on the host. `truncate` gives the first k.

    mean_d: mean of the fitted rows.
    components_kd: principal directions as orthonormal rows; rows beyond the rank are zero.
    variances_k: explained variance of each component, with denominator n - 1.
    total_variance: sum of the explained variances of all components.
    rank: numerical rank of the centred rows.
    rows: number of fitted rows.
    """

    mean_d: np.ndarray
    components_kd: np.ndarray
    variances_k: np.ndarray
    total_variance: float
    rank: int
    rows: int

    @property
    def cumulative_explained_variance(self) -> np.ndarray:
        """Share of the fitted rows' variance that the first 1, 2, …, k components explain, (k,)."""
        return np.cumsum(self.variances_k) / self.total_variance


@contextlib.contextmanager
def _float64():
    """Enable float64 in this thread for this block, on a device that supports it."""
    device = jax.devices("cpu")[0] if jax.default_backend() == "tpu" else None
    with jax.enable_x64(True), jax.default_device(device):
        yield


@functools.partial(jax.jit, static_argnames="by_rows")
def _scatter(x_nd: jax.Array, mean_d: jax.Array, unit: float, by_rows: bool) -> jax.Array:
    """The scatter matrix (d, d) of the centred rows, or with `by_rows` their Gram matrix (n, n)."""
    x_nd = x_nd.astype(jnp.float64) / unit - mean_d[None, :]
    left, right = (x_nd, x_nd.T) if by_rows else (x_nd.T, x_nd)
    return jnp.matmul(left, right, precision="highest")


@jax.jit
def _project(x_nd: jax.Array, mean_d: jax.Array, components_kd: jax.Array, unit: float) -> jax.Array:
    x_nd = x_nd.astype(jnp.float64) / unit - mean_d[None, :]
    return jnp.matmul(x_nd, components_kd.T, precision="highest")


_eigh = jax.jit(jnp.linalg.eigh)


def _blocks(x_nd: np.ndarray):
    return (x_nd[start : start + BLOCK_ROWS] for start in range(0, len(x_nd), BLOCK_ROWS))


def fit(x_nd: np.ndarray, *, unit: float = 1.0) -> PCAParams:
    """Compute all min(n, d) principal components of the rows `x_nd / unit`, (n, d) of any real dtype.

    The eigenvalues are those of the (d, d) scatter matrix or of the (n, n) Gram matrix, whichever is smaller. In each
    component the entry of largest magnitude is positive. Components beyond the numerical rank are zero.

    Raises DataError where the data is not an (n, d) array of real numbers, has fewer than two rows, contains NaN or
    infinity or has no variance, and where `unit` is not a finite number above 0.
    """
    x_nd = np.asarray(x_nd)
    if x_nd.ndim != 2 or len(x_nd) < 2:
        raise DataError("pca", f"data of shape {x_nd.shape}", "give an (n, d) array of at least two rows")
    if x_nd.dtype.kind not in "fiub":
        raise DataError("pca", f"data of dtype {x_nd.dtype}", "give real numbers")
    if not (np.isfinite(unit) and unit > 0):
        raise DataError("pca", f"unit {unit}", "give a number above 0")
    n, d = x_nd.shape
    mean_d = np.asarray(sum(block.sum(axis=0, dtype=np.float64) for block in _blocks(x_nd))) / (n * unit)
    if not np.isfinite(mean_d).all():
        raise DataError("pca", f"column {int(np.argmin(np.isfinite(mean_d)))} is not finite", "remove NaN and infinity")
    by_rows = n < d
    with _float64():
        if by_rows:
            scatter = _scatter(x_nd, mean_d, unit, by_rows=True)
        else:
            scatter = sum(_scatter(block, mean_d, unit, by_rows=False) for block in _blocks(x_nd))
        values, vectors = _eigh(scatter)
        values = np.maximum(np.asarray(values)[::-1], 0.0)
        vectors = np.asarray(vectors)[:, ::-1]
        # below this threshold the eigenvalues, which are squared singular values, are rounding errors
        rank = int(np.sum(values > values[0] * len(values) * np.finfo(np.float64).eps))
        if rank == 0:
            raise DataError("pca", "every row is the same", "give data with some variance")
        if by_rows:
            centred_nd = np.asarray(x_nd, np.float64) / unit - mean_d
            components_kd = vectors[:, :rank].T @ centred_nd / np.sqrt(values[:rank, None])
        else:
            components_kd = vectors[:, :rank].T
    signs_k = np.sign(components_kd[np.arange(rank), np.abs(components_kd).argmax(axis=1)])
    padded_kd = np.zeros((min(n, d), d))
    padded_kd[:rank] = components_kd * signs_k[:, None]
    variances_k = np.zeros(len(padded_kd))
    variances_k[:rank] = values[:rank] / (n - 1)
    return PCAParams(mean_d, padded_kd, variances_k, float(variances_k.sum()), rank, n)


def truncate(params: PCAParams, k: int) -> PCAParams:
    """Return the PCA with its first k components. Warns where k is above the rank: the further components are zero.

    Raises DataError where k is below 0 or above min(rows, columns) of the fitted data.
    """
    if not 0 <= k <= len(params.components_kd):
        problem = f"{k} components, but the data have {params.rows} rows and {len(params.mean_d)} columns"
        raise DataError("pca", problem, f"ask for 0 to {len(params.components_kd)}")
    if k > params.rank:
        warnings.warn(
            f"the data have rank {params.rank}: the last {k - params.rank} of {k} components are zero", stacklevel=2
        )
    return params._replace(components_kd=params.components_kd[:k], variances_k=params.variances_k[:k])


def encode(params: PCAParams, x_bd: jax.Array) -> jax.Array:
    """Encode rows of floats, (b, d), to codings (b, k), at highest matmul precision. Raises DataError for integers."""
    _check_floats(x_bd)
    centred_bd = x_bd - jnp.asarray(params.mean_d, x_bd.dtype)[None, :]
    return jnp.matmul(centred_bd, jnp.asarray(params.components_kd, x_bd.dtype).T, precision="highest")


def decode(params: PCAParams, z_bk: jax.Array) -> jax.Array:
    """Decode codings (b, k) to rows (b, d), at highest matmul precision. Raises DataError for integers."""
    _check_floats(z_bk)
    product_bd = jnp.matmul(z_bk, jnp.asarray(params.components_kd, z_bk.dtype), precision="highest")
    return product_bd + jnp.asarray(params.mean_d, z_bk.dtype)[None, :]


def log_likelihood(params: PCAParams, k: int, x_nd: np.ndarray, *, unit: float = 1.0) -> np.ndarray | None:
    """Log-likelihood of each row `x_nd / unit` in nats, (n,) float64, under probabilistic PCA with k components.

    The model is a normal density with covariance W W^T + sigma^2 I, at the maximum likelihood of the rows that the PCA
    was fitted on (Tipping & Bishop 1999). With denominator n, the variance along component j <= k is that component's
    variance, and sigma^2 is the mean of the d - k other variances. Returns None where these are all zero: the density
    does not exist then.
    """
    d = len(params.mean_d)
    ml_factor = (params.rows - 1) / params.rows  # denominator n - 1 to n
    variances_k = params.variances_k[:k] * ml_factor
    noise = (params.total_variance * ml_factor - variances_k.sum()) / (d - k) if k < d else 0.0
    if k >= params.rank or noise <= 0:
        return None
    log_determinant = np.log(variances_k).sum() + (d - k) * np.log(noise)
    blocks = []
    for block in _blocks(np.asarray(x_nd)):
        centred_nd = np.asarray(block, np.float64) / unit - params.mean_d
        z_nk = centred_nd @ params.components_kd[:k].T
        residual_n = np.square(centred_nd).sum(axis=1) - np.square(z_nk).sum(axis=1)
        distance_n = residual_n / noise + (np.square(z_nk) / variances_k).sum(axis=1)
        blocks.append(-0.5 * (distance_n + log_determinant + d * np.log(2 * np.pi)))
    return np.concatenate(blocks)


def _check_floats(array: jax.Array) -> None:
    if not jnp.issubdtype(array.dtype, jnp.floating):
        raise DataError("pca", f"{array.dtype} rows", "pass floats: dataset.floats(x)")


def error_curve(params: PCAParams, x_nd: np.ndarray, *, unit: float = 1.0) -> np.ndarray:
    """SSE of the rows `x_nd / unit` with 0, 1, …, k components, (k + 1,) float64: summed over d, averaged over n.

    One projection gives all entries: by Pythagoras' theorem the squared error with j components is the squared distance
    from the mean minus the sum of the first j squared codings. Entry 0 is the SSE of the mean predictor.
    """
    total = 0.0
    energy_k = np.zeros(len(params.components_kd))
    with _float64():
        for block in _blocks(np.asarray(x_nd)):
            total += float(np.square(np.asarray(block, np.float64) / unit - params.mean_d).sum())
            z_nk = np.asarray(_project(block, params.mean_d, params.components_kd, unit))
            energy_k += np.square(z_nk).sum(axis=0)
    curve = (total - np.concatenate([[0.0], np.cumsum(energy_k)])) / len(x_nd)
    return np.maximum(curve, 0.0)
