"""Output files of inference: arrays (.npy), tables (.csv) and pictures (.png)."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from aejax.reporting.images import tile_images, to_pixels
from aejax.runtime.errors import ConfigError, MachineError


def check_path(path: Path, suffixes: Sequence[str], reason: str = "") -> None:
    """Raise ConfigError unless the name ends in one of the suffixes, MachineError where no file can have that name.

    `reason` is added to the description of the problem.
    """
    if path.suffix not in suffixes:
        problem = f"ends in {path.suffix!r}{reason}"
        raise ConfigError(str(path), problem, f"end the output file in {' or '.join(suffixes)}")
    if path.is_dir():
        raise MachineError(str(path), "is a folder", "give a file name")
    if not path.parent.is_dir():
        raise MachineError(str(path.parent), "no such folder", "make it first")


def to_npy(array: np.ndarray) -> bytes:
    """The content of a .npy file."""
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def to_csv(x_nd: np.ndarray) -> bytes:
    """The content of a .csv file with one line per row, seven significant digits per value."""
    buffer = io.StringIO()
    np.savetxt(buffer, x_nd, delimiter=",", fmt="%.7g")
    return buffer.getvalue().encode()


def to_png(x_nd: np.ndarray, image_shape: Sequence[int], columns: int) -> bytes:
    """The content of a .png file: one tile per row, `columns` tiles side by side.

    Values are from 0 (black) to 1 (white). Small images are enlarged to a height of at least 64 pixels.
    """
    from PIL import Image

    picture = Image.fromarray(to_pixels(tile_images(x_nd, image_shape, columns)))
    scale = math.ceil(64 / image_shape[0])
    buffer = io.BytesIO()
    picture.resize((picture.width * scale, picture.height * scale), Image.Resampling.NEAREST).save(buffer, "PNG")
    return buffer.getvalue()
