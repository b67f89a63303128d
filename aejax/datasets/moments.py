"""Fewer rows with the same mean and covariance: the full-batch quadratic loss of an affine net needs no more."""

from __future__ import annotations

import functools

import numpy as np

from aejax.datasets.base import Dataset

BLOCK_ROWS = 8192
"""Number of rows converted to float64 at a time."""


def condense_rows(x_nd: np.ndarray, unit: float = 1.0) -> np.ndarray:
    """At most d + 1 float32 rows with the mean and the covariance (denominator n) of the rows `x_nd / unit`.

    The mean squared error of any affine reconstruction is the same for both sets of rows, because it depends on the
    first and second moments of the rows only. With the eigendecomposition C = V diag(s) V^T of the covariance, the new
    rows are the mean plus sqrt(m) Q diag(sqrt(s)) V^T. Q has m rows and orthonormal columns, each orthogonal to the
    vector of ones (Helmert's matrix), so the part added to the mean has mean zero. If there are at most d + 1 rows,
    they are returned divided by `unit`.
    """
    from scipy.linalg import helmert  # a slow import

    n, d = x_nd.shape
    blocks = [x_nd[start : start + BLOCK_ROWS] for start in range(0, n, BLOCK_ROWS)]
    mean_d = sum(block.sum(axis=0, dtype=np.float64) for block in blocks) / (n * unit)
    if n <= d + 1:
        return (np.asarray(x_nd, np.float64) / unit).astype(np.float32)
    scatter_dd = np.zeros((d, d))
    for block in blocks:
        centred_bd = np.asarray(block, np.float64) / unit - mean_d
        scatter_dd += centred_bd.T @ centred_bd
    variances_k, vectors_dk = np.linalg.eigh(scatter_dd / n)
    positive_k = variances_k > variances_k[-1] * 1e-14
    rows_kd = np.sqrt(variances_k[positive_k])[:, None] * vectors_dk[:, positive_k].T
    m = len(rows_kd) + 1
    return (mean_d + np.sqrt(m) * helmert(m).T @ rows_kd).astype(np.float32)


@functools.lru_cache(maxsize=4)
def condense(dataset: Dataset) -> Dataset:
    """The dataset with condensed training and validation rows, which have no labels and `unit` 1.

    Test rows are unchanged; they still have to be divided by the `unit` of the original dataset.
    """
    x = {f"x_{split}": condense_rows(getattr(dataset, f"x_{split}"), dataset.unit) for split in ("train", "validation")}
    return dataset.replace(**x, y_train=None, y_validation=None, unit=1.0)
