"""A population along its hyper-parameters: error against each of them, and learning curves coloured by its value."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean
from typing import Any, NamedTuple

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from aejax.reporting.figures import best as of_best
from aejax.reporting.figures.drawing import (
    MOST_PANELS,
    Looks,
    dress,
    epochs_axis,
    finish,
    grid,
    need,
    plain_ticks,
    short,
    spread,
)
from aejax.reporting.settings import Arrays, Row, Setting, by_validation, confidence, is_exact
from aejax.reporting.settings import swept_values as swept_values

MOST_VALUES = 10  # curves in a panel
MOST_DIVERGED = 8  # of one value, drawn until they were lost
MOST_COUNTS = 24  # values beside each of which the members that did not complete are counted
CEILING = 10.0  # errors above so many times the mean predictor's are drawn at the edge
SPLITS = {"sse_validation": ("#0072B2", "o", "-"), "sse_test": ("#D55E00", "s", "--")}


class Panel(NamedTuple):
    """One hyper-parameter of the settings with one dataset, label and number of codings; `best` is the chosen one."""

    best: Setting
    name: str
    values: list[float]

    @property
    def chosen(self) -> float | None:
        """The value that the best setting by validation has."""
        return self.best.hyper.get(self.name)

    def at(self, value: float) -> list[Setting]:
        """All settings with this value."""
        return [setting for setting in self.best.group if setting.hyper.get(self.name) == value]

    def shown(self, value: float) -> Setting | None:
        """The best setting by validation of those with this value, None when none has a completed run."""
        return next(iter(by_validation(self.at(value))), None)

    @property
    def title(self) -> str:
        """Whose panel it is."""
        return f"{self.best.label}, {self.best.dataset}, {self.best.codings} coding" + "s" * (self.best.codings != 1)

    @property
    def others(self) -> bool:
        """Whether settings with one value differ in something else too, so that the best of them was taken."""
        return any(len(self.at(value)) > 1 for value in self.values)


def panels_of(best: Sequence[Setting]) -> tuple[list[Panel], int]:
    """The panels to draw, numbers of codings evenly spread where there are too many; and how many there could be."""
    lines = [
        [[Panel(s, name, values) for name, values in swept_values(s.group).items()] for s in line]
        for line in of_best.by_label(best, None)
    ]
    lines = [[panels for panels in line if panels] for line in lines]
    lines = [line for line in lines if line]
    every = sum(len(panels) for line in lines for panels in line)
    most = max(1, MOST_PANELS // max(1, sum(max(map(len, line)) for line in lines)))
    drawn = [
        panel for line in lines for panels in spread(line, most if every > MOST_PANELS else every) for panel in panels
    ]
    return drawn[:MOST_PANELS], every


def words(name: str, best: Sequence[Setting]) -> str:
    """What a reader of one of these figures must know: what was chosen, what did not complete, what is left out."""
    drawn, every = panels_of(best)
    text = ""
    if any(panel.others for panel in drawn):
        text += " Where settings with one value differ in something else, the best of them by validation is drawn."
    if name == "swept.png" and any(s.completed != s.runs for panel in drawn for s in panel.best.group):
        text += " ×: how many runs with that value did not complete, of all with it; they are in no mean."
    if name == "swept_curves.png" and any(len(_drawn_values(panel)) < len(panel.values) for panel in drawn):
        text += f" At most {MOST_VALUES} values are drawn in a panel, the best by validation among them."
    if len(drawn) < every:
        text += f" Only {len(drawn)} of the {every} panels are drawn."
    return text


def swept(best: Sequence[Setting], looks: Looks, arrays: Arrays) -> Figure | None:
    """Validation and test SSE against every hyper-parameter that takes several values, a panel each; PCA's in black."""
    panels, _ = panels_of(best)
    if not panels:
        return None
    width = 5.6 if len(panels) == 1 else 4.9
    figure, axes = grid(len(panels), width, 3.9)
    handles: dict[str, Any] = {}
    for ax, panel in zip(axes, panels, strict=True):
        handles |= _draw_errors(ax, panel, width - 0.65)
    order = ("PCA", "validation", "test", "best by validation", "did not complete", "beyond the axis")
    names = [name for name in order if name in handles]
    return finish(figure, "Error against what was swept", [handles[name] for name in names], names)


