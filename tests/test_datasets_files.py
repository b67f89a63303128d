"""The user's own files that can be used: how they are read, split, scaled and labelled."""

import numpy as np
import pytest
from PIL import Image

from aejax import datasets

RNG = np.random.default_rng(0)
TABLE = RNG.standard_normal((40, 3)) * [1, 10, 1e-3] + [0, 5, 1e6]
IMAGES = RNG.integers(0, 256, (30, 4, 5), dtype=np.uint8)


def all_splits(data, kind="x"):
    """The rows ("x") or labels ("y") of all splits."""
    return np.concatenate([getattr(data, f"{kind}_{split}") for split in ("train", "validation", "test")])


def assert_same_rows(a, b):
    """Both arrays hold the same rows, in any order."""
    np.testing.assert_array_equal(a[np.lexsort(a.T)], b[np.lexsort(b.T)])


@pytest.mark.parametrize("shape", [(20,), (4, 5), (4, 5, 1), (5, 4, 1), (1, 5, 4)])
def test_bytes_stay_bytes_and_every_row_is_in_exactly_one_split(save, shape):
    data = datasets.load(save(IMAGES.reshape(30, *shape)))
    assert (data.x_train.dtype, data.unit) == (np.uint8, 255)
    assert data.image_shape == {1: None, 2: shape, 3: shape if shape[-1] > 1 else shape[:2]}[len(shape)]
    assert [len(data.x_train), len(data.x_validation), len(data.x_test)] == [21, 3, 6]
    assert_same_rows(all_splits(data), IMAGES.reshape(30, 20))
    np.testing.assert_allclose(data.scaling.invert(data.floats(data.x_test)), data.x_test, rtol=1e-6)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, ">f4", ">f8", np.longdouble])
def test_a_table_is_standardised_by_its_training_rows(save, dtype):
    data = datasets.load(save((TABLE % 7).astype(dtype)))
    assert (data.x_train.dtype, data.unit, data.image_shape) == (np.float32, 1, None)
    np.testing.assert_allclose(data.x_train.mean(0, dtype=float), 0, atol=1e-6)
    np.testing.assert_allclose(data.x_train.std(0, dtype=float), 1, atol=1e-6)
    assert (np.abs(data.x_test.mean(0)) > 1e-3).any()
    raw = data.scaling.invert(all_splits(data))
    np.testing.assert_allclose(np.sort(raw, 0), np.sort((TABLE % 7).astype(dtype).astype(float), 0), rtol=1e-5)


def test_memory_layout_does_not_matter_and_the_file_is_not_changed(save, tmp_path):
    expected = datasets.load(save(TABLE)).fingerprint
    twice_as_large = np.zeros((80, 6))
    twice_as_large[::2, ::2] = TABLE
    for array in (np.asfortranarray(TABLE), twice_as_large[::2, ::2], TABLE.astype(">f8")):
        name = save(array)
        path = tmp_path / "own.npy"
        before = path.read_bytes()
        path.chmod(0o444)
        assert datasets.load(name).fingerprint == expected
        assert path.read_bytes() == before
        path.unlink()
    images = datasets.load(save(IMAGES)).fingerprint
    assert datasets.load(save(np.asfortranarray(IMAGES))).fingerprint == images


def test_a_loaded_dataset_does_not_change_when_its_file_does(save):
    data = datasets.load(save(IMAGES))
    before = data.x_train.copy()
    save(np.zeros_like(IMAGES))
    np.testing.assert_array_equal(data.x_train, before)


def test_read_only_arrays_are_copied_and_not_changed():
    from aejax.datasets import base, interpret

    for original in (TABLE, IMAGES):
        array = original.copy()
        array.flags.writeable = False
        x = {"train": array, "validation": array[:5], "test": array[5:9]}
        data = base.assemble("array", interpret.interpret("array", x, dict.fromkeys(x)), seed=0)
        np.testing.assert_array_equal(array, original)
        assert len(data.x_test) == 4
        assert data.x_train.flags.writeable
        assert not np.shares_memory(data.x_train, array)


