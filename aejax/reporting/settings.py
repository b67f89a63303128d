"""Settings: what the rows of an experiment are grouped into before anything is said about them.

A *setting* is everything about a run except its seed; seeds are its repetitions. Settings are chosen by validation
error and reported by test error. A run that did not complete is counted and listed, never ranked.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from statistics import fmean, median, stdev
from typing import Any

import numpy as np

from aejax.evaluation import scores
from aejax.evaluation.reconstruction import ROUNDING
from aejax.storage.run_folders import to_json

Row = dict[str, Any]
Arrays = Callable[[str], dict[str, np.ndarray] | None]

_SEEDS = {"seed", "seeds", "hyper"}  # of a config: what differs between seeds, or stands in the row's own `hyper`
_NOT_OPTIONS = {"experiment", "label", "dataset", "widths", "codings", "digests", "scores"}  # shown elsewhere, or not


@dataclass(frozen=True, eq=False)
class Setting:
    """A label with its options, and the rows of its seeds.

    `rivals`: the settings with a completed run and the same dataset, label, codings and score that chooses, itself
    included; `group`: those without one as well. `dataset` carries the data's fingerprint where one name stands for
    several data sets. `hyper` leaves out a number of codings that was swept as a hyper-parameter: it is the setting's
    own.
    """

    dataset: str
    label: str
    widths: list[int]
    codings: int
    hyper: dict[str, float]
    config: dict[str, Any]
    runs: list[Row]
    rivals: list[Setting]
    group: list[Setting] = field(default_factory=list)

    @functools.cached_property
    def completed(self) -> list[Row]:
        """The rows that can be ranked."""
        return [row for row in self.runs if row["status"] == "completed"]

    @property
    def shown(self) -> Row:
        """The completed run with the lowest validation error: the one that figures show."""
        return min(self.completed, key=criterion)

    @property
    def image_shape(self) -> tuple[int, ...]:
        """Height, width and perhaps colours of the data's images; empty where the data has none."""
        return tuple(self.runs[0]["data"]["image_shape"] or ())

    @functools.cached_property
    def validation(self) -> float:
        """Mean `criterion` of the completed seeds, infinite where none is: what settings are chosen by."""
        return fmean(map(criterion, self.completed)) if self.completed else math.inf

    @functools.cached_property
    def best(self) -> bool:
        """Whether its mean validation error is the lowest of its rivals'."""
        return bool(self.completed) and self is min(self.rivals, key=lambda s: s.validation)

    @property
    def wins(self) -> int:
        """Number of seeds whose test error is below that of PCA with as many codings, where that is not exact."""
        return sum(
            not is_exact(row, "pca_sse_test") and row["sse_test"] < row["pca_sse_test"] for row in self.completed
        )

    @property
    def pca_exact(self) -> bool:
        """Whether PCA with as many codings makes no error: then nothing wins against it."""
        return bool(self.completed) and all(is_exact(row, "pca_sse_test") for row in self.completed)

    @functools.cached_property
    def headers(self) -> list[tuple[str, str, str]]:
        """Field, header and meaning of the numbers that its scores measured."""
        headers = [header for score in _scores(self.config) for header in score.headers]
        held = {name for row in self.completed for name in row.get("scores", {})}
        return [header for header in dict.fromkeys(headers) if header[0] in held]

    @property
    def against(self) -> list[scores.Comparison]:
        """What its scores hold against PCA."""
        return [one for score in _scores(self.config) for one in score.against]

    def pairs(self, against: scores.Comparison) -> list[tuple[float, float]]:
        """Our number beside PCA's, of every completed seed that has both."""
        found = [{**row, **row.get("scores", {})} for row in self.completed]
        found = [row for row in found if not against.only or row.get(against.only) is not None]
        estimates = [row.get(against.ours) if row.get(against.exact) is None else row[against.exact] for row in found]
        pairs = [(ours, row.get(against.theirs)) for ours, row in zip(estimates, found, strict=True)]
        return [(ours, theirs) for ours, theirs in pairs if ours is not None and theirs is not None]

    def values(self, metric: str) -> list[float]:
        """A metric of the completed seeds that have it; `scores.NAME` is one that a score measured."""
        kind, _, name = metric.partition(".")
        found = [row.get(kind, {}).get(name) if name else row.get(metric) for row in self.completed]
        return [value for value in found if value is not None]

    def over_seeds(self, metric: str) -> float | None:
        """A metric's mean over completed seeds (the worst angle, median time and epoch), None when no seed has it."""
        how = {"principal_angle_max_deg": max, "train_seconds": median, "best_epoch": median}
        values = self.values(metric)
        return how.get(metric, fmean)(values) if values else None

    @functools.cached_property
    def options(self) -> dict[str, str]:
        """What the table has no column of its own for, as text."""
        options = {**self.config, **{name: self.runs[0][name] for name in ("variant", "tied")}, **self.hyper}
        options |= options.pop("options", {})
        before = options.pop("pretraining", None)
        if before:
            options |= {f"pretraining {name}": value for name, value in {**before, "phases": "plain"}.items()}
        options |= {f"{name} digest": digest for name, digest in self.config.get("digests", {}).items()}
        if "codings" in self.runs[0]["hyper"] and self.config.get("widths"):
            options["codings masked of"] = self.config["widths"][-1]
        return {name: _option(value) for name, value in options.items() if name not in _NOT_OPTIONS}

    @property
    def distinct(self) -> dict[str, str]:
        """Widths and options, of those in which it and its rivals are not all the same."""
        varying = self.rivals[0]._varying if self.completed else _vary([self, *self.rivals])
        return {name: text for name, text in self._texts.items() if name in varying}

    @functools.cached_property
    def _texts(self) -> dict[str, str]:
        return {"widths": "-".join(map(str, self.widths)), **self.options}

    @functools.cached_property
    def _varying(self) -> set[str]:
        return _vary(self.rivals)


