"""How every figure looks: panels, axes, legends, lines of images. Uses matplotlib's object API, never pyplot."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, StrMethodFormatter

from aejax.reporting.images import tile_images
from aejax.reporting.settings import ArrayLoader, Row, Setting, confidence_half_width, unique

Styles = dict[str, tuple[str, str]]
"""Colour and marker of each label."""
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
"""The palette of Okabe and Ito, which colour-blind readers can tell apart."""
MARKERS = "osD^vPX"
MOST_PANELS = 12
MOST_BLOCKS = 4
MOST_CURVES = 4
MOST_CLASSES = 20
MOST_FEATURES = 36
MOST_LABELS = 8


class MissingArraysError(Exception):
    """A figure needs the arrays of a run that are not in this copy; holds the run_id."""


class ImageLine(NamedTuple):
    """A line of images (m, d) in a figure, with its name on the left and perhaps a title above it."""

    title: str
    name: str
    images_md: np.ndarray
    image_shape: tuple[int, ...]


def load_required(load_arrays: ArrayLoader, rows: Sequence[Row], *names: str) -> list[np.ndarray]:
    """Return these arrays of the first run that has all of them. Raises MissingArraysError."""
    for row in rows:
        arrays = load_arrays(row["run_id"]) or {}
        if all(name in arrays for name in names):
            return [arrays[name] for name in names]
    raise MissingArraysError(rows[0]["run_id"])


def load_optional(load_arrays: ArrayLoader, row: Row, name: str) -> np.ndarray | None:
    """Return this array of a run, or None."""
    return (load_arrays(row["run_id"]) or {}).get(name)


def lacks_array(load_arrays: ArrayLoader, row: Row, name: str) -> bool:
    """Whether a run's arrays are in this copy, but without this one: then the run never had it."""
    arrays = load_arrays(row["run_id"])
    return arrays is not None and name not in arrays


def stack_curves(load_arrays: ArrayLoader, rows: Sequence[Row], name: str) -> np.ndarray:
    """Return this curve of every run, (p, epochs), cut to the epochs that all have. Raises MissingArraysError."""
    curves = [load_required(load_arrays, [row], name)[0] for row in rows]
    epochs = min(map(len, curves))
    return np.stack([curve[:epochs] for curve in curves])


def by_label(best: Sequence[Setting], most: int | None = MOST_PANELS) -> list[list[Setting]]:
    """The settings of each dataset and label, by number of codings; at most `most` lists."""
    keys = unique((setting.dataset, setting.label) for setting in best)[:most]
    return [[setting for setting in best if (setting.dataset, setting.label) == key] for key in keys]


def means_and_intervals(groups: Sequence[Sequence[float]]) -> tuple[np.ndarray, np.ndarray]:
    """The mean of each group of values, and the half-width of its interval (0 for a single value)."""
    means = np.array([np.mean(values) for values in groups])
    return means, np.array([confidence_half_width(values) or 0.0 for values in groups])


def spread(values: Sequence[Any], most: int) -> list[Any]:
    """At most `most` of the values, evenly spread, always including the last."""
    return [values[round(i)] for i in np.linspace(len(values) - 1, 0, min(most, len(values)))][::-1]


def grid(panels: int, width: float, height: float) -> tuple[Figure, list[Axes]]:
    """A figure of this many panels, each of this size in inches, in at most three columns."""
    columns = 2 if panels == 4 else min(panels, 3)
    rows = math.ceil(panels / columns)
    figure = Figure(figsize=(max(5.5, columns * width), rows * height + 0.6), layout="constrained")
    return figure, subplots(figure, panels, rows, columns)


def subplots(figure: Figure, panels: int, rows: int, columns: int, **options: Any) -> list[Axes]:
    """The first panels of a table of axes, row by row; the others are hidden, yet keep their place."""
    axes = figure.subplots(rows, columns, squeeze=False, **options).ravel()
    for ax in axes[panels:]:
        ax.set_axis_off()
    return list(axes[:panels])


