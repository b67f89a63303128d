"""R² of sparse codings against their number of active codings, beside PCA with as many components."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from aejax.reporting.figures.drawing import Styles, dress, finish, grid, load_required, log_axis, means_and_intervals
from aejax.reporting.settings import ArrayLoader, Setting, unique

L0 = "scores.l0"
LEAST_R2 = -0.1
"""Settings whose R² on test is below this are not drawn."""


def r2_against_l0(best: Sequence[Setting], styles: Styles, load_arrays: ArrayLoader) -> Figure | None:
    """R² on test against L0: one panel for each dataset, one point for each setting, PCA's R² in black.

    A dotted line runs from each point to PCA at equal R². Returns None where no setting has measured L0. Settings below
    LEAST_R2 are left out: `note` counts them.
    """
    measured = [setting for setting in _with_l0(best) if fmean(setting.values("r2_test")) >= LEAST_R2]
    if not measured:
        return None
    datasets = unique(setting.dataset for setting in measured)
    figure, axes = grid(len(datasets), 7.0 if len(datasets) == 1 else 5.2, 4.4)
    handles: dict[str, Any] = {}
    for ax, dataset in zip(axes, datasets, strict=True):
        settings = [setting for setting in measured if setting.dataset == dataset]
        rows = [row for setting in settings for row in setting.completed]
        (curve,) = load_required(load_arrays, rows, "pca_curve")
        r2_k = 1 - curve / curve[0]
        x_seen = []
        y_seen = []
        for label in unique(setting.label for setting in settings):
            line = sorted((s for s in settings if s.label == label), key=lambda setting: fmean(setting.values(L0)))
            colour, marker = styles[label]
            x, x_half = means_and_intervals([setting.values(L0) for setting in line])
            y, y_half = means_and_intervals([setting.values("r2_test") for setting in line])
            style: dict[str, Any] = {"ms": 7, "mec": "white", "mew": 0.6, "lw": 1.4, "capsize": 3, "zorder": 3}
            handles[label] = ax.errorbar(x, y, y_half, x_half, color=colour, marker=marker, **style)
            for l0, r2, setting in zip(x, y, line, strict=True):
                components = setting.over_seeds("pca_equivalent_dimension") or 0.0
                x_seen += [l0, max(components, 1.0)]
                y_seen.append(r2)
                if components >= 1:
                    ax.plot([l0, components], [r2, r2], ":", color=colour, lw=0.9, alpha=0.6, zorder=2)
        low = min(x_seen) / 1.25
        high = max(x_seen) * 1.25
        k = np.arange(1, len(curve))
        k = k[(k >= low) & (k <= high)]
        handles["PCA"] = ax.plot(k, r2_k[k], color="black", lw=1.6, zorder=1)[0]
        log_axis(ax.xaxis, high / low)
        ax.set_xlim(low, high)
        ax.set_ylim(min(*y_seen, *r2_k[k]) - 0.05, 1.0)
        dress(ax, dataset, "active codings of a row (L0), or components", "R² on test rows")
    handles["PCA"] = handles.pop("PCA")  # last in the legend
    return finish(figure, "R² against L0; dotted lines lead to PCA at equal R²", handles)


def note(best: Sequence[Setting]) -> str:
    """A note on how many settings the figure leaves out; empty where it draws all of them."""
    below = sum(fmean(setting.values("r2_test")) < LEAST_R2 for setting in _with_l0(best))
    verb = "settings are" if below > 1 else "setting is"
    return f" {below} {verb} below R² {LEAST_R2:g}, and not drawn." if below else ""


def _with_l0(best: Sequence[Setting]) -> list[Setting]:
    """The completed settings with an L0 above zero, whether they are the best or not."""
    return [rival for setting in best for rival in setting.rivals if any(l0 > 0 for l0 in rival.values(L0))]
