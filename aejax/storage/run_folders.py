"""Runs on disk: a folder a run, written whole or not at all, checked whenever it is read.

    results/<experiment>/runs/<run_id>/     run.json, parameters.safetensors, arrays.safetensors, manifest.json
    results/<experiment>/runs/.corrupt-*    damaged runs that were trained again, kept
    results/<experiment>/runs.jsonl         the rows of all runs, derived from the folders

Reading runs no code: JSON and safetensors only.
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
from aejax.storage.atomic import clear_leftovers as recover
from aejax.storage.atomic import to_json, write_atomic

__all__ = [
    "FORMAT",
    "StoredRun",
    "append_line",
    "check_name",
    "flat",
    "mend_index",
    "nested",
    "open_folder",
    "read_arrays",
    "read_index",
    "read_row",
    "read_run",
    "recover",
    "to_json",
    "write_atomic",
    "write_index",
    "write_run",
]

FORMAT = 1
"""Version of a run's record. It is part of a run's identity: raise it when the same config gives other numbers."""
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}")
FILES = ("run.json", "parameters.safetensors", "arrays.safetensors")


class StoredRun(NamedTuple):
    """A run read back: its row, its parameters as the nested dict they were, and its arrays by name."""

    row: dict[str, Any]
    params: dict[str, Any]
    arrays: dict[str, np.ndarray]


def check_name(name: str, field: str) -> str:
    """The name itself when it can be a file's: letters, digits, _ and -. Raises ConfigError."""
    if not NAME.fullmatch(name):
        raise ConfigError(field, repr(name), "name it with letters, digits, _ and -, at most 100 of them")
    return name


def open_folder(root: Path, experiment: str) -> Path:
    """The results folder of an experiment, made if need be and seen to be writable. Before any compute.

    What a killed writer left there is cleared, unless another one holds the folder (`lock.hold` refuses then).
    Raises ConfigError for a name that is no file name, MachineError where it cannot be written, ResultsError where it
    is someone else's.
    """
    folder = root / check_name(experiment, "experiment")
    for part in (root, folder, folder / "runs"):
        if part.exists() and not part.is_dir():
            raise MachineError(str(part), "is a file, where a folder is needed", "choose another --results folder")
    ours = (folder / "runs").is_dir() or (folder / "runs.jsonl").is_file()
    if folder.is_dir() and not ours and any(path.name != lock.NAME for path in folder.iterdir()):
        raise ResultsError(str(folder), "not empty, and no results of aejax", "choose another --results folder")
    for part in (folder, *_links(folder)):
        if not part.resolve().is_relative_to(root.resolve()):
            raise ResultsError(str(part), "leads outside the results folder", "remove the link")
    with atomic.disk_errors_as_one_line(folder):
        atomic.make_folder(folder / "runs")
        with tempfile.TemporaryFile(dir=folder):
            pass
    with lock.if_unheld(folder) as free:
        if free:
            recover(folder)
    return folder


def _links(folder: Path) -> Iterator[Path]:
    """Links where aejax would write through them. A link in `runs` is replaced, as is one beside it."""
    for name in ("runs", "states", "tensorboard"):
        inside = () if name == "runs" else (folder / name).rglob("*")
        yield from (path for path in (folder / name, *inside) if path.is_symlink())


def append_line(path: Path, value: Any) -> None:
    """Add one line of JSON to a short file; a crash leaves the old lines or all of them."""
    with atomic.disk_errors_as_one_line(path):
        lines = path.read_bytes() if path.exists() else b""
    write_atomic(path, lines + to_json(value).encode() + b"\n")


def write_run(
    folder: Path, row: Mapping[str, Any], params: Mapping[str, Any], arrays: Mapping[str, np.ndarray]
) -> Path:
    """Store one finished run under its run_id, replacing an older one of the same identity. Returns its folder.

    An older one that is damaged is kept as runs/.corrupt-<run_id>-<n>. Raises MachineError when the disk refuses; the
    older run is then as it was.
    """
    from safetensors.numpy import save

    if row["format"] != FORMAT:
        raise ValueError(f"row of format {row['format']!r}, while this aejax writes {FORMAT}")
    files = {
        "run.json": to_json(row, indent=1).encode(),
        "parameters.safetensors": save(flat(params)),
        "arrays.safetensors": save(flat(arrays)),
    }
    return atomic.commit(folder / "runs" / check_name(row["run_id"], "run_id"), files, FORMAT, read_run)


def read_run(run: Path) -> StoredRun:
    """Read a run folder, every file checked against the manifest.

    Raises ResultsError naming what is missing or damaged, ConfigError for a newer format.
    """
    from safetensors.numpy import load

    row, files = _read_checked(run)
    return StoredRun(row, nested(load(files["parameters.safetensors"])), load(files["arrays.safetensors"]))


def read_row(run: Path, warn: Callable[[str], None] | None = None) -> dict[str, Any] | None:
    """The row of a stored run, None when there is no such run, or when it is damaged: `warn` is told the file and why.

    Raises ConfigError for a newer format.
    """
    if not run.exists():
        return None
    try:
        return _read_checked(run)[0]
    except ResultsError as error:
        if warn is not None:
            warn(f"{error.field}: {error.found}")
        return None


