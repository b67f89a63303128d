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
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from aejax.datasets import tfds_source
from aejax.datasets.base import RawData
from aejax.runtime.errors import DataError, MachineError
from aejax.storage.atomic import write_atomic

NAME = "aejax_mnist"
VERSION = "1.0.0"
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
    folder = next((folder for folder in folders if _is_prepared(folder)), None) or _prepare(data_dir)
    x: dict[str, np.ndarray] = {}
    y: dict[str, np.ndarray | None] = {}
    for split in ROWS:
        images, y[split] = _read_prepared(folder, split)
        x[split] = images.reshape(len(images), -1)
    return RawData(x, y, HEADERS["images"][1:], 255.0)


def _is_prepared(folder: Path) -> bool:
    return (folder / "dataset_info.json").is_file()


def _read_prepared(folder: Path, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Images (n, 28, 28) and labels (n,), uint8, from a prepared folder. Raises DataError unless they are original."""
    fix = f"remove {folder} and load mnist again"
    try:
        with tfds_source.quiet():
            import tensorflow_datasets as tfds

            builder: Any = tfds.builder_from_directory(str(folder))
            source = builder.as_data_source(split=split)
            records = [record for chunk in tfds_source.read_chunks(source) for record in chunk]
        images, labels = (np.concatenate([record[part] for record in records]) for part in HEADERS)
    except Exception as error:  # TFDS and array_record raise errors of all types for a damaged file
        raise DataError(str(folder), f"{split} cannot be read ({type(error).__name__})", fix) from error
    for part, values in zip(HEADERS, (images, labels), strict=True):
        magic, *axes = HEADERS[part]
        header = np.array([magic, len(values), *axes], ">i4")
        digest = hashlib.md5(header.tobytes(), usedforsecurity=False)
        digest.update(np.ascontiguousarray(values).data)
        _, expected_md5 = FILES[split, part]
        if digest.hexdigest() != expected_md5:
            found = f"{split} {part} are damaged: expected md5 {expected_md5}, found {digest.hexdigest()}"
            raise DataError(str(folder), found, fix)
    return images, labels


def _prepare(data_dir: str | Path | None) -> Path:
    """Prepare MNIST in the first suitable folder and return the prepared folder.

    Processes that do so at the same time wait for each other.
    """
    root = _root_to_write(data_dir)
    folder = root / NAME / VERSION
    try:
        with _locked(root / f".{NAME}.lock"):
            if _is_prepared(folder):
                return folder
            # Only the holder of the lock prepares, so an incomplete folder was left behind by a killed process.
            for incomplete in (root / NAME).glob("incomplete.*"):
                shutil.rmtree(incomplete, ignore_errors=True)
            source = _find_files(data_dir) or download(root / "downloads" / "manual", data_dir)
            for split, part in FILES:  # raises DataError for a damaged file, which TFDS would hide in its own error
                read_idx(source, split, part)
            with tfds_source.quiet():
                import tensorflow_datasets as tfds

                builder = _builder_class(tfds)(data_dir=str(root), file_format="array_record")
                builder.download_and_prepare(download_config=tfds.download.DownloadConfig(manual_dir=str(source)))
    except OSError as error:
        found = f"MNIST could not be prepared here ({error})"
        raise MachineError(str(root), found, "free 100 MB there or pass another data_dir") from error
    return folder


def _root_to_write(data_dir: str | Path | None) -> Path:
    """The first root that is writable and does not itself hold downloaded files. It is created if necessary."""
    roots = tfds_source.roots(data_dir)
    for root in roots:
        if _find_file(root, "train", "images") is None and _writable(root):
            try:
                root.mkdir(parents=True, exist_ok=True)
            except OSError:
                continue
            return root
    tried = ", ".join(map(str, roots))
    raise MachineError("data_dir", f"MNIST cannot be written to any of {tried}", "pass a data_dir that can be written")


def _writable(folder: Path) -> bool:
    """Whether a file can be created in the folder. Write permission is required even of root, who could override it."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return folder.is_dir() and os.access(folder, os.W_OK | os.X_OK) and bool(folder.stat().st_mode & 0o222)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold an advisory lock on the file `path`. The kernel releases it even if this process is killed."""
    import fcntl

    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _builder_class(tfds: Any) -> Any:
    """The TFDS builder, which reads the four verified files. Defined here because its base class is slow to import."""

    class AejaxMnist(tfds.core.GeneratorBasedBuilder, skip_registration=True):  # pyright: ignore
        """MNIST in the original order, with RECORD_ROWS images per record."""

        name = NAME
        VERSION = tfds.core.Version(VERSION)
        MANUAL_DOWNLOAD_INSTRUCTIONS = f"Put {', '.join(name for name, _ in FILES.values())} here, gzipped or not."

        def _info(self) -> Any:
            features = {
                part: tfds.features.Tensor(shape=(RECORD_ROWS, *axes), dtype=np.uint8, encoding="bytes")
                for part, (_, *axes) in HEADERS.items()
            }
            return tfds.core.DatasetInfo(
                builder=self, features=tfds.features.FeaturesDict(features), disable_shuffling=True
            )

        def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
            return {split: self._generate_examples(Path(dl_manager.manual_dir), split) for split in ROWS}

        def _generate_examples(self, folder: Path, split: str) -> Iterator[tuple[int, dict[str, np.ndarray]]]:
            arrays = {part: read_idx(folder, split, part) for part in HEADERS}
            for start in range(0, ROWS[split], RECORD_ROWS):
                yield start, {part: values[start : start + RECORD_ROWS] for part, values in arrays.items()}

    return AejaxMnist


def _find_file(folder: Path, split: str, part: str) -> Path | None:
    """The path of an original file in `folder`, gzipped or not; None if it is not there."""
    file_name, _ = FILES[split, part]
    return next((path for path in (folder / f"{file_name}.gz", folder / file_name) if path.is_file()), None)


def _find_files(data_dir: str | Path | None) -> Path | None:
    """The first folder with all four original files; None if there is none."""
    for folder in tfds_source.download_folders(data_dir, "mnist"):
        if all(_find_file(folder, split, part) for split, part in FILES):
            return folder
    return None


def read_idx(folder: Path, split: str, part: str) -> np.ndarray:
    """Images (n, 28, 28) or labels (n,), uint8, from an original file. Raises DataError unless its bytes are original.

    `part` is "images" or "labels".
    """
    path = _find_file(folder, split, part)
    if path is None:
        file_name, _ = FILES[split, part]
        raise DataError(str(folder / file_name), "file missing", "put it there, gzipped or not")
    data = _verified(str(path), path.read_bytes(), split, part)
    _, *axes = HEADERS[part]
    header_bytes = 4 * (2 + len(axes))
    return np.frombuffer(data, np.uint8, offset=header_bytes).reshape(-1, *axes)


def _verified(field: str, data: bytes, split: str, part: str) -> bytes:
    """Decompress the bytes of a file. Raises DataError(field, ...) unless they are the original file."""
    _, expected_md5 = FILES[split, part]
    fix = "remove it and load mnist again, or fetch the original"
    if data[:512].lstrip()[:1] == b"<":
        raise DataError(field, "expected an IDX file, found an HTML page", fix)
    if data[:2] == b"\x1f\x8b":
        try:
            data = gzip.decompress(data)
        except (OSError, EOFError, zlib.error) as error:
            found = f"expected a whole gzip file, found a damaged one of {len(data)} bytes ({error})"
            raise DataError(field, found, fix) from error
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
    for split, part in FILES:
        if _find_file(folder, split, part) is None:
            file_name, _ = FILES[split, part]
            path = folder / f"{file_name}.gz"
            write_atomic(path, _download_file(path, split, part, data_dir))
    return folder


def _download_file(path: Path, split: str, part: str, data_dir: str | Path | None) -> bytes:
    """The bytes of an original file as sent (gzipped), verified, from the first mirror that sends them."""
    failures: list[str] = []
    wrong_bytes: DataError | None = None
    for mirror in MIRRORS:
        try:
            with urllib.request.urlopen(mirror + path.name, timeout=TIMEOUT_S) as response:
                data = response.read()
            _verified(mirror + path.name, data, split, part)
        except DataError as error:
            wrong_bytes = error
        except (OSError, http.client.HTTPException) as error:
            failures.append(f"{mirror.split('/')[2]}: {error}")
        else:
            return data
    names = ", ".join(GZIP_NAMES)
    if wrong_bytes is not None:
        fix = f"put {names} into {path.parent} yourself"
        raise DataError(wrong_bytes.field, wrong_bytes.problem, fix) from wrong_bytes
    roots = ", ".join(map(str, tfds_source.roots(data_dir)))
    found = f"not in {roots}, and no mirror could be reached ({'; '.join(failures)})"
    raise DataError("mnist", found, f"put {names} into {path.parent}")