def test_a_scale_divides_all_values(save):
    for dtype in (np.int16, np.float64, np.uint8, np.int64, bool):
        x = (IMAGES % 17).astype(dtype)
        data = datasets.load(save(x, "?scale=16"))
        np.testing.assert_allclose(all_splits(data).max() / data.unit, x.max() / 16)
        assert data.scaling.scale_d.tolist() == [16]
        assert data.image_shape == (4, 5)
    assert datasets.load(save(IMAGES % 17, "?scale=16")).unit == 16


def test_the_option_standardise_standardises_columns(save):
    data = datasets.load(save(IMAGES, "?scale=standardise"))
    np.testing.assert_allclose(data.x_train.std(0, dtype=float), 1, atol=1e-6)
    assert (data.unit, data.image_shape, data.scaling.scale_d.shape) == (1, (4, 5), (20,))


def test_float_images_from_0_to_1_keep_their_values(save):
    x = (IMAGES / 255).astype(np.float32)
    data = datasets.load(save(x))
    assert (data.x_train.dtype, data.unit, data.image_shape) == (np.float32, 1, (4, 5))
    assert_same_rows(all_splits(data), x.reshape(30, 20))


def test_constant_columns_have_scale_one_and_are_counted(save):
    data = datasets.load(save(np.column_stack([TABLE, np.full(40, 0.1)])))
    assert data.scaling.constant == 1
    np.testing.assert_allclose(data.x_train[:, 3], 0, atol=1e-7)
    assert np.isfinite(all_splits(data)).all()


def test_an_archive_of_rows_and_labels(save):
    y = np.arange(30) % 4
    for keys in (("x", "y"), ("images", "labels"), ("data", "y")):
        data = datasets.load(save(**{keys[0]: IMAGES, keys[1]: y}))
        assert data.y_train is not None
        assert data.y_train.dtype == np.int64
        assert_same_rows(
            np.column_stack([all_splits(data), all_splits(data, "y")]), np.column_stack([IMAGES.reshape(30, 20), y])
        )
    assert datasets.load(save(anything=IMAGES)).y_train is None


def test_an_archive_of_splits_keeps_them_and_only_missing_splits_are_cut(save):
    data = datasets.load(save(train=IMAGES[:20], test=IMAGES[20:], train_labels=np.arange(20), test_labels=np.ones(10)))
    np.testing.assert_array_equal(data.x_test, IMAGES[20:].reshape(10, 20))
    assert (len(data.x_train), len(data.x_validation)) == (18, 2)
    assert data.y_test is not None
    assert data.y_test.tolist() == [1] * 10
    data = datasets.load(save(train=IMAGES[:2], validation=IMAGES[2:3], test=IMAGES[3:4]))
    assert (len(data.x_train), len(data.x_validation), len(data.x_test)) == (2, 1, 1)
    labels = {"train_labels": ["b", "c"], "validation_labels": ["a"], "test_labels": ["c"]}
    data = datasets.load(save(train=IMAGES[:2], validation=IMAGES[2:3], test=IMAGES[3:4], **labels))
    assert [all_splits(data, "y").tolist()] == [[1, 2, 0, 2]]


def test_an_archive_with_the_array_names_of_keras(save):
    parts = {"x_train": IMAGES[:20], "y_train": np.arange(20), "x_test": IMAGES[20:25], "y_test": np.ones((5, 1))}
    data = datasets.load(save(**parts))
    assert (len(data.x_train), len(data.x_validation)) == (18, 2)
    np.testing.assert_array_equal(data.x_test, IMAGES[20:25].reshape(5, 20))
    assert data.y_test is not None
    assert data.y_test.tolist() == [1] * 5
    for key in ("val", "validation"):
        data = datasets.load(save(**parts, **{f"x_{key}": IMAGES[25:], f"y_{key}": np.arange(5)}))
        np.testing.assert_array_equal(data.x_train, IMAGES[:20].reshape(20, 20))
        np.testing.assert_array_equal(data.x_validation, IMAGES[25:].reshape(5, 20))
        assert data.y_validation is not None
        assert data.y_validation.tolist() == list(range(5))
    assert datasets.load(save(x_train=IMAGES[:20], x_test=IMAGES[20:])).y_train is None


def test_the_olivetti_archive_as_a_plain_file(olivetti_path):
    data = datasets.load("file:olivetti_faces.npz", data_dir=olivetti_path.parent)
    assert data.x_train.shape == (280, 4096)
    assert data.image_shape == (64, 64)
    assert np.bincount(all_splits(data, "y")).tolist() == [10] * 40


