"""The user's own data: .npy, .npz, .csv, or a folder of images. Reading a file never runs code from it."""

from __future__ import annotations

import csv
import math
import tokenize
import zipfile
import zlib
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np

from aejax.datasets import interpret
from aejax.datasets.base import SPLITS, RawData
from aejax.runtime.errors import ConfigError, DataError

PREFIX = "file:"
WHOLE_KEYS = [(rows_key, labels_key) for rows_key in ("x", "images", "data") for labels_key in ("y", "labels")]
SPLIT_KEYS = {split: [(split, f"{split}_labels"), (f"x_{split}", f"y_{split}")] for split in SPLITS}
SPLIT_KEYS["validation"].append(("x_val", "y_val"))
LABEL_COLUMNS = ("label", "labels", "class", "target")
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".pgm", ".ppm")
GREY_MODES = ("1", "L", "LA")
MODES_ABOVE_8_BITS = ("I", "F")
"""Beginnings of the names of Pillow's image modes with more than 8 bits per pixel."""


class Content(NamedTuple):
    """Arrays and labels of a file per split, as stored. The only key is `train` if the file has no splits."""

    x: dict[str, np.ndarray]
    y: dict[str, np.ndarray | None]


def parse(name: str) -> tuple[str, float | str | None]:
    """Split `file:PATH[?scale=VALUE]` into the path and the scale: a number, "standardise" or None.

    Raises ConfigError if the path is empty, if there is an option other than `scale`, and if the scale is not a
    positive number.
    """
    path, mark, option = name.removeprefix(PREFIX).rpartition("?")
    if not mark:
        path = option
    if not path:
        raise ConfigError("dataset", f"{name!r} has no path", "write file:PATH or file:PATH?scale=VALUE")
    if not mark:
        return path, None
    key, _, value = option.partition("=")
    if key != "scale":
        raise ConfigError("dataset", f"{name!r}: unknown option {key!r}", "the only option is ?scale=VALUE")
    if value == interpret.STANDARDISE:
        return path, value
    try:
        scale = float(value)
    except ValueError:
        scale = math.nan
    if not (math.isfinite(scale) and scale > 0):
        fix = "write ?scale=standardise or a positive number, such as ?scale=255"
        raise ConfigError("dataset", f"{name!r}: scale is {value!r}", fix)
    return path, scale


def load_raw(name: str, data_dir: str | Path | None, scale: float | None = None) -> RawData:
    """The arrays of `file:PATH[?scale=VALUE]`; `scale` overrides the scale in the name.

    A relative PATH is looked up in data_dir (if not None), then in the working directory. Raises DataError if the file
    or its values cannot be used, naming the file or the split.
    """
    relative_path, scale_in_name = parse(name)
    path = find(relative_path, data_dir)
    if path is None:
        first_place = _candidates(relative_path, data_dir)[0]
        raise DataError(str(first_place), "no such file or folder", "check the path, or pass its data_dir")
    return interpret.interpret(name, *read(path), scale or scale_in_name)


def find(path: str, data_dir: str | Path | None) -> Path | None:
    """The existing file or folder at `path`, looked up in data_dir, then in the working directory; None without one."""
    return next((candidate for candidate in _candidates(path, data_dir) if path and candidate.exists()), None)


def _candidates(path: str, data_dir: str | Path | None) -> list[Path]:
    """The places where `find` looks, first to last."""
    expanded = Path(path).expanduser()
    return [expanded] if data_dir is None else [Path(data_dir).expanduser() / expanded, expanded]


def read(path: Path) -> Content:
    """Read the arrays and labels of a file or of a folder of images, as stored. Raises DataError naming the file."""
    readers = {".npy": _read_npy, ".npz": _read_npz, ".csv": _read_csv}
    reader = _read_image_folder if path.is_dir() else readers.get(path.suffix.lower())
    if reader is None:
        fix = f"give one of {', '.join(readers)} or a folder of images"
        raise DataError(str(path), f"cannot read files of type {path.suffix!r}", fix)
    try:
        return reader(path)
    except OSError as error:
        raise DataError(str(path), f"cannot be read ({error})", "check the file and its permissions") from error


