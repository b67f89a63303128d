"""The training loop, from one step to a block of members that is trained in chunks.

    train_step    one batch: loss, gradients, update
    train_epoch   shuffled batches, then the validation error; the best parameters are kept
    advance       epochs, up to a given step; this is what is compiled
    train_block   the host's loop: chunks of steps, progress, checkpoints

Everything random is folded from (key, epoch) or (key, step), so where a chunk ends changes no bit. The compiled loops
have traced bounds: a chunk may end after any step without compiling again. The dataset is an argument, stays in the
dtype it was loaded in, and is cast inside the step.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
import optax

from aejax.nets import Params, mask_codings, slice_codings
from aejax.runtime import distributed
from aejax.runtime.errors import ResultsError
from aejax.runtime.signals import Interrupted
from aejax.training.layout import Data, Layout, Runs, member_arrays
from aejax.training.schedules import Schedule, constant
from aejax.variants import PROGRESS, Autoencoder, keyword_names

Hyper = Mapping[str, Any]
Optimiser = Callable[..., optax.GradientTransformation]
"""Takes an optax schedule, as `optax.adam` does."""
EVALUATION_ROWS = 4096
HYPER_OUTSIDE_LOSS = ("learning_rate", "codings")
"""Hyper-parameters that every program takes and no loss does."""
_INIT, _ORDER, _STEP, _EVALUATE = range(4)  # a key is folded with one of these, so that no two uses share randomness


class FitState(NamedTuple):
    """The whole state of a fit in progress. `history` holds one entry an epoch, zero for epochs to come.

    `bad_step` is the first step whose loss was not finite, -1 while there is none. From that step on parameters,
    optimiser state and best parameters stay as they are: a member of a population that diverges is frozen.
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
    """Pure functions of one fit. Everything static is closed over, everything traced is an argument.

    `init(key, hyper, params=None) -> state`, from these parameters where they are given;
    `train_step(state, key, x_bd, hyper) -> state` with x_bd as floats;
    `train_epoch(state, key, data, hyper, until) -> state`, to the end of the current epoch or to step `until`;
    `advance(state, key, data, hyper, until) -> state`, to step `until`;
    `fit(key, data, hyper) -> state`, all steps.
    """

    init: Callable[..., FitState]
    train_step: Callable[..., FitState]
    train_epoch: Callable[..., FitState]
    advance: Callable[..., FitState]
    fit: Callable[..., FitState]
    steps_per_epoch: int
    steps: int


