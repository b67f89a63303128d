"""From a trained encoder to a classifier: unsupervised pretraining, as pure functions.

A classifier takes a copy of the encoder's parameters and puts a softmax layer on the codings. With `frozen` only that
layer is trained; otherwise the encoder is trained too, from its pretrained parameters. The autoencoder's own parameters
do not change.

Hinton & Salakhutdinov 2006; Erhan et al. 2010, *Why does unsupervised pre-training help deep learning?*
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from aejax import nets
from aejax.nets import Params
from aejax.runtime import validate
from aejax.variants import Autoencoder, penalties

NO_LABEL = -1
"""The label of a row without a label."""
BLOCK_ROWS = 4096


class Classifier(NamedTuple):
    """`init(key, params) -> classifier_params` from an autoencoder's parameters, trained or not;
    `logits(classifier_params, x_bd) -> (b, classes)`; `loss(classifier_params, x_bd, y_b, *, l2) -> (scalar, metrics)`.

    Parameters are `{"encoder": …, "head": {"kernel", "bias"}}`: what the autoencoder's `encode` reads, and the softmax
    layer. That layer starts from zero: every class is equally likely before the first step.
    """

    init: Callable[[jax.Array, Params], Params]
    logits: Callable[[Params, jax.Array], jax.Array]
    loss: Callable[..., tuple[jax.Array, dict[str, jax.Array]]]


@functools.lru_cache(maxsize=256, typed=True)
def classifier(autoencoder: Autoencoder, inputs: int, classes: int, *, frozen: bool = False) -> Classifier:
    """A softmax layer of so many classes on the codings that this autoencoder gives rows of so many inputs.

    The loss is cross-entropy in nats, mean over the rows that have a label, plus l2 times half the sum of squared
    kernels; its metrics are `error`, the cross-entropy alone, and `accuracy`. `frozen` stops gradients at the codings
    and leaves the encoder out of the penalty; otherwise the autoencoder's `features` stand for codings without any.
    Raises ConfigError with fewer than two classes.
    """
    classes = validate.whole_number("classes", classes, minimum=2)

    def init(key: jax.Array, params: Params) -> Params:
        encoder = jax.tree.map(jnp.array, _read_by_encode(autoencoder, params, inputs))  # copies
        codings = jax.eval_shape(autoencoder.encode, encoder, jnp.zeros((1, inputs))).shape[-1]
        return {"encoder": encoder, "head": {"kernel": jnp.zeros((codings, classes)), "bias": jnp.zeros(classes)}}

    def logits(params: Params, x_bd: jax.Array) -> jax.Array:
        if frozen:
            return nets.dense_apply(params["head"], jax.lax.stop_gradient(autoencoder.encode(params["encoder"], x_bd)))
        return nets.dense_apply(params["head"], (autoencoder.features or autoencoder.encode)(params["encoder"], x_bd))

    def loss(params: Params, x_bd: jax.Array, y_b: jax.Array, *, l2: jax.Array | float):
        logits_bc = logits(params, x_bd)
        counted_b = (y_b != NO_LABEL).astype(jnp.float32)
        rows = jnp.maximum(counted_b.sum(), 1.0)
        error_b = optax.softmax_cross_entropy_with_integer_labels(logits_bc, jnp.maximum(y_b, 0))
        error = jnp.sum(error_b * counted_b) / rows
        right_b = (jnp.argmax(logits_bc, axis=-1) == y_b).astype(jnp.float32)
        # encoders read no more than biases of a decoder, which carry no penalty
        encoder = {name: part for name, part in params["encoder"].items() if name != "decoder"}
        penalty = l2 * penalties.l2(params["head"] if frozen else {"encoder": encoder, "head": params["head"]})
        return error + penalty, {"error": error, "accuracy": jnp.sum(right_b * counted_b) / rows}

    return Classifier(init, logits, loss)


class LabelledRows(NamedTuple):
    """Rows with labels 0 … classes - 1: those to train on, and those to stop and choose by."""

    x_train: jax.Array
    y_train: jax.Array
    x_validation: jax.Array
    y_validation: jax.Array


class ClassifierFit(NamedTuple):
    """A trained classifier: the parameters of the epoch with the lowest validation cross-entropy.

    `epochs` is how many were trained; `history` has train_loss and validation_error of each, NaN after the last.
    """

    params: Params
    best_error: jax.Array
    best_epoch: jax.Array
    epochs: jax.Array
    history: dict[str, jax.Array]


@functools.partial(jax.jit, static_argnames=("model", "epochs", "batch_size", "patience"))
def fit(
    model: Classifier,
    params: Params,
    key: jax.Array,
    rows: LabelledRows,
    *,
    epochs: int,
    batch_size: int,
    patience: int,
    learning_rate: jax.Array | float,
    l2: jax.Array | float,
) -> ClassifierFit:
    """Train a classifier by Adam, one compiled loop: stop after `patience` epochs without a lower validation error.

    An epoch visits every row once, in batches of at most `batch_size`, the last one smaller. Learning rate and l2 are
    traced: other values compile nothing.
    """
    optimiser = optax.adam(learning_rate)
    count = len(rows.x_train)
    batch_size = min(batch_size, count)
    steps = -(-count // batch_size)
    absent = jnp.full(steps * batch_size - count, count)  # a row that is not there, at the end of the last batch
    y_n = jnp.concatenate([rows.y_train, jnp.full(1, NO_LABEL, rows.y_train.dtype)])

    def step(state: tuple, chosen_b: jax.Array) -> tuple[tuple, jax.Array]:
        params, opt_state = state
        x_bd = rows.x_train[jnp.minimum(chosen_b, count - 1)]
        gradient = jax.value_and_grad(lambda p: model.loss(p, x_bd, y_n[chosen_b], l2=l2)[0])
        value, gradients = gradient(params)
        updates, opt_state = optimiser.update(gradients, opt_state, params)
        return (optax.apply_updates(params, updates), opt_state), value * (chosen_b < count).sum()

    def epoch(state: tuple) -> tuple:
        params, opt_state, number, best, history = state
        order_n = jax.random.permutation(jax.random.fold_in(key, number), count)
        batches_sb = jnp.concatenate([order_n, absent]).reshape(steps, batch_size)
        (params, opt_state), losses_s = jax.lax.scan(step, (params, opt_state), batches_sb)
        error = model.loss(params, rows.x_validation, rows.y_validation, l2=0.0)[1]["error"]
        better = error < best[1]
        best = jax.tree.map(lambda new, old: jnp.where(better, new, old), (params, error, number), best)
        values = {"train_loss": losses_s.sum() / count, "validation_error": error}
        history = {name: line.at[number].set(values[name]) for name, line in history.items()}
        return params, opt_state, number + 1, best, history

    def more(state: tuple) -> jax.Array:
        number = state[2]
        best_epoch = state[3][2]
        return (number < epochs) & (number - best_epoch <= patience)

    zero = jnp.zeros((), jnp.int32)
    not_reached = jnp.full(epochs, jnp.nan)
    history: dict[str, jax.Array] = {"train_loss": not_reached, "validation_error": not_reached}
    state = (params, optimiser.init(params), zero, (params, jnp.full((), jnp.inf), zero), history)
    _, _, trained, (params, error, best_epoch), history = jax.lax.while_loop(more, epoch, state)
    return ClassifierFit(params, error, best_epoch, trained, history)


def accuracy(model: Classifier, params: Params, x_nd: np.ndarray, y_n: np.ndarray) -> float:
    """Share of rows whose most likely class is theirs, in blocks; a label that no class has is never right."""
    right = 0
    for start in range(0, len(x_nd), BLOCK_ROWS):
        block_bd = np.asarray(x_nd[start : start + BLOCK_ROWS], np.float32)
        padded_bd = np.pad(block_bd, ((0, BLOCK_ROWS - len(block_bd)), (0, 0)))
        classes_b = np.asarray(_classes(model, params, padded_bd))[: len(block_bd)]
        right += int((classes_b == y_n[start : start + BLOCK_ROWS]).sum())
    return right / len(x_nd)


@functools.partial(jax.jit, static_argnames="model")
def _classes(model: Classifier, params: Params, x_bd: jax.Array) -> jax.Array:
    return jnp.argmax(model.logits(params, x_bd), axis=-1)


def _read_by_encode(autoencoder: Autoencoder, params: Params, inputs: int) -> Params:
    """The top-level parts of the parameters without which the encoder does not work: rarely the decoder."""
    kept = dict(params)
    for name in params:
        fewer = {other: value for other, value in kept.items() if other != name}
        try:
            jax.eval_shape(autoencoder.encode, fewer, jnp.zeros((1, inputs)))
        except KeyError:
            continue
        kept = fewer
    return kept