def read_arrays(folder: Path, run_id: str) -> dict[str, np.ndarray] | None:
    """The arrays of a run of a results folder, None where the run is missing or damaged."""
    run = folder / "runs" / run_id
    return read_run(run).arrays if read_row(run) is not None else None


def _read_checked(run: Path) -> tuple[dict[str, Any], dict[str, bytes]]:
    absent = "give a run folder: results/EXPERIMENT/runs/RUN_ID"
    files = atomic.read(
        run, FILES, FORMAT, absent if not (run / atomic.MANIFEST).exists() else "run the experiment again"
    )
    row = json.loads(files["run.json"])
    name = run.resolve().name
    if row.get("run_id") != name:
        fix = f"name its folder {row.get('run_id')} again"
        raise ResultsError(str(run / "run.json"), f"damaged: run {row.get('run_id')} in the folder of {name}", fix)
    return row, files


def write_index(folder: Path, warn: Callable[[str], None] | None = None) -> list[dict[str, Any]]:
    """Rebuild runs.jsonl from the run folders and return its rows, in order of identity-bearing fields.

    Rows of runs whose folders are elsewhere (arrays are not kept in git) stay until a run of that identity is stored.
    The row of a damaged folder is left out: `warn` is told the file and why, and an index that is damaged itself is
    mended. Raises ResultsError on a damaged index without `warn`.
    """
    rows = {row["run_id"]: row for row in (read_index(folder) if warn is None else mend_index(folder, warn))}
    for run in sorted((folder / "runs").glob("[!.]*")):
        row = read_row(run, warn)
        rows.pop(run.name, None)
        if row is not None:
            rows[run.name] = row
    return _write_rows(folder, rows.values())


def mend_index(folder: Path, warn: Callable[[str], None]) -> list[dict[str, Any]]:
    """The rows of runs.jsonl. One with a damaged line is kept as runs.jsonl.corrupt, and written anew without it."""
    path, damaged = folder / "runs.jsonl", list[ResultsError]()
    rows = _rows(path, damaged.append)
    if damaged:
        kept = atomic.free_name(path.with_name(f"{path.name}.corrupt"))
        write_atomic(kept, path.read_bytes())
        for error in damaged:
            warn(f"{error.field}: {error.found}; kept as {kept.name}, and rebuilt from the run folders and other lines")
        _write_rows(folder, rows)
    return rows


def read_index(folder: Path) -> list[dict[str, Any]]:
    """The rows of runs.jsonl, none when there is no such file. Raises ResultsError on a line that is not a row."""

    def refuse(error: ResultsError) -> None:
        raise error

    return _rows(folder / "runs.jsonl", refuse)


def _write_rows(folder: Path, rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    ordered = sorted(rows, key=_order)
    write_atomic(folder / "runs.jsonl", b"".join(_to_line(row) for row in ordered))
    return ordered


def _to_line(row: Mapping[str, Any]) -> bytes:
    """A row as a line of runs.jsonl; its last field is the SHA-256 of the line without it."""
    text = to_json(row).encode()
    return b'%b, "sha256": "%b"}\n' % (text[:-1], hashlib.sha256(text).hexdigest().encode())


def _rows(path: Path, tell: Callable[[ResultsError], None]) -> list[dict[str, Any]]:
    """The rows of an index; `tell` is told of each line that is none."""
    try:
        lines = path.read_bytes().splitlines()
    except FileNotFoundError:
        return []
    rows = []
    for number, line in enumerate(lines, 1):
        try:
            rows.append(_from_line(line))
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            found = str(error) if isinstance(error, _ChangedError) else "not a row"
            refused = ResultsError(
                f"{path}:{number}", found, "restore the file, or delete it: it is rebuilt from the run folders"
            )
            refused.__cause__ = error
            tell(refused)
    return rows


def _from_line(line: bytes) -> dict[str, Any]:
    """The row of a line. Raises ValueError, KeyError or TypeError where it is none, or is not as it was written.

    Lines of earlier versions have no SHA-256. Sixty-four characters at the end under another name are a damaged one.
    """
    row = json.loads(line)
    _order(row)
    name, found = list(row.items())[-1]
    if name == "sha256" or (isinstance(found, str) and len(found) == 64):
        del row[name]
        if line + b"\n" != _to_line(row):
            raise _ChangedError("damaged: its SHA-256 is not the line's")
    return row


class _ChangedError(ValueError):
    """A row that is not as it was written."""


def _order(row: Mapping[str, Any]) -> tuple:
    return (
        row["dataset"],
        row["label"],
        row["codings"],
        to_json(row["hyper"], sort_keys=True),
        row["seed"],
        row["run_id"],
    )


def flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, np.ndarray]:
    """The leaves of a nested dict by path, `encoder/layer_0/kernel`, in C order."""
    leaves: dict[str, np.ndarray] = {}
    for name, value in tree.items():
        if isinstance(value, Mapping):
            leaves |= flat(value, f"{prefix}{name}/")
        else:
            leaves[f"{prefix}{name}"] = np.asarray(value, order="C")
    return leaves


def nested(leaves: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """The nested dict that `flat` made these leaves of."""
    tree: dict[str, Any] = {}
    for path, value in leaves.items():
        *folders, name = path.split("/")
        node = tree
        for part in folders:
            node = node.setdefault(part, {})
        node[name] = value
    return tree
