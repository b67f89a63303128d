"""The user's own files that cannot be used: the one-line error for each problem."""

import io
import pickle
import zipfile

import numpy as np
import pytest
from PIL import Image

from aejax import datasets
from aejax.datasets import validate
from aejax.runtime.errors import ConfigError, DataError

RNG = np.random.default_rng(0)
TABLE = RNG.standard_normal((40, 3)) * [1, 10, 1e-3] + [0, 5, 1e6]
IMAGES = RNG.integers(0, 256, (30, 4, 5), dtype=np.uint8)


def table_with(value):
    """TABLE with this value at two places, first at row 7, column 2."""
    x = TABLE.copy()
    x[7, 2] = value
    x[9, 0] = value
    return x


BAD_ARRAYS = {
    "nan": (table_with(np.nan), ["train: 2 values not finite", "row 7, column 2"]),
    "nan far down": (np.where(np.arange(9000)[:, None] == 8000, np.nan, TABLE[0]), ["3 values", "row 8000, column 0"]),
    "infinity": (table_with(-np.inf), ["train: 2 values", "row 7, column 2", "-inf"]),
    "overflow": (table_with(1e39), ["2 values too large for float32", "row 7, column 2", "1e+39"]),
    "empty": (TABLE[:0], ["empty", "(0, 3)"]),
    "no columns": (TABLE[:, :0], ["empty", "(40, 0)"]),
    "one row": (TABLE[:1], ["1 row,", "at least 10 rows"]),
    "few rows": (TABLE[:9], ["9 rows", "at least 10 rows"]),
    "constant": (np.full((40, 3), 0.1), ["all 3 columns are constant"]),
    "constant bytes": (np.full((40, 3), 9, np.uint8), ["all 3 columns are constant"]),
    "rank 0": (np.array(3.0), ["rank 0"]),
    "rank 1": (TABLE[:, 0], ["expected rank 2", "found rank 1, shape (40,)"]),
    "rank 5": (np.zeros((10, 2, 2, 2, 2)), ["rank 5"]),
    "channels first": (np.zeros((10, 3, 32, 32), np.uint8), ["(10, 3, 32, 32)", "last axis"]),
    "two channels": (np.zeros((10, 8, 8, 2), np.uint8), ["(10, 8, 8, 2)", "1, 3 or 4 channels", "flatten"]),
    "complex": (TABLE.astype(complex), ["complex dtype complex128"]),
    "string": (TABLE.astype(str), ["string dtype"]),
    "rounding errors": (1e6 + RNG.integers(-2, 3, (40, 3)) * np.spacing(1e6), ["all 3 columns are constant"]),
    "dates": (np.zeros((12, 2), "M8[s]"), ["non-numeric dtype datetime64"]),
    "records": (np.zeros((12, 2), [("a", "f4")]), ["non-numeric dtype"]),
    "int16": (np.ones((12, 2), np.int16), ["int16", "only uint8", "?scale=VALUE"]),
    "int64 images": (IMAGES.astype(int), ["int64", "?scale=VALUE"]),
    "bool": (IMAGES > 3, ["bool", "?scale=VALUE"]),
    "float images above 1": (IMAGES.astype(np.float32), ["[0, 1]", "255", "?scale=VALUE"]),
    "float images below 0": (IMAGES / 255 - 0.5, ["[0, 1]", "-0.5"]),
}


@pytest.mark.parametrize("case", BAD_ARRAYS)
def test_an_array_that_cannot_be_used_is_refused(refused, save, case):
    array, parts = BAD_ARRAYS[case]
    name = save(array)
    error = refused(DataError, *parts, call=lambda: datasets.load(name))
    assert (error.field, error.exit_code) == (name, 2)


def test_a_scale_that_makes_values_too_large_is_refused(refused, save):
    refused(DataError, "after scaling", call=lambda: datasets.load(save(TABLE, "?scale=1e-38")))
    refused(DataError, "train: ", "e+3", "after scaling", call=lambda: datasets.load(save(IMAGES, "?scale=1e-30")))
    refused(DataError, "train: ", "after scaling", call=lambda: datasets.load(save(IMAGES, "?scale=1e-60")))


@pytest.mark.parametrize("option", ["", "?scale=1"])
@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_values_whose_squares_float32_cannot_sum_are_refused(refused, save, split, option):
    x = {name: TABLE.copy() for name in ("train", "validation", "test")}
    x[split][7, 2] = 1e25
    if split == "train" and not option:
        assert np.isfinite(datasets.load(save(**x)).x_train).all()  # standardised by its column, the value is small
        return
    parts = (f"{split}: 1 value too large", "row 7, column 2", "1e+25", "scale that column down")
    refused(DataError, *parts, call=lambda: datasets.load(save(option=option, **x)))
    run = {"inputs": 3, "image_shape": None, "scaling": datasets.Scaling(np.zeros(1), np.ones(1))}
    parts = (f"{split}: 1 value too large", "row 7, column 2", "1e+25 after scaling")
    refused(DataError, *parts, call=lambda: datasets.read_rows(f"{save(**x)}:{split}", **run))


