"""The user's own data: .npy, .npz, .csv, or a folder of images. Nothing here runs code from a file."""

from __future__ import annotations

import csv
import math
import tokenize
import zipfile
import zlib
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

from aejax.datasets import interpret
from aejax.datasets.base import Raw
from aejax.runtime.errors import ConfigError, DataError

PREFIX = "file:"
SPLITS = ("train", "validation", "test")
ROWS_KEYS, LABELS_KEYS = ("x", "images", "data"), ("y", "labels")
SPLIT_KEYS = {split: [(split, f"{split}_labels"), (f"x_{split}", f"y_{split}")] for split in SPLITS}
SPLIT_KEYS["validation"].append(("x_val", "y_val"))
LABEL_COLUMNS = ("label", "labels", "class", "target")
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".pgm", ".ppm")
GREY_MODES, SIXTEEN_BIT = ("1", "L", "LA"), ("I", "F")


class Content(NamedTuple):
    """Arrays of a file per split, as stored; only `train` where the file has no splits."""

    x: dict[str, np.ndarray]
    y: dict[str, np.ndarray | None]


def parse(name: str) -> tuple[str, float | str | None]:
    """`file:PATH[?scale=VALUE]` to the path and the scale: a number, "standardise" or None.

    Raises ConfigError for an empty path, another option than `scale`, and a scale that is no positive number.
    """
    path, mark, option = name.removeprefix(PREFIX).rpartition("?")
    if not mark:
        path, option = option, ""
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


def raw(name: str, data_dir: str | Path | None, scale: str | None = None) -> Raw:
    """The arrays behind `file:PATH[?scale=VALUE]`; `scale` overrides that of the name.

    A relative PATH is looked for in data_dir, where one is given, then in the working directory.
    Raises DataError for whatever is wrong with the file or its values, naming the file or the split.
    """
    written, in_name = parse(name)
    path = find(written, data_dir)
    if path is None:
        tried = str(_candidates(written, data_dir)[0])
        raise DataError(tried, "no such file or folder", "check the path, or pass its data_dir")
    content = read(path)
    return interpret.interpret(name, content.x, content.y, scale or in_name)


def find(written: str, data_dir: str | Path | None) -> Path | None:
    """The file or folder that a path names, looked for in data_dir, then here; None where there is none."""
    return next((path for path in _candidates(written, data_dir) if written and path.exists()), None)


def _candidates(written: str, data_dir: str | Path | None) -> list[Path]:
    path = Path(written).expanduser()
    return [path] if data_dir is None else [Path(data_dir).expanduser() / path, path]


def read(path: Path) -> Content:
    """Arrays and labels of a file or a folder of images, as stored."""
    readers = {".npy": _npy, ".npz": _npz, ".csv": _csv}
    reader = _folder if path.is_dir() else readers.get(path.suffix.lower())
    if reader is None:
        fix = f"give one of {', '.join(readers)} or a folder of images"
        raise DataError(str(path), f"cannot read files of type {path.suffix!r}", fix)
    try:
        return reader(path)
    except OSError as error:
        raise DataError(str(path), f"cannot be read ({error})", "check the file and its permissions") from error


def _check_npy(stream: IO[bytes], size: int, where: str) -> None:
    """Refuse a .npy whose header cannot be read or does not claim exactly the bytes held, before any is allocated."""
    start = stream.read(6)
    if start != b"\x93NUMPY":
        kinds = {b"<": "an HTML or XML page", b"\x80": "a pickle", b"P": "a zip archive"}
        kind = kinds.get(start.lstrip()[:1], f"a file that starts with {start!r}")
        raise DataError(where, f"expected a .npy array, found {kind}", "save it with numpy.save")
    stream.seek(0)
    try:
        version = np.lib.format.read_magic(stream)
        if version not in ((1, 0), (2, 0)):
            raise ValueError(f"format version {version}")
        header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = header(stream)
    except (ValueError, SyntaxError, tokenize.TokenError) as error:
        raise DataError(where, f"a .npy header that cannot be read ({error})", "save it with numpy.save") from error
    if dtype.hasobject:
        found = "an array of Python objects, which only a pickle can hold; loading a pickle can run code"
        raise DataError(where, found, "save it as numbers: x.astype(float)")
    needed, held = math.prod(shape) * dtype.itemsize, size - stream.tell()
    if needed != held:
        found = f"the header promises {needed} bytes (shape {shape}, {dtype}), the file holds {held}"
        raise DataError(where, found, "copy or save the file again")


