"""Run storage operations in child processes that die at each call that changes the disk, in turn.

    python tests/crash.py SOURCE TARGET SCENARIO...

For n = 1, 2, … SOURCE is copied to TARGET/SCENARIO/<mode>-<n>, and a child process runs the scenario in the copy. The
child kills itself with SIGKILL just before its n-th call that changes the disk; if that call writes a file, in the
middle of it. There are two modes:

- `kill` keeps everything that was written, as a killed process does.
- `power` simulates a power cut. It also truncates each file that was not fsynced to half its size, and undoes each new
  folder and each rename whose containing folder was not fsynced afterwards. Deletions are not undone. The power is
  also cut right after the last call: everything that was promised must then survive.

SCENARIO:WRITER replaces aejax's writer by a broken one. The script prints the number of calls by scenario and mode.
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
import safetensors.numpy  # noqa: F401  imported before the fork, so that children need not import it

from aejax.storage import atomic, checkpoints, run_folders
from aejax.storage.run_folders import FORMAT

MODES = ("kill", "power")
CALLS = ("fsync", "rename", "replace", "mkdir", "rmdir", "unlink", "remove", "chmod")
MAX_CALLS = 400
"""More calls than any scenario makes."""
OLD = "aaaaaaaaaaaa"
"""A run that is stored before the scenario begins, and that some scenarios replace."""
NEW = "bbbbbbbbbbbb"
"""A run that some scenarios store."""
BESIDE = "cccccccccccc"
"""A stored run that no scenario changes."""
ELSEWHERE = "dddddddddddd"
"""A run whose row is in the index, and whose folder is not there."""


class Failpoint:
    """Counts the calls that change the disk below `folder`, and kills the process at call `number`."""

    def __init__(self, number: int, mode: str, folder: Path):
        self.calls_left = number
        self.mode = mode
        self.folder = folder
        self.unsynced_inodes: set[int] = set()
        self.undos: list[tuple[int, Callable[[], None]]] = []
        self.real_calls = {name: getattr(os, name) for name in CALLS}

    def is_reached(self) -> bool:
        """Count one call. Returns True at the call at which the process dies."""
        self.calls_left -= 1
        return self.calls_left == 0

    def die(self) -> NoReturn:
        self.cut_power()
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError

    def cut_power(self) -> None:
        """In mode `power`, undo everything that does not survive a power cut."""
        if self.mode != "power":
            return
        for path in self.folder.rglob("*"):
            if path.is_file() and path.stat().st_ino in self.unsynced_inodes:
                os.truncate(path, path.stat().st_size // 2)
        for name, real in self.real_calls.items():
            setattr(os, name, real)
        for _, undo in reversed(self.undos):
            undo()

    def remember_undo(self, name: str, *paths: Any) -> None:
        """Remember how to undo a `mkdir` or a rename. The undo is dropped when the containing folder is fsynced."""
        source = Path(paths[0])
        target = Path(paths[-1])
        replaced_content = target.read_bytes() if name in ("rename", "replace") and target.is_file() else None

        def undo() -> None:
            if not target.exists():
                return
            if name == "mkdir":
                shutil.rmtree(target)
                return
            target.rename(source)
            if replaced_content is not None:
                target.write_bytes(replaced_content)

        self.undos.append((target.parent.stat().st_ino, undo))

    def install(self) -> None:
        """Wrap every call that changes the disk."""
        for name in CALLS:
            setattr(os, name, self._wrap(name, getattr(os, name)))
        real_open = io.open

        def open_counted(file: Any, mode: str = "r", *args: Any, **more: Any) -> Any:
            opened = real_open(file, mode, *args, **more)
            return CountedFile(opened, self) if set(mode) & set("wax+") else opened

        io.open = open_counted

    def _wrap(self, name: str, real: Callable) -> Callable:
        def counted(*args: Any, **more: Any) -> Any:
            if self.is_reached():
                self.die()
            if name == "fsync":
                synced = os.fstat(args[0]).st_ino
                self.unsynced_inodes.discard(synced)
                self.undos = [(inode, undo) for inode, undo in self.undos if inode != synced]
            if name in ("rename", "replace"):
                self.remember_undo(name, *args[:2])
            result = real(*args, **more)
            if name == "mkdir":
                self.remember_undo(name, args[0])
            return result

        return counted


class CountedFile:
    """A file whose `write` counts as a call, and writes only half of the data if the process dies there."""

    def __init__(self, file: Any, failpoint: Failpoint):
        self.file = file
        self.failpoint = failpoint

    def write(self, data: bytes) -> int:
        self.failpoint.unsynced_inodes.add(os.fstat(self.file.fileno()).st_ino)
        if self.failpoint.is_reached():
            self.file.write(data[: len(data) // 2])
            self.file.flush()
            self.failpoint.die()
        return self.file.write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)

    def __enter__(self) -> CountedFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()


def run_of(run_id: str, number: int) -> tuple[dict[str, Any], dict[str, Any], dict[str, np.ndarray]]:
    """Row, parameters and arrays of a run. Each of them contains `number`."""
    row = {"format": FORMAT, "run_id": run_id, "dataset": "d", "label": "l", "codings": 2, "hyper": {}}
    value = np.full((3, 2), number, np.float32)
    return {**row, "seed": number}, {"encoder": {"kernel": value}}, {"curve": value[0]}


def store(folder: Path, run_id: str, number: int) -> None:
    run_folders.write_run(folder, *run_of(run_id, number))


def save(folder: Path, step: int) -> None:
    checkpoints.save(folder, "s1", step, {"step": step}, {"kernel": np.full((3, 2), step, np.float32)})


def prepare(folder: Path) -> None:
    """Fill the folder that every scenario starts from.

    It has two stored runs, a third run with a row in the index but no folder, and states of two state_ids.
    """
    for run_id in (BESIDE, OLD, ELSEWHERE):
        store(folder, run_id, 1)
    run_folders.write_index(folder)
    shutil.rmtree(folder / "runs" / ELSEWHERE)
    save(folder, 10)
    save(folder, 20)
    checkpoints.save(folder, "s2", 5, {}, {"kernel": np.zeros(2, np.float32)})


def recover_from_a_kill(folder: Path) -> None:
    """Open a folder as a kill between the two renames of a commit left it."""
    run = folder / "runs" / OLD
    run.rename(run.with_name(f".replaced-{OLD}"))
    shutil.copytree(folder / "runs" / BESIDE, folder / "runs" / ".partial-abc")
    run_folders.open_folder(folder.parent, folder.name)


def replace_damaged(folder: Path) -> None:
    """Store a run over a damaged one. `os.truncate`, which damages it, is not a counted call."""
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
    "remove": lambda folder: checkpoints.remove(folder, "s1"),
    "recover": recover_from_a_kill,
}


def _write_files(target: Path, files: Any, version: int, *, sync: bool = True) -> None:
    hashes = {name: atomic.hashlib.sha256(data).hexdigest() for name, data in files.items()}
    manifest = atomic.to_json({"format": version, "sha256": hashes}, indent=1).encode()
    for name, data in {**files, atomic.MANIFEST: manifest}.items():
        with io.open(target / name, "wb") as file:  # noqa: UP020  `io.open` is wrapped, the builtin is not
            file.write(data)
            file.flush()
            if sync:
                os.fsync(file.fileno())


def commit_without_folder_fsync(target: Path, files: Any, version: int, check: Any) -> Path:
    partial = target.with_name(f"{atomic.PARTIAL_PREFIX}1")
    partial.mkdir()
    _write_files(partial, files, version)
    replaced = atomic._rename_into_place(partial, target, check)
    shutil.rmtree(replaced, ignore_errors=True)
    return target


def make_folder_without_fsync(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)


def write_without_folder_fsync(path: Path, data: bytes) -> None:
    partial = path.with_name(f"{atomic.PARTIAL_PREFIX}1")
    write_in_place(partial, data)
    partial.replace(path)


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
        atomic.make_folder = make_folder_without_fsync
    else:
        atomic.commit_folder = FOLDER_WRITERS[name]


FILE_WRITERS = {"write_in_place": write_in_place, "write_without_folder_fsync": write_without_folder_fsync}
FOLDER_WRITERS = {
    "in_place": commit_in_place,
    "renamed_too_early": commit_renamed_too_early,
    "deleting_first": commit_deleting_first,
    "without_fsync": commit_without_fsync,
    "without_folder_fsync": commit_without_folder_fsync,
}


def die_everywhere(scenario: str, source: Path, target: Path) -> dict[str, int]:
    """Run a scenario once for every call that it makes, each time in a child. Returns the number of calls by mode."""
    name, _, writer = scenario.partition(":")
    counts = {}
    for mode in MODES:
        for number in range(1, MAX_CALLS):
            root = target / scenario / f"{mode}-{number}"
            shutil.copytree(source, root)
            child = os.fork()
            if child == 0:
                try:
                    if writer:
                        replace_writer(writer)
                    failpoint = Failpoint(number, mode, root)
                    failpoint.install()
                    SCENARIOS[name](root / "x")
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
            sys.exit(f"{scenario}: more than {MAX_CALLS} calls")
    return counts


if __name__ == "__main__":
    source_folder, target_folder = map(Path, sys.argv[1:3])
    print(json.dumps({scenario: die_everywhere(scenario, source_folder, target_folder) for scenario in sys.argv[3:]}))
