"""What a dataset is: arrays for train, validation and test, and how raw values become the floats a net sees."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from aejax.datasets import validate
from aejax.runtime.errors import DataError

SHARES = {"test": 0.2, "validation": 0.1}
"""Share of the given training rows that goes to a split the source does not have."""
ROUNDING = 1e-12
"""A column whose deviation is at most this share of its mean holds the rounding errors of float64, not data."""


class Scaling(NamedTuple):
    """Raw values to the floats a net sees: `(raw - offset) / scale`, per column or, with shape (1,), for all.

    Computed from the training split only. `constant` counts the columns that did not vary there (scaled by 1); it is
    counted for per-column scaling, and 0 where one scale serves all columns.
    """

    offset_d: np.ndarray
    scale_d: np.ndarray
    constant: int = 0

    def apply(self, raw_nd: np.ndarray) -> np.ndarray:
        """(n, d) raw values to (n, d) float32; computed in float64, so a large offset costs no digits."""
        return ((np.asarray(raw_nd, np.float64) - self.offset_d) / self.scale_d).astype(np.float32)

    def invert(self, x_nd: np.ndarray) -> np.ndarray:
        """(n, d) floats back to raw units, float32."""
        return (np.asarray(x_nd, np.float64) * self.scale_d + self.offset_d).astype(np.float32)


@dataclass(frozen=True, eq=False)
class Dataset:
    """Disjoint train, validation and test rows.

    Rows are flat, (n, d): uint8 for images (divided by `unit` inside the training step, so that the device holds
    bytes), else float32 already scaled, with `unit` 1. Labels are (n,) int64 or None.
    """

    name: str
    x_train: np.ndarray
    x_validation: np.ndarray
    x_test: np.ndarray
    y_train: np.ndarray | None
    y_validation: np.ndarray | None
    y_test: np.ndarray | None
    image_shape: tuple[int, ...] | None
    """(height, width) or (height, width, channels); None when rows are not images."""
    scaling: Scaling
    unit: float
    fingerprint: str
    """SHA-256 over every array, its dtype and its shape: two datasets with one fingerprint hold the same numbers."""

    @property
    def inputs(self) -> int:
        """Number of columns d."""
        return self.x_train.shape[1]

    def floats(self, x_nd: np.ndarray) -> np.ndarray:
        """Rows of this dataset as the float32 values a net is trained on."""
        return np.asarray(x_nd, np.float32) / np.float32(self.unit)


class Raw(NamedTuple):
    """What a source holds, as stored: flat rows (n, d) and labels (n,) or None per split, before cutting and scaling.

    `train` is always there; a source without splits has nothing else. `scale` is what values are divided by, the
    same for all columns; None asks for standardisation, column by column. `centred` takes the mean of the training rows
    off before values are divided.
    """

    x: dict[str, np.ndarray]
    y: dict[str, np.ndarray | None]
    image_shape: tuple[int, ...] | None
    scale: float | None
    centred: bool = False


def evenly_spaced(rows: int, most: int) -> np.ndarray:
    """Indices of at most `most` of so many rows, evenly spaced: neighbours may be alike."""
    return np.linspace(0, rows - 1, min(most, rows)).astype(int)


def split_sizes(rows: int, missing: tuple[str, ...] = ("test", "validation")) -> dict[str, int]:
    """Rows of `train` and of every missing split once these are cut from `rows` training rows: at least 1 each."""
    sizes = {split: max(1, round(SHARES[split] * rows)) for split in missing}
    return {"train": rows - sum(sizes.values()), **sizes}


def cut_splits(name: str, raw: Raw, seed: int, validation_rows: int | None = None) -> Raw:
    """`raw` with all three splits. Missing ones are a seeded random choice of the training rows, in stored order.

    Raises DataError where there are fewer than `checks.MINIMUM_ROWS` rows to cut from.
    """
    missing = tuple(split for split in SHARES if split not in raw.x)
    if not missing:
        return raw
    rows = len(raw.x["train"])
    if rows < validate.MINIMUM_ROWS:
        found = f"train: {rows} row{'s' * (rows != 1)}, from which {' and '.join(missing)} would be cut"
        raise DataError(name, found, f"give at least {validate.MINIMUM_ROWS} rows, or all three splits")
    sizes = split_sizes(rows, missing)
    if validation_rows is not None:
        sizes["train"] += sizes["validation"] - validation_rows
        sizes["validation"] = validation_rows
    order = np.random.default_rng(seed).permutation(rows)
    x, y, start = dict(raw.x), dict(raw.y), 0
    labels_n = raw.y["train"]
    for split, size in sizes.items():
        taken = np.sort(order[start : start + size])
        x[split], y[split] = raw.x["train"][taken], None if labels_n is None else labels_n[taken]
        start += size
    return raw._replace(x=x, y=y)


def standardisation(x_nd: np.ndarray) -> Scaling:
    """Mean and standard deviation of every column, in float64.

    A column that does not vary, or by no more than float64 rounds, is scaled by 1: its noise is not made data.
    """
    x_nd = np.asarray(x_nd, np.float64)
    mean_d, scale_d = x_nd.mean(axis=0), x_nd.std(axis=0)
    # The computed deviation of a constant column can be a rounding error instead of 0.
    constant_d = (x_nd == x_nd[0]).all(axis=0) | (scale_d <= ROUNDING * np.abs(mean_d))
    return Scaling(mean_d, np.where(constant_d, 1.0, scale_d), int(constant_d.sum()))


def assemble(name: str, raw: Raw, seed: int, validation_rows: int | None = None) -> Dataset:
    """Check, cut and scale what a source holds.

    Raises DataError for values that are not finite, or too large once scaled, labels that do not fit, too few rows,
    and training rows that do not vary.
    """
    validate.same_columns(name, raw.x)
    for split, x_nd in raw.x.items():
        validate.finite(name, split, x_nd)
    given = raw.x
    raw = cut_splits(name, raw._replace(y=validate.labels(name, raw.x, raw.y)), seed, validation_rows)
    validate.varies(name, raw.x["train"])
    if raw.scale is None:
        scaling, unit = standardisation(raw.x["train"]), 1.0
        if scaling.constant == len(scaling.scale_d):
            raise validate.all_constant(name, scaling.constant)
    else:
        offset_d = raw.x["train"].mean(axis=0, dtype=np.float64) if raw.centred else np.zeros(1)
        scaling, unit = Scaling(offset_d, np.full(1, float(raw.scale))), 1.0
    for split, x_nd in given.items():
        validate.summable(name, split, x_nd, scaling.offset_d, scaling.scale_d)
    x = {}
    for split, x_nd in raw.x.items():
        if raw.scale is not None and x_nd.dtype == np.uint8 and not raw.centred:
            x[split], unit = np.array(x_nd, order="C"), float(raw.scale)
        else:
            x[split] = np.ascontiguousarray(scaling.apply(x_nd))
    arrays = {f"{kind}_{split}": of[split] for kind, of in (("x", x), ("y", raw.y)) for split in ("train", *SHARES)}
    return Dataset(
        name=name,
        x_train=x["train"],
        x_validation=x["validation"],
        x_test=x["test"],
        y_train=raw.y["train"],
        y_validation=raw.y["validation"],
        y_test=raw.y["test"],
        image_shape=raw.image_shape,
        scaling=scaling,
        unit=unit,
        fingerprint=fingerprint(arrays, raw.image_shape, scaling),
    )


def fingerprint(arrays: Mapping[str, np.ndarray | None], image_shape: tuple[int, ...] | None, scaling: Scaling) -> str:
    """Hex SHA-256 of the content: names, dtypes, shapes and bytes of all arrays, image shape and scaling."""
    digest = hashlib.sha256()
    parts = {**arrays, "offset": scaling.offset_d, "scale": scaling.scale_d}
    for name, array in parts.items():
        digest.update(f"{name}:{None if array is None else (array.dtype.str, array.shape)};".encode())
        if array is not None:
            digest.update(np.ascontiguousarray(array).data)
    digest.update(f"image_shape:{image_shape}".encode())
    return digest.hexdigest()
