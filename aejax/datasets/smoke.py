"""A few rows of a dataset, for `aejax run --smoke`: enough to see that everything runs."""

from __future__ import annotations

from aejax.datasets.base import Dataset

ROWS = {"train": 256, "validation": 64, "test": 128}
"""Number of rows that `cut` keeps of each split."""


def cut(dataset: Dataset) -> Dataset:
    """The dataset with only the first ROWS of each split, and the fingerprint of these rows.

    The scaling stays that of all training rows.
    """
    arrays = {}
    for split, rows in ROWS.items():
        labels_n = getattr(dataset, f"y_{split}")
        arrays[f"x_{split}"] = getattr(dataset, f"x_{split}")[:rows]
        arrays[f"y_{split}"] = None if labels_n is None else labels_n[:rows]
    return dataset.replace(**arrays)
