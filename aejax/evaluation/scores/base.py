"""What a score is."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import numpy as np

from aejax.datasets.base import Dataset
from aejax.evaluation.reconstruction import PCAReference, pca_reference, reconstruct
from aejax.nets import Params
from aejax.variants import Autoencoder


@dataclass(frozen=True, eq=False)
class TrainedRun:
    """A trained autoencoder as scores see it.

    `hyper` are its hyper-parameters, `codings` its number of codings, `key` the key of its seed for random draws. A
    score that takes long calls `check_interrupt` every few seconds: it may raise Interrupted.
    """

    autoencoder: Autoencoder
    params: Params
    hyper: Mapping[str, float]
    dataset: Dataset
    codings: int
    key: jax.Array
    check_interrupt: Callable[[], None] = lambda: None

    @functools.cached_property
    def test_codings_nk(self) -> np.ndarray:
        """Codings of the test rows."""
        return self._test_rows[0]

    @functools.cached_property
    def test_errors_n(self) -> np.ndarray:
        """Squared error of each test row, summed over inputs."""
        return self._test_rows[1]

    @functools.cached_property
    def _test_rows(self) -> tuple[np.ndarray, np.ndarray]:
        x_test, unit = self.dataset.x_test, self.dataset.unit
        codings_nk, _, errors_n = reconstruct(self.autoencoder, self.params, x_test, unit=unit)
        return codings_nk, errors_n

    @property
    def reference(self) -> PCAReference:
        """The reference PCA of its data."""
        return pca_reference(self.dataset)


Measurement = tuple[dict[str, float | None], dict[str, np.ndarray]]
"""Numbers by name, None where there is none; arrays by name, for figures."""


class Comparison(NamedTuple):
    """What a score holds against PCA: two numbers of a row, of which the lower one wins, or the `higher`.

    `words` are a template with {ours} and {theirs}; `otherwise` says what the plain comparison of squared errors then
    is. A `curve` is of all settings with as many codings, not only of the one that is best by validation; numbers in
    `nats` differ, others have a ratio. Only rows that have a number `only` are held against anything. Where a row has a
    number `exact`, of which `ours` is an estimate, that is held against PCA's.
    """

    ours: str
    theirs: str
    rival: str
    words: str
    otherwise: str
    higher: bool = False
    curve: bool = False
    nats: bool = False
    only: str = ""
    exact: str = ""


class Score(NamedTuple):
    """A score with its options: `measure(trained, **options)` gives numbers and arrays by name.

    `headers` says of each number how a table calls it and what it means, as (header, meaning); numbers without one
    are in the row only. `needs_labels` scores are for data with labels. `against`: what a summary's verdict says first.
    `chosen_by` names a number on validation, lower being better, by which settings are chosen instead of their error.
    """

    name: str
    options: tuple[tuple[str, Any], ...]
    measure: Callable[..., Measurement]
    headers: tuple[tuple[str, str, str], ...] = ()
    needs_labels: bool = False
    against: tuple[Comparison, ...] = ()
    chosen_by: str = ""

    def config(self) -> dict[str, Any]:
        """Name and options as JSON values."""
        values = {name: list(value) if isinstance(value, tuple) else value for name, value in self.options}
        return {"name": self.name, **values}

    def __call__(self, trained: TrainedRun) -> Measurement:
        """Measure."""
        return self.measure(trained, **dict(self.options))
