"""One run, or two beside each other: `aejax show` and `aejax diff`. Takes no lock and changes nothing on disk."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from aejax.cli.listing import DIGITS, FoundRun, find_run, print_table
from aejax.config import registry
from aejax.config.sweep import Sweep
from aejax.reporting.settings import Row, format_number, unique
from aejax.runtime.errors import ResultsError
from aejax.storage import run_folders
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
_NOT_FACTS = {*_METRICS, "pca_sse_test", "config", "hyper", "data", "provenance", "execution", "run_id"}


def show(run: Path, as_json: bool = False) -> None:
    """Print everything known of a run. Raises ResultsError where there is no such run, and at the end for damage."""
    found = find_run(run)
    files = stored_files(found)
    if found.row is None:
        raise _damaged(found)
    if as_json:
        known = {"row": found.row, "changed": changed(found.row["config"]), "here": found.here, "damage": found.damage}
        print(to_json({**known, "files": files}, indent=1))
    else:
        _print_run(found, found.row, files)
    if found.damage:
        raise _damaged(found)


def _damaged(found: FoundRun) -> ResultsError:
    return ResultsError(str(found.folder), found.damage or "damaged", "run the experiment again")


def stored_files(found: FoundRun) -> list[dict[str, Any]]:
    """Name, bytes and whether the SHA-256 is the manifest's, of every file of a run that is in this copy."""
    if not found.here:
        return []
    try:
        hashes = json.loads((found.folder / MANIFEST).read_bytes())["sha256"]
    except (OSError, ValueError, KeyError, TypeError):
        hashes = {}
    files = []
    for name in FILES:
        try:
            data = (found.folder / name).read_bytes()
        except OSError:
            files.append({"name": name, "bytes": None, "intact": False})
        else:
            intact = isinstance(hashes, dict) and hashlib.sha256(data).hexdigest() == hashes.get(name)
            files.append({"name": name, "bytes": len(data), "intact": intact})
    return files


def changed(config: Mapping[str, Any]) -> dict[str, Any]:
    """What of a stored config is not a Sweep's default: what must be given, and what was chosen."""
    defaults: dict[str, Any] = {"digests": {}, "label": None}  # the label is in the row
    for field in dataclasses.fields(Sweep):
        if field.default is not dataclasses.MISSING and field.name not in defaults:
            function = field.name in registry.CHOICES
            value = registry.function_name(field.name, field.default) if function else field.default
            defaults[field.name] = list(value) if isinstance(value, tuple) else value
    return {
        name: value
        for name, value in config.items()
        if name != "label" and not (name in defaults and defaults[name] == value)
    }


def _print_run(found: FoundRun, row: Row, files: Sequence[Mapping[str, Any]]) -> None:
    data, hyper = row["data"], {name: value for name, value in row["hyper"].items() if name != "codings"}
    print(f"{row['experiment']}/{row['run_id']}: {row['label']}, {row['dataset']}, seed {row['seed']}")
    step = "" if row.get("bad_step") is None else f" at step {row['bad_step']}"
    print(f"status: {row['status']}{step}" + f": {row['reason']}" * bool(row["reason"]))
    print(
        f"net: {data['inputs']}-{'-'.join(map(str, row['widths']))}, {row['codings']} codings, {row['variant']}", end=""
    )
    print(", tied" * row["tied"])
    print_table(["number", "ours", "PCA", "in"], _beside_pca(row))
    _print_facts("hyper-parameters", hyper)
    _print_facts("config, where it is not the default", changed(row["config"]))
    _print_facts("data", data)
    if row.get("execution"):
        _print_facts("execution", row["execution"])
    _print_facts("provenance", row["provenance"])
    if not files:
        print("files: not in this copy; the row is from runs.jsonl")
        return
    print(f"files: {found.folder}")
    for file in files:
        size = "missing" if file["bytes"] is None else f"{file['bytes']} bytes"
        print(
            f"  {file['name']}: {size}, " + ("SHA-256 intact" if file["intact"] else "DAMAGED: not as in the manifest")
        )