def init_key(key: jax.Array) -> jax.Array:
    """The key that draws the first parameters of a fit with this key."""
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
    batch_sharding: jax.sharding.NamedSharding | None = None,
) -> FitProgram:
    """The functions of a fit on `rows` training rows. Equal arguments give the same `FitProgram`.

    An epoch is a permutation of the rows cut into batches. It visits each row once; the last batch is smaller where
    `batch_size` does not divide `rows`. Where one batch holds all rows, an epoch is `full_batch_steps` steps of it.

    `hyper` holds `learning_rate` and the hyper-parameters of the loss. The learning rate of a step is
    `learning_rate * schedule(steps)(step)`. With `codings` in `hyper` only the first so many codings are trained; the
    others are zero throughout.

    `batch_sharding` shares the rows of every batch out over devices (data parallel): the mean gradient is the same up
    to the order of sums.
    """
    full_batches, remainder = divmod(rows, batch_size)
    steps_per_epoch = full_batches + (remainder > 0) if batch_size < rows else full_batch_steps
    steps = steps_per_epoch * epochs
    rows_per_epoch = rows if batch_size < rows else rows * full_batch_steps
    relative_rate = schedule(steps)

    def transform(hyper: Hyper) -> optax.GradientTransformation:
        return optimiser(lambda count: hyper["learning_rate"] * relative_rate(count))

    recorded = tuple(dict.fromkeys(("error", *autoencoder.recorded_metrics)))
    history_names = ("train_loss", "train_error", *(f"validation_{name}" for name in recorded))
    takes_progress = PROGRESS in keyword_names(autoencoder.loss)

    def loss(params: Params, key: jax.Array, x_bd: jax.Array, hyper: Hyper, progress: jax.Array | float):
        loss_hyper = {name: value for name, value in hyper.items() if name not in HYPER_OUTSIDE_LOSS}
        if takes_progress:
            loss_hyper[PROGRESS] = progress
        return autoencoder.loss(params, key, x_bd, **loss_hyper)

    def floats(x_bd: jax.Array) -> jax.Array:
        if batch_sharding is not None and len(x_bd) % batch_sharding.mesh.size == 0:
            x_bd = jax.lax.with_sharding_constraint(x_bd, batch_sharding)
        return x_bd.astype(jnp.float32) / unit

    def init(key: jax.Array, hyper: Hyper, params: Params | None = None) -> FitState:
        if params is None:
            codings = (hyper["codings"],) if "codings" in hyper else ()
            params = autoencoder.init(init_key(key), *codings)
        state = FitState(
            params=params,
            opt_state=transform(hyper).init(params),
            step=jnp.zeros((), jnp.int32),
            bad_step=jnp.full((), -1, jnp.int32),
            epoch_sums={"loss": jnp.zeros(()), "error": jnp.zeros(())},
            best_params=params,
            best_error=jnp.full((), jnp.inf),
            best_epoch=jnp.zeros((), jnp.int32),
            history=dict.fromkeys(history_names, jnp.zeros(epochs)),
        )
        # XLA must not fuse the draw with what the caller does next. A map writes each member into a stack. Fused with
        # that write, the draw is vectorised differently than in a fit alone and has other last bits (jax 0.12.0.1).
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
        """Means of the recorded metrics, in blocks of EVALUATION_ROWS, each weighted by its rows."""
        key = jax.random.fold_in(key, _EVALUATE)

        def block_sums(x_bd: jax.Array) -> dict[str, jax.Array]:
            metrics = loss(params, key, floats(x_bd), hyper, 1.0)[1]
            return {name: metrics[name] * len(x_bd) for name in recorded}

        blocks = len(x_nd) // EVALUATION_ROWS
        whole = blocks * EVALUATION_ROWS
        totals = block_sums(x_nd[whole:]) if whole < len(x_nd) else dict.fromkeys(recorded, jnp.zeros(()))
        if blocks:
            sums = jax.lax.map(block_sums, x_nd[:whole].reshape(blocks, EVALUATION_ROWS, -1))
            totals = {name: total + sums[name].sum() for name, total in totals.items()}
        return {name: total / len(x_nd) for name, total in totals.items()}

    def end_epoch(state: FitState, key: jax.Array, data: Data, hyper: Hyper) -> FitState:
        epoch = state.step // steps_per_epoch - 1
        means = validation(state.params, key, data.x_validation, hyper)
        error = means[autoencoder.criterion]
        better = (error < state.best_error) & (state.bad_step < 0)  # false for NaN
        values = {
            "train_loss": state.epoch_sums["loss"] / rows_per_epoch,
            "train_error": state.epoch_sums["error"] / rows_per_epoch,
            **{f"validation_{name}": mean for name, mean in means.items()},
        }
        return state._replace(
            epoch_sums=jax.tree.map(jnp.zeros_like, state.epoch_sums),
            best_params=jax.tree.map(lambda new, old: jnp.where(better, new, old), state.params, state.best_params),
            best_error=jnp.where(better, error, state.best_error),
            best_epoch=jnp.where(better, epoch, state.best_epoch),
            history={name: series.at[epoch].set(values[name]) for name, series in state.history.items()},
        )

    def train_epoch(state: FitState, key: jax.Array, data: Data, hyper: Hyper, until: jax.Array) -> FitState:
        epoch = state.step // steps_per_epoch
        first = state.step - epoch * steps_per_epoch
        last = jnp.minimum(steps_per_epoch, until - epoch * steps_per_epoch)
        if batch_size == rows:  # one batch: its order does not matter

            def full_batch(_: jax.Array, state: FitState) -> FitState:
                return train_step(state, key, floats(data.x_train), hyper)

            if full_batch_steps == 1:
                state = full_batch(first, state)
            else:
                state = jax.lax.fori_loop(first, last, full_batch, state)
        else:
            order_key = jax.random.fold_in(jax.random.fold_in(key, _ORDER), epoch)
            order_n = jax.random.permutation(order_key, rows)

            def batch(i: jax.Array, state: FitState) -> FitState:
                rows_b = jax.lax.dynamic_slice(order_n, (i * batch_size,), (batch_size,))
                return train_step(state, key, floats(data.x_train[rows_b]), hyper)

            state = jax.lax.fori_loop(first, jnp.minimum(last, full_batches), batch, state)
            if remainder:
                rest_b = order_n[full_batches * batch_size :]

                def smaller_batch(state: FitState) -> FitState:
                    return train_step(state, key, floats(data.x_train[rest_b]), hyper)

                state = jax.lax.cond(last == steps_per_epoch, smaller_batch, lambda state: state, state)
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


