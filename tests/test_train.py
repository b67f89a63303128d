"""Training: the compiled loops against a plain one, where chunks end, what validation keeps."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from aejax import nets, variants
from aejax.runtime.errors import ConfigError
from aejax.training import optimisers, schedules, train
from aejax.training.layout import Data
from aejax.training.loop import fit_program
from support import compiles, small_dataset

DATASET = small_dataset(rows=50)
AUTOENCODER = variants.plain(nets.mlp(12, (8, 3)))
HYPER = {"learning_rate": 0.01, "l2": 0.001}
SETTINGS = {"epochs": 4, "batch_size": 16, **HYPER}


def trees_equal(a, b):
    return jax.tree.all(jax.tree.map(lambda x, y: bool(np.array_equal(x, y)), a, b))


def make(batch_size=16, epochs=4, **options):
    run = fit_program(AUTOENCODER, rows=50, batch_size=batch_size, epochs=epochs, unit=255.0, **options)
    return run, Data(jnp.asarray(DATASET.x_train), jnp.asarray(DATASET.x_validation))


def spy(record):
    """An autoencoder whose loss remembers which rows it was given: row i holds i in its first column."""

    def loss(params, key, x_bd):
        jax.debug.callback(lambda x: record.append(np.asarray(x)), x_bd[:, 0] * 255, ordered=True)
        error = jnp.mean(jnp.square(params["w"] - x_bd))
        return error, {"error": error}

    return variants.Autoencoder(lambda key: {"w": jnp.zeros(())}, lambda p, x: x, lambda p, z: z, loss)


@pytest.mark.parametrize("batch_size", [1, 7, 16, 25, 49, 50])
def test_every_row_is_visited_once_per_epoch(batch_size):
    seen = []
    numbered = np.repeat(np.arange(50, dtype=np.uint8)[:, None], 3, axis=1)
    run = fit_program(spy(seen), rows=50, batch_size=batch_size, epochs=3, unit=255.0)
    data = Data(jnp.asarray(numbered), jnp.full((2, 3), 200, jnp.uint8))
    jax.block_until_ready(run.fit(jax.random.key(0), data, {"learning_rate": jnp.float32(0.1)}))
    jax.effects_barrier()
    batches = [np.rint(rows).astype(int) for rows in seen if np.rint(rows)[0] != 200]
    per_epoch = len(batches) // 3
    assert per_epoch == -(-50 // batch_size) == run.steps_per_epoch
    orders = [np.concatenate(batches[e * per_epoch : (e + 1) * per_epoch]) for e in range(3)]
    for order in orders:
        assert sorted(order) == list(range(50))
    if batch_size < 50:
        assert not np.array_equal(orders[0], orders[1])
        assert not np.array_equal(orders[0], np.arange(50))


def test_the_compiled_loop_equals_a_python_loop_of_optax_adam():
    run, data = make(schedule=schedules.cosine)
    key = jax.random.key(3)
    result = jax.jit(run.fit)(key, data, HYPER)

    rate = optax.cosine_decay_schedule(0.01, run.steps)  # built by hand, not by aejax's schedules
    adam = optax.adam(rate)
    params = AUTOENCODER.init(jax.random.fold_in(key, 0))
    opt_state = adam.init(params)
    x_nd, validation = (DATASET.floats(x) for x in (DATASET.x_train, DATASET.x_validation))
    history = []
    best = (np.inf, None)
    for epoch in range(4):
        order = jax.random.permutation(jax.random.fold_in(jax.random.fold_in(key, 1), epoch), 50)
        losses = 0.0
        for rows in (order[:16], order[16:32], order[32:48], order[48:]):
            loss = lambda p, rows=rows: AUTOENCODER.loss(p, key, x_nd[rows], l2=0.001)[0]  # noqa: E731
            value, gradient = jax.value_and_grad(loss)(params)
            updates, opt_state = adam.update(gradient, opt_state, params)
            params = optax.apply_updates(params, updates)
            losses += float(value) * len(rows)
        error = float(AUTOENCODER.loss(params, key, validation, l2=0.0)[0])
        history.append((losses / 50, error))
        best = min(best, (error, params), key=lambda pair: pair[0])
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-6), result.params, params)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-6), result.best_params, best[1])
    np.testing.assert_allclose(result.history["train_loss"], [h[0] for h in history], rtol=1e-5)
    np.testing.assert_allclose(result.history["validation_error"], [h[1] for h in history], rtol=1e-5)


@pytest.mark.parametrize("batch_size", [16, 25, 50])
def test_where_chunks_end_changes_nothing_bit_for_bit(batch_size):
    run, data = make(batch_size)
    key = jax.random.key(0)
    hyper = {name: jnp.float32(value) for name, value in HYPER.items()}
    init = jax.jit(run.init)
    advance = jax.jit(run.advance)
    whole = advance(init(key, hyper), key, data, hyper, jnp.int32(run.steps))
    for chunk in (1, 3, run.steps_per_epoch, run.steps_per_epoch + 1):
        state = init(key, hyper)
        for until in [*range(chunk, run.steps, chunk), run.steps]:
            state = advance(state, key, data, hyper, jnp.int32(until))
        assert trees_equal(state, whole), chunk


def test_same_seed_same_bits_other_seed_other_bits():
    first, again, other = (train.fit(AUTOENCODER, DATASET, seed=seed, **SETTINGS) for seed in (1, 1, 2))
    assert trees_equal(first.params, again.params)
    assert trees_equal(first.history, again.history)
    assert not trees_equal(first.params, other.params)


def test_fit_keeps_the_parameters_that_are_best_on_validation():
    fit = train.fit(AUTOENCODER, DATASET, seed=0, **{**SETTINGS, "epochs": 30, "learning_rate": 0.3})
    errors = fit.history["validation_error"]
    assert fit.best_epoch == int(errors.argmin()) < 29  # this learning rate jumps about: the last epoch is not the best
    x_bd = DATASET.floats(DATASET.x_validation)
    for params, error in ((fit.params, errors.min()), (fit.last_params, errors[-1])):
        assert float(AUTOENCODER.loss(params, jax.random.key(0), x_bd, l2=0.0)[0]) == pytest.approx(error, rel=1e-5)


def test_the_test_split_is_not_touched():
    changed = type(DATASET)(**{**vars(DATASET), "x_test": np.zeros_like(DATASET.x_test)})
    fits = [train.fit(AUTOENCODER, dataset, seed=0, **SETTINGS) for dataset in (DATASET, changed)]
    assert trees_equal(fits[0].params, fits[1].params)


def test_a_second_fit_and_another_learning_rate_compile_nothing():
    train.fit(AUTOENCODER, DATASET, seed=0, **SETTINGS)
    with compiles() as count:
        train.fit(AUTOENCODER, DATASET, seed=1, **{**SETTINGS, "learning_rate": 0.02, "l2": 0.0})
    assert count() == 0
    with compiles() as count:
        train.fit(AUTOENCODER, DATASET, seed=0, **{**SETTINGS, "batch_size": 17})
    assert count() > 0  # the counter counts


def test_the_public_train_step_is_compiled_once():
    run, data = make()
    key = jax.random.key(0)
    x_bd = jnp.asarray(DATASET.floats(DATASET.x_train[:16]))
    state = run.train_step(run.init(key, HYPER), key, x_bd, HYPER)
    with compiles() as count:
        after = run.train_step(state, key, x_bd, HYPER)
    assert count() == 0
    assert int(after.step) == 2
    assert not trees_equal(after.params, state.params)
    assert len(data.x_train) == 50


@pytest.mark.slow
def test_a_population_is_a_vmap_of_fit():
    run, data = make()
    keys = jax.random.split(jax.random.key(0), 3)
    rates = jnp.asarray([0.001, 0.01, 0.03])
    fit = jax.jit(jax.vmap(run.fit, in_axes=(0, None, {"learning_rate": 0, "l2": None})))
    together = fit(keys, data, {"learning_rate": rates, "l2": 0.001})
    for i in range(3):
        alone = jax.jit(run.fit)(keys[i], data, {"learning_rate": rates[i], "l2": 0.001})
        np.testing.assert_allclose(together.history["train_loss"][i], alone.history["train_loss"], rtol=1e-4)


def test_a_fit_that_diverges_says_so_and_where():
    fit = train.fit(AUTOENCODER, DATASET, seed=0, **{**SETTINGS, "epochs": 50, "learning_rate": 1e30})
    assert fit.status == "diverged"
    assert 1 <= len(fit.history["train_loss"]) < 50
    assert not np.isfinite(fit.history["train_loss"][-1])
    assert np.isfinite(fit.history["train_loss"][:-1]).all()


def test_progress_is_reported_in_order_up_to_the_end():
    reports = []
    train.fit(AUTOENCODER, DATASET, seed=0, report=reports.append, chunk_seconds=0.0, **SETTINGS)
    assert [r.step for r in reports] == sorted({r.step for r in reports})
    assert (reports[-1].step, reports[-1].epoch, reports[-1].epochs) == (16, 4, 4)
    assert len(reports) > 4


@pytest.mark.parametrize("seed", [-1, 2**32, 1.0, True, "0"])
def test_seeds_that_jax_would_wrap_around_are_refused(seed):
    with pytest.raises(ConfigError, match="4294967295"):
        train.fit(AUTOENCODER, DATASET, seed=seed, **SETTINGS)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("epochs", 0),
        ("epochs", 1.5),
        ("batch_size", 0),
        ("batch_size", True),
        ("batch_size", 10.5),
        ("learning_rate", -1.0),
        ("learning_rate", "x"),
        ("l2", -5.0),
        ("l2", float("nan")),
    ],
)
def test_numbers_that_cannot_be_are_named(name, value):
    with pytest.raises(ConfigError, match=rf"^{name}: "):
        train.fit(AUTOENCODER, DATASET, seed=0, **{**SETTINGS, name: value})


def test_a_validation_error_that_is_never_finite_is_no_completed_fit():
    broken = type(DATASET)(**{**vars(DATASET), "x_validation": np.full((4, 12), np.inf, np.float32)})
    assert train.fit(AUTOENCODER, broken, seed=0, **SETTINGS).status == "diverged"


def test_a_batch_larger_than_the_training_rows_is_refused():
    with pytest.raises(ConfigError, match="51, with 50 training rows"):
        train.fit(AUTOENCODER, DATASET, seed=0, **{**SETTINGS, "batch_size": 51})


@pytest.mark.parametrize("name", ["constant", "linear", "cosine", "warmup_cosine"])
def test_schedules_peak_at_one_and_the_falling_ones_end_at_zero(name):
    rate = getattr(schedules, name)(200)
    values = [float(rate(step)) for step in range(201)]
    assert max(values) == pytest.approx(1)
    assert values[-1] == pytest.approx(1 if name == "constant" else 0, abs=1e-6)
    assert (values[0] < 0.2) == (name == "warmup_cosine")


def test_many_steps_of_a_full_batch_make_an_epoch():
    """Six epochs of one step are two of three: the same steps, with the training error's mean and fewer validations."""
    settings = {"seed": 0, "batch_size": None, "schedule": schedules.cosine, **HYPER}
    each = train.fit(AUTOENCODER, DATASET, epochs=6, **settings)
    some = train.fit(AUTOENCODER, DATASET, epochs=2, full_batch_steps=3, **settings)
    for a, b in zip(jax.tree.leaves(each.last_params), jax.tree.leaves(some.last_params), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(some.history["train_loss"], each.history["train_loss"].reshape(2, 3).mean(1), rtol=1e-5)
    np.testing.assert_allclose(some.history["validation_error"], each.history["validation_error"][2::3], rtol=1e-5)


@pytest.mark.parametrize("name", ["adam", "sgd", "nesterov"])
def test_optimisers_take_their_textbook_steps(name):
    """Three steps on (w - 1)^2 / 2 from 0, by hand."""
    transformation = getattr(optimisers, name)(lambda count: 0.1)
    w: Any = jnp.zeros(())
    state = transformation.init(w)
    by_hand = 0.0
    velocity = 0.0
    first = second = 0.0
    for step in (1, 2, 3):
        updates, state = transformation.update(w - 1, state, w)
        w = optax.apply_updates(w, updates)
        gradient = by_hand - 1
        velocity = 0.9 * velocity + gradient
        first = 0.9 * first + 0.1 * gradient
        second = 0.999 * second + 0.001 * gradient**2
        adam = first / (1 - 0.9**step) / (np.sqrt(second / (1 - 0.999**step)) + 1e-8)
        by_hand -= 0.1 * {"adam": adam, "sgd": gradient, "nesterov": gradient + 0.9 * velocity}[name]
        assert float(w) == pytest.approx(by_hand, rel=1e-5)
