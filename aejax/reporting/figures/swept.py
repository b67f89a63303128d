"""A sweep along its hyper-parameters: error against each of them, and learning curves coloured by their values."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from statistics import fmean
from typing import Any, NamedTuple

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, MaxNLocator, StrMethodFormatter, SymmetricalLogLocator

from aejax.reporting.figures import drawing
from aejax.reporting.figures.drawing import MOST_PANELS, Styles
from aejax.reporting.settings import ArrayLoader, Row, Setting, by_validation, count_noun, is_exact, swept_values

MOST_VALUES = 10
"""Curves in a panel."""
MOST_DIVERGED = 8
"""Curves of diverged runs that are drawn for one value."""
MOST_COUNTS = 24
"""With more values than this, the runs that did not complete are counted together, not for each value."""
CEILING = 10.0
"""Errors above this multiple of the mean predictor's error are drawn at the edge of the panel."""
SPLITS = {"sse_validation": ("validation", "#0072B2", "o", "-"), "sse_test": ("test", "#D55E00", "s", "--")}
FAILED = "#B00020"


class Panel(NamedTuple):
    """One hyper-parameter of the settings with one dataset, label and number of codings.

    `best` is the best of these settings by validation, `values` are the hyper-parameter's values in order.
    """

    best: Setting
    name: str
    values: list[float]

    @property
    def best_value(self) -> float | None:
        """The value that the best setting has."""
        return self.best.hyper.get(self.name)

    def settings_at(self, value: float) -> list[Setting]:
        """All settings with this value."""
        return [setting for setting in self.best.group if setting.hyper.get(self.name) == value]

    def rows_at(self, value: float) -> list[Row]:
        """The rows of all runs with this value."""
        return [row for setting in self.settings_at(value) for row in setting.runs]

    def best_at(self, value: float) -> Setting | None:
        """The best setting by validation with this value, or None when none has a completed run."""
        return next(iter(by_validation(self.settings_at(value))), None)

    @property
    def title(self) -> str:
        """The panel's label, dataset and number of codings."""
        return f"{self.best.label}, {self.best.dataset}, {count_noun(self.best.codings, 'coding')}"


def _panels_at(setting: Setting) -> list[Panel]:
    return [Panel(setting, name, values) for name, values in swept_values(setting.group).items()]


