"""Run folders: one folder for each finished run, written atomically and checked whenever it is read.

    results/<experiment>/runs/<run_id>/     run.json, parameters.safetensors, arrays.safetensors, manifest.json
    results/<experiment>/runs/.corrupt-*    damaged runs that were trained again, kept
    results/<experiment>/runs.jsonl         the index: the rows of all runs, derived from the folders

Only JSON and safetensors are read, so reading runs no code.
"""

from __future__ import annotations

import hashlib
import json
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from aejax.runtime.errors import ConfigError, MachineError, ResultsError
from aejax.storage import atomic, lock
from aejax.storage.atomic import to_json, write_atomic

FORMAT = 1
"""Version of the stored run. It is part of the run id: increase it when the same config gives other numbers."""
NAME_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}")
FILES = ("run.json", "parameters.safetensors", "arrays.safetensors")


class StoredRun(NamedTuple):
    """A run that was read: its row, its parameters as a nested dict, and its arrays by name."""

    row: dict[str, Any]
    params: dict[str, Any]
    arrays: dict[str, np.ndarray]


def check_name(name: str, field: str) -> str:
    """The name if it is a valid file name: letters, digits, _ and -. Raises ConfigError naming `field`."""
    if not NAME_PATTERN.fullmatch(name):
        raise ConfigError(field, repr(name), "name it with letters, digits, _ and -, at most 100 of them")
    return name


def open_folder(root: Path, experiment: str) -> Path:
    """Make the results folder of an experiment if necessary, and check that it is writable. Returns its path.

    Leftovers of a killed writer are cleared unless another process holds the lock. Raises ConfigError if the name is
    not a valid file name, MachineError if the folder is not writable, ResultsError if it holds files of other programs.
    """
    folder = root / check_name(experiment, "experiment")
    for part in (root, folder, folder / "runs"):
        if part.exists() and not part.is_dir():
            raise MachineError(str(part), "is a file, where a folder is needed", "choose another --results folder")
    is_foreign = folder.is_dir() and not is_experiment(folder)
    if is_foreign and any(path.name != lock.LOCK_FILE for path in folder.iterdir()):
        raise ResultsError(str(folder), "not empty, and no results of aejax", "choose another --results folder")
    for part in (folder, *_links(folder)):
        if not part.resolve().is_relative_to(root.resolve()):
            raise ResultsError(str(part), "leads outside the results folder", "remove the link")
    with atomic.disk_errors_as_one_line(folder):
        atomic.make_folder(folder / "runs")
        tempfile.TemporaryFile(dir=folder).close()
    with lock.if_unheld(folder) as is_unheld:
        if is_unheld:
            atomic.clear_leftovers(folder)
    return folder


def is_experiment(folder: Path) -> bool:
    """Whether the folder is the results folder of one experiment."""
    return (folder / "runs.jsonl").is_file() or (folder / "runs").is_dir()


def _links(folder: Path) -> Iterator[Path]:
    """Symbolic links that aejax would write through. Links inside `runs` are not: writing a run replaces them."""
    for name in ("runs", "states", "tensorboard"):
        children = () if name == "runs" else (folder / name).rglob("*")
        yield from (path for path in (folder / name, *children) if path.is_symlink())


def append_line(path: Path, value: Any) -> None:
    """Add one line of JSON to a short file atomically. The file is written again as a whole."""
    with atomic.disk_errors_as_one_line(path):
        existing = path.read_bytes() if path.exists() else b""
    write_atomic(path, existing + to_json(value).encode() + b"\n")


def write_run(
    folder: Path, row: Mapping[str, Any], params: Mapping[str, Any], arrays: Mapping[str, np.ndarray]
) -> Path:
    """Store a finished run under the run_id of its row. Returns its folder.

    An existing run with that id is replaced; if it is damaged, it is kept as runs/.corrupt-<run_id>-<n>. Raises
    MachineError if the disk refuses; the existing run is then unchanged.
    """
    from safetensors.numpy import save

    if row["format"] != FORMAT:
        raise ValueError(f"row of format {row['format']!r}, while this aejax writes {FORMAT}")
    files = {
        "run.json": to_json(row, indent=1).encode(),
        "parameters.safetensors": save(flatten_tree(params)),
        "arrays.safetensors": save(flatten_tree(arrays)),
    }
    target = folder / "runs" / check_name(row["run_id"], "run_id")
    return atomic.commit_folder(target, files, FORMAT, read_run)


def read_run(run: Path) -> StoredRun:
    """The run in a run folder, every file checked against the manifest.

    Raises ResultsError naming the file that is missing or damaged, ConfigError for a newer format.
    """
    from safetensors.numpy import load

    row, files = _read_checked(run)
    return StoredRun(row, unflatten_tree(load(files["parameters.safetensors"])), load(files["arrays.safetensors"]))


def read_row(run: Path, warn: Callable[[str], None] | None = None) -> dict[str, Any] | None:
    """The row of a stored run, or None if the run is absent or damaged. Damage is reported to `warn`.

    Raises ConfigError for a newer format.
    """
    if not run.exists():
        return None
    try:
        return _read_checked(run)[0]
    except ResultsError as error:
        if warn is not None:
            warn(f"{error.field}: {error.problem}")
        return None


def read_arrays(folder: Path, run_id: str) -> dict[str, np.ndarray] | None:
    """The arrays of a run of a results folder, or None where the run is not stored or is damaged."""
    run = folder / "runs" / run_id
    try:
        return read_run(run).arrays if run.exists() else None
    except ResultsError:
        return None


