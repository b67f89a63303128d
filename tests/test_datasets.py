"""Names, splits, scaling, synthetic truth, and rows for a stored run."""

import subprocess
import sys

import numpy as np
import pytest

from aejax import datasets
from aejax.datasets import base, synthetic
from aejax.runtime.errors import ConfigError

SPLITS = ("train", "validation", "test")
SMALL = ("digits", "plane3d", "lowrank")


def rows(data, split):
    return getattr(data, f"x_{split}")


@pytest.mark.parametrize("name", SMALL)
def test_known_shape_agrees_with_load(name):
    data = datasets.load(name, seed=5)
    assert datasets.known_shape(name) == data.x_train.shape == (len(data.x_train), data.inputs)


def test_known_shape_of_sources_is_unknown():
    assert datasets.known_shape("tfds:cifar10") is datasets.known_shape("file:x.npy") is None


@pytest.mark.parametrize("name", SMALL)
def test_same_seed_same_numbers_other_seed_others(name):
    one, same, other = (datasets.load(name, seed=seed) for seed in (7, 7, 8))
    assert one.fingerprint == same.fingerprint != other.fingerprint
    for split in SPLITS:
        np.testing.assert_array_equal(rows(one, split), rows(same, split))
        assert rows(one, split).flags.c_contiguous


def test_digits_are_cut_without_loss_and_labels_follow_their_rows():
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    data = datasets.load("digits", seed=1)
    assert [len(rows(data, s)) for s in SPLITS] == [1258, 180, 359]
    assert (data.x_train.dtype, data.unit, data.image_shape) == (np.uint8, 16, (8, 8))
    pairs = [np.column_stack([rows(data, s), getattr(data, f"y_{s}")]) for s in SPLITS]
    expected = np.column_stack([images, labels]).astype(int)
    assert sorted(map(tuple, np.concatenate(pairs).tolist())) == sorted(map(tuple, expected.tolist()))
    assert data.floats(data.x_train).max() == 1


def test_plane3d_is_a_standardised_noisy_plane():
    data = datasets.load("plane3d")
    assert {s: len(rows(data, s)) for s in SPLITS} == synthetic.PLANE3D_ROWS
    assert data.image_shape is None
    assert data.y_train is None
    np.testing.assert_allclose(data.x_train.mean(0, dtype=float), 0, atol=1e-6)
    np.testing.assert_allclose(data.x_train.std(0, dtype=float), 1, atol=1e-6)
    assert abs(data.x_test.mean()) > 1e-6  # test rows are scaled by the training statistics, not their own
    residual = synthetic.plane3d(0).x["train"] @ [0.1, 0.3, -1]
    assert residual.std() == pytest.approx(0.1, rel=0.05)
    singular = np.linalg.svd(data.x_train, compute_uv=False)
    assert (singular[:2] ** 2).sum() > 0.9 * (singular**2).sum()


def test_lowrank_truth_has_the_stated_eigenvalues_and_the_rows_follow_it():
    mean_d, covariance_dd = synthetic.lowrank_covariance(3)
    noise = synthetic.LOWRANK_NOISE_VARIANCE
    expected = np.array([v + noise for v in synthetic.LOWRANK_SIGNAL_VARIANCES] + [noise] * 24)
    np.testing.assert_allclose(np.linalg.eigvalsh(covariance_dd)[::-1], expected, rtol=1e-9)
    assert (np.diff(expected[:9]) < 0).all()
    data = datasets.load("lowrank", seed=3)
    every = np.concatenate([rows(data, s) for s in SPLITS]).astype(float)
    np.testing.assert_allclose(every.mean(0), mean_d, atol=0.2)
    error = np.cov(every.T) - covariance_dd
    assert np.linalg.norm(error) < 0.1 * np.linalg.norm(covariance_dd)
    np.testing.assert_array_equal(data.scaling.scale_d, [1])
    assert not np.allclose(covariance_dd, synthetic.lowrank_covariance(4)[1], atol=0.1)


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("mnits", ["'mnits'", "did you mean 'mnist'?", "plane3d"]),
        ("Digits", ["did you mean 'digits'?"]),
        ("faces.npy", ["did you mean 'file:faces.npy'?"]),
        ("zzzzzz", ["unknown name 'zzzzzz'; use one of digits"]),
        ("", ["unknown"]),
        (3, ["found 3"]),
        ("tfds:", ["not a TFDS name"]),
        ("tfds:Cifar10", ["not a TFDS name"]),
        ("tfds:../secret", ["not a TFDS name"]),
        ("file:", ["no path"]),
        ("file:?scale=2", ["no path"]),
        ("file:a.npy?scael=2", ["'scael'", "?scale"]),
        ("file:a.npy?scale=0", ["'0'", "positive"]),
        ("file:a.npy?scale=nan", ["'nan'"]),
        ("file:a.npy?scale=big", ["'big'"]),
    ],
)
def test_a_wrong_name_is_refused_before_any_data_is_read(refused, name, parts):
    for call in (datasets.check_name, datasets.load, datasets.known_shape):
        assert refused(ConfigError, *parts, call=lambda call=call: call(name)).field == "dataset"