@pytest.mark.parametrize("row", [0, 7, 39])
def test_the_error_names_the_row_of_the_file_in_every_split(refused, save, row):
    x = TABLE.copy()
    x[row, 1] = 1e25
    refused(DataError, f"row {row}, column 1", call=lambda: datasets.load(save(x, "?scale=1")))


@pytest.mark.parametrize("columns", [1, 784])
def test_float32_can_sum_the_squares_of_the_largest_accepted_values(refused, save, columns):
    most = (validate.MOST_SQUARES / columns) ** 0.5
    x = np.full((12, columns), 0.99 * most) * np.where(np.arange(12) % 2, 1, -1)[:, None]
    data = datasets.load(save(x, "?scale=1"))
    errors = np.square(2 * data.x_train).sum(axis=1, dtype=np.float32)
    assert np.isfinite(np.float32(1e7) * errors).all()
    refused(DataError, "too large", call=lambda: datasets.load(save(x * 1.02, "?scale=1")))


BAD_ARCHIVES = {
    "label count": ({"x": IMAGES, "y": np.ones(29)}, ["30 rows, 29 labels"]),
    "label rank": ({"x": IMAGES, "y": np.ones((30, 2))}, ["(30, 2)"]),
    "label fractions": ({"x": IMAGES, "y": np.arange(30) / 2}, ["not whole", "0.5"]),
    "label nan": ({"x": IMAGES, "y": np.full(30, np.nan)}, ["not whole", "nan"]),
    "label complex": ({"x": IMAGES, "y": np.ones(30, complex)}, ["complex128"]),
    "keras without train": ({"x_test": IMAGES, "y_test": np.ones(30)}, ["roles are not clear", "x_train, y_train"]),
    "keras twice": ({"x_train": IMAGES, "x_val": IMAGES, "x_validation": IMAGES}, ["roles are not clear"]),
    "train twice": ({"train": IMAGES, "x_train": IMAGES}, ["roles are not clear"]),
    "features": ({"train": TABLE, "test": TABLE[:, :2]}, ["train has 3 features", "test has 2"]),
    "shapes": ({"train": IMAGES, "test": IMAGES.reshape(30, 5, 4)}, ["(4, 5)", "(5, 4)"]),
    "dtypes": ({"train": TABLE, "test": np.ones((9, 3), np.uint8)}, ["float64", "uint8"]),
    "nan in test": ({"train": TABLE, "test": np.full((2, 3), np.nan)}, ["test: 6 values", "row 0, column 0"]),
    "one training row": ({"train": TABLE[:1], "validation": TABLE[:1], "test": TABLE}, ["1 row", "at least 2"]),
    "roles": ({"x": TABLE, "lable": np.ones(40)}, ["['lable', 'x']", "name them x and y"]),
    "two inputs": ({"x": TABLE, "data": TABLE}, ["['data', 'x']"]),
    "labels without rows": ({"train": TABLE, "test_labels": np.ones(40)}, ["roles are not clear"]),
}


@pytest.mark.parametrize("case", BAD_ARCHIVES)
def test_an_archive_that_cannot_be_used_is_refused(refused, save, case):
    arrays, parts = BAD_ARCHIVES[case]
    refused(DataError, *parts, call=lambda: datasets.load(save(**arrays)))


def npy(array, **kwargs):
    """The bytes of a .npy file."""
    stream = io.BytesIO()
    np.lib.format.write_array(stream, array, **kwargs)
    return stream.getvalue()


