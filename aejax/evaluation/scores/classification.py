"""Codings as features of classifiers with few labels, compared with no pretraining and with PCA's codings."""

from __future__ import annotations

import functools
import itertools
from typing import Any

import jax
import numpy as np

from aejax.evaluation import pca
from aejax.evaluation.scores.base import Comparison, Measurement, Score, TrainedRun
from aejax.runtime import validate
from aejax.runtime.errors import ConfigError
from aejax.training import classifier

VALIDATION_SHARE = 0.2
"""Share of the labelled rows that is held out."""
METHODS = {
    "finetuned": "the pretrained encoder, all of it trained on with a softmax layer",
    "frozen": "a softmax layer on the pretrained encoder, which stands still",
    "scratch": "the same net without pretraining",
    "logistic_codings": "logistic regression on the codings",
    "logistic_pca": "logistic regression on as many principal components",
    "neighbours_codings": "3 nearest neighbours, weighted by 1 / distance, on the codings",
    "neighbours_pca": "3 nearest neighbours, weighted by 1 / distance, on as many principal components",
}
"""Every classifier by name, with its description in tables."""
_BASELINES = (
    ("logistic_codings", "logistic_pca", "as many principal components as features of logistic regression"),
    ("neighbours_codings", "neighbours_pca", "as many principal components as features of nearest neighbours"),
    ("finetuned", "scratch", "the same net from scratch as a classifier"),
)
_INVERSE_PENALTIES = (0.01, 0.1, 1.0, 10.0)  # scikit-learn's C
_TINY = 1e-6
"""Smallest probability and smallest standard deviation of a feature."""


def classification(
    *,
    labels: tuple[int, ...] = (100, 1000),
    epochs: int = 100,
    patience: int = 10,
    batch_size: int = 50,
    learning_rates: tuple[float, ...] = (0.001, 0.003),
    l2: float = 1e-4,
) -> Score:
    """Test accuracy of classifiers that are trained with the labels of a few training rows.

    The numbers are `accuracy_N_METHOD` for every N of `labels` and every METHOD of METHODS, from 0 to 1; higher is
    better. A number is None where there are fewer than N training rows, or fewer held-out rows than classes.

    The run's seed draws the N labelled rows, stratified by class; smaller sets are subsets of larger ones. A fifth of
    them, also stratified, is held out. Nets are stopped early and choose their learning rate by its cross-entropy, and
    logistic regression chooses its penalty and its scaling. No other labels are used. PCA and the autoencoder were
    fitted to all training and validation rows without labels.

    labels: numbers of labelled rows.
    epochs, patience, batch_size, learning_rates, l2: training of the nets, as in `training.classifier.fit`; the best of
        the learning rates is used.

    The dataset must have labels. Raises ConfigError for fewer than 10 labels, repeated numbers of labels, and options
    out of range.
    """
    field = "scores.classification"
    labels = validate.whole_numbers(f"{field}.labels", labels, minimum=10)
    if len(set(labels)) < len(labels):
        raise ConfigError(f"{field}.labels", repr(labels), "give each number once")
    counts = {"epochs": epochs, "patience": patience, "batch_size": batch_size}
    for name, count in counts.items():
        validate.whole_number(f"{field}.{name}", count, minimum=1)
    if not isinstance(learning_rates, tuple | list) or not learning_rates:
        raise ConfigError(f"{field}.learning_rates", repr(learning_rates), "give a tuple of numbers above 0")
    rates = tuple(validate.number(f"{field}.learning_rates", rate, positive=True) for rate in learning_rates)
    l2 = validate.number(f"{field}.l2", l2)
    options = tuple({"labels": labels, **counts, "learning_rates": rates, "l2": l2}.items())
    headers = tuple(
        (f"accuracy_{n}_{name}", f"{name.replace('_', ' ')}, {n} labels", f"accuracy on test with {n} labels: {text}")
        for n in labels
        for name, text in METHODS.items()
    )
    compare = functools.partial(Comparison, sentence="accuracy {ours} against {theirs}", higher_is_better=True)
    comparisons = tuple(
        compare(f"accuracy_{n}_{ours}", f"accuracy_{n}_{theirs}", f"{baseline}, with {n} labels")
        for n in labels
        for ours, theirs, baseline in _BASELINES
    )
    return Score("classification", options, _measure, headers, needs_labels=True, comparisons=comparisons)


