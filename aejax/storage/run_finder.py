"""Find the run folder that a user's path means."""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path

from aejax.runtime.errors import ResultsError
from aejax.storage import run_folders
from aejax.storage.run_folders import is_experiment


def list_runs(experiment: Path) -> list[Path]:
    """The run folders of an experiment in order of their ids, without the hidden ones."""
    return sorted(folder for folder in (experiment / "runs").glob("[!.]*") if folder.is_dir())


def find_run_folder(path: Path) -> Path:
    """The run folder that `path` means: results/EXPERIMENT/runs/ID or results/EXPERIMENT/ID.

    The beginning of an id is enough where it is unique. The folder does not exist where only runs.jsonl knows the run.
    Raises ResultsError where no run or several runs match.
    """
    if is_experiment(path):
        raise ResultsError(str(path), "an experiment, not a run", f"give one of its runs: aejax ls {path}")
    experiment = path.parent.parent if path.parent.name == "runs" else path.parent
    if not is_experiment(experiment):
        raise ResultsError(str(path), "no such run", "give results/EXPERIMENT/RUN_ID; aejax ls lists experiments")
    ids = {row["run_id"] for row in run_folders.read_index(experiment)}
    ids |= {folder.name for folder in list_runs(experiment)}
    matches = [path.name] if path.name in ids else sorted(run_id for run_id in ids if run_id.startswith(path.name))
    if not matches:
        close = get_close_matches(path.name, sorted(ids), 1, cutoff=0.3)
        hint = f"did you mean {close[0]}? " if close else ""
        problem = f"none of the {len(ids)} runs of {experiment}"
        raise ResultsError(str(path), problem, f"{hint}aejax ls {experiment} lists them")
    if len(matches) > 1:
        listed = ", ".join(matches[:4]) + ", …" * (len(matches) > 4)
        raise ResultsError(str(path), f"the beginning of {len(matches)} runs: {listed}", "give more of it")
    return experiment / "runs" / matches[0]
