"""Classifiers from encoders: what is taken, what stands still, and what a softmax layer alone has to find."""

import functools
import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aejax import datasets, nets, variants
from aejax.evaluation import scores
from aejax.evaluation.scores.base import TrainedRun
from aejax.evaluation.scores.classification import logistic, neighbours, stratified_order
from aejax.runtime.errors import ConfigError
from aejax.training import classifier, train
from aejax.training.classifier import LabelledRows
from support import small_dataset

CHECKOUT = Path(__file__).resolve().parents[1]
DATASET = small_dataset()
AUTOENCODER = variants.plain(nets.mlp(12, (8, 4), coding_activation=jax.nn.elu))
KEY = jax.random.key(0)
OPTIONS: dict[str, Any] = {"epochs": 30, "batch_size": 16, "patience": 30, "learning_rate": 0.01, "l2": 1e-3}


@functools.cache
def encoder():
    return jax.jit(AUTOENCODER.init)(jax.random.key(1))


@functools.cache
def rows():
    """Three classes by the sum of a row's first four columns; 53 rows to train on: batches do not divide them."""

    def labels(x_nd):
        return np.digitize(x_nd[:, :4].sum(axis=1), edges).astype(np.int32)

    x_nd = DATASET.floats(DATASET.x_train)[:53]
    x_validation = DATASET.floats(DATASET.x_validation)
    edges = np.quantile(x_nd[:, :4].sum(axis=1), (1 / 3, 2 / 3))
    return LabelledRows(*map(jnp.asarray, (x_nd, labels(x_nd), x_validation, labels(x_validation))))


def fitted(frozen, **options):
    model = classifier.classifier(AUTOENCODER, 12, 3, frozen=frozen)
    begin = model.init(KEY, encoder())
    return model, begin, classifier.fit(model, begin, KEY, rows(), **{**OPTIONS, **options})


def same(one, other):
    return jax.tree.all(jax.tree.map(lambda a, b: bool((a == b).all()), one, other))


def test_it_takes_the_encoder_by_value_and_begins_with_every_class_equally_likely():
    model = classifier.classifier(AUTOENCODER, 12, 3)
    begin = model.init(KEY, encoder())
    assert set(begin) == {"encoder", "head"}
    assert set(begin["encoder"]) == {"encoder"}  # no decoder
    assert same(begin["encoder"]["encoder"], encoder()["encoder"])
    loss, metrics = model.loss(begin, rows().x_train, rows().y_train, l2=0.0)
    assert float(loss) == pytest.approx(np.log(3), rel=1e-6)
    assert float(metrics["error"]) == float(loss)
    donated = jax.tree.map(jnp.array, encoder())
    taken = model.init(KEY, donated)
    for leaf in jax.tree.leaves(donated):
        leaf.delete()  # what is taken by value outlives what it was taken from
    assert same(taken["encoder"]["encoder"], encoder()["encoder"])


def test_an_encoder_that_reads_the_decoder_keeps_it():
    def encode(params, x_bd):
        return AUTOENCODER.encode(params, x_bd - params["decoder"]["layer_1"]["bias"][None, :])

    model = classifier.classifier(AUTOENCODER._replace(encode=encode), 12, 3)
    assert set(model.init(KEY, encoder())["encoder"]) == {"encoder", "decoder"}


@pytest.mark.parametrize("frozen", [True, False])
def test_a_frozen_encoder_stands_still_bit_for_bit_and_another_does_not(frozen):
    before = jax.tree.map(np.array, encoder())
    _, begin, result = fitted(frozen)
    assert same(result.params["encoder"], begin["encoder"]) == frozen
    assert not same(result.params["head"], begin["head"])
    assert same(before, encoder())  # the autoencoder's own
    assert float(result.history["train_loss"][29]) < float(result.history["train_loss"][0])