def _npy(path: Path) -> Content:
    with path.open("rb") as stream:
        _check_npy(stream, path.stat().st_size, str(path))
    return Content({"train": np.load(path, mmap_mode="r", allow_pickle=False)}, {"train": None})


def _npz(path: Path) -> Content:
    held: dict[str, np.ndarray] = {}
    try:
        with zipfile.ZipFile(path) as archive:
            for member in archive.infolist():
                key = member.filename.removesuffix(".npy")
                with archive.open(member) as stream:
                    _check_npy(stream, member.file_size, f"{path}:{key}")
        with np.load(path, allow_pickle=False) as archive:
            held = {key: archive[key] for key in archive.files}
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, RuntimeError) as error:
        if isinstance(error, DataError):
            raise
        with path.open("rb") as stream:
            html = stream.read(64).lstrip()[:1] == b"<"
        found = "an HTML or XML page" if html else f"a damaged or truncated one ({error})"
        raise DataError(str(path), f"expected an .npz archive, found {found}", "copy or save the file again") from error
    if len(held) == 1 and "train" not in held:
        return Content({"train": next(iter(held.values()))}, {"train": None})
    keys = {split: pair for split, pairs in SPLIT_KEYS.items() for pair in pairs if pair[0] in held}
    if "train" not in keys:
        rows, labels = (next((key for key in of if key in held), None) for of in (ROWS_KEYS, LABELS_KEYS))
        keys = {"train": (rows, labels)} if rows else {}
    x = {split: held[rows] for split, (rows, _) in keys.items()}
    y = {split: held.get(labels or "") for split, (_, labels) in keys.items()}
    if not x or len(x) + sum(array is not None for array in y.values()) != len(held):
        fix = "name them x and y; train, train_labels, test, ...; or x_train, y_train, x_test, ...; and nothing else"
        raise DataError(str(path), f"holds the arrays {sorted(held)}, whose roles are not clear", fix)
    return Content(x, y)


def _number(cell: str) -> float | None:
    """The number in a cell; None where there is none (float() would take 1_000 for one)."""
    try:
        return None if "_" in cell else float(cell)
    except ValueError:
        return None


def _header(path: Path, rows: list[tuple[int, list[str]]]) -> list[str] | None:
    """The first of numbered rows if it holds names; DataError where it shows that this is another kind of table."""
    if not rows:
        return None
    (line, first), (_, last) = rows[0], rows[-1]
    words = all(_number(cell) is None for cell in first)
    for mark, called in ((";", "semicolons"), ("\t", "tabs")):
        held = all(any(mark in cell for cell in row) for row in (first, last))
        # Names with commas in them may hold anything; numbers never hold a semicolon.
        if held and (len(first) == 1 or not words):
            fix = "save it with commas between cells and points in numbers"
            raise DataError(str(path), f"line {line}: cells separated by {called}", fix)
    if len(first) > 1 and not first[0].strip():
        found = f"line {line}: the first column has no name, as when pandas saves its index"
        raise DataError(str(path), found, "save it with index=False, or fill that cell")
    return first if words or any(cell.strip().lower() in LABEL_COLUMNS for cell in first) else None