class ProgramSpec(NamedTuple):
    """Everything static about a population: equal specs compile once.

    `names` are its hyper-parameters. `train` and `validation` are shape and dtype of the rows.
    """

    autoencoder: Autoencoder
    names: tuple[str, ...]
    epochs: int
    batch_size: int
    train: tuple[tuple[int, int], str]
    validation: tuple[tuple[int, int], str]
    unit: float
    schedule: Schedule
    optimiser: Optimiser
    full_batch_steps: int

    def program(self, layout: Layout | None = None) -> FitProgram:
        """The functions of one member."""
        return fit_program(
            self.autoencoder,
            rows=self.train[0][0],
            batch_size=self.batch_size,
            epochs=self.epochs,
            unit=self.unit,
            schedule=self.schedule,
            optimiser=self.optimiser,
            full_batch_steps=self.full_batch_steps,
            batch_sharding=layout.sharding("members") if layout is not None and layout.how == "data" else None,
        )


class CompiledPopulation(NamedTuple):
    """The compiled functions of a block of members. Every array of the block starts with (groups, width).

    `init(key_data, hyper) -> state`; `init_from(key_data, hyper, params) -> state` from a list of the members' own
    parameters; `advance(state, key_data, hyper, data, until) -> state`. `seconds` is the time that compiling took,
    `device_bytes` the memory that a device holds at most while it advances, `data_bytes` the dataset's part of it.
    """

    spec: ProgramSpec
    layout: Layout
    init: Callable[..., FitState]
    init_from: Callable[..., FitState]
    advance: Callable[..., FitState]
    seconds: float
    device_bytes: int
    data_bytes: int


class Fit(NamedTuple):
    """A finished fit. `params` are those of the epoch with the lowest validation error, `last_params` the final ones.

    `history` maps train_loss, train_error and validation_error to (epochs,) float32 arrays: means over the examples of
    an epoch, errors per input. `best_epoch` counts from 0. `status` is "completed", or "diverged" where the loss was
    not finite at some step or the validation error never was; then `bad_step` is the first such step, counted from 0,
    and `history` ends with its epoch. `compile_seconds` is the time that compiling the program took, also where an
    earlier fit compiled it. `train_seconds` is the member's share of its block's time.
    """

    params: Params
    last_params: Params
    best_epoch: int
    best_error: float
    history: dict[str, np.ndarray]
    status: str
    bad_step: int | None
    compile_seconds: float
    train_seconds: float

    def last(self, criterion: str) -> Fit:
        """The fit with the parameters of its last epoch in place of those of the best epoch by that criterion."""
        values = self.history[f"validation_{criterion}"]
        return self._replace(params=self.last_params, best_epoch=len(values) - 1, best_error=float(values[-1]))

    def __repr__(self) -> str:
        epochs = len(self.history["train_loss"])
        parameters = sum(np.size(leaf) for leaf in jax.tree.leaves(self.params))
        ended = f"diverged at step {self.bad_step}" if self.status == "diverged" else self.status
        return (
            f"Fit: {ended} after {epochs} epochs, {self.train_seconds:.3g} s of training\n"
            f"  validation error {self.best_error:.6g} per input, lowest after epoch {self.best_epoch + 1}\n"
            f"  {parameters} parameters; history of {', '.join(self.history)}"
        )


class Progress(NamedTuple):
    """Progress of a block after a chunk. `best_error` is the lowest validation error of all members."""

    step: int
    steps: int
    epoch: int
    epochs: int
    best_error: float


class TrainedBlock(NamedTuple):
    """The fits of a block, in order.

    `train_seconds` are seconds of training in all calls, `step` is the last step, `resumed_step` the step that training
    was resumed from (0 where it was not), `arrays()` the final state as a checkpointer saves it.
    """

    fits: list[Fit]
    train_seconds: float
    step: int
    resumed_step: int
    arrays: Callable[[], dict[str, np.ndarray]]


class InitialParams(NamedTuple):
    """First parameters of members, in order, and the seconds that training and compiling what gave them took."""

    params: Sequence[Params]
    train_seconds: float = 0.0
    compile_seconds: float = 0.0


ProgressCallback = Callable[[Progress], None]
Initialiser = Callable[[Runs, ProgressCallback | None], InitialParams]
"""Gives the members of a block their first parameters. It may report progress, as training itself does."""