def stratified_order(y_n: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A random order of all rows in which, for every n, the first n rows are stratified by class.

    The rows of a class with c rows are shuffled, and row i = 0, 1, … of the class gets position (i + 0.5) / c in the
    whole order.
    """
    order_n = rng.permutation(len(y_n))
    position_n = np.empty(len(y_n))
    for label in np.unique(y_n):
        class_rows = np.flatnonzero(y_n[order_n] == label)
        position_n[class_rows] = (np.arange(len(class_rows)) + 0.5) / len(class_rows)
    return order_n[np.lexsort((np.arange(len(y_n)), position_n))]


def _measure(trained: TrainedRun, *, labels: tuple[int, ...], **options: Any) -> Measurement:
    dataset = trained.dataset
    classes, y_n = np.unique(np.asarray(dataset.y_train), return_inverse=True)
    y_test = np.asarray(dataset.y_test)
    y_test = np.where(np.isin(y_test, classes), np.searchsorted(classes, y_test), len(classes))
    rng = np.random.default_rng(np.asarray(jax.random.key_data(trained.key)))
    order_n = stratified_order(y_n, rng)
    numbers = {}
    for n in labels:
        held_out = int(VALIDATION_SHARE * n)
        accuracies: dict[str, float | None] = dict.fromkeys(METHODS)
        if n <= len(y_n) and held_out >= len(classes):
            labelled = order_n[:n][stratified_order(y_n[order_n[:n]], rng)]
            fitted, validation = np.split(labelled, [n - held_out])
            splits = {
                "fit": (dataset.x_train[fitted], y_n[fitted]),
                "validation": (dataset.x_train[validation], y_n[validation]),
                "test": (dataset.x_test, y_test),
            }
            accuracies |= _nets(trained, splits, len(classes), **options) | _features(trained, splits)
        numbers |= {f"accuracy_{n}_{name}": accuracy for name, accuracy in accuracies.items()}
    return numbers, {}


Splits = dict[str, tuple[np.ndarray, np.ndarray]]
"""Rows or features, and classes as whole numbers from 0, of "fit", "validation" and "test"."""


def _nets(
    trained: TrainedRun, splits: Splits, classes: int, learning_rates: tuple[float, ...], **options: Any
) -> dict[str, float]:
    """Test accuracies of the nets: fine-tuned, frozen and from scratch. `options` are those of `classifier.fit`."""
    autoencoder = trained.autoencoder
    dataset = trained.dataset
    floats = {name: (dataset.floats(x_nd), y_n.astype(np.int32)) for name, (x_nd, y_n) in splits.items()}
    rows = classifier.LabelledRows(*map(jax.numpy.asarray, (*floats["fit"], *floats["validation"])))
    fresh_key, head_key, order_key = jax.random.split(jax.random.fold_in(trained.key, len(rows.x_train)), 3)
    fresh = jax.jit(autoencoder.init)(fresh_key)
    accuracies = {}
    for name, params in {"finetuned": trained.params, "frozen": trained.params, "scratch": fresh}.items():
        model = classifier.classifier(autoencoder, dataset.inputs, classes, frozen=name == "frozen")
        initial = model.init(head_key, params)
        fits = [
            classifier.fit(model, initial, order_key, rows, **options, learning_rate=np.float32(rate))
            for rate in learning_rates
        ]
        best = min(fits, key=lambda fit: float(fit.best_error))
        accuracies[name] = classifier.accuracy(model, best.params, *floats["test"])
    return accuracies


def _features(trained: TrainedRun, splits: Splits) -> dict[str, float]:
    """Test accuracies of logistic regression and nearest neighbours on the codings and on PCA's codings."""

    def encode_by_pca(x_nd: np.ndarray) -> np.ndarray:
        return np.asarray(pca.encode(trained.truncated_pca, jax.numpy.asarray(trained.dataset.floats(x_nd))))

    accuracies = {}
    for name, encode in (("codings", trained.encode), ("pca", encode_by_pca)):
        features = {split: (encode(x_nd), y_n) for split, (x_nd, y_n) in splits.items()}
        accuracies[f"logistic_{name}"] = logistic(features)
        accuracies[f"neighbours_{name}"] = neighbours(*features["fit"], *features["test"])
    return accuracies


def logistic(splits: Splits) -> float:
    """Test accuracy of logistic regression on features.

    The cross-entropy on validation rows chooses the penalty and the scaling: each column to variance 1, or all columns
    by one number. Scaling each column gives the last principal components, which are mostly noise, the weight of the
    first.
    """
    import warnings

    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import log_loss

    x_fit, y_fit = splits["fit"]
    mean_k = x_fit.mean(axis=0)
    scale_k = x_fit.std(axis=0)
    scale_k = np.where(scale_k > _TINY, scale_k, max(scale_k.max(), _TINY))  # constant columns may have any scale
    scales = (scale_k, np.full_like(scale_k, np.sqrt(np.square(scale_k).mean())))
    x_validation, y_validation = splits["validation"]
    candidates = []
    for scale_k, inverse_penalty in itertools.product(scales, _INVERSE_PENALTIES):
        model = LogisticRegression(C=inverse_penalty, max_iter=200, tol=1e-3)
        # where it does not converge, its validation error is compared all the same
        with warnings.catch_warnings(action="ignore", category=ConvergenceWarning):
            model.fit((x_fit - mean_k) / scale_k, y_fit)
        p_nc = np.full((len(y_validation), int(max(y_fit.max(), y_validation.max())) + 1), _TINY)
        p_nc[:, model.classes_] += model.predict_proba((x_validation - mean_k) / scale_k)
        p_nc /= p_nc.sum(axis=1, keepdims=True)
        candidates.append((log_loss(y_validation, p_nc, labels=np.arange(p_nc.shape[1])), model, scale_k))
    _, model, scale_k = min(candidates, key=lambda candidate: candidate[0])
    x_test, y_test = splits["test"]
    return float((model.predict((x_test - mean_k) / scale_k) == y_test).mean())


def neighbours(x_fit: np.ndarray, y_fit: np.ndarray, x_test: np.ndarray, y_test: np.ndarray, count: int = 3) -> float:
    """Test accuracy of the vote of `count` nearest neighbours, each weighted by 1 / distance."""
    from sklearn.neighbors import KNeighborsClassifier

    model = KNeighborsClassifier(min(count, len(x_fit)), weights="distance", algorithm="brute").fit(x_fit, y_fit)
    return float((model.predict(x_test) == y_test).mean())
