"""Preparing and reading MNIST: the original bytes or an error, in every folder, and prepared by one process only."""

import contextlib
import errno
import fcntl
import gzip
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from typing import Any

import numpy as np
import pytest
import tensorflow_datasets as tfds

from aejax import datasets
from aejax.datasets import mnist
from aejax.runtime.errors import DataError, MachineError

NAMES = list(mnist.GZIP_NAMES)


@pytest.fixture(scope="session")
def prepared(mnist_dir, tfds_dir):
    """The folder of a prepared MNIST, inside the TFDS folder of this test session."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(tfds_dir))  # so that an MNIST prepared by the user is not found
        datasets.load("mnist", mnist_dir)
    return tfds_dir / mnist.NAME / mnist.VERSION


def test_rows_are_the_original_bytes(mnist_dir, prepared):
    data = datasets.load("mnist", mnist_dir, seed=3)
    assert datasets.known_shape("mnist") == data.x_train.shape
    assert (data.x_train.dtype, data.unit, data.image_shape) == (np.uint8, 255, (28, 28))
    assert len(data.x_validation) == 5000
    raw = gzip.decompress((mnist_dir / "t10k-images-idx3-ubyte.gz").read_bytes())
    assert data.x_test.tobytes() == raw[16:]
    labels = gzip.decompress((mnist_dir / "t10k-labels-idx1-ubyte.gz").read_bytes())
    assert data.y_test is not None
    assert data.y_test.astype(np.uint8).tobytes() == labels[8:]

    def ordered(x, y):
        return np.sort(np.ascontiguousarray(np.column_stack([x, y]).astype(np.uint8)).view("V785").ravel())

    assert data.y_train is not None
    assert data.y_validation is not None
    x = np.concatenate([data.x_train, data.x_validation])
    y = np.concatenate([data.y_train, data.y_validation])
    images = np.frombuffer(gzip.decompress((mnist_dir / NAMES[0]).read_bytes()), np.uint8, offset=16)
    labels = np.frombuffer(gzip.decompress((mnist_dir / NAMES[1]).read_bytes()), np.uint8, offset=8)
    np.testing.assert_array_equal(ordered(x, y), ordered(images.reshape(-1, 784), labels))
    other = datasets.load("mnist", mnist_dir, seed=4)
    assert other.fingerprint != data.fingerprint
    np.testing.assert_array_equal(other.x_test, data.x_test)


def test_read_rows_gives_the_scaled_test_rows(mnist_dir, prepared):
    scaling = datasets.Scaling(np.zeros(1), np.full(1, 255.0))
    x = datasets.read_rows("mnist:test", inputs=784, image_shape=(28, 28), scaling=scaling, data_dir=mnist_dir)
    assert (x.shape, x.dtype, x.max()) == ((10000, 784), np.float32, 1)


def test_files_without_gzip_are_read_and_their_folder_is_not_changed(empty, own_files):
    for name in NAMES:
        (own_files / name.removesuffix(".gz")).write_bytes(gzip.decompress((own_files / name).read_bytes()))
        (own_files / name).unlink()
    assert datasets.load("mnist", own_files).x_train.shape == (55000, 784)
    assert len(list(own_files.iterdir())) == 4
    assert (empty / "tfds" / mnist.NAME).is_dir()


def test_mnist_is_prepared_in_data_dir_if_that_is_writable(empty, own_files):
    data_dir = empty / "data"
    data_dir.mkdir()
    own_files.rename(data_dir / "mnist")
    data_dir.chmod(0o555)
    datasets.load("mnist", data_dir)
    assert [path.name for path in data_dir.iterdir()] == ["mnist"]  # read-only, so prepared in $TFDS_DATA_DIR
    assert (empty / "tfds" / mnist.NAME).is_dir()
    shutil.rmtree(empty / "tfds")
    data_dir.chmod(0o755)
    datasets.load("mnist", data_dir)
    assert (data_dir / mnist.NAME / mnist.VERSION).is_dir()
    assert not (empty / "tfds").exists()
    shutil.rmtree(data_dir / "mnist")
    data_dir.chmod(0o555)
    assert datasets.load("mnist", data_dir).x_train.shape == (55000, 784)  # reads the prepared files and writes nothing
    data_dir.chmod(0o755)


def test_without_a_writable_folder_the_error_is_a_machine_error(refused, empty):
    for name in ("tfds", "home"):
        (empty / name).mkdir()
        (empty / name).chmod(0o555)
    assert refused(MachineError, empty / "tfds", call=lambda: datasets.load("mnist")).exit_code == 5


def test_a_full_disk_is_a_machine_error_and_nothing_is_stored(refused, empty, mnist_dir, monkeypatch):
    def fail(file):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(mnist, "MIRRORS", (mnist_dir.as_uri() + "/",))
    monkeypatch.setattr(os, "fsync", fail)
    refused(MachineError, empty / "tfds", "no space left", call=lambda: datasets.load("mnist"))
    assert list((empty / "tfds" / "downloads" / "manual").iterdir()) == []


def flip_a_bit(folder):
    path = next(folder.glob("*-train.array_record*"))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def truncate_a_shard(folder):
    path = next(folder.glob("*-test.array_record*"))
    path.write_bytes(path.read_bytes()[:-5000])


def remove_a_shard(folder):
    next(folder.glob("*-test.array_record*")).unlink()


def overwrite_the_features(folder):
    (folder / "features.json").write_text("<html>")


def understate_the_rows(folder):
    path = folder / "dataset_info.json"
    path.write_text(path.read_text().replace('"60"', '"59"'))
    assert '"59"' in path.read_text()


@pytest.mark.parametrize(
    "damage", [flip_a_bit, truncate_a_shard, remove_a_shard, overwrite_the_features, understate_the_rows]
)
def test_a_damaged_prepared_dataset_is_never_used(refused, empty, prepared, mnist_dir, damage):
    folder = empty / "tfds" / mnist.NAME / mnist.VERSION
    shutil.copytree(prepared, folder)
    damage(folder)
    refused(DataError, folder, f"remove {folder}", call=lambda: datasets.load("mnist", mnist_dir))
    shutil.rmtree(folder)
    assert datasets.load("mnist", mnist_dir).x_train.shape == (55000, 784)


def test_a_changed_label_in_intact_records_is_refused(refused, empty, mnist_dir, monkeypatch):
    original = mnist.read_idx

    def altered(folder, split, part):
        values = original(folder, split, part).copy()
        values[-1] ^= (split, part) == ("test", "labels")
        return values

    with monkeypatch.context() as patch:
        patch.setattr(mnist, "read_idx", altered)
        folder = mnist._prepare(mnist_dir)
    refused(DataError, folder, "test labels", mnist.FILES["test", "labels"][1], call=lambda: datasets.load("mnist"))


def damage_file(path, kind):
    """Damage the file and return a part of the error message that this must give."""
    data = path.read_bytes()
    flipped = bytearray(data)
    flipped[len(flipped) // 2] ^= 1
    contents = {
        "page": (b"<!DOCTYPE html><html>", "HTML"),
        "truncated": (data[:-20], "damaged"),
        "flipped": (bytes(flipped), "damaged"),
        "other": (gzip.compress(b"\0" * 4000), "expected md5 27ae3e4e09519cfbb04c329615203637, found"),
        "empty": (b"", "expected md5"),
    }
    content, part = contents[kind]
    path.write_bytes(content)
    return part


@pytest.mark.parametrize("kind", ["page", "truncated", "flipped", "other", "empty"])
def test_a_damaged_file_is_named_and_nothing_is_prepared(refused, empty, own_files, kind):
    part = damage_file(own_files / NAMES[3], kind)
    refused(DataError, own_files / NAMES[3], part, call=lambda: datasets.load("mnist", own_files))
    assert not (empty / "tfds" / mnist.NAME).exists()


@pytest.mark.slow
def test_processes_that_prepare_at_the_same_time_do_not_disturb_each_other(empty, mnist_dir):
    incomplete = empty / "tfds" / mnist.NAME / "incomplete.KILLED_1.0.0"
    incomplete.mkdir(parents=True)
    code = "import sys; from aejax import datasets; print(datasets.load('mnist', sys.argv[1]).fingerprint)"
    command = [sys.executable, "-W", "error", "-c", code, str(mnist_dir)]
    processes = [subprocess.Popen(command, stdout=-1, stderr=-1, text=True) for _ in range(3)]
    outputs = [process.communicate(timeout=60) for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0], outputs
    assert [err for _, err in outputs] == ["", "", ""]
    assert {out for out, _ in outputs} == {datasets.load("mnist", mnist_dir).fingerprint + "\n"}
    assert [path.name for path in (empty / "tfds" / mnist.NAME).iterdir()] == [mnist.VERSION]


def test_of_two_threads_only_the_first_prepares(empty, mnist_dir, monkeypatch):
    start_times = []
    original = mnist._builder_class

    def recorded(module, arrays):
        start_times.append(time.monotonic())
        time.sleep(0.3)
        return original(module, arrays)

    monkeypatch.setattr(mnist, "_builder_class", recorded)
    with mnist_lock(empty / "tfds"):
        threads = [threading.Thread(target=mnist._prepare, args=(mnist_dir,)) for _ in range(2)]
        for thread in threads:
            thread.start()
        time.sleep(0.3)
        assert not start_times  # both wait for the lock
    for thread in threads:
        thread.join()
    assert len(start_times) == 1


@contextlib.contextmanager
def mnist_lock(root):
    root.mkdir()
    with (root / f".{mnist.NAME}.lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def test_the_prepared_files_contain_no_path_of_this_machine(prepared, tmp_path):
    for file in ("dataset_info.json", "features.json"):
        text = (prepared / file).read_text()
        assert json.loads(text)
        assert str(tmp_path.parents[1]) not in text
        assert "/home" not in text


def test_tensorflow_is_not_needed(prepared):
    builder: Any = tfds.builder_from_directory(str(prepared))
    assert "tensorflow" not in sys.modules
    assert {split: len(builder.as_data_source(split=split)) for split in ("train", "test")} == {"train": 60, "test": 10}


@pytest.mark.slow
def test_centred_rows_are_the_pixels_minus_the_training_mean(mnist_dir, prepared):
    data, centred = (datasets.load(name, mnist_dir, seed=3) for name in ("mnist", "mnist_centred"))
    assert datasets.known_shape("mnist_centred") == centred.x_train.shape
    assert (centred.x_train.dtype, centred.unit) == (np.float32, 1.0)
    np.testing.assert_allclose(centred.x_train.mean(axis=0, dtype=np.float64), 0.0, atol=1e-7)
    np.testing.assert_allclose(centred.scaling.offset_d, data.x_train.mean(axis=0))
    raw = centred.scaling.invert(centred.x_test[:50])
    np.testing.assert_allclose(raw, data.x_test[:50], atol=1e-4)
    rows = datasets.read_rows(
        "mnist:test", inputs=784, image_shape=(28, 28), scaling=centred.scaling, unit=1.0, data_dir=mnist_dir
    )
    np.testing.assert_array_equal(rows[:50], centred.x_test[:50])
