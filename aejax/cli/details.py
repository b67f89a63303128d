"""`aejax show` and `aejax diff`: one run, or two runs compared. Takes no lock and changes nothing on disk."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from aejax.cli.listing import DIGITS
from aejax.cli.tables import print_table
from aejax.config import registry
from aejax.config.sweep import Sweep
from aejax.reporting.settings import Row, format_number
from aejax.runtime.errors import ResultsError
from aejax.storage import run_finder, run_folders
from aejax.storage.atomic import MANIFEST
from aejax.storage.run_folders import FILES, to_json

_METRICS = {
    "sse_validation": "squared error summed over inputs, mean over validation rows",
    "sse_test": "the same on test rows",
    "mse_test": "per input",
    "r2_test": "1 - SSE / SSE of the mean predictor",
    "sse_ratio": "ours over PCA's",
    "pca_equivalent_dimension": "principal components with our error",
    "principal_angle_max_deg": "degrees to PCA's subspace",
    "best_epoch": "the epoch whose parameters are kept",
    "compile_seconds": "seconds",
    "train_seconds": "seconds",
}
_NESTED_FIELDS = ("hyper", "config", "data", "execution", "provenance")
_NOT_COMPARED = {*_METRICS, *_NESTED_FIELDS, "pca_sse_test", "run_id"}


class SelectedRun(NamedTuple):
    """A run that a user asked for: its folder, its row, whether the folder is in this copy, and what is damaged.

    `row` is None where the files are damaged and runs.jsonl does not list the run; `damage` is None for a sound run.
    """

    folder: Path
    row: Row | None
    in_this_copy: bool
    damage: str | None


def find_run(path: Path) -> SelectedRun:
    """The run that a path means, with its files checked. Raises ResultsError where no run or several runs match."""
    folder = run_finder.find_run_folder(path)
    damage: list[str] = []
    row = run_folders.read_row(folder, damage.append)
    if row is None:
        index = run_folders.read_index(folder.parent.parent)
        row = next((stored for stored in index if stored["run_id"] == folder.name), None)
    return SelectedRun(folder, row, folder.is_dir(), "; ".join(damage) or None)


def show(path: Path, as_json: bool = False) -> None:
    """Print everything stored of a run. Raises ResultsError where there is no such run, and at the end for damage."""
    run = find_run(path)
    if run.row is not None and as_json:
        record = {"row": run.row, "changed": changed_fields(run.row["config"]), "here": run.in_this_copy}
        print(to_json({**record, "damage": run.damage, "files": stored_files(run)}, indent=1))
    elif run.row is not None:
        _print_run(run, run.row)
    _undamaged_row(run)


def _undamaged_row(run: SelectedRun) -> Row:
    """The row of a run. Raises ResultsError where the run is damaged."""
    if run.damage or run.row is None:
        raise ResultsError(str(run.folder), run.damage or "damaged", "run the experiment again")
    return run.row


def stored_files(run: SelectedRun) -> list[dict[str, Any]]:
    """Name, size in bytes and integrity of every file of a run: whether its SHA-256 is the manifest's.

    Empty where the run's folder is not in this copy.
    """
    if not run.in_this_copy:
        return []
    hashes = None
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        hashes = json.loads((run.folder / MANIFEST).read_bytes())["sha256"]
    files = []
    for name in FILES:
        size = None
        intact = False
        with contextlib.suppress(OSError):
            content = (run.folder / name).read_bytes()
            size = len(content)
            intact = isinstance(hashes, dict) and hashlib.sha256(content).hexdigest() == hashes.get(name)
        files.append({"name": name, "bytes": size, "intact": intact})
    return files


def changed_fields(config: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a stored config that have no default or differ from the default of `Sweep`."""
    defaults: dict[str, Any] = {field.name: field.default for field in dataclasses.fields(Sweep)}
    defaults |= {name: registry.function_name(name, defaults[name]) for name in registry.CHOICES}
    defaults["digests"] = {}
    changed = {name: value for name, value in config.items() if name not in defaults or defaults[name] != value}
    changed.pop("label", None)  # the row has the label, too
    return changed


def _print_run(run: SelectedRun, row: Row) -> None:
    print(f"{row['experiment']}/{row['run_id']}: {row['label']}, {row['dataset']}, seed {row['seed']}")
    step = "" if row.get("bad_step") is None else f" at step {row['bad_step']}"
    reason = f": {row['reason']}" if row["reason"] else ""
    print(f"status: {row['status']}{step}{reason}")
    widths = "-".join(map(str, row["widths"]))
    tied = ", tied" if row["tied"] else ""
    print(f"net: {row['data']['inputs']}-{widths}, {row['codings']} codings, {row['variant']}{tied}")
    print_table(["number", "ours", "PCA", "in"], _metrics_beside_pca(row))
    _print_facts("hyper-parameters", {name: value for name, value in row["hyper"].items() if name != "codings"})
    _print_facts("config, where it is not the default", changed_fields(row["config"]))
    for name in ("data", "execution", "provenance"):
        if row.get(name):
            _print_facts(name, row[name])
    print(f"files: {run.folder if run.in_this_copy else 'not in this copy; the row is from runs.jsonl'}")
    for file in stored_files(run):
        size = "missing" if file["bytes"] is None else f"{file['bytes']} bytes"
        print(f"  {file['name']}: {size}, {'SHA-256 intact' if file['intact'] else 'DAMAGED: not as in the manifest'}")


