"""TFDS datasets by name: small ones, prepared and read without TensorFlow."""

import io

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from aejax import datasets
from aejax.datasets import tfds_source
from aejax.runtime.errors import ConfigError, DataError

F = tfds.features
RNG = np.random.default_rng(1)


def png(pixels):
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return io.BytesIO(stream.getvalue())


@pytest.fixture
def prepare(tmp_path):
    """`prepare(features, {split: records}, ...)` writes the dataset `toy` and returns a function that loads it."""

    def make(features, splits, supervised=None, version="1.0.0", config=None):
        class Toy(tfds.core.GeneratorBasedBuilder, skip_registration=True):
            name = "toy"
            VERSION = tfds.core.Version(version)
            BUILDER_CONFIGS = [tfds.core.BuilderConfig(name=config)] if config else []

            def _info(self):
                return tfds.core.DatasetInfo(
                    builder=self,
                    features=F.FeaturesDict(features),
                    supervised_keys=supervised,
                    disable_shuffling=True,
                )

            def _split_generators(self, dl_manager):
                return {split: self._generate_examples(records) for split, records in splits.items()}

            def _generate_examples(self, records):
                yield from enumerate(records)

        with tfds_source.quiet():
            Toy(data_dir=str(tmp_path), file_format="array_record").download_and_prepare()
        return lambda name="tfds:toy", **kwargs: datasets.load(name, data_dir=tmp_path, **kwargs)

    return make


def images(n, shape=(6, 5), seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, *shape), dtype=np.uint8)


def test_labelled_images_keep_their_splits(prepare):
    train = images(20, (6, 5, 3))
    test = images(4, (6, 5, 3), seed=1)
    splits = {
        split: [{"image": png(x), "label": i % 3, "note": "text"} for i, x in enumerate(pixels)]
        for split, pixels in (("train", train), ("test", test), ("extra", test))
    }
    features = {"image": F.Image(shape=(None, None, 3)), "label": F.ClassLabel(num_classes=3), "note": F.Text()}
    data = prepare(features, splits, ("image", "label"))()
    assert (data.x_train.dtype, data.unit, data.image_shape) == (np.uint8, 255, (6, 5, 3))
    np.testing.assert_array_equal(data.x_test, test.reshape(4, -1))
    assert data.y_test.tolist() == [0, 1, 2, 0]
    all_train = np.concatenate([data.x_train, data.x_validation])
    assert (len(data.x_train), len(data.x_validation)) == (18, 2)
    np.testing.assert_array_equal(np.unique(all_train, axis=0), np.unique(train.reshape(20, -1), axis=0))


def test_grey_images_have_no_channel_axis(prepare):
    x = images(30)
    load = prepare({"image": F.Image(shape=(6, 5, 1))}, {"train": [{"image": png(i)} for i in x]})
    data = load()
    assert (data.image_shape, data.y_train) == ((6, 5), None)
    assert [len(data.x_train), len(data.x_validation), len(data.x_test)] == [21, 3, 6]


def test_images_of_two_sizes_are_refused(prepare, refused):
    records = [{"image": png(images(1, (6, 5 + (i == 7), 3))[0])} for i in range(12)]
    load = prepare({"image": F.Image(shape=(None, None, 3))}, {"train": records})
    refused(DataError, "tfds:toy", "row 0 has shape (6, 5, 3)", "row 7 (6, 6, 3)", call=load)


def test_image_sizes_are_compared_across_chunks(prepare, refused, monkeypatch):
    monkeypatch.setattr(tfds_source, "CHUNK_RECORDS", 4)
    x = images(12)
    load = prepare({"image": F.Image(shape=(None, None, 1))}, {"train": [{"image": png(i)} for i in x]})
    data = load()
    all_rows = np.concatenate([data.x_train, data.x_validation, data.x_test])
    np.testing.assert_array_equal(np.unique(all_rows, axis=0), np.unique(x.reshape(12, -1), axis=0))
    x = [*x, images(1, (5, 6))[0]]
    load = prepare(
        {"image": F.Image(shape=(None, None, 1))}, {"train": [{"image": png(i)} for i in x]}, version="2.0.0"
    )
    refused(DataError, "row 12 (5, 6, 1)", call=load)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64])
def test_a_numeric_tensor_is_a_standardised_table(prepare, dtype):
    x = (RNG.standard_normal((40, 4)) * 9).astype(dtype)
    features = {"x": F.Tensor(shape=(4,), dtype=dtype), "label": F.ClassLabel(num_classes=2), "id": F.Scalar(np.int64)}
    data = prepare(features, {"train": [{"x": row, "label": 1, "id": i} for i, row in enumerate(x)]})()
    assert (data.x_train.shape, data.x_train.dtype, data.image_shape) == ((28, 4), np.float32, None)
    np.testing.assert_allclose(data.x_train.std(0), 1, rtol=1e-5)
    assert data.y_train.tolist() == [1] * 28
    all_rows = np.concatenate([data.x_train, data.x_validation, data.x_test])
    np.testing.assert_allclose(np.sort(data.scaling.invert(all_rows), 0), np.sort(x, 0), rtol=1e-5, atol=1e-5)


def test_scalars_are_columns_and_class_features_are_not(prepare):
    features = {"a": F.Scalar(np.float32), "b": F.Scalar(np.int32), "kind": F.ClassLabel(num_classes=2), "t": F.Text()}
    records = [{"a": i / 2, "b": i * i, "kind": i % 2, "t": "x"} for i in range(20)]
    data = prepare(features, {"train": records})()
    assert (data.inputs, data.y_train) == (2, None)
    raw = data.scaling.invert(data.x_train)
    np.testing.assert_allclose(raw[:, 1], (2 * raw[:, 0]) ** 2, rtol=1e-4, atol=1e-4)