def _draw_errors(ax: Axes, panel: Panel, inches: float) -> dict[str, Any]:
    """One panel of `swept`, so many inches wide inside. Returns the legend's handles by name."""
    place, handles = _axis_of(ax, panel, inches), {}
    shown = {value: setting for value in panel.values if (setting := panel.shown(value)) is not None}
    run = panel.best.completed[0]
    pca = None if is_exact(run, "pca_sse_test") else run["pca_sse_test"]
    ceiling = CEILING * max(run["data"]["mean_sse_test"], pca or 0.0)
    seen = [mean for s in shown.values() for metric in SPLITS if (mean := fmean(s.values(metric))) <= ceiling]
    seen += [] if pca is None else [pca]
    low, high = min(seen, default=ceiling), max(seen, default=ceiling)
    log = high > 10 * low > 0
    top = high * (high / low) ** 0.12 * 1.1 if log else high * 1.12 or 1.0
    if log:
        ax.set_yscale("log", nonpositive="clip")
        plain_ticks(ax.yaxis, high / low)
    ax.set_ylim((low / 1.4 if log else 0.0), top)
    if pca is not None:
        handles["PCA"] = ax.axhline(pca, color="black", lw=1.6, zorder=1)
    small = len(shown) > MOST_COUNTS
    for metric, (colour, marker, dash) in SPLITS.items():
        x, values = np.array([place[value] for value in shown]), [s.values(metric) for s in shown.values()]
        means, half = np.array([np.mean(v) for v in values]), np.array([confidence(v) or 0.0 for v in values])
        inside = means <= top
        style: dict[str, Any] = {"ms": 3 if small else 5.5, "mec": "white", "mew": 0.0 if small else 0.6}
        style |= {"lw": 0.8 if small else 1.4, "capsize": 0 if small else 3, "elinewidth": 1.0}
        handles["validation" if metric == "sse_validation" else "test"] = ax.errorbar(
            x, np.where(inside, means, np.nan), half, color=colour, marker=marker, ls=dash, **style
        )
        for one, mean in zip(x[~inside], means[~inside], strict=True):
            handles["beyond the axis"] = Line2D([], [], color="0.4", marker="^", ls="", ms=6)
            ax.plot(one, 0.97, "^", color=colour, ms=6, transform=ax.get_xaxis_transform(), clip_on=False)
            if metric == "sse_test":
                ax.annotate(
                    f"{mean:.1e}",
                    (one, 0.94),
                    xycoords=ax.get_xaxis_transform(),
                    ha="center",
                    va="top",
                    fontsize=7,
                    color=colour,
                )
    if panel.chosen in shown:
        ax.axvline(place[panel.chosen], color="#E69F00", lw=5, alpha=0.25, zorder=0)
        at = (place[panel.chosen], fmean(panel.best.values("sse_validation")))  # chosen by another criterion, maybe
        style = {"marker": "*", "ms": 13, "ls": "", "mfc": "#E69F00", "mec": "black", "mew": 0.6}
        handles["best by validation"] = ax.plot(*at, zorder=5, **style)[0]
    handles |= _count_lost(ax, panel, place)
    dress(ax, panel.title + "\nPCA is exact: SSE 0" * (pca is None), panel.name, "SSE")
    if "did not complete" in handles:  # their counts stand between the panel and its title
        ax.set_title(ax.get_title(), fontsize=11, pad=32 if 9 < len(panel.values) <= MOST_COUNTS else 26)
    return handles


