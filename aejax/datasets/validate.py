"""What data must satisfy before anything is computed from it; every refusal is one line that says what to do."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from aejax.runtime.errors import ConfigError, DataError

MINIMUM_ROWS = 10
"""Fewest rows from which splits are cut: below it a 10 % share is less than one row."""
CHUNK_ROWS = 4096
"""Rows looked at in one go, so that a check of a large memory-mapped array needs little memory."""
MOST_SQUARES = 1e30
"""Largest d * max(x)**2 of scaled rows: float32 then has room to sum the squares of errors over 10**8 such rows."""
UNIT_TOLERANCE = 1e-5
"""How far beyond a stored run's range new values may be, relative to it: rounding, no other unit."""


def seed(value: Any) -> int:
    """An int in 0..2**32-1, the range in which different seeds give different random streams everywhere.

    Raises ConfigError("data_seed") for anything else, `True` included.
    """
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or not 0 <= value < 2**32:
        raise ConfigError("data_seed", f"expected an integer in 0..2**32-1, found {value!r}", "pass such an integer")
    return int(value)


def dtype_and_rank(name: str, split: str, x: np.ndarray) -> None:
    """A boolean, integer or real array of rank 2 (table), 3 or 4 (images), with at least one row and one column."""
    if x.dtype.kind not in "biuf":
        kind = {"c": "complex", "O": "object", "U": "string", "S": "string"}.get(x.dtype.kind, "non-numeric")
        raise DataError(name, f"{split}: expected real numbers, found {kind} dtype {x.dtype}", "convert them first")
    if x.ndim not in (2, 3, 4):
        raise DataError(
            name,
            f"{split}: expected rank 2 (rows, columns), 3 or 4 (images), found rank {x.ndim}, shape {x.shape}",
            "reshape the array so that its first axis counts examples",
        )
    if x.ndim == 4 and x.shape[-1] not in (1, 3, 4):
        found = f"{split}: expected images (n, height, width, channels) with 1, 3 or 4 channels, found shape {x.shape}"
        raise DataError(name, found, "move the channels to the last axis, or flatten the rows to (n, columns)")
    if 0 in x.shape:
        raise DataError(name, f"{split}: empty, shape {x.shape}", "give at least one row and one column")


def same_columns(name: str, x: Mapping[str, np.ndarray]) -> None:
    """Every split has the rank, the row shape and the kind of dtype of `train`."""
    train = x["train"]
    for split, array in x.items():
        columns, expected = int(np.prod(array.shape[1:])), int(np.prod(train.shape[1:]))
        if columns != expected:
            found = f"train has {expected} features per row, {split} has {columns}"
            raise DataError(name, found, "give every split the same features")
        if array.shape[1:] != train.shape[1:]:
            found = f"rows of train have shape {train.shape[1:]}, of {split} {array.shape[1:]}"
            raise DataError(name, found, "give every split the same shape")
        if (array.dtype.kind, array.dtype == np.uint8) != (train.dtype.kind, train.dtype == np.uint8):
            found = f"train is {train.dtype}, {split} is {array.dtype}"
            raise DataError(name, found, "give every split the same dtype")


def finite(name: str, split: str, x_nd: np.ndarray) -> None:
    """No NaN, no infinity, and nothing beyond float32; else the split, the count, the first row and column."""
    if x_nd.dtype.kind != "f":
        return
    x_nd = x_nd.reshape(len(x_nd), -1)
    limit = np.finfo(np.float32).max if x_nd.dtype.itemsize > 4 else np.finfo(x_nd.dtype).max
    count, row, column = _beyond(x_nd, float(limit))
    if count:
        value = x_nd[row, column]
        overflow = np.isfinite(value)
        place = f"first at row {row}, column {column} (counting from 0): {value}"
        what = "too large for float32" if overflow else "not finite"
        fix = "rescale those columns" if overflow else "remove or fill those rows"
        raise DataError(name, f"{split}: {count} value{'s' * (count > 1)} {what}, {place}", fix)


def summable(name: str, split: str, raw_nd: np.ndarray, offset_d: np.ndarray, scale_d: np.ndarray) -> None:
    """Raw rows whose squares float32 can sum once they are scaled; else the split, the count, the first and its place.

    Looked at as they are stored, before splits are cut from them: so the row is that of the user's file.
    """
    most = math.sqrt(MOST_SQUARES / raw_nd.shape[1])
    if raw_nd.dtype == np.uint8 and not offset_d.any() and (255 / most <= scale_d).all():
        return
    with np.errstate(over="ignore"):
        count, row, column = _beyond(raw_nd, most, lambda x_nd: (np.asarray(x_nd, np.float64) - offset_d) / scale_d)
        if count:
            scaled = ((np.asarray(raw_nd[row : row + 1], np.float64) - offset_d) / scale_d)[0, column]
            what = f"{count} value{'s' * (count > 1)} too large for float32 to sum the squares"
            place = f"first at row {row}, column {column} (counting from 0): {raw_nd[row, column]}"
            found = f"{split}: {what}, {place} ({scaled:.3g} after scaling, at most {most:.1e} fits)"
            raise DataError(name, found, "scale that column down, or remove that row")


