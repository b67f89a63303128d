"""Codings as features: what a few labels give with pretraining, without it, and on PCA's codings."""

from __future__ import annotations

import itertools
from typing import Any

import jax
import numpy as np

from aejax.evaluation import pca, reconstruction
from aejax.evaluation.scores.base import Comparison, Measurement, Score, TrainedRun
from aejax.runtime import validate
from aejax.runtime.errors import ConfigError
from aejax.training import classifier

VALIDATION_SHARE = 0.2
METHODS = {
    "finetuned": "the pretrained encoder, all of it trained on with a softmax layer",
    "frozen": "a softmax layer on the pretrained encoder, which stands still",
    "scratch": "the same net without pretraining",
    "logistic_codings": "logistic regression on the codings",
    "logistic_pca": "logistic regression on as many principal components",
    "neighbours_codings": "3 nearest neighbours, weighted by 1 / distance, on the codings",
    "neighbours_pca": "3 nearest neighbours, weighted by 1 / distance, on as many principal components",
}
RIVALS = (
    ("logistic_codings", "logistic_pca", "as many principal components as features of logistic regression"),
    ("neighbours_codings", "neighbours_pca", "as many principal components as features of nearest neighbours"),
    ("finetuned", "scratch", "the same net from scratch as a classifier"),
)
_INVERSE_PENALTIES = (0.01, 0.1, 1.0, 10.0)  # scikit-learn's C
_TINY = 1e-6


def classification(
    *,
    labels: tuple[int, ...] = (100, 1000),
    epochs: int = 100,
    patience: int = 10,
    batch_size: int = 50,
    learning_rates: tuple[float, ...] = (0.001, 0.003),
    l2: float = 1e-4,
) -> Score:
    """Test accuracy of classifiers that see so many of the training rows' labels, as METHODS says, as shares of 1.

    Of the labelled rows, which are drawn by the run's seed in the proportions of the classes (fewer are among more), a
    fifth is held out, again in proportion: nets stop and choose their learning rate by its cross-entropy, logistic
    regression its penalty and its scaling. No other label is used; PCA and the autoencoder have seen all training and
    validation rows without theirs. None where the data has fewer rows than labels asked for, or where the held-out part
    would have fewer rows than classes.

    Raises ConfigError on options that cannot be.
    """
    field = "scores.classification"
    labels = validate.whole_numbers(f"{field}.labels", labels, minimum=10)
    if len(set(labels)) < len(labels):
        raise ConfigError(f"{field}.labels", repr(labels), "give each number once")
    for name, value in (("epochs", epochs), ("patience", patience), ("batch_size", batch_size)):
        validate.whole_number(f"{field}.{name}", value, minimum=1)
    if not isinstance(learning_rates, tuple | list) or not learning_rates:
        raise ConfigError(f"{field}.learning_rates", repr(learning_rates), "give a tuple of numbers above 0")
    rates = tuple(validate.number(f"{field}.learning_rates", rate, positive=True) for rate in learning_rates)
    validate.number(f"{field}.l2", l2)
    options = {"labels": labels, "epochs": epochs, "patience": patience, "batch_size": batch_size}
    options |= {"learning_rates": rates, "l2": float(l2)}
    headers = tuple(
        (f"accuracy_{n}_{name}", f"{name.replace('_', ' ')}, {n} labels", f"accuracy on test with {n} labels: {what}")
        for n in labels
        for name, what in METHODS.items()
    )
    against = tuple(
        Comparison(
            f"accuracy_{n}_{ours}",
            f"accuracy_{n}_{theirs}",
            f"{rival}, with {n} labels",
            "accuracy {ours} against {theirs}",
            "In squared error",
            higher=True,
        )
        for n in labels
        for ours, theirs, rival in RIVALS
    )
    return Score("classification", tuple(options.items()), _measure, headers, needs_labels=True, against=against)


