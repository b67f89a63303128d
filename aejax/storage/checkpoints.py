"""Checkpoints: saved training states. The two newest of each training are kept and checked whenever they are read.

    results/<experiment>/states/<state_id>/<step>/            state.json, state.safetensors, manifest.json
    results/<experiment>/states/<state_id>/<step>.corrupt/    a damaged state, kept

A state consists of named arrays and of metadata, a JSON object that says which training may resume from it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from aejax.runtime.errors import AejaxError, ResultsError
from aejax.storage import atomic
from aejax.storage.atomic import to_json
from aejax.storage.run_folders import NAME_PATTERN, check_name

FORMAT = 1
FILES = ("state.json", "state.safetensors")
CORRUPT_SUFFIX = ".corrupt"
STEP_DIGITS = 12
"""Digits in the name of a state's folder, so that names sort by step."""
MAX_DIFFERENCES_SHOWN = 8


class SavedState(NamedTuple):
    """A state that was read: its step, its metadata, and its arrays by name."""

    step: int
    metadata: dict[str, Any]
    arrays: dict[str, np.ndarray]


def save(folder: Path, state_id: str, step: int, metadata: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> Path:
    """Save a state. Then remove all older states of this `state_id` but the newest valid one. Returns its folder.

    `folder` is the results folder. The metadata must be JSON, and the arrays must have NumPy's own dtypes. States of
    later steps stay: call `remove` before a training starts again at step 0. Raises MachineError if the disk refuses;
    the older states are then unchanged.
    """
    from safetensors.numpy import save as to_bytes

    if not 0 <= step < 10**STEP_DIGITS:
        raise ValueError(f"step {step}, outside 0 … 10^{STEP_DIGITS} - 1")
    home = _home(folder, state_id)
    head = {"format": FORMAT, "state_id": state_id, "step": step, "about": metadata}
    files = {
        "state.json": to_json(head, indent=1).encode(),
        "state.safetensors": to_bytes({name: np.asarray(array, order="C") for name, array in arrays.items()}),
    }
    with atomic.disk_errors_as_one_line(home):
        atomic.make_folder(home)
    saved = atomic.commit_folder(home / _folder_name(step), files, FORMAT, _read)
    _remove_older(home, saved.name)
    return saved


def load_newest(folder: Path, state_id: str, warn: Callable[[str], None], repair: bool = True) -> SavedState | None:
    """The newest valid state, or None if no state was ever saved.

    Damaged newer states are reported to `warn` and, with `repair`, renamed to `<step>.corrupt`. Raises ResultsError if
    states were saved and none is valid, ConfigError for a newer format.
    """
    home = _home(folder, state_id)
    is_damaged = False
    for path in _state_folders(home):
        try:
            state = _read(path)
        except ResultsError as error:
            is_damaged = True
            kept = ""
            if repair:
                corrupt = atomic.next_free_path(path.with_name(path.name + CORRUPT_SUFFIX))
                with atomic.disk_errors_as_one_line(path):
                    path.rename(corrupt)
                kept = f"; kept as {corrupt.name}"
            warn(f"{error.field}: {error.problem}{kept}")
            continue
        if is_damaged:
            warn(f"{home}: resuming from the older state of step {state.step}")
        return state
    if is_damaged or any(_corrupt_folders(home)):
        fix = "delete that folder to train from the start"
        raise ResultsError(str(home), "states were saved, and none is valid", fix)
    return None


def metadata_of_damaged(folder: Path, state_id: str) -> dict[str, Any] | None:
    """The metadata of a damaged state whose state.json is intact; None if there is no such state."""
    home = _home(folder, state_id)
    for path in [*_state_folders(home), *_corrupt_folders(home)]:
        try:
            head = (path / FILES[0]).read_bytes()
            hashes = json.loads((path / atomic.MANIFEST).read_bytes())["sha256"]
            if hashlib.sha256(head).hexdigest() == hashes[FILES[0]]:
                return json.loads(head)["about"]
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            continue
    return None


def list_ids(folder: Path) -> list[str]:
    """The sorted state_ids that have at least one state, valid or damaged."""
    homes = [home for home in (folder / "states").glob("*") if NAME_PATTERN.fullmatch(home.name)]
    return sorted(home.name for home in homes if _state_folders(home) or any(_corrupt_folders(home)))


def remove(folder: Path, state_id: str) -> None:
    """Remove the states of `state_id`, once its runs are stored. Damaged states are kept as states/.corrupt-*."""
    home = _home(folder, state_id)
    if not home.is_dir():
        return
    with atomic.disk_errors_as_one_line(home):
        for path in [*_corrupt_folders(home)]:
            step = path.name.partition(".")[0]
            path.rename(atomic.next_free_path(home.with_name(f".corrupt-{state_id}-{step}-1")))
        atomic.remove_folder(home)


def check_same(stored: Mapping[str, Any], requested: Mapping[str, Any], where: str) -> None:
    """Raise ResultsError unless the metadata of a stored state equals the requested one.

    The error names `where` and the fields that differ.
    """
    problem = difference(stored, requested)
    if problem:
        raise ResultsError(where, problem, "use the stored values, or delete that folder to train from the start")


def difference(stored: Mapping[str, Any], requested: Mapping[str, Any]) -> str:
    """The fields in which two metadata differ, as text: "config.epochs: 5 stored, 10 asked". Empty if they are equal.

    At most `MAX_DIFFERENCES_SHOWN` fields are listed.
    """
    differences = list(_differences(stored, json.loads(to_json(requested))))
    hidden = len(differences) - MAX_DIFFERENCES_SHOWN
    if hidden > 0:
        differences[MAX_DIFFERENCES_SHOWN:] = [f"and {hidden} more"]
    return ", ".join(differences)


def _differences(stored: Mapping[str, Any], requested: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for name in [*stored, *(name for name in requested if name not in stored)]:
        field = f"{prefix}{name}"
        if name not in requested:
            yield f"{field}: {to_json(stored[name])} stored, none asked"
        elif name not in stored:
            yield f"{field}: none stored, {to_json(requested[name])} asked"
        elif isinstance(stored[name], Mapping) and isinstance(requested[name], Mapping):
            yield from _differences(stored[name], requested[name], f"{field}.")
        elif to_json(stored[name], sort_keys=True) != to_json(requested[name], sort_keys=True):
            yield f"{field}: {to_json(stored[name])} stored, {to_json(requested[name])} asked"


def _read(path: Path) -> SavedState:
    """The state in the folder `path`, whose name is the step and whose parent's name is the state_id."""
    from safetensors.numpy import load

    fix = "delete that folder"
    head, files = atomic.read_committed(path, FILES, FORMAT, fix)
    if path.name != _folder_name(head["step"]) or path.parent.name != head["state_id"]:
        problem = f"damaged: step {head['step']} of {head['state_id']}, in another's folder"
        raise ResultsError(str(path / "state.json"), problem, fix)
    return SavedState(head["step"], head["about"], load(files["state.safetensors"]))


def _home(folder: Path, state_id: str) -> Path:
    """The folder of all states of this `state_id`. Raises ConfigError for an id that is not a valid name."""
    return folder / "states" / check_name(state_id, "state_id")


def _folder_name(step: int) -> str:
    return f"{step:0{STEP_DIGITS}}"


def _state_folders(home: Path) -> list[Path]:
    """The folders in `home` that are not marked as corrupt, newest first."""
    return sorted((path for path in home.glob("[!.]*") if CORRUPT_SUFFIX not in path.name), reverse=True)


def _corrupt_folders(home: Path) -> Iterator[Path]:
    return home.glob(f"[!.]*{CORRUPT_SUFFIX}*")


def _remove_older(home: Path, newest: str) -> None:
    """Remove the states older than `newest`, except the newest valid one and any damaged ones newer than that."""
    older = iter([path for path in _state_folders(home) if path.name < newest])
    for path in older:
        try:
            _read(path)
        except AejaxError:
            continue
        break
    with atomic.disk_errors_as_one_line(home):
        for path in older:
            atomic.remove_folder(path)