def _count_lost(ax: Axes, panel: Panel, place: dict[float, float]) -> dict[str, Any]:
    """Above the panel's values, how many of the runs with each did not complete. They are never in a mean."""
    lost: dict[float, tuple[int, int]] = {}
    for value in panel.values:
        runs = [row for setting in panel.at(value) for row in setting.runs]
        failed = sum(row["status"] != "completed" for row in runs)
        lost |= {value: (failed, len(runs))} if failed else {}
    if not lost:
        return {}
    style: dict[str, Any] = {"marker": "x", "ls": "", "color": "#B00020", "mew": 1.6}
    above = ax.get_xaxis_transform()
    few, narrow = len(panel.values) <= MOST_COUNTS, len(panel.values) > 9
    ax.plot([place[value] for value in lost], [1.03] * len(lost), ms=5, transform=above, clip_on=False, **style)
    for value, (failed, runs) in lost.items() if few else ():
        text = f"{failed}/{runs}" if narrow else f"{failed} of {runs}"
        ax.annotate(
            text,
            (place[value], 1.06),
            xycoords=above,
            ha="center",
            va="bottom",
            fontsize=7.5,
            color="#B00020",
            rotation=90 if narrow else 0,
            annotation_clip=False,
        )
    if not few:
        failed, runs = (sum(counts) for counts in zip(*lost.values(), strict=True))
        text = f"{failed} of {runs} runs at these values"
        ax.annotate(
            text, (0.5, 1.06), xycoords="axes fraction", ha="center", va="bottom", fontsize=7.5, color="#B00020"
        )
    return {"did not complete": Line2D([], [], ms=6, **style)}


def _axis_of(ax: Axes, panel: Panel, inches: float) -> dict[float, float]:
    """Where each value stands on the x axis, which gets ticks at the values themselves: logarithms of them where they
    span more than a factor of 10, and then zero, if it is among them, apart on the left.
    """
    values = panel.values
    positive = [value for value in values if value > 0]
    logs = values[0] >= 0 and len(positive) > 1 and positive[-1] > 10 * positive[0]
    if logs:
        place = {value: math.log10(value) for value in positive}
        gap = max(0.5, (place[positive[-1]] - place[positive[0]]) / len(positive))
        place |= {0.0: place[positive[0]] - gap} if 0 in values else {}
        if 0 in values:
            ax.axvline(place[positive[0]] - gap / 2, color="0.6", lw=0.8, ls=":")
    else:
        place = {value: float(value) for value in values}
    low, high = min(place.values()), max(place.values())
    margin = 0.08 * (high - low) or 1.0
    ax.set_xlim(low - margin, high + margin)
    candidates = sorted(values, key=lambda v: (v not in (values[0], values[-1], panel.chosen), v))
    at = dict(place)
    if len(values) > MOST_COUNTS and logs:
        powers = range(math.ceil(place[positive[0]] - margin), math.floor(high + margin) + 1)
        at = {10.0**power: float(power) for power in powers} | ({0.0: place[0.0]} if 0 in values else {})
        candidates = sorted(at)
    per_inch = (high - low + 2 * margin) / inches
    ticks: list[float] = []
    for value in candidates:
        room = {tick: (0.06 + 0.04 * len(f"{value:g}{tick:g}")) * per_inch for tick in ticks}  # for half of each label
        if all(abs(at[value] - at[tick]) >= room[tick] for tick in ticks):
            ticks.append(value)
    ax.set_xticks([at[tick] for tick in ticks], [f"{tick:g}" for tick in ticks])
    return place


