"""Rows and arrays on disk: a folder a run, written whole or not at all, checked whenever it is read.

    results/<experiment>/runs/<run_id>/   run.json, parameters.safetensors, arrays.safetensors, manifest.json
    results/<experiment>/runs.jsonl       the rows of all runs, derived from the folders

A run folder is written under a temporary name, its files and the folder are fsynced, and it is renamed into place;
`manifest.json` holds the SHA-256 of every other file. Reading runs no code: JSON and safetensors only.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from aejax.errors import AejaxError, ConfigError, MachineError, ResultsError
from aejax.sweep import FORMAT

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}")


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


def write_atomic(path: Path, data: bytes) -> None:
    """Write a file so that a crash at any moment leaves the old content or the new, never part of it."""
    with _disk(path):
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            Path(temporary).chmod(0o644)
            Path(temporary).replace(path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
        _sync_folder(path.parent)


def to_json(value: Any, **options: Any) -> str:
    """Strict JSON: a number that is not finite is an error, never a word that other readers choke on."""
    return json.dumps(value, allow_nan=False, ensure_ascii=False, **options)


def open_folder(root: Path, experiment: str) -> Path:
    """The results folder of an experiment, made if need be and seen to be writable. Before any compute.

    Raises ConfigError for a name that is no file name, MachineError where it cannot be written, ResultsError where it
    is someone else's.
    """
    folder = root / check_name(experiment, "experiment")
    for part in (root, folder, folder / "runs"):
        if part.exists() and not part.is_dir():
            raise MachineError(str(part), "is a file, where a folder is needed", "choose another --results folder")
    ours = (folder / "runs").is_dir() or (folder / "runs.jsonl").is_file()
    if folder.is_dir() and not ours and any(folder.iterdir()):
        raise ResultsError(str(folder), "not empty, and no results of aejax", "choose another --results folder")
    if not folder.resolve().is_relative_to(root.resolve()):
        raise ResultsError(str(folder), "leads outside the results folder", "remove the link")
    with _disk(folder):
        (folder / "runs").mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
        _recover(folder / "runs")
    return folder


def write_run(
    folder: Path, row: Mapping[str, Any], params: Mapping[str, Any], arrays: Mapping[str, np.ndarray]
) -> Path:
    """Store one finished run under its run_id, replacing an older one of the same identity. Returns its folder."""
    from safetensors.numpy import save

    run_id = check_name(row["run_id"], "run_id")
    files = {
        "run.json": to_json(row, indent=1).encode(),
        "parameters.safetensors": save({name: np.ascontiguousarray(leaf) for name, leaf in _flatten(params)}),
        "arrays.safetensors": save({name: np.ascontiguousarray(array) for name, array in arrays.items()}),
    }
    hashes = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
    files["manifest.json"] = to_json({"format": FORMAT, "sha256": hashes}, indent=1).encode()
    runs, target = folder / "runs", folder / "runs" / run_id
    with _disk(folder):
        partial = Path(tempfile.mkdtemp(dir=runs, prefix=".partial-"))
        try:
            partial.chmod(0o755)
            for name, data in files.items():
                with (partial / name).open("wb") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
            _sync_folder(partial)
            _put(partial, target)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
        _sync_folder(runs)
    return target


def _put(partial: Path, target: Path) -> None:
    """Rename into place. An older run of that identity stands aside until the new one is there."""
    aside = target.with_name(f".replaced-{target.name}")
    if target.exists():
        target.rename(aside)
    try:
        partial.rename(target)
    except BaseException:
        if aside.exists():
            aside.rename(target)
        raise
    shutil.rmtree(aside, ignore_errors=True)


def _recover(runs: Path) -> None:
    """Clear what a killed process left: half-written runs go, a run that stood aside for a lost one comes back."""
    for leftover in runs.glob(".partial-*"):
        shutil.rmtree(leftover, ignore_errors=True)
    for aside in runs.glob(".replaced-*"):
        target = aside.with_name(aside.name.removeprefix(".replaced-"))
        if target.exists():
            shutil.rmtree(aside, ignore_errors=True)
        else:
            aside.rename(target)


def read_run(run: Path) -> StoredRun:
    """Read a run folder, every file checked against the manifest. Raises ResultsError naming what is wrong."""
    from safetensors.numpy import load

    files = _read_checked(run)
    return StoredRun(
        json.loads(files["run.json"]),
        _unflatten(load(files["parameters.safetensors"])),
        load(files["arrays.safetensors"]),
    )


def read_row(run: Path) -> dict[str, Any] | None:
    """The row of a stored run, or None when there is no such run or one of its files is damaged."""
    try:
        return json.loads(_read_checked(run)["run.json"])
    except ResultsError:
        return None


def _read_checked(run: Path) -> dict[str, bytes]:
    try:
        manifest = json.loads((run / "manifest.json").read_bytes())
        version, hashes = manifest["format"], manifest["sha256"]
    except FileNotFoundError as error:
        raise ResultsError(
            str(run), "no manifest.json there", "give a run folder: results/EXPERIMENT/runs/RUN_ID"
        ) from error
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise ResultsError(str(run / "manifest.json"), "damaged or unreadable", "run the experiment again") from error
    if not isinstance(version, int) or version > FORMAT:
        raise ConfigError(str(run), f"format {version}, this aejax reads up to {FORMAT}", "use a newer aejax")
    files = {}
    for name in ("run.json", "parameters.safetensors", "arrays.safetensors"):
        try:
            files[name] = (run / name).read_bytes()
        except OSError as error:
            raise ResultsError(str(run / name), "missing or unreadable", "run the experiment again") from error
        if hashlib.sha256(files[name]).hexdigest() != hashes.get(name):
            raise ResultsError(
                str(run / name), "damaged: its SHA-256 is not the manifest's", "run the experiment again"
            )
    return files


def write_index(folder: Path) -> list[dict[str, Any]]:
    """Rebuild runs.jsonl from the run folders and return its rows, in order of identity-bearing fields.

    Rows of runs whose folders are elsewhere (arrays are not kept in git) stay until a run of that identity is stored.
    """
    index = folder / "runs.jsonl"
    rows = {row["run_id"]: row for row in read_index(folder)}
    for run in sorted((folder / "runs").glob("[!.]*")):
        row = read_row(run)
        if row is not None:
            rows[row["run_id"]] = row
    ordered = sorted(rows.values(), key=_order)
    write_atomic(index, "".join(to_json(row) + "\n" for row in ordered).encode())
    return ordered


def read_index(folder: Path) -> list[dict[str, Any]]:
    """The rows of runs.jsonl, none when there is no such file. Raises ResultsError on a line that is not a row."""
    try:
        lines = (folder / "runs.jsonl").read_text("utf-8").splitlines()
    except FileNotFoundError:
        return []
    rows = []
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
            if "run_id" not in row:
                raise ValueError
        except (ValueError, TypeError) as error:
            raise ResultsError(
                f"{folder / 'runs.jsonl'}:{number}", "not a row", "delete runs.jsonl; it is rebuilt"
            ) from error
        rows.append(row)
    return rows


def _order(row: Mapping[str, Any]) -> tuple:
    return (
        row["dataset"],
        row["label"],
        row["codings"],
        to_json(row["hyper"], sort_keys=True),
        row["seed"],
        row["run_id"],
    )


@contextlib.contextmanager
def _disk(path: Path) -> Iterator[None]:
    """Say what went wrong with the disk in one line."""
    try:
        yield
    except AejaxError:
        raise
    except PermissionError as error:
        raise MachineError(
            str(error.filename or path), "no permission to write", "choose a folder you can write to"
        ) from error
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise MachineError(
            str(error.filename or path), reason.lower(), "free space or choose another folder, then run again"
        ) from error


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _flatten(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, np.ndarray]]:
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{name}/")
        else:
            yield f"{prefix}{name}", np.asarray(value)


def _unflatten(flat: Mapping[str, np.ndarray]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for path, value in flat.items():
        *folders, name = path.split("/")
        node = tree
        for part in folders:
            node = node.setdefault(part, {})
        node[name] = value
    return tree
