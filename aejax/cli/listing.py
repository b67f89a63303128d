"""What is stored: `aejax ls`, and finding the run that is meant. Takes no lock and changes nothing on disk.

Where the output is no terminal, it is plain text with a row a line: nothing is coloured, wrapped or cut off.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NamedTuple

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from aejax.reporting.settings import Row, Setting, format_number, group_settings, unique
from aejax.runtime.errors import AejaxError, ConfigError, ResultsError, suggest
from aejax.storage import run_folders
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
_NUMBERS = (  # field, header
    ("sse_validation", "SSE validation"),
    ("sse_test", "SSE test"),
    ("sse_ratio", "ratio"),
    ("pca_equivalent_dimension", "worth"),
    ("train_seconds", "seconds"),
)


class FoundRun(NamedTuple):
    """A run that a person asked for: its folder, whether it is in this copy, its row, and what is damaged, in words."""

    folder: Path
    run_id: str
    row: Row | None
    here: bool
    damage: str | None


def is_experiment(folder: Path) -> bool:
    """Whether this is a results folder of one experiment."""
    return (folder / "runs.jsonl").is_file() or (folder / "runs").is_dir()


def experiment_rows(folder: Path, check: bool = True) -> list[Row]:
    """The rows of an experiment, from its run folders and, where those are not in this copy, from runs.jsonl.

    A run whose folder is damaged has the status "damaged", and of the rest what runs.jsonl knows. `check=False` takes
    the word of runs.jsonl for runs that it lists, without reading their files.
    """
    found = {row["run_id"]: row for row in run_folders.read_index(folder)}
    for run in _run_folders(folder):
        if not check and run.name in found:
            continue
        damage: list[str] = []
        try:
            row = run_folders.read_row(run, damage.append)
        except AejaxError as error:  # of a newer format, or without permission
            row, damage = None, [error.found]
        if row is None:
            row = {**found.get(run.name, {"run_id": run.name}), "status": "damaged", "reason": "; ".join(damage)}
        found[run.name] = row
    return list(found.values())


def list_path(path: Path, *, sort: str | None = None, status: str | None = None, as_json: bool = False) -> None:
    """Print the experiments of a results folder, a line each, or the runs of one experiment, every file checked.

    Raises ConfigError for a field or status that there is not, ResultsError where there are no results.
    """
    if is_experiment(path):
        if status is not None and status not in STATUSES:
            raise ConfigError("--status", repr(status), suggest(status, STATUSES))
        found = [row for row in _sorted(experiment_rows(path), sort) if status in (None, row["status"])]
        print(to_json(found, indent=1)) if as_json else print_table(*_runs_table(found))
        return
    for option, value in (("--sort", sort), ("--status", status)):
        if value is not None:
            raise ConfigError(option, f"{path} holds several experiments", "give one of them: results/EXPERIMENT")
    folders = sorted(folder for folder in path.glob("[!.]*") if is_experiment(folder)) if path.is_dir() else []
    if not folders:
        missing = "no results there" if path.is_dir() else "no such folder"
        raise ResultsError(str(path), missing, "give a results folder, for example results or results/quickstart")
    lines = [_experiment(folder) for folder in folders]
    print(to_json(lines, indent=1)) if as_json else print_table(*_experiments_table(lines))


def _experiment(folder: Path) -> dict[str, Any]:
    try:
        found = experiment_rows(folder, check=False)
    except AejaxError as error:  # one damaged index hides no other experiment
        return {"experiment": folder.name, "runs": None, "reason": str(error)}
    whole, statuses = [row for row in found if "config" in row], Counter(row["status"] for row in found)
    groups = group_settings([row for row in whole if row["status"] != "damaged"])
    ranked = sorted(
        (s for s in groups if s.completed), key=lambda s: s.validation / (s.completed[0]["data"]["mean_sse_test"] or 1)
    )
    best = ranked[0] if ranked else None
    return {
        "experiment": folder.name,
        "runs": len(found),
        **{name: statuses[name] for name in STATUSES},
        "settings": len(groups),
        "best": None if best is None else _name(best),
        "best_sse_validation": None if best is None else best.validation,
        "best_ratio_test": None if best is None else best.over_seeds("sse_ratio"),
        "last": max((row["provenance"]["created"] for row in whole), default=None),
    }


def _name(setting: Setting) -> str:
    what = "".join(f", {name} {text}" for name, text in setting.distinct.items())
    return f"{setting.label}, {setting.codings} coding{'s' * (setting.codings != 1)}{what}"


def _experiments_table(lines: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[list[str]]]:
    headers = ["experiment", "runs", *STATUSES[:3], "settings", "best by validation", "ratio on test", "last run"]
    cells = []
    for line in lines:
        if line["runs"] is None:
            cells.append([line["experiment"], *["–"] * 5, line["reason"], "–", "–"])
            continue
        counts = [str(line[name]) for name in ("runs", *STATUSES[:3], "settings")]
        last = (line["last"] or "–")[:10]
        cells.append([line["experiment"], *counts, line["best"] or "–", format_number(line["best_ratio_test"]), last])
    return headers, cells


def _runs_table(found: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
    hypers = unique(name for row in found for name in row.get("hyper", {}) if name != "codings")
    varying = [name for name in hypers if len({row["hyper"].get(name) for row in found if "hyper" in row}) > 1]
    several = len({row.get("dataset") for row in found if "dataset" in row}) > 1
    headers = ["id", *["dataset"] * several, "label", "codings", *varying, "seed", "status"]
    cells = []
    for row in found:
        names = ["run_id", *["dataset"] * several, "label", "codings"]
        texts = [str(row.get(name, "–")) for name in names]
        texts += [f"{row['hyper'][name]:g}" if name in row.get("hyper", {}) else "–" for name in varying]
        texts += [str(row.get("seed", "–")), row["status"]]
        cells.append(texts + [format_number(row.get(field), DIGITS) for field, _ in _NUMBERS])
    return [*headers, *(header for _, header in _NUMBERS)], cells


def _sorted(found: Sequence[Row], field: str | None) -> list[Row]:
    """By dataset, label, codings, hyper-parameters, seed; or by any field (downwards after a minus), unknown last."""
    named, unnamed = [row for row in found if "label" in row], [row for row in found if "label" not in row]
    found = sorted(named, key=_usual) + sorted(unnamed, key=lambda row: row["run_id"])
    if field is None:
        return found
    name = field.removeprefix("-").removeprefix("hyper.")
    name = _ALIASES.get(name, name)
    flat = [{**row.get("hyper", {}), **row, **row.get("provenance", {})} for row in found]
    fields = {key for one in flat for key, value in one.items() if isinstance(value, (str, int, float))}
    if found and name not in fields:
        raise ConfigError("--sort", repr(field), suggest(name, [*_ALIASES, *sorted(fields)]))
    values: dict[int, Any] = {id(row): one.get(name) for row, one in zip(found, flat, strict=True)}
    known = sorted((row for row in found if values[id(row)] is not None), key=lambda row: values[id(row)])
    return known[:: -1 if field.startswith("-") else 1] + [row for row in found if values[id(row)] is None]


def _usual(row: Row) -> tuple:
    hyper = [(name, value) for name, value in row["hyper"].items() if name != "codings"]
    return row["dataset"], row["label"], row["codings"], hyper, row["seed"], row["run_id"]


def find_run(run: Path) -> FoundRun:
    """The run that is meant: its folder, or results/EXPERIMENT/ID, of which the beginning is enough where it is unique.

    Raises ResultsError where there is none, or several, naming those that are meant perhaps.
    """
    experiment = run.parent.parent if run.parent.name == "runs" else run.parent
    if is_experiment(run):
        raise ResultsError(str(run), "an experiment, not a run", f"give one of its runs: aejax ls {run}")
    if not is_experiment(experiment):
        raise ResultsError(str(run), "no such run", "give results/EXPERIMENT/RUN_ID; aejax ls lists experiments")
    index = {row["run_id"]: row for row in run_folders.read_index(experiment)}
    folders = {folder.name: folder for folder in _run_folders(experiment)}
    every, name = sorted({*index, *folders}), run.name
    matches = [name] if name in every else [one for one in every if one.startswith(name)]
    if not matches:
        near = f"did you mean {close[0]}? " if (close := get_close_matches(name, every, 1, cutoff=0.3)) else ""
        raise ResultsError(
            str(run), f"none of the {len(every)} runs of {experiment}", f"{near}aejax ls {experiment} lists them"
        )
    if len(matches) > 1:
        some = ", ".join(matches[:4]) + ", …" * (len(matches) > 4)
        raise ResultsError(str(run), f"the beginning of {len(matches)} runs: {some}", "give more of it")
    run_id, damage = matches[0], []
    folder = folders.get(run_id, experiment / "runs" / run_id)
    row = run_folders.read_row(folder, damage.append)
    return FoundRun(folder, run_id, row or index.get(run_id), run_id in folders, "; ".join(damage) or None)


def _run_folders(experiment: Path) -> list[Path]:
    return sorted(folder for folder in (experiment / "runs").glob("[!.]*") if folder.is_dir())


def print_table(headers: Sequence[str], lines: Sequence[Sequence[str]]) -> None:
    """A table on a terminal that has room for its numbers; else columns of text, in full, two spaces or more apart."""
    console = Console(highlight=False, markup=False, emoji=False)
    columns = [[line[i] for line in (headers, *lines)] for i in range(len(headers))]
    widths = [max(map(len, column)) for column in columns]
    least = [max(map(len, " ".join(column).split())) for column in columns]  # of a column that may be folded at spaces
    folded = [width > 30 and " " in " ".join(column[1:]) for column, width in zip(columns, widths, strict=True)]
    needed = sum(least[i] if folded[i] else widths[i] for i in range(len(widths))) + 2 * len(widths) + 1
    if not console.is_terminal or needed > console.width:
        for line in (headers, *lines):
            print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
        return
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), pad_edge=False, collapse_padding=True)
    for column, fold in zip(columns, folded, strict=True):
        right = len(column) > 1 and all(cell[:1] in "0123456789-+–" for cell in column[1:])
        table.add_column(column[0], justify="right" if right else "left", no_wrap=not fold)
    for line in lines:
        table.add_row(*(Text(cell) for cell in line))
    console.print(table)
