"""What a plain array means: rank and dtype decide rows, image shape and scale. Files and TFDS sources share it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from aejax.datasets import validate
from aejax.datasets.base import Raw
from aejax.runtime.errors import DataError

STANDARDISE = "standardise"
STORED = "stored"
"""The scaling of a stored run will be used: none is chosen here."""


def interpret(
    name: str,
    x: Mapping[str, np.ndarray],
    y: Mapping[str, np.ndarray | None],
    scale: float | str | None = None,
) -> Raw:
    """Arrays of rank 2 (n, d), 3 (n, height, width) or 4 (n, height, width, channels) to flat rows and their scale.

    `scale` divides, "standardise" standardises; without it uint8 is divided by 255, a table of floats is
    standardised, and images of floats must be in [0, 1] and stay as they are. Views where possible, never copies
    back: the arrays given are not changed.

    Raises DataError for a dtype, rank or shape that cannot be used, values that are not finite, and values whose unit
    only the user can know (integers other than uint8, float images outside [0, 1]).
    """
    for split, array in x.items():
        validate.dtype_and_rank(name, split, array)
    validate.same_columns(name, x)
    for split, array in x.items():
        validate.finite(name, split, array)
    shape = x["train"].shape[1:]
    image_shape = None if len(shape) == 1 else shape[:2] if shape[2:] == (1,) else shape
    divisor = _scale(name, x, scale)
    rows = {split: array.reshape(len(array), -1) for split, array in x.items()}
    return Raw(rows, validate.labels(name, x, y), image_shape, divisor)


def _scale(name: str, x: Mapping[str, np.ndarray], scale: float | str | None) -> float | None:
    """What to divide by; None to standardise."""
    train = x["train"]
    if scale == STANDARDISE:
        return None
    if isinstance(scale, (int, float)):
        return float(scale)
    if scale == STORED:
        return 1.0
    if train.dtype == np.uint8:
        return 255.0
    example = "add ?scale=VALUE to the name (?scale=1 keeps the values, ?scale=standardise standardises columns)"
    if train.dtype.kind != "f":
        raise DataError(name, f"{train.dtype} values, whose unit is not known (only uint8 has one, 255)", example)
    if train.ndim == 2:
        return None
    low, high = min(float(a.min()) for a in x.values()), max(float(a.max()) for a in x.values())
    if low < 0 or high > 1:
        raise DataError(name, f"images of floats expected in [0, 1], found {low:g} to {high:g}", example)
    return 1.0