def zipped(**members):
    """The bytes of a .npz file with these .npy files."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for key, data in members.items():
            archive.writestr(f"{key}.npy", data)
    return stream.getvalue()


HUGE = npy(TABLE).replace(b"(40, 3)", b"(99999999999, 3)").replace(b" " * 9 + b"\n", b"\n")
PICKLED = npy(np.array([{}, 1], object), allow_pickle=True)
FLIPPED = bytearray(zipped(x=npy(TABLE)))
FLIPPED[500] ^= 1
BAD_FILES = {
    "truncated.npy": (npy(TABLE)[:-100], ["promises 960 bytes", "holds 860"]),
    "header only.npy": (npy(TABLE)[:40], ["header that cannot be read"]),
    "version.npy": (npy(TABLE).replace(b"NUMPY\x01\x00", b"NUMPY\x01\x07"), ["header that cannot be read", "(1, 7)"]),
    "open bracket.npy": (npy(TABLE).replace(b"3)", b"3("), ["header that cannot be read"]),
    "more.npy": (npy(TABLE) + b"more", ["promises 960 bytes", "holds 964"]),
    "huge.npy": (HUGE, ["promises 2399999999976 bytes", "holds 960"]),
    "page.npy": (b"<!DOCTYPE html><html>404</html>", [".npy array", "HTML"]),
    "pickled array.npy": (PICKLED, ["Python objects", "can run code"]),
    "raw pickle.npy": (pickle.dumps([1, 2]), ["a pickle"]),
    "archive.npy": (zipped(x=npy(TABLE)), ["a zip archive"]),
    "nothing.npy": (b"", ["starts with b''"]),
    "truncated.npz": (zipped(x=npy(TABLE))[:-50], ["damaged or truncated"]),
    "flipped.npz": (bytes(FLIPPED), ["damaged or truncated", "CRC"]),
    "huge.npz": (zipped(x=HUGE), ["x: the header promises 2399999999976 bytes", "holds 960"]),
    "pickled.npz": (zipped(x=PICKLED), ["Python objects"]),
    "page.npz": (b"<html>404</html>", [".npz archive", "HTML"]),
    "nothing.npz": (b"", ["damaged or truncated"]),
    "no arrays.npz": (zipped(), ["roles are not clear"]),
    "text.npz": (zipped(x=b"hello"), [".npy array", "b'hello'"]),
    "table.xlsx": (b"PK", ["'.xlsx'", ".csv"]),
    "page.csv": (b"<!DOCTYPE html>\n<html>", [".csv table", "HTML"]),
    "nothing.csv": (b"", ["empty"]),
    "header only.csv": (b"a,b\n", ["empty"]),
    "mark only.csv": (b"\xef\xbb\xbf", ["empty"]),
    "numbered header only.csv": (b"0,1,label\n", ["empty"]),
    "semicolons.csv": (b"a;b\n1;2\n3;4\n", ["separated by semicolons", "save it with commas"]),
    "semicolons only.csv": (b"1;2\n3;4\n", ["line 1", "separated by semicolons"]),
    "decimal commas.csv": (b"1,5;2,5\n3,5;4,5\n", ["separated by semicolons", "points in numbers"]),
    "named decimal commas.csv": (b"a;label\n1,5;x\n3,5;y\n", ["separated by semicolons"]),
    "tabs.csv": (b"a\tb\n1\t2\n", ["separated by tabs"]),
    "index.csv": (b",a,b\n0,1,2\n1,3,4\n", ["first column has no name", "pandas", "index=False"]),
    "index of numbers.csv": (b",0,1\n0,1,2\n1,3,4\n", ["first column has no name", "index=False"]),
    "index and label.csv": (b'"",a,label\n0,1,2\n', ["first column has no name", "index=False"]),
    "word.csv": (b"a,b\n1,2\n3,x\n", ["line 3, column 'b'", "'x' is not a number"]),
    "gap.csv": (b"1,2\n3,\n", ["line 2, column '2'", "'' is not a number"]),
    "first row mixed.csv": (b"1,x\n3,4\n", ["line 1, column '2'", "'x'"]),
    "ragged.csv": (b"1,2\n3\n", ["line 2 has 1 cells, expected 2"]),
    "two labels.csv": (b"label,class,a\n1,2,3\n", ["2 label columns"]),
    "binary.csv": (b"\xff\xfe\x00", ["not a text table"]),
    "only labels.csv": (b"label\n1\n2\n", ["empty"]),
    "nan.csv": (b"1,2\n" * 12 + b"3,nan\n", ["1 value not finite", "row 12, column 1"]),
}


@pytest.mark.parametrize("file", BAD_FILES)
def test_a_damaged_file_is_named(refused, tmp_path, file):
    content, parts = BAD_FILES[file]
    (tmp_path / file).write_bytes(content)
    refused(DataError, file, *parts, call=lambda: datasets.load(f"file:{tmp_path / file}"))


def test_a_missing_file_is_named(refused, tmp_path):
    refused(DataError, f"{tmp_path}/x.npy", "no such file", call=lambda: datasets.load(f"file:{tmp_path}/x.npy"))
    refused(DataError, f"{tmp_path}/x.npy", call=lambda: datasets.load("file:x.npy", data_dir=tmp_path))
    refused(ConfigError, "no path", call=lambda: datasets.load("file:"))


def test_a_folder_that_cannot_be_used_is_refused(refused, tmp_path):
    def load():
        return datasets.load(f"file:{tmp_path}")

    refused(DataError, "no image", call=load)
    for i in range(12):
        Image.fromarray(IMAGES[i]).save(tmp_path / f"{i:02}.png")
    assert load().x_train.shape == (9, 20)
    Image.fromarray(IMAGES[0, :3]).save(tmp_path / "20.png")
    refused(DataError, "00.png has 4 x 5", "20.png has 3 x 5", call=load)
    (tmp_path / "20.png").write_bytes((tmp_path / "00.png").read_bytes()[:60])
    refused(DataError, "20.png", "not a whole image", call=load)
    (tmp_path / "20.png").write_text("<html>")
    refused(DataError, "20.png", "not a whole image", call=load)
    Image.fromarray(IMAGES[0].astype(np.uint16)).save(tmp_path / "20.png")
    refused(DataError, "20.png", "more than 8 bits", call=load)
    (tmp_path / "20.png").unlink()
    (tmp_path / "b").mkdir()
    Image.fromarray(IMAGES[0]).save(tmp_path / "b" / "0.png")
    refused(DataError, "both here (00.png", "sub-folders (b", call=load)
    for file in tmp_path.glob("*.png"):
        file.unlink()
    (tmp_path / "b").rename(tmp_path / "train")
    refused(DataError, "['train'] are splits", call=load)
