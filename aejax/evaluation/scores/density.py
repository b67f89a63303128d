"""A density fitted to the codings of training rows after training; `aejax sample --density` draws from it."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from aejax.evaluation import density as densities
from aejax.evaluation.scores.base import Measurement, Score, TrainedRun
from aejax.runtime import validate
from aejax.runtime.errors import ConfigError, suggest

ROWS = 10_000
"""Most training rows that a density is fitted to; they are evenly spaced."""


def density(*, kind: str = "mixture", components: int = 10) -> Score:
    """Fit a density to training codings and store it with the run (Ghosh et al. 2020).

    kind: "mixture" or "gaussian".
    components: number of Gaussians of a mixture, at most the number of training rows.

    The number is KIND_log_likelihood, the log-density of test codings in nats, averaged over rows; higher is better. It
    is comparable only between densities of the same codings. The arrays are the fields of `evaluation.density.Density`,
    as `density/KIND/FIELD`. Raises ConfigError for another kind and for `components` below 1.
    """
    if kind not in densities.KINDS:
        raise ConfigError("scores.density.kind", repr(kind), suggest(kind, densities.KINDS))
    components = validate.whole_number("scores.density.components", components, minimum=1)
    options: tuple[tuple[str, Any], ...] = (("kind", kind), ("components", components))
    meaning = f"log-density of test codings under the {kind} fitted to training codings, nats, mean over rows"
    headers = ((f"{kind}_log_likelihood", f"log q(z), {kind}", meaning),)
    return Score("density", options if kind == "mixture" else options[:1], _measure, headers)


def _measure(trained: TrainedRun, kind: str, components: int = 1) -> Measurement:
    training_nk = trained.training_codings(ROWS)
    seed = int(jax.random.bits(trained.key, dtype=np.uint32))
    fitted = densities.fit(training_nk, kind, min(components, len(training_nk)), seed=seed)
    log_likelihood = float(densities.log_density(fitted, trained.test_codings_nk).mean())
    return {f"{kind}_log_likelihood": log_likelihood}, fitted.arrays(f"density/{kind}")
