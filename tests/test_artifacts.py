"""Arrays of a trained run for its figures, compared with NumPy, SciPy and scikit-learn."""

import jax
import numpy as np
import pytest
from scipy.spatial.distance import cdist
from sklearn.decomposition import PCA

from aejax import nets, variants
from aejax.evaluation import artifacts, density, scores
from support import small_dataset

RNG = np.random.default_rng(0)
DATASET = small_dataset().replace(image_shape=(4, 3), y_test=np.arange(72) // 6)
X_TRAIN = DATASET.x_train / 255
X_TEST = DATASET.x_test / 255
CODINGS = 4
LAYERS = {
    "encoder": {"kernel": RNG.normal(size=(12, CODINGS)), "bias": np.array([2.0, -1.0, 0.5, -3.0])},
    "decoder": {"kernel": 0.05 * RNG.normal(size=(CODINGS, 12)), "bias": np.full(12, 0.5)},
}
"""An affine autoencoder. Its codings are far from centred, and what it decodes is between black and white."""
PIXEL = 0.51 / 255
"""Largest error of a value that is stored as a byte."""


def encode(x_nd):
    return x_nd @ LAYERS["encoder"]["kernel"] + LAYERS["encoder"]["bias"]


def decode(z_nk):
    return z_nk @ LAYERS["decoder"]["kernel"] + LAYERS["decoder"]["bias"]


def trained_run(make, dataset=DATASET):
    autoencoder = make(nets.mlp(12, (CODINGS,)))
    params = autoencoder.init(jax.random.key(0))
    params |= {part: {"layer_0": jax.tree.map(np.float32, layer)} for part, layer in LAYERS.items()}
    return scores.TrainedRun(autoencoder, params, {}, dataset, CODINGS, jax.random.key(0))


@pytest.fixture(scope="module")
def collected():
    """The arrays of a run without a prior."""
    return artifacts.collect(trained_run(variants.plain), {})


def test_the_codings_that_vary_most_are_those_of_largest_variance():
    z_nk = RNG.normal(size=(500, 5)) * [1, 3, 0.1, 2, 4] + [0, 0, 100, -50, 0]
    assert artifacts.most_varying(z_nk, 3).tolist() == [1, 3, 4]
    assert artifacts.most_varying(z_nk, 9).tolist() == [0, 1, 2, 3, 4]


def test_a_stored_traversal_holds_the_other_codings_at_their_training_means(collected):
    z_nk = encode(X_TRAIN)
    levels = len(artifacts.TRAVERSAL_QUANTILES)
    np.testing.assert_array_equal(collected["traversals/units"], range(CODINGS))
    for unit, shown in enumerate(collected["traversals/images"]):
        varied_sk = np.tile(z_nk.mean(axis=0), (levels, 1))
        varied_sk[:, unit] = np.quantile(z_nk[:, unit], artifacts.TRAVERSAL_QUANTILES)
        np.testing.assert_allclose(shown / 255, decode(varied_sk), atol=PIXEL)


def test_with_a_prior_a_stored_traversal_holds_the_other_codings_at_zero():
    arrays = artifacts.collect(trained_run(variants.variational), {})
    for unit, shown in zip(arrays["traversals/units"], arrays["traversals/images"], strict=True):
        varied_sk = np.zeros((len(artifacts.TRAVERSAL_DEVIATIONS), CODINGS))
        varied_sk[:, unit] = artifacts.TRAVERSAL_DEVIATIONS
        np.testing.assert_allclose(shown / 255, np.clip(decode(varied_sk), 0, 1), atol=PIXEL)


def test_quantiles_are_those_of_evenly_spaced_training_rows(monkeypatch):
    monkeypatch.setattr(artifacts, "DENSITY_ROWS", 10)
    arrays = artifacts.collect(trained_run(variants.plain), {})
    z_nk = encode(X_TRAIN[np.linspace(0, 71, 10).astype(int)])
    wanted_sk = np.quantile(z_nk, artifacts.TRAVERSAL_QUANTILES, axis=0)
    np.testing.assert_allclose(arrays["codings/quantiles"], wanted_sk, atol=1e-4)
    np.testing.assert_allclose(arrays["density/gaussian/means_ck"][0], z_nk.mean(axis=0), atol=1e-4)


def test_the_rows_that_activate_a_coding_are_those_of_its_largest_values(collected):
    z_nk = encode(X_TEST)
    for unit, shown in zip(collected["activating/units"], collected["activating/images"], strict=True):
        rows = np.argsort(-z_nk[:, unit])[: artifacts.COUNTS["each"]]
        np.testing.assert_array_equal(shown, DATASET.x_test[rows])


@pytest.mark.parametrize("block_rows", [10, 4096])
@pytest.mark.parametrize("unit", [1.0, 255.0])
def test_the_nearest_training_row_is_that_of_scipy(unit, block_rows, monkeypatch):
    monkeypatch.setattr(artifacts, "_NEAREST_ROWS", block_rows)
    x_train = DATASET.x_train if unit == 255 else X_TRAIN.astype(np.float32)
    dataset = DATASET.replace(x_train=x_train, unit=unit)
    x_md = RNG.uniform(size=(50, 12))
    nearest_m, distance_m = artifacts.nearest(dataset, x_md)
    wanted_mn = cdist(x_md, X_TRAIN)
    np.testing.assert_array_equal(nearest_m, wanted_mn.argmin(axis=1))
    np.testing.assert_allclose(distance_m, wanted_mn.min(axis=1), rtol=1e-4)
    assert len(np.unique(nearest_m // 10)) > 1, "rows of several blocks are the nearest"


def test_samples_of_each_density_stand_beside_the_rows_that_are_nearest_to_them():
    mixture = density.fit(encode(X_TRAIN), "mixture", components=2).arrays("density/mixture")
    arrays = artifacts.collect(trained_run(variants.variational), mixture)
    for kind in ("prior", "mixture"):
        distances_mn = cdist(arrays[f"samples/{kind}/images"] / 255, X_TRAIN)
        rounding = PIXEL * np.sqrt(12)
        np.testing.assert_allclose(arrays[f"samples/{kind}/distance"], distances_mn.min(axis=1), atol=rounding)
        shown_m = np.linalg.norm(
            (arrays[f"samples/{kind}/images"] - 1.0 * arrays[f"samples/{kind}/nearest"]) / 255, axis=1
        )
        np.testing.assert_allclose(shown_m, distances_mn.min(axis=1), atol=2 * rounding)
        assert set(map(bytes, arrays[f"samples/{kind}/nearest"])) <= set(map(bytes, DATASET.x_train))


def test_a_map_is_the_plane_of_the_first_principal_components_of_the_codings(collected):
    wanted_n2 = PCA(2).fit_transform(encode(X_TEST))
    signs_2 = np.sign((collected["codings/test"] * wanted_n2).sum(axis=0))
    np.testing.assert_allclose(collected["codings/test"], wanted_n2 * signs_2, atol=1e-4)


def test_the_points_of_a_map_are_evenly_spaced_rows_with_their_own_labels(collected, monkeypatch):
    monkeypatch.setattr(artifacts, "MAP_ROWS", 10)
    arrays = artifacts.collect(trained_run(variants.plain), {})
    rows = np.linspace(0, 71, 10).astype(int)
    np.testing.assert_array_equal(arrays["codings/labels"], np.asarray(DATASET.y_test)[rows])
    for name in ("codings/test", "codings/pca"):
        np.testing.assert_allclose(arrays[name], collected[name][rows], atol=1e-4)


def test_examples_stand_beside_those_of_a_pca_with_as_many_components_as_codings(collected):
    original_nd = X_TEST[::6][:10]  # the first row of each class
    np.testing.assert_allclose(collected["examples/original"], original_nd, rtol=1e-6)
    np.testing.assert_allclose(collected["examples/reconstruction"], decode(encode(original_nd)), atol=1e-5)
    model = PCA(CODINGS).fit(np.concatenate([X_TRAIN, DATASET.x_validation / 255]))
    wanted_nd = model.inverse_transform(model.transform(original_nd))
    np.testing.assert_allclose(collected["examples/pca"], wanted_nd, atol=1e-4)


def test_features_are_stored_with_the_standard_deviations_of_their_inputs(collected):
    np.testing.assert_allclose(collected["features"], LAYERS["encoder"]["kernel"].T, rtol=1e-6)
    np.testing.assert_allclose(collected["features/deviation"], X_TRAIN.std(axis=0), rtol=1e-4)
