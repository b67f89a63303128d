"""Training: compile a program once, run it in chunks, keep what is best on validation."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from aejax import checks
from aejax.datasets.base import Dataset
from aejax.errors import ConfigError
from aejax.nets import Params
from aejax.program import Data, FitState, Optimiser, Program, program
from aejax.schedules import Schedule, constant
from aejax.variants import Autoencoder, check_hyper, hyper_names


class Fit(NamedTuple):
    """A finished fit. `params` are those of the epoch with the lowest validation error, `last_params` the final ones.

    `history` maps train_loss, train_error and validation_error to (epochs,) float32 arrays: means over the examples of
    an epoch, errors per input; `best_epoch` counts from 0, as they do. `status` is "completed", or "diverged" when the
    loss stopped being finite (then `history` ends at that epoch) or the validation error never was finite.
    `compile_seconds` is what compiling this program took, also when an earlier fit paid.
    """

    params: Params
    last_params: Params
    best_epoch: int
    best_error: float
    history: dict[str, np.ndarray]
    status: str
    compile_seconds: float
    train_seconds: float


class Progress(NamedTuple):
    """What a `report` function is told after each chunk."""

    step: int
    steps: int
    epoch: int
    epochs: int
    best_error: float


class Compiled(NamedTuple):
    """Compiled `init` and `advance` of a program, and the seconds that took."""

    init: Callable[..., FitState]
    advance: Callable[..., FitState]
    seconds: float


@functools.lru_cache(maxsize=64)
def compiled(
    fit_program: Program,
    train_aval: jax.ShapeDtypeStruct,
    validation_aval: jax.ShapeDtypeStruct,
    names: tuple[str, ...],
) -> Compiled:
    """Compile a program for data of these shapes. Cached: a second fit of the same shapes compiles nothing."""
    start = time.perf_counter()
    key = jax.random.key(0)
    hyper = dict.fromkeys(names, jax.ShapeDtypeStruct((), jnp.float32))
    data = Data(train_aval, validation_aval)  # pyright: ignore[reportArgumentType]
    init = jax.jit(fit_program.init).lower(key, hyper).compile()
    state = jax.eval_shape(fit_program.init, key, hyper)
    until = jax.ShapeDtypeStruct((), jnp.int32)
    advance = jax.jit(fit_program.advance, donate_argnums=0).lower(state, key, data, hyper, until).compile()
    return Compiled(init, advance, time.perf_counter() - start)


def make_key(seed: int) -> jax.Array:
    """The key of a seed. Raises ConfigError outside 0 … 2^32 - 1, where JAX would silently wrap around."""
    return jax.random.key(checks.whole_number("seed", seed, least=0, most=checks.MOST_SEED))


def fit(
    autoencoder: Autoencoder,
    dataset: Dataset,
    *,
    seed: int,
    epochs: int,
    batch_size: int | None,
    schedule: Schedule = constant,
    optimiser: Optimiser = optax.adam,
    report: Callable[[Progress], None] | None = None,
    chunk_seconds: float = 1.0,
    **hyper: float,
) -> Fit:
    """Train on `dataset.x_train`, keep the parameters that are best on `dataset.x_validation`; test is not touched.

    `batch_size=None` is the full batch. `hyper` is `learning_rate` and every hyper-parameter of the variant's loss.
    The program runs in chunks of about `chunk_seconds`, after each of which `report` is called.
    Raises ConfigError on an unknown or missing hyper-parameter, a number that cannot be, or a batch larger than the
    training rows.
    """
    names = ("learning_rate", *hyper_names(autoencoder))
    check_hyper(hyper, names)
    for name, value in hyper.items():
        checks.number(name, value, positive=name == "learning_rate")
    epochs, rows = checks.whole_number("epochs", epochs, least=1), len(dataset.x_train)
    if batch_size is not None and checks.whole_number("batch_size", batch_size, least=1) > rows:
        raise ConfigError("batch_size", f"{batch_size}, with {rows} training rows", f"set batch_size to at most {rows}")
    key = make_key(seed)
    run = program(
        autoencoder,
        rows=rows,
        batch_size=rows if batch_size is None else int(batch_size),
        epochs=epochs,
        unit=dataset.unit,
        schedule=schedule,
        optimiser=optimiser,
    )
    data = Data(jnp.asarray(dataset.x_train), jnp.asarray(dataset.x_validation))
    avals = (jax.ShapeDtypeStruct(x.shape, x.dtype) for x in data)
    functions = compiled(run, *avals, names)
    values = {name: jnp.float32(hyper[name]) for name in names}

    start = time.perf_counter()
    state = functions.init(key, values)
    done, chunk, status, epochs_done = 0, min(run.steps_per_epoch, 32), "completed", 0
    while done < run.steps and status == "completed":
        chunk_start = time.perf_counter()
        done = min(done + chunk, run.steps)
        state = functions.advance(state, key, data, values, jnp.int32(done))
        best_error = float(state.best_error)  # waits for the chunk
        seconds = time.perf_counter() - chunk_start
        chunk = max(1, int(chunk * min(8.0, chunk_seconds / max(seconds, 1e-4))))
        epochs_done = done // run.steps_per_epoch
        losses = np.asarray(state.history["train_loss"])[:epochs_done]
        if not np.isfinite(losses).all() or not np.isfinite(float(state.epoch_sums["loss"])):
            status = "diverged"
            epochs_done = int(np.argmin(np.isfinite(losses))) + 1 if not np.isfinite(losses).all() else epochs_done
        if report is not None:
            report(Progress(done, run.steps, epochs_done, epochs, best_error))
    train_seconds = time.perf_counter() - start
    if not np.isfinite(float(state.best_error)):
        status = "diverged"
    return Fit(
        params=state.best_params,
        last_params=state.params,
        best_epoch=int(state.best_epoch),
        best_error=float(state.best_error),
        history={name: np.asarray(line)[:epochs_done] for name, line in state.history.items()},
        status=status,
        compile_seconds=functions.seconds,
        train_seconds=train_seconds,
    )