def in_proportion(y_n: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """An order of all rows, random but for this: its first n rows hold every class in proportion, for every n.

    A row that is the i-th of its class's c in a random order is placed at (i + a half) / c.
    """
    order_n = rng.permutation(len(y_n))
    place_n = np.empty(len(y_n))
    for label in np.unique(y_n):
        of_class = np.flatnonzero(y_n[order_n] == label)
        place_n[of_class] = (np.arange(len(of_class)) + 0.5) / len(of_class)
    return order_n[np.lexsort((np.arange(len(y_n)), place_n))]


def _measure(trained: TrainedRun, *, labels: tuple[int, ...], **options: Any) -> Measurement:
    dataset = trained.dataset
    assert dataset.y_train is not None
    assert dataset.y_test is not None
    classes, y_n = np.unique(dataset.y_train, return_inverse=True)
    y_test = np.where(np.isin(dataset.y_test, classes), np.searchsorted(classes, dataset.y_test), len(classes))
    rng = np.random.default_rng(np.asarray(jax.random.key_data(trained.key)))
    order_n, numbers = in_proportion(y_n, rng), {}
    for n in labels:
        held_out = int(VALIDATION_SHARE * n)
        if n > len(y_n) or held_out < len(classes):
            numbers |= {f"accuracy_{n}_{name}": None for name in METHODS}
            continue
        own = order_n[:n][in_proportion(y_n[order_n[:n]], rng)]
        fitted, validation = own[: n - held_out], own[n - held_out :]
        splits = {"fit": (dataset.x_train[fitted], y_n[fitted]), "test": (dataset.x_test, y_test)}
        splits["validation"] = (dataset.x_train[validation], y_n[validation])
        found = _nets(trained, splits, len(classes), **options) | _features(trained, splits)
        numbers |= {f"accuracy_{n}_{name}": found[name] for name in METHODS}
    return numbers, {}


Splits = dict[str, tuple[np.ndarray, np.ndarray]]


def _nets(
    trained: TrainedRun,
    splits: Splits,
    classes: int,
    *,
    epochs: int,
    patience: int,
    batch_size: int,
    learning_rates: tuple[float, ...],
    l2: float,
) -> dict[str, float]:
    autoencoder, dataset = trained.autoencoder, trained.dataset
    floats = {name: (dataset.floats(x_nd), y_n.astype(np.int32)) for name, (x_nd, y_n) in splits.items()}
    rows = classifier.LabelledRows(*map(jax.numpy.asarray, (*floats["fit"], *floats["validation"])))
    fresh_key, head_key, order_key = jax.random.split(jax.random.fold_in(trained.key, len(rows.x_train)), 3)
    fresh = jax.jit(autoencoder.init)(fresh_key)
    accuracies = {}
    for name, params, frozen in (
        ("finetuned", trained.params, False),
        ("frozen", trained.params, True),
        ("scratch", fresh, False),
    ):
        model = classifier.classifier(autoencoder, dataset.inputs, classes, frozen=frozen)
        begin = model.init(head_key, params)
        size = {"epochs": epochs, "patience": patience, "batch_size": batch_size, "l2": l2}
        tried = [
            classifier.fit(model, begin, order_key, rows, **size, learning_rate=np.float32(rate))
            for rate in learning_rates
        ]
        best = min(tried, key=lambda one: float(one.best_error))
        accuracies[name] = classifier.accuracy(model, best.params, *floats["test"])
    return accuracies


def _features(trained: TrainedRun, splits: Splits) -> dict[str, float]:
    first = pca.truncate(trained.reference.params, min(trained.codings, trained.reference.params.rank))
    unit = trained.dataset.unit

    def of_pca(x_nd: np.ndarray) -> np.ndarray:
        return np.asarray(pca.encode(first, jax.numpy.asarray(trained.dataset.floats(x_nd))))

    def learned(x_nd: np.ndarray) -> np.ndarray:
        return reconstruction.reconstruct(trained.autoencoder, trained.params, x_nd, unit=unit)[0]

    found = {}
    for name, encode in (("codings", learned), ("pca", of_pca)):
        coded = {split: (encode(x_nd), y_n) for split, (x_nd, y_n) in splits.items()}
        found[f"logistic_{name}"] = logistic(coded)
        found[f"neighbours_{name}"] = neighbours(*coded["fit"], *coded["test"])
    return found


def logistic(splits: Splits) -> float:
    """Test accuracy of logistic regression; its penalty, and whether every column is scaled to variance 1 or all of
    them by one number, are chosen on validation. Of principal components the first makes noise as large as signal.
    """
    import warnings

    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import log_loss

    x_fit, y_fit = splits["fit"]
    mean_k, scale_k = x_fit.mean(axis=0), x_fit.std(axis=0)
    scale_k = np.where(scale_k > _TINY, scale_k, max(scale_k.max(), _TINY))  # of what varies in no row of the fit: any
    scales = (scale_k, np.full_like(scale_k, np.sqrt(np.square(scale_k).mean())))

    x_validation, y_validation = splits["validation"]
    tried = []
    for scale_k, inverse in itertools.product(scales, _INVERSE_PENALTIES):
        model = LogisticRegression(C=inverse, max_iter=200, tol=1e-3)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # its validation error says how good it is
            model.fit((x_fit - mean_k) / scale_k, y_fit)
        likely = np.full((len(y_validation), int(max(y_fit.max(), y_validation.max())) + 1), _TINY)
        likely[:, model.classes_] += model.predict_proba((x_validation - mean_k) / scale_k)
        likely /= likely.sum(axis=1, keepdims=True)
        tried.append((log_loss(y_validation, likely, labels=np.arange(likely.shape[1])), len(tried), model, scale_k))
    model, scale_k = min(tried, key=lambda one: one[:2])[2:]
    x_test, y_test = splits["test"]
    return float((model.predict((x_test - mean_k) / scale_k) == y_test).mean())


def neighbours(x_fit: np.ndarray, y_fit: np.ndarray, x_test: np.ndarray, y_test: np.ndarray, count: int = 3) -> float:
    """Test accuracy of the nearest neighbours' vote, each weighted by one over its distance."""
    from sklearn.neighbors import KNeighborsClassifier

    model = KNeighborsClassifier(min(count, len(x_fit)), weights="distance", algorithm="brute").fit(x_fit, y_fit)
    return float((model.predict(x_test) == y_test).mean())
