"""Noisy test images, and how each autoencoder, PCA and the best affine map denoise them."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure

from aejax.reporting.figures.drawing import MOST_BLOCKS, MOST_PANELS, ImageLine, Styles, image_lines, load_required
from aejax.reporting.settings import ArrayLoader, Row, Setting, format_number, unique


def denoised(best: Sequence[Setting], styles: Styles, load_arrays: ArrayLoader) -> Figure | None:
    """Clean images, noisy images and their reconstructions: one block for each data set and noise."""
    noises = [(noise_of(setting), setting) for setting in best if setting.image_shape]
    blocks = unique((setting.dataset, noise) for noise, setting in noises if noise)[:MOST_BLOCKS]
    if not blocks:
        return None
    lines: list[ImageLine] = []
    for dataset, noise in blocks:
        block = [setting for name, setting in noises if (setting.dataset, name) == (dataset, noise)][:MOST_PANELS]
        row = block[0].best_run
        shape = block[0].image_shape
        several = len({setting.codings for setting in block}) > 1
        names = [f"denoising/{kind}" for kind in ("clean", "noisy", "pca", "affine")]
        clean, noisy, pca, affine = load_required(load_arrays, [row], *names)
        lines.append(ImageLine(f"{dataset}, {noise}", "clean", clean, shape))
        lines.append(ImageLine("", _with_error("noisy", row, "noisy_sse_test"), noisy, shape))
        for setting in block:
            (images,) = load_required(load_arrays, [setting.best_run], "denoising/denoised")
            name = f"{setting.label}, {setting.codings} codings" if several else setting.label
            lines.append(ImageLine("", _with_error(name, setting.best_run, "denoised_sse_test"), images, shape))
        name = f"PCA, {row['scores']['pca_best_components']} components"
        lines.append(ImageLine("", _with_error(name, row, "pca_best_denoised_sse_test"), pca, shape))
        lines.append(ImageLine("", _with_error("best affine map", row, "affine_denoised_sse_test"), affine, shape))
    return image_lines(lines, 8.8, "Noisy test images, denoised (SSE against the clean ones: mean of all test rows)")


def noise_of(setting: Setting) -> str:
    """The noise that the setting's denoising score put on test rows, in words.

    Empty without such a score, or where no run has its numbers.
    """
    options = [score for score in setting.config.get("scores", []) if score["name"] == "denoising"]
    measured = any("denoised_sse_test" in row.get("scores", {}) for row in setting.completed)
    if not options or not measured:
        return ""
    return f"{options[0]['noise'].replace('_', ' ')} noise, level {options[0]['level']:g}"


def _with_error(name: str, row: Row, field: str) -> str:
    return f"{name}\nSSE {format_number(row['scores'][field], 3)}"
