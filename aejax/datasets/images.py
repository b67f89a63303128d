"""What figures show of a data set: which rows, and how bright."""

from __future__ import annotations

import functools

import numpy as np

from aejax.datasets.base import Dataset

EXAMPLES = 10


def example_rows(dataset: Dataset) -> np.ndarray:
    """Indices of at most EXAMPLES test rows: the first of each class, then, or without labels, the first others."""
    every = np.arange(len(dataset.x_test))
    if dataset.y_test is None:
        return every[:EXAMPLES]
    firsts = np.unique(dataset.y_test, return_index=True)[1]
    return np.concatenate([firsts, np.setdiff1d(every, firsts)])[:EXAMPLES]


def brightness(dataset: Dataset, x_nd: np.ndarray) -> np.ndarray:
    """Images as 0 (black) to 1 (white), whatever their scaling; rows that are no images as they are."""
    if dataset.image_shape is None or (found := _raw_range(dataset)) is None:
        return x_nd
    low, high = found
    return ((dataset.scaling.invert(x_nd) - low) / (high - low)).astype(np.float32)


@functools.lru_cache(maxsize=1)
def _raw_range(dataset: Dataset) -> tuple[float, float] | None:
    """Lowest and highest raw value of the training rows; None where rows are within 0 and 1 as nets see them."""
    low, high = float(dataset.x_train.min()) / dataset.unit, float(dataset.x_train.max()) / dataset.unit
    if low >= 0 and high <= 1:
        return None
    low, high = (
        dataset.scaling.invert(edge).astype(np.float64) for edge in (dataset.x_train.min(0), dataset.x_train.max(0))
    )
    return float(low.min()), float(high.max())


def as_bytes(dataset: Dataset, x_nd: np.ndarray) -> np.ndarray:
    """Images as bytes, 0 black and 255 white."""
    return np.rint(np.clip(np.nan_to_num(brightness(dataset, x_nd)), 0, 1) * 255).astype(np.uint8)
