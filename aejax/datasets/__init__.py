"""Data by name, checked, split and scaled, ready to train on.

`digits`, `plane3d`, `lowrank`, `mnist`, `mnist_centred` (less its mean image), `olivetti`, `olivetti_mirrored`,
`olivetti_augmented`, `olivetti_patches`;
`tfds:NAME[/config][:version]`; `file:PATH[?scale=VALUE]`.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from aejax.datasets import base, digits, files, interpret, mnist, olivetti, synthetic, tfds_source, validate
from aejax.datasets.base import Dataset, Scaling
from aejax.runtime.errors import ConfigError, DataError

__all__ = ["NAMES", "Dataset", "Scaling", "check_name", "known_shape", "load", "read_rows"]


class _Named(NamedTuple):
    shape: tuple[int, int]
    raw: Callable[[str | Path | None, int], base.Raw]
    validation_rows: int | None = None


_NAMED = {
    "digits": _Named(digits.SHAPE, lambda data_dir, seed: digits.raw()),
    "plane3d": _Named(synthetic.PLANE3D_SHAPE, lambda data_dir, seed: synthetic.plane3d(seed)),
    "lowrank": _Named(synthetic.LOWRANK_SHAPE, lambda data_dir, seed: synthetic.lowrank(seed)),
    "mnist": _Named(mnist.SHAPE, lambda data_dir, seed: mnist.raw(data_dir), mnist.VALIDATION_ROWS),
    "mnist_centred": _Named(
        mnist.SHAPE, lambda data_dir, seed: mnist.raw(data_dir)._replace(centred=True), mnist.VALIDATION_ROWS
    ),
    "olivetti": _Named(olivetti.SHAPE, olivetti.raw),
    "olivetti_mirrored": _Named(
        (2 * olivetti.SHAPE[0], olivetti.SHAPE[1]), lambda data_dir, seed: olivetti.raw(data_dir, seed, mirrored=True)
    ),
    "olivetti_augmented": _Named(olivetti.AUGMENTED_SHAPE, olivetti.augmented),
    "olivetti_patches": _Named(olivetti.PATCH_SHAPE, olivetti.patches),
}
NAMES = tuple(_NAMED)
"""Datasets known by a plain name."""
SPLITS = ("train", "validation", "test")


def load(name: str, data_dir: str | Path | None = None, seed: int = 0) -> Dataset:
    """The dataset of that name, its missing splits cut by `seed`, its scaling computed from the training rows.

    Images are uint8 rows and `unit` says what to divide by; all else is float32, already scaled. `data_dir` is where
    MNIST, the Olivetti faces, TFDS datasets and relative `file:` paths are looked for first. A synthetic set is drawn
    anew by each seed.

    Raises ConfigError for a name or seed that means nothing, DataError for data that cannot be used, MachineError
    where MNIST has to be prepared and no folder can be written.
    """
    check_name(name)
    seed = validate.seed(seed)
    validation_rows = _NAMED[name].validation_rows if name in _NAMED else None
    return base.assemble(name, _raw(name, data_dir, seed), seed, validation_rows)


def known_shape(name: str) -> tuple[int, int] | None:
    """(training rows, inputs) of a plain name, without reading data; None for `tfds:` and `file:`.

    Raises ConfigError for an unknown name.
    """
    check_name(name)
    return _NAMED[name].shape if name in _NAMED else None


def check_name(name: str) -> None:
    """Raise ConfigError("dataset", ...) unless `name` is a dataset name; reads no data and imports nothing."""
    fix = f"use one of {', '.join(NAMES)}, tfds:NAME[/config][:version], file:PATH[?scale=VALUE]"
    if not isinstance(name, str):
        raise ConfigError("dataset", f"expected a name, found {name!r}", fix)
    if name.startswith(tfds_source.PREFIX):
        tfds_source.check(name)
    elif name.startswith(files.PREFIX):
        files.parse(name)
    elif name not in _NAMED:
        near = difflib.get_close_matches(name.lower(), NAMES, n=1, cutoff=0.5)
        if "/" in name or Path(name).suffix:
            near = [f"{files.PREFIX}{name}"]
        fix = f"did you mean {near[0]!r}? {fix}" if near else fix
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
    """Rows to encode with a stored run: (n, inputs) float32 in that run's scaling.

    `source` is a path or a dataset name, optionally followed by `:train`, `:validation` or `:test`. Without it, a
    path without splits of its own gives all its rows, everything else its test rows. `seed` matters where the named
    split is cut or drawn by it. Where the run was trained on uint8 bytes, its scaling expects values in those units.
    `unit` is the `Dataset.unit` of its data; without it, a run that divides all values by one scale other than 1 is
    taken to have been trained on values from 0 to that scale.

    Raises DataError where the number of features or the image shape is not the run's, where values are outside its
    range or look like another unit, and as `load` does; ConfigError for a source that is nothing.
    """
    name, split = _source(source, data_dir)
    seed = validate.seed(seed)
    raw = _raw(name, data_dir, seed, interpret.STORED)
    if split is not None or "test" in raw.x or not name.startswith(files.PREFIX):
        validation_rows = _NAMED[name].validation_rows if name in _NAMED else None
        rows_nd = base.cut_splits(name, raw, seed, validation_rows).x[split or "test"]
    else:
        rows_nd = raw.x["train"]
    if rows_nd.shape[1] != inputs:
        found = f"{rows_nd.shape[1]} features per row, the stored run has {inputs}"
        raise DataError(name, found, "give data with the features the run was trained on")
    if image_shape is not None and raw.image_shape is not None and tuple(image_shape) != raw.image_shape:
        found = f"images of shape {raw.image_shape}, the stored run has {tuple(image_shape)}"
        raise DataError(name, found, "give images of the shape the run was trained on")
    if scaling.scale_d.shape == (1,) and not scaling.offset_d.any():
        scale = float(scaling.scale_d[0])
        bounded = (scale if unit is None else unit) != 1
        validate.same_unit(name, rows_nd, scale, images=image_shape is not None, bounded=bounded)
    validate.summable(name, split or "rows", rows_nd, scaling.offset_d, scaling.scale_d)
    return scaling.apply(rows_nd)


def _source(source: str, data_dir: str | Path | None) -> tuple[str, str | None]:
    """A dataset name and the split asked for, from `NAME[:SPLIT]` or `PATH[:SPLIT]`."""
    prefixes = (tfds_source.PREFIX, files.PREFIX)
    head, _, tail = source.rpartition(":")
    name, split = (head, tail) if head and tail in SPLITS else (source, None)
    names_split = tail.isidentifier() and f"{head}:" not in prefixes and not _is_file(source, data_dir)
    is_data = head in _NAMED or head.startswith(tfds_source.PREFIX) or _is_file(head, data_dir)
    if split is None and names_split and is_data:
        raise ConfigError("source", f"{source!r}: no split is called {tail!r}", f"use one of {', '.join(SPLITS)}")
    if name not in _NAMED and not name.startswith(prefixes):
        if "/" not in name and not Path(name).suffix and not _is_file(name, data_dir):
            near = difflib.get_close_matches(name.lower(), NAMES, n=1, cutoff=0.5)
            fix = f"give a path or one of {', '.join(NAMES)}, tfds:NAME, file:PATH"
            fix = f"did you mean {near[0]!r}? {fix}" if near else fix
            raise ConfigError("source", f"no such file or dataset: {name!r}", fix)
        name = files.PREFIX + name
    check_name(name)
    if name.startswith(files.PREFIX) and files.parse(name)[1] is not None:
        raise ConfigError("source", f"{source!r} asks for a scale", "leave out ?scale: that of the stored run is used")
    return name, split


def _is_file(source: str, data_dir: str | Path | None) -> bool:
    return files.find(source.removeprefix(files.PREFIX), data_dir) is not None


def _raw(name: str, data_dir: str | Path | None, seed: int, scale: str | None = None) -> base.Raw:
    if name in _NAMED:
        return _NAMED[name].raw(data_dir, seed)
    source = tfds_source if name.startswith(tfds_source.PREFIX) else files
    return source.raw(name, data_dir, scale)
