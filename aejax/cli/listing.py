"""`aejax ls`: list experiments, or the runs of one experiment. Takes no lock and changes nothing on disk."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from aejax.cli.tables import print_table
from aejax.reporting.settings import Row, Setting, format_number, group_settings, unique
from aejax.runtime.errors import AejaxError, ConfigError, ResultsError, suggest
from aejax.storage import run_folders
from aejax.storage.run_finder import is_experiment, list_runs
from aejax.storage.run_folders import to_json

DIGITS = 6
STATUSES = ("completed", "failed", "diverged", "damaged")
_ALIASES = {
    "id": "run_id",
    "validation": "sse_validation",
    "test": "sse_test",
    "sse": "sse_test",
    "pca": "pca_sse_test",
    "ratio": "sse_ratio",
    "worth": "pca_equivalent_dimension",
    "seconds": "train_seconds",
}
_METRIC_HEADERS = {
    "sse_validation": "SSE validation",
    "sse_test": "SSE test",
    "sse_ratio": "ratio",
    "pca_equivalent_dimension": "worth",
    "train_seconds": "seconds",
}


def list_path(path: Path, *, sort: str | None = None, status: str | None = None, as_json: bool = False) -> None:
    """Print the runs of an experiment, or a line for each experiment of a results folder.

    Every file of a listed run is checked; of several experiments, only runs that runs.jsonl does not list. Raises
    ConfigError for an unknown field or status, ResultsError where there are no results.
    """
    if is_experiment(path):
        if status is not None and status not in STATUSES:
            raise ConfigError("--status", repr(status), suggest(status, STATUSES))
        rows = [row for row in _sorted(experiment_rows(path), sort) if status in (None, row["status"])]
        print(to_json(rows, indent=1)) if as_json else print_table(*_runs_table(rows))
        return
    for option, value in (("--sort", sort), ("--status", status)):
        if value is not None:
            raise ConfigError(option, f"{path} holds several experiments", "give one of them: results/EXPERIMENT")
    folders = sorted(folder for folder in path.glob("[!.]*") if is_experiment(folder)) if path.is_dir() else []
    if not folders:
        problem = "no results there" if path.is_dir() else "no such folder"
        raise ResultsError(str(path), problem, "give a results folder, for example results or results/quickstart")
    experiments = [_experiment(folder) for folder in folders]
    print(to_json(experiments, indent=1)) if as_json else print_table(*_experiments_table(experiments))


def experiment_rows(folder: Path, check: bool = True) -> list[Row]:
    """The rows of an experiment: those of its run folders, and those of runs.jsonl whose folders are not in this copy.

    A run whose folder is damaged has the status "damaged" and what runs.jsonl knows of it. With `check=False` the
    files of runs that runs.jsonl lists are not read.
    """
    rows = {row["run_id"]: row for row in run_folders.read_index(folder)}
    for run in [run for run in list_runs(folder) if check or run.name not in rows]:
        damage: list[str] = []
        try:
            row = run_folders.read_row(run, damage.append)
        except AejaxError as error:  # a newer format, or no permission
            row = None
            damage.append(error.problem)
        if row is None:
            row = {**rows.get(run.name, {"run_id": run.name}), "status": "damaged", "reason": "; ".join(damage)}
        rows[run.name] = row
    return list(rows.values())


def _experiment(folder: Path) -> dict[str, Any]:
    """Counts, best setting and last date of an experiment, for one line of the list."""
    try:
        rows = experiment_rows(folder, check=False)
    except AejaxError as error:  # one damaged index hides no other experiment
        return {"experiment": folder.name, "runs": None, "reason": str(error)}
    whole = [row for row in rows if "config" in row]
    statuses = Counter(row["status"] for row in rows)
    settings = group_settings([row for row in whole if row["status"] != "damaged"])
    best = min((setting for setting in settings if setting.completed), key=_relative_error, default=None)
    return {
        "experiment": folder.name,
        "runs": len(rows),
        **{name: statuses[name] for name in STATUSES},
        "settings": len(settings),
        "best": None if best is None else _describe(best),
        "best_sse_validation": None if best is None else best.validation,
        "best_ratio_test": None if best is None else best.over_seeds("sse_ratio"),
        "last": max((row["provenance"]["created"] for row in whole), default=None),
    }


def _relative_error(setting: Setting) -> float:
    """Validation error over that of the mean predictor, so that settings of different datasets compare."""
    return setting.validation / (setting.completed[0]["data"]["mean_sse_test"] or 1)


def _describe(setting: Setting) -> str:
    distinct = "".join(f", {name} {text}" for name, text in setting.varying_options.items())
    return f"{setting.label}, {setting.codings} coding{'s' * (setting.codings != 1)}{distinct}"


def _experiments_table(experiments: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Headers and lines; an experiment that cannot be read has the reason in place of its best setting."""
    names = ("experiment", "runs", *STATUSES[:3], "settings")
    lines = []
    for experiment in experiments:
        values = [*(experiment.get(name) for name in names), experiment.get("best", experiment.get("reason"))]
        texts = ["–" if value is None else str(value) for value in values]
        lines.append([*texts, format_number(experiment.get("best_ratio_test")), (experiment.get("last") or "–")[:10]])
    return [*names, "best by validation", "ratio on test", "last run"], lines


