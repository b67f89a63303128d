"""Settings: the rows of an experiment, grouped by everything but the seed, and how numbers and texts are written.

A *setting* is everything about a run except its seed; the seeds are its repetitions. Settings are chosen by validation
error and reported by test error. A run that did not complete is counted and listed, but never ranked.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean, median, stdev
from typing import Any

import numpy as np

from aejax.evaluation.reconstruction import ROUNDING
from aejax.evaluation.scores import SCORES, Comparison, Score, from_config
from aejax.storage.run_folders import to_json

Row = dict[str, Any]
ArrayLoader = Callable[[str], dict[str, np.ndarray] | None]
"""Returns the arrays of a run by its run_id, or None where they are not in this copy of the results."""

_NOT_IN_A_SETTING = {"seed", "seeds", "hyper"}
"""Fields of a config that differ between the seeds of a setting, or that the row repeats in its own `hyper`."""
_NOT_OPTIONS = {"experiment", "label", "dataset", "widths", "codings", "digests", "scores"}
"""Fields of a config that the table shows elsewhere, or not at all."""


@dataclass(frozen=True, eq=False)
class Setting:
    """A label with its options, and the rows of its seeds.

    `group` holds the settings with the same dataset, label, codings and choosing score, this setting included.
    `dataset` includes the data's fingerprint where several data sets have one name. `hyper` leaves out a number of
    codings that was swept as a hyper-parameter, because `codings` holds it.
    """

    dataset: str
    label: str
    widths: list[int]
    codings: int
    hyper: dict[str, float]
    config: dict[str, Any]
    runs: list[Row]
    group: list[Setting]

    @functools.cached_property
    def completed(self) -> list[Row]:
        """The rows of completed runs: the only ones that are ranked."""
        return [row for row in self.runs if row["status"] == "completed"]

    @functools.cached_property
    def rivals(self) -> list[Setting]:
        """The settings of the group that have a completed run."""
        return [setting for setting in self.group if setting.completed]

    @functools.cached_property
    def best_run(self) -> Row:
        """The completed run with the lowest `criterion`: the run that figures show."""
        return min(self.completed, key=self._criterion)

    @property
    def image_shape(self) -> tuple[int, ...]:
        """Height, width and perhaps colours of the data's images; empty where the data has no images."""
        return tuple(self.runs[0]["data"]["image_shape"] or ())

    @functools.cached_property
    def validation(self) -> float:
        """Mean `criterion` of the completed seeds, by which settings are chosen; infinite without a completed seed."""
        return fmean(map(self._criterion, self.completed)) if self.completed else math.inf

    @functools.cached_property
    def best(self) -> bool:
        """Whether the setting has the lowest `validation` of its rivals."""
        return bool(self.completed) and self is min(self.rivals, key=lambda rival: rival.validation)

    @property
    def wins(self) -> int:
        """Number of seeds whose test error is below the error of PCA with as many codings, where PCA is not exact."""
        inexact = [row for row in self.completed if not is_exact(row, "pca_sse_test")]
        return sum(row["sse_test"] < row["pca_sse_test"] for row in inexact)

    @property
    def pca_exact(self) -> bool:
        """Whether PCA with as many codings makes no error; then no seed can win against it."""
        return bool(self.completed) and all(is_exact(row, "pca_sse_test") for row in self.completed)

    @functools.cached_property
    def scores(self) -> list[Score]:
        """The scores of its config that this version of aejax has."""
        return _scores_of(self.config)

    @functools.cached_property
    def headers(self) -> list[tuple[str, str, str]]:
        """Field, header and meaning of the numbers that the scores measured in a completed run."""
        measured = {name for row in self.completed for name in row.get("scores", {})}
        return [header for score in self.scores for header in score.headers if header[0] in measured]

    @property
    def comparisons(self) -> list[Comparison]:
        """The comparisons with PCA that its scores define."""
        return [comparison for score in self.scores for comparison in score.comparisons]

    def pairs(self, comparison: Comparison) -> list[tuple[float, float]]:
        """The autoencoder's number and PCA's, for each completed seed that has both."""
        pairs = []
        for row in self.completed:
            numbers = {**row, **row.get("scores", {})}
            if comparison.requires and numbers.get(comparison.requires) is None:
                continue
            exact = numbers.get(comparison.exact_number)
            ours = numbers.get(comparison.ours) if exact is None else exact
            theirs = numbers.get(comparison.theirs)
            if ours is not None and theirs is not None:
                pairs.append((ours, theirs))
        return pairs

    def values(self, metric: str) -> list[float]:
        """A metric of the completed seeds that have it. `scores.NAME` is a number that a score measured."""
        group, _, name = metric.partition(".")
        values = [row.get(group, {}).get(name) if name else row.get(metric) for row in self.completed]
        return [value for value in values if value is not None]

    def over_seeds(self, metric: str) -> float | None:
        """A metric's mean over completed seeds, or None where no seed has it.

        The largest principal angle is a maximum; training time and best epoch are medians.
        """
        reductions = {"principal_angle_max_deg": max, "train_seconds": median, "best_epoch": median}
        values = self.values(metric)
        return reductions.get(metric, fmean)(values) if values else None

    @functools.cached_property
    def options(self) -> dict[str, str]:
        """The options that have no column of their own in the table, as text."""
        options = {**self.config, **{name: self.runs[0][name] for name in ("variant", "tied")}, **self.hyper}
        options |= options.pop("options", {})
        pretraining = options.pop("pretraining", None)
        if pretraining:
            options |= {f"pretraining {name}": value for name, value in {**pretraining, "phases": "plain"}.items()}
        options |= {f"{name} digest": digest for name, digest in self.config.get("digests", {}).items()}
        if "codings" in self.runs[0]["hyper"] and self.config.get("widths"):
            options["codings masked of"] = self.config["widths"][-1]
        return {name: _option_text(value) for name, value in options.items() if name not in _NOT_OPTIONS}

    @property
    def varying_options(self) -> dict[str, str]:
        """The widths and options that are not the same in all of its rivals. This setting must be one of them."""
        shared = self.rivals[0]._shared_texts
        return {name: text for name, text in self._texts.items() if (name, text) not in shared}

    @functools.cached_property
    def _texts(self) -> dict[str, str]:
        return {"widths": "-".join(map(str, self.widths)), **self.options}

    @functools.cached_property
    def _shared_texts(self) -> set[tuple[str, str]]:
        """Name and text of the widths and options that are the same in all of its rivals."""
        return set.intersection(*(set(rival._texts.items()) for rival in self.rivals))

    def _criterion(self, row: Row) -> float:
        """The number by which a completed run is chosen, lower being better: a number of the choosing score, else the
        variant's criterion, else the squared error on validation.
        """
        chosen_by = next((score.chosen_by for score in self.scores if score.chosen_by), None)
        value = row.get("scores", {}).get(chosen_by)
        return row.get("criterion_validation", row["sse_validation"]) if value is None else value


