"""MNIST, prepared as a TFDS dataset and read without TensorFlow. Its bytes are verified every time it is loaded.

Yann LeCun, Corinna Cortes, Christopher J. C. Burges: The MNIST database of handwritten digits, 1998; CC BY-SA 3.0.
The MNIST of TFDS is not used, because reading it needs TensorFlow, as do `tfds.load` and `as_dataset`.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import http.client
import os
import shutil
import urllib.request
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from aejax.datasets import interpret, tfds_source
from aejax.datasets.base import RawData
from aejax.runtime.errors import DataError, MachineError
from aejax.storage.atomic import write_atomic

NAME = "aejax_mnist"
VERSION = "1.0.0"
INFO = "dataset_info.json"
"""The file that TFDS writes last. A folder without it is not prepared."""
VALIDATION_ROWS = 5000
SHAPE = (60000 - VALIDATION_ROWS, 784)
"""(training rows, inputs)."""
FILES = {
    ("train", "images"): ("train-images-idx3-ubyte", "6bbc9ace898e44ae57da46a324031adb"),
    ("train", "labels"): ("train-labels-idx1-ubyte", "a25bea736e30d166cdddb491f175f624"),
    ("test", "images"): ("t10k-images-idx3-ubyte", "2646ac647ad5339dbf082846283269ea"),
    ("test", "labels"): ("t10k-labels-idx1-ubyte", "27ae3e4e09519cfbb04c329615203637"),
}
"""The original files: (split, part) to the file name and the md5 of its decompressed bytes, header included."""
GZIP_NAMES = tuple(f"{file_name}.gz" for file_name, _ in FILES.values())
ROWS = {"train": 60000, "test": 10000}
HEADERS = {"images": (2051, 28, 28), "labels": (2049,)}
"""For each part, the magic number of the IDX format, followed by the sizes of all axes after the first."""
MIRRORS = ("https://storage.googleapis.com/cvdf-datasets/mnist/", "https://ossci-datasets.s3.amazonaws.com/mnist/")
TIMEOUT_S = 4.0
RECORD_ROWS = 1000
"""Images per record, stored as raw bytes. Measured on 2 cores: reading all 60 000 takes 0.14 s. It takes 2.0 s with one
image per record, because the cost is per record, and 0.5 s with the default encoding as a list of integers."""


def load_raw(data_dir: str | Path | None) -> RawData:
    """60 000 training and 10 000 test images of 28x28 bytes in their original order, with labels 0 to 9.

    The folders data_dir, $TFDS_DATA_DIR and ~/tensorflow_datasets are searched for the prepared dataset, then for the
    four IDX files, gzipped or not (also in the sub-folders mnist/ and downloads/manual/). If neither is there, the
    files are downloaded. The dataset is prepared in the first of these folders that is writable and does not itself
    hold the IDX files.

    Raises DataError for a damaged file, naming it, and if the files are in no folder and no mirror answers. Raises
    MachineError if no folder is writable.
    """
    folders = [root / NAME / VERSION for root in tfds_source.roots(data_dir)]
    folder = next((folder for folder in folders if (folder / INFO).is_file()), None) or _prepare(data_dir)
    arrays = {split: _read_prepared(folder, split) for split in ROWS}
    x, y = ({split: arrays[split][part] for split in ROWS} for part in HEADERS)
    return interpret.interpret("mnist", x, y)._replace(validation_rows=VALIDATION_ROWS)


def _read_prepared(folder: Path, split: str) -> dict[str, np.ndarray]:
    """Images (n, 28, 28) and labels (n,), uint8, of a prepared folder. Raises DataError unless they are original."""
    fix = f"remove {folder} and load mnist again"
    try:
        with tfds_source.quiet():
            import tensorflow_datasets as tfds

            builder: Any = tfds.builder_from_directory(str(folder))
            source = builder.as_data_source(split=split)
            records = source.__getitems__(range(len(source)))
        arrays = {part: np.concatenate([record[part] for record in records]) for part in HEADERS}
    except Exception as error:  # TFDS and array_record raise errors of all types for a damaged file
        raise DataError(str(folder), f"{split} cannot be read ({type(error).__name__})", fix) from error
    for part, (magic, *axes) in HEADERS.items():
        header = np.array([magic, len(arrays[part]), *axes], ">i4")
        md5 = hashlib.md5(header.tobytes() + arrays[part].tobytes(), usedforsecurity=False).hexdigest()
        _, expected_md5 = FILES[split, part]
        if md5 != expected_md5:
            problem = f"{split} {part} are damaged: expected md5 {expected_md5}, found {md5}"
            raise DataError(str(folder), problem, fix)
    return arrays


def _prepare(data_dir: str | Path | None) -> Path:
    """Prepare MNIST in the first suitable folder and return the prepared folder.

    Processes that do so at the same time wait for each other.
    """
    import fcntl

    root = _root_to_write(data_dir)
    folder = root / NAME / VERSION
    try:
        with (root / f".{NAME}.lock").open("a") as lock_file:
            fcntl.flock(lock_file, fcntl.LOCK_EX)  # the kernel releases the lock even if this process is killed
            if (folder / INFO).is_file():
                return folder
            # Only the holder of the lock prepares, so an incomplete folder was left behind by a killed process.
            for incomplete in (root / NAME).glob("incomplete.*"):
                shutil.rmtree(incomplete, ignore_errors=True)
            folders = tfds_source.download_folders(data_dir, "mnist")
            complete = (folder for folder in folders if all(_find_file(folder, name) for name, _ in FILES.values()))
            source = next(complete, None) or download(root / "downloads" / "manual", data_dir)
            # Read here, because TFDS would hide the DataError for a damaged file in an error of its own.
            arrays = {(split, part): read_idx(source, split, part) for split, part in FILES}
            with tfds_source.quiet():
                import tensorflow_datasets as tfds

                _builder_class(tfds, arrays)(data_dir=str(root), file_format="array_record").download_and_prepare()
    except OSError as error:
        problem = f"MNIST could not be prepared here ({error})"
        raise MachineError(str(root), problem, "free 100 MB there or pass another data_dir") from error
    return folder


def _root_to_write(data_dir: str | Path | None) -> Path:
    """The first root that is writable and does not itself hold downloaded files. It is created if necessary.

    Write permission is required even of the user root, who could override it.
    """
    roots = tfds_source.roots(data_dir)
    for root in roots:
        existing = next(path for path in (root, *root.parents) if path.exists())
        permitted = os.access(existing, os.W_OK | os.X_OK) and existing.stat().st_mode & 0o222
        if existing.is_dir() and permitted and _find_file(root, FILES["train", "images"][0]) is None:
            with contextlib.suppress(OSError):
                root.mkdir(parents=True, exist_ok=True)
                return root
    tried = ", ".join(map(str, roots))
    raise MachineError("data_dir", f"MNIST cannot be written to any of {tried}", "pass a data_dir that can be written")


def _builder_class(tfds: Any, arrays: Mapping[tuple[str, str], np.ndarray]) -> Any:
    """The TFDS builder of these arrays per (split, part). Defined here because its base class is slow to import."""
    features = {
        part: tfds.features.Tensor(shape=(RECORD_ROWS, *axes), dtype=np.uint8, encoding="bytes")
        for part, (_, *axes) in HEADERS.items()
    }
    info = {"features": tfds.features.FeaturesDict(features), "disable_shuffling": True}

    class AejaxMnist(tfds.core.GeneratorBasedBuilder, skip_registration=True):  # pyright: ignore
        """MNIST in the original order, with RECORD_ROWS images per record."""

        name = NAME
        VERSION = tfds.core.Version(VERSION)

        def _info(self) -> Any:
            return tfds.core.DatasetInfo(builder=self, **info)

        def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
            return {split: self._generate_examples(split) for split in ROWS}

        def _generate_examples(self, split: str) -> Iterator[tuple[int, dict[str, np.ndarray]]]:
            for start in range(0, ROWS[split], RECORD_ROWS):
                yield start, {part: arrays[split, part][start : start + RECORD_ROWS] for part in HEADERS}

    return AejaxMnist


def _find_file(folder: Path, file_name: str) -> Path | None:
    """The path of an original file in `folder`, gzipped or not; None if it is not there."""
    return next((path for path in (folder / f"{file_name}.gz", folder / file_name) if path.is_file()), None)


def read_idx(folder: Path, split: str, part: str) -> np.ndarray:
    """Images (n, 28, 28) or labels (n,), uint8, from an original file. Raises DataError unless its bytes are original.

    `part` is "images" or "labels".
    """
    file_name, md5 = FILES[split, part]
    path = _find_file(folder, file_name)
    if path is None:
        raise DataError(str(folder / file_name), "file missing", "put it there, gzipped or not")
    data = _verified(str(path), path.read_bytes(), md5)
    _, *axes = HEADERS[part]  # the header of the file also holds the number of rows
    return np.frombuffer(data, np.uint8, offset=4 * (2 + len(axes))).reshape(-1, *axes)


def _verified(field: str, data: bytes, expected_md5: str) -> bytes:
    """Decompress the bytes of a file. Raises DataError(field, ...) unless they are the original file."""
    fix = "remove it and load mnist again, or fetch the original"
    if data[:512].lstrip()[:1] == b"<":
        raise DataError(field, "expected an IDX file, found an HTML page", fix)
    if data[:2] == b"\x1f\x8b":
        try:
            data = gzip.decompress(data)
        except (OSError, EOFError, zlib.error) as error:
            problem = f"expected a whole gzip file, found a damaged one of {len(data)} bytes ({error})"
            raise DataError(field, problem, fix) from error
    md5 = hashlib.md5(data, usedforsecurity=False).hexdigest()
    if md5 != expected_md5:
        raise DataError(field, f"expected md5 {expected_md5}, found {md5} ({len(data)} bytes decompressed)", fix)
    return data


def download(folder: Path, data_dir: str | Path | None = None) -> Path:
    """Download the missing ones of the four files into `folder`, and return it.

    Each mirror is tried once per file. A file is verified before it is stored. Raises DataError if no mirror answers,
    and if a mirror sends other bytes than the original. Raises MachineError if a file cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for file_name, md5 in FILES.values():
        if _find_file(folder, file_name) is None:
            path = folder / f"{file_name}.gz"
            write_atomic(path, _download_file(path, md5, data_dir))
    return folder


def _download_file(path: Path, md5: str, data_dir: str | Path | None) -> bytes:
    """The bytes of an original file as sent (gzipped), verified, from the first mirror that sends them."""
    failures: list[str] = []
    wrong_bytes: DataError | None = None
    for mirror in MIRRORS:
        try:
            with urllib.request.urlopen(mirror + path.name, timeout=TIMEOUT_S) as response:
                data = response.read()
            _verified(mirror + path.name, data, md5)
            return data
        except DataError as error:
            wrong_bytes = error
        except (OSError, http.client.HTTPException) as error:
            failures.append(f"{mirror.split('/')[2]}: {error}")
    fix = f"put {', '.join(GZIP_NAMES)} into {path.parent}"
    if wrong_bytes is not None:
        raise DataError(wrong_bytes.field, wrong_bytes.problem, f"{fix} yourself") from wrong_bytes
    roots = ", ".join(map(str, tfds_source.roots(data_dir)))
    problem = f"not in {roots}, and no mirror could be reached ({'; '.join(failures)})"
    raise DataError("mnist", problem, fix)
