"""Training: one fit, or a population of them in one program, in chunks; what is best on validation is kept."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
import optax

from aejax.datasets.base import Dataset
from aejax.nets import Params, slice_codings
from aejax.runtime import distributed, validate
from aejax.runtime.errors import ConfigError
from aejax.runtime.signals import Interrupted
from aejax.training import autotune, population
from aejax.training.autotune import LayoutChoice
from aejax.training.checkpointing import Checkpointer, restore, state_arrays
from aejax.training.fit_program import HYPER_OUTSIDE_LOSS, FitState, Optimiser
from aejax.training.population import Layout, ProgramSpec, Runs
from aejax.training.schedules import Schedule, constant
from aejax.variants import Autoencoder, check_hyper, hyper_names


class Fit(NamedTuple):
    """A finished fit. `params` are those of the epoch with the lowest validation error, `last_params` the final ones.

    `history` maps train_loss, train_error and validation_error to (epochs,) float32 arrays: means over the examples of
    an epoch, errors per input; `best_epoch` counts from 0, as they do. `status` is "completed", or "diverged" when the
    loss stopped being finite (then `bad_step` is the first such step, counted from 0, and `history` ends at its epoch)
    or the validation error never was finite. `compile_seconds` is what compiling this program took, also when an
    earlier fit paid; `train_seconds` is the member's share of its block's time.
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
        """A completed fit with the parameters of its last epoch, for those of the best by that criterion."""
        line = self.history[f"validation_{criterion}"]
        return self._replace(params=self.last_params, best_epoch=len(line) - 1, best_error=float(line[-1]))


class Progress(NamedTuple):
    """What a `report` function is told after each chunk; `best_error` is the lowest of all members."""

    step: int
    steps: int
    epoch: int
    epochs: int
    best_error: float


class TrainedBlock(NamedTuple):
    """The fits of a block, in order; seconds of training (in all calls) and of saving (in this one); its last step.

    `resumed_step` is the step it went on from, `arrays()` its final state as a keeper saves it.
    """

    fits: list[Fit]
    train_seconds: float
    step: int
    resumed_step: int
    arrays: Callable[[], dict[str, np.ndarray]]


class InitialParams(NamedTuple):
    """Parameters that members begin with, in order, and the seconds it took to train and to compile what gave them."""

    params: Sequence[Params]
    train_seconds: float = 0.0
    compile_seconds: float = 0.0


ProgressCallback = Callable[[Progress], None]
Initialiser = Callable[[Runs, ProgressCallback | None], InitialParams]
"""Gives the members of a block the parameters that they begin with; may `report`, as training itself does."""


class FittedPopulation(NamedTuple):
    """Fits in the order of their runs, and the layout they were trained in."""

    fits: list[Fit]
    choice: LayoutChoice


def start_from(params: Params) -> Initialiser:
    """The same first parameters for every member."""
    return lambda runs, report: InitialParams([params] * len(runs))


def make_key(seed: int) -> jax.Array:
    """The key of a seed. Raises ConfigError outside 0 … 2^32 - 1, where JAX would silently wrap around."""
    return jax.random.key(validate.whole_number("seed", seed, minimum=0, maximum=validate.MAX_SEED))


def fit(
    autoencoder: Autoencoder,
    dataset: Dataset,
    *,
    seed: int,
    epochs: int,
    batch_size: int | None,
    schedule: Schedule = constant,
    optimiser: Optimiser = optax.adam,
    full_batch_steps: int = 1,
    report: ProgressCallback | None = None,
    chunk_seconds: float | None = None,
    start: Initialiser | None = None,
    **hyper: float,
) -> Fit:
    """Train on `dataset.x_train`, keep the parameters that are best on `dataset.x_validation`; test is not touched.

    `batch_size=None` is the full batch, of which an epoch is `full_batch_steps` steps. `hyper` is `learning_rate` and
    every hyper-parameter of the variant's loss. The program runs in chunks of about `chunk_seconds` (1), after each of
    which `report` is called. `start` gives the first parameters, `begin_with(params)` for example. Raises ConfigError
    on an unknown or missing hyper-parameter, a number that cannot be, or a batch larger than the training rows.
    """
    options = {"schedule": schedule, "optimiser": optimiser, "full_batch_steps": full_batch_steps, "how": "loop"}
    options |= {"epochs": epochs, "batch_size": batch_size, "report": report, "chunk_seconds": chunk_seconds}
    return fit_population(autoencoder, dataset, [(seed, hyper)], **options, start=start).fits[0]