def _scores_of(config: dict[str, Any]) -> list[Score]:
    return [from_config(score) for score in config.get("scores", []) if score["name"] in SCORES]


def group_settings(rows: Sequence[Row]) -> list[Setting]:
    """Group rows into settings, ordered by dataset, label and codings."""
    names = [name for name, _ in {(row["dataset"], row["provenance"]["dataset_fingerprint"]) for row in rows}]
    settings: dict[str, Setting] = {}
    groups: dict[tuple, list[Setting]] = {}
    for row in sorted(rows, key=lambda row: row["seed"]):
        dataset = row["dataset"]
        if names.count(dataset) > 1:
            dataset += f" ({row['provenance']['dataset_fingerprint'][:12]})"
        config = {key: value for key, value in row["config"].items() if key not in _NOT_IN_A_SETTING}
        hyper = {key: value for key, value in row["hyper"].items() if key != "codings"}
        identity = [dataset, row["label"], row["widths"], row["codings"], hyper, config]
        key = to_json([*identity, row["variant"], row["tied"], "codings" in row["hyper"]], sort_keys=True)
        if key not in settings:
            # settings that are chosen by different scores are not rivals
            choosing = [to_json(score.config(), sort_keys=True) for score in _scores_of(config) if score.chosen_by]
            group = groups.setdefault((dataset, row["label"], row["codings"], *choosing[:1]), [])
            settings[key] = Setting(*identity, runs=[], group=group)
            group.append(settings[key])
        settings[key].runs.append(row)
    return sorted(settings.values(), key=lambda setting: (setting.dataset, setting.label, setting.codings))


def swept_values(group: Sequence[Setting]) -> dict[str, list[float]]:
    """The hyper-parameters that take more than one value among these settings, with their values in order."""
    names = unique(name for setting in group for name in setting.hyper)
    values = {name: sorted({setting.hyper[name] for setting in group if name in setting.hyper}) for name in names}
    return {name: several for name, several in values.items() if len(several) > 1}


def by_validation(group: Iterable[Setting]) -> list[Setting]:
    """The settings with a completed run, from the lowest mean validation error to the highest."""
    return sorted((setting for setting in group if setting.completed), key=lambda setting: setting.validation)


def is_exact(row: Row, metric: str) -> bool:
    """Whether this squared error on test is zero up to rounding, relative to the error of the mean predictor."""
    return row[metric] <= ROUNDING * row["data"]["mean_sse_test"]


def confidence_half_width(values: Sequence[float]) -> float | None:
    """Half-width of the 95 % Student t interval of the mean, or None with fewer than two values."""
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


def count_noun(count: float, noun: str) -> str:
    """A number with its noun, in the plural unless the number is 1: `1 seed`, `3 seeds`, `30.1 components`."""
    text = str(count) if isinstance(count, int) else format_number(count, 3)
    return f"{text} {noun}" + "s" * (text != "1")


def escape(text: str) -> str:
    """Text on one line, with special characters escaped, so that Markdown shows it literally, also in a table cell."""
    return re.sub(r"([\\`*|<>\[\]&$~]|(?<!\w)_|_(?!\w))", r"\\\1", " ".join(str(text).split()))


def markdown_table(headers: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table. Cells are used as they are: escape text that comes from a row."""
    lines = [headers, ["---"] * len(headers), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _option_text(value: Any) -> str:
    if isinstance(value, float):
        text = f"{value:g}"
    else:
        text = value if isinstance(value, str) else to_json(value)
    return text if len(text) <= 40 else text[:39] + "…"