def _check_npy(stream: IO[bytes], size: int, field: str) -> None:
    """Check the header of a .npy of `size` bytes before any array is allocated. `field` names the file in errors.

    Raises DataError if the header cannot be read, if it promises another number of bytes than there are, and if the
    array holds Python objects.
    """
    start = stream.read(6)
    if start != b"\x93NUMPY":
        kinds = {b"<": "an HTML or XML page", b"\x80": "a pickle", b"P": "a zip archive"}
        kind = kinds.get(start.lstrip()[:1], f"a file that starts with {start!r}")
        raise DataError(field, f"expected a .npy array, found {kind}", "save it with numpy.save")
    stream.seek(0)
    try:
        version = np.lib.format.read_magic(stream)
        if version not in ((1, 0), (2, 0)):
            raise ValueError(f"format version {version}")
        read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read_header(stream)
    except (ValueError, SyntaxError, tokenize.TokenError) as error:
        raise DataError(field, f"a .npy header that cannot be read ({error})", "save it with numpy.save") from error
    if dtype.hasobject:
        problem = "an array of Python objects, which only a pickle can hold; loading a pickle can run code"
        raise DataError(field, problem, "save it as numbers: x.astype(float)")
    promised_bytes = math.prod(shape) * dtype.itemsize
    stored_bytes = size - stream.tell()
    if promised_bytes != stored_bytes:
        problem = f"the header promises {promised_bytes} bytes (shape {shape}, {dtype}), the file holds {stored_bytes}"
        raise DataError(field, problem, "copy or save the file again")


def _read_npy(path: Path) -> Content:
    with path.open("rb") as stream:
        _check_npy(stream, path.stat().st_size, str(path))
    return Content({"train": np.load(path, mmap_mode="r", allow_pickle=False)}, {"train": None})


def _read_npz(path: Path) -> Content:
    try:
        with zipfile.ZipFile(path) as archive:
            for member in archive.infolist():
                key = member.filename.removesuffix(".npy")
                with archive.open(member) as stream:
                    _check_npy(stream, member.file_size, f"{path}:{key}")
        with np.load(path, allow_pickle=False) as archive:
            arrays = dict(archive)
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, RuntimeError) as error:
        if isinstance(error, DataError):
            raise
        with path.open("rb") as stream:
            html = stream.read(64).lstrip()[:1] == b"<"
        kind = "an HTML or XML page" if html else f"a damaged or truncated one ({error})"
        raise DataError(str(path), f"expected an .npz archive, found {kind}", "copy or save the file again") from error
    if len(arrays) == 1 and "train" not in arrays:
        return Content({"train": next(iter(arrays.values()))}, {"train": None})
    keys = {split: pair for split, pairs in SPLIT_KEYS.items() for pair in pairs if pair[0] in arrays}
    for pair in WHOLE_KEYS:
        if set(pair) == set(arrays):
            keys["train"] = pair
    x = {split: arrays[rows_key] for split, (rows_key, _) in keys.items()}
    y = {split: arrays.get(labels_key) for split, (_, labels_key) in keys.items()}
    if "train" not in x or len(x) + sum(array is not None for array in y.values()) != len(arrays):
        fix = "name them x and y; train, train_labels, test, ...; or x_train, y_train, x_test, ...; and nothing else"
        raise DataError(str(path), f"holds the arrays {sorted(arrays)}, whose roles are not clear", fix)
    return Content(x, y)


def _number(cell: str) -> float | None:
    """The number in a cell, or None if it holds no number. `float` alone would read 1_000 as a number."""
    try:
        return None if "_" in cell else float(cell)
    except ValueError:
        return None


def _header(path: Path, numbered_rows: list[tuple[int, list[str]]]) -> list[str] | None:
    """The first row if it is a header, else None. Rows come with their line numbers.

    A row is a header if none of its cells is a number, or if one of them is a name for a label column. Raises DataError
    if the first and last rows show that cells are not separated by commas, or that the first column is an index.
    """
    if not numbered_rows:
        return None
    line, first = numbered_rows[0]
    _, last = numbered_rows[-1]
    all_words = all(_number(cell) is None for cell in first)
    for separator, separator_name in ((";", "semicolons"), ("\t", "tabs")):
        in_both_rows = all(any(separator in cell for cell in row) for row in (first, last))
        # A row of names that is split by commas may hold semicolons in its names; a row of numbers never does.
        if in_both_rows and (len(first) == 1 or not all_words):
            fix = "save it with commas between cells and points in numbers"
            raise DataError(str(path), f"line {line}: cells separated by {separator_name}", fix)
    if len(first) > 1 and not first[0].strip():
        problem = f"line {line}: the first column has no name, as when pandas saves its index"
        raise DataError(str(path), problem, "save it with index=False, or fill that cell")
    return first if all_words or any(cell.strip().lower() in LABEL_COLUMNS for cell in first) else None


