"""What a score is given, what it returns and how it is compared with PCA."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import numpy as np

from aejax.datasets.base import Dataset, evenly_spaced
from aejax.evaluation import pca
from aejax.evaluation.reconstruction import PCAReference, pca_reference, reconstruct
from aejax.nets import Params
from aejax.variants import Autoencoder


@dataclass(frozen=True, eq=False)
class TrainedRun:
    """A trained autoencoder with its dataset, as scores see it. What several scores need is computed once.

    hyper: hyper-parameters of the loss.
    codings: number of codings.
    key: key of the run's seed, for random draws.
    check_interrupt: a score that takes long calls it every few seconds; it may raise Interrupted.
    """

    autoencoder: Autoencoder
    params: Params
    hyper: Mapping[str, float]
    dataset: Dataset
    codings: int
    key: jax.Array
    check_interrupt: Callable[[], None] = lambda: None
    _training_codings: dict[int, np.ndarray] = field(default_factory=dict, init=False, repr=False)

    def reconstruct(self, x_nd: np.ndarray, *, unit: float = 1.0) -> tuple[np.ndarray, ...]:
        """Codings (n, k), reconstructions (n, d) and squared errors (n,) of the rows `x_nd / unit`."""
        return reconstruct(self.autoencoder, self.params, x_nd, unit=unit)

    def encode(self, x_nd: np.ndarray) -> np.ndarray:
        """Codings (n, k) of rows that have the unit of the dataset."""
        return self.reconstruct(x_nd, unit=self.dataset.unit)[0]

    @functools.cached_property
    def _test_rows(self) -> tuple[np.ndarray, np.ndarray]:
        codings_nk, _, errors_n = self.reconstruct(self.dataset.x_test, unit=self.dataset.unit)
        return codings_nk, errors_n

    @property
    def test_codings_nk(self) -> np.ndarray:
        """Codings of the test rows, (n, k)."""
        return self._test_rows[0]

    @property
    def test_errors_n(self) -> np.ndarray:
        """Squared error of each test row, summed over inputs, (n,)."""
        return self._test_rows[1]

    def training_codings(self, max_rows: int) -> np.ndarray:
        """Codings of at most `max_rows` evenly spaced training rows, (n, k)."""
        rows = evenly_spaced(len(self.dataset.x_train), max_rows)
        if len(rows) not in self._training_codings:
            self._training_codings[len(rows)] = self.encode(self.dataset.x_train[rows])
        return self._training_codings[len(rows)]

    @property
    def reference(self) -> PCAReference:
        """The reference PCA of the dataset, which is computed once per dataset."""
        return pca_reference(self.dataset)

    @property
    def truncated_pca(self) -> pca.PCAParams:
        """The reference PCA with as many components as there are codings, at most its rank."""
        params = self.reference.params
        return pca.truncate(params, min(self.codings, params.rank))


Measurement = tuple[dict[str, float | None], dict[str, np.ndarray]]
"""Numbers by name, None where a number is undefined for the run, and arrays by name, for figures."""


class Comparison(NamedTuple):
    """How a report compares a score's number with a baseline, such as PCA. The lower number is the better one.

    ours: name of the autoencoder's number.
    theirs: name of the baseline's number.
    baseline: name of the baseline in the report.
    sentence: template of the sentence, with {ours} and {theirs}.
    sse_introduction: introduction of the comparison of squared errors, which the report adds to this one.
    higher_is_better: whether the higher number is the better one instead.
    all_settings: whether all settings with as many codings are compared, not only the best one on validation rows.
    in_nats: whether the report gives the difference of the numbers, in nats, instead of their ratio.
    requires: name of a number; rows without it are not compared.
    exact_number: name of a number of which `ours` is an estimate; it is compared instead where a row has it.
    """

    ours: str
    theirs: str
    baseline: str
    sentence: str
    sse_introduction: str = "In squared error"
    higher_is_better: bool = False
    all_settings: bool = False
    in_nats: bool = False
    requires: str = ""
    exact_number: str = ""


class Score(NamedTuple):
    """A score with its options.

    name: the score's name in `SCORES` and in stored configs.
    options: names and values of the options.
    measure: `measure(trained, **options)` returns numbers and arrays by name.
    headers: for each number of the report's table its name, column header and meaning; other numbers are in the row
        only.
    needs_labels: whether the dataset must have labels.
    comparisons: comparisons with baselines, which the report's verdict states before that of squared errors.
    chosen_by: name of a number on validation rows, lower is better, by which the report chooses settings instead of
        their validation error; empty for none.
    """

    name: str
    options: tuple[tuple[str, Any], ...]
    measure: Callable[..., Measurement]
    headers: tuple[tuple[str, str, str], ...] = ()
    needs_labels: bool = False
    comparisons: tuple[Comparison, ...] = ()
    chosen_by: str = ""

    def config(self) -> dict[str, Any]:
        """The score's name and options as JSON values."""
        values = {name: list(value) if isinstance(value, tuple) else value for name, value in self.options}
        return {"name": self.name, **values}

    def __call__(self, trained: TrainedRun) -> Measurement:
        """Measure a trained run."""
        return self.measure(trained, **dict(self.options))
