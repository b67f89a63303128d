"""How plain arrays become rows: their rank and dtype decide image shape and scale.

Used for files, TFDS, MNIST and the Olivetti faces.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from aejax.datasets import validate
from aejax.datasets.base import RawData
from aejax.runtime.errors import DataError

STANDARDISE = "standardise"
"""Scale argument of `interpret`: standardise every column."""


def interpret(
    name: str, x: Mapping[str, np.ndarray], y: Mapping[str, np.ndarray | None], scale: float | str | None = None
) -> RawData:
    """Convert arrays and labels per split to flat rows with a scale.

    Arrays have the shape (n, d), (n, height, width) or (n, height, width, channels). `scale` is a number to divide by,
    STANDARDISE or None. With None, uint8 is divided by 255, a table of floats is standardised, and images of
    floats must be in [0, 1] and keep their values. The rows are views of the arrays where possible, and the arrays are
    not modified.

    Raises DataError for a dtype, rank or shape that cannot be used, for values that are not finite, and for values in
    a unit that only the user can know (integers other than uint8, float images outside [0, 1]).
    """
    for split, array in x.items():
        validate.dtype_and_rank(name, split, array)
    validate.same_columns(name, x)
    for split, array in x.items():
        validate.finite(name, split, array)
    shape = x["train"].shape[1:]
    image_shape = shape[:2] if shape[2:] == (1,) else shape  # grey images have no axis of channels
    divisor = _divisor(name, x, scale)
    rows = {split: array.reshape(len(array), -1) for split, array in x.items()}
    return RawData(rows, validate.labels(name, x, y), image_shape if len(shape) > 1 else None, divisor)


def _divisor(name: str, x: Mapping[str, np.ndarray], scale: float | str | None) -> float | None:
    """The number to divide by; None to standardise columns. `scale` is that of `interpret`."""
    train = x["train"]
    if scale is not None:
        return None if scale == STANDARDISE else float(scale)
    if train.dtype == np.uint8:
        return 255.0
    fix = "add ?scale=VALUE to the name (?scale=1 keeps the values, ?scale=standardise standardises columns)"
    if train.dtype.kind != "f":
        raise DataError(name, f"{train.dtype} values, whose unit is not known (only uint8 has one, 255)", fix)
    if train.ndim == 2:
        return None
    low = min(float(array.min()) for array in x.values())
    high = max(float(array.max()) for array in x.values())
    if low < 0 or high > 1:
        raise DataError(name, f"images of floats expected in [0, 1], found {low:g} to {high:g}", fix)
    return 1.0
