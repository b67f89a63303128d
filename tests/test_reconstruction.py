"""Reconstruction metrics, each compared with a value that is known without computing it."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aejax import datasets, nets, variants
from aejax.evaluation import pca, reconstruction
from aejax.variants import Autoencoder
from support import small_dataset

DATASET = small_dataset(rows=200, inputs=12)
REFERENCE = reconstruction.pca_reference(DATASET)


def predictor(encode, decode):
    """An autoencoder that needs no training."""
    return Autoencoder(lambda key: {}, lambda params, x: encode(x), lambda params, z: decode(z), lambda *_: None)  # type: ignore[arg-type]


def pca_autoencoder(params: pca.PCAParams):
    return predictor(lambda x: pca.encode(params, x), lambda z: pca.decode(params, z))


def test_the_mean_predictor_scores_zero():
    mean_1d = jnp.asarray(REFERENCE.params.mean_d, jnp.float32)[None, :]
    row = reconstruction.score(predictor(lambda x: x[:, :1], lambda z: 0 * z + mean_1d), {}, DATASET, REFERENCE)
    assert row["r2_test"] == pytest.approx(0, abs=1e-6)
    assert row["pca_equivalent_dimension"] == pytest.approx(0, abs=1e-5)


def test_perfect_reconstruction_scores_one():
    row = reconstruction.score(predictor(lambda x: x, lambda z: z), {}, DATASET, REFERENCE)
    assert row["sse_test"] == 0
    assert row["r2_test"] == 1
    assert row["pca_equivalent_dimension"] == 12


@pytest.mark.parametrize("k", [1, 2, 5, 11])
def test_r2_of_pca_on_fitted_rows_is_cumulative_explained_variance(k):
    both = np.concatenate([DATASET.x_train, DATASET.x_validation])
    reference = reconstruction.PCAReference(
        REFERENCE.params, pca.error_curve(REFERENCE.params, both, unit=DATASET.unit), 0.0
    )
    row = reconstruction.score(pca_autoencoder(pca.truncate(REFERENCE.params, k)), {}, _with_test(both), reference)
    assert row["r2_test"] == pytest.approx(REFERENCE.params.cumulative_explained_variance[k - 1], abs=1e-6)


@pytest.mark.parametrize("k", [1, 3, 8])
def test_pca_equivalent_dimension_of_pca_is_its_number_of_components(k):
    first = pca.truncate(REFERENCE.params, k)
    row = reconstruction.score(pca_autoencoder(first), {}, DATASET, REFERENCE, codings=k)
    assert row["sse_ratio"] == pytest.approx(1, rel=1e-5)
    assert row["pca_equivalent_dimension"] == pytest.approx(k, rel=1e-3)
    assert row["sse_test"] == pytest.approx(REFERENCE.curve[k], rel=1e-5)


@pytest.mark.parametrize("block_rows", [1, 7, 64, 200, 4096])
def test_sse_does_not_depend_on_block_size(block_rows, monkeypatch):
    autoencoder = variants.plain(nets.mlp(12, (8, 3)))
    params = autoencoder.init(jax.random.key(0))
    whole = reconstruction.sse(autoencoder, params, DATASET.x_test, unit=DATASET.unit)
    monkeypatch.setattr(reconstruction, "BLOCK_ROWS", block_rows)
    in_other_blocks = reconstruction.sse(autoencoder, params, DATASET.x_test, unit=DATASET.unit)
    assert in_other_blocks == pytest.approx(whole, rel=1e-6)


def test_sse_is_summed_over_inputs_and_averaged_over_rows():
    row = reconstruction.score(predictor(lambda x: x, lambda z: z + 0.5), {}, DATASET, REFERENCE)
    assert row["sse_test"] == pytest.approx(12 * 0.25, rel=1e-5)
    assert row["mse_test"] == pytest.approx(0.25, rel=1e-5)


def test_equivalent_dimension_interpolates_and_stays_on_the_curve():
    curve = np.array([10.0, 6.0, 4.0, 4.0, 1.0])
    for sse, dimension in [(12, 0), (10, 0), (8, 0.5), (6, 1), (5, 1.5), (4, 2), (2.5, 3.5), (1, 4), (0.1, 4)]:
        assert reconstruction.pca_equivalent_dimension(sse, curve) == pytest.approx(dimension)


def test_equivalent_dimension_is_the_smallest_number_of_components():
    assert reconstruction.pca_equivalent_dimension(5.0, np.array([10.0, 5.0, 5.0, 5.0, 1.0])) == 1
    assert reconstruction.pca_equivalent_dimension(0.0, np.array([10.0, 5.0, 1e-15, 2e-15, 0.0])) == 2  # the rank is 2
    assert reconstruction.pca_equivalent_dimension(7.0, np.array([10.0, 5.0, 6.0, 1.0])) == pytest.approx(0.6)


def test_ratio_to_a_pca_error_of_rounding_size_is_none():
    flat_nd = np.random.default_rng(0).normal(size=(60, 2)) @ np.random.default_rng(1).normal(size=(2, 6))
    parts = {f"x_{split}": flat_nd.astype(np.float32) for split in ("train", "validation", "test")}
    flat = datasets.Dataset(**{**vars(DATASET), **parts, "unit": 1.0})
    reference = reconstruction.pca_reference(flat)
    exact = reconstruction.PCAReference(reference.params, np.maximum(reference.curve - reference.curve[2], 0), 0.0)
    autoencoder = predictor(lambda x: x[:, :2], lambda z: z @ jnp.ones((2, 6)))
    assert reconstruction.score(autoencoder, {}, flat, exact)["sse_ratio"] is None


@pytest.mark.parametrize("degrees", [0.0, 0.01, 0.4, 30.0, 90.0])
def test_principal_angle_of_a_decoder_rotated_by_a_known_angle(degrees):
    components_kd = np.eye(5)[:2]
    rotated = np.eye(5)[:2]
    rotated[1] = np.cos(np.radians(degrees)) * np.eye(5)[1] + np.sin(np.radians(degrees)) * np.eye(5)[3]
    mixed = jnp.asarray(np.array([[2.0, 1.0], [0.5, -3.0]]) @ rotated, jnp.float32)  # the same span, another basis
    decoder = predictor(lambda x: x[:, :2], lambda z: z @ mixed + 4.0)
    assert reconstruction.principal_angle_max_deg(decoder, {}, components_kd) == pytest.approx(degrees, abs=1e-4)


def test_principal_angle_of_a_decoder_of_lower_rank_is_90_degrees():
    decoder = predictor(lambda x: x[:, :2], lambda z: z[:, :1] * jnp.ones((1, 5)))
    assert reconstruction.principal_angle_max_deg(decoder, {}, np.eye(5)[:2]) == 90


def test_reference_pca_is_fitted_on_training_and_validation_rows_only():
    changed = _with_test(DATASET.x_test[::-1] // 2)
    np.testing.assert_array_equal(
        reconstruction.pca_reference(changed).params.components_kd, REFERENCE.params.components_kd
    )
    assert REFERENCE.params.rows == len(DATASET.x_train) + len(DATASET.x_validation)


def test_more_codings_than_rank_are_compared_with_all_components():
    few = datasets.Dataset(
        **{**vars(DATASET), "x_train": DATASET.x_train[:4], "x_validation": DATASET.x_validation[:2]}
    )
    row = reconstruction.score(variants.plain(nets.mlp(12, (8,))), _params((8,)), few)
    assert row["pca_sse_test"] == pytest.approx(float(reconstruction.pca_reference(few).curve[-1]))


def _params(widths):
    return nets.mlp(12, widths).init(jax.random.key(0))


def _with_test(x_test):
    return datasets.Dataset(**{**vars(DATASET), "x_test": x_test})


def test_reference_is_cached_per_dataset_object_not_per_fingerprint():
    changed = dataclasses.replace(DATASET, x_test=DATASET.x_test[::-1] // 2)
    assert changed.fingerprint == DATASET.fingerprint
    assert reconstruction.pca_reference(DATASET) is REFERENCE
    assert reconstruction.pca_reference(changed).curve[0] != REFERENCE.curve[0]
