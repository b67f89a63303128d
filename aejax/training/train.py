"""Train one autoencoder, or a population of them in one compiled program."""

from __future__ import annotations

from typing import NamedTuple

import jax
import optax

from aejax.datasets import Dataset
from aejax.nets import Params
from aejax.runtime import validate
from aejax.runtime.errors import ConfigError
from aejax.training import autotune, loop, population
from aejax.training.autotune import LayoutChoice
from aejax.training.layout import Runs, place_data
from aejax.training.loop import Fit, Initialiser, InitialParams, Optimiser, Progress, ProgressCallback
from aejax.training.schedules import Schedule, constant
from aejax.variants import Autoencoder, check_hyper, hyper_names

__all__ = ["Fit", "FittedPopulation", "Progress", "check_fit", "fit", "fit_population", "make_key", "start_from"]


class FittedPopulation(NamedTuple):
    """Fits in the order of their runs, and the layout they were trained in."""

    fits: list[Fit]
    choice: LayoutChoice


def start_from(params: Params) -> Initialiser:
    """Gives every member the same first parameters, for the argument `start` of `fit` and `fit_population`."""
    return lambda runs, report: InitialParams([params] * len(runs))


def make_key(seed: int) -> jax.Array:
    """The key of a seed. Raises ConfigError outside 0 … 2^32 - 1, where JAX wraps around without a word."""
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
    """Train on `dataset.x_train` and keep the parameters that are best on `dataset.x_validation`.

    The test rows are not touched. `batch_size=None` is the full batch; an epoch is then `full_batch_steps` steps.
    `hyper` holds `learning_rate` and every hyper-parameter of the variant's loss. The program runs in chunks of about
    `chunk_seconds` (1); `report` is called after each. `start` gives the first parameters, for example
    `start_from(params)`. Raises ConfigError on an unknown or missing hyper-parameter, on an impossible value, and on a
    batch larger than the training rows.
    """
    population_fits = fit_population(
        autoencoder,
        dataset,
        [(seed, hyper)],
        epochs=epochs,
        batch_size=batch_size,
        schedule=schedule,
        optimiser=optimiser,
        full_batch_steps=full_batch_steps,
        how="loop",
        report=report,
        chunk_seconds=chunk_seconds,
        start=start,
    )
    return population_fits.fits[0]


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

    The hyper-parameter `codings` trains that many of the autoencoder's codings, with the others masked: one program
    gives the whole curve of error against codings, and the parameters of each fit are those of the smaller net.

    `how` is "vmap" (`width` members at once), "map" (one after another inside the program, bit for bit what `fit`
    gives), "loop" (one program call each), "data" (the rows of every batch shared out over the devices) or "auto": the
    fastest of these where measuring is worth the time. Members are spread over all devices; what does not fit into
    memory is trained in blocks. A member that diverges is frozen and harms no other. `start` gives the members their
    first parameters.

    A vmapped member is not bitwise the fit alone: XLA sums a batched product in another order. Raises ConfigError as
    `fit` does, and MachineError where not one member fits into memory.
    """
    names = check_fit(autoencoder, dataset, runs, epochs=epochs, batch_size=batch_size)
    spec = population.program_spec(
        autoencoder,
        dataset,
        names,
        epochs=epochs,
        batch_size=batch_size,
        schedule=schedule,
        optimiser=optimiser,
        full_batch_steps=validate.whole_number("full_batch_steps", full_batch_steps, minimum=1),
    )
    choice = autotune.choose_layout(spec, dataset, runs, how=how, width=width)
    layout = choice.layout
    data = place_data(dataset, layout)
    fits: list[Fit] = []
    for first in range(0, len(runs), layout.block):
        compiled = population.compile_population(spec, layout)
        block_runs = runs[first : first + layout.block]
        block = loop.train_block(compiled, data, block_runs, report=report, chunk_seconds=chunk_seconds, start=start)
        fits += block.fits
    return FittedPopulation(fits, choice)


def check_fit(
    autoencoder: Autoencoder, dataset: Dataset, runs: Runs, *, epochs: int, batch_size: int | None
) -> tuple[str, ...]:
    """The names of the hyper-parameters of these runs. Raises ConfigError where one of them cannot be trained."""
    if not runs:
        raise ConfigError("runs", "empty: a population of zero members", "give at least one (seed, hyper)")
    masked = ("codings",) if "codings" in runs[0][1] else ()
    names = ("learning_rate", *hyper_names(autoencoder), *masked)
    if masked and not autoencoder.coding_axes:
        raise ConfigError("hyper.codings", "this autoencoder has no coding axes", "build one net for each number")
    within = {name: (least, most) for name, least, most in autoencoder.hyper_ranges}
    for seed, hyper in runs:
        check_hyper(hyper, names)
        for name, value in hyper.items():
            if name == "codings":
                validate.whole_number(name, value, minimum=1, maximum=_codings_of(autoencoder, dataset.inputs))
            else:
                validate.number(name, value, positive=name == "learning_rate", within=within.get(name))
        validate.whole_number("seed", seed, minimum=0, maximum=validate.MAX_SEED)
    validate.whole_number("epochs", epochs, minimum=1)
    rows = len(dataset.x_train)
    if batch_size is not None and validate.whole_number("batch_size", batch_size, minimum=1) > rows:
        raise ConfigError("batch_size", f"{batch_size}, with {rows} training rows", f"set batch_size to at most {rows}")
    return names


def _codings_of(autoencoder: Autoencoder, inputs: int) -> int:
    """The number of codings of an autoencoder for rows of so many inputs."""

    def codings() -> jax.Array:
        return autoencoder.encode(autoencoder.init(jax.random.key(0)), jax.numpy.zeros((1, inputs)))

    return jax.eval_shape(codings).shape[-1]