def criterion(row: Row) -> float:
    """What a completed run is chosen by, lower being better: a number of one of its scores, where one chooses, else its
    variant's own, else its squared error on validation.
    """
    score = _choosing(row["config"])
    value = None if score is None else row.get("scores", {}).get(score.chosen_by)
    return row.get("criterion_validation", row["sse_validation"]) if value is None else value


def _choosing(config: dict[str, Any]) -> scores.Score | None:
    """The first of a config's scores that settings are chosen by."""
    return next((score for score in _scores(config) if score.chosen_by), None)


def _scores(config: dict[str, Any]) -> list[scores.Score]:
    return [scores.from_config(one) for one in config.get("scores", []) if one["name"] in scores.SCORES]


def group_settings(rows: Sequence[Row]) -> list[Setting]:
    """Group rows into settings, ordered by dataset, label and codings."""
    names = [name for name, _ in {(r["dataset"], r["provenance"]["dataset_fingerprint"]) for r in rows}]
    found: dict[str, Setting] = {}
    groups: dict[tuple, tuple[list[Setting], list[Setting]]] = {}
    for row in sorted(rows, key=lambda r: r["seed"]):
        name = row["dataset"]
        if names.count(name) > 1:
            name += f" ({row['provenance']['dataset_fingerprint'][:12]})"
        config = {key: value for key, value in row["config"].items() if key not in _SEEDS}
        hyper = {key: value for key, value in row["hyper"].items() if key != "codings"}
        identity = [name, *(row[name] for name in ("label", "widths", "codings")), hyper, config]
        key = to_json([*identity, row["variant"], row["tied"], "codings" in row["hyper"]], sort_keys=True)
        if key not in found:
            choosing = _choosing(config)  # what is chosen by other numbers is no rival
            by = None if choosing is None else to_json(choosing.config(), sort_keys=True)
            rivals, group = groups.setdefault((name, row["label"], row["codings"], by), ([], []))
            found[key] = Setting(*identity, runs=[], rivals=rivals, group=group)
        found[key].runs.append(row)
    for setting in found.values():
        setting.group.append(setting)
        setting.rivals.extend([setting] if setting.completed else [])
    return sorted(found.values(), key=lambda s: (s.dataset, s.label, s.codings))


def swept_values(group: Sequence[Setting]) -> dict[str, list[float]]:
    """The hyper-parameters that take more than one value among these settings, and their values in order."""
    names = unique(name for setting in group for name in setting.hyper)
    values = {name: sorted({s.hyper[name] for s in group if name in s.hyper}) for name in names}
    return {name: several for name, several in values.items() if len(several) > 1}


def by_validation(group: Iterable[Setting]) -> list[Setting]:
    """The settings with a completed run, from the lowest mean validation error to the highest."""
    return sorted((s for s in group if s.completed), key=lambda s: s.validation)


def is_exact(row: Row, metric: str) -> bool:
    """Whether this squared error on test is zero up to rounding, beside that of the mean predictor."""
    return row[metric] <= ROUNDING * row["data"]["mean_sse_test"]


def confidence(values: Sequence[float]) -> float | None:
    """Half-width of the 95 % Student t interval of the mean, None with fewer than two values."""
    if len(values) < 2:
        return None
    from scipy.stats import t  # a slow import

    return float(t.ppf(0.975, len(values) - 1)) * stdev(values) / math.sqrt(len(values))


def unique(values: Iterable[Any]) -> list[Any]:
    """Distinct values in order of first appearance."""
    return list(dict.fromkeys(values))


def format_number(value: float | None, digits: int = 4) -> str:
    """A number with `digits` significant digits, or a dash for None."""
    if value is None:
        return "–"
    if value == 0 or not 1e-4 <= abs(value) < 1e6:
        return f"{value:.{digits - 1}e}" if value else "0"
    return f"{value:.{max(0, digits - 1 - math.floor(math.log10(abs(value))))}f}"


def _vary(found: Sequence[Setting]) -> set[str]:
    """Names of the texts that are not the same in all of these settings."""
    texts: dict[str, set[str | None]] = {name: set() for setting in found for name in setting._texts}
    for name, held in texts.items():
        held.update(setting._texts.get(name) for setting in found)
    return {name for name, held in texts.items() if len(held) > 1}


def _option(value: Any) -> str:
    text = f"{value:g}" if isinstance(value, float) else value if isinstance(value, str) else to_json(value)
    return text if len(text) <= 40 else text[:39] + "…"
