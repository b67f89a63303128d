"""The settings that are best by validation, beside PCA: errors, images, curves, codings and weights."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from aejax.reporting.figures import drawing
from aejax.reporting.figures.drawing import MOST_PANELS, ImageLine, Styles
from aejax.reporting.images import tile_images
from aejax.reporting.settings import ArrayLoader, Setting, format_number, unique


def error_against_codings(best: Sequence[Setting], styles: Styles, load_arrays: ArrayLoader) -> Figure:
    """Test SSE against the number of codings: one panel for each dataset, PCA's exact curve in black."""
    datasets = unique(setting.dataset for setting in best)
    figure, axes = drawing.grid(len(datasets), 7.0 if len(datasets) == 1 else 5.2, 4.2)
    handles: dict[str, Any] = {}
    for ax, dataset in zip(axes, datasets, strict=True):
        settings = [setting for setting in best if setting.dataset == dataset]
        rows = [row for setting in settings for row in setting.completed]
        (curve,) = drawing.load_required(load_arrays, rows, "pca_curve")
        fewest = min(setting.codings for setting in settings)
        most = max(setting.codings for setting in settings)
        wide = most >= 16 * fewest
        k = np.arange(int(wide), min(len(curve), max(most + 2, math.ceil(1.25 * most)) + 1))
        errors = np.concatenate([curve[k], [error for setting in settings for error in setting.values("sse_test")]])
        low = float(errors[errors > 1e-6 * curve[0]].min(initial=errors.max()))
        high = float(errors.max())
        k = k[curve[k] >= low]
        handles["PCA"] = ax.plot(k, curve[k], color="black", lw=1.6, zorder=1)[0]
        for label in unique(setting.label for setting in settings):
            line = [setting for setting in settings if setting.label == label]
            codings = [setting.codings for setting in line]
            means, half = drawing.means_and_intervals([setting.values("sse_test") for setting in line])
            colour, marker = styles[label]
            style: dict[str, Any] = {"ms": 7, "mec": "white", "mew": 0.6, "lw": 1.6, "capsize": 4}
            handles[label] = ax.errorbar(codings, means, half, color=colour, marker=marker, **style)
        if high > 10 * low > 0:
            drawing.log_axis(ax.yaxis, high / low)
            ax.set_ylim(low / 1.4, high * 1.4)
        else:
            ax.set_ylim(0, high * 1.08 or 1)
        if wide:
            drawing.log_axis(ax.xaxis, most / fewest)
        else:
            ax.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
        drawing.dress(ax, dataset, "codings", "SSE on test rows")
    return drawing.finish(figure, "Test error against the number of codings", handles)


def reconstructions(best: Sequence[Setting], styles: Styles, load_arrays: ArrayLoader) -> Figure | None:
    """Test images, their reconstructions by the best run of each label, and PCA's with as many codings."""
    lines: list[ImageLine] = []
    for dataset, codings in reconstructed_blocks(best):
        block = [setting for setting in best if (setting.dataset, setting.codings) == (dataset, codings)][:MOST_PANELS]
        row = block[0].best_run
        shape = block[0].image_shape
        original, pca = drawing.load_required(load_arrays, [row], "examples/original", "examples/pca")
        lines.append(ImageLine(f"{dataset}, {codings} codings", "original", original, shape))
        for setting in block:
            (images,) = drawing.load_required(load_arrays, [setting.best_run], "examples/reconstruction")
            name = f"{setting.label}\nSSE {format_number(setting.best_run['sse_test'], 3)}"
            lines.append(ImageLine("", name, images, shape))
        lines.append(ImageLine("", f"PCA\nSSE {format_number(row['pca_sse_test'], 3)}", pca, shape))
    title = "Test images and their reconstructions (SSE: mean of all test rows)"
    return drawing.image_lines(lines, 8.5, title) if lines else None


def learning_curves(best: Sequence[Setting], styles: Styles, load_arrays: ArrayLoader) -> Figure:
    """Error after each epoch, one panel for each label: validation solid, train dashed, mean and range over seeds."""
    panels = [drawing.spread(line, drawing.MOST_CURVES) for line in drawing.by_label(best)]
    figure, axes = drawing.grid(len(panels), 4.6, 3.3)
    codings = sorted({setting.codings for line in panels for setting in line})
    shades = dict(zip(codings, colormaps["viridis"](np.linspace(0, 0.82, len(codings))), strict=True))
    handles = {kind: Line2D([], [], color="black", ls=ls) for kind, ls in (("validation", "-"), ("train", "--"))}
    for ax, line in zip(axes, panels, strict=True):
        curves = []
        for setting in line:
            colour = shades[setting.codings] if len(codings) > 1 else styles[setting.label][0]
            for kind, ls, marker, width, alpha in (("train", "--", "x", 1.1, 0.7), ("validation", "-", "o", 1.5, 1.0)):
                curve_pe = drawing.stack_curves(load_arrays, setting.completed, f"history/{kind}_error")
                drawing.draw_mean_and_range(ax, curve_pe, 0.2, marker, color=colour, ls=ls, lw=width, alpha=alpha)
                curves.append(curve_pe)
                if curve_pe.shape[1] == 1:
                    handles[kind].set_marker(marker)
        low, high = drawing.range_of(curves)
        drawing.log_axis(ax.yaxis, high / low)
        drawing.epochs_axis(ax.xaxis, max(curve_pe.shape[1] for curve_pe in curves))
        drawing.dress(ax, f"{line[0].label}, {line[0].dataset}", "epoch", "mean error per input")
    if len(codings) > 1:
        handles |= {f"{k} codings": Line2D([], [], color=shades[k], lw=4) for k in codings}
    return drawing.finish(figure, "Learning curves: mean and range over seeds", handles)