def test_a_regression_target_is_neither_input_nor_label(prepare):
    features = {"a": F.Scalar(np.float32), "b": F.Scalar(np.float32), "y": F.Scalar(np.float32)}
    load = prepare(features, {"train": [{"a": i, "b": -i, "y": 0.5} for i in range(20)]}, ("a", "y"))
    assert load().inputs == 2
    assert load().y_train is None


def test_missing_values_are_named(prepare, refused):
    rows = np.ones((12, 3), np.float32) * np.arange(12, dtype=np.float32)[:, None]
    rows[5, 1] = np.nan
    load = prepare({"x": F.Tensor(shape=(3,), dtype=np.float32)}, {"train": [{"x": row} for row in rows]})
    refused(DataError, "train: 1 value not finite", "row 5, column 1", call=load)


@pytest.mark.parametrize(
    ("features", "record", "parts"),
    [
        ({"t": F.Text()}, {"t": "x"}, ["no image and no numeric feature among ['t']"]),
        (
            {"a": F.Tensor(shape=(2,), dtype=np.float32), "b": F.Tensor(shape=(2,), dtype=np.float32)},
            {"a": np.ones(2, np.float32), "b": np.ones(2, np.float32)},
            ["['a', 'b']"],
        ),
    ],
)
def test_features_without_a_clear_input_are_refused(prepare, refused, features, record, parts):
    refused(DataError, *parts, call=prepare(features, {"train": [record] * 12}))


def test_a_dataset_without_a_train_split_is_refused(prepare, refused):
    load = prepare({"x": F.Scalar(np.float32)}, {"unsupervised": [{"x": 1.0}] * 12})
    refused(DataError, "['unsupervised']", call=load)


def test_versions_and_configs(prepare, refused):
    features = {"x": F.Scalar(np.float32)}
    for version, config, size in (("1.0.0", "small", 10), ("1.2.0", "small", 12), ("1.2.0", "big", 20)):
        load = prepare(features, {"train": [{"x": float(i)} for i in range(size)]}, version=version, config=config)

    def rows(name):
        data = load(name)
        return len(data.x_train) + len(data.x_validation) + len(data.x_test)

    names = ("tfds:toy/small:1.0.0", "tfds:toy/small", "tfds:toy/big", "tfds:toy/big:1.*.*")
    assert [rows(name) for name in names] == [10, 12, 20, 20]
    refused(DataError, "tfds:toy/small:3.0.0", "not prepared", call=lambda: load("tfds:toy/small:3.0.0"))
    refused(DataError, "tfds:toy/huge", "not prepared", call=lambda: load("tfds:toy/huge"))


def test_a_missing_dataset_is_an_error_that_names_the_folders_and_the_fix(refused, tmp_path, tfds_dir):
    parts = (tmp_path, tfds_dir, "pip install 'aejax[tensorflow]'")
    refused(DataError, "tfds:nosuch", *parts, call=lambda: datasets.load("tfds:nosuch", data_dir=tmp_path))
    refused(ConfigError, "tfds:NAME", call=lambda: datasets.load("tfds:no such"))


def test_a_dataset_in_another_file_format_is_refused(prepare, refused, tmp_path):
    load = prepare({"x": F.Scalar(np.float32)}, {"train": [{"x": float(i)} for i in range(12)]})
    info = tmp_path / "toy/1.0.0/dataset_info.json"
    info.write_text(info.read_text().replace('"array_record"', '"tfrecord"'))
    refused(DataError, "prepared as tfrecord", "array_record", call=load)


@pytest.mark.parametrize("file", ["features.json", "dataset_info.json", "toy-train.array_record-00000-of-00001"])
def test_a_damaged_dataset_is_named(prepare, refused, tmp_path, file):
    load = prepare({"x": F.Scalar(np.float32)}, {"train": [{"x": float(i)} for i in range(12)]})
    load()
    path = tmp_path / "toy/1.0.0" / file
    path.write_bytes(b"<html>" + path.read_bytes()[:30])
    refused(DataError, "tfds:toy", tmp_path, "cannot be read", "remove that folder", call=load)


def test_with_tensorflow_a_missing_dataset_is_prepared(tmp_path, monkeypatch, refused):
    class PreparedOnDemand(tfds.core.GeneratorBasedBuilder):
        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            return tfds.core.DatasetInfo(builder=self, features=F.FeaturesDict({"x": F.Scalar(np.float32)}))

        def _split_generators(self, dl_manager):
            return {"train": self._generate_examples()}

        def _generate_examples(self):
            yield from enumerate({"x": float(i)} for i in range(20))

    monkeypatch.setattr(tfds_source, "_has_tensorflow", lambda: True)
    data = datasets.load("tfds:prepared_on_demand", data_dir=tmp_path)
    assert data.x_train.shape == (14, 1)
    monkeypatch.undo()
    assert datasets.load("tfds:prepared_on_demand", data_dir=tmp_path).fingerprint == data.fingerprint
    monkeypatch.setattr(tfds_source, "_has_tensorflow", lambda: True)
    refused(DataError, "could not prepare it", call=lambda: datasets.load("tfds:prepared_nowhere", data_dir=tmp_path))
