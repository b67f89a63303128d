"""The figures of an experiment, from its settings and arrays."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence

from matplotlib.figure import Figure
from PIL import Image

from aejax.reporting.figures import best as of_best
from aejax.reporting.figures import denoised as of_denoised
from aejax.reporting.figures import generated, latents
from aejax.reporting.figures import sparsity as of_sparsity
from aejax.reporting.figures import swept as of_swept
from aejax.reporting.figures.drawing import (
    COLOURS,
    MARKERS,
    MOST_CURVES,
    MOST_PANELS,
    MOST_SEEN,
    Looks,
    MissingArraysError,
)
from aejax.reporting.settings import Arrays, Setting, unique

__all__ = ["FIGURES", "MissingArraysError", "draw"]

FIGURES: dict[str, tuple[Callable[[Sequence[Setting], Looks, Arrays], Figure | None], str]] = {
    "error_against_codings.png": (
        of_best.error_against_codings,
        "Best by validation, mean and 95 % interval; PCA in black.",
    ),
    "swept.png": (of_swept.swept, "Error against each swept hyper-parameter, mean and 95 % interval; PCA in black."),
    "r2_against_l0.png": (
        of_sparsity.r2_against_l0,
        "Every setting's R² against its number of active codings; PCA against its number of components in black.",
    ),
    "reconstructions.png": (
        of_best.reconstructions,
        "Test images and what is left of them; runs chosen by validation.",
    ),
    "denoised.png": (
        of_denoised.denoised,
        "Noisy test images and what is made of them; runs chosen by validation.",
    ),
    "learning_curves.png": (
        of_best.learning_curves,
        "Error after each epoch of the settings that are best by validation.",
    ),
    "swept_curves.png": (
        of_swept.swept_curves,
        "Validation error after each epoch, coloured by the value of a swept hyper-parameter.",
    ),
    "codings_2d.png": (
        of_best.codings_2d,
        "Test rows in the plane of two codings, of more in that in which they vary most, beside PCA's; runs chosen by "
        "validation.",
    ),
    "features.png": (
        of_best.features,
        "Weights of the first layer at the most codings, those of dense layers times their input's standard deviation "
        "where the picture says so; runs chosen by validation.",
    ),
    "samples.png": (
        generated.samples,
        "New images: decoded samples of the prior or of a density of training codings; runs chosen by validation.",
    ),
    "interpolations.png": (generated.interpolations, "From one test row to another; runs chosen by validation."),
    "traversals.png": (
        generated.traversals,
        "Each coding moved over quantiles of training codings, or deviations of the prior; runs chosen by validation.",
    ),
    "activating.png": (generated.activating, "Images that most activate a coding; runs chosen by validation."),
    "activations.png": (latents.activations, "How codings are distributed; runs chosen by validation."),
    "spectrum.png": (latents.spectrum, "Directions in which codings vary, beside PCA's; runs chosen by validation."),
}
_IMAGES = ("samples.png", "interpolations.png", "traversals.png", "activating.png")
_SEEN = (*_IMAGES, "activations.png", "spectrum.png")
_FIRST_SPLIT = " Of data split in several ways the first split is drawn."
GREYS = 64
"""As many colours has a figure of hundreds of small grey images."""


def draw(name: str, settings: Sequence[Setting], arrays: Arrays) -> tuple[bytes, str] | None:
    """PNG of one of FIGURES and, in words, what was left out of it; None where the settings have no such figure.

    Raises MissingArraysError.
    """
    labels, best = unique(s.label for s in settings), [s for s in settings if s.best]
    looks = {label: (COLOURS[i % len(COLOURS)], MARKERS[i % len(MARKERS)]) for i, label in enumerate(labels)}
    figure = FIGURES[name][0](best, looks, arrays) if best else None
    if figure is None:
        return None
    file = io.BytesIO()
    dots = 120 if figure.get_figwidth() * figure.get_figheight() < 120 else 75  # many panels are shown small anyway
    figure.savefig(file, format="png", dpi=dots, bbox_inches="tight", metadata={"Software": None})
    return in_few_colours(file.getvalue(), GREYS if name in _IMAGES else 256), _left_out(name, best)


def in_few_colours(png: bytes, colours: int) -> bytes:
    """The picture with a palette in place of a colour a pixel: a third of the bytes, and no difference to the eye."""
    file = io.BytesIO()
    with Image.open(io.BytesIO(png)) as image:
        few = image.convert("RGB").quantize(colours, dither=Image.Dither.NONE)
        few.save(file, format="png", optimize=True, dpi=image.info.get("dpi"))
    return file.getvalue()


def _left_out(name: str, best: Sequence[Setting]) -> str:
    if name == "r2_against_l0.png":
        return of_sparsity.words(best)
    if name in ("swept.png", "swept_curves.png"):
        return of_swept.words(name, best)
    lines, blocks = of_best.by_label(best, None), {(s.dataset, s.codings) for s in best if s.image_shape}
    words = ""
    if name in _SEEN:
        images = name not in ("activations.png", "spectrum.png")
        splits = generated.by_split(best, images)
        words += f" Only the first {MOST_SEEN} labels are drawn." if len(splits) > MOST_SEEN else ""
        several = any(len(found) > 1 for found in splits.values())
        return words + _FIRST_SPLIT * several
    if name == "codings_2d.png":
        return _FIRST_SPLIT * (len(lines) > len({(line[0].runs[0]["dataset"], line[0].label) for line in lines}))
    if name != "error_against_codings.png" and len(lines) > MOST_PANELS:
        words += f" Only the first {MOST_PANELS} labels are drawn."
    if name == "learning_curves.png" and max(map(len, lines)) > MOST_CURVES:
        words += f" At most {MOST_CURVES} numbers of codings are drawn for a label."
    if name == "reconstructions.png" and len(drawn := of_best.blocks_of(best)) < len(blocks):
        words += f" Only {len(drawn)} of the {len(blocks)} numbers of codings are drawn."
    return words
