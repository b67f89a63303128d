"""Which rows, parameters and learning rates the classification score uses, seen by a stub of the training."""

from types import SimpleNamespace

import jax
import numpy as np
import pytest

from aejax import nets, variants
from aejax.evaluation import scores
from aejax.evaluation.scores.base import TrainedRun
from aejax.evaluation.scores.classification import logistic, stratified_order
from aejax.training import classifier
from support import same, small_dataset

DATASET = small_dataset()
AUTOENCODER = variants.plain(nets.mlp(12, (3,)))
PRETRAINED = AUTOENCODER.init(jax.random.key(9))
LABELS = 40
ERRORS = {0.25: 2.0, 0.5: 1.0, 0.75: 3.0}
"""Validation error of the stub's fits by learning rate."""


@pytest.fixture
def fits(monkeypatch):
    """What every fit was given. A fit is a learning rate, which is also its accuracy on test rows."""
    seen = []

    def fit(model, initial, order_key, rows, *, learning_rate, **options):
        given = {"encoder": initial["encoder"], "key": order_key, "rows": rows}
        seen.append(SimpleNamespace(**given))
        return SimpleNamespace(params=float(learning_rate), best_error=ERRORS[float(learning_rate)])

    monkeypatch.setattr(classifier, "fit", fit)
    monkeypatch.setattr(classifier, "accuracy", lambda model, params, x_nd, y_n: params)
    return seen


def measure(seed=0):
    trained = TrainedRun(AUTOENCODER, PRETRAINED, {}, DATASET, 3, jax.random.key(seed))
    return scores.classification(labels=(LABELS,), learning_rates=tuple(ERRORS))(trained)[0]


def test_a_fifth_of_the_labelled_rows_is_held_out_and_not_trained_on(fits):
    measure()
    x_train = DATASET.x_train / 255
    for fit in fits:
        x_nd = np.concatenate([fit.rows.x_train, fit.rows.x_validation])
        y_n = np.concatenate([fit.rows.y_train, fit.rows.y_validation])
        distances_nn = np.abs(x_nd[:, None] - x_train[None]).max(axis=2)
        rows = distances_nn.argmin(axis=1)
        assert distances_nn.min(axis=1).max() < 1e-6
        assert len(set(rows)) == len(rows) == LABELS
        assert len(fit.rows.x_validation) == LABELS / 5
        np.testing.assert_array_equal(y_n, np.asarray(DATASET.y_train)[rows])


def test_the_net_from_scratch_does_not_begin_with_the_pretrained_encoder(fits):
    measure()
    pretrained = [same(fit.encoder["encoder"], PRETRAINED["encoder"]) for fit in fits]
    assert pretrained == [True] * 6 + [False] * 3, "fine-tuned, frozen, and from scratch, at three rates each"


def test_the_learning_rate_of_the_lowest_validation_error_is_used(fits):
    numbers = measure()
    for name in ("finetuned", "frozen", "scratch"):
        assert numbers[f"accuracy_{LABELS}_{name}"] == 0.5


def test_every_seed_has_its_own_rows_initial_parameters_and_batches(fits):
    for seed in (0, 0, 1):
        measure(seed)
    from_scratch = fits[8::9]  # the last one of each seed
    for name in ("encoder", "rows"):
        values = [getattr(fit, name) for fit in from_scratch]
        assert same(values[0], values[1])
        assert not same(values[0], values[2])
    keys = [jax.random.key_data(fit.key).tolist() for fit in from_scratch]
    assert keys[0] == keys[1] != keys[2]


def test_the_only_row_of_a_class_stands_in_the_middle_of_a_stratified_order():
    """Row i of a class with c rows has the position (i + 0.5) / c, which is 0.5 for the only one."""
    y_n = np.concatenate([np.zeros(80, int), np.arange(1, 21)])
    ordered_n = y_n[stratified_order(y_n, np.random.default_rng(0))]
    assert not ordered_n[:40].any()
    assert sorted(ordered_n[40:60]) == list(range(1, 21))
    assert not ordered_n[60:].any()


def test_validation_labels_choose_the_scaling_of_logistic_regression():
    """The narrow column tells the fitted classes apart, and the wide one nearly does.

    With columns scaled alike the narrow one decides, with one scale for both the wide one. The validation rows go by
    the narrow one, and labels of test rows that go by the wide one do not change that.
    """
    signs_n = np.resize([-1.0, 1.0], 40)
    mistaken_n = np.repeat([-1.0, 1.0], (8, 32))
    turned_n = np.repeat([-1.0, 1.0], 20)

    def columns(wide_n):
        return np.stack([10 * signs_n * wide_n, 0.1 * signs_n], axis=1)

    y_n = (signs_n > 0).astype(int)
    splits = {"fit": (columns(mistaken_n), y_n), "validation": (columns(turned_n), y_n)}
    assert logistic(splits | {"test": (columns(-1.0), y_n)}) == 1
    assert logistic(splits | {"test": (columns(-1.0), 1 - y_n)}) == 0


def test_logistic_regression_centres_test_features_as_those_that_it_was_fitted_to():
    """Test rows of one class only are far from the mean of the fitted ones."""
    rng = np.random.default_rng(0)
    y_n = np.arange(40) % 2
    x_nk = rng.normal(size=(40, 3)) + 6 * y_n[:, None]
    splits = {"fit": (x_nk[:30], y_n[:30]), "validation": (x_nk[30:], y_n[30:])}
    for label in (0, 1):
        x_test = x_nk[y_n == label]
        assert logistic(splits | {"test": (x_test, np.full(len(x_test), label))}) == 1
