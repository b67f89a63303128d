"""Checks of data before anything is computed from it. Every error is one line that says what to do."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from aejax.runtime.errors import ConfigError, DataError

MINIMUM_ROWS = 10
"""Fewest rows from which splits are cut. Of fewer rows, a share of 10 % is less than one row."""
CHUNK_ROWS = 4096
"""Rows checked at a time, so that checking a large memory-mapped array needs little memory."""
MOST_SQUARES = 1e30
"""Largest d * max(x)**2 of scaled rows. float32 can then sum the squared errors of 10**8 such rows."""
UNIT_TOLERANCE = 1e-5
"""How far new values may exceed the range of a stored run, relative to that range. Rounding explains no more."""


def seed(value: Any) -> int:
    """The seed as an int. Raises ConfigError("data_seed") unless it is an integer in 0..2**32-1; `True` is refused.

    In this range, different seeds give different random streams in NumPy and JAX.
    """
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or not 0 <= value < 2**32:
        raise ConfigError("data_seed", f"expected an integer in 0..2**32-1, found {value!r}", "pass such an integer")
    return int(value)


def dtype_and_rank(name: str, split: str, x: np.ndarray) -> None:
    """Raise DataError unless the array is boolean, integer or real, of rank 2 (table), 3 or 4 (images), and not empty.

    Images of rank 4 must have their 1, 3 or 4 channels on the last axis.
    """
    if x.dtype.kind not in "biuf":
        kind = {"c": "complex", "O": "object", "U": "string", "S": "string"}.get(x.dtype.kind, "non-numeric")
        raise DataError(name, f"{split}: expected real numbers, found {kind} dtype {x.dtype}", "convert them first")
    if x.ndim not in (2, 3, 4):
        problem = f"{split}: expected rank 2 (rows, columns), 3 or 4 (images), found rank {x.ndim}, shape {x.shape}"
        raise DataError(name, problem, "reshape the array so that its first axis counts examples")
    if x.ndim == 4 and x.shape[-1] not in (1, 3, 4):
        expected = f"{split}: expected images (n, height, width, channels) with 1, 3 or 4 channels"
        fix = "move the channels to the last axis, or flatten the rows to (n, columns)"
        raise DataError(name, f"{expected}, found shape {x.shape}", fix)
    if 0 in x.shape:
        raise DataError(name, f"{split}: empty, shape {x.shape}", "give at least one row and one column")


def same_columns(name: str, x: Mapping[str, np.ndarray]) -> None:
    """Raise DataError unless every split has the row shape and the kind of dtype of `train`."""
    train = x["train"]
    train_columns = math.prod(train.shape[1:])
    for split, array in x.items():
        columns = math.prod(array.shape[1:])
        if columns != train_columns:
            problem = f"train has {train_columns} features per row, {split} has {columns}"
            raise DataError(name, problem, "give every split the same features")
        if array.shape[1:] != train.shape[1:]:
            problem = f"rows of train have shape {train.shape[1:]}, rows of {split} {array.shape[1:]}"
            raise DataError(name, problem, "give every split the same shape")
        if (array.dtype.kind, array.dtype == np.uint8) != (train.dtype.kind, train.dtype == np.uint8):
            problem = f"train is {train.dtype}, {split} is {array.dtype}"
            raise DataError(name, problem, "give every split the same dtype")


def finite(name: str, split: str, x_nd: np.ndarray) -> None:
    """Raise DataError if a value is NaN, infinite or beyond the range of float32. `x_nd` may also be images.

    The error names the split, the number of such values, and the row and column of the first.
    """
    if x_nd.dtype.kind != "f":
        return
    x_nd = x_nd.reshape(len(x_nd), -1)
    limit = np.finfo(np.float32).max if x_nd.dtype.itemsize > 4 else np.finfo(x_nd.dtype).max
    count, row, column = _find_beyond(x_nd, float(limit), np.asarray)
    if count:
        value = x_nd[row, column]
        overflow = np.isfinite(value)
        problem = "too large for float32" if overflow else "not finite"
        fix = "rescale those columns" if overflow else "remove or fill those rows"
        first = f"first at row {row}, column {column} (counting from 0): {value}"
        raise DataError(name, f"{split}: {count} value{'s' * (count > 1)} {problem}, {first}", fix)


def summable(name: str, split: str, raw_nd: np.ndarray, offset_d: np.ndarray, scale_d: np.ndarray) -> None:
    """Raise DataError if squares of the scaled rows `(raw_nd - offset_d) / scale_d` are too large to sum in float32.

    Give the rows as the source stores them, before splits are cut: the error names a row by its number in `raw_nd`.
    """
    limit = math.sqrt(MOST_SQUARES / raw_nd.shape[1])
    if raw_nd.dtype == np.uint8 and not offset_d.any() and (255 / limit <= scale_d).all():
        return

    def scaled(x_nd: np.ndarray) -> np.ndarray:
        return (np.asarray(x_nd, np.float64) - offset_d) / scale_d

    with np.errstate(over="ignore"):
        count, row, column = _find_beyond(raw_nd, limit, scaled)
        if count:
            value = scaled(raw_nd[row : row + 1])[0, column]
            values = f"{count} value{'s' * (count > 1)} too large for float32 to sum the squares"
            first = f"first at row {row}, column {column} (counting from 0): {raw_nd[row, column]}"
            problem = f"{split}: {values}, {first} ({value:.3g} after scaling, at most {limit:.1e} fits)"
            raise DataError(name, problem, "scale that column down, or remove that row")


def _find_beyond(x_nd: np.ndarray, limit: float, scaled: Callable[[np.ndarray], np.ndarray]) -> tuple[int, int, int]:
    """The number of scaled values that are NaN or outside of -limit to limit, and row and column of the first.

    Row and column are -1 if there is no such value. `scaled` scales rows, CHUNK_ROWS at a time.
    """
    count = 0
    row = column = -1
    for start in range(0, len(x_nd), CHUNK_ROWS):
        chunk_nd = x_nd[start : start + CHUNK_ROWS]
        positions = np.argwhere(~(np.abs(scaled(chunk_nd)) <= limit))
        if len(positions) and not count:
            row, column = (positions[0] + (start, 0)).tolist()
        count += len(positions)
    return count, row, column


def varies(name: str, x_nd: np.ndarray, constant: int) -> None:
    """Raise DataError unless a column of the training rows varies. On constant data, all codings are equally good.

    `constant` is the number of columns that vary by rounding errors only, as in `Scaling`.
    """
    rows, columns = x_nd.shape
    if rows < 2:
        raise DataError(name, f"train: {rows} row", "give at least 2 training rows")
    if constant == columns or not any((x_nd[i : i + CHUNK_ROWS] != x_nd[0]).any() for i in range(0, rows, CHUNK_ROWS)):
        raise DataError(name, f"train: all {columns} columns are constant", "give data that vary between rows")


def labels(name: str, x: Mapping[str, np.ndarray], y: Mapping[str, np.ndarray | None]) -> dict[str, np.ndarray | None]:
    """Labels (n,) int64 or None for each split of `x`. Strings are numbered in sorted order, the same in all splits.

    Raises DataError if there are more or fewer labels than rows, or if labels are numbers with fractions.
    """
    arrays = {split: np.asarray(array) for split, array in y.items() if array is not None}
    for split, array in arrays.items():
        if array.ndim == 2 and array.shape[1] == 1:
            arrays[split] = array = array[:, 0]
        if array.ndim != 1:
            problem = f"{split}: expected labels of shape ({len(x[split])},), found {array.shape}"
            raise DataError(name, problem, "give one label per row")
        if len(array) != len(x[split]):
            raise DataError(name, f"{split}: {len(x[split])} rows, {len(array)} labels", "give one label per row")
        if array.dtype.kind not in "biufUS":
            raise DataError(name, f"{split}: labels of dtype {array.dtype}", "give labels as integers or strings")
    try:
        numbers = {split: array.astype(float) if array.dtype.kind in "US" else array for split, array in arrays.items()}
    except ValueError:  # a string that is not a number
        names = np.unique(np.concatenate([array.astype(str) for array in arrays.values()]))
        numbers = {split: np.searchsorted(names, array.astype(str)) for split, array in arrays.items()}
    integers: dict[str, np.ndarray | None] = dict.fromkeys(x)
    for split, array in numbers.items():
        if array.dtype.kind == "f":
            fractions = array[~((array == np.floor(array)) & (np.abs(array) < 2**53))]
            if fractions.size:
                problem = f"{split}: labels are numbers but not whole ones, such as {fractions[0]}"
                raise DataError(name, problem, "give class numbers, or rename that column or array")
        integers[split] = array.astype(np.int64)
    return integers


def same_unit(name: str, rows_nd: np.ndarray, scale: float, *, images: bool, bounded: bool) -> None:
    """Raise DataError if new rows are in another unit than those of a stored run, which divides all values by `scale`.

    Without this check they would be encoded without complaint. `bounded` says that the values of the run were in
    0..scale: then values outside this range are refused. Also refused are fractions for a run on bytes (if bounded or
    images), and bytes for a run on fractions (if images).
    """
    low = float(rows_nd.min())
    high = float(rows_nd.max())
    outside = bounded and (low < -UNIT_TOLERANCE * scale or high > scale * (1 + UNIT_TOLERANCE))
    fractions = (images or bounded) and rows_nd.dtype.kind in "bf" and 0 < high <= 1 and scale >= 10
    whole_bytes = images and rows_nd.dtype == np.uint8 and high > 1 and scale == 1
    if outside or fractions or whole_bytes:
        problem = f"{rows_nd.dtype} values from {low:g} to {high:g}, the stored run has values from 0 to {scale:g}"
        raise DataError(name, problem, f"bring the values to 0..{scale:g}")