def _read_checked(run: Path) -> tuple[dict[str, Any], dict[str, bytes]]:
    """The row of a run and the content of its files by name, checked against the manifest and the folder's name."""
    fix = "run the experiment again"
    if not (run / atomic.MANIFEST).exists():
        fix = "give a run folder: results/EXPERIMENT/runs/RUN_ID"
    row, files = atomic.read_committed(run, FILES, FORMAT, fix)
    name = run.resolve().name
    if row.get("run_id") != name:
        fix = f"name its folder {row.get('run_id')} again"
        raise ResultsError(str(run / "run.json"), f"damaged: run {row.get('run_id')} in the folder of {name}", fix)
    return row, files


def write_index(folder: Path, warn: Callable[[str], None] | None = None) -> list[dict[str, Any]]:
    """Rebuild runs.jsonl from the run folders. Returns its rows, sorted by dataset, label, codings, hyper and seed.

    A row whose run folder is absent stays (arrays may be kept outside git). The row of a damaged run folder is left
    out and reported to `warn`. With `warn` a damaged index is repaired; without it, it raises ResultsError.
    """
    indexed = read_index(folder) if warn is None else repair_index(folder, warn)
    rows = {row["run_id"]: row for row in indexed}
    rows |= {run.name: read_row(run, warn) for run in sorted((folder / "runs").glob("[!.]*"))}
    return _write_rows(folder, [row for row in rows.values() if row is not None])


def repair_index(folder: Path, warn: Callable[[str], None]) -> list[dict[str, Any]]:
    """The rows of runs.jsonl, after repair. An index with damaged lines is copied to runs.jsonl.corrupt first."""
    path = folder / "runs.jsonl"
    rows, damaged = _read_rows(path)
    if damaged:
        kept = atomic.next_free_path(path.with_name(f"{path.name}.corrupt"))
        write_atomic(kept, path.read_bytes())
        for error in damaged:
            warn(f"{error.field}: {error.problem}; kept as {kept.name}; rebuilt from valid lines and the run folders")
        _write_rows(folder, rows)
    return rows


def read_index(folder: Path) -> list[dict[str, Any]]:
    """The rows of runs.jsonl; none if there is no such file. Raises ResultsError on a damaged line."""
    rows, damaged = _read_rows(folder / "runs.jsonl")
    if damaged:
        raise damaged[0]
    return rows


def _write_rows(folder: Path, rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    ordered = sorted(rows, key=_order)
    write_atomic(folder / "runs.jsonl", b"".join(_to_line(row) for row in ordered))
    return ordered


def _to_line(row: Mapping[str, Any]) -> bytes:
    """A row as a line of runs.jsonl. Its last field, `sha256`, is the SHA-256 of the row's JSON without that field."""
    text = to_json(row).encode()
    return b'%b, "sha256": "%b"}\n' % (text[:-1], hashlib.sha256(text).hexdigest().encode())


def _read_rows(path: Path) -> tuple[list[dict[str, Any]], list[ResultsError]]:
    """The valid rows of an index, and an error for each damaged line."""
    rows = []
    damaged = []
    try:
        lines = path.read_bytes().splitlines()
    except FileNotFoundError:
        lines = []
    for number, line in enumerate(lines, 1):
        try:
            rows.append(_from_line(line))
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            problem = str(error) if isinstance(error, _ChecksumError) else "not a row"
            fix = "restore the file, or delete it: it is rebuilt from the run folders"
            damaged_line = ResultsError(f"{path}:{number}", problem, fix)
            damaged_line.__cause__ = error
            damaged.append(damaged_line)
    return rows, damaged


def _from_line(line: bytes) -> dict[str, Any]:
    """The row in a line of the index. Raises ValueError, KeyError or TypeError if the line is not a row or is damaged.

    Lines of earlier versions have no SHA-256. If the last value is as long as a SHA-256 under
    another name, that name is damaged.
    """
    row = json.loads(line)
    _order(row)
    name, value = list(row.items())[-1]
    if name == "sha256" or (isinstance(value, str) and len(value) == 64):
        del row[name]
        if line + b"\n" != _to_line(row):
            raise _ChecksumError("damaged: its SHA-256 is not the line's")
    return row


class _ChecksumError(ValueError):
    """The content of a line does not match its SHA-256."""


def _order(row: Mapping[str, Any]) -> tuple:
    """The sort key of a row in the index. Raises KeyError or TypeError if a field is missing."""
    hyper = to_json(row["hyper"], sort_keys=True)
    return row["dataset"], row["label"], row["codings"], hyper, row["seed"], row["run_id"]


def flatten_tree(tree: Mapping[str, Any], prefix: str = "") -> dict[str, np.ndarray]:
    """The leaves of a nested dict by path, such as `encoder/layer_0/kernel`, as NumPy arrays in C order."""
    leaves: dict[str, np.ndarray] = {}
    for name, value in tree.items():
        if isinstance(value, Mapping):
            leaves |= flatten_tree(value, f"{prefix}{name}/")
        else:
            leaves[f"{prefix}{name}"] = np.asarray(value, order="C")
    return leaves


def unflatten_tree(leaves: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """The nested dict that has these leaves at these paths."""
    tree: dict[str, Any] = {}
    for path, value in leaves.items():
        *folders, name = path.split("/")
        node = tree
        for part in folders:
            node = node.setdefault(part, {})
        node[name] = value
    return tree
