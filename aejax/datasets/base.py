"""The `Dataset` that all of aejax uses, and how it is made from raw arrays: splits, scaling, fingerprint."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from aejax.datasets import validate
from aejax.runtime.errors import DataError

SPLITS = ("train", "validation", "test")
SHARES = {"test": 0.2, "validation": 0.1}
"""Share of the training rows that is cut off for a split which the source does not have."""
ROUNDING = 1e-12
"""A column counts as constant if its standard deviation is at most this fraction of its absolute mean: such a deviation
is a float64 rounding error."""


class Scaling(NamedTuple):
    """The map from raw values to the floats that a net sees: `(raw - offset) / scale`.

    `offset_d` and `scale_d` have one entry per column, or shape (1,) if all columns share one. Both are computed from
    the training rows only. `constant` is the number of columns that are constant in the training rows; these columns
    have scale 1. It is counted for standardised columns only, and is 0 where all columns share one scale.
    """

    offset_d: np.ndarray
    scale_d: np.ndarray
    constant: int = 0

    def apply(self, raw_nd: np.ndarray) -> np.ndarray:
        """Scale raw values (n, d) to float32. The computation is in float64, so a large offset costs no precision."""
        return ((np.asarray(raw_nd, np.float64) - self.offset_d) / self.scale_d).astype(np.float32)

    def invert(self, x_nd: np.ndarray) -> np.ndarray:
        """Convert scaled values (n, d) back to raw units, float32."""
        return (np.asarray(x_nd, np.float64) * self.scale_d + self.offset_d).astype(np.float32)

    def describe(self) -> str:
        """The scaling in words, such as "divided by 255"."""
        if self.scale_d.shape != (1,):
            constant = f", {self.constant} constant column{'s' * (self.constant > 1)}" if self.constant else ""
            return f"standardised by training rows{constant}"
        scale = float(self.scale_d[0])
        if self.offset_d.any():
            return f"training mean subtracted, then divided by {scale:g}"
        return "none" if scale == 1 else f"divided by {scale:g}"


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Dataset:
    """Disjoint training, validation and test rows.

    Rows are flat, (n, d). Images are uint8 and have to be divided by `unit`; this happens inside the training step, so
    that the device stores bytes. All other rows are float32 and already scaled, with `unit` 1. Labels are (n,) int64,
    or None.

    Two datasets are equal if they have the same content: the same name, arrays, image shape, scaling and unit. The hash
    is that of the fingerprint. A result computed from a dataset can therefore be cached with the dataset as the key.
    """

    name: str
    x_train: np.ndarray
    x_validation: np.ndarray
    x_test: np.ndarray
    y_train: np.ndarray | None
    y_validation: np.ndarray | None
    y_test: np.ndarray | None
    image_shape: tuple[int, ...] | None
    """(height, width) or (height, width, channels); None if the rows are not images."""
    scaling: Scaling
    unit: float
    fingerprint: str
    """SHA-256 over every array, its dtype and its shape, the image shape and the scaling; see `fingerprint`."""

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Dataset):
            return NotImplemented
        # Comparing fingerprints is not enough: `dataclasses.replace` exchanges arrays and keeps the fingerprint.
        return all(a is b or np.array_equal(a, b) for a, b in zip(self._content(), other._content(), strict=True))

    def __hash__(self) -> int:
        return hash(self.fingerprint)

    def __repr__(self) -> str:
        images = "" if self.image_shape is None else f" ({' x '.join(map(str, self.image_shape))} images)"
        labels = [y_n for y_n in (self.y_train, self.y_validation, self.y_test) if y_n is not None]
        classes = len(np.unique(np.concatenate(labels))) if labels else 0
        lines = {
            "rows": ", ".join(f"{len(getattr(self, f'x_{split}'))} {split}" for split in SPLITS),
            "inputs": f"{self.inputs}{images}",
            "labels": f"{classes} class{'es' * (classes != 1)}" if labels else "none",
            "scaling": self.scaling.describe(),
            "fingerprint": self.fingerprint[:12],
        }
        return "\n".join([f"Dataset {self.name!r}", *(f"  {name + ':':<12} {text}" for name, text in lines.items())])

    def _content(self) -> list[Any]:
        """Texts, numbers and arrays: the values of all fields, those of `scaling` one by one."""
        return [value for field, value in vars(self).items() if field != "scaling"] + list(self.scaling)

    @property
    def inputs(self) -> int:
        """Number of columns d."""
        return self.x_train.shape[1]

    def replace(self, **changes: Any) -> Dataset:
        """A copy with other values of these fields, and the fingerprint of its new content."""
        changed = dataclasses.replace(self, **changes)
        arrays = {f"{kind}_{split}": getattr(changed, f"{kind}_{split}") for kind in ("x", "y") for split in SPLITS}
        return dataclasses.replace(changed, fingerprint=fingerprint(arrays, changed.image_shape, changed.scaling))

    def floats(self, x_nd: np.ndarray) -> np.ndarray:
        """Convert rows of this dataset (n, d) to the float32 values that a net is trained on."""
        return np.asarray(x_nd, np.float32) / np.float32(self.unit)


class RawData(NamedTuple):
    """The content of a source before splits are cut and values are scaled.

    `x` maps splits to flat rows (n, d), `y` maps them to labels (n,) or None. The split `train` is always there; a
    source without splits has no other. All values are divided by `scale`; if it is None, columns are standardised
    instead. If `centred`, the mean of the training rows is subtracted before the division. `validation_rows` is the
    size of the validation split if it has to be cut; None stands for the usual share.
    """

    x: dict[str, np.ndarray]
    y: dict[str, np.ndarray | None]
    image_shape: tuple[int, ...] | None
    scale: float | None
    centred: bool = False
    validation_rows: int | None = None


def evenly_spaced(rows: int, max_rows: int) -> np.ndarray:
    """Evenly spaced indices of `rows` rows, at most `max_rows` of them. Neighbouring rows may be alike, so a sample
    of the first rows could be one-sided.
    """
    return np.linspace(0, rows - 1, min(max_rows, rows)).astype(int)


def split_sizes(rows: int, missing: tuple[str, ...] = ("test", "validation")) -> dict[str, int]:
    """Number of rows of `train` and of every missing split, if these are cut from `rows` rows. Each has at least 1."""
    sizes = {split: max(1, round(SHARES[split] * rows)) for split in missing}
    return {"train": rows - sum(sizes.values()), **sizes}


def cut_splits(name: str, raw: RawData, seed: int) -> RawData:
    """Complete the splits of `raw`: a missing split takes training rows drawn with `seed`, in their stored order.

    Raises DataError if there are fewer than `validate.MINIMUM_ROWS` rows to cut from.
    """
    missing = tuple(split for split in SHARES if split not in raw.x)
    if not missing:
        return raw
    labels_n = raw.y["train"]
    rows = len(raw.x["train"])
    if rows < validate.MINIMUM_ROWS:
        problem = f"train: {rows} row{'s' * (rows != 1)}, too few to cut off {' and '.join(missing)} rows"
        raise DataError(name, problem, f"give at least {validate.MINIMUM_ROWS} rows, or all three splits")
    sizes = split_sizes(rows, missing)
    if raw.validation_rows is not None:
        sizes["train"] += sizes["validation"] - raw.validation_rows
        sizes["validation"] = raw.validation_rows
    order_n = np.random.default_rng(seed).permutation(rows)
    cuts = zip(sizes, np.split(order_n, np.cumsum(list(sizes.values()))[:-1]), strict=True)
    indices = {split: np.sort(cut_n) for split, cut_n in cuts}
    x = {split: raw.x["train"][indices_n] for split, indices_n in indices.items()}
    y = {split: None if labels_n is None else labels_n[indices_n] for split, indices_n in indices.items()}
    return raw._replace(x=raw.x | x, y=raw.y | y)


def standardisation(x_nd: np.ndarray) -> Scaling:
    """The scaling by mean and standard deviation of every column of x_nd (n, d), computed in float64.

    A column that is constant, or that varies by float64 rounding errors only, gets scale 1. Otherwise its rounding
    errors would be magnified until they look like data.
    """
    x_nd = np.asarray(x_nd, np.float64)
    mean_d = x_nd.mean(axis=0)
    deviation_d = x_nd.std(axis=0)
    # The computed deviation of a constant column can be a rounding error instead of 0.
    constant_d = (x_nd == x_nd[0]).all(axis=0) | (deviation_d <= ROUNDING * np.abs(mean_d))
    return Scaling(mean_d, np.where(constant_d, 1.0, deviation_d), int(constant_d.sum()))


def assemble(name: str, raw: RawData, seed: int) -> Dataset:
    """Make a Dataset from raw arrays: cut missing splits with `seed`, check the values and scale them.

    The arrays are finite and fit each other, as those of `interpret` do. Raises DataError if values are too large once
    scaled, if there are too few rows, or if no training column varies.
    """
    complete = cut_splits(name, raw, seed)
    train_nd = complete.x["train"]
    if raw.scale is None:
        scaling = standardisation(train_nd)
    else:
        offset_d = train_nd.mean(axis=0, dtype=np.float64) if raw.centred else np.zeros(1)
        scaling = Scaling(offset_d, np.full(1, float(raw.scale)))
    validate.varies(name, train_nd, scaling.constant)
    for split, x_nd in raw.x.items():
        validate.summable(name, split, x_nd, scaling.offset_d, scaling.scale_d)
    keep_bytes = train_nd.dtype == np.uint8 and raw.scale is not None and not raw.centred
    unit = float(scaling.scale_d[0]) if keep_bytes else 1.0
    arrays: dict[str, Any] = {}
    for split in ("train", *SHARES):  # the fingerprint depends on this order
        x_nd = complete.x[split]
        arrays[f"x_{split}"] = np.array(x_nd if keep_bytes else scaling.apply(x_nd), order="C")
    arrays |= {f"y_{split}": complete.y[split] for split in ("train", *SHARES)}
    content = fingerprint(arrays, raw.image_shape, scaling)
    return Dataset(name, **arrays, image_shape=raw.image_shape, scaling=scaling, unit=unit, fingerprint=content)


def fingerprint(arrays: Mapping[str, np.ndarray | None], image_shape: tuple[int, ...] | None, scaling: Scaling) -> str:
    """Hex SHA-256 of the names, dtypes, shapes and bytes of all arrays in their order, the image shape and the scaling.

    A dataset made by `assemble` has no other numbers: its unit follows from the dtype of its rows and its scaling.
    """
    digest = hashlib.sha256()
    for name, array in {**arrays, "offset": scaling.offset_d, "scale": scaling.scale_d}.items():
        digest.update(f"{name}:{None if array is None else (array.dtype.str, array.shape)};".encode())
        if array is not None:
            digest.update(np.ascontiguousarray(array).data)
    digest.update(f"image_shape:{image_shape}".encode())
    return digest.hexdigest()