@pytest.mark.parametrize("seed", [True, -1, 2**32, 1.0, "1", None])
def test_a_seed_outside_its_range_is_refused(refused, seed):
    assert refused(ConfigError, repr(seed), call=lambda: datasets.load("digits", seed=seed)).field == "data_seed"


def test_the_largest_seed_works():
    assert datasets.load("digits", seed=2**32 - 1).fingerprint


@pytest.mark.parametrize("kind", [np.int8, np.uint8, np.uint32, np.int64, np.uint64])
def test_a_seed_may_be_an_integer_of_numpy(kind):
    assert datasets.load("plane3d", seed=kind(7)).fingerprint == datasets.load("plane3d", seed=7).fingerprint


def test_import_is_light():
    heavy = "{'jax', 'sklearn', 'tensorflow_datasets', 'tensorflow', 'PIL', 'matplotlib'}"
    code = f"import sys; from aejax import datasets; datasets.check_name('mnist'); print({heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_missing_splits_are_disjoint_for_every_size():
    for n in (10, 11, 19, 1000):
        for given in ((), ("test",), ("validation",)):
            x = {split: np.arange(n, dtype=float)[:, None] for split in ("train", *given)}
            cut = base.cut_splits("t", base.Raw(x, dict.fromkeys(x), None, 1.0), seed=n)
            new = [cut.x[split].ravel() for split in SPLITS if split not in given]
            assert sorted(np.concatenate(new)) == list(range(n))
            assert min(map(len, new)) >= 1


def test_standardisation_keeps_the_digits_of_a_large_offset():
    z = np.random.default_rng(0).standard_normal((1000, 2))
    scaling = base.standardisation(z + 1e6)
    np.testing.assert_allclose(scaling.apply(z + 1e6), (z - z.mean(0)) / z.std(0), atol=1e-6)
    np.testing.assert_allclose(scaling.invert(scaling.apply(z + 1e6)), z + 1e6, rtol=1e-7)


def test_columns_that_do_not_vary_are_scaled_by_one_even_where_rounding_says_they_do():
    x = np.full((1001, 3), 0.1)
    x[:, 2] = np.arange(1001)
    assert x[:, 0].std() != 0  # the trap: the mean of equal numbers is not always that number
    scaling = base.standardisation(x)
    assert scaling.constant == 2
    np.testing.assert_array_equal(scaling.scale_d[:2], 1)
    np.testing.assert_allclose(scaling.apply(x)[:, :2], 0, atol=1e-12)


def test_noise_of_rounding_is_not_made_data():
    exact = np.arange(1000) % 7
    x = np.column_stack([exact, 1e6 + exact * np.spacing(1e6), -3e-9 * (1 + exact * 1e-15), 1e6 + exact * 1e-5])
    scaling = base.standardisation(x)
    assert scaling.constant == 2
    np.testing.assert_array_equal(scaling.scale_d[1:3], 1)
    np.testing.assert_allclose(scaling.apply(x)[:, 1:3], 0, atol=1e-8)
    np.testing.assert_allclose(scaling.apply(x)[:, [0, 3]].std(0), 1, rtol=1e-5)


@pytest.mark.parametrize("unit", [16, 255])
def test_bytes_divided_on_the_device_and_by_the_scaling_are_the_same_bits(unit):
    data = datasets.load("digits")
    data = base.Dataset(**{**vars(data), "unit": float(unit)})
    every = np.arange(256, dtype=np.uint8)[:, None]
    scaling = datasets.Scaling(np.zeros(1), np.full(1, float(unit)))
    np.testing.assert_array_equal(data.floats(every), scaling.apply(every))


def test_fingerprint_notices_values_dtype_shape_and_scaling():
    scaling = datasets.Scaling(np.zeros(1), np.ones(1))
    x = np.arange(6, dtype=np.uint8)
    variants = [x, x[::-1], x.astype(np.int8), x.reshape(2, 3), None]
    prints = {base.fingerprint({"x": v}, None, scaling) for v in variants}
    prints.add(base.fingerprint({"x": x}, (2, 3), scaling))
    prints.add(base.fingerprint({"x": x}, None, scaling._replace(scale_d=np.full(1, 2.0))))
    assert len(prints) == 7