def _read_csv(path: Path) -> Content:
    """A table of numbers with an optional header and an optional column of labels."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file)
            numbered_rows = [(reader.line_num, row) for row in reader if row]
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(str(path), f"not a text table ({error})", "save it as comma-separated UTF-8") from error
    if numbered_rows and numbered_rows[0][1][0].lstrip().startswith("<"):
        raise DataError(str(path), "expected a .csv table, found an HTML or XML page", "fetch the file again")
    header = _header(path, numbered_rows)
    numbered_rows = numbered_rows[1:] if header else numbered_rows
    if not numbered_rows:
        raise DataError(str(path), "empty: no row of numbers", "give at least one row")
    names = [cell.strip() for cell in header or map(str, range(1, len(numbered_rows[0][1]) + 1))]
    label_columns = [i for i, name in enumerate(names) if name.lower() in LABEL_COLUMNS]
    if len(label_columns) > 1:
        problem = f"{len(label_columns)} label columns: {[names[i] for i in label_columns]}"
        raise DataError(str(path), problem, "keep one and rename the others")
    input_columns = [i for i in range(len(names)) if i not in label_columns]
    x_nd = np.empty((len(numbered_rows), len(input_columns)))
    for n, (line, row) in enumerate(numbered_rows):
        if len(row) != len(names):
            problem = f"line {line} has {len(row)} cells, expected {len(names)}"
            raise DataError(str(path), problem, "give every line the same cells, separated by commas")
        for d, i in enumerate(input_columns):
            value = _number(row[i])
            if value is None:
                problem = f"line {line}, column {names[i]!r}: {row[i]!r} is not a number"
                fix = "remove or encode it, or name the column `label` if it holds labels"
                raise DataError(str(path), problem, fix)
            x_nd[n, d] = value
    y_n = np.array([row[label_columns[0]].strip() for _, row in numbered_rows]) if label_columns else None
    return Content({"train": x_nd}, {"train": y_n})


def _read_image_folder(path: Path) -> Content:
    """Images of one size, sorted by name. Images in sub-folders are labelled by the position of their sorted folder."""
    subfolders = sorted(folder for folder in path.iterdir() if folder.is_dir() and folder.name[0] != ".")
    label_folders = [folder for folder in subfolders if _image_paths(folder)]
    direct_images = _image_paths(path)
    if label_folders and direct_images:
        problem = f"images both here ({direct_images[0].name}, ...) and in sub-folders ({label_folders[0].name}, ...)"
        raise DataError(str(path), problem, "put all of them here, or all in one sub-folder per label")
    if label_folders and {folder.name.lower() for folder in label_folders} <= {*SPLITS, "val", "valid"}:
        problem = f"the sub-folders {[folder.name for folder in label_folders]} are splits, not labels"
        raise DataError(str(path), problem, "give one of them, or save the splits as one .npz")
    files = [(file, label) for label, folder in enumerate(label_folders or [path]) for file in _image_paths(folder)]
    if not files:
        raise DataError(str(path), f"no image ({', '.join(IMAGE_SUFFIXES)})", "give a folder with images")
    images = [_read_image(file) for file, _ in files]
    for (file, _), image in zip(files, images, strict=True):
        if image.shape[:2] != images[0].shape[:2]:
            first_size, size = (f"{height} x {width}" for height, width, _ in (images[0].shape, image.shape))
            problem = f"{files[0][0].name} has {first_size} pixels (height x width), {file.name} has {size}"
            raise DataError(str(path), problem, "resize them to one size")
    stacked = np.stack(np.broadcast_arrays(*images))  # if some are in colour, the others become so
    return Content({"train": stacked}, {"train": np.array([label for _, label in files]) if label_folders else None})


def _image_paths(folder: Path) -> list[Path]:
    """The image files of a folder, sorted by name; hidden files are left out."""
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES and path.name[0] != ".")


def _read_image(path: Path) -> np.ndarray:
    """A uint8 image: (height, width, 1) if it is grey, else (height, width, 3). Transparency is dropped."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            if image.mode.startswith(MODES_ABOVE_8_BITS):
                problem = f"more than 8 bits per pixel (mode {image.mode})"
                raise DataError(str(path), problem, "save it with 8 bits, or the pixels as .npy with ?scale=65535")
            return np.atleast_3d(np.asarray(image.convert("L" if image.mode in GREY_MODES else "RGB")))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(str(path), f"not a whole image ({error})", "remove it or fetch it again") from error
