"""Stores runs and states, dying at every call that changes the disk in turn. Arguments: SOURCE TARGET SCENARIO...

For n = 1, 2, … a copy of SOURCE is made in TARGET/SCENARIO/<mode>-<n>, and a child process dies by SIGKILL just before
its n-th call that changes the disk, in the middle of it when it writes. Mode `kill` leaves what was written, as a kill
does; mode `power` also loses half of every file not yet fsynced, and every new folder and rename whose own folder was
not fsynced after it, as a power cut may; what was deleted stays so. There the power is also cut right after the last
call, when all that was promised has to last. SCENARIO:WRITER puts a broken writer in place of ours. Prints the number
of calls by scenario and mode.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import safetensors.numpy  # noqa: F401  loaded before the fork, not in every child

from aejax.storage import atomic, checkpoints, run_folders
from aejax.storage.run_folders import FORMAT

MODES = ("kill", "power")
CALLS = ("fsync", "rename", "replace", "mkdir", "rmdir", "unlink", "remove", "chmod")
OLD, NEW, BESIDE, ELSEWHERE = "aaaaaaaaaaaa", "bbbbbbbbbbbb", "cccccccccccc", "dddddddddddd"


class Failpoint:
    """Counts the calls that change the disk below `folder`, and dies at the n-th."""

    def __init__(self, number: int, mode: str, folder: Path):
        self.number, self.mode, self.folder = number, mode, folder
        self.unsynced: set[int] = set()
        self.fleeting: list[tuple[int, Callable[[], None]]] = []
        self.real = {name: getattr(os, name) for name in CALLS}

    def reached(self) -> bool:
        self.number -= 1
        return self.number == 0

    def die(self) -> NoReturn:
        self.cut_power()
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError

    def cut_power(self) -> None:
        """In mode `power`, take back what would not last."""
        if self.mode != "power":
            return
        for path in self.folder.rglob("*"):
            if path.is_file() and path.stat().st_ino in self.unsynced:
                os.truncate(path, path.stat().st_size // 2)
        for name, real in self.real.items():
            setattr(os, name, real)
        for _, take_back in reversed(self.fleeting):
            take_back()

    def note(self, name: str, *paths: Any) -> None:
        """Before a new folder or a rename: how it is taken back until its folder is fsynced."""
        first, last = Path(paths[0]), Path(paths[-1])
        old = last.read_bytes() if name in ("rename", "replace") and last.is_file() else None

        def take_back() -> None:
            if not last.exists():
                return
            if name == "mkdir":
                shutil.rmtree(last)
                return
            last.rename(first)
            if old is not None:
                last.write_bytes(old)

        self.fleeting.append((last.parent.stat().st_ino, take_back))

    def arm(self) -> None:
        """Put the failpoint in front of every call."""
        for name in CALLS:
            setattr(os, name, self._wrap(name, getattr(os, name)))
        real_open = io.open

        def open_counted(file: Any, mode: str = "r", *args: Any, **more: Any) -> Any:
            opened = real_open(file, mode, *args, **more)
            return Written(opened, self) if set(mode) & set("wax+") else opened

        io.open = open_counted

    def _wrap(self, name: str, real: Callable) -> Callable:
        def counted(*args: Any, **more: Any) -> Any:
            if self.reached():
                self.die()
            if name == "fsync":
                synced = os.fstat(args[0]).st_ino
                self.unsynced.discard(synced)
                self.fleeting = [one for one in self.fleeting if one[0] != synced]
            if name in ("rename", "replace"):
                self.note(name, *args[:2])
            done = real(*args, **more)
            if name == "mkdir":
                self.note(name, args[0])
            return done

        return counted


class Written:
    """A file whose writing can stop half-way."""

    def __init__(self, file: Any, failpoint: Failpoint):
        self.file, self.failpoint = file, failpoint

    def write(self, data: bytes) -> int:
        self.failpoint.unsynced.add(os.fstat(self.file.fileno()).st_ino)
        if self.failpoint.reached():
            self.file.write(data[: len(data) // 2])
            self.file.flush()
            self.failpoint.die()
        return self.file.write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)

    def __enter__(self) -> Written:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()


def run_of(run_id: str, number: int) -> tuple[dict[str, Any], dict[str, Any], dict[str, np.ndarray]]:
    """Row, parameters and arrays of which every one tells the same number."""
    row = {"format": FORMAT, "run_id": run_id, "dataset": "d", "label": "l", "codings": 2, "hyper": {}}
    value = np.full((3, 2), number, np.float32)
    return {**row, "seed": number}, {"encoder": {"kernel": value}}, {"curve": value[0]}


def store(folder: Path, run_id: str, number: int) -> None:
    run_folders.write_run(folder, *run_of(run_id, number))


def save(folder: Path, step: int) -> None:
    checkpoints.save(folder, "s1", step, {"step": step}, {"kernel": np.full((3, 2), step, np.float32)})


def prepare(folder: Path) -> None:
    """What every scenario starts from: two finished runs, a third of which only the row is here, two saved states."""
    for run_id in (BESIDE, OLD, ELSEWHERE):
        store(folder, run_id, 1)
    run_folders.write_index(folder)
    shutil.rmtree(folder / "runs" / ELSEWHERE)
    save(folder, 10)
    save(folder, 20)
    checkpoints.save(folder, "s2", 5, {}, {"kernel": np.zeros(2, np.float32)})


def recover_from_a_kill(folder: Path) -> None:
    """A kill between the two renames left this, and recovering from it dies too."""
    run = folder / "runs" / OLD
    run.rename(run.with_name(f".replaced-{OLD}"))
    shutil.copytree(folder / "runs" / BESIDE, folder / "runs" / ".partial-abc")
    run_folders.open_folder(folder.parent, folder.name)


def replace_damaged(folder: Path) -> None:
    """The damage is done by other means than the calls that are counted."""
    os.truncate(folder / "runs" / OLD / "arrays.safetensors", 7)
    store(folder, OLD, 2)


SCENARIOS: dict[str, Callable[[Path], Any]] = {
    "store": lambda folder: store(folder, NEW, 2),
    "replace": lambda folder: store(folder, OLD, 2),
    "replace_damaged": replace_damaged,
    "index": run_folders.write_index,
    "line": lambda folder: run_folders.append_line(folder / "lines.jsonl", {"n": 1}),
    "state": lambda folder: save(folder, 30),
    "first_state": lambda folder: checkpoints.save(folder, "s3", 30, {}, {"kernel": np.full(2, 30, np.float32)}),
    "open": lambda folder: store(run_folders.open_folder(folder.parent, "y"), NEW, 2),
    "forget": lambda folder: checkpoints.remove(folder, "s1"),
    "recover": recover_from_a_kill,
}


def _write_files(target: Path, files: Any, version: int, *, sync: bool = True) -> None:
    hashes = {name: atomic.hashlib.sha256(data).hexdigest() for name, data in files.items()}
    manifest = atomic.to_json({"format": version, "sha256": hashes}, indent=1).encode()
    for name, data in {**files, atomic.MANIFEST: manifest}.items():
        with io.open(target / name, "wb") as file:  # noqa: UP020  the counted one
            file.write(data)
            file.flush()
            if sync:
                os.fsync(file.fileno())


def commit_without_its_folder(target: Path, files: Any, version: int, check: Any) -> Path:
    partial = target.with_name(f"{atomic.PARTIAL_PREFIX}1")
    partial.mkdir()
    _write_files(partial, files, version)
    aside = atomic._rename_into_place(partial, target, check)
    shutil.rmtree(aside, ignore_errors=True)
    return target


def make_folder_that_may_not_last(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)


def write_without_its_folder(path: Path, data: bytes) -> None:
    aside = path.with_name(f"{atomic.PARTIAL_PREFIX}1")
    write_in_place(aside, data)
    aside.replace(path)


def commit_in_place(target: Path, files: Any, version: int, check: Any) -> Path:
    target.mkdir(exist_ok=True)
    _write_files(target, files, version)
    return target


def commit_renamed_too_early(target: Path, files: Any, version: int, check: Any) -> Path:
    partial = target.with_name(f"{atomic.PARTIAL_PREFIX}1")
    partial.mkdir()
    atomic._rename_into_place(partial, target, check)
    _write_files(target, files, version)
    return target


def commit_deleting_first(target: Path, files: Any, version: int, check: Any) -> Path:
    partial = target.with_name(f"{atomic.PARTIAL_PREFIX}1")
    partial.mkdir()
    _write_files(partial, files, version)
    if target.exists():
        shutil.rmtree(target)
    partial.rename(target)
    return target


def commit_without_fsync(target: Path, files: Any, version: int, check: Any) -> Path:
    partial = target.with_name(f"{atomic.PARTIAL_PREFIX}1")
    partial.mkdir()
    _write_files(partial, files, version, sync=False)
    atomic._rename_into_place(partial, target, check)
    return target


def write_in_place(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def replace_writer(name: str) -> None:
    if name in FILE_WRITERS:
        run_folders.write_atomic = FILE_WRITERS[name]
    elif name == "folders_without_fsync":
        atomic.make_folder = make_folder_that_may_not_last
    else:
        atomic.commit_folder = BROKEN[name]


FILE_WRITERS = {"write_in_place": write_in_place, "write_without_folder_fsync": write_without_its_folder}
BROKEN = {
    "in_place": commit_in_place,
    "renamed_too_early": commit_renamed_too_early,
    "deleting_first": commit_deleting_first,
    "without_fsync": commit_without_fsync,
    "without_folder_fsync": commit_without_its_folder,
}


def die_everywhere(scenario: str, source: Path, target: Path) -> dict[str, int]:
    """Run a scenario in one child for every call it makes. Returns the number of calls in each mode."""
    kind, _, writer = scenario.partition(":")
    counts = {}
    for mode in MODES:
        for number in range(1, 400):
            root = target / scenario / f"{mode}-{number}"
            shutil.copytree(source, root)
            child = os.fork()
            if child == 0:
                try:
                    if writer:
                        replace_writer(writer)
                    failpoint = Failpoint(number, mode, root)
                    failpoint.arm()
                    SCENARIOS[kind](root / "x")
                    failpoint.cut_power()
                except BaseException as error:
                    print(repr(error), file=sys.stderr, flush=True)
                    os._exit(1)
                os._exit(0)
            status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            if status == 0:
                counts[mode] = number - 1
                break
            if status != -signal.SIGKILL:
                sys.exit(f"{scenario}: the child ended with {status} at call {number}")
        else:
            sys.exit(f"{scenario}: no end of calls")
    return counts


if __name__ == "__main__":
    before, after = map(Path, sys.argv[1:3])
    print(json.dumps({scenario: die_everywhere(scenario, before, after) for scenario in sys.argv[3:]}))