def _runs_table(rows: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
    """Headers and lines; hyper-parameters and datasets have a column where they differ between runs."""
    hyper_names = unique(name for row in rows for name in row.get("hyper", {}) if name != "codings")
    varying = [name for name in hyper_names if len({row["hyper"].get(name) for row in rows if "hyper" in row}) > 1]
    several_datasets = len({row["dataset"] for row in rows if "dataset" in row}) > 1
    names = ["dataset"] * several_datasets + ["label", "codings"]
    lines = []
    for row in rows:
        texts = [str(row.get(name, "–")) for name in ("run_id", *names)]
        texts += [f"{row['hyper'][name]:g}" if name in row.get("hyper", {}) else "–" for name in varying]
        texts += [str(row.get("seed", "–")), row["status"]]
        lines.append(texts + [format_number(row.get(name), DIGITS) for name in _METRIC_HEADERS])
    return ["id", *names, *varying, "seed", "status", *_METRIC_HEADERS.values()], lines


def _sorted(rows: Sequence[Row], field: str | None) -> list[Row]:
    """The rows in order of dataset, label, codings, hyper-parameters and seed, or of `field`.

    `field` may be any field of a row, or an alias; a leading minus sorts downwards. Rows without it come last. Raises
    ConfigError for an unknown field.
    """
    labelled = sorted((row for row in rows if "label" in row), key=_default_order)
    rows = labelled + sorted((row for row in rows if "label" not in row), key=lambda row: row["run_id"])
    if field is None:
        return rows
    name = field.removeprefix("-").removeprefix("hyper.")
    name = _ALIASES.get(name, name)
    flat_rows = [{**row.get("hyper", {}), **row, **row.get("provenance", {})} for row in rows]
    fields = {key for flat in flat_rows for key, value in flat.items() if isinstance(value, (str, int, float))}
    if rows and name not in fields:
        raise ConfigError("--sort", repr(field), suggest(name, [*_ALIASES, *sorted(fields)]))
    values: dict[int, Any] = {id(row): flat.get(name) for row, flat in zip(rows, flat_rows, strict=True)}
    with_value = sorted((row for row in rows if values[id(row)] is not None), key=lambda row: values[id(row)])
    return with_value[:: -1 if field.startswith("-") else 1] + [row for row in rows if values[id(row)] is None]


def _default_order(row: Row) -> tuple:
    hyper = [(name, value) for name, value in row["hyper"].items() if name != "codings"]
    return row["dataset"], row["label"], row["codings"], hyper, row["seed"], row["run_id"]
