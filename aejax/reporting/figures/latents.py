"""What codings are like inside: their spectrum beside PCA's, and how their values are distributed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from aejax.evaluation.diagnostics import pca_spectrum
from aejax.reporting.figures.drawing import Looks, dress, finish, grid, need, plain_ticks
from aejax.reporting.figures.generated import seen
from aejax.reporting.settings import Arrays, Setting, format_number

LEAST_SHARE = 1e-5


def spectrum(best: Sequence[Setting], looks: Looks, arrays: Arrays) -> Figure | None:
    """Eigenvalues of the codings' covariance as shares of their sum, and PCA's for as many codings."""
    shown = seen(best, images=False)
    if not shown:
        return None
    figure, axes = grid(len(shown), 4.4, 3.4)
    for ax, setting in zip(axes, shown, strict=True):
        values, curve = need(arrays, [setting.shown], "codings/spectrum", "pca_curve")
        pca, (colour, marker) = np.sort(pca_spectrum(curve, setting.codings))[::-1], looks[setting.label]
        most, low, high = max(len(values), len(pca)), 1.0, LEAST_SHARE
        for line, style in ((pca, {"color": "black", "lw": 1.6}), (values, {"color": colour, "lw": 1.6})):
            share = np.asarray(line, np.float64) / (line.sum() or 1.0)
            mark = (marker if line is values else "") if most <= 40 else ""
            at = np.flatnonzero(share > LEAST_SHARE)
            low, high = min(low, share[at].min(initial=1.0)), max(high, share[at].max(initial=LEAST_SHARE))
            ax.plot(at + 1, share[at], marker=mark, ms=5, mec="white", mew=0.5, **style)
        ax.set_yscale("log")
        ax.set_ylim(low / 1.3, high * 1.3)
        plain_ticks(ax.yaxis, high / low)
        if most > 40:
            ax.set_xscale("log")
            plain_ticks(ax.xaxis, most)
        else:
            ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        panel = setting.shown["health"]
        ranks = [format_number(panel[name], 3) for name in ("effective_rank", "pca_effective_rank")]
        dress(ax, f"{setting.label}, {setting.dataset}\neffective rank {ranks[0]}, PCA's {ranks[1]}")
        ax.set_xlabel("direction", fontsize=10)
        ax.set_ylabel("share of variance", fontsize=10)
    handles = [Line2D([], [], color="black", lw=1.6), Line2D([], [], color="0.4", marker="o", lw=1.6)]
    return finish(figure, "Spectrum of test codings", handles, ["PCA with as many codings", "codings"])


def activations(best: Sequence[Setting], looks: Looks, arrays: Arrays) -> Figure | None:
    """Histograms of the codings of test rows, a line a coding, each as high as its most frequent value.

    Of a coding that is often exactly zero it is of the other values, and the line says how many rows have one.
    """
    shown = seen(best, images=False)
    if not shown:
        return None
    figure, axes = grid(len(shown), 4.4, 4.6)
    for ax, setting in zip(axes, shown, strict=True):
        names = ("activations/counts", "activations/edges", "activations/units")
        counts, edges, units = need(arrays, [setting.shown], *names)
        active = (arrays(setting.shown["run_id"]) or {}).get("activations/active", np.ones(len(units)))
        colour, apart = looks[setting.label][0], (active < 1).any()
        for i in range(len(units)):
            height = 0.9 * counts[i] / counts[i].max()
            ax.stairs(height - i, edges[i], baseline=-i, fill=True, color=colour, alpha=0.55, lw=0)
            ax.stairs(height - i, edges[i], baseline=-i, color=colour, lw=0.7)
        names = [f"{unit} ({share:.2g})" if share < 1 else str(unit) for unit, share in zip(units, active, strict=True)]
        ax.set_yticks([-i for i in range(len(units))], names)
        axis = "coding (share of rows where it is not 0)" if apart else "coding"
        title = f"{setting.label}, {setting.dataset}\n{len(units)} of {setting.codings} codings"
        dress(ax, title + ", values other than 0" * bool(apart), "value", axis)
    return finish(figure, "Values of codings on test rows: those that vary most, each scaled to its highest bar")
