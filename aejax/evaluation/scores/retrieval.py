"""Retrieval of rows of the same class by the distance of codings, compared with hashing and distances without a net.

Test rows are queries, and all training rows are the answers. An answer is relevant if it has the label of the query.
Answers are ranked by the squared Euclidean distance of codings, which for bits is the Hamming distance. Bits often have
equal distances; metrics are therefore exact means over all orders of tied answers (McSherry & Najork 2008).
"""

from __future__ import annotations

import functools
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
"""Iterations of ITQ."""
_METHODS = {
    "": "of codings",
    "_pca_signs": "of the signs of as many principal components",
    "_itq": "of as many principal components turned towards their signs (ITQ, Gong & Lazebnik 2011)",
    "_pca": "of as many principal components",
    "_raw": "of the rows themselves",
}

_SENTENCE = "mean average precision {ours} against {theirs}"
_compare = functools.partial(Comparison, "mean_average_precision", sentence=_SENTENCE, higher_is_better=True)
_COMPARISONS = (
    _compare("mean_average_precision_itq", "ITQ's bits of as many components in retrieval", requires="bit_entropy"),
    _compare("mean_average_precision_pca", "distances of as many components in retrieval"),
)


class Ranking(NamedTuple):
    """Means over queries: average precision, and share of relevant answers among the first `top`; both from 0 to 1."""

    average_precision: float
    precision: float


def retrieval(*, queries: int = 500, top: int = 100) -> Score:
    """Rank all training rows for each of at most `queries` evenly spaced test rows by the distance of their codings.

    mean_average_precision: from 0 to 1; higher is better.
    precision_at_top: relevant share of the first `top` answers, from 0 to 1; higher is better.
    distinct_codes: distinct codes of the training rows; None where codings are not bits.
    bit_entropy: entropy of a bit over the training rows, averaged over bits, from 0 (every bit is constant) to 1 (every
        bit is 1 for half of the rows); higher is better, None where codings are not bits.

    The first two are also measured for rankings without a net, with names that end in `_pca` (as many components of the
    reference PCA as codings, at most its rank), `_pca_signs` (their signs), `_itq` (bits of `iterative_quantisation`)
    and `_raw` (the rows themselves). The dataset must have labels. Raises ConfigError for `queries` or `top` below 1.
    """
    queries = validate.whole_number("scores.retrieval.queries", queries, minimum=1)
    top = validate.whole_number("scores.retrieval.top", top, minimum=1)
    headers = [("distinct_codes", "codes", "distinct codes of the training rows, where they are bits")]
    headers += [("bit_entropy", "bit entropy", "mean entropy of a bit, in bits: 1 where it splits the rows in halves")]
    for suffix, of_features in _METHODS.items():
        method = suffix.replace("_", " ").strip()
        method = f", {method}" if method else ""
        text = f"training rows ranked by distance {of_features}, for {queries} test rows; relevant: the same label"
        headers.append((f"mean_average_precision{suffix}", f"mAP{method}", f"mean average precision, {text}"))
        headers.append((f"precision_at_top{suffix}", f"P@{top}{method}", f"relevant share of the first {top}, {text}"))
    options = (("queries", queries), ("top", top))
    return Score("retrieval", options, _measure, tuple(headers), needs_labels=True, comparisons=_COMPARISONS)


def _measure(trained: TrainedRun, queries: int, top: int) -> Measurement:
    dataset = trained.dataset
    query_rows = evenly_spaced(len(dataset.x_test), queries)
    answers_nk = trained.encode(dataset.x_train)
    queries_qk = trained.test_codings_nk[query_rows]
    labels_n = np.asarray(dataset.y_train)
    labels_q = np.asarray(dataset.y_test)[query_rows]
    components = len(trained.truncated_pca.components_kd)
    rankings = {
        "": rank(answers_nk, labels_n, queries_qk, labels_q, top),
        **_baselines(dataset, queries, components, top),
    }
    numbers: dict[str, float | None] = {"distinct_codes": None, "bit_entropy": None}
    if np.isin(answers_nk, (0, 1)).all():
        ones_k = answers_nk.mean(axis=0, dtype=np.float64)
        numbers["distinct_codes"] = float(len(np.unique(np.packbits(answers_nk.astype(bool), axis=1), axis=0)))
        p_2k = np.clip(np.stack([ones_k, 1 - ones_k]), 1e-300, 1)
        numbers["bit_entropy"] = float(np.mean(-(p_2k * np.log2(p_2k)).sum(axis=0)))
    for suffix, ranking in rankings.items():
        numbers[f"mean_average_precision{suffix}"] = ranking.average_precision
        numbers[f"precision_at_top{suffix}"] = ranking.precision
    return numbers, {}


