"""Fill a small disk, and print as JSON how aejax behaves on it. test_disk_full runs this script inside `unshare -m`.

    python tests/small_disk.py FOLDER main|sweep

FOLDER is an empty folder. The script mounts a tmpfs of SIZE bytes on it, which no other process sees.
"""

from __future__ import annotations

import contextlib
import io
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

import crash
from aejax import cli
from aejax.runtime.errors import AejaxError
from aejax.storage import checkpoints, lock, run_folders

SIZE = 1 << 20
BIG = np.zeros(SIZE, np.uint8)


def refusal(call: Callable[[], Any]) -> dict[str, Any]:
    """The AejaxError that a call raises, as JSON; its `kind` is None if there was no error."""
    try:
        call()
    except AejaxError as error:
        return {"kind": type(error).__name__, "code": error.exit_code, "text": str(error)}
    return {"kind": None}


def listing(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def fill(folder: Path) -> None:
    """Write a file beside `folder` until the disk is full."""
    with (folder.parent / "ballast").open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            return


def attempts(folder: Path) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Each way of writing to the disk: its name and a call."""
    row, params, arrays = crash.run_of(crash.NEW, 2)
    yield "a new run", lambda: run_folders.write_run(folder, row, params, {**arrays, "big": BIG})
    old_row = {**row, "run_id": crash.OLD}
    yield "a run again", lambda: run_folders.write_run(folder, old_row, params, {**arrays, "big": BIG})
    yield "a state", lambda: checkpoints.save(folder, "s1", 30, {}, {"big": BIG})
    yield "a file", lambda: run_folders.write_atomic(folder / "summary.md", BIG.tobytes())
    yield "the index", lambda: run_folders.write_index(folder)


def main(root: Path) -> dict[str, Any]:
    """The outcome of every way of writing on a disk that is nearly full, full, freed again, and read-only."""
    folder = run_folders.open_folder(root / "results", "x")
    crash.prepare(folder)
    hold(folder)
    before = listing(folder)
    outcomes: dict[str, Any] = {}
    for full in (False, True):  # first the data is larger than the free space, then no byte is free
        if full:
            fill(folder)
        for name, call in attempts(folder):
            free = shutil.disk_usage(root).free
            if full or name != "the index":
                outcomes[f"{name}, {'full' if full else 'too big'}"] = {**refusal(call), "free": free}
    outcomes["a lock, full"] = refusal(lambda: hold(folder))
    outcomes["left"] = [name for name in listing(folder) if name not in before]
    outcomes["lost"] = [name for name in before if name not in listing(folder)]
    outcomes["old"] = [run_folders.read_run(folder / "runs" / crash.OLD).row["seed"]]
    (folder.parent / "ballast").unlink()
    crash.store(folder, crash.OLD, 2)
    crash.save(folder, 30)
    state = checkpoints.load_newest(folder, "s1", print)
    assert state is not None
    rows = run_folders.write_index(folder)
    outcomes["after"] = [len(rows), run_folders.read_run(folder / "runs" / crash.OLD).row["seed"], state.step]

    subprocess.run(["mount", "-o", "remount,ro", str(root)], check=True)
    before = listing(root)
    outcomes["read-only"] = {name: refusal(call) for name, call in attempts(folder)}
    outcomes["read-only"] |= {
        "the folder": refusal(lambda: run_folders.open_folder(root / "results", "x")),
        "another folder": refusal(lambda: run_folders.open_folder(root / "results", "y")),
        "a lock": refusal(lambda: hold(folder)),
        "removing states": refusal(lambda: checkpoints.remove(folder, "s1")),
    }
    assert run_folders.read_run(folder / "runs" / crash.OLD).row["seed"] == 2
    outcomes["changed"] = listing(root) != before
    return outcomes


SWEEP = """
from aejax import Sweep
HYPER = {"learning_rate": 0.01, "l2": 0.0}
SWEEPS = [Sweep(dataset="digits", widths=widths, epochs=1, batch_size=256, hyper=HYPER) for widths in ((3,), (3000, 3))]
"""


def sweep(root: Path) -> dict[str, Any]:
    """The outcomes of `aejax run`, with a net that fits on the disk and one that fits only after the disk has grown."""
    experiment = root.with_name("sweep.py")
    experiment.write_text(SWEEP)
    folder = root / "results/sweep"
    outcomes: dict[str, Any] = {}
    for size in ("small", "grown"):
        errors = io.StringIO()
        with contextlib.redirect_stderr(errors), contextlib.redirect_stdout(io.StringIO()) as out:
            code = cli.main(["run", str(experiment), "--results", str(root / "results")])
        outcomes[size] = {
            "code": code,
            "errors": errors.getvalue().splitlines(),
            "out": out.getvalue(),
            "widths": [run_folders.read_run(run).row["widths"] for run in folder.glob("runs/[!.]*")],
            "left": [path.name for path in folder.rglob(".partial-*")],
            "rows": len(run_folders.read_index(folder)),
        }
        subprocess.run(["mount", "-o", f"remount,size={64 * SIZE}", str(root)], check=True)
    return outcomes


def hold(folder: Path) -> None:
    """Take and release the lock."""
    with lock.hold(folder):
        pass


if __name__ == "__main__":
    mount_point = Path(sys.argv[1])
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(mount_point)], check=True)
    print(json.dumps({"main": main, "sweep": sweep}[sys.argv[2]](mount_point)))