def fit_population(
    autoencoder: Autoencoder,
    dataset: Dataset,
    runs: Runs,
    *,
    epochs: int,
    batch_size: int | None,
    schedule: Schedule = constant,
    optimiser: Optimiser = optax.adam,
    full_batch_steps: int = 1,
    how: str = "auto",
    width: int | None = None,
    report: ProgressCallback | None = None,
    chunk_seconds: float | None = None,
    start: Initialiser | None = None,
) -> FittedPopulation:
    """Train every (seed, hyper-parameters) of `runs` as `fit` would, together in one compiled program.

    The hyper-parameter `codings` trains that many of the autoencoder's codings only, the others masked: one program
    gives the whole curve of errors against codings, and the parameters of each fit are those of the smaller net.
    `how` is "vmap" (`width` members at once), "map" (one after another inside the program: bit for bit what `fit`
    gives), "loop" (one program call each), "data" (every batch shared out over the devices) or "auto", the fastest
    where it is worth measuring. Members are spread over all devices; what does not fit into memory is trained in
    blocks. A member that diverges is frozen and harms no other. `start` gives members their first parameters.

    A vmapped member is not bitwise the fit alone: XLA sums a batched product in another order.
    Raises ConfigError as `fit` does, MachineError when not one member fits into memory.
    """
    names = check_fit(autoencoder, dataset, runs, epochs=epochs, batch_size=batch_size)
    what = population.program_spec(
        autoencoder,
        dataset,
        names,
        epochs=epochs,
        batch_size=batch_size,
        schedule=schedule,
        optimiser=optimiser,
        full_batch_steps=validate.whole_number("full_batch_steps", full_batch_steps, minimum=1),
    )
    chosen = autotune.choose_layout(what, dataset, runs, how=how, width=width)
    data, fits = population.place_data(dataset, chosen.layout), []
    options: dict[str, Any] = {"report": report, "chunk_seconds": chunk_seconds, "start": start}
    for first in range(0, len(runs), chosen.layout.block):
        fits += train_block(what, chosen.layout, data, runs[first : first + chosen.layout.block], **options).fits
    return FittedPopulation(fits, chosen)


def check_fit(
    autoencoder: Autoencoder, dataset: Dataset, runs: Runs, *, epochs: int, batch_size: int | None
) -> tuple[str, ...]:
    """The names of the hyper-parameters of these runs. Raises ConfigError where one of them cannot be trained."""
    if not runs:
        raise ConfigError("runs", "empty: a population of zero members", "give at least one (seed, hyper)")
    masked = ("codings",) if "codings" in runs[0][1] else ()
    names = (*HYPER_OUTSIDE_LOSS[:1], *hyper_names(autoencoder), *masked)
    if masked and not autoencoder.coding_axes:
        raise ConfigError("hyper.codings", "this autoencoder has no coding axes", "build one net for each number")
    within = {name: (least, most) for name, least, most in autoencoder.hyper_ranges}
    for seed, hyper in runs:
        check_hyper(hyper, names)
        for name, value in hyper.items():
            if name == "codings":
                validate.whole_number(name, value, minimum=1, maximum=_widest(autoencoder, dataset.inputs))
            else:
                validate.number(name, value, positive=name == "learning_rate", within=within.get(name))
        validate.whole_number("seed", seed, minimum=0, maximum=validate.MAX_SEED)
    validate.whole_number("epochs", epochs, minimum=1)
    rows = len(dataset.x_train)
    if batch_size is not None and validate.whole_number("batch_size", batch_size, minimum=1) > rows:
        raise ConfigError("batch_size", f"{batch_size}, with {rows} training rows", f"set batch_size to at most {rows}")
    return names


