"""What sparse codings reach at how many active ones, beside PCA at as many components."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from aejax.reporting.figures.drawing import Looks, dress, finish, grid, need, plain_ticks
from aejax.reporting.settings import Arrays, Setting, confidence, unique

L0, LEAST = "scores.l0", -0.1


def r2_against_l0(best: Sequence[Setting], looks: Looks, arrays: Arrays) -> Figure | None:
    """R2 on test against L0, a panel a dataset, every setting a point; PCA's R2 against its components in black.

    A dotted line runs from each point to PCA at equal R2. None where no setting has measured L0. Settings whose R2 is
    below LEAST are left out: `words` counts them.
    """
    measured = [s for s in _measured(best) if fmean(s.values("r2_test")) >= LEAST]
    if not measured:
        return None
    datasets = unique(s.dataset for s in measured)
    figure, axes = grid(len(datasets), 7.0 if len(datasets) == 1 else 5.2, 4.4)
    handles: dict[str, Any] = {}
    for ax, dataset in zip(axes, datasets, strict=True):
        here = [s for s in measured if s.dataset == dataset]
        curve = next(need(arrays, [run for s in here for run in s.completed], "pca_curve"))
        r2_k = 1 - curve / curve[0]
        places, heights = [], []
        for label in unique(s.label for s in here):
            line = sorted((s for s in here if s.label == label), key=lambda s: fmean(s.values(L0)))
            (colour, marker), x = looks[label], [fmean(s.values(L0)) for s in line]
            values, spread = [s.values("r2_test") for s in line], [s.values(L0) for s in line]
            means, half = [fmean(v) for v in values], [confidence(v) or 0.0 for v in values]
            wide = [confidence(v) or 0.0 for v in spread]
            style: dict[str, Any] = {"ms": 7, "mec": "white", "mew": 0.6, "lw": 1.4, "capsize": 3, "zorder": 3}
            handles[label] = ax.errorbar(x, means, half, wide, color=colour, marker=marker, **style)
            for place, mean, setting in zip(x, means, line, strict=True):
                heights.append(mean)
                worth = setting.over_seeds("pca_equivalent_dimension") or 0.0
                places += [place, max(worth, 1.0)]
                if worth >= 1:
                    ax.plot([place, worth], [mean, mean], ":", color=colour, lw=0.9, alpha=0.6, zorder=2)
        k = np.arange(1, len(curve))
        low, high = min(places) / 1.25, max(places) * 1.25
        shown = (k >= low) & (k <= high)
        handles["PCA"] = ax.plot(k[shown], r2_k[k[shown]], color="black", lw=1.6, zorder=1)[0]
        ax.set_xscale("log")
        ax.set_xlim(low, high)
        plain_ticks(ax.xaxis, high / low)
        ax.set_ylim(min(*heights, *r2_k[k[shown]]) - 0.05, 1.0)
        dress(ax, dataset, "active codings a row (L0), or components", "R² on test rows")
    handles["PCA"] = handles.pop("PCA")
    title = "R² against L0; dotted lines lead to PCA at equal R²"
    return finish(figure, title, list(handles.values()), list(handles))


def words(best: Sequence[Setting]) -> str:
    """What the figure leaves out."""
    below = sum(fmean(s.values("r2_test")) < LEAST for s in _measured(best))
    verb = "settings are" if below > 1 else "setting is"
    return f" {below} {verb} below R² {LEAST:g}, and not drawn." if below else ""


def _measured(best: Sequence[Setting]) -> list[Setting]:
    """Every completed setting, best or not, with an L0 above zero."""
    return [rival for s in best for rival in s.rivals if any(value > 0 for value in rival.values(L0))]
