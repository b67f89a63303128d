"""MNIST as a TFDS dataset of our own, prepared and read without TensorFlow, its bytes verified at every load.

Yann LeCun, Corinna Cortes, Christopher J. C. Burges: The MNIST database of handwritten digits, 1998; CC BY-SA 3.0.
TFDS's own MNIST, and tfds.load and as_dataset, need TensorFlow.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import http.client
import os
import shutil
import tempfile
import urllib.request
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from aejax.datasets import tfds_source
from aejax.datasets.base import Raw
from aejax.runtime.errors import DataError, MachineError

NAME, VERSION = "aejax_mnist", "1.0.0"
VALIDATION_ROWS = 5000
SHAPE = (60000 - VALIDATION_ROWS, 784)
"""(training rows, inputs)."""
FILES = {
    ("train", "images"): ("train-images-idx3-ubyte", "6bbc9ace898e44ae57da46a324031adb"),
    ("train", "labels"): ("train-labels-idx1-ubyte", "a25bea736e30d166cdddb491f175f624"),
    ("test", "images"): ("t10k-images-idx3-ubyte", "2646ac647ad5339dbf082846283269ea"),
    ("test", "labels"): ("t10k-labels-idx1-ubyte", "27ae3e4e09519cfbb04c329615203637"),
}
"""Name of each original file, and the md5 of its decompressed bytes: header and values."""
ROWS = {"train": 60000, "test": 10000}
HEADERS = {"images": (2051, 28, 28), "labels": (2049,)}
"""Magic number of the IDX format, then the axes after the first."""
MIRRORS = ("https://storage.googleapis.com/cvdf-datasets/mnist/", "https://ossci-datasets.s3.amazonaws.com/mnist/")
TIMEOUT_S = 4.0
RECORD_ROWS = 1000
"""Images in one record, stored as raw bytes. Measured on 2 cores: all 60 000 are read in 0.14 s, against 2.0 s with one
image per record (the cost is per record), and 0.5 s with the default encoding as a list of integers."""


def raw(data_dir: str | Path | None) -> Raw:
    """60 000 training and 10 000 test images of 28x28 bytes in their original order, with labels 0..9.

    Looked for under data_dir, $TFDS_DATA_DIR and ~/tensorflow_datasets: first prepared, then as the four IDX files,
    gzipped or not (in that folder, its mnist/ or its downloads/manual/); then downloaded. It is prepared in the first
    of these folders that can be written and is not itself the folder of the IDX files.

    Raises DataError for a damaged file, naming it, and where the files are nowhere and no mirror answers; MachineError
    where no folder can be written.
    """
    folders = [root / NAME / VERSION for root in tfds_source.roots(data_dir)]
    folder = next((folder for folder in folders if _is_prepared(folder)), None) or _prepare(data_dir)
    x: dict[str, np.ndarray] = {}
    y: dict[str, np.ndarray | None] = {}
    for split in ROWS:
        images, labels = _read_prepared(folder, split)
        x[split], y[split] = images.reshape(len(images), -1), labels
    return Raw(x, y, HEADERS["images"][1:], 255.0)


def _is_prepared(folder: Path) -> bool:
    return (folder / "dataset_info.json").is_file()


def _read_prepared(folder: Path, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Images (n, 28, 28) and labels (n,), uint8, from a prepared folder; refused unless they are the originals."""
    fix = f"remove {folder} and load mnist again"
    try:
        with tfds_source.quiet():
            import tensorflow_datasets as tfds

            builder: Any = tfds.builder_from_directory(str(folder))
            source = builder.as_data_source(split=split)
            records = [record for chunk in tfds_source.fetch(source) for record in chunk]
        images, labels = (np.concatenate([record[part] for record in records]) for part in HEADERS)
    except Exception as error:  # TFDS and array_record meet a damaged file with errors of every type
        raise DataError(str(folder), f"{split} cannot be read ({type(error).__name__})", fix) from error
    for part, values in zip(HEADERS, (images, labels), strict=True):
        header = np.array([HEADERS[part][0], len(values), *HEADERS[part][1:]], ">i4")
        digest = hashlib.md5(header.tobytes(), usedforsecurity=False)
        digest.update(np.ascontiguousarray(values).data)
        expected = FILES[split, part][1]
        if digest.hexdigest() != expected:
            found = f"{split} {part} are damaged: expected md5 {expected}, found {digest.hexdigest()}"
            raise DataError(str(folder), found, fix)
    return images, labels


