"""Exact principal component analysis: the ruler every autoencoder is held against.

PCA wears an autoencoder's clothes: `encode(params, x_bd)` and `decode(params, z_bk)` are pure functions like any
variant's; `init` is replaced by `fit`. The decomposition is exact, never randomised or incremental, and is computed
in float64 under a scoped setting (the process's own precision is left alone): in float32 the small components of MNIST
are wrong in the fourth digit, and on accelerators float32 products are rounded further. A TPU, which has no float64
decomposition, uses its host.

Sources: Pearson 1901; Hotelling 1933; signs as in scikit-learn's `svd_flip`.
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

if hasattr(jax, "enable_x64"):
    enable_x64 = jax.enable_x64
else:  # jax < 0.8
    from jax.experimental import enable_x64  # pyright: ignore[reportAttributeAccessIssue]

BLOCK_ROWS = 8192


class PCAParams(NamedTuple):
    """A fitted PCA with all its components, float64 on the host; `truncate` gives the first k.

    mean_d; components_kd with orthonormal rows (zero rows beyond the rank); variances_k, the explained variances
    (denominator n - 1), and total_variance, their sum over all d; rank of the centred data; rows it was fitted on.
    """

    mean_d: np.ndarray
    components_kd: np.ndarray
    variances_k: np.ndarray
    total_variance: float
    rank: int
    rows: int

    @property
    def cumulative_explained_variance(self) -> np.ndarray:
        """(k,) share of the fitted data's variance that the first 1, 2, … k components hold."""
        return np.cumsum(self.variances_k) / self.total_variance


@contextlib.contextmanager
def _float64():
    """Float64 for this thread and this block, on a device that has it."""
    device = jax.devices("cpu")[0] if jax.default_backend() == "tpu" else None
    with enable_x64(True), jax.default_device(device):
        yield


@functools.partial(jax.jit, static_argnames="by_rows")
def _scatter(x_nd: jax.Array, mean_d: jax.Array, unit: float, by_rows: bool) -> jax.Array:
    """Centred scatter matrix: (d, d), or with `by_rows` the Gram matrix (n, n)."""
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


def _column_means(x_nd: np.ndarray, unit: float) -> np.ndarray:
    return sum(block.sum(axis=0, dtype=np.float64) for block in _blocks(x_nd)) / (len(x_nd) * unit)  # type: ignore[return-value]


def fit(x_nd: np.ndarray, *, unit: float = 1.0) -> PCAParams:
    """All principal components of the rows `x_nd / unit`, (n, d) of any real dtype, exactly.

    Works on the (d, d) covariance or the (n, n) Gram matrix, whichever is smaller. Each component's largest entry is
    positive. Directions beyond the numerical rank are zero. Raises DataError with fewer than two rows or no variance.
    """
    x_nd = np.asarray(x_nd)
    if x_nd.ndim != 2 or len(x_nd) < 2:
        raise DataError("pca", f"data of shape {x_nd.shape}", "give an (n, d) array of at least two rows")
    if x_nd.dtype.kind not in "fiub":
        raise DataError("pca", f"data of dtype {x_nd.dtype}", "give real numbers")
    if not (np.isfinite(unit) and unit > 0):
        raise DataError("pca", f"unit {unit}", "give a number above 0")
    n, d = x_nd.shape
    mean_d = _column_means(x_nd, unit)
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
        # the eigenvalues of a scatter matrix are squared singular values: this is where their rounding starts
        rank = int(np.sum(values > values[0] * len(values) * np.finfo(np.float64).eps))
        if rank == 0:
            raise DataError("pca", "every row is the same", "give data with some variance")
        if by_rows:
            centred_nd = np.asarray(x_nd, np.float64) / unit - mean_d
            components_kd = vectors[:, :rank].T @ centred_nd / np.sqrt(values[:rank, None])
        else:
            components_kd = vectors[:, :rank].T
    components_kd = (
        components_kd * np.sign(components_kd[np.arange(rank), np.abs(components_kd).argmax(axis=1)])[:, None]
    )
    size = min(n, d)
    variances_k = np.zeros(size)
    variances_k[:rank] = values[:rank] / (n - 1)
    padded_kd = np.zeros((size, d))
    padded_kd[:rank] = components_kd
    return PCAParams(mean_d, padded_kd, variances_k, float(variances_k.sum()), rank, n)


