"""What decoders make of codings that no row has: samples, interpolations, traversals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from aejax.evaluation.artifacts import DEVIATIONS, LEVELS, STEPS
from aejax.reporting.figures.drawing import MOST_SEEN, Looks, dress, finish, mosaic, need
from aejax.reporting.settings import Arrays, Row, Setting, format_number

_KINDS = {"prior": "its prior", "gaussian": "a Gaussian", "mixture": "a Gaussian mixture"}


def seen(best: Sequence[Setting], images: bool = True) -> list[Setting]:
    """Of every dataset and label the best setting at its most codings, if its run kept what these figures show; of a
    dataset that was split in several ways, the first split.
    """
    splits = by_split(best, images)
    return [next(iter(found.values()))[-1] for found in list(splits.values())[:MOST_SEEN]]


def by_split(best: Sequence[Setting], images: bool = True) -> dict[tuple[str, str], dict[str, list[Setting]]]:
    """What can be shown, by dataset and label, and in these by what tells a dataset's splits apart."""
    found: dict[tuple[str, str], dict[str, list[Setting]]] = {}
    for s in best:
        if s.shown.get("health") and (s.image_shape or not images):
            found.setdefault((s.runs[0]["dataset"], s.label), {}).setdefault(s.dataset, []).append(s)
    return found


def samples(best: Sequence[Setting], looks: Looks, arrays: Arrays) -> Figure | None:
    """Samples of every label's run, and beside each the training row nearest to it."""
    lines: list[tuple[Setting, str, list[np.ndarray]]] = []
    for setting in seen(best):
        run = setting.shown
        for kind in _kinds(run, arrays):
            names = [f"samples/{kind}/{name}" for name in ("images", "nearest", "distance")]
            lines.append((setting, kind, list(need(arrays, [run], *names, "samples/test_distance"))))
    if not lines:
        return None
    tall = max(_shape(setting)[0] / _shape(setting)[1] for setting, *_ in lines)
    figure = Figure(figsize=(13.5, len(lines) * (4.1 * tall + 0.6) + 0.5), layout="constrained")
    axes = figure.subplots(len(lines), 2, squeeze=False)
    for (left, right), (setting, kind, (images, nearest, distance, test_distance)) in zip(axes, lines, strict=True):
        mean_distance = format_number(float(distance.mean()), 3)
        far = f"{mean_distance} away; test rows {format_number(float(test_distance.mean()), 3)}"
        what = f"{setting.label}, {setting.dataset}, {setting.codings} codings\n{len(images)} samples of "
        for ax, title, shown in (
            (left, what + _KINDS.get(kind, kind), images),
            (right, "the training rows nearest to them\n" + far, nearest),
        ):
            draw(ax, mosaic(shown / 255, setting.image_shape, 10))
            dress(ax, title, images=True)
    return finish(figure, "New images, and the nearest training row of each (Euclidean distances, means)")


def _kinds(run: Row, arrays: Arrays) -> list[str]:
    found = arrays(run["run_id"])
    if found is None:
        return ["gaussian"]  # whose absence will be said
    kinds = [kind for kind in _KINDS if f"samples/{kind}/images" in found]
    return [kind for kind in kinds if kind != "gaussian" or "mixture" not in kinds]


def interpolations(best: Sequence[Setting], looks: Looks, arrays: Arrays) -> Figure | None:
    """Pairs of test rows, and what is decoded on the way between their codings."""
    return _stacked(best, arrays, "Between the codings of two test rows; left and right the rows themselves", _between)


def traversals(best: Sequence[Setting], looks: Looks, arrays: Arrays) -> Figure | None:
    """Each coding moved on its own, the others at their means."""
    return _stacked(best, arrays, "One coding moved, the others at their mean: those that vary most", _moved)


def activating(best: Sequence[Setting], looks: Looks, arrays: Arrays) -> Figure | None:
    """Test images with the largest values of a coding."""
    return _stacked(best, arrays, "Test images with the largest values of a coding: those that vary most", _largest)


def _between(run: Row, arrays: Arrays) -> tuple[np.ndarray, list[str], list[str]]:
    images, ends = need(arrays, [run], "interpolations/images", "interpolations/ends")
    rows = np.concatenate([ends[:, :1], images, ends[:, 1:]], axis=1)
    return rows, [""] * len(rows), ["row", *[f"{i / (STEPS - 1):.2f}" for i in range(STEPS)], "row"]


def _moved(run: Row, arrays: Arrays) -> tuple[np.ndarray, list[str], list[str]]:
    images, units = need(arrays, [run], "traversals/images", "traversals/units")
    prior = "samples/prior/images" in (arrays(run["run_id"]) or {})
    steps = [f"{step:+g} sd" for step in DEVIATIONS] if prior else [f"{level:.0%}" for level in LEVELS]
    return images, [f"coding {i}" for i in units], steps


def _largest(run: Row, arrays: Arrays) -> tuple[np.ndarray, list[str], list[str]]:
    images, units = need(arrays, [run], "activating/images", "activating/units")
    return images, [f"coding {i}" for i in units], [""] * images.shape[1]


def _stacked(best: Sequence[Setting], arrays: Arrays, title: str, take: Any) -> Figure | None:
    """A panel a label, two in a row, of rows of images (r, c, d) with names."""
    panels: list[Any] = [(setting, *take(setting.shown, arrays)) for setting in seen(best)]
    panels = [panel for panel in panels if len(panel[1])]
    if not panels:
        return None
    columns = min(2, len(panels))
    lines = [panels[i : i + columns] for i in range(0, len(panels), columns)]
    width = 6.4
    heights = [  # of the images, then of a title of three lines and the names of the steps
        max((width - 0.9) * len(rows) / rows.shape[1] * _shape(s)[0] / _shape(s)[1] for s, rows, *_ in line) + 1.3
        for line in lines
    ]
    figure = Figure(figsize=(columns * width, sum(heights) + 0.5), layout="constrained")
    axes = figure.subplots(len(lines), columns, squeeze=False, height_ratios=heights).ravel()
    for ax in axes[len(panels) :]:
        ax.set_axis_off()
    for ax, (setting, rows, names, steps) in zip(axes, panels, strict=False):
        image = mosaic(rows.reshape(-1, rows.shape[-1]) / 255, setting.image_shape, rows.shape[1])
        draw(ax, image)
        dress(ax, f"{setting.label}, {setting.dataset}, {setting.codings} codings", images=True)
        for axis, size, texts in ((ax.xaxis, image.shape[1], steps), (ax.yaxis, image.shape[0], names)):
            if any(texts):
                axis.set_ticks([(i + 0.5) * size / len(texts) for i in range(len(texts))], texts, fontsize=7)
                axis.set_tick_params(length=0)
    return finish(figure, title)


def _shape(setting: Setting) -> tuple[int, int]:
    return setting.image_shape[0], setting.image_shape[1]


def draw(ax: Axes, image: np.ndarray) -> None:
    """A mosaic of images between 0 and 1."""
    ax.imshow(np.clip(image, 0, 1), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