def _prepare(data_dir: str | Path | None) -> Path:
    """Prepare MNIST in the first folder that takes it; the prepared folder. Processes that do so at once queue up."""
    root = _root_to_write(data_dir)
    folder = root / NAME / VERSION
    try:
        with _locked(root / f".{NAME}.lock"):
            if _is_prepared(folder):
                return folder
            for left_over in (root / NAME).glob("incomplete.*"):  # of a killed process: the lock says none is running
                shutil.rmtree(left_over, ignore_errors=True)
            source = _find_files(data_dir) or download(root / "downloads" / "manual", data_dir)
            for split, part in FILES:  # before TFDS wraps whatever is wrong with them
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
    """The first root that can be written and is not the bare folder of downloaded files."""
    roots = tfds_source.roots(data_dir)
    for root in roots:
        if _file(root, *next(iter(FILES))) is None and _writable(root):
            try:
                root.mkdir(parents=True, exist_ok=True)
            except OSError:
                continue
            return root
    tried = ", ".join(map(str, roots))
    raise MachineError("data_dir", f"MNIST cannot be written to any of {tried}", "pass a data_dir that can be written")


def _writable(folder: Path) -> bool:
    """Whether a file can be made here. Mode bits count even for root, who could override them."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return folder.is_dir() and os.access(folder, os.W_OK | os.X_OK) and bool(folder.stat().st_mode & 0o222)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold an advisory lock on `path`; the kernel lets go of it even where this process is killed."""
    import fcntl

    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _builder_class(tfds: Any) -> Any:
    """The TFDS builder; made here because its base class is slow to import. Its input are the four verified files."""

    class AejaxMnist(tfds.core.GeneratorBasedBuilder, skip_registration=True):  # pyright: ignore
        """MNIST, RECORD_ROWS images to a record, in the original order."""

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


def _file(folder: Path, split: str, part: str) -> Path | None:
    """One of the four files in `folder`, gzipped or not."""
    stem = FILES[split, part][0]
    return next((path for path in (folder / f"{stem}.gz", folder / stem) if path.is_file()), None)


def _find_files(data_dir: str | Path | None) -> Path | None:
    """The first folder with all four files."""
    for root in tfds_source.roots(data_dir):
        for folder in (root, root / "mnist", root / "downloads" / "manual"):
            if all(_file(folder, split, part) for split, part in FILES):
                return folder
    return None


def read_idx(folder: Path, split: str, part: str) -> np.ndarray:
    """Images (n, 28, 28) or labels (n,), uint8, from an original file; DataError unless its bytes are the original."""
    path = _file(folder, split, part)
    if path is None:
        raise DataError(str(folder / FILES[split, part][0]), "file missing", "put it there, gzipped or not")
    data = _verified(str(path), path.read_bytes(), split, part)
    axes = HEADERS[part][1:]
    return np.frombuffer(data, np.uint8, offset=4 * (2 + len(axes))).reshape(-1, *axes)


def _verified(where: str, data: bytes, split: str, part: str) -> bytes:
    """Decompressed bytes of an original file."""
    expected = FILES[split, part][1]
    fix = "remove it and load mnist again, or fetch the original"
    if data[:512].lstrip()[:1] == b"<":
        raise DataError(where, "expected an IDX file, found an HTML page", fix)
    if data[:2] == b"\x1f\x8b":
        try:
            data = gzip.decompress(data)
        except (OSError, EOFError, zlib.error) as error:
            found = f"expected a whole gzip file, found a damaged one of {len(data)} bytes ({error})"
            raise DataError(where, found, fix) from error
    found_md5 = hashlib.md5(data, usedforsecurity=False).hexdigest()
    if found_md5 != expected:
        raise DataError(where, f"expected md5 {expected}, found {found_md5} ({len(data)} bytes decompressed)", fix)
    return data


def download(folder: Path, data_dir: str | Path | None = None) -> Path:
    """Fetch the four files into `folder`, one try per mirror, each verified before it gets its name.

    Raises DataError at once where no mirror answers, and where what a mirror sends is not the original.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for split, part in FILES:
        if _file(folder, split, part) is None:
            path = folder / f"{FILES[split, part][0]}.gz"
            _write(path, _fetch(path, split, part, data_dir))
    return folder


def _fetch(path: Path, split: str, part: str, data_dir: str | Path | None) -> bytes:
    failures: list[str] = []
    refused: DataError | None = None
    for mirror in MIRRORS:
        try:
            with urllib.request.urlopen(mirror + path.name, timeout=TIMEOUT_S) as response:
                data = response.read()
            _verified(mirror + path.name, data, split, part)
        except DataError as error:
            refused = error
        except (OSError, http.client.HTTPException) as error:
            failures.append(f"{mirror.split('/')[2]}: {error}")
        else:
            return data
    names = ", ".join(f"{name}.gz" for name, _ in FILES.values())
    if refused is not None:
        raise DataError(refused.field, refused.found, f"put {names} into {path.parent} yourself") from refused
    looked = ", ".join(map(str, tfds_source.roots(data_dir)))
    found = f"not in {looked}, and no mirror could be reached ({'; '.join(failures)})"
    raise DataError("mnist", found, f"put {names} into {path.parent}")


def _write(path: Path, data: bytes) -> None:
    """Write a file so that it is whole under its name, or not there."""
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
        try:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
            Path(file.name).replace(path)
        except BaseException:
            Path(file.name).unlink(missing_ok=True)
            raise