def _csv(path: Path) -> Content:
    """A table of numbers. The first row is a header when none of its cells is a number, or one names the labels."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file)
            rows = [(reader.line_num, row) for row in reader if row]
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(str(path), f"not a text table ({error})", "save it as comma-separated UTF-8") from error
    if rows and rows[0][1][0].lstrip().startswith("<"):
        raise DataError(str(path), "expected a .csv table, found an HTML or XML page", "fetch the file again")
    header = _header(path, rows)
    rows = rows[1:] if header else rows
    if not rows:
        raise DataError(str(path), "empty: no row of numbers", "give at least one row")
    names = [cell.strip() for cell in header] if header else [str(i) for i in range(1, len(rows[0][1]) + 1)]
    label_columns = [i for i, name in enumerate(names) if name.lower() in LABEL_COLUMNS]
    if len(label_columns) > 1:
        found = f"{len(label_columns)} label columns: {[names[i] for i in label_columns]}"
        raise DataError(str(path), found, "keep one and rename the others")
    columns = [i for i in range(len(names)) if i not in label_columns]
    x_nd = np.empty((len(rows), len(columns)))
    for n, (line, row) in enumerate(rows):
        if len(row) != len(names):
            found = f"line {line} has {len(row)} cells, expected {len(names)}"
            raise DataError(str(path), found, "give every line the same cells, separated by commas")
        for d, i in enumerate(columns):
            value = _number(row[i])
            if value is None:
                found = f"line {line}, column {names[i]!r}: {row[i]!r} is no number"
                raise DataError(str(path), found, "remove or encode it, or name the column `label` if it is one")
            x_nd[n, d] = value
    y_n = np.array([row[label_columns[0]].strip() for _, row in rows]) if label_columns else None
    return Content({"train": x_nd}, {"train": y_n})


def _folder(path: Path) -> Content:
    """Images of one size, in the order of their names; sub-folders, if any, are the labels in the order of theirs."""
    folders = sorted(p for p in path.iterdir() if p.is_dir() and not p.name.startswith(".") and _images(p))
    loose = _images(path)
    if folders and loose:
        found = f"images both here ({loose[0].name}, ...) and in sub-folders ({folders[0].name}, ...)"
        raise DataError(str(path), found, "put all of them here, or all in one sub-folder per label")
    if folders and {p.name.lower() for p in folders} <= {*SPLITS, "val", "valid"}:
        found = f"the sub-folders {[p.name for p in folders]} are splits, not labels"
        raise DataError(str(path), found, "give one of them, or save the splits as one .npz")
    files = [(file, label) for label, folder in enumerate(folders) for file in _images(folder)]
    files = files or [(file, 0) for file in loose]
    if not files:
        raise DataError(str(path), f"no image ({', '.join(IMAGE_SUFFIXES)})", "give a folder with images")
    images = [_image(file) for file, _ in files]
    for (file, _), image in zip(files, images, strict=True):
        if image.shape[:2] != images[0].shape[:2]:
            sizes = [f"{h} x {w}" for h, w, *_ in (images[0].shape, image.shape)]
            found = f"{files[0][0].name} has {sizes[0]} pixels (height x width), {file.name} has {sizes[1]}"
            raise DataError(str(path), found, "resize them to one size")
    channels = max(image.shape[2] for image in images)
    stacked = np.stack([np.broadcast_to(image, (*image.shape[:2], channels)) for image in images])
    return Content({"train": stacked}, {"train": np.array([label for _, label in files]) if folders else None})


def _images(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES and not p.name.startswith("."))


def _image(path: Path) -> np.ndarray:
    """One picture, uint8 (height, width, 1) if grey, else (height, width, 3); transparency is dropped."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            if image.mode.startswith(SIXTEEN_BIT):
                found = f"more than 8 bits per pixel (mode {image.mode})"
                raise DataError(str(path), found, "save it with 8 bits, or the pixels as .npy with ?scale=65535")
            pixels: Any = np.asarray(image.convert("L" if image.mode in GREY_MODES else "RGB"))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(str(path), f"not a whole image ({error})", "remove it or fetch it again") from error
    return pixels.reshape(*pixels.shape[:2], -1)
