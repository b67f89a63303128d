"""Statistics of the codings: their spectrum beside PCA's, and the distribution of their values."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from aejax.evaluation.diagnostics import pca_spectrum
from aejax.reporting.figures.drawing import Styles, dress, finish, grid, load_optional, load_required, log_axis
from aejax.reporting.figures.generated import settings_to_show
from aejax.reporting.settings import ArrayLoader, Setting, format_number

LEAST_SHARE = 1e-5
"""Directions with a smaller share of the variance are not drawn."""


def spectrum(best: Sequence[Setting], styles: Styles, load_arrays: ArrayLoader) -> Figure | None:
    """Eigenvalues of the codings' covariance as shares of their sum, and PCA's for as many codings."""
    shown = settings_to_show(best, images=False)
    if not shown:
        return None
    figure, axes = grid(len(shown), 4.4, 3.4)
    for ax, setting in zip(axes, shown, strict=True):
        values, curve = load_required(load_arrays, [setting.best_run], "codings/spectrum", "pca_curve")
        pca = np.sort(pca_spectrum(curve, setting.codings))[::-1]
        colour, marker = styles[setting.label]
        directions = max(len(values), len(pca))
        low = 1.0
        high = LEAST_SHARE
        for line, line_colour, mark in ((pca, "black", ""), (values, colour, marker if directions <= 40 else "")):
            share = np.asarray(line, np.float64) / (line.sum() or 1.0)
            at = np.flatnonzero(share > LEAST_SHARE)
            low = min(low, share[at].min(initial=1.0))
            high = max(high, share[at].max(initial=LEAST_SHARE))
            ax.plot(at + 1, share[at], color=line_colour, lw=1.6, marker=mark, ms=5, mec="white", mew=0.5)
        log_axis(ax.yaxis, high / low)
        ax.set_ylim(low / 1.3, high * 1.3)
        if directions > 40:
            log_axis(ax.xaxis, directions)
        else:
            ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        health = setting.best_run["health"]
        rank, pca_rank = (format_number(health[name], 3) for name in ("effective_rank", "pca_effective_rank"))
        title = f"{setting.label}, {setting.dataset}\neffective rank {rank}, PCA's {pca_rank}"
        dress(ax, title, "direction", "share of variance")
    pca_line = Line2D([], [], color="black", lw=1.6)
    codings_line = Line2D([], [], color="0.4", marker="o", lw=1.6)
    return finish(figure, "Spectrum of test codings", {"PCA with as many codings": pca_line, "codings": codings_line})


def activations(best: Sequence[Setting], styles: Styles, load_arrays: ArrayLoader) -> Figure | None:
    """Histograms of codings on test rows, one line for each coding, scaled to its highest bar.

    For a coding that is often exactly zero, the histogram holds the other values, and its label says what share of the
    rows has one.
    """
    shown = settings_to_show(best, images=False)
    if not shown:
        return None
    figure, axes = grid(len(shown), 4.4, 4.6)
    for ax, setting in zip(axes, shown, strict=True):
        names = ("activations/counts", "activations/edges", "activations/units")
        counts, edges, units = load_required(load_arrays, [setting.best_run], *names)
        active = load_optional(load_arrays, setting.best_run, "activations/active")
        active = np.ones(len(units)) if active is None else active
        colour, _ = styles[setting.label]
        for i in range(len(units)):
            height = 0.9 * counts[i] / counts[i].max()
            ax.stairs(height - i, edges[i], baseline=-i, fill=True, color=colour, alpha=0.55, lw=0)
            ax.stairs(height - i, edges[i], baseline=-i, color=colour, lw=0.7)
        names = [f"{unit} ({share:.2g})" if share < 1 else str(unit) for unit, share in zip(units, active, strict=True)]
        ax.set_yticks([-i for i in range(len(units))], names)
        title = f"{setting.label}, {setting.dataset}\n{len(units)} of {setting.codings} codings"
        if (active < 1).any():
            dress(ax, title + ", values other than 0", "value", "coding (share of rows where it is not 0)")
        else:
            dress(ax, title, "value", "coding")
    return finish(figure, "Values of codings on test rows: those that vary most, each scaled to its highest bar")
