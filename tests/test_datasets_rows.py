"""Reading rows for a stored run: in the scaling of the run, or refused."""

import numpy as np
import pytest

from aejax import datasets
from aejax.runtime.errors import ConfigError, DataError

SMALL = ("digits", "plane3d", "lowrank")


def rows(data, split):
    return getattr(data, f"x_{split}")


def arguments_of_run(data):
    """The arguments of `read_rows` for a run that was trained on this dataset."""
    return {"inputs": data.inputs, "image_shape": data.image_shape, "scaling": data.scaling}


@pytest.mark.parametrize("name", SMALL)
def test_rows_of_a_named_dataset_are_the_floats_of_its_splits(name):
    data = datasets.load(name, seed=2)
    for suffix, split in (("", "test"), (":test", "test"), (":train", "train"), (":validation", "validation")):
        x = datasets.read_rows(name + suffix, seed=2, **arguments_of_run(data))
        assert x.dtype == np.float32
        np.testing.assert_allclose(x, data.floats(rows(data, split)), rtol=1e-6, atol=1e-6)


def test_rows_of_a_file_get_the_scaling_of_the_run(tmp_path):
    data = datasets.load("plane3d")
    new = np.array([[1.0, 2.0, 3.0]])
    np.save(tmp_path / "new.npy", new)
    expected = ((new - data.scaling.offset_d) / data.scaling.scale_d).astype(np.float32)
    for source in (str(tmp_path / "new.npy"), f"file:{tmp_path}/new.npy"):
        np.testing.assert_array_equal(datasets.read_rows(source, **arguments_of_run(data)), expected)
    np.testing.assert_array_equal(datasets.read_rows("new.npy", data_dir=tmp_path, **arguments_of_run(data)), expected)


def test_integer_rows_need_no_scale_because_the_run_has_one(tmp_path):
    np.save(tmp_path / "new.npy", np.full((2, 8, 8), 8, np.int32))
    x = datasets.read_rows(f"{tmp_path}/new.npy", **arguments_of_run(datasets.load("digits")))
    np.testing.assert_array_equal(x, np.full((2, 64), 0.5, np.float32))


def test_an_archive_with_splits_gives_its_test_rows_or_those_of_the_named_split(tmp_path):
    x = np.random.default_rng(0).random((20, 3))
    np.savez(tmp_path / "s.npz", train=x, validation=x[:4] + 1, test=x[:2] + 2)
    run = arguments_of_run(datasets.load(f"file:{tmp_path}/s.npz?scale=1"))
    np.testing.assert_allclose(datasets.read_rows(f"{tmp_path}/s.npz", **run), x[:2] + 2, rtol=1e-6)
    np.testing.assert_allclose(datasets.read_rows(f"{tmp_path}/s.npz:validation", **run), x[:4] + 1, rtol=1e-6)


def test_rows_that_do_not_match_the_run_are_refused(refused, tmp_path):
    def read(array, run, suffix=""):
        np.save(tmp_path / "new.npy", array)
        return lambda: datasets.read_rows(f"{tmp_path}/new.npy{suffix}", **run)

    digits = arguments_of_run(datasets.load("digits"))
    plane = arguments_of_run(datasets.load("plane3d"))
    refused(DataError, "5 features", "has 3", call=read(np.ones((2, 5)), plane))
    refused(DataError, "(4, 16)", "(8, 8)", call=read(np.ones((2, 4, 16), np.uint8), digits))
    refused(DataError, "not finite", "row 1, column 2", call=read(np.array([[1, 2, 3], [1, 2, np.nan]]), plane))
    refused(DataError, "empty", call=read(np.ones((0, 3)), plane))
    refused(DataError, "0.5", "0 to 16", call=read(np.full((2, 64), 0.5), digits))
    fractions = {**digits, "scaling": datasets.Scaling(np.zeros(1), np.ones(1))}
    refused(DataError, "uint8", "to 9", call=read(np.full((2, 64), 9, np.uint8), fractions))
    refused(ConfigError, "?scale", call=read(np.ones((2, 3)), plane, "?scale=2"))
    refused(DataError, "no such file", call=lambda: datasets.read_rows("/nowhere/x.npy", **plane))
    refused(ConfigError, "digits", call=lambda: datasets.read_rows("digitz", **plane))


