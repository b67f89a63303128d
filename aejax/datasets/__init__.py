"""Datasets by name, checked, split and scaled, ready for training.

Names are `digits`, `plane3d`, `lowrank`, `mnist`, `mnist_centred` (the mean image is subtracted), `olivetti`,
`olivetti_mirrored`, `olivetti_augmented`, `olivetti_patches`; `tfds:NAME[/config][:version]`; and
`file:PATH[?scale=VALUE]`.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from aejax.datasets import base, digits, files, mnist, olivetti, synthetic, tfds_source, validate
from aejax.datasets.base import SPLITS, Dataset, Scaling
from aejax.runtime.errors import ConfigError, DataError

__all__ = ["NAMES", "Dataset", "Scaling", "check_name", "known_shape", "load", "read_rows"]


class _Source(NamedTuple):
    """A dataset with a plain name: (training rows, inputs), and a function of (data_dir, seed) that reads it."""

    shape: tuple[int, int]
    load_raw: Callable[[str | Path | None, int], base.RawData]


_SOURCES = {
    "digits": _Source(digits.SHAPE, lambda data_dir, seed: digits.load_raw()),
    "plane3d": _Source(synthetic.PLANE3D_SHAPE, lambda data_dir, seed: synthetic.plane3d(seed)),
    "lowrank": _Source(synthetic.LOWRANK_SHAPE, lambda data_dir, seed: synthetic.lowrank(seed)),
    "mnist": _Source(mnist.SHAPE, lambda data_dir, seed: mnist.load_raw(data_dir)),
    "mnist_centred": _Source(mnist.SHAPE, lambda data_dir, seed: mnist.load_raw(data_dir)._replace(centred=True)),
    "olivetti": _Source(olivetti.SHAPE, olivetti.load_raw),
    "olivetti_mirrored": _Source(olivetti.MIRRORED_SHAPE, olivetti.load_mirrored),
    "olivetti_augmented": _Source(olivetti.AUGMENTED_SHAPE, olivetti.load_augmented),
    "olivetti_patches": _Source(olivetti.PATCH_SHAPE, olivetti.load_patches),
}
NAMES = tuple(_SOURCES)
"""Datasets with a plain name."""


def load(name: str, data_dir: str | Path | None = None, seed: int = 0) -> Dataset:
    """Load the dataset with this name. Missing splits are cut with `seed`; the scaling is that of the training rows.

    Images are uint8 and have to be divided by `Dataset.unit`; all other rows are float32 and already scaled. MNIST, the
    Olivetti faces, TFDS datasets and relative `file:` paths are searched for in `data_dir` first. `seed` also draws the
    values of a synthetic dataset.

    Raises ConfigError for an unknown name or an invalid seed, DataError for data that cannot be used, and MachineError
    if MNIST has to be prepared and no folder is writable.
    """
    check_name(name)
    seed = validate.seed(seed)
    return base.assemble(name, _load_raw(name, data_dir, seed), seed)


def known_shape(name: str) -> tuple[int, int] | None:
    """(training rows, inputs) of a dataset with a plain name, without reading it; None for `tfds:` and `file:`.

    Raises ConfigError for an unknown name.
    """
    check_name(name)
    return _SOURCES[name].shape if name in _SOURCES else None


def check_name(name: str) -> None:
    """Raise ConfigError("dataset", ...) unless `name` is the name of a dataset. No data are read."""
    fix = f"use one of {', '.join(NAMES)}, tfds:NAME[/config][:version], file:PATH[?scale=VALUE]"
    if not isinstance(name, str):
        raise ConfigError("dataset", f"expected a name, found {name!r}", fix)
    if name.startswith(tfds_source.PREFIX):
        tfds_source.check(name)
    elif name.startswith(files.PREFIX):
        files.parse(name)
    elif name not in _SOURCES:
        is_path = "/" in name or bool(Path(name).suffix)
        fix = f"did you mean {files.PREFIX + name!r}? {fix}" if is_path else _with_nearest_name(name, fix)
        raise ConfigError("dataset", f"unknown name {name!r}", fix)


def read_rows(
    source: str,
    *,
    inputs: int,
    image_shape: tuple[int, ...] | None,
    scaling: Scaling,
    unit: float | None = None,
    data_dir: str | Path | None = None,
    seed: int = 0,
) -> np.ndarray:
    """Rows for a stored run: (n, inputs) float32 in the scaling of that run.

    `source` is a path or the name of a dataset, optionally followed by `:train`, `:validation` or `:test`. Without such
    a suffix, a path without splits gives all its rows, and everything else gives its test rows. `seed` cuts missing
    splits and draws synthetic data. `inputs`, `image_shape`, `scaling` and `unit` (that of the `Dataset`) belong to the
    run. Rows must be in the raw units of the run: a run trained on bytes needs values from 0 to 255. Without `unit`, a
    run that divides all values by one scale other than 1 is assumed to have been trained on values from 0 to that
    scale.

    Raises ConfigError for an unknown source. Raises DataError if the number of features or the image shape is not that
    of the run, if values are outside the range of the run or seem to have another unit, and in the cases of `load`.
    """
    name, split = _split_source(source, data_dir)
    seed = validate.seed(seed)
    raw = _load_raw(name, data_dir, seed, scale=1.0)
    if split is not None or "test" in raw.x or not name.startswith(files.PREFIX):
        rows_nd = base.cut_splits(name, raw, seed).x[split or "test"]
    else:
        rows_nd = raw.x["train"]
    if rows_nd.shape[1] != inputs:
        problem = f"{rows_nd.shape[1]} features per row, the stored run has {inputs}"
        raise DataError(name, problem, "give data with the features the run was trained on")
    if image_shape is not None and raw.image_shape is not None and tuple(image_shape) != raw.image_shape:
        problem = f"images of shape {raw.image_shape}, the stored run has {tuple(image_shape)}"
        raise DataError(name, problem, "give images of the shape the run was trained on")
    if scaling.scale_d.shape == (1,) and not scaling.offset_d.any():
        scale = float(scaling.scale_d[0])
        bounded = (scale if unit is None else unit) != 1
        validate.same_unit(name, rows_nd, scale, images=image_shape is not None, bounded=bounded)
    validate.summable(name, split or "rows", rows_nd, scaling.offset_d, scaling.scale_d)
    return scaling.apply(rows_nd)


def _split_source(source: str, data_dir: str | Path | None) -> tuple[str, str | None]:
    """Split `NAME[:SPLIT]` or `PATH[:SPLIT]` into the name of a dataset and the split or None. Raises ConfigError."""
    prefixes = (tfds_source.PREFIX, files.PREFIX)
    head, _, tail = source.rpartition(":")
    name, split = (head, tail) if head and tail in SPLITS else (source, None)
    like_a_split = tail.isidentifier() and f"{head}:" not in prefixes and not _is_file(source, data_dir)
    head_is_data = head in _SOURCES or head.startswith(tfds_source.PREFIX) or _is_file(head, data_dir)
    if split is None and like_a_split and head_is_data:
        raise ConfigError("source", f"{source!r}: no split is called {tail!r}", f"use one of {', '.join(SPLITS)}")
    if name not in _SOURCES and not name.startswith(prefixes):
        if "/" not in name and not Path(name).suffix and not _is_file(name, data_dir):
            fix = _with_nearest_name(name, f"give a path or one of {', '.join(NAMES)}, tfds:NAME, file:PATH")
            raise ConfigError("source", f"no such file or dataset: {name!r}", fix)
        name = files.PREFIX + name
    check_name(name)
    if name.startswith(files.PREFIX) and files.parse(name)[1] is not None:
        raise ConfigError("source", f"{source!r} asks for a scale", "leave out ?scale: that of the stored run is used")
    return name, split


def _with_nearest_name(name: str, fix: str) -> str:
    """`fix`, preceded by the plain name nearest to `name` if one is similar enough."""
    nearest = difflib.get_close_matches(name.lower(), NAMES, n=1, cutoff=0.5)
    return f"did you mean {nearest[0]!r}? {fix}" if nearest else fix


def _is_file(source: str, data_dir: str | Path | None) -> bool:
    """Whether a path or `file:PATH` is an existing file or folder."""
    return files.find(source.removeprefix(files.PREFIX), data_dir) is not None


def _load_raw(name: str, data_dir: str | Path | None, seed: int, scale: float | None = None) -> base.RawData:
    """The arrays of a dataset. `scale` overrides the scale of `tfds:` and `file:` names: 1 keeps the stored values."""
    if name in _SOURCES:
        return _SOURCES[name].load_raw(data_dir, seed)
    source = tfds_source if name.startswith(tfds_source.PREFIX) else files
    return source.load_raw(name, data_dir, scale)
