"""How sparse codings are: how many are active in a row, and which never or almost always."""

from __future__ import annotations

import numpy as np

from aejax.evaluation.scores.base import Comparison, Measurement, Score, TrainedRun

DENSE = 0.1
HEADERS = (
    ("l0", "L0", "codings of a test row that are not zero, mean"),
    ("effective_l0", "effective L0", "(sum of |z|)² / sum of z² of a test row's codings, mean: as many equal ones"),
    ("dead", "dead", "share of units that are zero on every test row"),
    ("dense", "dense", f"share of units that are not zero on more than {DENSE:.0%} of the test rows"),
)

AGAINST = Comparison(
    "l0",
    "pca_equivalent_dimension",
    "PCA at equal R² (which codings of a row are active, not counted)",
    "{ours} active codings against {theirs} components",
    "With a component for every unit",
    curve=True,
)


def sparsity() -> Score:
    """L0, its effective number, and the shares of dead and of dense units, all on test."""
    return Score("sparsity", (), _measure, HEADERS, against=(AGAINST,))


def counts(z_nk: np.ndarray) -> tuple[dict[str, float], np.ndarray]:
    """The numbers of HEADERS, and the share of rows, (k,), on which each unit is active."""
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
    z_nk = trained.test_codings_nk
    numbers, activity_k = counts(z_nk)
    return {**numbers}, {"sparsity/activity": activity_k.astype(np.float32)}
