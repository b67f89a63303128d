"""Training in progress, saved so that it can go on: the two newest states of each, checked whenever they are read.

    results/<experiment>/states/<state_id>/<step>/            state.json, state.safetensors, manifest.json
    results/<experiment>/states/<state_id>/<step>.corrupt/    a damaged one, kept

A state is arrays by name and an `about`: whatever decides whether the state may be gone on from.
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
from aejax.storage.run_folders import NAME, check_name

FORMAT = 1
FILES = ("state.json", "state.safetensors")
CORRUPT = ".corrupt"
DIGITS, SHOWN = 12, 8


class SavedState(NamedTuple):
    """A state read back: the step it was saved after, what it belongs to, and its arrays by name."""

    step: int
    about: dict[str, Any]
    arrays: dict[str, np.ndarray]


def save(folder: Path, state_id: str, step: int, about: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> Path:
    """Save a state, and then remove the older ones of that `state_id` except the newest that is valid.

    `folder` is the results folder; `about` is JSON; arrays are of NumPy's own dtypes. States of later steps stay, so
    `forget` before training anew. Raises MachineError when the disk refuses; the older states are then as they were.
    """
    from safetensors.numpy import save as to_bytes

    if not 0 <= step < 10**DIGITS:
        raise ValueError(f"step {step}, outside 0 … 10^{DIGITS} - 1")
    home = folder / "states" / check_name(state_id, "state_id")
    head = {"format": FORMAT, "state_id": state_id, "step": step, "about": about}
    files = {
        "state.json": to_json(head, indent=1).encode(),
        "state.safetensors": to_bytes({name: np.asarray(array, order="C") for name, array in arrays.items()}),
    }
    with atomic.disk_errors_as_one_line(home):
        atomic.make_folder(home)
    saved = atomic.commit(home / _name(step), files, FORMAT, _read)
    _prune(home, saved.name)
    return saved


def load_newest(folder: Path, state_id: str, warn: Callable[[str], None], repair: bool = True) -> SavedState | None:
    """The newest valid state, or None when none was ever saved.

    A damaged one on the way is named to `warn` and kept as `<step>.corrupt` (left as it is without `repair`). Raises
    ResultsError when there were states and none is valid, ConfigError for a newer format.
    """
    home = folder / "states" / check_name(state_id, "state_id")
    damaged = False
    for path in _steps(home):
        try:
            state = _read(path)
        except ResultsError as error:
            damaged, kept = True, ""
            if repair:
                corrupt = atomic.free_name(path.with_name(path.name + CORRUPT))
                with atomic.disk_errors_as_one_line(path):
                    path.rename(corrupt)
                kept = f"; kept as {corrupt.name}"
            warn(f"{error.field}: {error.found}{kept}")
            continue
        if damaged:
            warn(f"{home}: going on from the older state of step {state.step}")
        return state
    if damaged or any(_corrupt(home)):
        raise ResultsError(str(home), "states were saved, and none is valid", "delete that folder to train anew")
    return None


def identity_of_damaged(folder: Path, state_id: str) -> dict[str, Any] | None:
    """The `about` of states of which none is valid, where one's state.json is as it was written; else None."""
    home = folder / "states" / check_name(state_id, "state_id")
    for path in [*_steps(home), *_corrupt(home)]:
        try:
            head = (path / FILES[0]).read_bytes()
            hashes = json.loads((path / atomic.MANIFEST).read_bytes())["sha256"]
            if hashlib.sha256(head).hexdigest() == hashes[FILES[0]]:
                return json.loads(head)["about"]
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            continue
    return None


def list_ids(folder: Path) -> list[str]:
    """The state_ids that have a state, valid or not, in order."""
    homes = (folder / "states").glob("*")
    return sorted(home.name for home in homes if NAME.fullmatch(home.name) and (_steps(home) or any(_corrupt(home))))


def remove(folder: Path, state_id: str) -> None:
    """Remove the states of `state_id`, once its runs are stored. Damaged ones are kept, as states/.corrupt-*."""
    home = folder / "states" / check_name(state_id, "state_id")
    if not home.is_dir():
        return
    with atomic.disk_errors_as_one_line(home):
        for path in [*_corrupt(home)]:
            path.rename(atomic.free_name(home.with_name(f".corrupt-{state_id}-{path.name.partition('.')[0]}-1")))
        atomic.discard(home)


def check_same(found: Mapping[str, Any], asked: Mapping[str, Any], where: str) -> None:
    """Refuse to go on from a state of something else. `found` is its stored `about`, `asked` what it should be.

    Raises ResultsError on `where` with the fields that differ: "config.epochs: 5 stored, 10 asked".
    """
    differ = list(_differences(found, json.loads(to_json(asked))))
    if differ:
        more = [f"and {len(differ) - SHOWN} more"] if len(differ) > SHOWN else []
        fix = "ask for what is stored, or delete that folder to train anew"
        raise ResultsError(where, ", ".join([*differ[:SHOWN], *more]), fix)


def _differences(found: Mapping[str, Any], asked: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for name in [*found, *(name for name in asked if name not in found)]:
        field = f"{prefix}{name}"
        if name not in asked:
            yield f"{field}: {to_json(found[name])} stored, none asked"
        elif name not in found:
            yield f"{field}: none stored, {to_json(asked[name])} asked"
        elif isinstance(found[name], Mapping) and isinstance(asked[name], Mapping):
            yield from _differences(found[name], asked[name], f"{field}.")
        elif to_json(found[name], sort_keys=True) != to_json(asked[name], sort_keys=True):
            yield f"{field}: {to_json(found[name])} stored, {to_json(asked[name])} asked"


def _read(path: Path) -> SavedState:
    """The state in the folder `path`, which is named by its step in a folder named by its state_id."""
    from safetensors.numpy import load

    files = atomic.read(path, FILES, FORMAT, "delete that folder")
    head = json.loads(files["state.json"])
    step, state_id, about = head["step"], head["state_id"], head["about"]
    if path.name != _name(step) or path.parent.name != state_id:
        raise ResultsError(
            str(path / "state.json"), f"damaged: step {step} of {state_id}, in another's folder", "delete that folder"
        )
    return SavedState(step, about, load(files["state.safetensors"]))


def _name(step: int) -> str:
    return f"{step:0{DIGITS}}"


def _steps(home: Path) -> list[Path]:
    """What stands as a state in `home`, newest first."""
    return sorted((path for path in home.glob("[!.]*") if CORRUPT not in path.name), reverse=True)


def _corrupt(home: Path) -> Iterator[Path]:
    return home.glob(f"[!.]*{CORRUPT}*")


def _prune(home: Path, newest: str) -> None:
    """Of the states older than `newest`, keep the first that is valid and what is damaged before it."""
    older = iter([path for path in _steps(home) if path.name < newest])
    for path in older:
        try:
            _read(path)
        except AejaxError:
            continue
        break
    with atomic.disk_errors_as_one_line(home):
        for path in older:
            atomic.discard(path)
