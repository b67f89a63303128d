"""Fewer rows with the same mean and covariance: all that a full-batch quadratic loss of an affine net sees."""

from __future__ import annotations

import dataclasses
import functools

import numpy as np

from aejax.datasets.base import Dataset

BLOCK_ROWS = 8192


def condensed(x_nd: np.ndarray, unit: float = 1.0) -> np.ndarray:
    """At most d + 1 float32 rows with the mean and the covariance (denominator n) of the rows `x_nd / unit`.

    A squared error averaged over rows is the same for both, whatever affine map makes the reconstruction: it is a sum
    over the second moments of the rows and a constant. With C = V diag(s) V^T the rows are the mean plus
    sqrt(m) Q diag(sqrt(s)) V^T, Q having m rows and orthonormal columns that are orthogonal to the ones vector
    (Helmert's), so that the mean of the added part is zero. Rows as few as that already are returned as they are.
    """
    n, d = x_nd.shape
    blocks = [x_nd[start : start + BLOCK_ROWS] for start in range(0, n, BLOCK_ROWS)]
    mean_d = sum(block.sum(axis=0, dtype=np.float64) for block in blocks) / (n * unit)
    if n <= d + 1:
        return (np.asarray(x_nd, np.float64) / unit).astype(np.float32)
    scatter_dd = np.zeros((d, d))
    for block in blocks:
        centred = np.asarray(block, np.float64) / unit - mean_d
        scatter_dd += centred.T @ centred
    variances_k, vectors_dk = np.linalg.eigh(scatter_dd / n)
    kept = variances_k > variances_k[-1] * 1e-14
    rows_kd = np.sqrt(variances_k[kept])[:, None] * vectors_dk[:, kept].T
    m = len(rows_kd) + 1
    i = np.arange(1, m)
    helmert = np.tril(np.ones((m - 1, m)))  # row i: i ones, then -i
    helmert[i - 1, i] = -i
    helmert /= np.sqrt(i * (i + 1.0))[:, None]
    return (mean_d + np.sqrt(m) * helmert.T @ rows_kd).astype(np.float32)


@functools.lru_cache(maxsize=4)
def condense(dataset: Dataset) -> Dataset:
    """The dataset with its training and validation rows condensed; test rows stay as they are, in their own unit."""
    parts = {f"x_{split}": condensed(getattr(dataset, f"x_{split}"), dataset.unit) for split in ("train", "validation")}
    return dataclasses.replace(dataset, **parts, y_train=None, y_validation=None, unit=1.0)