def _metrics_beside_pca(row: Row) -> list[list[str]]:
    """Lines of metric, value of the run, value of PCA with as many components, unit."""
    pca_sse = row["pca_sse_test"]
    pca: dict[str, Any] = {"sse_test": pca_sse, "pca_equivalent_dimension": row["codings"]}
    if pca_sse is not None:
        mean_sse = row["data"]["mean_sse_test"]
        pca["mse_test"] = pca_sse / row["data"]["inputs"]
        pca["r2_test"] = 1 - pca_sse / mean_sse if mean_sse else None
    lines = []
    for name, unit in _METRICS.items():
        if row.get(name) is not None:
            text = f"{row[name]} of {row['epochs']}" if name == "best_epoch" else _number(row[name])
            lines.append([name, text, _number(pca[name]) if name in pca else "", unit])
    return lines


def _print_facts(title: str, facts: Mapping[str, Any]) -> None:
    print(f"{title}:")
    for name, value in facts.items():
        print(f"  {name}: {value if isinstance(value, str) else to_json(value)}")


def diff(first: Path, second: Path) -> None:
    """Print the differences of two runs: fields, metrics, and parameters where both have them in the same shapes.

    Raises ResultsError where there is no such run or one is damaged.
    """
    pair = [find_run(first), find_run(second)]
    rows = [_undamaged_row(run) for run in pair]
    row_a, row_b = rows
    names = [f"{row['experiment']}/{row['run_id']}" for row in rows]
    lines = [[field, _text(value_a), _text(value_b)] for field, value_a, value_b in differences(row_a, row_b)]
    if lines:
        print_table(["field", *names], lines)
    else:
        print(f"{' and '.join(names)}: the same in every field")
    metric_lines = []
    for name in (*_METRICS, "pca_sse_test"):
        value_a = row_a.get(name)
        value_b = row_b.get(name)
        if value_a is not None or value_b is not None:
            gap = None if value_a is None or value_b is None else value_b - value_a
            relative = "–" if gap is None or not value_a else f"{gap / abs(value_a):+.3g}"
            absolute = "–" if gap is None else f"{gap:+.6g}"
            metric_lines.append([name, _number(value_a), _number(value_b), absolute, relative])
    if metric_lines:
        print()
        print_table(["number", *names, "difference", "relative"], metric_lines)
    print()
    print(f"parameters: {_compare_parameters(pair)}")


def differences(row_a: Row, row_b: Row) -> Iterator[tuple[str, Any, Any]]:
    """(dotted field, value of a, value of b) wherever two rows differ, metrics excluded; None for an absent field."""
    flat_rows = []
    for row in (row_a, row_b):
        compared = {name: value for name, value in row.items() if name not in _NOT_COMPARED}
        flat_rows.append(_flat(compared | {name: row.get(name) or {} for name in _NESTED_FIELDS}))
    flat_a, flat_b = flat_rows
    for name in flat_a | flat_b:
        if name not in flat_a or name not in flat_b or to_json(flat_a[name]) != to_json(flat_b[name]):
            yield name, flat_a.get(name), flat_b.get(name)


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """The leaves of a nested dict by dotted name."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
    return flat


def _text(value: Any) -> str:
    return "–" if value is None else value if isinstance(value, str) else to_json(value)


def _number(value: float | None) -> str:
    return str(value) if isinstance(value, int) else format_number(value, DIGITS)


def _compare_parameters(pair: Sequence[SelectedRun]) -> str:
    if absent := [run.folder.name for run in pair if not run.in_this_copy]:
        return f"not compared: {' and '.join(absent)} not in this copy"
    leaves_a, leaves_b = (_flat(run_folders.read_run(run.folder).params) for run in pair)
    if not leaves_a or not leaves_b:
        return "not compared: a run that did not complete has none"
    if {name: leaf.shape for name, leaf in leaves_a.items()} != {name: leaf.shape for name, leaf in leaves_b.items()}:
        return "not compared: of different shapes"
    leaf_pairs = [(leaves_a[name], leaves_b[name]) for name in leaves_a]
    if all(a.dtype == b.dtype and a.tobytes() == b.tobytes() for a, b in leaf_pairs):
        return "bit-identical"
    a = np.concatenate([leaf.astype(np.float64).ravel() for leaf, _ in leaf_pairs])
    b = np.concatenate([leaf.astype(np.float64).ravel() for _, leaf in leaf_pairs])
    gap = np.abs(a - b)
    size = np.maximum(np.abs(a), np.abs(b))
    relative = gap[size > 0] / size[size > 0]
    largest = format_number(float(gap.max()))
    median = format_number(float(np.median(relative)) if len(relative) else 0.0)
    return f"largest absolute difference {largest}, median relative difference {median}, of {len(a)} parameters"
