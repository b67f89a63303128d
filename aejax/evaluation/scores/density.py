"""A density fitted to the codings of training rows after training: what `aejax sample --density` draws from."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from aejax.datasets.base import evenly_spaced
from aejax.evaluation import density as densities
from aejax.evaluation import reconstruction
from aejax.evaluation.scores.base import Measurement, Score, TrainedRun
from aejax.runtime import validate
from aejax.runtime.errors import ConfigError, suggest

ROWS = 10_000
"""Most training rows that a density is fitted to: evenly spaced ones, all of them where there are fewer."""
_MEANING = "log-density of test codings under the {} fitted to training codings, nats, mean over rows"


def density(*, kind: str = "mixture", components: int = 10) -> Score:
    """Fit a `kind` of density, "mixture" (of that many full Gaussians) or "gaussian", and store it with the run.

    Arrays: density/KIND/weights_c, means_ck, factors_ckr, noise_k. Number: KIND_log_likelihood, the mean log-density of
    test codings in nats, comparable between densities of the same codings only. With fewer training rows than
    components there are as many components as rows. Raises ConfigError for another kind, and a number of
    components below 1.
    """
    if kind not in densities.KINDS:
        raise ConfigError("scores.density.kind", repr(kind), suggest(kind, densities.KINDS))
    components = validate.whole_number("scores.density.components", components, minimum=1)
    options: tuple[tuple[str, Any], ...] = (("kind", kind), ("components", components))
    headers = ((f"{kind}_log_likelihood", f"log q(z), {kind}", _MEANING.format(kind)),)
    return Score("density", options if kind == "mixture" else options[:1], _measure, headers)


def _measure(trained: TrainedRun, kind: str, components: int = 1) -> Measurement:
    training_nk = training_codings(trained)
    fitted = densities.fit(training_nk, kind, min(components, len(training_nk)), seed=seed_of(trained.key))
    z_nk = trained.test_codings_nk
    likelihood = float(densities.log_density(fitted, z_nk).mean())
    return {f"{kind}_log_likelihood": likelihood}, fitted.arrays(f"density/{kind}")


def training_codings(trained: TrainedRun, rows: int = ROWS) -> np.ndarray:
    """Codings of at most `rows` evenly spaced training rows, (n, k)."""
    x_nd = trained.dataset.x_train
    some = evenly_spaced(len(x_nd), rows)
    return reconstruction.reconstruct(trained.autoencoder, trained.params, x_nd[some], unit=trained.dataset.unit)[0]


def seed_of(key: jax.Array) -> int:
    """A seed for libraries that take a whole number, from a key."""
    return int(jax.random.bits(key, dtype=np.uint32))