def _beside_pca(row: Row) -> list[list[str]]:
    data, pca = row["data"], row["pca_sse_test"]
    theirs = {"sse_test": pca, "pca_equivalent_dimension": row["codings"]}
    if pca is not None:
        mean = data["mean_sse_test"]
        theirs |= {"mse_test": pca / data["inputs"], "r2_test": 1 - pca / mean if mean else None}
    lines = []
    for name, unit in _METRICS.items():
        if row.get(name) is not None:
            text = f"{row[name]} of {row['epochs']}" if name == "best_epoch" else _number(row[name])
            lines.append([name, text, _number(theirs[name]) if name in theirs else "", unit])
    return lines


def _print_facts(title: str, facts: Mapping[str, Any]) -> None:
    print(f"{title}:")
    for name, value in facts.items():
        print(f"  {name}: {value if isinstance(value, str) else to_json(value)}")


def diff(first: Path, second: Path) -> None:
    """Print in what two runs differ: fields, numbers, and parameters where both are here and of the same shapes.

    Raises ResultsError where there is no such run or one is damaged.
    """
    pair = [find_run(first), find_run(second)]
    for found in pair:
        if found.damage or found.row is None:
            raise _damaged(found)
    a, b = (found.row or {} for found in pair)
    names = [f"{row['experiment']}/{row['run_id']}" for row in (a, b)]
    lines = [[field, _text(one), _text(other)] for field, one, other in differences(a, b)]
    if lines:
        print_table(["field", *names], lines)
    else:
        print(f"{' and '.join(names)}: the same in every field")
    numbers = []
    for name in (*_METRICS, "pca_sse_test"):
        one, other = a.get(name), b.get(name)
        if one is not None or other is not None:
            gap = None if one is None or other is None else other - one
            relative = "–" if gap is None or not one else f"{gap / abs(one):+.3g}"
            cells = [_number(one), _number(other), "–" if gap is None else f"{gap:+.6g}", relative]
            numbers.append([name, *cells])
    if numbers:
        print()
        print_table(["number", *names, "difference", "relative"], numbers)
    print()
    print(f"parameters: {_compare_parameters(pair)}")


def differences(a: Row, b: Row) -> Iterator[tuple[str, Any, Any]]:
    """Dotted field and both values, wherever two rows are not the same; numbers of results are left out."""
    flat = [_flat({name: value for name, value in row.items() if name not in _NOT_FACTS}) for row in (a, b)]
    for part in ("hyper", "config", "data", "execution", "provenance"):
        for one, row in zip(flat, (a, b), strict=True):
            one |= _flat(row.get(part) or {}, f"{part}.")
    absent = object()
    for name in unique([*flat[0], *flat[1]]):
        one, other = (held.get(name, absent) for held in flat)
        if one is absent or other is absent or to_json(one) != to_json(other):
            yield name, None if one is absent else one, None if other is absent else other


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat


def _text(value: Any) -> str:
    return "–" if value is None else value if isinstance(value, str) else to_json(value)


def _number(value: float | None) -> str:
    return str(value) if isinstance(value, int) else format_number(value, DIGITS)


def _compare_parameters(pair: Sequence[FoundRun]) -> str:
    if absent := [found.run_id for found in pair if not found.here]:
        return f"not compared: {' and '.join(absent)} not in this copy"
    a, b = (_flat(run_folders.read_run(found.folder).params) for found in pair)
    if not a or not b:
        return "not compared: a run that did not complete has none"
    if {name: leaf.shape for name, leaf in a.items()} != {name: leaf.shape for name, leaf in b.items()}:
        return "not compared: of different shapes"
    if all(a[name].dtype == b[name].dtype and a[name].tobytes() == b[name].tobytes() for name in a):
        return "bit-identical"
    one, other = (np.concatenate([held[name].astype(np.float64).ravel() for name in a]) for held in (a, b))
    gap, size = np.abs(one - other), np.maximum(np.abs(one), np.abs(other))
    relative = gap[size > 0] / size[size > 0]
    return (
        f"largest absolute difference {format_number(float(gap.max()))}, median relative difference "
        f"{format_number(float(np.median(relative)) if len(relative) else 0.0)}, of {len(one)} parameters"
    )