def test_values_outside_the_range_of_the_run_are_refused(refused, tmp_path):
    def read(array, shape, scale, **options):
        np.save(tmp_path / "new.npy", array)
        run = {"inputs": 64, "image_shape": shape, "scaling": datasets.Scaling(np.zeros(1), np.full(1, scale))}
        return lambda: datasets.read_rows(f"{tmp_path}/new.npy", **run, **options)

    def rows_with(value, dtype):
        return np.full((2, 64), 3, dtype) + np.array([0] * 63 + [value]).astype(dtype)

    for shape in ((8, 8), None):
        refused(DataError, "from 3 to 240", "0 to 16", "0..16", call=read(rows_with(237, np.uint8), shape, 16.0))
        refused(DataError, "from -1 to 3", "0 to 255", call=read(rows_with(-4, np.int16), shape, 255.0))
        refused(DataError, "from -0.5 to 3", "0 to 16", call=read(rows_with(-3.5, float), shape, 16.0))
        refused(DataError, "from 3 to 16.01", "0 to 16", call=read(rows_with(13.01, float), shape, 16.0, unit=16.0))
        refused(DataError, "from 0.5 to 0.5", "0 to 255", call=read(np.full((2, 64), 0.5), shape, 255.0))
        refused(DataError, "bool", "0 to 255", call=read(np.ones((2, 64), bool), shape, 255.0))
        for value in (13, -3, 13 + 1e-5):
            assert read(rows_with(value, float), shape, 16.0)().shape == (2, 64)
        # With unit 1 the run was not trained on bytes; ?scale=VALUE may divide values of any size and sign.
        assert read(rows_with(-400, np.int16), shape, 256.0, unit=1.0)().min() == -397 / 256
    assert read(rows_with(-400, np.int16), None, 1.0)().min() == -397


@pytest.mark.parametrize("source", ["nofile", "mnits", "digitz:test", ""])
def test_a_source_that_is_neither_a_dataset_nor_a_file_is_refused(refused, source):
    run = arguments_of_run(datasets.load("plane3d"))
    name = source.removesuffix(":test")
    parts = (f"no such file or dataset: {name!r}", "plane3d", "did you mean" if name[-2:] in ("ts", "tz") else "give")
    assert refused(ConfigError, *parts, call=lambda: datasets.read_rows(source, **run)).field == "source"


@pytest.mark.parametrize("head", ["plane3d", "tfds:toy", "tfds:toy/small:1.0.0", "new.npy", "file:new.npy", "folder"])
def test_an_unknown_split_is_refused(refused, tmp_path, head):
    np.save(tmp_path / "new.npy", np.ones((3, 3)))
    (tmp_path / "folder").mkdir()
    run = arguments_of_run(datasets.load("plane3d"))
    parts = (f"'{head}:tset'", "no split is called 'tset'", "train, validation, test")
    refused(ConfigError, *parts, call=lambda: datasets.read_rows(f"{head}:tset", data_dir=tmp_path, **run))


def test_a_path_without_suffix_or_with_a_colon_is_found(tmp_path, refused):
    run = arguments_of_run(datasets.load("plane3d"))
    np.save(tmp_path / "a.npy", np.ones((3, 3)))
    (tmp_path / "a.npy:old").write_bytes(b"")
    (tmp_path / "file").mkdir()
    refused(DataError, "cannot read files of type", call=lambda: datasets.read_rows(f"{tmp_path}/a.npy:old", **run))
    refused(DataError, "no image", call=lambda: datasets.read_rows("file", data_dir=tmp_path, **run))
    refused(DataError, "no such file", call=lambda: datasets.read_rows("file:other", data_dir=tmp_path, **run))