def panels_of(best: Sequence[Setting]) -> tuple[list[Panel], int]:
    """The panels to draw, and how many there could be. Where there are too many, numbers of codings are thinned out."""
    swept_best = [setting for setting in best if swept_values(setting.group)]
    lines = [[_panels_at(setting) for setting in line] for line in drawing.by_label(swept_best, None)]
    total = sum(len(panels) for line in lines for panels in line)
    most = max(1, MOST_PANELS // max(1, sum(max(map(len, line)) for line in lines)))
    if total > MOST_PANELS:
        lines = [drawing.spread(line, most) for line in lines]
    return [panel for line in lines for panels in line for panel in panels][:MOST_PANELS], total


def note(name: str, best: Sequence[Setting]) -> str:
    """What a reader of one of these figures must know: what is drawn, what did not complete, what is left out."""
    panels, total = panels_of(best)
    text = ""
    if any(len(panel.settings_at(value)) > 1 for panel in panels for value in panel.values):
        text += " Where settings with one value differ in something else, the best of them by validation is drawn."
    if name == "swept.png" and any(setting.completed != setting.runs for p in panels for setting in p.best.group):
        text += " ×: how many runs with that value did not complete, of all with it; they are in no mean."
    if name == "swept_curves.png" and any(len(_drawn_values(panel)) < len(panel.values) for panel in panels):
        text += f" At most {MOST_VALUES} values are drawn in a panel, the best by validation among them."
    if len(panels) < total:
        text += f" Only {len(panels)} of the {total} panels are drawn."
    return text


def swept(best: Sequence[Setting], styles: Styles, load_arrays: ArrayLoader) -> Figure | None:
    """Validation and test SSE against every hyper-parameter that takes several values; PCA's SSE in black."""
    panels, _ = panels_of(best)
    if not panels:
        return None
    figure, axes = drawing.grid(len(panels), 5.6 if len(panels) == 1 else 4.9, 3.9)
    handles: dict[str, Any] = {}
    for ax, panel in zip(axes, panels, strict=True):
        handles |= _draw_errors(ax, panel)
    order = ("PCA", "validation", "test", "best by validation", "did not complete", "beyond the axis")
    handles = {name: handles[name] for name in order if name in handles}
    return drawing.finish(figure, "Error against swept hyper-parameters", handles)


def _draw_errors(ax: Axes, panel: Panel) -> dict[str, Any]:
    """Draw one panel of `swept`. Returns the legend's handles by name."""
    handles: dict[str, Any] = {}
    settings = {value: setting for value in panel.values if (setting := panel.best_at(value)) is not None}
    row = panel.best.completed[0]
    pca = None if is_exact(row, "pca_sse_test") else row["pca_sse_test"]
    ceiling = CEILING * max(row["data"]["mean_sse_test"], pca or 0.0)
    errors = [fmean(setting.values(metric)) for setting in settings.values() for metric in SPLITS]
    errors = [error for error in errors if error <= ceiling]
    errors += [] if pca is None else [pca]
    low = min(errors, default=ceiling)
    high = max(errors, default=ceiling)
    _scale_values(ax, panel.values)
    if high > 10 * low > 0:
        top = high * (high / low) ** 0.12 * 1.1
        drawing.log_axis(ax.yaxis, high / low)
        ax.set_ylim(low / 1.4, top)
    else:
        top = high * 1.12 or 1.0
        ax.set_ylim(0.0, top)
    if pca is not None:
        handles["PCA"] = ax.axhline(pca, color="black", lw=1.6, zorder=1)
    style: dict[str, Any] = {"ms": 5.5, "mec": "white", "mew": 0.6, "lw": 1.4, "capsize": 3, "elinewidth": 1.0}
    if len(settings) > MOST_COUNTS:
        style |= {"ms": 3, "mew": 0.0, "lw": 0.8, "capsize": 0}
    x = np.array(list(settings))
    for metric, (split, colour, marker, dash) in SPLITS.items():
        means, half = drawing.means_and_intervals([setting.values(metric) for setting in settings.values()])
        inside = means <= top
        means_inside = np.where(inside, means, np.nan)
        handles[split] = ax.errorbar(x, means_inside, half, color=colour, marker=marker, ls=dash, **style)
        for value, mean in zip(x[~inside], means[~inside], strict=True):
            handles["beyond the axis"] = Line2D([], [], color="0.4", marker="^", ls="", ms=6)
            ax.plot(value, 0.97, "^", color=colour, ms=6, transform=ax.get_xaxis_transform(), clip_on=False)
            if metric == "sse_test":
                _write(ax, f"{mean:.1e}", value, 0.94, va="top", color=colour, fontsize=7)
    if panel.best_value in settings:
        ax.axvline(panel.best_value, color="#E69F00", lw=5, alpha=0.25, zorder=0)
        error = fmean(panel.best.values("sse_validation"))  # drawn at its error, whatever number chose the setting
        star: dict[str, Any] = {"marker": "*", "ms": 13, "ls": "", "mfc": "#E69F00", "mec": "black", "mew": 0.6}
        handles["best by validation"] = ax.plot(panel.best_value, error, zorder=5, **star)[0]
    handles |= _draw_failures(ax, panel)
    drawing.dress(ax, panel.title + "\nPCA is exact: SSE 0" * (pca is None), panel.name, "SSE")
    if "did not complete" in handles:  # the counts stand between the panel and its title
        ax.set_title(ax.get_title(), fontsize=11, pad=32 if 9 < len(panel.values) <= MOST_COUNTS else 26)
    return handles


def _write(ax: Axes, text: str, value: float, height: float, **style: Any) -> None:
    """Write text at a value of the x axis and a share of the panel's height."""
    at = (value, height)
    ax.annotate(text, at, xycoords=ax.get_xaxis_transform(), ha="center", annotation_clip=False, **style)


def _draw_failures(ax: Axes, panel: Panel) -> dict[str, Any]:
    """Mark the values with runs that did not complete, and count these above the panel. They are in no mean."""
    runs = {value: len(panel.rows_at(value)) for value in panel.values}
    failed = {value: sum(row["status"] != "completed" for row in panel.rows_at(value)) for value in panel.values}
    failed = {value: count for value, count in failed.items() if count}
    if not failed:
        return {}
    cross: dict[str, Any] = {"marker": "x", "ls": "", "color": FAILED, "mew": 1.6}
    text: dict[str, Any] = {"va": "bottom", "fontsize": 7.5, "color": FAILED}
    ax.plot(list(failed), [1.03] * len(failed), ms=5, transform=ax.get_xaxis_transform(), clip_on=False, **cross)
    if len(panel.values) > MOST_COUNTS:
        words = f"{sum(failed.values())} of {sum(runs[value] for value in failed)} runs at these values"
        ax.annotate(words, (0.5, 1.06), xycoords="axes fraction", ha="center", **text)
    else:
        narrow = len(panel.values) > 9
        for value, count in failed.items():
            words = f"{count}/{runs[value]}" if narrow else f"{count} of {runs[value]}"
            _write(ax, words, value, 1.06, rotation=90 if narrow else 0, **text)
    return {"did not complete": Line2D([], [], ms=6, **cross)}


def _scale_values(ax: Axes, values: Sequence[float]) -> None:
    """Choose scale and ticks of the x axis for these values, which are in order.

    The axis is logarithmic where the positive values span more than a factor of 10. Zero then stands on the left, in a
    short linear part of the axis, beyond a dotted line. A linear axis has its ticks at the values if they are few and
    far apart. Otherwise minor ticks mark the values.
    """
    ax.update_datalim([(value, 0.0) for value in values], updatey=False)
    ax.margins(x=0.08)
    positive = [value for value in values if value > 0]
    if values[0] >= 0 and len(positive) > 1 and positive[-1] > 10 * positive[0]:
        if values[0] > 0:
            drawing.log_axis(ax.xaxis, positive[-1] / positive[0], most=100)  # long labels, beside each other
        else:
            threshold = 10.0 ** math.floor(math.log10(positive[0]))
            ax.set_xscale("symlog", linthresh=threshold, linscale=0.5)
            ax.xaxis.set_major_locator(SymmetricalLogLocator(base=10, linthresh=threshold))
            ax.axvline(threshold / 2, color="0.6", lw=0.8, ls=":")
    elif min(np.diff(values)) >= 0.2 * (values[-1] - values[0]):
        ax.xaxis.set_major_locator(FixedLocator(values))
    else:
        ax.xaxis.set_major_locator(MaxNLocator(6))
    ax.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    if len(values) <= MOST_COUNTS:
        ax.xaxis.set_minor_locator(FixedLocator(values))


def swept_curves(best: Sequence[Setting], styles: Styles, load_arrays: ArrayLoader) -> Figure | None:
    """Validation error after each epoch at every value of a hyper-parameter, mean and range over seeds."""
    panels, _ = panels_of(best)
    if not panels:
        return None
    figure, axes = drawing.grid(len(panels), 5.6, 3.6)
    diverged = [_draw_curves(ax, panel, load_arrays) for ax, panel in zip(axes, panels, strict=True)]
    handles = {"★ best by validation": Line2D([], [], color="black", lw=2.6)}
    if any(diverged):
        handles["a run that diverged"] = Line2D([], [], color="black", ls=":", marker="x")
    return drawing.finish(figure, "Validation error: mean and range over seeds", handles)


def _draw_curves(ax: Axes, panel: Panel, load_arrays: ArrayLoader) -> bool:
    """Draw one panel of `swept_curves`. Returns whether it shows a diverged run."""
    values = _drawn_values(panel)
    shades = dict(zip(values, colormaps["viridis"](np.linspace(0, 0.92, len(values))), strict=True))
    handles = []
    curves: list[np.ndarray] = []
    diverged: list[tuple[Any, np.ndarray]] = []
    for value in values:
        setting = panel.best_at(value)
        is_best = value == panel.best_value
        colour = shades[value]
        if setting is not None:
            curves.append(drawing.stack_curves(load_arrays, setting.completed, "history/validation_error"))
            style: dict[str, Any] = {"lw": 2.6, "zorder": 3} if is_best else {"lw": 1.4, "zorder": 2}
            drawing.draw_mean_and_range(ax, curves[-1], 0.13, color=colour, **style)
        rows = panel.rows_at(value)
        finite = [_finite_part(load_arrays, row) for row in rows if row["status"] == "diverged"][:MOST_DIVERGED]
        diverged += [(colour, curve) for curve in finite if len(curve)]
        failed = sum(row["status"] != "completed" for row in rows)
        label = f"{value:g}" + " ★" * is_best + f" ({failed} of {len(rows)} lost)" * bool(failed)
        line = {"lw": 4, "ls": "-"} if setting else {"lw": 1, "ls": ":"}
        handles.append(Line2D([], [], color=colour, label=label, **line))
    low, high = drawing.range_of(curves)
    margin = (high / low) ** 0.05 * 1.02
    drawing.log_axis(ax.yaxis, high / low)
    ax.set_ylim(low / margin, high * margin)
    for colour, curve in diverged:
        _draw_diverged(ax, colour, curve)
    lengths = [curve.shape[-1] for curve in (*curves, *(curve for _, curve in diverged))]
    drawing.epochs_axis(ax.xaxis, max(lengths, default=1))
    drawing.dress(ax, panel.title, "epoch", "mean error per input")
    place: dict[str, Any] = {"loc": "center left", "bbox_to_anchor": (1.0, 0.5), "borderaxespad": 0.4}
    look: dict[str, Any] = {"fontsize": 8, "title_fontsize": 8, "frameon": False, "handlelength": 1.4}
    ax.legend(handles=handles, title=drawing.short(panel.name), **place, **look)
    return bool(diverged)


def _draw_diverged(ax: Axes, colour: Any, curve: np.ndarray) -> None:
    """Draw a diverged run's curve, with a cross where it ends or where it leaves the panel."""
    epochs = np.arange(1, len(curve) + 1)
    top = ax.get_ylim()[1]
    last = int(np.argmin(np.append(curve <= top, False)))  # the first epoch above the panel, or the number of epochs
    ax.plot(epochs[: last + 1], curve[: last + 1], ":", color=colour, lw=1.1)
    end = min(last, len(curve) - 1)
    ax.plot(epochs[end], min(float(curve[end]), top), "x", color=colour, ms=6, mew=1.8, clip_on=False, zorder=4)


def _finite_part(load_arrays: ArrayLoader, row: Row) -> np.ndarray:
    """A diverged run's validation error while it was finite; empty where its arrays are not in this copy."""
    curve = drawing.load_optional(load_arrays, row, "history/validation_error")
    return np.array(list(itertools.takewhile(math.isfinite, () if curve is None else curve)))


def _drawn_values(panel: Panel) -> list[float]:
    """The values whose curves are drawn: all, or some that are evenly spread and the best one."""
    values = drawing.spread(panel.values, MOST_VALUES)
    if panel.best_value is None or panel.best_value in values:
        return values
    return sorted([*drawing.spread(panel.values, MOST_VALUES - 1), panel.best_value])
