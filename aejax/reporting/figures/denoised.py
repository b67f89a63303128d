"""Noisy test images and what each autoencoder, PCA and the best affine map make of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from aejax.reporting.figures.drawing import MOST_BLOCKS, MOST_PANELS, Looks, dress, finish, mosaic, need, short
from aejax.reporting.settings import Arrays, Setting, format_number, unique


def denoised(best: Sequence[Setting], looks: Looks, arrays: Arrays) -> Figure | None:
    """Clean images, the same with noise, and their reconstructions: a block a data set and noise."""
    asked = [(noise_of(s), s) for s in best if s.image_shape]
    blocks = unique((s.dataset, noise) for noise, s in asked if noise)[:MOST_BLOCKS]
    if not blocks:
        return None
    lines: list[tuple[str, str, np.ndarray]] = []
    for dataset, noise in blocks:
        block = [s for found, s in asked if (s.dataset, found) == (dataset, noise)][:MOST_PANELS]
        run, shape = block[0].shown, block[0].image_shape
        several = len({s.codings for s in block}) > 1
        kinds = ("clean", "noisy", "pca", "affine")
        clean, noisy, pca, affine = need(arrays, [run], *(f"denoising/{kind}" for kind in kinds))
        lines.append((f"{dataset}, {noise}", "clean", mosaic(clean, shape, len(clean))))
        lines.append(("", _named("noisy", run, "noisy_sse_test"), mosaic(noisy, shape, len(noisy))))
        for setting in block:
            images = next(need(arrays, [setting.shown], "denoising/denoised"))
            name = f"{setting.label}, {setting.codings} codings" if several else setting.label
            lines.append(("", _named(name, setting.shown, "denoised_sse_test"), mosaic(images, shape, len(images))))
        components = f"PCA, {run['scores']['pca_best_components']} components"
        lines.append(("", _named(components, run, "pca_best_denoised_sse_test"), mosaic(pca, shape, len(pca))))
        lines.append(
            ("", _named("best affine map", run, "affine_denoised_sse_test"), mosaic(affine, shape, len(affine)))
        )
    heights = [7 * image.shape[0] / image.shape[1] for *_, image in lines]
    figure = Figure(figsize=(8.8, sum(heights) + 0.1 * len(lines) + 0.35 * len(blocks) + 0.5), layout="constrained")
    axes = figure.subplots(len(lines), 1, squeeze=False, height_ratios=heights)[:, 0]
    for ax, (title, name, image) in zip(axes, lines, strict=True):
        ax.imshow(np.clip(image, 0, 1), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        dress(ax, title, images=True)
        ax.set_ylabel(short(name), rotation=0, ha="right", va="center", fontsize=9)
    return finish(figure, "Noisy test images, denoised (SSE against the clean ones: mean of all test rows)")


def noise_of(setting: Setting) -> str:
    """What noise its score put on test rows, in words; empty where none was asked for, or no run has its numbers."""
    asked = [one for one in setting.config.get("scores", []) if one["name"] == "denoising"]
    measured = any("denoised_sse_test" in row.get("scores", {}) for row in setting.completed)
    return f"{asked[0]['noise'].replace('_', ' ')} noise, level {asked[0]['level']:g}" if asked and measured else ""


def _named(name: str, row: dict, field: str) -> str:
    return f"{name}\nSSE {format_number(row['scores'][field], 3)}"
