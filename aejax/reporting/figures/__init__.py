"""The figures of an experiment, from its settings and arrays."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from matplotlib.figure import Figure

from aejax.reporting import images
from aejax.reporting.figures import best, denoised, drawing, generated, latents, sparsity, swept
from aejax.reporting.figures.drawing import COLOURS, MARKERS, MissingArraysError, Styles
from aejax.reporting.settings import ArrayLoader, Setting, unique

__all__ = ["FIGURES", "MissingArraysError", "draw"]

FIGURES: dict[str, tuple[Callable[[Sequence[Setting], Styles, ArrayLoader], Figure | None], str]] = {
    "error_against_codings.png": (
        best.error_against_codings,
        "Test error of the settings that are best by validation, mean and 95 % interval; PCA in black.",
    ),
    "swept.png": (swept.swept, "Error against each swept hyper-parameter, mean and 95 % interval; PCA in black."),
    "r2_against_l0.png": (
        sparsity.r2_against_l0,
        "Every setting's R² against its number of active codings; PCA against its number of components in black.",
    ),
    "reconstructions.png": (
        best.reconstructions,
        "Test images and their reconstructions; runs chosen by validation.",
    ),
    "denoised.png": (
        denoised.denoised,
        "Noisy test images and their reconstructions; runs chosen by validation.",
    ),
    "learning_curves.png": (
        best.learning_curves,
        "Error after each epoch of the settings that are best by validation.",
    ),
    "swept_curves.png": (
        swept.swept_curves,
        "Validation error after each epoch, coloured by the value of a swept hyper-parameter.",
    ),
    "codings_2d.png": (
        best.codings_2d,
        "Test rows in the plane of two codings, or in the plane in which more codings vary most, beside PCA's; runs "
        "chosen by validation.",
    ),
    "features.png": (
        best.features,
        "Weights of the first layer at the most codings; weights of dense layers are multiplied by their input's "
        "standard deviation where the title says so; runs chosen by validation.",
    ),
    "samples.png": (
        generated.samples,
        "New images: decoded samples of the prior, or of a density of training codings; runs chosen by validation.",
    ),
    "interpolations.png": (
        generated.interpolations,
        "Interpolations from one test row to another; runs chosen by validation.",
    ),
    "traversals.png": (
        generated.traversals,
        "Each coding moved over quantiles of training codings, or over standard deviations of the prior; runs chosen "
        "by validation.",
    ),
    "activating.png": (generated.activating, "Images that most activate a coding; runs chosen by validation."),
    "activations.png": (latents.activations, "Distributions of the codings; runs chosen by validation."),
    "spectrum.png": (
        latents.spectrum,
        "Variance of the codings in each direction, beside PCA's; runs chosen by validation.",
    ),
}
"""File name of each figure, the function that draws it, and its caption."""
_OF_MANY_IMAGES = ("samples.png", "interpolations.png", "traversals.png", "activating.png")
_OF_ONE_RUN_A_LABEL = (*_OF_MANY_IMAGES, "activations.png", "spectrum.png")
_FIRST_SPLIT = " Of data split in several ways the first split is drawn."
GREYS = 64
"""Number of colours in a figure of hundreds of small grey images."""


def draw(name: str, settings: Sequence[Setting], load_arrays: ArrayLoader) -> tuple[bytes, str] | None:
    """Draw one of FIGURES. Returns its PNG and a note on what it leaves out, or None where it does not apply.

    Raises MissingArraysError.
    """
    labels = unique(setting.label for setting in settings)
    settings_to_draw = [setting for setting in settings if setting.best]
    styles = {label: (COLOURS[i % len(COLOURS)], MARKERS[i % len(MARKERS)]) for i, label in enumerate(labels)}
    figure = FIGURES[name][0](settings_to_draw, styles, load_arrays) if settings_to_draw else None
    if figure is None:
        return None
    png = images.render(figure, colours=GREYS if name in _OF_MANY_IMAGES else 256)
    return png, _note(name, settings_to_draw)


def _note(name: str, settings_to_draw: Sequence[Setting]) -> str:
    """What a figure leaves out, in words; empty where it is complete."""
    if name == "r2_against_l0.png":
        return sparsity.note(settings_to_draw)
    if name in ("swept.png", "swept_curves.png"):
        return swept.note(name, settings_to_draw)
    if name in _OF_ONE_RUN_A_LABEL:
        splits = generated.by_split(settings_to_draw, images=name in _OF_MANY_IMAGES)
        note = f" Only the first {drawing.MOST_LABELS} labels are drawn." if len(splits) > drawing.MOST_LABELS else ""
        return note + _FIRST_SPLIT * any(len(settings) > 1 for settings in splits.values())
    lines = drawing.by_label(settings_to_draw, None)
    if name == "codings_2d.png":
        return _FIRST_SPLIT * (len(lines) > len({(line[0].runs[0]["dataset"], line[0].label) for line in lines}))
    note = ""
    if name != "error_against_codings.png" and len(lines) > drawing.MOST_PANELS:
        note += f" Only the first {drawing.MOST_PANELS} labels are drawn."
    if name == "learning_curves.png" and max(map(len, lines)) > drawing.MOST_CURVES:
        note += f" At most {drawing.MOST_CURVES} numbers of codings are drawn for a label."
    if name == "reconstructions.png":
        blocks = {(setting.dataset, setting.codings) for setting in settings_to_draw if setting.image_shape}
        drawn = best.reconstructed_blocks(settings_to_draw)
        if len(drawn) < len(blocks):
            note += f" Only {len(drawn)} of the {len(blocks)} numbers of codings are drawn."
    return note
