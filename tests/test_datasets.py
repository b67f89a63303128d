"""Names, seeds, splits, scaling, fingerprints, and the known truth of synthetic data."""

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
def test_known_shape_is_the_shape_that_load_gives(name):
    data = datasets.load(name, seed=5)
    assert datasets.known_shape(name) == data.x_train.shape == (len(data.x_train), data.inputs)


def test_tfds_and_file_names_have_no_known_shape():
    assert datasets.known_shape("tfds:cifar10") is datasets.known_shape("file:x.npy") is None


@pytest.mark.parametrize("name", SMALL)
def test_a_seed_fixes_all_numbers_and_another_seed_changes_them(name):
    first, repeated, other = (datasets.load(name, seed=seed) for seed in (7, 7, 8))
    assert first.fingerprint == repeated.fingerprint != other.fingerprint
    for split in SPLITS:
        np.testing.assert_array_equal(rows(first, split), rows(repeated, split))
        assert rows(first, split).flags.c_contiguous


def test_splits_of_digits_hold_every_row_once_with_its_label():
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    data = datasets.load("digits", seed=1)
    assert [len(rows(data, s)) for s in SPLITS] == [1258, 180, 359]
    assert (data.x_train.dtype, data.unit, data.image_shape) == (np.uint8, 16, (8, 8))
    pairs = [np.column_stack([rows(data, s), getattr(data, f"y_{s}")]) for s in SPLITS]
    expected = np.column_stack([images, labels]).astype(int)
    assert sorted(map(tuple, np.concatenate(pairs).tolist())) == sorted(map(tuple, expected.tolist()))
    assert data.floats(data.x_train).max() == 1


def test_plane3d_is_a_noisy_plane_standardised_by_its_training_rows():
    data = datasets.load("plane3d")
    assert {s: len(rows(data, s)) for s in SPLITS} == synthetic.PLANE3D_ROWS
    assert data.image_shape is None
    assert data.y_train is None
    np.testing.assert_allclose(data.x_train.mean(0, dtype=float), 0, atol=1e-6)
    np.testing.assert_allclose(data.x_train.std(0, dtype=float), 1, atol=1e-6)
    assert abs(data.x_test.mean()) > 1e-6  # test rows are scaled by the training statistics, not by their own
    residual = synthetic.plane3d(0).x["train"] @ [0.1, 0.3, -1]
    assert residual.std() == pytest.approx(0.1, rel=0.05)
    singular = np.linalg.svd(data.x_train, compute_uv=False)
    assert (singular[:2] ** 2).sum() > 0.9 * (singular**2).sum()


def test_lowrank_has_the_documented_eigenvalues_and_rows_with_that_covariance():
    mean_d, covariance_dd = synthetic.lowrank_covariance(3)
    noise = synthetic.LOWRANK_NOISE_VARIANCE
    expected = np.array([v + noise for v in synthetic.LOWRANK_SIGNAL_VARIANCES] + [noise] * 24)
    np.testing.assert_allclose(np.linalg.eigvalsh(covariance_dd)[::-1], expected, rtol=1e-9)
    assert (np.diff(expected[:9]) < 0).all()
    data = datasets.load("lowrank", seed=3)
    all_rows = np.concatenate([rows(data, s) for s in SPLITS]).astype(float)
    np.testing.assert_allclose(all_rows.mean(0), mean_d, atol=0.2)
    error = np.cov(all_rows.T) - covariance_dd
    assert np.linalg.norm(error) < 0.1 * np.linalg.norm(covariance_dd)
    np.testing.assert_array_equal(data.scaling.scale_d, [1])
    assert not np.allclose(covariance_dd, synthetic.lowrank_covariance(4)[1], atol=0.1)


@pytest.mark.parametrize("name", ["plane3d", "lowrank"])
def test_no_synthetic_row_is_drawn_twice(name):
    """Their splits are parts of one random stream. Streams of one seed would begin with the same rows."""
    data = datasets.load(name, seed=3)
    all_rows = np.concatenate([rows(data, split) for split in SPLITS])
    assert len(np.unique(all_rows, axis=0)) == len(all_rows)


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
def test_an_invalid_name_is_refused(refused, name, parts):
    for call in (datasets.check_name, datasets.load, datasets.known_shape):
        assert refused(ConfigError, *parts, call=lambda call=call: call(name)).field == "dataset"


@pytest.mark.parametrize("seed", [True, -1, 2**32, 1.0, "1", None])
def test_a_seed_outside_its_range_is_refused(refused, seed):
    assert refused(ConfigError, repr(seed), call=lambda: datasets.load("digits", seed=seed)).field == "data_seed"


def test_the_largest_seed_is_accepted():
    assert datasets.load("digits", seed=2**32 - 1).fingerprint


