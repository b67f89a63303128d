"""Sparsity of codings: how many units are active in a row, and which units are never or often active."""

from __future__ import annotations

import numpy as np

from aejax.evaluation.scores.base import Comparison, Measurement, Score, TrainedRun

DENSE = 0.1
"""A unit is dense if it is active on more than this share of the rows."""
HEADERS = (
    ("l0", "L0", "codings of a test row that are not zero, mean"),
    ("effective_l0", "effective L0", "(sum of |z|)² / sum of z² of a test row's codings, mean: as many equal ones"),
    ("dead", "dead", "share of units that are zero on every test row"),
    ("dense", "dense", f"share of units that are not zero on more than {DENSE:.0%} of the test rows"),
)

_COMPARISON = Comparison(
    "l0",
    "pca_equivalent_dimension",
    "PCA at equal R² (which codings of a row are active, not counted)",
    "{ours} active codings against {theirs} components",
    "With a component for every unit",
    all_settings=True,
)


def sparsity() -> Score:
    """Sparsity of the codings of test rows, compared with the number of components that PCA needs for the same error.

    l0: codings of a row that are not zero, averaged over rows; 0 to k.
    effective_l0: (sum of |z|)^2 / sum of z^2 of a row, averaged over rows; 0 to k, and l0 where the active codings of a
        row have equal magnitudes (the participation ratio).
    dead: share of units that are zero on every row; lower is better.
    dense: share of units that are active on more than DENSE of the rows.

    The array `sparsity/activity`, (k,) float32, is the share of rows on which each unit is active. At an equal error a
    lower l0 is better.
    """
    return Score("sparsity", (), _measure, HEADERS, comparisons=(_COMPARISON,))


def counts(z_nk: np.ndarray) -> tuple[dict[str, float], np.ndarray]:
    """The numbers of `sparsity` by name, and the share of rows on which each unit is active, (k,) float64."""
    z_nk = np.abs(z_nk.astype(np.float64))
    activity_k = (z_nk > 0).mean(axis=0)
    squares_n = np.square(z_nk).sum(axis=1)
    effective_n = np.square(z_nk.sum(axis=1)) / np.where(squares_n > 0, squares_n, 1.0)
    numbers = {
        "l0": float((z_nk > 0).sum(axis=1).mean()),
        "effective_l0": float(effective_n.mean()),
        "dead": float((activity_k == 0).mean()),
        "dense": float((activity_k > DENSE).mean()),
    }
    return numbers, activity_k


def _measure(trained: TrainedRun) -> Measurement:
    numbers, activity_k = counts(trained.test_codings_nk)
    return {**numbers}, {"sparsity/activity": activity_k.astype(np.float32)}