def train_block(
    what: ProgramSpec,
    layout: Layout,
    data: Any,
    runs: Runs,
    *,
    report: ProgressCallback | None = None,
    chunk_seconds: float | None = None,
    checkpointer: Checkpointer | None = None,
    on_epochs: Callable[[int, dict[str, np.ndarray]], None] | None = None,
    start: Initialiser | None = None,
) -> TrainedBlock:
    """Train at most `layout.block` runs together, going on from what `keeper` has. `data` is placed for the layout.

    After each chunk, of about `chunk_seconds` (a second for each member that a device takes in turn, at most four),
    `report` is called, and the keeper saves when it is due; when `report`
    raises Interrupted the state is saved first. Where a chunk ends changes nothing, bit for bit. `curves` is given the
    first of the epochs that a chunk has ended and the (runs, epochs) values of each line of `history` from there on.
    `start` is asked for the members' first parameters where nothing was kept; what it gives is kept when it is due.
    """
    functions, run = population.compile_population(what, layout), what.program(layout)
    if chunk_seconds is None:
        chunk_seconds = layout.chunk_seconds
    began, saving, earlier, done, compiling = time.perf_counter(), 0.0, 0.0, 0, functions.seconds
    key_data, hyper = population.member_arrays(layout, runs, what.names)
    state = functions.init(key_data, hyper)
    arrays = lambda: state_arrays(state, key_data, hyper)  # noqa: E731
    kept = checkpointer.load() if checkpointer is not None else None
    if distributed.max_over_processes(int(kept is not None)):
        state, earlier = restore(state, key_data, hyper, kept, layout)
        done = int(np.max(distributed.gather_to_host(state.step)))
    elif start is not None:
        started = start(runs, report)
        state = population.init_from_params(what, layout, key_data, hyper, list(started.params))
        earlier, compiling = started.train_seconds, compiling + started.compile_seconds
        began = time.perf_counter()
        if checkpointer is not None and distributed.max_over_processes(int(checkpointer.due(earlier))):
            checkpointer.save(0, arrays, earlier)
            began = time.perf_counter()
    drawn = done // run.steps_per_epoch
    resumed, chunk, saved = done, max(1, min(run.steps_per_epoch, 32) * layout.devices // layout.groups), began
    while done < run.steps and not _all_bad(state, run.steps_per_epoch, done):
        chunk_start = time.perf_counter()
        done = min(done + chunk, run.steps)
        state = functions.advance(state, key_data, hyper, data, np.int32(done))
        errors = distributed.gather_to_host(state.best_error)  # waits for the chunk
        seconds = time.perf_counter() - chunk_start
        chunk = distributed.max_over_processes(max(1, int(chunk * min(8.0, chunk_seconds / max(seconds, 1e-4)))))
        ended = done // run.steps_per_epoch
        if on_epochs is not None and ended > drawn:
            lines = {
                name: line.reshape(-1, what.epochs)[: len(runs), drawn:ended]
                for name, line in distributed.gather_to_host(state.history).items()
            }
            on_epochs(drawn, lines)
            drawn = ended
        stop = _report(report, Progress(done, run.steps, done // run.steps_per_epoch, what.epochs, float(errors.min())))
        stopping = distributed.max_over_processes(stop.number if stop is not None else 0)
        now = time.perf_counter()
        if checkpointer is not None and distributed.max_over_processes(
            int(stopping or (done < run.steps and checkpointer.due(now - saved)))
        ):
            checkpointer.save(done, arrays, earlier + now - began - saving)
            saved = time.perf_counter()
            saving += saved - now
        if stopping:
            raise stop or Interrupted(stopping)
    if checkpointer is not None and done > resumed:
        checkpointer.due(time.perf_counter() - saved)
    seconds = earlier + time.perf_counter() - began - saving
    final = distributed.gather_to_host(state)
    alone = (jax.tree.map(lambda leaf, i=i: leaf[divmod(i, layout.width)], final) for i in range(len(runs)))
    fits = [_fit_of(one, what, hyper, run.steps_per_epoch) for one, (_, hyper) in zip(alone, runs, strict=True)]
    share = {"compile_seconds": compiling, "train_seconds": seconds / len(runs)}
    return TrainedBlock([one._replace(**share) for one in fits], seconds, done, resumed, arrays)


def _all_bad(state: FitState, steps_per_epoch: int, done: int) -> bool:
    """Whether every member has diverged, and the epoch of the last to do so has ended."""
    bad = distributed.gather_to_host(state.bad_step)
    return bool((bad >= 0).all()) and done >= (int(bad.max()) // steps_per_epoch + 1) * steps_per_epoch


def _report(report: ProgressCallback | None, progress: Progress) -> Interrupted | None:
    try:
        if report is not None:
            report(progress)
    except Interrupted as stop:
        return stop
    return None


def _fit_of(state: FitState, what: ProgramSpec, hyper: Mapping[str, float], steps_per_epoch: int) -> Fit:
    bad_step, best_error = int(state.bad_step), float(state.best_error)
    epochs = what.epochs if bad_step < 0 else bad_step // steps_per_epoch + 1
    params, last_params = state.best_params, state.params
    if "codings" in hyper:
        axes, codings = what.autoencoder.coding_axes, int(hyper["codings"])
        params, last_params = slice_codings(params, axes, codings), slice_codings(last_params, axes, codings)
    return Fit(
        params=params,
        last_params=last_params,
        best_epoch=int(state.best_epoch),
        best_error=best_error,
        history={name: np.asarray(line)[:epochs] for name, line in state.history.items()},
        status="completed" if bad_step < 0 and np.isfinite(best_error) else "diverged",
        bad_step=None if bad_step < 0 else bad_step,
        compile_seconds=0.0,
        train_seconds=0.0,
    )


def _widest(autoencoder: Autoencoder, inputs: int) -> int:
    def codings() -> jax.Array:
        return autoencoder.encode(autoencoder.init(jax.random.key(0)), jax.numpy.zeros((1, inputs)))

    return jax.eval_shape(codings).shape[-1]
