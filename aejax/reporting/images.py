"""Pictures of many images: tiles in a grid, and smaller PNG files."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def tile_images(
    images_md: np.ndarray, image_shape: Sequence[int], columns: int, *, gap: int | None = None, background: float = 1.0
) -> np.ndarray:
    """Arrange m flat images in a grid of `columns` columns, row by row.

    `image_shape` is (height, width) or (height, width, colours). Between the images are `gap` pixels of value
    `background`, by default a fourteenth of the height. Returns (H, W) for one colour, else (H, W, colours).
    """
    height, width, colours = (*image_shape, 1)[:3]
    gap = max(1, height // 14) if gap is None else gap
    rows = math.ceil(len(images_md) / columns)
    tiles = np.full((rows * columns, height + gap, width + gap, colours), background)
    tiles[: len(images_md), :height, :width] = np.reshape(images_md, (-1, height, width, colours))
    image = tiles.reshape(rows, columns, *tiles.shape[1:]).swapaxes(1, 2)
    image = image.reshape(rows * (height + gap), columns * (width + gap), colours)
    image = image[: len(image) - gap, : image.shape[1] - gap]
    return image[..., 0] if colours == 1 else image


def to_pixels(image: np.ndarray) -> np.ndarray:
    """Values between 0 and 1 as bytes, rounded to the nearest; values outside are clipped, NaN is 0."""
    return np.rint(np.clip(np.nan_to_num(np.asarray(image, np.float64)), 0, 1) * 255).astype(np.uint8)


def render(figure: Figure, colours: int) -> bytes:
    """The figure as a PNG with a palette of `colours` colours, with fewer pixels an inch if it is large."""
    buffer = io.BytesIO()
    large = figure.get_figwidth() * figure.get_figheight() >= 120  # a page shows many panels small anyway
    figure.savefig(buffer, format="png", dpi=75 if large else 120, bbox_inches="tight", metadata={"Software": None})
    return reduce_colours(buffer.getvalue(), colours)


def reduce_colours(png: bytes, colours: int) -> bytes:
    """The same picture with a palette of `colours` colours: about a third of the bytes, without visible difference."""
    from PIL import Image  # a slow import

    buffer = io.BytesIO()
    with Image.open(io.BytesIO(png)) as image:
        reduced = image.convert("RGB").quantize(colours, dither=Image.Dither.NONE)
        reduced.save(buffer, format="png", optimize=True, dpi=image.info.get("dpi"))
    return buffer.getvalue()
