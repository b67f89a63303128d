"""The health panel: what a set of codings is like, whatever variant they come from, and plain words where it is ill."""

from __future__ import annotations

from typing import Any

import numpy as np

MOST_ROWS = 1024
"""Rows whose spectrum is taken where there are more codings than this: the cost then stays that of so many codings."""
ROUNDING = 1e-6
"""A coding whose range over all rows is at most this share of its size does not vary: float32 rounds as much."""
ACTIVE = 1e-2
"""Variance above which a coding is active: of a variational one (its prior's variance is 1; Burda et al. 2015), else as
a share of the codings' mean variance."""
COLLAPSED_RANK, RANK_OF_MORE = 1.1, 1.5
LEAST_R2 = 0.01


def spectrum(z_nk: np.ndarray) -> np.ndarray:
    """Eigenvalues of the codings' covariance (denominator n), downwards, float64: min(k, rows) of them, none negative.

    With more than MOST_ROWS codings they are those of MOST_ROWS evenly spaced rows.
    """
    if z_nk.shape[1] > MOST_ROWS and len(z_nk) > MOST_ROWS:
        z_nk = z_nk[np.linspace(0, len(z_nk) - 1, MOST_ROWS).astype(int)]
    centred_nk = np.asarray(z_nk, np.float64)
    centred_nk = centred_nk - centred_nk.mean(axis=0)
    by_rows = len(centred_nk) < centred_nk.shape[1]
    gram = centred_nk @ centred_nk.T if by_rows else centred_nk.T @ centred_nk
    return np.maximum(np.linalg.eigvalsh(gram / len(z_nk))[::-1], 0.0)


def effective_rank(values_k: np.ndarray) -> float:
    """Exponential of the entropy of the normalised eigenvalues (Roy & Vetterli 2007): k when all k are equal, 1 when
    only one is not zero, 0 when none is.
    """
    total = float(values_k.sum())
    if total <= 0:
        return 0.0
    share_k = values_k[values_k > 0] / total
    return float(np.exp(-(share_k * np.log(share_k)).sum()))


def examine(z_nk: np.ndarray, curve: np.ndarray, sse: float, *, prior: bool = False) -> dict[str, Any]:
    """The panel of codings of test rows, (n, k), whose reconstructions have that SSE.

    `curve` is exact PCA's SSE on the same rows for 0, 1, … components, so its steps are PCA's spectrum. `prior` says
    that the codings have a standard normal prior. Keys: codings, active_units, dead_units (the same value for every
    row), effective_rank and pca_effective_rank (of PCA with as many codings), share_nonzero, and warnings, a plain
    sentence each. Numbers are None where codings are not finite.
    """
    k = z_nk.shape[1]
    if not np.isfinite(z_nk).all():
        names = ("active_units", "dead_units", "effective_rank", "pca_effective_rank", "share_nonzero")
        return {"codings": k, **dict.fromkeys(names), "warnings": ["Codings of some test rows are not finite."]}
    values_k, pca_k = spectrum(z_nk), pca_spectrum(curve, k)
    variance_k = z_nk.var(axis=0, dtype=np.float64)
    dead_k = np.ptp(z_nk, axis=0) <= ROUNDING * np.abs(z_nk).max(axis=0)
    active_k = ~dead_k & (variance_k > ACTIVE * (1.0 if prior else variance_k.mean()))
    panel = {
        "codings": k,
        "active_units": int(active_k.sum()),
        "dead_units": int(dead_k.sum()),
        "effective_rank": 0.0 if dead_k.all() else effective_rank(values_k),
        "pca_effective_rank": effective_rank(pca_k),
        "share_nonzero": float(np.count_nonzero(z_nk) / z_nk.size),
    }
    return {**panel, "warnings": _warnings(panel, curve, sse, prior)}


def pca_spectrum(curve: np.ndarray, codings: int) -> np.ndarray:
    """Mean squares of the first PCA codings, downwards as PCA orders them: the steps of its error curve."""
    return np.maximum(-np.diff(np.asarray(curve, np.float64)), 0.0)[:codings]


def _warnings(panel: dict[str, Any], curve: np.ndarray, sse: float, prior: bool) -> list[str]:
    k, dead, found = panel["codings"], panel["dead_units"], []
    if dead == k:
        found.append("Collapsed: every test row has the same codings.")
    elif prior and panel["active_units"] == 0:
        found.append("Collapsed: no coding tells one test row from another, all stay at the prior.")
    elif k > 1 and panel["effective_rank"] <= COLLAPSED_RANK and panel["pca_effective_rank"] >= RANK_OF_MORE:
        rank = f"effective rank {panel['effective_rank']:.2f}, PCA's is {panel['pca_effective_rank']:.2f}"
        found.append(f"Collapsed: the {k} codings vary along one direction only ({rank}).")
    elif 2 * dead > k:
        found.append(f"{dead} of {k} codings are dead: the same for every test row.")
    mean, pca = float(curve[0]), float(curve[min(k, len(curve) - 1)])
    if mean > 0 and 1 - sse / mean < min(LEAST_R2, 0.5 * (1 - pca / mean)):
        found.append(f"Reconstructs test rows no better than their mean does (R² {1 - sse / mean:.3f}).")
    return found
