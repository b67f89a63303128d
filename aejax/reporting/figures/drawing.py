"""How every figure looks: panels, axes, legends, mosaics of images. Imports matplotlib's object API, never pyplot."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, StrMethodFormatter

from aejax.reporting.settings import Arrays, Row

Looks = dict[str, tuple[str, str]]
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")  # Okabe & Ito's, safe for the colour-blind
MARKERS = "osD^vPX"
MOST_PANELS, MOST_BLOCKS, MOST_CURVES, MOST_CLASSES, MOST_FEATURES, MOST_SEEN = 12, 4, 4, 20, 36, 8


class MissingArraysError(Exception):
    """A figure needs the arrays of a run that are not in this copy; holds its run_id."""


def need(arrays: Arrays, runs: Sequence[Row], *names: str) -> Iterator[np.ndarray]:
    """These arrays of the first run that has them all."""
    for run in runs:
        found = arrays(run["run_id"]) or {}
        if all(name in found for name in names):
            return iter([found[name] for name in names])
    raise MissingArraysError(runs[0]["run_id"])


def spread(values: Sequence[Any], most: int) -> list[Any]:
    """At most `most` of the values, evenly spread, the last always among them."""
    return [values[round(i)] for i in np.linspace(len(values) - 1, 0, min(most, len(values)))][::-1]


def mosaic(images_md: np.ndarray, image_shape: Sequence[int], columns: int) -> np.ndarray:
    """Images (m, d) as one, (H, W) or (H, W, 3), with gaps that are NaN in grey and infinite (white) in colour."""
    height, width, colours = (*image_shape, 1)[:3]
    gap, rows = max(1, height // 14), math.ceil(len(images_md) / columns)
    tiles = np.full((rows * columns, height + gap, width + gap, colours), np.nan if colours == 1 else np.inf)
    tiles[: len(images_md), :height, :width] = np.reshape(images_md, (-1, height, width, colours))
    image = tiles.reshape(rows, columns, *tiles.shape[1:]).swapaxes(1, 2)
    image = image.reshape(rows * (height + gap), columns * (width + gap), colours)[:-gap, :-gap]
    return image[..., 0] if colours == 1 else image


def grid(panels: int, width: float, height: float) -> tuple[Figure, list[Axes]]:
    """A figure of so many panels, each of this size in inches, in at most three columns."""
    columns = next(c for c in (panels, 2, 3) if c <= 3 and (c == panels or panels == 4 or c == 3))
    rows = math.ceil(panels / columns)
    figure = Figure(figsize=(max(5.5, columns * width), rows * height + 0.6), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for ax in axes[panels:]:
        ax.set_axis_off()
    return figure, list(axes[:panels])


def finish(figure: Figure, title: str, handles: Sequence[Any] = (), names: Sequence[str] = ()) -> Figure:
    """Title above, legend below the panels, outside the data."""
    figure.suptitle(title, fontsize=13)
    if handles:
        texts = [short(name) for name in names]
        lines = [text.splitlines() for text in texts]
        columns = int(72 * figure.get_figwidth() / (50 + 6 * max(len(part) for text in lines for part in text)))
        columns = min(max(columns, 1), len(texts))
        height = 0.2 * math.ceil(len(texts) / columns) * max(map(len, lines))
        figure.set_figheight(figure.get_figheight() + height)
        texts = [" " * text.startswith("_") + text for text in texts]  # a leading underscore would hide it
        figure.legend(list(handles), texts, loc="outside lower center", ncols=columns, fontsize=10, frameon=False)
    return figure


def dress(ax: Axes, title: str, x: str = "", y: str = "", images: bool = False) -> None:
    """Title, axis names and frame of a panel."""
    ax.set_title(short(title), fontsize=11, loc="left" if images else "center")
    ax.set_xlabel(x, fontsize=10)
    ax.set_ylabel(y, fontsize=10)
    ax.tick_params(labelsize=9)
    ax.spines[:].set_visible(False) if images else ax.spines[["top", "right"]].set_visible(False)
    ax.set(xticks=[], yticks=[]) if images else ax.grid(alpha=0.25)


def plain_ticks(axis: Any, span: float) -> None:
    """Write the ticks of a logarithmic axis as ordinary numbers: 1, 2, 5, 10 … over few decades, else powers of ten."""
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if span < 500 else (1.0,)))
    axis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axis.set_minor_formatter(NullFormatter())


def epochs_axis(axis: Any, longest: int) -> None:
    """Whole epochs; powers of ten where there are many."""
    if longest > 200:
        axis.axes.set_xscale("log")
        plain_ticks(axis, math.inf)
    else:
        axis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1, steps=[1, 2, 5, 10]))


def short(text: str) -> str:
    """Text in lines short enough for a panel, and with no formulas in it."""
    lines = (part for line in text.splitlines() for part in textwrap.wrap(line, 34))
    return "\n".join(lines).replace("$", r"\$")
