"""Any TFDS dataset of images or numeric features, by name. Once prepared as array_record, it needs no TensorFlow.

`tensorflow_datasets` is imported inside functions because its import takes a second.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from aejax.datasets import interpret
from aejax.datasets.base import SPLITS, RawData
from aejax.runtime.errors import ConfigError, DataError

PREFIX = "tfds:"
CHUNK_RECORDS = 4096
"""Records decoded at a time: enough to keep all reading threads busy, and few enough to hold two copies in memory."""
PREPARE_AGAIN = "remove that folder and prepare it again"
_NAME = re.compile(r"[a-z]\w*(/[\w.+-]+)?(:[\d*]+\.[\d*]+\.[\d*]+)?", re.ASCII)


def roots(data_dir: str | Path | None) -> list[Path]:
    """Folders that may hold prepared datasets and downloads: data_dir, $TFDS_DATA_DIR, ~/tensorflow_datasets."""
    folders = [data_dir, os.environ.get("TFDS_DATA_DIR"), "~/tensorflow_datasets"]
    return list(dict.fromkeys(Path(folder).expanduser().absolute() for folder in folders if folder))


def download_folders(data_dir: str | Path | None, name: str) -> list[Path]:
    """Folders that may hold downloaded files of the dataset `name`: each root, its NAME/, its downloads/manual/."""
    return [folder for root in roots(data_dir) for folder in (root, root / name, root / "downloads" / "manual")]


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Discard what TFDS prints: progress bars, and a note that TensorFlow is absent."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield


def check(name: str) -> None:
    """Raise ConfigError unless `name` has the form tfds:NAME[/config][:version]."""
    if not _NAME.fullmatch(name.removeprefix(PREFIX)):
        fix = "write tfds:NAME[/config][:version], all lower case"
        raise ConfigError("dataset", f"{name!r} is not a TFDS name", fix)


def load_raw(name: str, data_dir: str | Path | None, scale: float | None = None) -> RawData:
    """Read those of the splits train, validation and test that `tfds:NAME` has.

    An image feature gives images. Without one, a numeric tensor or all numeric scalars give a table. Labels come from
    `supervised_keys` or from a feature called `label`. Class features are never inputs.

    Raises DataError if the dataset is not prepared as array_record and TensorFlow is absent, if its records cannot be
    read, and if it has no such features.
    """
    builder = _find_or_prepare(name, data_dir)
    splits = [split for split in SPLITS if split in builder.info.splits]
    if "train" not in splits:
        raise DataError(name, f"has the splits {sorted(builder.info.splits)}", "use a dataset with a split `train`")
    input_keys, label_key = _select_features(name, builder.info)
    arrays = {split: _read_split(name, builder, split, input_keys, label_key) for split in splits}
    x = {split: rows for split, (rows, _) in arrays.items()}
    y = {split: labels for split, (_, labels) in arrays.items()}
    # A table of counts or codes has a unit that does not matter once every column is standardised.
    usual_scale = interpret.STANDARDISE if x["train"].dtype.kind in "bi" else None
    return interpret.interpret(name, x, y, scale or usual_scale)


def _find_or_prepare(name: str, data_dir: str | Path | None) -> Any:
    """The builder of a prepared dataset. If the dataset is not prepared, TensorFlow prepares it, if installed."""
    with quiet():
        import tensorflow_datasets as tfds
        from tensorflow_datasets.core import read_only_builder
    tfds_name = name.removeprefix(PREFIX)
    folders = roots(data_dir)
    for folder in folders:
        with quiet(), _as_data_error(name, f"{folder}: metadata that cannot be read", PREPARE_AGAIN):
            try:
                builder = read_only_builder.builder_from_files(tfds_name, data_dir=str(folder))
            except tfds.core.DatasetNotFoundError:
                continue
        file_format = builder.info.file_format and builder.info.file_format.value
        if file_format != "array_record":
            problem = f"prepared as {file_format} in {builder.data_dir}, which needs TensorFlow to read"
            raise DataError(name, problem, "prepare it again elsewhere with file_format='array_record'")
        return builder
    if not _has_tensorflow():
        problem = f"not prepared as array_record in {', '.join(map(str, folders))}, and preparing it needs TensorFlow"
        raise DataError(name, problem, "pip install 'aejax[tensorflow]' and run this again, or pass its data_dir")
    fix = "check its name at tensorflow.org/datasets, the network and the disk"
    with _as_data_error(name, "TFDS could not prepare it", fix):
        builder = tfds.builder(tfds_name, data_dir=str(folders[0]), file_format="array_record")
        builder.download_and_prepare(file_format="array_record")
    return builder


def _has_tensorflow() -> bool:
    return importlib.util.find_spec("tensorflow") is not None


@contextlib.contextmanager
def _as_data_error(name: str, problem: str, fix: str) -> Iterator[None]:
    """Turn an error of TFDS, of any type, into a DataError. Only its first line is quoted: its text may fill pages."""
    try:
        yield
    except DataError:
        raise
    except Exception as error:
        first_line = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
        raise DataError(name, f"{problem} ({type(error).__name__}: {first_line[:200]})", fix) from error


def _select_features(name: str, info: Any) -> tuple[list[str], str | None]:
    """The keys of the features that make up a row, and the key of the label or None."""
    import tensorflow_datasets as tfds

    # Sorted, because the order of stored features differs between processes.
    all_keys = sorted(info.features) if isinstance(info.features, tfds.features.FeaturesDict) else []
    features: dict[str, Any] = {key: info.features[key] for key in all_keys}
    supervised_keys = [key for key in info.supervised_keys or () if isinstance(key, str)]
    target = supervised_keys[1] if len(supervised_keys) == 2 else None
    label_key = target or "label"
    if label_key not in features or np.dtype(features[label_key].np_dtype).kind not in "iu":
        label_key = None
    classes = [key for key in features if isinstance(features[key], tfds.features.ClassLabel)]
    candidates = [key for key in features if key not in (label_key, target, *classes)]
    images = [key for key in candidates if isinstance(features[key], tfds.features.Image)]
    arrays = [key for key in candidates if isinstance(features[key], tfds.features.Tensor)]
    numeric = [key for key in arrays if np.dtype(features[key].np_dtype).kind in "biuf"]
    tensors = [key for key in numeric if features[key].shape and None not in features[key].shape]
    scalars = [key for key in numeric if features[key].shape == ()]
    for keys in (images, tensors):
        if supervised_keys and supervised_keys[0] in keys:
            return [supervised_keys[0]], label_key
        if len(keys) == 1:
            return keys, label_key
        if keys:
            raise DataError(name, f"several features could be the input: {keys}", "use a dataset with one")
    if not scalars:
        raise DataError(name, f"no image and no numeric feature among {sorted(features)}", "use another dataset")
    return scalars, label_key


def _read_split(
    name: str, builder: Any, split: str, input_keys: list[str], label_key: str | None
) -> tuple[np.ndarray, np.ndarray | None]:
    """Rows (n, ...) and labels (n,) of a split; labels are None if there is no label key."""
    blocks: list[np.ndarray] = []
    labels: list[int] = []
    with quiet(), _as_data_error(name, f"{builder.data_dir}: {split} cannot be read", PREPARE_AGAIN):
        source = builder.as_data_source(split=split)
        for start in range(0, len(source), CHUNK_RECORDS):
            # __getitems__ reads a batch in one call, several times faster than one __getitem__ per record.
            records = source.__getitems__(range(start, min(start + CHUNK_RECORDS, len(source))))
            rows = [_row(record, input_keys) for record in records]
            first_shape = blocks[0].shape[1:] if blocks else rows[0].shape
            for number, row in enumerate(rows, start):
                if row.shape != first_shape:
                    problem = f"{split}: row 0 has shape {first_shape}, row {number} {row.shape}"
                    raise DataError(name, problem, "use a dataset whose images have one size")
            blocks.append(np.stack(rows))
            labels += [int(record[label_key]) for record in records if label_key]
    if not blocks:
        raise DataError(name, f"{split}: empty", "use a dataset with rows in every split")
    return np.concatenate(blocks), np.asarray(labels) if label_key else None


def _row(record: dict[str, Any], input_keys: list[str]) -> np.ndarray:
    """The inputs of a record as an array: its only input, or its scalars as one row."""
    if len(input_keys) == 1:
        return np.atleast_1d(record[input_keys[0]])
    return np.asarray([record[key] for key in input_keys], np.float64)