def codings_2d(best: Sequence[Setting], styles: Styles, load_arrays: ArrayLoader) -> Figure | None:
    """Test rows in the plane of two codings, one panel for each label, and in the plane of two principal components.

    A label without a setting of two codings is shown at its most codings, in the plane in which they vary most. Of a
    dataset that was split in several ways, the first split is shown.
    """
    first_splits: dict[tuple[str, str], list[Setting]] = {}
    for line in drawing.by_label(best, most=None):
        first_splits.setdefault((line[0].runs[0]["dataset"], line[0].label), line)
    lines = [[setting for setting in line if setting.codings >= 2] for line in first_splits.values()]
    settings = [next((setting for setting in line if setting.codings == 2), line[-1]) for line in lines if line]
    settings = [s for s in settings if not drawing.lacks_array(load_arrays, s.best_run, "codings/test")]
    planes: list[tuple[str, np.ndarray, np.ndarray | None]] = []
    for dataset in unique(setting.dataset for setting in settings):
        shown = [setting for setting in settings if setting.dataset == dataset][:MOST_PANELS]
        for setting in shown:
            row = setting.best_run
            z_nk, pca_nk = drawing.load_required(load_arrays, [row], "codings/test", "codings/pca")
            labels = drawing.load_optional(load_arrays, row, "codings/labels")
            planes.append((f"{setting.label}, {dataset}\n{setting.codings} codings", z_nk, labels))
            if setting is shown[-1]:
                planes.append((f"PCA, {dataset}\n2 components", pca_nk, labels))
    if not planes:
        return None
    classes = sorted({int(c) for *_, labels in planes if labels is not None for c in np.unique(labels)})
    classes = classes if len(classes) <= drawing.MOST_CLASSES else []
    palette = colormaps["tab10" if len(classes) <= 10 else "tab20"](np.arange(len(classes)))
    figure, axes = drawing.grid(len(planes), 4.0, 3.7)
    for ax, (title, z_nk, labels) in zip(axes, planes, strict=True):
        colours = palette[np.searchsorted(classes, labels)] if classes and labels is not None else "0.35"
        ax.scatter(z_nk[:, 0], z_nk[:, 1], c=colours, s=8 if len(z_nk) > 500 else 20, alpha=0.7, lw=0)
        axis = {"2 components": "component", "2 codings": "coding"}.get(title.split("\n")[-1], "direction of codings")
        drawing.dress(ax, title, f"first {axis}", f"second {axis}")
    dots = [Line2D([], [], marker="o", ls="", ms=7, color=colour) for colour in palette]
    title = "Test rows in the plane in which codings vary most" + ", coloured by class" * bool(classes)
    return drawing.finish(figure, title, dict(zip(map(str, classes), dots, strict=True)))


def features(best: Sequence[Setting], styles: Styles, load_arrays: ArrayLoader) -> Figure | None:
    """First-layer weights as images, one for each hidden unit: the best run of each label at its most codings.

    Weights of dense layers are multiplied by the standard deviation of their input on training rows: the product says
    how much the input moves the unit. An input that is always 0 gives its weight no gradient from the error, so that
    the weight keeps its initial value; unscaled, such weights would hide the others.
    """
    shown = [line[-1] for line in drawing.by_label([setting for setting in best if setting.image_shape])]
    shown = [setting for setting in shown if not drawing.lacks_array(load_arrays, setting.best_run, "features")]
    if not shown:
        return None
    figure, axes = drawing.grid(len(shown), 4.2, 3.9)
    for ax, setting in zip(axes, shown, strict=True):
        (weights,) = drawing.load_required(load_arrays, [setting.best_run], "features")
        # runs of old versions have no deviation
        deviation = drawing.load_optional(load_arrays, setting.best_run, "features/deviation")
        weights = weights[: drawing.MOST_FEATURES] * (1.0 if deviation is None else deviation)
        limit = float(np.quantile(np.abs(weights), 0.995)) or 1.0
        shape = weights.shape[1:] if weights.ndim > 2 else setting.image_shape  # a convolution's kernels are smaller
        image = tile_images(weights, shape, math.ceil(math.sqrt(len(weights))), background=math.inf)
        units = f"{setting.codings} codings, {len(weights)} of {setting.widths[0]} units"
        scaled = "\nweights × input's s.d." * (deviation is not None)
        drawing.dress(ax, f"{setting.label}, {setting.dataset}\n{units}{scaled}", images=True)
        if image.ndim == 3:  # in colour images, zero is grey
            ax.imshow(np.clip(0.5 + image / (2 * limit), 0, 1), interpolation="nearest")
        else:
            drawn = ax.imshow(image, cmap="RdBu_r", vmin=-limit, vmax=limit, interpolation="nearest")
            figure.colorbar(drawn, ax=ax, shrink=0.7, pad=0.02).ax.tick_params(labelsize=8)
    return drawing.finish(figure, "First-layer weights: zero is white (in colour images grey), a scale for each label")


def reconstructed_blocks(best: Sequence[Setting]) -> list[tuple[str, int]]:
    """The (dataset, codings) whose reconstructions are drawn, for data sets of images.

    Where there are too many numbers of codings, those that most labels have are kept.
    """
    shown = [(setting.dataset, setting.codings) for setting in best if setting.image_shape]
    datasets = unique(dataset for dataset, _ in shown)
    limit = max(1, drawing.MOST_BLOCKS // max(1, len(datasets)))
    blocks = []
    for dataset in datasets:
        codings = sorted({k for name, k in shown if name == dataset})
        if len(codings) > limit:
            labels = {k: shown.count((dataset, k)) for k in codings}
            codings = [k for k in codings if labels[k] == max(labels.values())]
        blocks += [(dataset, k) for k in drawing.spread(codings, limit)]
    return blocks