@functools.lru_cache(maxsize=8)
def _baselines(dataset: Dataset, queries: int, components: int, top: int) -> dict[str, Ranking]:
    """The rankings without a net, by suffix of their names, computed once for all runs on a dataset."""
    params = reconstruction.pca_reference(dataset).params
    rows_q = evenly_spaced(len(dataset.x_test), queries)
    labels_n = np.asarray(dataset.y_train)
    labels_q = np.asarray(dataset.y_test)[rows_q]
    raw_nd = dataset.floats(dataset.x_train)
    raw_qd = dataset.floats(dataset.x_test[rows_q])
    components_kd = params.components_kd[:components].astype(np.float32)
    mean_d = params.mean_d.astype(np.float32)
    pca_nk, pca_qk = ((x_nd - mean_d) @ components_kd.T for x_nd in (raw_nd, raw_qd))
    rotation_kk = iterative_quantisation(pca_nk, seed=components)  # one random start for each number of bits
    features = {
        "_pca_signs": (pca_nk > 0, pca_qk > 0),
        "_itq": (pca_nk @ rotation_kk > 0, pca_qk @ rotation_kk > 0),
        "_pca": (pca_nk, pca_qk),
        "_raw": (raw_nd, raw_qd),
    }
    return {
        suffix: rank(answers_nk.astype(np.float32), labels_n, queries_qk.astype(np.float32), labels_q, top)
        for suffix, (answers_nk, queries_qk) in features.items()
    }


def iterative_quantisation(z_nk: np.ndarray, seed: int, steps: int = QUANTISATION_STEPS) -> np.ndarray:
    """The rotation (k, k) of iterative quantisation (ITQ, Gong & Lazebnik 2011), for centred codings (n, k).

    It moves codings near the corners of a cube. From a random rotation drawn by `seed`, `steps` iterations take the
    signs of the rotated codings, and then the rotation that maps codings best to these signs (orthogonal Procrustes).
    """
    k = z_nk.shape[1]
    rotation_kk = np.linalg.qr(np.random.default_rng(seed).normal(size=(k, k)))[0].astype(z_nk.dtype)
    for _ in range(steps):
        signs_nk = np.where(z_nk @ rotation_kk > 0, 1, -1).astype(z_nk.dtype)
        left_kk, _, right_kk = np.linalg.svd(z_nk.T @ signs_nk)
        rotation_kk = left_kk @ right_kk
    return rotation_kk


def rank(
    answers_nk: np.ndarray, labels_n: np.ndarray, queries_qk: np.ndarray, labels_q: np.ndarray, top: int
) -> Ranking:
    """Rank all answers for each query by squared Euclidean distance; metrics are means over the orders of ties."""
    average_precisions = []
    precisions = []
    squares_n = np.square(answers_nk, dtype=np.float32).sum(axis=1)
    for start in range(0, len(queries_qk), BLOCK):
        block_bk = queries_qk[start : start + BLOCK]
        # exact where the codings are bits
        distance_bn = np.square(block_bk).sum(axis=1)[:, None] + squares_n - 2 * block_bk @ answers_nk.T
        for distance_n, label in zip(np.maximum(distance_bn, 0), labels_q[start : start + BLOCK], strict=True):
            order_n = np.argsort(distance_n)
            starts_g = np.flatnonzero(np.diff(distance_n[order_n], prepend=-1.0))
            sizes_g = np.diff(starts_g, append=len(order_n))
            relevant_g = np.add.reduceat((labels_n[order_n] == label).astype(np.int64), starts_g)
            average_precisions.append(average_precision(sizes_g, relevant_g))
            precisions.append(precision_at(sizes_g, relevant_g, top))
    return Ranking(float(np.mean(average_precisions)), float(np.mean(precisions)))


def average_precision(sizes_g: ArrayLike, relevant_g: ArrayLike) -> float:
    """Average precision of groups of tied answers, nearest first: the mean over all orders within the groups.

    `sizes_g` and `relevant_g` are the numbers of answers and of relevant answers of each group. Let a group of n
    answers, of which r are relevant, follow t answers, of which R are relevant. Its position i holds a relevant answer
    with probability r / n, and the precision there is then `(R + 1 + (i - 1) (r - 1) / (n - 1)) / (t + i)` on average.
    The result is from 0 to 1, and 0 where nothing is relevant.
    """
    n_g = np.asarray(sizes_g, np.float64)
    r_g = np.asarray(relevant_g, np.float64)
    if r_g.sum() == 0:
        return 0.0
    answers_before_g = np.cumsum(n_g) - n_g
    relevant_before_g = np.cumsum(r_g) - r_g
    harmonic = _harmonic(int(n_g.sum()))
    # sum of 1 / (t + i) over the positions of each group
    reciprocals_g = harmonic[(answers_before_g + n_g).astype(int)] - harmonic[answers_before_g.astype(int)]
    share_g = (r_g - 1) / np.maximum(n_g - 1, 1)
    sums_g = (relevant_before_g + 1) * reciprocals_g + share_g * (n_g - (answers_before_g + 1) * reciprocals_g)
    return float((r_g / n_g * sums_g).sum() / r_g.sum())


def precision_at(sizes_g: ArrayLike, relevant_g: ArrayLike, top: int) -> float:
    """Relevant share of the first `top` answers, or of all where there are fewer: the mean over the orders of ties."""
    n_g = np.asarray(sizes_g, np.float64)
    r_g = np.asarray(relevant_g, np.float64)
    top = int(min(top, n_g.sum()))
    counted_g = np.clip(top - (np.cumsum(n_g) - n_g), 0, n_g)
    return float((counted_g / n_g * r_g).sum() / top)


@functools.lru_cache(maxsize=4)
def _harmonic(n: int) -> np.ndarray:
    """Harmonic numbers: sums of 1 / i for i up to 0, 1, …, n, (n + 1,)."""
    return np.concatenate([[0.0], np.cumsum(1 / np.arange(1, n + 1))])
