"""Health panel: numbers that describe the codings of any variant, and warnings where training failed in a known way."""

from __future__ import annotations

from typing import Any

import numpy as np

from aejax.datasets.base import evenly_spaced

MOST_ROWS = 1024
"""Most rows for the spectrum of more codings than this, so that the decomposition is at most of this size."""
ROUNDING = 1e-6
"""A coding is dead if its range over all rows is at most this share of its largest magnitude, as float32 rounds."""
ACTIVE = 1e-2
"""Variance above which a coding with a standard normal prior is active (Burda et al. 2015). Without a prior it is the
share of the mean variance of the codings."""
COLLAPSED_RANK = 1.1
"""Codings with at most this effective rank have collapsed, if that of PCA is at least MIN_PCA_RANK."""
MIN_PCA_RANK = 1.5
MIN_R2 = 0.01
"""A lower R2 on test rows gives a warning, unless half of PCA's R2 is lower still."""


def spectrum(z_nk: np.ndarray) -> np.ndarray:
    """Eigenvalues of the covariance of codings (denominator n), descending: (min(k, rows),) float64, at least 0.

    More than MOST_ROWS codings use at most MOST_ROWS evenly spaced rows.
    """
    if z_nk.shape[1] > MOST_ROWS:
        z_nk = z_nk[evenly_spaced(len(z_nk), MOST_ROWS)]
    centred_nk = np.asarray(z_nk, np.float64)
    centred_nk = centred_nk - centred_nk.mean(axis=0)
    by_rows = len(centred_nk) < centred_nk.shape[1]
    gram = centred_nk @ centred_nk.T if by_rows else centred_nk.T @ centred_nk
    return np.maximum(np.linalg.eigvalsh(gram / len(z_nk))[::-1], 0.0)


def effective_rank(values_k: np.ndarray) -> float:
    """Exponential of the entropy of the normalised eigenvalues (Roy & Vetterli 2007), from 0 to k.

    It is k where all k eigenvalues are equal, 1 where only one is not zero, and 0 where all are zero.
    """
    total = float(values_k.sum())
    if total <= 0:
        return 0.0
    share_k = values_k[values_k > 0] / total
    return float(np.exp(-(share_k * np.log(share_k)).sum()))


def examine(z_nk: np.ndarray, curve: np.ndarray, sse: float, *, prior: bool = False) -> dict[str, Any]:
    """The health panel of the codings (n, k) of test rows.

    curve: SSE of exact PCA on the same rows with 0, 1, … components.
    sse: SSE of the autoencoder on these rows.
    prior: whether the codings have a standard normal prior.

    Keys of the panel:

    codings: number of codings k.
    active_units: codings whose variance is above ACTIVE.
    dead_units: codings with the same value for every row.
    effective_rank: `effective_rank` of the codings' spectrum.
    pca_effective_rank: that of the codings of PCA with as many components.
    share_nonzero: share of all values that are not zero.
    warnings: one sentence for each problem.

    The numbers but `codings` are None where codings are not finite.
    """
    k = z_nk.shape[1]
    if not np.isfinite(z_nk).all():
        names = ("active_units", "dead_units", "effective_rank", "pca_effective_rank", "share_nonzero")
        return {"codings": k, **dict.fromkeys(names), "warnings": ["Codings of some test rows are not finite."]}
    variance_k = z_nk.var(axis=0, dtype=np.float64)
    dead_k = np.ptp(z_nk, axis=0) <= ROUNDING * np.abs(z_nk).max(axis=0)
    active_k = ~dead_k & (variance_k > ACTIVE * (1.0 if prior else variance_k.mean()))
    panel = {
        "codings": k,
        "active_units": int(active_k.sum()),
        "dead_units": int(dead_k.sum()),
        "effective_rank": 0.0 if dead_k.all() else effective_rank(spectrum(z_nk)),
        "pca_effective_rank": effective_rank(pca_spectrum(curve, k)),
        "share_nonzero": float(np.count_nonzero(z_nk) / z_nk.size),
    }
    return {**panel, "warnings": _warnings(panel, curve, sse, prior)}


def pca_spectrum(curve: np.ndarray, codings: int) -> np.ndarray:
    """Mean squares of the first `codings` PCA codings, in the order of the components: the steps of the error curve."""
    return np.maximum(-np.diff(np.asarray(curve, np.float64)), 0.0)[:codings]


def _warnings(panel: dict[str, Any], curve: np.ndarray, sse: float, prior: bool) -> list[str]:
    k = panel["codings"]
    dead = panel["dead_units"]
    warnings = []
    if dead == k:
        warnings.append("Collapsed: every test row has the same codings.")
    elif prior and panel["active_units"] == 0:
        warnings.append("Collapsed: no coding tells one test row from another, all stay at the prior.")
    elif k > 1 and panel["effective_rank"] <= COLLAPSED_RANK and panel["pca_effective_rank"] >= MIN_PCA_RANK:
        rank = f"effective rank {panel['effective_rank']:.2f}, PCA's is {panel['pca_effective_rank']:.2f}"
        warnings.append(f"Collapsed: the {k} codings vary along one direction only ({rank}).")
    elif 2 * dead > k:
        warnings.append(f"{dead} of {k} codings are dead: the same for every test row.")
    mean_sse = float(curve[0])
    pca_sse = float(curve[min(k, len(curve) - 1)])
    if mean_sse > 0 and 1 - sse / mean_sse < min(MIN_R2, 0.5 * (1 - pca_sse / mean_sse)):
        warnings.append(f"Reconstructs test rows no better than their mean does (R² {1 - sse / mean_sse:.3f}).")
    return warnings