def swept_curves(best: Sequence[Setting], looks: Looks, arrays: Arrays) -> Figure | None:
    """Validation error after each epoch at every value of a hyper-parameter, mean and range over seeds."""
    panels, _ = panels_of(best)
    if not panels:
        return None
    figure, axes = grid(len(panels), 5.6, 3.6)
    crosses = False
    for ax, panel in zip(axes, panels, strict=True):
        values = _drawn_values(panel)
        shades = dict(zip(values, colormaps["viridis"](np.linspace(0, 0.92, len(values))), strict=True))
        low, high, longest, handles = math.inf, 1e-30, 1, []
        diverged: list[tuple[Any, np.ndarray]] = []
        for value in values:
            setting, chosen = panel.shown(value), value == panel.chosen
            if setting is not None:
                curves = [next(need(arrays, [run], "history/validation_error")) for run in setting.completed]
                epochs = min(map(len, curves))
                curve_pe, x = np.stack([curve[:epochs] for curve in curves]), np.arange(1, epochs + 1)
                style: dict[str, Any] = {"color": shades[value], "lw": 2.6 if chosen else 1.4}
                ax.plot(x, curve_pe.mean(axis=0), marker="o" if epochs == 1 else "", zorder=3 if chosen else 2, **style)
                ax.fill_between(x, curve_pe.min(axis=0), curve_pe.max(axis=0), color=shades[value], alpha=0.13, lw=0)
                low, high, longest = min(low, curve_pe.min()), max(high, curve_pe.max()), max(longest, epochs)
            runs = [row for one in panel.at(value) for row in one.runs]
            bad = [_until_lost(arrays, row) for row in runs if row["status"] == "diverged"][:MOST_DIVERGED]
            diverged += [(shades[value], curve) for curve in bad if len(curve)]
            failed = sum(row["status"] != "completed" for row in runs)
            note = " ★" * chosen + f" ({failed} of {len(runs)} lost)" * bool(failed)
            handles.append(Line2D([], [], color=shades[value], lw=4 if setting else 1, ls="-" if setting else ":"))
            handles[-1].set_label(f"{value:g}{note}")
        ax.set_yscale("log")
        low = max(min(low, high), 1e-30)
        ax.set_ylim(low / (high / low) ** 0.05 / 1.02, high * (high / low) ** 0.05 * 1.02)
        plain_ticks(ax.yaxis, high / low)
        for colour, curve in diverged:
            crosses, longest, x = True, max(longest, len(curve)), np.arange(1, len(curve) + 1)
            inside = np.append(curve <= ax.get_ylim()[1], False)
            last = int(np.argmin(inside))  # it ends here, or leaves the panel, where it gets its cross
            ax.plot(x[: last + 1], curve[: last + 1], ":", color=colour, lw=1.1)
            end = min(last, len(curve) - 1)
            edge = min(float(curve[end]), ax.get_ylim()[1])
            ax.plot(x[end], edge, "x", color=colour, ms=6, mew=1.8, clip_on=False, zorder=4)
        epochs_axis(ax.xaxis, longest)
        dress(ax, panel.title, "epoch", "mean error per input")
        ax.legend(
            handles=handles,
            title=short(panel.name),
            fontsize=8,
            title_fontsize=8,
            loc="center left",
            bbox_to_anchor=(1.0, 0.5),
            frameon=False,
            borderaxespad=0.4,
            handlelength=1.4,
        )
    marks = [Line2D([], [], color="black", lw=2.6)] + [Line2D([], [], color="black", ls=":", marker="x")] * crosses
    names = ["★ best by validation", "a run that diverged"][: len(marks)]
    return finish(figure, "Validation error: mean and range over seeds", marks, names)


def _until_lost(arrays: Arrays, run: Row) -> np.ndarray:
    """The finite beginning of a diverged run's validation error; empty where its arrays are not in this copy."""
    curve = (arrays(run["run_id"]) or {}).get("history/validation_error", np.zeros(0))
    return curve[: int(np.argmin(np.append(np.isfinite(curve), False)))]


def _drawn_values(panel: Panel) -> list[float]:
    """The values whose curves are drawn: of too many, some evenly spread and the chosen one."""
    some = spread(panel.values, MOST_VALUES)
    if panel.chosen is None or panel.chosen in some:
        return some
    return sorted([*spread(panel.values, MOST_VALUES - 1), panel.chosen])
