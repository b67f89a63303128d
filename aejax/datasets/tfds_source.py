"""Any TFDS dataset of images or numeric features, by name; read without TensorFlow once prepared as array_record.

TFDS is imported inside functions: it takes a second.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from aejax.datasets import interpret
from aejax.datasets.base import Raw
from aejax.runtime.errors import ConfigError, DataError

PREFIX = "tfds:"
SPLITS = ("train", "validation", "test")
CHUNK_RECORDS = 4096
"""Records decoded in one go: enough to use every reading thread, few enough to hold in memory twice."""
_NAME = re.compile(r"[a-z]\w*(/[\w.+-]+)?(:[\d*]+\.[\d*]+\.[\d*]+)?", re.ASCII)


def roots(data_dir: str | Path | None) -> list[Path]:
    """Where prepared datasets and downloads are looked for: data_dir, $TFDS_DATA_DIR, ~/tensorflow_datasets."""
    found = [data_dir, os.environ.get("TFDS_DATA_DIR"), "~/tensorflow_datasets"]
    return list(dict.fromkeys(Path(root).expanduser().absolute() for root in found if root))


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep TFDS's progress bars, and its note that TensorFlow is absent, off the terminal."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield


def check(name: str) -> None:
    """Raise ConfigError unless `name` reads tfds:NAME[/config][:version]."""
    if not _NAME.fullmatch(name.removeprefix(PREFIX)):
        raise ConfigError("dataset", f"{name!r} is no TFDS name", "write tfds:NAME[/config][:version], all lower case")


def raw(name: str, data_dir: str | Path | None, scale: str | None = None) -> Raw:
    """The splits train, validation and test of `tfds:NAME`, as far as it has them.

    An image feature gives images; otherwise a numeric tensor, or all scalar numbers as columns, gives a table.
    Labels come from supervised_keys or a feature called `label`; class features are never inputs.

    Raises DataError where it is not prepared as array_record and TensorFlow is absent, where records cannot be read,
    and where the features are not as above.
    """
    check(name)
    builder = _prepared(name, data_dir)
    splits = [split for split in SPLITS if split in builder.info.splits]
    if "train" not in splits:
        raise DataError(name, f"has the splits {sorted(builder.info.splits)}", "use a dataset with a split `train`")
    inputs, label = _features(name, builder.info)
    x: dict[str, np.ndarray] = {}
    y: dict[str, np.ndarray | None] = {}
    for split in splits:
        x[split], y[split] = _read(name, builder, split, inputs, label)
    if x["train"].dtype.kind in "bi":
        # A table of counts or codes: its unit does not matter once every column is standardised.
        scale = scale or interpret.STANDARDISE
    return interpret.interpret(name, x, y, scale)


def _prepared(name: str, data_dir: str | Path | None) -> Any:
    """The builder of a dataset on disk, prepared now where TensorFlow is there to do it."""
    with quiet():
        import tensorflow_datasets as tfds
        from tensorflow_datasets.core import read_only_builder
    tfds_name, looked = name.removeprefix(PREFIX), roots(data_dir)
    for root in looked:
        try:
            with quiet():
                builder = read_only_builder.builder_from_files(tfds_name, data_dir=str(root))
        except tfds.core.DatasetNotFoundError:
            continue
        except Exception as error:
            found = f"{root}: metadata that cannot be read ({_line(error)})"
            raise DataError(name, found, "remove that folder and prepare it again") from error
        written = builder.info.file_format
        if written is None or written.value != "array_record":
            found = f"prepared as {written and written.value} in {builder.data_dir}, which needs TensorFlow to read"
            raise DataError(name, found, "prepare it again elsewhere with file_format='array_record'")
        return builder
    if not _has_tensorflow():
        found = f"not prepared as array_record in {', '.join(map(str, looked))}, and preparing it needs TensorFlow"
        raise DataError(name, found, "pip install 'aejax[tensorflow]' and run this again, or pass its data_dir")
    try:
        builder = tfds.builder(tfds_name, data_dir=str(looked[0]), file_format="array_record")
        builder.download_and_prepare(file_format="array_record")
    except Exception as error:
        fix = "check its name at tensorflow.org/datasets, the network and the disk"
        raise DataError(name, f"TFDS could not prepare it ({_line(error)})", fix) from error
    return builder


def _has_tensorflow() -> bool:
    return importlib.util.find_spec("tensorflow") is not None


def _line(error: Exception) -> str:
    """The first line of a third party's error, which may run over pages."""
    text = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    return f"{type(error).__name__}: {text[:200]}"


