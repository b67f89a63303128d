"""Images that decoders make of new codings (samples, interpolations, traversals), and images that activate a coding."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure

from aejax.evaluation.artifacts import INTERPOLATION_STEPS, TRAVERSAL_DEVIATIONS, TRAVERSAL_QUANTILES
from aejax.reporting.figures.drawing import MOST_LABELS, Styles, dress, finish, load_required, show_image, subplots
from aejax.reporting.images import tile_images
from aejax.reporting.settings import ArrayLoader, Row, Setting, format_number

_DENSITIES = {"prior": "its prior", "gaussian": "a Gaussian", "mixture": "a Gaussian mixture"}


class ImageTable(NamedTuple):
    """A setting's images (r, c, d) as bytes in r rows and c columns, with names of the rows and columns or none."""

    setting: Setting
    images: np.ndarray
    row_names: list[str]
    column_names: list[str]


def settings_to_show(best: Sequence[Setting], images: bool = True) -> list[Setting]:
    """For every dataset and label, the best setting at its most codings, if its run has diagnostics.

    `images` asks for data sets of images only. Of a dataset that was split in several ways, the first split is shown.
    """
    splits = by_split(best, images)
    return [next(iter(settings.values()))[-1] for settings in list(splits.values())[:MOST_LABELS]]


def by_split(best: Sequence[Setting], images: bool = True) -> dict[tuple[str, str], dict[str, list[Setting]]]:
    """The settings that can be shown, by (dataset, label) and then by the name that tells a dataset's splits apart."""
    splits: dict[tuple[str, str], dict[str, list[Setting]]] = {}
    for setting in best:
        if setting.best_run.get("health") and (setting.image_shape or not images):
            key = (setting.runs[0]["dataset"], setting.label)
            splits.setdefault(key, {}).setdefault(setting.dataset, []).append(setting)
    return splits


def samples(best: Sequence[Setting], styles: Styles, load_arrays: ArrayLoader) -> Figure | None:
    """Samples of every label's run, and beside each the training row nearest to it."""
    lines: list[tuple[Setting, str, list[np.ndarray]]] = []
    for setting in settings_to_show(best):
        row = setting.best_run
        for density in _sampled_densities(row, load_arrays):
            names = [f"samples/{density}/{name}" for name in ("images", "nearest", "distance")]
            lines.append((setting, density, load_required(load_arrays, [row], *names, "samples/test_distance")))
    if not lines:
        return None
    aspect = max(_aspect(setting) for setting, *_ in lines)
    figure = Figure(figsize=(13.5, len(lines) * (4.1 * aspect + 0.6) + 0.5), layout="constrained")
    axes = figure.subplots(len(lines), 2, squeeze=False)
    for (left, right), (setting, density, arrays) in zip(axes, lines, strict=True):
        images, nearest, distance, test_distance = arrays
        mean_distance = format_number(float(distance.mean()), 3)
        mean_test_distance = format_number(float(test_distance.mean()), 3)
        subject = f"{setting.label}, {setting.dataset}, {setting.codings} codings"
        left_title = f"{subject}\n{len(images)} samples of {_DENSITIES[density]}"
        right_title = f"the training rows nearest to them\n{mean_distance} away; test rows {mean_test_distance}"
        for ax, title, shown in ((left, left_title, images), (right, right_title, nearest)):
            show_image(ax, tile_images(shown / 255, setting.image_shape, 10))
            dress(ax, title, images=True)
    return finish(figure, "New images, and the nearest training row of each (Euclidean distances, means)")


def _sampled_densities(row: Row, load_arrays: ArrayLoader) -> list[str]:
    """The densities whose samples are drawn: the mixture replaces the single Gaussian."""
    arrays = load_arrays(row["run_id"])
    if arrays is None:
        return ["gaussian"]  # every run has it: loading it raises MissingArraysError
    densities = [density for density in _DENSITIES if f"samples/{density}/images" in arrays]
    return [density for density in densities if density != "gaussian" or "mixture" not in densities]


def interpolations(best: Sequence[Setting], styles: Styles, load_arrays: ArrayLoader) -> Figure | None:
    """Pairs of test rows, and the decoded codings between theirs."""
    steps = [f"{i / (INTERPOLATION_STEPS - 1):.2f}" for i in range(INTERPOLATION_STEPS)]
    tables = []
    for setting in settings_to_show(best):
        images, ends = load_required(load_arrays, [setting.best_run], "interpolations/images", "interpolations/ends")
        images = np.concatenate([ends[:, :1], images, ends[:, 1:]], axis=1)
        tables.append(ImageTable(setting, images, [], ["row", *steps, "row"]))
    return _draw_tables(tables, "Between the codings of two test rows; left and right the rows themselves")


def traversals(best: Sequence[Setting], styles: Styles, load_arrays: ArrayLoader) -> Figure | None:
    """Each coding moved on its own, the others at their means."""
    tables = []
    for setting in settings_to_show(best):
        images, units = load_required(load_arrays, [setting.best_run], "traversals/images", "traversals/units")
        if "samples/prior/images" in (load_arrays(setting.best_run["run_id"]) or {}):
            steps = [f"{step:+g} sd" for step in TRAVERSAL_DEVIATIONS]
        else:
            steps = [f"{level:.0%}" for level in TRAVERSAL_QUANTILES]
        tables.append(ImageTable(setting, images, [f"coding {i}" for i in units], steps))
    return _draw_tables(tables, "One coding moved, the others at their mean: those that vary most")


def activating(best: Sequence[Setting], styles: Styles, load_arrays: ArrayLoader) -> Figure | None:
    """Test images with the largest values of a coding."""
    tables = []
    for setting in settings_to_show(best):
        images, units = load_required(load_arrays, [setting.best_run], "activating/images", "activating/units")
        tables.append(ImageTable(setting, images, [f"coding {i}" for i in units], []))
    return _draw_tables(tables, "Test images with the largest values of a coding: those that vary most")


def _draw_tables(tables: Sequence[ImageTable], title: str) -> Figure | None:
    """One panel for each table with images, two beside each other; None where no table has any."""
    tables = [table for table in tables if len(table.images)]
    if not tables:
        return None
    columns = min(2, len(tables))
    width = 6.4
    image_heights = [(width - 0.9) * len(t.images) / t.images.shape[1] * _aspect(t.setting) for t in tables]
    # 1.3 for a title of three lines and the names of the steps
    heights = [1.3 + max(image_heights[i : i + columns]) for i in range(0, len(tables), columns)]
    figure = Figure(figsize=(columns * width, sum(heights) + 0.5), layout="constrained")
    axes = subplots(figure, len(tables), len(heights), columns, height_ratios=heights)
    for ax, (setting, images, row_names, column_names) in zip(axes, tables, strict=True):
        image = tile_images(images.reshape(-1, images.shape[-1]) / 255, setting.image_shape, images.shape[1])
        show_image(ax, image)
        dress(ax, f"{setting.label}, {setting.dataset}, {setting.codings} codings", images=True)
        for axis, pixels, names in ((ax.xaxis, image.shape[1], column_names), (ax.yaxis, image.shape[0], row_names)):
            if any(names):
                axis.set_ticks([(i + 0.5) * pixels / len(names) for i in range(len(names))], names, fontsize=7)
                axis.set_tick_params(length=0)
    return finish(figure, title)


def _aspect(setting: Setting) -> float:
    """Height of an image divided by its width."""
    return setting.image_shape[0] / setting.image_shape[1]
