"""Retrieval: average precision with ties is compared with all orders, and baselines are tested on known answers."""

import dataclasses
import itertools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.distance import cdist
from scipy.stats import entropy, ortho_group
from sklearn.decomposition import PCA
from sklearn.metrics import average_precision_score

from aejax import nets, variants
from aejax.evaluation import reconstruction, scores
from aejax.evaluation.scores.base import TrainedRun
from aejax.evaluation.scores.retrieval import average_precision, iterative_quantisation, precision_at, rank
from aejax.runtime.errors import ConfigError
from aejax.training import train
from support import rows_of, small_dataset


def average_precision_of_list(relevant):
    """Average precision of an order without ties, by definition."""
    precisions = [sum(relevant[: i + 1]) / (i + 1) for i in range(len(relevant)) if relevant[i]]
    return sum(precisions) / len(precisions)


@pytest.mark.parametrize(
    "groups", [[[1, 0]], [[1, 1, 0], [0]], [[0], [1, 0, 0, 1], [1]], [[0, 0], [1, 1]], [[1], [0, 1, 0]]]
)
def test_metrics_with_ties_are_means_over_all_orders(groups):
    orders = itertools.product(*(itertools.permutations(group) for group in groups))
    lists = [list(itertools.chain(*order)) for order in orders]
    sizes = [len(group) for group in groups]
    relevant = [sum(group) for group in groups]
    expected = np.mean([average_precision_of_list(order) for order in lists])
    assert average_precision(sizes, relevant) == pytest.approx(expected, rel=1e-12)
    for top in (1, 2, 3, 50):
        expected = np.mean([sum(order[:top]) / min(top, len(order)) for order in lists])
        assert precision_at(sizes, relevant, top) == pytest.approx(expected, rel=1e-12)


def test_average_precision_without_ties_agrees_with_scikit_learn():
    rng = np.random.default_rng(0)
    answers_nk = rng.normal(size=(60, 4)).astype("f4")
    queries_qk = rng.normal(size=(7, 4)).astype("f4")
    labels_n = rng.integers(0, 3, 60)
    labels_q = rng.integers(0, 3, 7)
    ranking = rank(answers_nk, labels_n, queries_qk, labels_q, top=5)
    distance_qn = np.square(answers_nk[None] - queries_qk[:, None]).sum(-1)
    by_sklearn = [average_precision_score(labels_n == q, -d) for q, d in zip(labels_q, distance_qn, strict=True)]
    assert ranking.average_precision == pytest.approx(np.mean(by_sklearn), rel=1e-6)
    nearest_q5 = np.argsort(distance_qn, axis=1)[:, :5]
    assert ranking.precision == pytest.approx((labels_n[nearest_q5] == labels_q[:, None]).mean())


def test_precision_of_constant_codes_is_the_class_share_and_of_class_codes_is_1():
    labels_n = np.repeat([0, 1], [30, 10])
    same = rank(np.zeros((40, 3), "f4"), labels_n, np.zeros((2, 3), "f4"), np.array([0, 1]), top=8)
    assert same.precision == pytest.approx(0.5)  # mean of the class shares 0.75 and 0.25
    bits_nk = np.eye(2, dtype="f4")[labels_n]
    best = rank(bits_nk, labels_n, bits_nk[[0, 39]], np.array([0, 1]), top=8)
    assert best == (1.0, 1.0)


def test_iterative_quantisation_recovers_a_rotated_cube():
    rng = np.random.default_rng(0)
    corners_nk = np.where(rng.random((400, 5)) > 0.5, 1.0, -1.0)
    rotated_nk = (corners_nk + 0.1 * rng.normal(size=corners_nk.shape)) @ ortho_group.rvs(5, random_state=1)
    errors = {}
    for name, rotation_kk in (("none", np.eye(5)), ("itq", iterative_quantisation(rotated_nk, seed=2))):
        np.testing.assert_allclose(rotation_kk @ rotation_kk.T, np.eye(5), atol=1e-9)
        z_nk = rotated_nk @ rotation_kk
        errors[name] = np.square(z_nk - np.sign(z_nk)).mean()
    assert errors["itq"] == pytest.approx(0.01, rel=0.2)  # variance of the noise
    assert errors["none"] > 10 * errors["itq"]


DATASET = small_dataset()
assert DATASET.y_train is not None
assert DATASET.y_test is not None
Y_TRAIN = DATASET.y_train
Y_TEST = DATASET.y_test


def trained(variant, widths=(3,), **hyper):
    autoencoder = variant(nets.mlp(12, widths))
    fit = train.fit(autoencoder, DATASET, seed=0, epochs=2, batch_size=24, learning_rate=0.01, l2=0.0, **hyper)
    return TrainedRun(autoencoder, fit.params, {"l2": 0.0, **hyper}, DATASET, widths[-1], jax.random.key(0))


def test_numbers_of_trained_runs():
    bits, arrays = scores.retrieval(queries=40, top=7)(trained(variants.hashing, noise=1.0))
    reals, _ = scores.retrieval(queries=40, top=7)(trained(variants.plain))
    assert arrays == {}
    assert set(bits) == set(reals) == {field for field, _, _ in scores.retrieval().headers}
    assert reals["distinct_codes"] is None
    assert 0 <= (bits["bit_entropy"] or 0.0) <= 1
    run = trained(variants.hashing, noise=1.0)
    z_nk, queries_qk = (
        reconstruction.reconstruct(run.autoencoder, run.params, x, unit=DATASET.unit)[0]
        for x in (DATASET.x_train, DATASET.x_test[np.linspace(0, 71, 40).astype(int)])
    )
    assert bits["distinct_codes"] == len({tuple(z) for z in z_nk})
    labels_q = Y_TEST[np.linspace(0, 71, 40).astype(int)]
    hamming_qn = (queries_qk[:, None] != z_nk[None]).sum(-1)
    average = []
    for q, d in zip(labels_q, hamming_qn, strict=True):
        groups = [Y_TRAIN[d == value] == q for value in np.unique(d)]
        average.append(average_precision([len(g) for g in groups], [g.sum() for g in groups]))
    assert bits["mean_average_precision"] == pytest.approx(np.mean(average), rel=1e-9)
    for name in ("mean_average_precision_raw", "mean_average_precision_itq", "precision_at_top_pca"):
        assert bits[name] == reals[name]  # does not depend on training


