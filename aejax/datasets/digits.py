"""The 8x8 digits that come with scikit-learn: real images, no download, loaded in milliseconds."""

from __future__ import annotations

import numpy as np

from aejax.datasets.base import Raw, split_sizes

ROWS = 1797
SHAPE = (split_sizes(ROWS)["train"], 64)
"""(training rows, inputs)."""


def raw() -> Raw:
    """1797 images of 8x8 pixels with values 0..16; the UCI optical recognition test set (Alpaydin, Kaynak 1998)."""
    from sklearn.datasets import load_digits

    images_nd, labels_n = load_digits(return_X_y=True)
    return Raw({"train": np.asarray(images_nd, np.uint8)}, {"train": np.asarray(labels_n)}, (8, 8), 16.0)
