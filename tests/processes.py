"""Processes of `aejax run` that tests start, and what they stored."""

import os

from aejax.storage import run_folders
from logged import Logged
from support import rows_of
from unrendered import AEJAX


def start(text, folder, *arguments):
    """`aejax run` of that experiment, in a process of its own with one thread."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "x.py"
    path.write_text(text)
    command = [*AEJAX, "run", str(path), "--results", str(folder), *arguments]
    return Logged(command, env={**os.environ, "NPROC": "1"}, cwd=folder)


def finish(process, code=0):
    """What it wrote to standard error."""
    errors = process.messages(timeout=180)
    assert process.returncode == code, errors
    assert "Traceback" not in errors
    return errors


def stored(folder):
    """Every run's parameters as bytes and the numbers of its row, by id."""
    runs = {}
    for row in rows_of(folder):
        run = run_folders.read_run(folder / "runs" / row["run_id"])
        assert run.row == row
        leaves = [leaf.tobytes() for _, leaf in sorted(run_folders.flatten_tree(run.params).items())]
        timed = ("compile_seconds", "train_seconds", "score_seconds", "pca_seconds", "provenance", "execution")
        runs[row["run_id"]] = (leaves, {name: value for name, value in row.items() if name not in timed})
    return runs
