"""Fills a small disk of its own and says what aejax made of it, as JSON. Run by test_disk_full inside `unshare -m`.

The arguments are an empty folder, on which a tmpfs of SIZE bytes is mounted that nobody else sees, and what to try:
main or sweep.
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
    """The error that a call ends with."""
    try:
        call()
    except AejaxError as error:
        return {"kind": type(error).__name__, "code": error.exit_code, "text": str(error)}
    return {"kind": None}


def listing(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def fill(folder: Path) -> None:
    """Leave no byte free."""
    with (folder.parent / "ballast").open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            return


def attempts(folder: Path) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Every way of writing."""
    row, params, arrays = crash.run_of(crash.NEW, 2)
    yield "a new run", lambda: run_folders.write_run(folder, row, params, {**arrays, "big": BIG})
    old = {**row, "run_id": crash.OLD}
    yield "a run again", lambda: run_folders.write_run(folder, old, params, {**arrays, "big": BIG})
    yield "a state", lambda: checkpoints.save(folder, "s1", 30, {}, {"big": BIG})
    yield "a file", lambda: run_folders.write_atomic(folder / "summary.md", BIG.tobytes())
    yield "the index", lambda: run_folders.write_index(folder)


def main(root: Path) -> dict[str, Any]:
    folder = run_folders.open_folder(root / "results", "x")
    crash.prepare(folder)
    with lock.hold(folder):
        pass
    before, said = listing(folder), {}
    for full in (False, True):  # too big for what is left, and then nothing left at all
        if full:
            fill(folder)
        for name, call in attempts(folder):
            free = shutil.disk_usage(root).free
            if full or name != "the index":
                said[f"{name}, {'full' if full else 'too big'}"] = {**refusal(call), "free": free}
    said["a lock, full"] = refusal(lambda: hold(folder))
    said["left"] = [name for name in listing(folder) if name not in before]
    said["lost"] = [name for name in before if name not in listing(folder)]
    said["old"] = [run_folders.read_run(folder / "runs" / crash.OLD).row["seed"]]
    (folder.parent / "ballast").unlink()
    crash.store(folder, crash.OLD, 2)
    crash.save(folder, 30)
    found = checkpoints.load_newest(folder, "s1", print)
    assert found is not None
    said["after"] = [
        len(run_folders.write_index(folder)),
        run_folders.read_run(folder / "runs" / crash.OLD).row["seed"],
    ]
    said["after"].append(found.step)

    subprocess.run(["mount", "-o", "remount,ro", str(root)], check=True)
    before = listing(root)
    said["read-only"] = {name: refusal(call) for name, call in attempts(folder)}
    said["read-only"] |= {
        "the folder": refusal(lambda: run_folders.open_folder(root / "results", "x")),
        "another folder": refusal(lambda: run_folders.open_folder(root / "results", "y")),
        "a lock": refusal(lambda: hold(folder)),
        "forgetting": refusal(lambda: checkpoints.remove(folder, "s1")),
    }
    assert run_folders.read_run(folder / "runs" / crash.OLD).row["seed"] == 2
    said["changed"] = listing(root) != before
    return said


SWEEP = """
from aejax import Sweep
HYPER = {"learning_rate": 0.01, "l2": 0.0}
SWEEPS = [Sweep(dataset="digits", widths=widths, epochs=1, batch_size=256, hyper=HYPER) for widths in ((3,), (3000, 3))]
"""


def sweep(root: Path) -> dict[str, Any]:
    """`aejax run` of a net that fits on the disk and one that does not; and again, once the disk has grown."""
    experiment, said = root.with_name("sweep.py"), {}
    experiment.write_text(SWEEP)
    folder = root / "results/sweep"
    for size in ("small", "grown"):
        errors = io.StringIO()
        with contextlib.redirect_stderr(errors), contextlib.redirect_stdout(io.StringIO()) as out:
            code = cli.main(["run", str(experiment), "--results", str(root / "results")])
        widths = [run_folders.read_run(run).row["widths"] for run in folder.glob("runs/[!.]*")]
        said[size] = {"code": code, "errors": errors.getvalue().splitlines(), "out": out.getvalue(), "widths": widths}
        said[size]["left"] = [path.name for path in folder.rglob(".partial-*")]
        said[size]["rows"] = len(run_folders.read_index(folder))
        subprocess.run(["mount", "-o", f"remount,size={64 * SIZE}", str(root)], check=True)
    return said


def hold(folder: Path) -> None:
    with lock.hold(folder):
        pass


if __name__ == "__main__":
    place = Path(sys.argv[1])
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(place)], check=True)
    print(json.dumps({"main": main, "sweep": sweep}[sys.argv[2]](place)))
