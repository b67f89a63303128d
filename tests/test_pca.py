"""Exact PCA against scikit-learn's exact solver, closed forms, and the published table."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import multivariate_normal
from sklearn.decomposition import PCA

from aejax import datasets
from aejax.datasets.mnist import read_idx
from aejax.datasets.synthetic import lowrank_covariance
from aejax.evaluation import pca
from aejax.evaluation.reconstruction import pca_reference
from aejax.runtime.errors import DataError

RNG = np.random.default_rng(0)
RANK_DEFICIENT = RNG.normal(size=(60, 4)) @ RNG.normal(size=(4, 20)) + 3.0
SHAPES = {
    "tall": RNG.normal(size=(500, 20)) * np.linspace(1, 5, 20) + 100.0,
    "wide": RNG.normal(size=(15, 80)) * np.linspace(1, 3, 80) - 7.0,
    "square": RNG.normal(size=(30, 30)),
    "rank-deficient": RANK_DEFICIENT,
    "wide and rank-deficient": RANK_DEFICIENT[:12],
    "one column": RNG.normal(size=(9, 1)),
}


@pytest.mark.parametrize("name", SHAPES)
def test_agrees_with_scikit_learn(name):
    x_nd = SHAPES[name]
    ours = pca.fit(x_nd)
    theirs = PCA(svd_solver="full").fit(x_nd)
    rank = ours.rank
    assert rank == np.linalg.matrix_rank(x_nd - x_nd.mean(0))
    np.testing.assert_allclose(ours.mean_d, theirs.mean_, rtol=1e-10)
    np.testing.assert_allclose(ours.variances_k[:rank], theirs.explained_variance_[:rank], rtol=1e-5)
    np.testing.assert_allclose(ours.components_kd[:rank], np.asarray(theirs.components_)[:rank], rtol=1e-5, atol=1e-9)
    np.testing.assert_allclose(ours.cumulative_explained_variance, theirs.explained_variance_ratio_.cumsum(), rtol=1e-5)
    assert not ours.components_kd[rank:].any()
    assert len(ours.components_kd) == min(x_nd.shape)


def test_a_truncated_pca_explains_shares_of_the_whole_variance():
    theirs = PCA(3, svd_solver="full").fit(SHAPES["tall"])
    ours = pca.truncate(pca.fit(SHAPES["tall"]), 3)
    np.testing.assert_allclose(ours.cumulative_explained_variance, theirs.explained_variance_ratio_.cumsum(), rtol=1e-8)


@pytest.mark.parametrize("name", SHAPES)
def test_error_curve_is_the_error_of_every_truncation(name):
    x_nd = SHAPES[name]
    params = pca.fit(x_nd)
    new_nd = x_nd[::2] + RNG.normal(size=x_nd[::2].shape)
    curve = pca.error_curve(params, new_nd)
    for k in range(len(curve)):
        first = params._replace(components_kd=params.components_kd[:k])
        kept = (new_nd - params.mean_d) @ first.components_kd.T @ first.components_kd + params.mean_d
        np.testing.assert_allclose(curve[k], np.square(new_nd - kept).sum(1).mean(), rtol=1e-8, atol=1e-9)


def test_encode_and_decode_can_be_compiled_and_agree_with_scikit_learn():
    x_nd = np.asarray(SHAPES["tall"], np.float32)
    params = pca.truncate(pca.fit(x_nd), 5)
    z_nk = jax.jit(pca.encode)(params, jnp.asarray(x_nd))
    reconstruction = jax.jit(pca.decode)(params, z_nk)
    theirs = PCA(5, svd_solver="full").fit(x_nd.astype(np.float64))
    assert z_nk.dtype == reconstruction.dtype == jnp.float32
    np.testing.assert_allclose(np.abs(z_nk), np.abs(theirs.transform(x_nd)), rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(reconstruction, theirs.inverse_transform(theirs.transform(x_nd)), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["tall", "wide", "rank-deficient"])
def test_the_noise_of_probabilistic_pca_is_the_mean_variance_of_all_other_directions(name):
    """Those without variance count, too (Tipping & Bishop 1999, equation 8). SciPy gives the density."""
    x_nd = SHAPES[name]
    mean_d = x_nd.mean(axis=0)
    values_d, vectors_dd = np.linalg.eigh(np.cov(x_nd.T, bias=True))
    noise = values_d[:-2].mean()
    leading_d2 = vectors_dd[:, -2:]
    covariance_dd = leading_d2 @ np.diag(values_d[-2:] - noise) @ leading_d2.T + noise * np.eye(len(mean_d))
    wanted_n = multivariate_normal(mean_d, covariance_dd).logpdf(x_nd + 1)
    log_likelihood_n = pca.log_likelihood(pca.fit(x_nd), 2, x_nd + 1)
    assert log_likelihood_n is not None
    np.testing.assert_allclose(log_likelihood_n, wanted_n, rtol=1e-7)


def test_signs_are_deterministic():
    params = pca.fit(SHAPES["tall"])
    flipped = pca.fit(SHAPES["tall"][::-1].copy())
    np.testing.assert_allclose(params.components_kd, flipped.components_kd, atol=1e-9)
    largest = np.abs(params.components_kd).argmax(axis=1)
    assert (params.components_kd[np.arange(20), largest] > 0).all()


def test_bytes_floats_and_small_blocks_give_the_same_pca(monkeypatch):
    bytes_nd = RNG.integers(0, 256, (700, 12)).astype(np.uint8)
    whole = pca.fit(bytes_nd, unit=255.0)
    curve = pca.error_curve(whole, bytes_nd, unit=255.0)
    monkeypatch.setattr(pca, "BLOCK_ROWS", 64)
    np.testing.assert_allclose(pca.fit(bytes_nd / 255.0).components_kd, whole.components_kd, atol=1e-10)
    np.testing.assert_allclose(pca.fit(bytes_nd, unit=255.0).variances_k, whole.variances_k, rtol=1e-12)
    np.testing.assert_allclose(pca.error_curve(whole, bytes_nd, unit=255.0), curve, rtol=1e-10, atol=1e-12)


def test_fit_recovers_the_true_components_of_lowrank():
    mean_d, covariance_dd = lowrank_covariance(0)
    true_values, true_vectors = np.linalg.eigh(covariance_dd)
    params = pca_reference(datasets.load("lowrank")).params
    cosines = np.abs(np.sum(params.components_kd[:8] * true_vectors[:, ::-1][:, :8].T, axis=1))
    assert (cosines > 0.995).all()
    np.testing.assert_allclose(params.variances_k[:8], true_values[::-1][:8], rtol=0.1)
    np.testing.assert_allclose(params.mean_d, mean_d, atol=0.3)


def test_fit_does_not_change_the_precision_of_the_process():
    pca.fit(SHAPES["tall"])
    assert not jax.config.read("jax_enable_x64")
    assert jnp.ones(3).dtype == jnp.float32


@pytest.mark.parametrize(
    ("x_nd", "problem"),
    [
        (np.ones((1, 4)), r"\(1, 4\)"),
        (np.ones(4), r"\(4,\)"),
        (np.full((5, 3), 2.0), "every row is the same"),
        (np.array([[1.0, 2.0], [1.0, np.nan]]), "column 1 is not finite"),
        (np.ones((3, 2), complex), "complex128"),
        (np.array([["a"], ["b"]]), "<U1"),
    ],
)
def test_fit_refuses_data_without_components(x_nd, problem):
    with pytest.raises(DataError, match=problem):
        pca.fit(x_nd)


def test_truncate_refuses_more_components_than_exist():
    with pytest.raises(DataError, match=r"16 components, but the data have 15 rows and 80 columns"):
        pca.truncate(pca.fit(SHAPES["wide"]), 16)
    with pytest.raises(DataError, match="ask for 0 to 15"):
        pca.truncate(pca.fit(SHAPES["wide"]), -1)


def test_encode_and_decode_refuse_integers():
    params = pca.truncate(pca.fit(SHAPES["tall"]), 3)
    for call in (
        lambda: pca.encode(params, jnp.ones((2, 20), jnp.uint8)),
        lambda: pca.decode(params, jnp.ones((2, 3), int)),
    ):
        with pytest.raises(DataError, match=r"pass floats: dataset\.floats\(x\)"):
            call()


def test_truncate_warns_of_zero_components_beyond_the_rank():
    params = pca.fit(RANK_DEFICIENT)
    with pytest.warns(UserWarning, match="the data have rank 4: the last 3 of 7 components are zero"):
        assert not pca.truncate(params, 7).components_kd[4:].any()


@pytest.mark.parametrize("k", [2, 10, 20, 30, 50, 100])
def test_mnist_errors_agree_with_the_published_table_to_four_decimals(mnist_pca, k):
    params, train_curve, test_curve = mnist_pca
    table = {  # k: SSE train, SSE test, cumulative explained variance
        2: (43.8669, 43.6449, 0.1680),
        10: (26.9873, 26.7139, 0.4881),
        20: (18.7922, 18.4539, 0.6436),
        30: (14.2071, 13.8663, 0.7305),  # test: 13.87 in Hinton & Salakhutdinov 2006
        50: (9.2455, 9.0043, 0.8246),
        100: (4.5012, 4.4028, 0.9146),
    }
    measured = (train_curve[k], test_curve[k], params.cumulative_explained_variance[k - 1])
    assert tuple(round(float(value), 4) for value in measured) == table[k]


def test_error_of_the_mean_predictor_on_mnist(mnist_pca):
    assert round(float(mnist_pca[2][0]), 4) == 52.8965


@pytest.fixture(scope="module")
def mnist_pca(mnist_dir):
    x_train, x_test = (read_idx(mnist_dir, split, "images").reshape(-1, 784) for split in ("train", "test"))
    params = pca.fit(x_train, unit=255.0)
    return params, *(pca.error_curve(params, x, unit=255.0) for x in (x_train, x_test))