@pytest.mark.parametrize("header", ["width,height,Label\n", "\ufeffwidth,height,class\n\n"])
def test_a_table_with_header_and_labels(tmp_path, header):
    names = ["oak", "ash", "elm"]
    lines = [f'{i}.5, {i**2},"{names[i % 3]}"' for i in range(12)]
    (tmp_path / "t.csv").write_text(header + "\n".join(lines), encoding="utf-8")
    data = datasets.load(f"file:{tmp_path}/t.csv?scale=1")
    number = {"ash": 0, "elm": 1, "oak": 2}
    expected = [[i + 0.5, i**2, number[names[i % 3]]] for i in range(12)]
    assert_same_rows(np.column_stack([all_splits(data), all_splits(data, "y")]), np.array(expected))


def test_a_table_without_header_keeps_its_first_row(tmp_path):
    (tmp_path / "t.csv").write_text("\n".join(f"{i},{-i}" for i in range(10)))
    data = datasets.load(f"file:{tmp_path}/t.csv?scale=1")
    assert sorted(all_splits(data)[:, 0]) == list(range(10))
    assert data.y_train is None


def test_column_names_of_digits_and_underscores_are_not_numbers(tmp_path):
    (tmp_path / "t.csv").write_text("1_1,1_2\n" + "\n".join(f"{i},{-i}" for i in range(10)))
    assert all_splits(datasets.load(f"file:{tmp_path}/t.csv?scale=1")).shape == (10, 2)


@pytest.mark.parametrize("header", ["0,1,label\n", '"0","1","Label"\n', "\ufeff0,1,target\n", "\ufefflabel,5,6\n"])
def test_a_header_of_numbers_is_recognised_by_its_label_column(tmp_path, header):
    lines = [",".join(map(str, [i, i, i])) for i in range(10)]
    (tmp_path / "t.csv").write_text(header + "\n".join(lines), encoding="utf-8")
    data = datasets.load(f"file:{tmp_path}/t.csv?scale=1")
    assert_same_rows(
        np.column_stack([all_splits(data), all_splits(data, "y")]), np.repeat(np.arange(10.0)[:, None], 3, axis=1)
    )


def test_a_byte_order_mark_is_skipped(tmp_path):
    (tmp_path / "t.csv").write_text("\ufeff" + "\n".join(f"{i},{-i}" for i in range(10)), encoding="utf-8")
    assert sorted(all_splits(datasets.load(f"file:{tmp_path}/t.csv?scale=1"))[:, 0]) == list(range(10))


def test_a_semicolon_in_a_column_name_or_a_label_is_not_a_separator(tmp_path):
    (tmp_path / "t.csv").write_text("a; cm,b,label\n" + "\n".join(f"{i},{-i},x;y" for i in range(10)))
    data = datasets.load(f"file:{tmp_path}/t.csv?scale=1")
    assert (all_splits(data).shape, all_splits(data, "y").tolist()) == ((10, 2), [0] * 10)


def test_a_folder_of_images(tmp_path):
    for i, pixels in enumerate(IMAGES):
        folder = tmp_path / ("b" if i % 2 else "a")
        folder.mkdir(exist_ok=True)
        Image.fromarray(pixels).save(folder / f"{i:02}.png")
    (tmp_path / "a" / "notes.txt").write_text("not an image")
    data = datasets.load(f"file:{tmp_path}")
    assert (data.image_shape, data.x_train.dtype, data.unit) == ((4, 5), np.uint8, 255)
    expected = np.column_stack([IMAGES.reshape(30, 20), np.arange(30) % 2])
    assert_same_rows(np.column_stack([all_splits(data), all_splits(data, "y")]), expected)
    flat = datasets.load(f"file:{tmp_path}/a")
    assert flat.y_train is None
    Image.fromarray(np.full((4, 5, 4), 7, np.uint8)).save(tmp_path / "a" / "colour.png")
    data = datasets.load(f"file:{tmp_path}/a")
    assert data.image_shape == (4, 5, 3)
    pixels = all_splits(data).reshape(-1, 4, 5, 3)
    np.testing.assert_array_equal(pixels[..., 0], pixels[..., 2])