def truncate(params: PCAParams, k: int) -> PCAParams:
    """The PCA with the first k components; a warning says when the data's rank is lower, as the rest are zero.

    Raises DataError when the data had fewer rows or columns than k.
    """
    if not 0 <= k <= len(params.components_kd):
        raise DataError(
            "pca",
            f"{k} components asked of data with {params.rows} rows and {len(params.mean_d)} columns",
            f"ask for 0 to {len(params.components_kd)}",
        )
    if k > params.rank:
        text = f"{k} components asked of data of rank {params.rank}: the further ones are zero"
        warnings.warn(text, stacklevel=2)
    return params._replace(components_kd=params.components_kd[:k], variances_k=params.variances_k[:k])


def encode(params: PCAParams, x_bd: jax.Array) -> jax.Array:
    """Codings of floats, (b, d) to (b, k), at highest matmul precision."""
    _check_floats(x_bd)
    centred_bd = x_bd - jnp.asarray(params.mean_d, x_bd.dtype)[None, :]
    return jnp.matmul(centred_bd, jnp.asarray(params.components_kd, x_bd.dtype).T, precision="highest")


def decode(params: PCAParams, z_bk: jax.Array) -> jax.Array:
    """Reconstructions of codings, (b, k) to (b, d), at highest matmul precision."""
    _check_floats(z_bk)
    product_bd = jnp.matmul(z_bk, jnp.asarray(params.components_kd, z_bk.dtype), precision="highest")
    return product_bd + jnp.asarray(params.mean_d, z_bk.dtype)[None, :]


def log_likelihood(params: PCAParams, k: int, x_nd: np.ndarray, *, unit: float = 1.0) -> np.ndarray | None:
    """Log-likelihood of each row `x_nd / unit` in nats, (n,) float64, under probabilistic PCA with k components.

    The normal density whose covariance is W W^T + sigma^2 I, at its maximum on the rows the PCA was fitted on (Tipping
    & Bishop 1999): sigma^2 is the mean of the d - k variances left out, denominator n, and that of component j its
    own. None where nothing is left out: there is no density then.
    """
    d, shrink = len(params.mean_d), (params.rows - 1) / params.rows
    variances_k = params.variances_k[:k] * shrink
    noise = (params.total_variance * shrink - variances_k.sum()) / (d - k) if k < d else 0.0
    if k >= params.rank or noise <= 0:
        return None
    log_determinant = np.log(variances_k).sum() + (d - k) * np.log(noise)
    found = []
    for block in _blocks(np.asarray(x_nd)):
        centred_nd = np.asarray(block, np.float64) / unit - params.mean_d
        z_nk = centred_nd @ params.components_kd[:k].T
        outside_n = np.square(centred_nd).sum(axis=1) - np.square(z_nk).sum(axis=1)
        distance_n = outside_n / noise + (np.square(z_nk) / variances_k).sum(axis=1)
        found.append(-0.5 * (distance_n + log_determinant + d * np.log(2 * np.pi)))
    return np.concatenate(found)


def _check_floats(array: jax.Array) -> None:
    if not jnp.issubdtype(array.dtype, jnp.floating):
        raise DataError("pca", f"{array.dtype} rows", "pass floats: dataset.floats(x)")


def error_curve(params: PCAParams, x_nd: np.ndarray, *, unit: float = 1.0) -> np.ndarray:
    """SSE of the rows `x_nd / unit` for 0, 1, … k components, (k + 1,): squared error summed over d, mean over n.

    All from one decomposition: by Pythagoras the error of the first j components is the squared distance to the mean
    less the squared codings 1…j. Entry 0 is the mean predictor's. Float64 throughout.
    """
    total, energy_k = 0.0, np.zeros(len(params.components_kd))
    with _float64():
        for block in _blocks(np.asarray(x_nd)):
            total += float(np.square(np.asarray(block, np.float64) / unit - params.mean_d).sum())
            z_nk = np.asarray(_project(block, params.mean_d, params.components_kd, unit))
            energy_k += np.square(z_nk).sum(axis=0)
    curve = (total - np.concatenate([[0.0], np.cumsum(energy_k)])) / len(x_nd)
    return np.maximum(curve, 0.0)
