"""The 8x8 digits that come with scikit-learn: real images that need no download and load in milliseconds."""

from __future__ import annotations

import numpy as np

from aejax.datasets.base import RawData, split_sizes

ROWS = 1797
SHAPE = (split_sizes(ROWS)["train"], 64)
"""(training rows, inputs)."""


def load_raw() -> RawData:
    """1797 images of 8x8 pixels with values 0 to 16, and labels 0 to 9, without splits.

    This is the test set of the UCI digits for optical recognition (Alpaydin and Kaynak 1998).
    """
    from sklearn.datasets import load_digits

    images_nd, labels_n = load_digits(return_X_y=True)
    return RawData({"train": np.asarray(images_nd, np.uint8)}, {"train": np.asarray(labels_n)}, (8, 8), 16.0)