def _features(name: str, info: Any) -> tuple[list[str], str | None]:
    """Keys of the features that make up one row, and of the label."""
    import tensorflow_datasets as tfds

    # Sorted: the stored features come back in an order that differs between processes.
    features: dict[str, Any] = {}
    if isinstance(info.features, tfds.features.FeaturesDict):
        features = {key: info.features[key] for key in sorted(info.features)}
    keys = [key for key in info.supervised_keys or () if isinstance(key, str)]
    label = keys[1] if len(keys) == 2 else "label"
    if label not in features or np.dtype(features[label].np_dtype).kind not in "iu":
        label = None
    candidates = {k: f for k, f in features.items() if k != label and not isinstance(f, tfds.features.ClassLabel)}
    candidates = {k: f for k, f in candidates.items() if not (len(keys) == 2 and k == keys[1])}
    images = [key for key, feature in candidates.items() if isinstance(feature, tfds.features.Image)]
    plain: dict[str, Any] = {
        key: feature
        for key, feature in candidates.items()
        if isinstance(feature, (tfds.features.Tensor, tfds.features.Scalar))
        and key not in images
        and np.dtype(features[key].np_dtype).kind in "biuf"
    }
    tensors = [key for key, feature in plain.items() if feature.shape and None not in feature.shape]
    scalars = [key for key, feature in plain.items() if feature.shape == ()]
    for group in (images, tensors):
        if keys and keys[0] in group:
            return [keys[0]], label
        if len(group) == 1:
            return group, label
        if group:
            raise DataError(name, f"several features could be the input: {group}", "use a dataset with one")
    if not scalars:
        raise DataError(name, f"no image and no numeric feature among {sorted(features)}", "use another dataset")
    return scalars, label


def fetch(source: Sequence[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """All records of a TFDS data source in order, as lists of at most CHUNK_RECORDS."""
    for start in range(0, len(source), CHUNK_RECORDS):
        # __getitems__ reads a batch in one call; one __getitem__ per record is several times slower.
        yield source.__getitems__(range(start, min(start + CHUNK_RECORDS, len(source))))  # type: ignore[attr-defined]


def _read(
    name: str, builder: Any, split: str, inputs: list[str], label: str | None
) -> tuple[np.ndarray, np.ndarray | None]:
    """Rows (n, ...) and labels (n,) of one split."""
    rows: list[np.ndarray] = []
    labels: list[int] = []
    first: np.ndarray | None = None
    try:
        with quiet():
            chunks = fetch(builder.as_data_source(split=split))
            for records in chunks:
                block = [_row(record, inputs) for record in records]
                first = block[0] if first is None else first
                odd = next((i for i, row in enumerate(block) if row.shape != first.shape), None)
                if odd is not None:
                    number = sum(map(len, rows)) + odd
                    found = f"{split}: row 0 has shape {first.shape}, row {number} {block[odd].shape}"
                    raise DataError(name, found, "use a dataset whose images have one size")
                rows.append(np.stack(block))
                labels.extend(int(record[label]) for record in records if label)
    except DataError:
        raise
    except Exception as error:
        found = f"{builder.data_dir}: {split} cannot be read ({_line(error)})"
        raise DataError(name, found, "remove that folder and prepare it again") from error
    if not rows:
        raise DataError(name, f"{split}: empty", "use a dataset with rows in every split")
    return np.concatenate(rows), np.asarray(labels) if label else None


def _row(record: dict[str, Any], inputs: list[str]) -> np.ndarray:
    if len(inputs) == 1:
        value = np.asarray(record[inputs[0]])
        return value if value.ndim else value.reshape(1)
    return np.asarray([record[key] for key in inputs], np.float64)
