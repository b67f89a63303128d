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

from aejax.reporting.figures.drawing import (
    MOST_BLOCKS,
    MOST_CLASSES,
    MOST_CURVES,
    MOST_FEATURES,
    MOST_PANELS,
    Looks,
    dress,
    epochs_axis,
    finish,
    grid,
    mosaic,
    need,
    plain_ticks,
    short,
    spread,
)
from aejax.reporting.settings import Arrays, Setting, confidence, format_number, unique


def error_against_codings(best: Sequence[Setting], looks: Looks, arrays: Arrays) -> Figure:
    """Test SSE against the number of codings, a panel a dataset; PCA's exact curve in black."""
    datasets = unique(s.dataset for s in best)
    figure, axes = grid(len(datasets), 7.0 if len(datasets) == 1 else 5.2, 4.2)
    handles: dict[str, Any] = {}
    for ax, dataset in zip(axes, datasets, strict=True):
        here = [s for s in best if s.dataset == dataset]
        curve = next(need(arrays, [run for s in here for run in s.completed], "pca_curve"))
        fewest, most = min(s.codings for s in here), max(s.codings for s in here)
        first = 1 if most >= 16 * fewest else 0
        k = np.arange(first, min(len(curve), max(most + 2, math.ceil(1.25 * most)) + 1))
        seen = np.concatenate([curve[k], [value for s in here for value in s.values("sse_test")]])
        low, high = float(seen[seen > 1e-6 * curve[0]].min(initial=seen.max())), float(seen.max())
        handles["PCA"] = ax.plot(k[curve[k] >= low], curve[k][curve[k] >= low], color="black", lw=1.6, zorder=1)[0]
        for label in unique(s.label for s in here):
            line = [s for s in here if s.label == label]
            (colour, marker), values = looks[label], [s.values("sse_test") for s in line]
            means, half = [np.mean(value) for value in values], [confidence(value) or 0.0 for value in values]
            style: dict[str, Any] = {"ms": 7, "mec": "white", "mew": 0.6, "lw": 1.6, "capsize": 4}
            codings = [s.codings for s in line]
            handles[label] = ax.errorbar(codings, means, half, color=colour, marker=marker, **style)
        if high > 10 * low > 0:
            ax.set_yscale("log", nonpositive="clip")
            ax.set_ylim(low / 1.4, high * 1.4)
            plain_ticks(ax.yaxis, high / low)
        else:
            ax.set_ylim(0, high * 1.08 or 1)
        ax.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
        if most >= 16 * fewest:
            ax.set_xscale("log")
            plain_ticks(ax.xaxis, most / fewest)
        dress(ax, dataset, "codings", "SSE on test rows")
    return finish(figure, "Test error against the number of codings", list(handles.values()), list(handles))


