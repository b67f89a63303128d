"""Rows and brightness of the images that figures show."""

from __future__ import annotations

import functools

import numpy as np

from aejax.datasets.base import Dataset

EXAMPLES = 10


def example_rows(dataset: Dataset) -> np.ndarray:
    """Indices of at most EXAMPLES test rows: the first row of each class, followed by the first of all other rows.

    Without labels they are simply the first rows.
    """
    all_rows = np.arange(len(dataset.x_test))
    if dataset.y_test is None:
        return all_rows[:EXAMPLES]
    first_of_class = np.unique(dataset.y_test, return_index=True)[1]
    return np.concatenate([first_of_class, np.setdiff1d(all_rows, first_of_class)])[:EXAMPLES]


def brightness(dataset: Dataset, x_nd: np.ndarray) -> np.ndarray:
    """Scaled rows x_nd (n, d) as pixel brightness from 0 (black) to 1 (white), float32, whatever their scaling.

    Rows of a dataset that holds no images are returned unchanged.
    """
    raw_range = _raw_range(dataset)
    if raw_range is None:
        return x_nd
    low, high = raw_range
    return ((dataset.scaling.invert(x_nd) - low) / (high - low)).astype(np.float32)


@functools.lru_cache(maxsize=1)
def _raw_range(dataset: Dataset) -> tuple[float, float] | None:
    """The lowest and the highest raw value of the training images.

    None if the scaled rows are already in [0, 1] or are not images.
    """
    if dataset.image_shape is None:
        return None
    range_2d = dataset.floats(np.stack([dataset.x_train.min(axis=0), dataset.x_train.max(axis=0)]))
    if range_2d.min() >= 0 and range_2d.max() <= 1:
        return None
    raw_2d = dataset.scaling.invert(range_2d).astype(np.float64)
    return float(raw_2d.min()), float(raw_2d.max())


def as_bytes(dataset: Dataset, x_nd: np.ndarray) -> np.ndarray:
    """Scaled rows x_nd (n, d) as uint8 pixels: 0 is black and 255 is white."""
    return np.rint(np.clip(np.nan_to_num(brightness(dataset, x_nd)), 0, 1) * 255).astype(np.uint8)