def image_lines(lines: Sequence[ImageLine], width: float, title: str) -> Figure:
    """A figure of lines of images below each other, `width` inches wide."""
    pictures = [tile_images(line.images_md, line.image_shape, len(line.images_md)) for line in lines]
    heights = [7 * picture.shape[0] / picture.shape[1] for picture in pictures]
    height = sum(heights) + 0.1 * len(lines) + 0.35 * sum(bool(line.title) for line in lines) + 0.5
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots(len(lines), 1, squeeze=False, height_ratios=heights)[:, 0]
    for ax, line, picture in zip(axes, lines, pictures, strict=True):
        show_image(ax, picture)
        dress(ax, line.title, images=True)
        ax.set_ylabel(short(line.name), rotation=0, ha="right", va="center", fontsize=9)
    return finish(figure, title)


def show_image(ax: Axes, image: np.ndarray) -> None:
    """Show an image with values between 0 (black) and 1 (white)."""
    ax.imshow(np.clip(image, 0, 1), cmap="gray", vmin=0, vmax=1, interpolation="nearest")


def finish(figure: Figure, title: str, legend: Mapping[str, Any] | None = None) -> Figure:
    """Add a title above the panels and a legend below them, from handles by name. Returns the figure."""
    figure.suptitle(title, fontsize=13)
    if legend:
        texts = [short(name) for name in legend]
        lines = [text.splitlines() for text in texts]
        columns = int(72 * figure.get_figwidth() / (50 + 6 * max(len(part) for text in lines for part in text)))
        columns = min(max(columns, 1), len(texts))
        height = 0.2 * math.ceil(len(texts) / columns) * max(map(len, lines))
        figure.set_figheight(figure.get_figheight() + height)
        texts = [" " * text.startswith("_") + text for text in texts]  # a leading underscore would hide the entry
        handles = list(legend.values())
        figure.legend(handles, texts, loc="outside lower center", ncols=columns, fontsize=10, frameon=False)
    return figure


def dress(ax: Axes, title: str, x: str = "", y: str = "", images: bool = False) -> None:
    """Set the title, axis names and frame of a panel."""
    ax.set_title(short(title), fontsize=11, loc="left" if images else "center")
    ax.set_xlabel(x, fontsize=10)
    ax.set_ylabel(y, fontsize=10)
    ax.tick_params(labelsize=9)
    if images:
        ax.spines[:].set_visible(False)
        ax.set(xticks=[], yticks=[])
    else:
        ax.spines[["top", "right"]].set_visible(False)
        ax.grid(alpha=0.25)


def draw_mean_and_range(ax: Axes, curve_pe: np.ndarray, shade: float, marker: str = "o", **style: Any) -> None:
    """Draw the mean of p curves, (p, epochs), and their range with the opacity `shade`; `marker` for a single epoch."""
    epochs = np.arange(1, curve_pe.shape[1] + 1)
    ax.plot(epochs, curve_pe.mean(axis=0), marker=marker if len(epochs) == 1 else "", **style)
    ax.fill_between(epochs, curve_pe.min(axis=0), curve_pe.max(axis=0), color=style["color"], alpha=shade, lw=0)


def range_of(curves: Sequence[np.ndarray]) -> tuple[float, float]:
    """The lowest and highest finite value in all of these arrays, both at least 1e-30: a logarithmic axis' range."""
    values = np.concatenate([np.zeros(0), *map(np.ravel, curves)])
    finite = values[np.isfinite(values)]
    if not finite.size:
        return 1e-30, 1e-30
    return max(finite.min(), 1e-30), max(finite.max(), 1e-30)


def log_axis(axis: Any, ratio: float, most: float = 500) -> None:
    """Make an axis logarithmic, with plain numbers at its ticks and without minor labels.

    `ratio` is the axis' highest value divided by its lowest: below `most` the ticks are 1, 2, 5, 10, …, else powers
    of 10.
    """
    set_scale = axis.axes.set_xscale if axis.axis_name == "x" else axis.axes.set_yscale
    set_scale("log")
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if ratio < most else (1.0,)))
    axis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axis.set_minor_formatter(NullFormatter())


def epochs_axis(axis: Any, longest: int) -> None:
    """Put ticks at whole epochs; make the axis logarithmic above 200 epochs."""
    if longest > 200:
        log_axis(axis, math.inf)
    else:
        axis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1, steps=[1, 2, 5, 10]))


def short(text: str) -> str:
    """Text in lines short enough for a panel, with no formulas in it."""
    lines = (part for line in text.splitlines() for part in textwrap.wrap(line, 34))
    return "\n".join(lines).replace("$", r"\$")