@pytest.mark.parametrize("kind", [np.int8, np.uint8, np.uint32, np.int64, np.uint64])
def test_a_seed_may_be_a_numpy_integer(kind):
    assert datasets.load("plane3d", seed=kind(7)).fingerprint == datasets.load("plane3d", seed=7).fingerprint


def test_checking_a_name_imports_no_slow_library():
    slow = "{'jax', 'sklearn', 'tensorflow_datasets', 'tensorflow', 'PIL', 'matplotlib'}"
    code = f"import sys; from aejax import datasets; datasets.check_name('mnist'); print({slow} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_splits_that_are_cut_are_disjoint_and_complete():
    for n in (10, 11, 19, 1000):
        for present in ((), ("test",), ("validation",)):
            x = {split: np.arange(n, dtype=float)[:, None] for split in ("train", *present)}
            cut = base.cut_splits("t", base.RawData(x, dict.fromkeys(x), None, 1.0), seed=n)
            cut_splits = [cut.x[split].ravel() for split in SPLITS if split not in present]
            assert sorted(np.concatenate(cut_splits)) == list(range(n))
            assert min(map(len, cut_splits)) >= 1


def test_centred_rows_are_the_values_minus_the_training_mean_of_each_column():
    rng = np.random.default_rng(0)
    x = {split: rng.integers(0, 50, (9, 4), dtype=np.uint8) + np.array([0, 20, 90, 200], np.uint8) for split in SPLITS}
    raw = base.RawData(x, dict.fromkeys(x), (2, 2), 255.0, centred=True)
    data = base.assemble("t", raw, seed=0)
    mean_d = x["train"].astype(float).mean(axis=0)
    for split in SPLITS:
        np.testing.assert_allclose(rows(data, split), (x[split] - mean_d) / 255, atol=1e-7)
    np.testing.assert_allclose(data.scaling.invert(data.x_test), x["test"], atol=1e-4)
    assert data.unit == 1


def test_standardisation_keeps_its_precision_with_a_large_offset():
    z = np.random.default_rng(0).standard_normal((1000, 2))
    scaling = base.standardisation(z + 1e6)
    np.testing.assert_allclose(scaling.apply(z + 1e6), (z - z.mean(0)) / z.std(0), atol=1e-6)
    np.testing.assert_allclose(scaling.invert(scaling.apply(z + 1e6)), z + 1e6, rtol=1e-7)


def test_constant_columns_have_scale_one_although_their_computed_deviation_is_not_zero():
    x = np.full((1001, 3), 0.1)
    x[:, 2] = np.arange(1001)
    assert x[:, 0].std() != 0  # because the computed mean of equal numbers is not always that number
    scaling = base.standardisation(x)
    assert scaling.constant == 2
    np.testing.assert_array_equal(scaling.scale_d[:2], 1)
    np.testing.assert_allclose(scaling.apply(x)[:, :2], 0, atol=1e-12)


def test_columns_of_rounding_errors_have_scale_one():
    steps = np.arange(1000) % 7
    x = np.column_stack([steps, 1e6 + steps * np.spacing(1e6), -3e-9 * (1 + steps * 1e-15), 1e6 + steps * 1e-5])
    scaling = base.standardisation(x)
    assert scaling.constant == 2
    np.testing.assert_array_equal(scaling.scale_d[1:3], 1)
    np.testing.assert_allclose(scaling.apply(x)[:, 1:3], 0, atol=1e-8)
    np.testing.assert_allclose(scaling.apply(x)[:, [0, 3]].std(0), 1, rtol=1e-5)


@pytest.mark.parametrize("unit", [16, 255])
def test_division_by_the_unit_and_by_the_scaling_give_the_same_bits(unit):
    data = datasets.load("digits")
    data = base.Dataset(**{**vars(data), "unit": float(unit)})
    all_bytes = np.arange(256, dtype=np.uint8)[:, None]
    scaling = datasets.Scaling(np.zeros(1), np.full(1, float(unit)))
    np.testing.assert_array_equal(data.floats(all_bytes), scaling.apply(all_bytes))


def test_the_fingerprint_depends_on_values_dtype_shape_and_scaling():
    scaling = datasets.Scaling(np.zeros(1), np.ones(1))
    x = np.arange(6, dtype=np.uint8)
    arrays = [x, x[::-1], x.astype(np.int8), x.reshape(2, 3), None]
    fingerprints = {base.fingerprint({"x": array}, None, scaling) for array in arrays}
    fingerprints.add(base.fingerprint({"x": x}, (2, 3), scaling))
    fingerprints.add(base.fingerprint({"x": x}, None, scaling._replace(scale_d=np.full(1, 2.0))))
    assert len(fingerprints) == 7