def test_logistic_regression_does_not_drown_the_signal_of_components_in_their_noise():
    """Two wide columns tell four classes apart, 150 narrow ones are noise: scaled alike those are worth as much."""
    rng = np.random.default_rng(0)
    y_n = np.arange(460) % 4
    x_nk = np.concatenate([3 * np.stack([y_n % 2, y_n // 2], axis=1) - 1.5, np.zeros((460, 150))], axis=1)
    x_nk += rng.normal(size=x_nk.shape) * np.where(np.arange(152) < 2, 0.8, 0.05)
    x_nk = np.concatenate([x_nk, np.zeros((460, 1))], axis=1)
    x_nk[100:, -1] = rng.normal(size=360) * 0.01  # constant in the labelled rows, not in the others
    rows = {"fit": slice(0, 80), "validation": slice(80, 100), "test": slice(100, None)}
    splits = {name: (x_nk[some], y_n[some]) for name, some in rows.items()}
    assert logistic(splits) > 0.9
    whitened = {name: (x / splits["fit"][0].std(axis=0).clip(1e-2), y) for name, (x, y) in splits.items()}
    assert logistic(whitened) < 0.85
    assert logistic({name: (0 * x, y) for name, (x, y) in splits.items()}) == pytest.approx(0.25, abs=0.01)


def test_a_frozen_softmax_layer_is_multinomial_logistic_regression_on_the_codings():
    from sklearn.linear_model import LogisticRegression

    options = {"epochs": 3000, "batch_size": 53, "patience": 3000, "learning_rate": 0.05, "l2": 0.01}
    all_rows = rows()._replace(x_validation=rows().x_train, y_validation=rows().y_train)
    model = classifier.classifier(AUTOENCODER, 12, 3, frozen=True)
    result = classifier.fit(model, model.init(KEY, encoder()), KEY, all_rows, **options)
    z_nk = np.asarray(AUTOENCODER.encode(encoder(), all_rows.x_train), np.float64)
    exact = LogisticRegression(C=1 / (53 * 0.01), tol=1e-8, max_iter=10_000).fit(z_nk, all_rows.y_train)
    kernel = exact.coef_.T
    bias = exact.intercept_
    logits = z_nk @ kernel + bias
    error = float(np.mean(np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(53), all_rows.y_train]))
    least = error + 0.01 * 0.5 * float(np.square(kernel).sum())
    assert float(result.history["train_loss"][-1]) == pytest.approx(least, rel=1e-4)


def test_it_stops_when_validation_no_longer_falls_and_keeps_the_best_epoch():
    model, _, result = fitted(False, epochs=400, patience=3, learning_rate=0.1)
    errors = np.asarray(result.history["validation_error"])
    trained = int(result.epochs)
    best = int(result.best_epoch)
    assert trained == best + 4 < 400
    assert best == np.nanargmin(errors)
    assert np.isnan(errors[trained:]).all()
    assert np.isfinite(errors[:trained]).all()
    error = model.loss(result.params, rows().x_validation, rows().y_validation, l2=0.0)[1]["error"]
    assert float(error) == pytest.approx(float(result.best_error), rel=1e-6)


def test_an_epoch_visits_every_row_once_whatever_the_batch():
    """At a rate that moves nothing, an epoch's loss is that of all rows, with a last batch of 5 of 16."""
    model = classifier.classifier(AUTOENCODER, 12, 3)
    begin = model.init(KEY, encoder())
    begin["head"]["kernel"] = jax.random.normal(KEY, (4, 3))
    expected = model.loss(begin, rows().x_train, rows().y_train, l2=1e-3)[0]
    result = classifier.fit(model, begin, KEY, rows(), **{**OPTIONS, "learning_rate": 1e-12})
    assert float(result.history["train_loss"][0]) == pytest.approx(float(expected), rel=1e-5)


def test_every_epoch_visits_the_rows_in_an_order_of_its_own():
    """Row i holds i, and its label is i."""
    seen = []

    def loss(params, x_bd, y_b, *, l2):
        jax.debug.callback(lambda *batch: seen.append(np.stack(batch)), x_bd[:, 0], y_b, ordered=True)
        error = jnp.square(params["w"])
        return error, {"error": error, "accuracy": error}

    model = classifier.Classifier(lambda key, params: params, lambda params, x_bd: x_bd, loss)
    numbers_n = jnp.arange(10)
    numbered = LabelledRows(numbers_n[:, None], numbers_n, jnp.full((2, 1), 99), jnp.full(2, 99))
    options = OPTIONS | {"epochs": 3, "batch_size": 4}
    jax.block_until_ready(classifier.fit(model, {"w": jnp.ones(())}, KEY, numbered, **options))
    jax.effects_barrier()
    batches = [batch for batch in seen if batch[0, 0] != 99]
    assert len(batches) == 3 * 3  # the last one of an epoch has two rows and two places without one
    orders = [np.concatenate(batches[3 * epoch : 3 * epoch + 3], axis=1) for epoch in range(3)]
    for rows_n, labels_n in orders:
        present = labels_n != classifier.NO_LABEL
        np.testing.assert_array_equal(rows_n[present], labels_n[present])
        assert sorted(rows_n[present]) == list(range(10))
    assert len({tuple(labels_n) for _, labels_n in orders}) == 3


def test_accuracy_is_that_of_all_rows_and_an_unknown_label_is_wrong(monkeypatch):
    model, _, result = fitted(False)
    x_nd = np.asarray(rows().x_train)
    y_n = np.array(rows().y_train)
    whole = float(model.loss(result.params, rows().x_train, rows().y_train, l2=0.0)[1]["accuracy"])
    assert classifier.accuracy(model, result.params, x_nd, y_n) == pytest.approx(whole)
    monkeypatch.setattr(classifier, "BLOCK_ROWS", 20)
    assert classifier.accuracy(model, result.params, x_nd, y_n) == pytest.approx(whole)
    assert whole > 0.6
    assert classifier.accuracy(model, result.params, x_nd, np.full(53, 7)) == 0


def test_fewer_labelled_rows_are_among_more_and_hold_every_class_in_proportion():
    y_n = np.repeat([0, 1, 2], (500, 300, 200))
    order_n = stratified_order(y_n, np.random.default_rng(0))
    assert sorted(order_n) == list(range(1000))
    for n in (10, 37, 100, 610):
        counts = np.bincount(y_n[order_n[:n]], minlength=3)
        assert np.abs(counts - n * np.array([0.5, 0.3, 0.2])).max() <= 1
    assert not np.array_equal(order_n, stratified_order(y_n, np.random.default_rng(1)))


@pytest.mark.slow
def test_the_score_gives_every_method_a_number_and_none_where_there_are_too_few_rows():
    data = datasets.load("digits")
    autoencoder = variants.plain(nets.mlp(64, (24, 10)))
    fit = train.fit(autoencoder, data, seed=0, epochs=5, batch_size=37, learning_rate=0.01, l2=0.0)
    trained = TrainedRun(autoencoder, fit.params, {}, data, 10, train.make_key(0))
    score = scores.classification(labels=(200, 5000), epochs=30, learning_rates=(0.03,))
    numbers, arrays = score(trained)
    assert arrays == {}
    assert list(numbers) == [name for name, _, _ in score.headers]
    few = {name: value for name, value in numbers.items() if name.startswith("accuracy_200_")}
    assert len(few) == 7
    for name, value in few.items():
        assert value is not None
        assert 0.6 < value <= 1, name
    assert {value for name, value in numbers.items() if name.startswith("accuracy_5000_")} == {None}
    assert score(trained)[0] == numbers
    assert scores.from_config(score.config()) == score


def test_options_that_cannot_be_are_named():
    refused: tuple[tuple[dict[str, Any], str], ...] = (
        ({"labels": ()}, r"classification\.labels: empty"),
        ({"labels": (100, 100)}, r"classification\.labels: .*once"),
        ({"labels": (5,)}, r"classification\.labels\[0\]: 5"),
        ({"epochs": 0}, r"classification\.epochs: 0"),
        ({"learning_rates": (0.0,)}, r"classification\.learning_rates: 0\.0"),
        ({"l2": -1.0}, r"classification\.l2: -1"),
    )
    for options, message in refused:
        with pytest.raises(ConfigError, match=message):
            scores.classification(**options)
    with pytest.raises(ConfigError, match="classes: 1"):
        classifier.classifier(AUTOENCODER, 12, 1)


def test_neighbours_vote_by_one_over_their_distance():
    x_fit = np.array([[0.0], [0.3], [0.4], [9.0]], np.float32)
    y_fit = np.array([0, 1, 1, 2])
    x_test = np.array([[0.02], [0.2], [8.0]], np.float32)  # 1 / .02 > 1 / .28 + 1 / .38; 1 / .2 < 1 / .1 + 1 / .2
    assert neighbours(x_fit, y_fit, x_test, np.array([0, 1, 2])) == 1
    assert neighbours(x_fit, y_fit, x_test, np.array([1, 1, 2])) == pytest.approx(2 / 3)


def test_the_record_of_neighbours_on_pca_codings_of_mnist_has_the_published_numbers():
    """`python tests/neighbours.py` makes it; .9717 on pixels and .9755 on 30 components say that PCA loses nothing."""
    record = json.loads((CHECKOUT / "results/neighbours/neighbours.json").read_text())
    assert record == pytest.approx({"pca_10": 0.9259, "pca_30": 0.9755, "pca_50": 0.9760, "pixels": 0.9717}, abs=5e-5)


@pytest.mark.slow
def test_fine_tuning_reaches_the_encoder_of_bits_too():
    """Bits have no gradient: the classifier is trained through their sigmoids, and frozen it is given the bits."""
    autoencoder = variants.hashing(nets.mlp(6, (5, 3)))
    x_bd = jnp.asarray(np.random.default_rng(0).normal(size=(20, 6)), jnp.float32)
    y_b = jnp.arange(20) % 2
    trained = autoencoder.init(jax.random.key(0))
    for frozen in (False, True):
        model = classifier.classifier(autoencoder, 6, 2, frozen=frozen)
        params = model.init(jax.random.key(1), trained)
        params["head"]["kernel"] = params["head"]["kernel"] + jnp.asarray([1.0, -1.0])[None, :]
        slopes = jax.grad(lambda p, model=model: model.loss(p, x_bd, y_b, l2=0.0)[0])(params)
        moved = [float(jnp.abs(leaf).max()) > 0 for leaf in jax.tree.leaves(slopes["encoder"])]
        assert any(moved) is not frozen
        assert all(moved) is not frozen
    frozen_logits = model.logits(params, x_bd)
    bits_bk = autoencoder.encode(trained, x_bd)
    np.testing.assert_allclose(frozen_logits[:, 0], bits_bk.sum(axis=1), rtol=1e-6)


def test_a_decoder_of_which_only_biases_are_read_is_not_penalised():
    autoencoder = variants.topk(nets.mlp(12, (4,)))
    model = classifier.classifier(autoencoder, 12, 3)
    begin = model.init(KEY, autoencoder.init(KEY))
    slopes = jax.grad(lambda p: model.loss(p, rows().x_train, rows().y_train, l2=1.0)[0])(begin)["encoder"]
    assert not np.any(slopes["decoder"]["layer_0"]["kernel"])
    np.testing.assert_allclose(  # the softmax layer is zero, so that the penalty is all there is
        slopes["encoder"]["layer_0"]["kernel"], begin["encoder"]["encoder"]["layer_0"]["kernel"], rtol=1e-5
    )
