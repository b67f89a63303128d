"""Retrieval: how well near codings find rows of the same class, beside hashing and distances without a net.

Every test row asked is a query, every training row an answer, relevant when its label is the query's. Answers are
ranked by the distance of codings: squared Euclidean distance, which for bits is Hamming's. Of a tie, the mean over its
orders is taken, exactly (McSherry & Najork 2008), as bits tie a lot.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from aejax.datasets.base import Dataset, evenly_spaced
from aejax.evaluation import reconstruction
from aejax.evaluation.scores.base import Comparison, Measurement, Score, TrainedRun
from aejax.runtime import validate

BLOCK = 100
"""Queries ranked at once."""
QUANTISATION_STEPS = 50
_METHODS = {
    "": "of codings",
    "_pca_signs": "of the signs of as many principal components",
    "_itq": "of as many principal components turned towards their signs (ITQ, Gong & Lazebnik 2011)",
    "_pca": "of as many principal components",
    "_raw": "of the rows themselves",
}

_WORDS, _OTHERWISE = "mean average precision {ours} against {theirs}", "In squared error"
_AGAINST = (
    Comparison(
        "mean_average_precision",
        "mean_average_precision_itq",
        "ITQ's bits of as many components in retrieval",
        _WORDS,
        _OTHERWISE,
        higher=True,
        only="bit_entropy",
    ),
    Comparison(
        "mean_average_precision",
        "mean_average_precision_pca",
        "distances of as many components in retrieval",
        _WORDS,
        _OTHERWISE,
        higher=True,
    ),
)


class Ranking(NamedTuple):
    """Mean over queries of average precision, and of the share of relevant answers among the first `top`."""

    average_precision: float
    precision: float


def retrieval(*, queries: int = 500, top: int = 100) -> Score:
    """Rank all training rows for `queries` test rows (evenly spaced ones) by the distance of their codings.

    Numbers: mean_average_precision and precision_at_top, and the same of rankings without a net, with `_pca_signs`,
    `_itq`, `_pca` and `_raw` behind the name. Where the codings are bits: distinct_codes of the training rows, and
    bit_entropy, the mean over bits of the entropy of each in bits: 1 where it splits the rows in halves, 0 where it is
    always the same; None otherwise. Components are the reference PCA's, at most its rank. Raises ConfigError on
    numbers below 1.
    """
    queries = validate.whole_number("scores.retrieval.queries", queries, minimum=1)
    top = validate.whole_number("scores.retrieval.top", top, minimum=1)
    headers = [("distinct_codes", "codes", "distinct codes of the training rows, where they are bits")]
    headers += [("bit_entropy", "bit entropy", "mean entropy of a bit, in bits: 1 where it splits the rows in halves")]
    for name, of in _METHODS.items():
        short = name.replace("_", " ").strip()
        short = f", {short}" if short else ""
        what = f"training rows ranked by distance {of}, for {queries} test rows; relevant: the same label"
        headers.append((f"mean_average_precision{name}", f"mAP{short}", f"mean average precision, {what}"))
        headers.append((f"precision_at_top{name}", f"P@{top}{short}", f"relevant share of the first {top}, {what}"))
    return Score("retrieval", (("queries", queries), ("top", top)), _measure, tuple(headers), True, _AGAINST)


def _measure(trained: TrainedRun, queries: int, top: int) -> Measurement:
    dataset = trained.dataset
    asked = evenly_spaced(len(dataset.x_test), queries)
    answers_nk, asked_qk = (
        reconstruction.reconstruct(trained.autoencoder, trained.params, x_nd, unit=dataset.unit)[0]
        for x_nd in (dataset.x_train, dataset.x_test[asked])
    )
    labels_n, labels_q = np.asarray(dataset.y_train), np.asarray(dataset.y_test)[asked]
    components = min(trained.codings, trained.reference.params.rank)
    others = _without_a_net(dataset, tuple(asked.tolist()), components, top)
    rankings = {"": rank(answers_nk, labels_n, asked_qk, labels_q, top), **others}
    numbers: dict[str, float | None] = {"distinct_codes": None, "bit_entropy": None}
    if np.isin(answers_nk, (0, 1)).all():
        ones_k = answers_nk.mean(axis=0, dtype=np.float64)
        numbers["distinct_codes"] = float(len(np.unique(np.packbits(answers_nk.astype(bool), axis=1), axis=0)))
        numbers["bit_entropy"] = float(np.mean(_entropy(ones_k)))
    for name, ranking in rankings.items():
        numbers[f"mean_average_precision{name}"] = ranking.average_precision
        numbers[f"precision_at_top{name}"] = ranking.precision
    return numbers, {}


@functools.lru_cache(maxsize=8)
def _without_a_net(dataset: Dataset, asked: tuple[int, ...], components: int, top: int) -> dict[str, Ranking]:
    """The rankings that no training changes, once for all runs on the same data."""
    params = reconstruction.pca_reference(dataset).params
    some = list(asked)
    labels_n, labels_q = np.asarray(dataset.y_train), np.asarray(dataset.y_test)[some]
    raw_nd, raw_qd = dataset.floats(dataset.x_train), dataset.floats(dataset.x_test[some])
    to_kd, mean_d = params.components_kd[:components].astype(np.float32), params.mean_d.astype(np.float32)
    pca_nk, pca_qk = ((x_nd - mean_d) @ to_kd.T for x_nd in (raw_nd, raw_qd))
    turn_kk = iterative_quantisation(pca_nk, seed=components)  # one random start for each number of bits
    pairs = {
        "_pca_signs": (pca_nk > 0, pca_qk > 0),
        "_itq": (pca_nk @ turn_kk > 0, pca_qk @ turn_kk > 0),
        "_pca": (pca_nk, pca_qk),
        "_raw": (raw_nd, raw_qd),
    }
    return {
        name: rank(n.astype(np.float32), labels_n, q.astype(np.float32), labels_q, top)
        for name, (n, q) in pairs.items()
    }


def iterative_quantisation(z_nk: np.ndarray, seed: int, steps: int = QUANTISATION_STEPS) -> np.ndarray:
    """A rotation (k, k) that brings centred codings near the corners of a cube (Gong & Lazebnik 2011, ITQ): from a
    random one, signs for the rotation and the rotation for the signs (orthogonal Procrustes) in turn.
    """
    k = z_nk.shape[1]
    turn_kk = np.linalg.qr(np.random.default_rng(seed).normal(size=(k, k)))[0].astype(z_nk.dtype)
    for _ in range(steps):
        signs_nk = np.where(z_nk @ turn_kk > 0, 1, -1).astype(z_nk.dtype)
        left_kk, _, right_kk = np.linalg.svd(z_nk.T @ signs_nk)
        turn_kk = left_kk @ right_kk
    return turn_kk


def rank(answers_nk: np.ndarray, labels_n: np.ndarray, asked_qk: np.ndarray, labels_q: np.ndarray, top: int) -> Ranking:
    """Rank all answers for every query by squared Euclidean distance, ties as the mean over their orders."""
    average, first = [], []
    for distance_bn, relevant_bn in _distances(answers_nk, labels_n, asked_qk, labels_q):
        for distance_n, relevant_n in zip(distance_bn, relevant_bn, strict=True):
            order_n = np.argsort(distance_n)
            ordered_n = distance_n[order_n]
            starts_g = np.flatnonzero(np.diff(ordered_n, prepend=-1.0))
            sizes_g = np.diff(starts_g, append=len(ordered_n))
            found_g = np.add.reduceat(relevant_n[order_n].astype(np.int64), starts_g)
            average.append(average_precision(sizes_g, found_g))
            first.append(precision_at(sizes_g, found_g, top))
    return Ranking(float(np.mean(average)), float(np.mean(first)))


def average_precision(sizes_g: ArrayLike, relevant_g: ArrayLike) -> float:
    """Average precision of groups of tied answers, nearest first: the mean over all orders within the groups.

    At place i of a group of n answers, r of them relevant, after t answers with R relevant ones, precision counts with
    probability r / n and is `(R + 1 + (i - 1) (r - 1) / (n - 1)) / (t + i)` on average. 0 where nothing is relevant.
    """
    n_g, r_g = np.asarray(sizes_g, np.float64), np.asarray(relevant_g, np.float64)
    if r_g.sum() == 0:
        return 0.0
    before_g, found_g = np.cumsum(n_g) - n_g, np.cumsum(r_g) - r_g
    harmonic = _harmonic(int(n_g.sum()))
    tail_g = harmonic[(before_g + n_g).astype(int)] - harmonic[before_g.astype(int)]  # sum of 1 / (t + i)
    share_g = (r_g - 1) / np.maximum(n_g - 1, 1)
    sums_g = (found_g + 1) * tail_g + share_g * (n_g - (before_g + 1) * tail_g)
    return float((r_g / n_g * sums_g).sum() / r_g.sum())


def precision_at(sizes_g: ArrayLike, relevant_g: ArrayLike, top: int) -> float:
    """Relevant share of the first `top` answers (of all, where there are fewer), of a tie the mean over its orders."""
    n_g, r_g = np.asarray(sizes_g, np.float64), np.asarray(relevant_g, np.float64)
    top = int(min(top, n_g.sum()))
    taken_g = np.clip(top - (np.cumsum(n_g) - n_g), 0, n_g)
    return float((taken_g / n_g * r_g).sum() / top)


@functools.lru_cache(maxsize=4)
def _harmonic(n: int) -> np.ndarray:
    """(n + 1,) the sums of 1 / i up to 0, 1, … n."""
    return np.concatenate([[0.0], np.cumsum(1 / np.arange(1, n + 1))])


def _distances(
    answers_nk: np.ndarray, labels_n: np.ndarray, asked_qk: np.ndarray, labels_q: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Distances and relevance of all answers, in blocks of queries. Distances of bits are whole numbers, exactly."""
    squares_n = np.square(answers_nk, dtype=np.float32).sum(axis=1)
    for start in range(0, len(asked_qk), BLOCK):
        block_bk = asked_qk[start : start + BLOCK]
        distance_bn = np.square(block_bk).sum(axis=1)[:, None] + squares_n - 2 * block_bk @ answers_nk.T
        yield np.maximum(distance_bn, 0), labels_q[start : start + BLOCK, None] == labels_n


def _entropy(share_k: np.ndarray) -> np.ndarray:
    """Entropy, in bits, of a bit that is 1 in such a share of rows."""
    p_2k = np.clip(np.stack([share_k, 1 - share_k]), 1e-300, 1)
    return -(p_2k * np.log2(p_2k)).sum(axis=0)