class Checkpointer(Protocol):
    """Saves the state of a block in training. Arrays are by name; seconds are of training so far."""

    def load(self) -> tuple[dict[str, np.ndarray], float] | None:
        """The state that was saved last, with its seconds, or None."""
        ...

    def due(self, unsaved_seconds: float) -> bool:
        """Whether it is time to save. Called after every chunk."""
        ...

    def save(self, step: int, arrays: Callable[[], dict[str, np.ndarray]], seconds: float) -> None:
        """Save the state. `arrays` fetches it from the devices, in which every process takes part."""
        ...


def train_block(
    compiled: CompiledPopulation,
    data: Data,
    runs: Runs,
    *,
    report: ProgressCallback | None = None,
    chunk_seconds: float | None = None,
    checkpointer: Checkpointer | None = None,
    on_epochs: Callable[[int, dict[str, np.ndarray]], None] | None = None,
    start: Initialiser | None = None,
) -> TrainedBlock:
    """Train at most `compiled.layout.block` runs together, resumed from the state that `checkpointer` has.

    `data` is placed for the layout. A chunk takes about `chunk_seconds` (by default a second for each member that a
    device takes in turn, at most four); where it ends changes no bit. After each chunk `report` is called and the
    checkpointer saves if it is due; when `report` raises Interrupted, the state is saved first. `on_epochs` receives
    the number of the first epoch that ended in the chunk and (runs, epochs) values of each series of `history`. `start`
    gives the members' first parameters where no state was saved; these are saved when a save is due.
    """
    spec = compiled.spec
    layout = compiled.layout
    program = spec.program(layout)
    if chunk_seconds is None:
        chunk_seconds = layout.chunk_seconds
    compile_seconds = compiled.seconds
    earlier_seconds = 0.0  # of training before this call
    saving_seconds = 0.0
    done = 0
    began = time.perf_counter()

    key_data, hyper = member_arrays(layout, runs, spec.names)
    state = compiled.init(key_data, hyper)

    def arrays() -> dict[str, np.ndarray]:
        return state_arrays(state, key_data, hyper)

    saved_state = checkpointer.load() if checkpointer is not None else None
    if distributed.max_over_processes(int(saved_state is not None)):
        state, earlier_seconds = restore(state, key_data, hyper, saved_state, layout)
        done = int(np.max(distributed.gather_to_host(state.step)))
    elif start is not None:
        initial = start(runs, report)
        state = compiled.init_from(key_data, hyper, list(initial.params))
        earlier_seconds = initial.train_seconds
        compile_seconds += initial.compile_seconds
        began = time.perf_counter()
        if checkpointer is not None and distributed.max_over_processes(int(checkpointer.due(earlier_seconds))):
            checkpointer.save(0, arrays, earlier_seconds)
            began = time.perf_counter()

    resumed_step = done
    epochs_told = done // program.steps_per_epoch
    chunk = max(1, min(program.steps_per_epoch, 32) * layout.devices // layout.groups)
    last_save = began
    while done < program.steps and not _all_frozen(state, program.steps_per_epoch, done):
        chunk_start = time.perf_counter()
        done = min(done + chunk, program.steps)
        state = compiled.advance(state, key_data, hyper, data, np.int32(done))
        errors = distributed.gather_to_host(state.best_error)  # waits for the chunk
        seconds = time.perf_counter() - chunk_start
        chunk = distributed.max_over_processes(max(1, int(chunk * min(8.0, chunk_seconds / max(seconds, 1e-4)))))
        epochs_ended = done // program.steps_per_epoch
        if on_epochs is not None and epochs_ended > epochs_told:
            history = distributed.gather_to_host(state.history)
            new_epochs = np.s_[: len(runs), epochs_told:epochs_ended]
            values = {name: series.reshape(-1, spec.epochs)[new_epochs] for name, series in history.items()}
            on_epochs(epochs_told, values)
            epochs_told = epochs_ended
        progress = Progress(done, program.steps, epochs_ended, spec.epochs, float(errors.min()))
        interrupt = _report(report, progress)
        signal_number = distributed.max_over_processes(interrupt.number if interrupt is not None else 0)
        now = time.perf_counter()
        if checkpointer is not None:
            due = signal_number or (done < program.steps and checkpointer.due(now - last_save))
            if distributed.max_over_processes(int(due)):
                checkpointer.save(done, arrays, earlier_seconds + now - began - saving_seconds)
                last_save = time.perf_counter()
                saving_seconds += last_save - now
        if signal_number:
            raise interrupt or Interrupted(signal_number)

    train_seconds = earlier_seconds + time.perf_counter() - began - saving_seconds
    final = distributed.gather_to_host(state)
    fits = []
    for i, (_, run_hyper) in enumerate(runs):
        member = jax.tree.map(lambda leaf, i=i: leaf[divmod(i, layout.width)], final)
        fit = _fit_of(member, spec, run_hyper, program.steps_per_epoch)
        fits.append(fit._replace(compile_seconds=compile_seconds, train_seconds=train_seconds / len(runs)))
    return TrainedBlock(fits, train_seconds, done, resumed_step, arrays)


def _all_frozen(state: FitState, steps_per_epoch: int, done: int) -> bool:
    """Whether every member has diverged and the epoch in which the last one did has ended."""
    bad_step = distributed.gather_to_host(state.bad_step)
    return bool((bad_step >= 0).all()) and done >= (int(bad_step.max()) // steps_per_epoch + 1) * steps_per_epoch


def _report(report: ProgressCallback | None, progress: Progress) -> Interrupted | None:
    """Report progress. Returns the Interrupted that the callback raised, None where it raised none."""
    try:
        if report is not None:
            report(progress)
    except Interrupted as interrupt:
        return interrupt
    return None


def _fit_of(state: FitState, spec: ProgramSpec, hyper: Mapping[str, float], steps_per_epoch: int) -> Fit:
    """The fit of a member's final state; with `codings` in `hyper` its parameters are those of the smaller net."""
    bad_step = int(state.bad_step)
    best_error = float(state.best_error)
    epochs = spec.epochs if bad_step < 0 else bad_step // steps_per_epoch + 1
    params = state.best_params
    last_params = state.params
    if "codings" in hyper:
        axes = spec.autoencoder.coding_axes
        codings = int(hyper["codings"])
        params = slice_codings(params, axes, codings)
        last_params = slice_codings(last_params, axes, codings)
    return Fit(
        params=params,
        last_params=last_params,
        best_epoch=int(state.best_epoch),
        best_error=best_error,
        history={name: np.asarray(series)[:epochs] for name, series in state.history.items()},
        status="completed" if bad_step < 0 and np.isfinite(best_error) else "diverged",
        bad_step=None if bad_step < 0 else bad_step,
        compile_seconds=0.0,
        train_seconds=0.0,
    )


def state_arrays(state: FitState, key_data: jax.Array, hyper: Mapping[str, jax.Array]) -> dict[str, np.ndarray]:
    """The whole state of a block in training as arrays by name."""
    tree = {"state": state, "key_data": key_data, "hyper": dict(hyper)}
    leaves = jax.tree_util.tree_leaves_with_path(distributed.gather_to_host(tree))
    return {_path_name(path): leaf for path, leaf in leaves}


def restore(
    state: FitState,
    key_data: jax.Array,
    hyper: Mapping[str, jax.Array],
    saved: tuple[dict[str, np.ndarray], float] | None,
    layout: Layout,
) -> tuple[FitState, float]:
    """The saved state of a block, and its seconds of training. `state` is a fresh one of the same block.

    `saved` is None on processes that do not read. Raises ResultsError where it is the state of another block.
    """
    wanted = state_arrays(state, key_data, hyper)
    arrays, seconds = saved if saved is not None else (wanted, 0.0)
    fix = "delete that state's folder to train from the start"
    for name, array in wanted.items():
        if name not in arrays or (arrays[name].shape, arrays[name].dtype) != (array.shape, array.dtype):
            stored = "missing" if name not in arrays else f"{arrays[name].dtype} {arrays[name].shape}"
            raise ResultsError(f"saved state, {name}", f"{stored}, expected {array.dtype} {array.shape}", fix)
        if not name.startswith("state/") and not np.array_equal(arrays[name], array):
            raise ResultsError(f"saved state, {name}", "other runs than asked for", fix)
    if len(arrays) > len(wanted):
        raise ResultsError(f"saved state, {min(set(arrays) - set(wanted))}", "not part of this training", fix)
    arrays = distributed.broadcast_arrays({name: arrays[name] for name in wanted})
    paths, structure = jax.tree_util.tree_flatten_with_path(state)
    leaves = [
        distributed.place_on_devices(arrays[f"state/{_path_name(path)}"], layout.member_sharding) for path, _ in paths
    ]
    return jax.tree_util.tree_unflatten(structure, leaves), seconds


def _path_name(path: tuple) -> str:
    return jax.tree_util.keystr(path, simple=True, separator="/")