def untrained(variant):
    autoencoder = variant(nets.mlp(12, (3,)))
    return TrainedRun(autoencoder, autoencoder.init(jax.random.key(0)), {}, DATASET, 3, jax.random.key(0))


BASELINES = {
    "pca_signs": lambda pca, x_nd: pca.transform(x_nd) > 0,
    "pca": lambda pca, x_nd: pca.transform(x_nd),
    "raw": lambda pca, x_nd: x_nd,
}


@pytest.mark.parametrize("name", BASELINES)
def test_rankings_without_a_net_are_those_of_scikit_learns_components(name):
    numbers, _ = scores.retrieval(queries=72, top=7)(untrained(variants.plain))
    x_train = DATASET.x_train / 255
    pca = PCA(3).fit(np.concatenate([x_train, DATASET.x_validation / 255]))
    answers_nk = 1.0 * BASELINES[name](pca, x_train)
    queries_qk = 1.0 * BASELINES[name](pca, DATASET.x_test / 255)
    average = []
    precision = []
    for distance_n, label in zip(cdist(queries_qk, answers_nk, "sqeuclidean"), Y_TEST, strict=True):
        groups = [Y_TRAIN[distance_n == value] == label for value in np.unique(distance_n)]
        sizes = [len(group) for group in groups]
        relevant = [group.sum() for group in groups]
        average.append(average_precision(sizes, relevant))
        precision.append(precision_at(sizes, relevant, 7))
    assert numbers[f"mean_average_precision_{name}"] == pytest.approx(np.mean(average), rel=1e-9)
    assert numbers[f"precision_at_top_{name}"] == pytest.approx(np.mean(precision), rel=1e-9)


def test_bit_entropy_is_the_mean_entropy_of_the_bits_in_bits():
    """The first bit splits the training rows in halves, the second one is 1 for about a quarter, the third always."""
    thresholds_3 = np.quantile(DATASET.x_train[:, :3] / 255, [0.5, 0.75, 0.0], axis=0).diagonal() - 1e-3
    run = untrained(variants.plain)

    def encode(params, x_bd):
        return (x_bd[:, :3] > jnp.asarray(thresholds_3, jnp.float32)[None, :]).astype(jnp.float32)

    numbers, _ = scores.retrieval()(dataclasses.replace(run, autoencoder=run.autoencoder._replace(encode=encode)))
    shares_3 = (DATASET.x_train[:, :3] / 255 > thresholds_3).mean(axis=0)
    assert shares_3[2] == 1
    assert numbers["bit_entropy"] == pytest.approx(entropy([shares_3, 1 - shares_3], base=2).mean(), rel=1e-6)
    assert 0.5 < entropy([shares_3, 1 - shares_3], base=2).mean() < 2 / 3


def test_invalid_options_are_refused_and_valid_ones_stored(refused):
    refused(ConfigError, "scores.retrieval.top", "at least 1", call=lambda: scores.retrieval(top=0))
    refused(ConfigError, "scores.retrieval.queries", "True", call=lambda: scores.retrieval(queries=True))
    assert scores.from_config(scores.retrieval(top=5).config()) == scores.retrieval(top=5)
    assert scores.retrieval().needs_labels


def committed(label, dataset="digits", **hyper):
    """The committed rows with this label and these hyper-parameters."""
    rows = [
        row for row in rows_of(Path(__file__).resolve().parents[1] / "results/hashing") if row["dataset"] == dataset
    ]
    rows = [row for row in rows if row["label"] == label and hyper.items() <= row["hyper"].items()]
    assert len(rows) == {"digits": 3, "mnist": 2}[dataset]
    return rows


def test_committed_numbers_on_mnist_are_in_the_same_order():
    noisy = committed("bits", "mnist", noise=4.0)
    noiseless = committed("bits", "mnist", noise=0.0)
    best = min(row["scores"]["mean_average_precision"] for row in noisy)
    assert best > max(row["scores"]["mean_average_precision"] for row in noiseless)
    assert best > 1.4 * noisy[0]["scores"]["mean_average_precision_pca_signs"]
    for row in noisy:
        assert row["scores"]["mean_average_precision"] < 0.85 * row["scores"]["mean_average_precision_itq"]


def test_committed_numbers_on_digits():
    """Bits trained with noise retrieve better than signs of components and bits without noise, but not than ITQ."""
    noisy = committed("bits", noise=4.0)
    noiseless = committed("bits", noise=0.0)
    reals = committed("real codings")
    precision = {
        name: [row["scores"]["mean_average_precision"] for row in rows]
        for name, rows in (("noisy", noisy), ("noiseless", noiseless), ("reals", reals))
    }
    signs, itq, raw = (noisy[0]["scores"][f"mean_average_precision_{name}"] for name in ("pca_signs", "itq", "raw"))
    assert min(precision["noisy"]) > max(precision["noiseless"])
    assert min(precision["noisy"]) > 1.6 * signs
    assert np.mean(precision["noisy"]) < itq < np.mean(precision["reals"]) + 0.01 < raw
    assert max(row["sse_test"] for row in noisy) < 0.7 * min(row["sse_test"] for row in noiseless)