def _beyond(
    x_nd: np.ndarray, most: float, scaled: Callable[[np.ndarray], np.ndarray] = lambda x_nd: x_nd
) -> tuple[int, int, int]:
    """How many scaled values are not within +-most, and row and column of the first; looked for chunk by chunk."""
    count, row, column = 0, -1, -1
    for start in range(0, len(x_nd), CHUNK_ROWS):
        bad = ~(np.abs(scaled(x_nd[start : start + CHUNK_ROWS])) <= most)
        if bad.any():
            if not count:
                row, column = (int(i) for i in np.argwhere(bad)[0])
                row += start
            count += int(bad.sum())
    return count, row, column


def varies(name: str, x_nd: np.ndarray) -> None:
    """At least one training column varies: on constant data no coding can be better than any other."""
    if len(x_nd) < 2:
        raise DataError(name, f"train: {len(x_nd)} row", "give at least 2 training rows")
    if not any((x_nd[i : i + CHUNK_ROWS] != x_nd[0]).any() for i in range(0, len(x_nd), CHUNK_ROWS)):
        raise all_constant(name, x_nd.shape[1])


def all_constant(name: str, columns: int) -> DataError:
    """The error for training rows none of whose columns vary."""
    return DataError(name, f"train: all {columns} columns are constant", "give data that vary between rows")


def labels(name: str, x: Mapping[str, np.ndarray], y: Mapping[str, np.ndarray | None]) -> dict[str, np.ndarray | None]:
    """Labels as (n,) int64 for each split of `x`; strings are numbered in sorted order, the same for all splits.

    Raises DataError where labels and rows differ in number, or labels are numbers but not whole ones.
    """
    present = {split: np.asarray(array) for split, array in y.items() if array is not None}
    for split, array in present.items():
        if array.ndim == 2 and array.shape[1] == 1:
            present[split] = array = array[:, 0]
        if array.ndim != 1:
            found = f"{split}: expected labels of shape ({len(x[split])},), found {array.shape}"
            raise DataError(name, found, "give one label per row")
        if len(array) != len(x[split]):
            raise DataError(name, f"{split}: {len(x[split])} rows, {len(array)} labels", "give one label per row")
        if array.dtype.kind not in "biufUS":
            found = f"{split}: labels of dtype {array.dtype}"
            raise DataError(name, found, "give labels as integers or strings")
    if not present:
        return dict.fromkeys(x)
    numbers = {split: _numbers(array) for split, array in present.items()}
    if any(array is None for array in numbers.values()):
        names = np.unique(np.concatenate([array.astype(str) for array in present.values()]))
        numbers = {split: np.searchsorted(names, array.astype(str)) for split, array in present.items()}
    whole: dict[str, np.ndarray | None] = dict.fromkeys(x)
    for split, array in numbers.items():
        assert array is not None
        odd = array[~((array == np.floor(array)) & (np.abs(array) < 2**53))] if array.dtype.kind == "f" else array[:0]
        if odd.size:
            found = f"{split}: labels are numbers but not whole ones, such as {odd[0]}"
            raise DataError(name, found, "give class numbers, or rename that column or array")
        whole[split] = array.astype(np.int64)
    return whole


def _numbers(array: np.ndarray) -> np.ndarray | None:
    if array.dtype.kind not in "US":
        return array
    try:
        return array.astype(np.float64)
    except ValueError:
        return None


def same_unit(name: str, rows_nd: np.ndarray, scale: float, *, images: bool, bounded: bool) -> None:
    """Refuse new rows in another unit than a stored run's, which divides by `scale`: it would encode them regardless.

    `bounded` says that the run's values were 0..scale: then nothing outside is taken. Caught besides, for images and
    bounded values: fractions for a run on bytes; and for images: bytes for a run on fractions.
    """
    low, high = float(rows_nd.min()), float(rows_nd.max())
    outside = bounded and (low < -UNIT_TOLERANCE * scale or high > scale * (1 + UNIT_TOLERANCE))
    fractions = (images or bounded) and rows_nd.dtype.kind in "bf" and 0 < high <= 1 and scale >= 10
    if outside or fractions or (images and rows_nd.dtype == np.uint8 and high > 1 and scale == 1):
        found = f"{rows_nd.dtype} values from {low:g} to {high:g}, the stored run has values from 0 to {scale:g}"
        raise DataError(name, found, f"bring the values to 0..{scale:g}")
