"""One fit as pure functions: a loop over epochs of a loop over steps, compiled once, run in chunks.

Everything random is folded from (key, epoch) or (key, step), so where a chunk ends changes nothing, bit for bit.
The loops have traced bounds: a chunk may end after any step without recompiling, and the host is asked nothing in
between. The dataset is an argument, stays in the dtype it was loaded in, and is cast inside the step.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from aejax.nets import Params, mask_codings
from aejax.training.schedules import Schedule, constant
from aejax.variants import PROGRESS, Autoencoder, keyword_names

Hyper = Mapping[str, Any]
Optimiser = Callable[..., optax.GradientTransformation]
"""Takes an optax schedule, as `optax.adam` does."""
EVALUATION_ROWS = 4096
HYPER_OUTSIDE_LOSS = ("learning_rate", "codings")
"""Hyper-parameters that every program takes and no loss does."""
_INIT, _ORDER, _STEP, _EVALUATE = range(4)  # what a key is folded with, so that no two uses share randomness


class Data(NamedTuple):
    """Training and validation rows on the device, (n, d), in the dtype they were loaded in."""

    x_train: jax.Array
    x_validation: jax.Array


class FitState(NamedTuple):
    """All there is to a fit in progress. `history` holds one entry an epoch, zero where not reached yet.

    `bad_step` is the first step whose loss was not finite, -1 while there is none. From that step on parameters,
    optimiser and best-so-far stand still: a member of a population that diverges is frozen where it did.
    """

    params: Params
    opt_state: optax.OptState
    step: jax.Array
    bad_step: jax.Array
    epoch_sums: dict[str, jax.Array]
    best_params: Params
    best_error: jax.Array
    best_epoch: jax.Array
    history: dict[str, jax.Array]


class FitProgram(NamedTuple):
    """Pure functions of one fit; everything static is closed over, everything traced is an argument.

    `init(key, hyper, params=None) -> state`, from these parameters where they are given;
    `train_step(state, key, x_bd, hyper) -> state` with x_bd as floats;
    `train_epoch(state, key, data, hyper, until) -> state`, to the end of the current epoch or to step `until`;
    `advance(state, key, data, hyper, until) -> state`, to step `until`; `fit(key, data, hyper) -> state`, all of it.
    """

    init: Callable[..., FitState]
    train_step: Callable[..., FitState]
    train_epoch: Callable[..., FitState]
    advance: Callable[..., FitState]
    fit: Callable[..., FitState]
    steps_per_epoch: int
    steps: int


def init_key(key: jax.Array) -> jax.Array:
    """The key that the parameters of a fit with this key are drawn with."""
    return jax.random.fold_in(key, _INIT)


@functools.lru_cache(maxsize=256)
def fit_program(
    autoencoder: Autoencoder,
    *,
    rows: int,
    batch_size: int,
    epochs: int,
    unit: float = 1.0,
    schedule: Schedule = constant,
    optimiser: Optimiser = optax.adam,
    full_batch_steps: int = 1,
    rows_over: jax.sharding.NamedSharding | None = None,
) -> FitProgram:
    """The functions of a fit on `rows` training rows. Equal arguments give the same Program.

    An epoch is a permutation of the rows cut into batches, each row visited once; the last batch is smaller when
    `batch_size` does not divide `rows`; where one batch is all rows, it is `full_batch_steps` steps of it. `hyper`
    holds `learning_rate` and what the loss takes; the learning rate of a step is `learning_rate *
    schedule(steps)(step)`. With `codings` in `hyper` only the first so many codings are trained, the others are zero
    throughout. `rows_over` shares the rows of every batch out over devices (data parallel): the same mean gradient,
    summed in another order.
    """
    full_batches, remainder = divmod(rows, batch_size)
    steps_per_epoch = full_batches + (remainder > 0) if batch_size < rows else full_batch_steps
    steps, seen = steps_per_epoch * epochs, rows if batch_size < rows else rows * full_batch_steps
    rate = schedule(steps)

    def transform(hyper: Hyper) -> optax.GradientTransformation:
        return optimiser(lambda count: hyper["learning_rate"] * rate(count))

    watched = tuple(dict.fromkeys(("error", *autoencoder.recorded_metrics)))
    lines = ("train_loss", "train_error", *(f"validation_{name}" for name in watched))
    takes_progress = PROGRESS in keyword_names(autoencoder.loss)

    def loss(params: Params, key: jax.Array, x_bd: jax.Array, hyper: Hyper, progress: jax.Array | float):
        others = {name: value for name, value in hyper.items() if name not in HYPER_OUTSIDE_LOSS}
        if takes_progress:
            others[PROGRESS] = progress
        return autoencoder.loss(params, key, x_bd, **others)

    def floats(x_bd: jax.Array) -> jax.Array:
        if rows_over is not None and len(x_bd) % rows_over.mesh.size == 0:
            x_bd = jax.lax.with_sharding_constraint(x_bd, rows_over)
        return x_bd.astype(jnp.float32) / unit

    def init(key: jax.Array, hyper: Hyper, params: Params | None = None) -> FitState:
        if params is None:
            codings = (hyper["codings"],) if "codings" in hyper else ()
            params = autoencoder.init(init_key(key), *codings)
        zero, per_epoch = jnp.zeros(()), jnp.zeros(epochs)
        state = FitState(
            params=params,
            opt_state=transform(hyper).init(params),
            step=jnp.zeros((), jnp.int32),
            bad_step=jnp.full((), -1, jnp.int32),
            epoch_sums={"loss": zero, "error": zero},
            best_params=params,
            best_error=jnp.full((), jnp.inf),
            best_epoch=jnp.zeros((), jnp.int32),
            history=dict.fromkeys(lines, per_epoch),
        )
        # XLA must not fuse the draw with what a caller does next. A map writes each member into a stack: fused with
        # that, the draw is vectorised otherwise than in a fit alone, and its last bits differ (seen on jax 0.12.0.1).
        return jax.lax.optimization_barrier(state)

    def train_step(state: FitState, key: jax.Array, x_bd: jax.Array, hyper: Hyper) -> FitState:
        step_key = jax.random.fold_in(jax.random.fold_in(key, _STEP), state.step)
        (value, metrics), gradients = jax.value_and_grad(loss, has_aux=True)(
            state.params, step_key, x_bd, hyper, state.step / steps
        )
        if "codings" in hyper:
            gradients = mask_codings(gradients, autoencoder.coding_axes, hyper["codings"])
        updates, opt_state = transform(hyper).update(gradients, state.opt_state, state.params)
        params: Any = optax.apply_updates(state.params, updates)
        if autoencoder.post_update is not None:
            params = autoencoder.post_update(params, metrics)
        sums = state.epoch_sums
        bad_step = jnp.where((state.bad_step < 0) & ~jnp.isfinite(value), state.step, state.bad_step)

        def unless_bad(new: Any, old: Any) -> Any:
            return jax.tree.map(lambda new, old: jnp.where(bad_step < 0, new, old), new, old)

        return state._replace(
            params=unless_bad(params, state.params),
            opt_state=unless_bad(opt_state, state.opt_state),
            step=state.step + 1,
            bad_step=bad_step,
            epoch_sums={
                "loss": sums["loss"] + value * len(x_bd),
                "error": sums["error"] + metrics["error"] * len(x_bd),
            },
        )

    def validation(params: Params, key: jax.Array, x_nd: jax.Array, hyper: Hyper) -> dict[str, jax.Array]:
        """Mean of what is watched, in blocks of EVALUATION_ROWS, each weighted by its rows."""
        key = jax.random.fold_in(key, _EVALUATE)

        def block_sums(x_bd: jax.Array) -> dict[str, jax.Array]:
            metrics = loss(params, key, floats(x_bd), hyper, 1.0)[1]
            return {name: metrics[name] * len(x_bd) for name in watched}

        blocks = len(x_nd) // EVALUATION_ROWS
        cut = blocks * EVALUATION_ROWS
        totals = block_sums(x_nd[cut:]) if cut < len(x_nd) else dict.fromkeys(watched, jnp.zeros(()))
        if blocks:
            sums = jax.lax.map(block_sums, x_nd[:cut].reshape(blocks, EVALUATION_ROWS, -1))
            totals = {name: total + sums[name].sum() for name, total in totals.items()}
        return {name: total / len(x_nd) for name, total in totals.items()}

    def end_epoch(state: FitState, key: jax.Array, data: Data, hyper: Hyper) -> FitState:
        epoch = state.step // steps_per_epoch - 1
        means = validation(state.params, key, data.x_validation, hyper)
        error = means[autoencoder.criterion]
        better = (error < state.best_error) & (state.bad_step < 0)  # false for NaN
        values = {
            "train_loss": state.epoch_sums["loss"] / seen,
            "train_error": state.epoch_sums["error"] / seen,
            **{f"validation_{name}": mean for name, mean in means.items()},
        }
        return state._replace(
            epoch_sums=jax.tree.map(jnp.zeros_like, state.epoch_sums),
            best_params=jax.tree.map(lambda new, old: jnp.where(better, new, old), state.params, state.best_params),
            best_error=jnp.where(better, error, state.best_error),
            best_epoch=jnp.where(better, epoch, state.best_epoch),
            history={name: line.at[epoch].set(values[name]) for name, line in state.history.items()},
        )

    def train_epoch(state: FitState, key: jax.Array, data: Data, hyper: Hyper, until: jax.Array) -> FitState:
        epoch = state.step // steps_per_epoch
        first = state.step - epoch * steps_per_epoch
        last = jnp.minimum(steps_per_epoch, until - epoch * steps_per_epoch)
        if batch_size == rows:  # one batch: its order does not matter

            def again(_: jax.Array, state: FitState) -> FitState:
                return train_step(state, key, floats(data.x_train), hyper)

            state = again(first, state) if full_batch_steps == 1 else jax.lax.fori_loop(first, last, again, state)
        else:
            order_key = jax.random.fold_in(jax.random.fold_in(key, _ORDER), epoch)
            order_n = jax.random.permutation(order_key, rows)

            def batch(i: jax.Array, state: FitState) -> FitState:
                chosen_b = jax.lax.dynamic_slice(order_n, (i * batch_size,), (batch_size,))
                return train_step(state, key, floats(data.x_train[chosen_b]), hyper)

            state = jax.lax.fori_loop(first, jnp.minimum(last, full_batches), batch, state)
            if remainder:
                rest_b = order_n[full_batches * batch_size :]
                state = jax.lax.cond(
                    last == steps_per_epoch,
                    lambda state: train_step(state, key, floats(data.x_train[rest_b]), hyper),
                    lambda state: state,
                    state,
                )
        return jax.lax.cond(
            last == steps_per_epoch, lambda state: end_epoch(state, key, data, hyper), lambda state: state, state
        )

    def advance(state: FitState, key: jax.Array, data: Data, hyper: Hyper, until: jax.Array) -> FitState:
        def more(state: FitState) -> jax.Array:
            return state.step < until

        return jax.lax.while_loop(more, lambda state: train_epoch(state, key, data, hyper, until), state)

    def fit(key: jax.Array, data: Data, hyper: Hyper) -> FitState:
        return advance(init(key, hyper), key, data, hyper, jnp.int32(steps))

    return FitProgram(init, jax.jit(train_step), train_epoch, advance, fit, steps_per_epoch, steps)
