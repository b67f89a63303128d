"""Datasets as values: equality, hash, weak references, printed text, changed copies and the cut for `--smoke`."""

import dataclasses
import functools
import gc
import weakref

import numpy as np
import pytest

from aejax import datasets
from aejax.datasets import moments, smoke
from support import small_dataset


def test_the_same_data_loaded_twice_are_equal_and_share_a_hash():
    first = datasets.load("digits", seed=1)
    second = datasets.load("digits", seed=1)
    assert first is not second
    assert first == second
    assert hash(first) == hash(second)
    assert first != datasets.load("digits", seed=2)
    assert first != first.fingerprint


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "other"},
        {"unit": 16.0},
        {"image_shape": (3, 4)},
        {"image_shape": (4, 3)},
        {"fingerprint": "0"},
        {"x_train": np.zeros((72, 12), np.uint8)},
        {"x_validation": np.zeros((3, 12), np.uint8)},
        {"x_test": np.zeros((72, 12), np.uint8)},
        {"y_train": None},
        {"y_test": np.zeros(72, np.int64)},
        {"scaling": datasets.Scaling(np.zeros(1), np.full(1, 16.0))},
        {"scaling": datasets.Scaling(np.ones(1), np.full(1, 255.0))},
        {"scaling": datasets.Scaling(np.zeros(1), np.full(1, 255.0), constant=1)},
    ],
    ids=lambda changes: ", ".join(changes),
)
def test_datasets_that_differ_in_a_field_are_not_equal(changes):
    """`dataclasses.replace` keeps the fingerprint, so a cache by fingerprint alone would give results of other data."""
    dataset = small_dataset()
    changed = dataclasses.replace(dataset, **changes)
    assert changed != dataset
    assert changed == dataclasses.replace(small_dataset(), **changes)
    assert ("fingerprint" in changes) == (hash(changed) != hash(dataset))


def test_results_can_be_cached_by_dataset():
    calls = []

    @functools.lru_cache
    def mean(dataset):
        calls.append(dataset)
        return float(dataset.x_train.mean())

    first = mean(small_dataset(seed=0))
    assert mean(small_dataset(seed=0)) == first
    assert len(calls) == 1
    assert mean(small_dataset(seed=1)) != first
    assert mean(dataclasses.replace(small_dataset(seed=0), x_train=np.zeros((72, 12), np.uint8))) == 0
    assert len(calls) == 3


def test_a_weak_cache_forgets_a_dataset_that_is_no_longer_used():
    cache = weakref.WeakKeyDictionary()
    dataset = small_dataset()
    cache[dataset] = "result"
    assert cache[dataset] == cache[small_dataset()] == "result"
    del dataset
    gc.collect()
    assert len(cache) == 0


def test_replace_gives_the_fingerprint_of_the_new_content():
    dataset = small_dataset()
    zeros = dataset.replace(x_train=np.zeros((72, 12), np.uint8))
    ones = dataset.replace(x_train=np.ones((72, 12), np.uint8))
    assert len({dataset.fingerprint, zeros.fingerprint, ones.fingerprint}) == 3
    np.testing.assert_array_equal(ones.x_train, 1)
    np.testing.assert_array_equal(ones.x_test, dataset.x_test)
    assert zeros == dataset.replace(x_train=np.zeros((72, 12), np.uint8))


def test_condensed_rows_have_a_fingerprint_of_their_own():
    """The values of `lowrank` have unit 1, as condensed rows have: only the fingerprint tells them apart."""
    dataset = datasets.load("lowrank")
    condensed = moments.condense(dataset)
    assert condensed.fingerprint != dataset.fingerprint
    assert condensed != dataset
    assert moments.condense(datasets.load("lowrank")) is condensed


def test_printed_digits():
    dataset = datasets.load("digits")
    assert str(dataset) == repr(dataset)
    assert repr(dataset) == (
        "Dataset 'digits'\n"
        "  rows:        1258 train, 180 validation, 359 test\n"
        "  inputs:      64 (8 x 8 images)\n"
        "  labels:      10 classes\n"
        "  scaling:     divided by 16\n"
        "  fingerprint: a230de60691e"
    )
    assert dataset.fingerprint.startswith("a230de60691e")


def test_printed_table(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    table = np.column_stack([np.arange(40.0), np.arange(40.0) ** 2, np.full(40, 3.0)])
    np.save("table.npy", table)
    dataset = datasets.load("file:table.npy")
    assert repr(dataset) == (
        "Dataset 'file:table.npy'\n"
        "  rows:        28 train, 4 validation, 8 test\n"
        "  inputs:      3\n"
        "  labels:      none\n"
        "  scaling:     standardised by training rows, 1 constant column\n"
        f"  fingerprint: {dataset.fingerprint[:12]}"
    )


@pytest.mark.parametrize(
    ("scaling", "text"),
    [
        (datasets.Scaling(np.zeros(1), np.ones(1)), "none"),
        (datasets.Scaling(np.zeros(1), np.full(1, 65535.0)), "divided by 65535"),
        (datasets.Scaling(np.ones(3), np.full(1, 255.0)), "training mean subtracted, then divided by 255"),
        (datasets.Scaling(np.ones(3), np.ones(3)), "standardised by training rows"),
        (datasets.Scaling(np.ones(3), np.ones(3), 2), "standardised by training rows, 2 constant columns"),
    ],
)
def test_a_scaling_in_words(scaling, text):
    assert scaling.describe() == text


def test_printed_labels_count_the_classes_of_all_splits():
    dataset = small_dataset()
    assert "labels:      3 classes" in repr(dataset)
    one_class = dataclasses.replace(dataset, y_train=None, y_validation=None, y_test=np.zeros(72, np.int64))
    assert "labels:      1 class\n" in repr(one_class)


def test_smoke_keeps_the_first_rows_of_every_split():
    dataset = datasets.load("digits")
    small = smoke.cut(dataset)
    for split, rows in smoke.ROWS.items():
        for kind in ("x", "y"):
            whole = getattr(dataset, f"{kind}_{split}")
            assert len(whole) > rows
            np.testing.assert_array_equal(getattr(small, f"{kind}_{split}"), whole[:rows])
    assert small.fingerprint != dataset.fingerprint
    # This fingerprint is part of the run ids of stored smoke runs.
    assert small.fingerprint.startswith("d6a0611b03e4")
    assert (small.name, small.unit, small.image_shape) == (dataset.name, dataset.unit, dataset.image_shape)
    assert small.scaling is dataset.scaling


def test_smoke_of_a_dataset_with_few_rows_and_no_labels():
    dataset = small_dataset().replace(y_train=None, y_validation=None, y_test=None)
    small = smoke.cut(dataset)
    assert small == dataset
    assert small.y_train is None
