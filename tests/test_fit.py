"""A fit does what it was asked for: autoencoders of a few numbers, whose whole training NumPy can follow."""

from typing import Any

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from aejax import variants
from aejax.training import loop, optimisers, schedules, train
from support import small_dataset

DATASET = small_dataset(rows=20, inputs=3)
EPOCHS = 30
L2 = 0.3
RATE = 0.2
FULL_BATCH: dict[str, Any] = {"seed": 0, "batch_size": None}


def constant_reconstruction():
    """Every row is reconstructed by the same three numbers, which begin at 0."""

    def loss(params, key, x_bd, *, l2):
        error = jnp.mean(jnp.square(params["w"][None, :] - x_bd))
        return error + l2 / 2 * jnp.sum(jnp.square(params["w"])), {"error": error}

    return variants.Autoencoder(lambda key: {"w": jnp.zeros(3)}, lambda p, x: x, lambda p, z: z, loss)


def counter(metrics, bad_from=np.inf):
    """An autoencoder with one number, which gradient descent at a rate of 1 raises by 1 in every step.

    `metrics(count)` are its metrics. Its loss is NaN from that count on.
    """

    def loss(params, key, x_bd):
        count = params["count"]
        return jnp.where(count >= bad_from, jnp.nan, -count), metrics(count)

    return variants.Autoencoder(lambda key: {"count": jnp.zeros(())}, lambda p, x: x, lambda p, z: z, loss)


def fit_counter(autoencoder, **options):
    settings: dict[str, Any] = FULL_BATCH | {"epochs": 4, "optimiser": optimisers.sgd, "learning_rate": 1.0}
    return train.fit(autoencoder, DATASET, **settings, **options)


def cosine(step, steps):
    return (1 + np.cos(np.pi * step / steps)) / 2


RATES = {
    "constant": np.ones(EPOCHS),
    "linear": 1 - np.arange(EPOCHS) / EPOCHS,
    "cosine": cosine(np.arange(EPOCHS), EPOCHS),
    "warmup_cosine": np.append(0, cosine(np.arange(EPOCHS - 1), EPOCHS - 1)),  # a warm-up of 30 // 20 steps
}
OPTAX = {
    "adam": optax.adam,
    "sgd": optax.sgd,
    "nesterov": lambda rate: optax.sgd(rate, momentum=0.9, nesterov=True),
}


@pytest.mark.parametrize(
    ("schedule", "optimiser"),
    [("constant", "nesterov"), ("linear", "sgd"), ("cosine", "adam"), ("warmup_cosine", "adam")],
)
def test_a_fit_is_a_plain_loop_of_its_schedule_and_its_optimiser(schedule, optimiser):
    options = {"schedule": getattr(schedules, schedule), "optimiser": getattr(optimisers, optimiser)}
    settings: dict[str, Any] = FULL_BATCH | {"epochs": EPOCHS, "learning_rate": RATE, "l2": L2}
    fit = train.fit(constant_reconstruction(), DATASET, **settings, **options)

    x_nd = DATASET.x_train / 255.0
    x_validation = DATASET.x_validation / 255.0
    by_optax = OPTAX[optimiser](lambda count: RATE * RATES[schedule][int(count)])
    w: Any = np.zeros(3, np.float32)
    state = by_optax.init(w)
    expected = {"train_loss": [], "train_error": [], "validation_error": []}
    for _ in range(EPOCHS):
        error = np.square(w - x_nd).mean()
        gradient = 2 / 3 * (w - x_nd.mean(axis=0)) + L2 * w
        updates, state = by_optax.update(np.float32(gradient), state, w)
        expected["train_error"].append(error)
        expected["train_loss"].append(error + L2 / 2 * np.square(w).sum())
        w = np.asarray(optax.apply_updates(w, updates))
        expected["validation_error"].append(np.square(w - x_validation).mean())
    np.testing.assert_allclose(fit.last_params["w"], w, rtol=1e-5)
    for name, values in expected.items():
        np.testing.assert_allclose(fit.history[name], values, rtol=1e-5, err_msg=name)


@pytest.mark.parametrize("block", [1, 3, 4, 5, 10, 11])
def test_the_validation_error_is_that_of_all_rows_in_blocks_of_any_size(monkeypatch, block):
    """Ten rows, in blocks that divide them, in others that leave a rest, and in one that is larger."""
    monkeypatch.setattr(loop, "EVALUATION_ROWS", block)
    assert len(DATASET.x_validation) == 10
    settings: dict[str, Any] = FULL_BATCH | {"epochs": 1, "learning_rate": RATE, "l2": L2}
    fit = train.fit(constant_reconstruction(), DATASET, **settings)
    expected = np.square(fit.params["w"] - DATASET.x_validation / 255.0).mean()
    np.testing.assert_allclose(fit.history["validation_error"], expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("values", "best"),
    [((3, 1, 2, 1), 1), ((1, 1, 1, 1), 0), ((2, 2, 1, 1), 2), ((np.nan, 2, np.nan, 1), 3)],
)
def test_of_epochs_with_equal_criterion_the_first_is_kept(values, best):
    def metrics(count):
        return {"error": -count, "level": jnp.asarray((np.nan, *values))[count.astype(int)]}

    autoencoder = counter(metrics)._replace(recorded_metrics=("level",), criterion="level")
    fit = fit_counter(autoencoder)
    np.testing.assert_array_equal(fit.history["validation_level"], values)
    assert (fit.best_epoch, fit.best_error) == (best, values[best])
    assert float(fit.params["count"]) == best + 1
    assert float(fit.last_params["count"]) == 4


@pytest.mark.parametrize("bad_step", [1, 2, 5, 7])
def test_a_fit_whose_loss_is_not_finite_at_some_step_has_diverged_whatever_it_had_reached(bad_step):
    """Four epochs of two steps. What was best before the bad step is kept beside the verdict."""
    fit = fit_counter(counter(lambda count: {"error": -count}, bad_from=bad_step), full_batch_steps=2)
    whole_epochs = bad_step // 2
    assert (fit.status, fit.bad_step) == ("diverged", bad_step)
    assert len(fit.history["train_loss"]) == whole_epochs + 1
    assert float(fit.last_params["count"]) == bad_step
    assert float(fit.params["count"]) == 2 * whole_epochs
    assert fit.best_error == (-2 * whole_epochs if whole_epochs else np.inf)