def reconstructions(best: Sequence[Setting], looks: Looks, arrays: Arrays) -> Figure | None:
    """Test images, their reconstructions by the best run of each label, and PCA's with as many codings."""
    lines, blocks = [], blocks_of(best)
    if not blocks:
        return None
    for dataset, k in blocks:
        block = [s for s in best if (s.dataset, s.codings) == (dataset, k)][:MOST_PANELS]
        run, shape = block[0].shown, block[0].image_shape
        original, pca = need(arrays, [run], "examples/original", "examples/pca")
        lines.append((f"{dataset}, {k} codings", "original", mosaic(original, shape, len(original))))
        for setting in block:
            images = next(need(arrays, [setting.shown], "examples/reconstruction"))
            name = f"{setting.label}\nSSE {format_number(setting.shown['sse_test'], 3)}"
            lines.append(("", name, mosaic(images, shape, len(images))))
        lines.append(("", f"PCA\nSSE {format_number(run['pca_sse_test'], 3)}", mosaic(pca, shape, len(pca))))
    heights = [7 * image.shape[0] / image.shape[1] for *_, image in lines]
    figure = Figure(figsize=(8.5, sum(heights) + 0.1 * len(lines) + 0.35 * len(blocks) + 0.5), layout="constrained")
    axes = figure.subplots(len(lines), 1, squeeze=False, height_ratios=heights)[:, 0]
    for ax, (title, name, image) in zip(axes, lines, strict=True):
        ax.imshow(np.clip(image, 0, 1), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        dress(ax, title, "", "", images=True)
        ax.set_ylabel(short(name), rotation=0, ha="right", va="center", fontsize=9)
    return finish(figure, "Test images and their reconstructions (SSE: mean of all test rows)")


def learning_curves(best: Sequence[Setting], looks: Looks, arrays: Arrays) -> Figure:
    """Error after each epoch, validation solid and train dashed, a panel a label; mean and range over seeds."""
    panels = [spread(line, MOST_CURVES) for line in by_label(best)]
    figure, axes = grid(len(panels), 4.6, 3.3)
    codings = sorted({s.codings for line in panels for s in line})
    shades = dict(zip(codings, colormaps["viridis"](np.linspace(0, 0.82, len(codings))), strict=True))
    markers = {"validation": "", "train": ""}
    for ax, line in zip(axes, panels, strict=True):
        low, high, longest = math.inf, 1e-30, 1
        for setting, kind in ((s, kind) for s in line for kind in ("train", "validation")):
            curves = [next(need(arrays, [run], f"history/{kind}_error")) for run in setting.completed]
            epochs = min(map(len, curves))
            curve_pe, x = np.stack([curve[:epochs] for curve in curves]), np.arange(1, epochs + 1)
            dash, alpha, width = ("--", 0.7, 1.1) if kind == "train" else ("-", 1.0, 1.5)
            colour = shades[setting.codings] if len(codings) > 1 else looks[setting.label][0]
            marker = {"train": "x", "validation": "o"}[kind] if epochs == 1 else ""
            ax.plot(x, curve_pe.mean(axis=0), dash, marker=marker, color=colour, lw=width, alpha=alpha)
            ax.fill_between(x, curve_pe.min(axis=0), curve_pe.max(axis=0), color=colour, alpha=0.2, lw=0)
            low, high, longest = min(low, curve_pe.min()), max(high, curve_pe.max()), max(longest, epochs)
            markers[kind] = markers[kind] or marker
        ax.set_yscale("log")
        plain_ticks(ax.yaxis, high / max(low, 1e-30))
        epochs_axis(ax.xaxis, longest)
        dress(ax, f"{line[0].label}, {line[0].dataset}", "epoch", "mean error per input")
    looks_of = (("-", markers["validation"]), ("--", markers["train"]))
    handles: list[Any] = [Line2D([], [], color="black", ls=dash, marker=marker) for dash, marker in looks_of]
    handles += [Line2D([], [], color=shades[k], lw=4) for k in codings if len(codings) > 1]
    names = ["validation", "train", *(f"{k} codings" for k in codings)][: len(handles)]
    return finish(figure, "Learning curves: mean and range over seeds", handles, names)


def codings_2d(best: Sequence[Setting], looks: Looks, arrays: Arrays) -> Figure | None:
    """Test rows in the plane of two codings, a panel a label, and in that of the first two principal components.

    A label without a setting of two codings is shown at its most codings, in the plane in which they vary most.
    """
    planes: list[tuple[str, np.ndarray, np.ndarray | None]] = []
    first: dict[tuple[str, str], list[Setting]] = {}
    for line in by_label(best, most=None):  # of a dataset that was split in several ways the first split
        first.setdefault((line[0].runs[0]["dataset"], line[0].label), line)
    lines = [[s for s in line if s.codings >= 2] for line in first.values()]
    chosen = [next((s for s in line if s.codings == 2), line[-1]) for line in lines if line]
    # a run whose arrays are here, but without such a plane, has none
    chosen = [s for s in chosen if "codings/test" in (arrays(s.shown["run_id"]) or ("codings/test",))]
    for dataset in unique(s.dataset for s in chosen):
        here = [s for s in chosen if s.dataset == dataset][:MOST_PANELS]
        for setting in here:
            run = setting.shown
            z_nk, pca_nk = need(arrays, [run], "codings/test", "codings/pca")
            labels = (arrays(run["run_id"]) or {}).get("codings/labels")
            planes.append((f"{setting.label}, {dataset}\n{setting.codings} codings", z_nk, labels))
            if setting is here[-1]:
                planes.append((f"PCA, {dataset}\n2 components", pca_nk, labels))
    if not planes:
        return None
    classes = sorted({int(c) for *_, labels in planes if labels is not None for c in np.unique(labels)})
    classes = classes if len(classes) <= MOST_CLASSES else []
    palette = colormaps["tab10" if len(classes) <= 10 else "tab20"](np.arange(len(classes)))
    figure, axes = grid(len(planes), 4.0, 3.7)
    for ax, (title, z_nk, labels) in zip(axes, planes, strict=True):
        colours = palette[np.searchsorted(classes, labels)] if classes and labels is not None else "0.35"
        ax.scatter(z_nk[:, 0], z_nk[:, 1], c=colours, s=8 if len(z_nk) > 500 else 20, alpha=0.7, lw=0)
        axis = {"2 components": "component", "2 codings": "coding"}.get(title.split("\n")[-1], "direction of codings")
        dress(ax, title, f"first {axis}", f"second {axis}")
    handles = [Line2D([], [], marker="o", ls="", ms=7, color=colour) for colour in palette]
    title = "Test rows in the plane in which codings vary most" + ", coloured by class" * bool(classes)
    return finish(figure, title, handles, [str(c) for c in classes])


def features(best: Sequence[Setting], looks: Looks, arrays: Arrays) -> Figure | None:
    """First-layer weights as images, one a hidden unit: the best run of each label at its most codings.

    Those of dense layers are times the standard deviation of their input on training rows: by how much it moves the
    unit. The weight of an input that is always 0 gets no gradient from the error: it stays where it started, and would
    drown the others.
    """
    shown = [line[-1] for line in by_label([s for s in best if s.image_shape])]
    # a run whose arrays are here, but without features, has none
    shown = [s for s in shown if "features" in (arrays(s.shown["run_id"]) or ("features",))]
    if not shown:
        return None
    figure, axes = grid(len(shown), 4.2, 3.9)
    for ax, setting in zip(axes, shown, strict=True):
        weights = next(need(arrays, [setting.shown], "features"))[:MOST_FEATURES]
        deviation = (arrays(setting.shown["run_id"]) or {}).get("features/deviation")  # older runs have none
        weights = weights if deviation is None else weights * deviation
        limit = float(np.quantile(np.abs(weights), 0.995)) or 1.0
        shape = weights.shape[1:] if weights.ndim > 2 else setting.image_shape  # a convolution's are smaller
        image = mosaic(weights, shape, math.ceil(math.sqrt(len(weights))))
        units = f"{setting.codings} codings, {len(weights)} of {setting.widths[0]} units"
        scaled = "\nweights × input's s.d." * (deviation is not None)
        dress(ax, f"{setting.label}, {setting.dataset}\n{units}{scaled}", images=True)
        if image.ndim == 3:  # in colour, grey is zero
            ax.imshow(np.clip(0.5 + image / (2 * limit), 0, 1), interpolation="nearest")
        else:
            drawn = ax.imshow(image, cmap="RdBu_r", vmin=-limit, vmax=limit, interpolation="nearest")
            figure.colorbar(drawn, ax=ax, shrink=0.7, pad=0.02).ax.tick_params(labelsize=8)
    return finish(figure, "First-layer weights: zero is white (in colour images grey), a scale for each label")


def by_label(best: Sequence[Setting], most: int | None = MOST_PANELS) -> list[list[Setting]]:
    """The settings of each dataset and label, by number of codings; at most `most` lists."""
    keys = unique((s.dataset, s.label) for s in best)[:most]
    return [[s for s in best if (s.dataset, s.label) == key] for key in keys]


def blocks_of(best: Sequence[Setting]) -> list[tuple[str, int]]:
    """Data sets of images and numbers of codings to show reconstructions of: of too many, those most labels have."""
    shown = [(s.dataset, s.codings) for s in best if s.image_shape]
    datasets, blocks = unique(dataset for dataset, _ in shown), []
    for dataset in datasets:
        codings, limit = sorted({k for name, k in shown if name == dataset}), max(1, MOST_BLOCKS // len(datasets))
        if len(codings) > limit:
            labels = {k: shown.count((dataset, k)) for k in codings}
            codings = [k for k in codings if labels[k] == max(labels.values())]
        blocks += [(dataset, k) for k in spread(codings, limit)]
    return blocks
