"""What a worker receives: the runs of one program as strict JSON, with functions by aejax's own names.

A sweep with a custom function is sent as the experiment file that defines it, which the worker loads again.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Container, Mapping, Sequence
from pathlib import Path
from typing import Any

from aejax import __version__
from aejax.config import experiment_file, overrides, registry, run_identity
from aejax.config.sweep import Sweep
from aejax.datasets import Dataset
from aejax.runner.context import RunContext, Source
from aejax.runner.jobs import Job, Member
from aejax.runtime.errors import ConfigError, MachineError
from aejax.storage import lock
from aejax.storage.atomic import to_json


def check(sweeps: Sequence[Sweep], source: Source | None) -> None:
    """Raise ConfigError naming the field where a sweep cannot be sent to another process."""
    for sweep in sweeps:
        fields = _custom_fields(sweep)
        if fields and source is None:
            problem = "a custom function, which another process knows only from the experiment file"
            raise ConfigError(f"Sweep.{fields[0]}", problem, "give source=Source(FILE), or train without `on`")


def write(
    job: Job, run_ids: Container[str], context: RunContext, saved_blocks: dict[str, Any] | None, rows: Sequence[dict]
) -> str:
    """The task of training the members of a job with these run ids.

    `saved_blocks` are the blocks of its saved states; None saves no state. `rows` are stored rows of its program, from
    which the worker takes the layout.
    """
    sweep = job.sweep
    source = None
    if _custom_fields(sweep):
        assert context.source is not None
        path = context.source.path.resolve()
        source = {"path": str(path), "sha256": _hash(path), "assignments": list(context.source.assignments)}
    folder = context.folder
    spec = {
        **{name: getattr(context, name) for name in ("experiment", "smoke", "how", "width", "save_seconds")},
        "aejax": __version__,
        "number": job.number,
        "config": sweep.config(),
        "points": sweep.points(),
        "seeds": list(sweep.seeds),
        "source": source,
        "members": [[*member, member.run_id in run_ids] for member in job.members],
        "data": job.dataset.fingerprint,
        "data_dir": None if context.data_dir is None else str(context.data_dir.resolve()),
        "working_folder": str(Path.cwd()),
        "folder": None if folder is None else str(folder.resolve()),
        "saved_blocks": saved_blocks,
        "rows": list(rows),
        "mark": None if folder is None else mark(folder),
    }
    return to_json(spec)


def read_sweep(spec: Mapping[str, Any]) -> Sweep:
    """The sweep of a task.

    Raises ConfigError where the experiment file has changed, MachineError where this aejax is of another version.
    """
    if spec["aejax"] != __version__:
        problem = f"a worker on {os.uname().nodename} has aejax {__version__}, the task is of {spec['aejax']}"
        raise MachineError("aejax", problem, "install the same version on every machine")
    sweep = _from_names(spec) if spec["source"] is None else _from_file(spec)
    config = sweep.config()
    for name, value in spec["config"].items():
        if name != "digests" and value != config.get(name):
            problem = f"{config.get(name)!r} in a worker, {value!r} where it was asked for"
            fix = "let the experiment file give the same SWEEPS each time it is loaded"
            raise ConfigError(f"Sweep.{name}", problem, fix)
    return sweep


def read_job(spec: Mapping[str, Any], sweep: Sweep, dataset: Dataset) -> Job:
    """The job of a task. Members that are not to be trained count as stored."""
    members = [Member(run_id, seed, hyper) for run_id, seed, hyper, _ in spec["members"]]
    stored = {run_id: {} for run_id, _, _, wanted in spec["members"] if not wanted}
    return Job(spec["number"], sweep, dataset, members, stored)


def mark(folder: Path) -> dict[str, Any] | None:
    """What tells a locked results folder from a folder of the same name on another machine."""
    try:
        record = json.loads((folder / lock.LOCK_FILE).read_bytes())
        return {name: record[name] for name in ("pid", "host", "started")}
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _custom_fields(sweep: Sweep) -> list[str]:
    """The fields that hold a function aejax has no name for."""
    return [
        name
        for name, choices in registry.CHOICES.items()
        if not any(getattr(sweep, name) is choice for choice in choices.values())
    ]


def _from_names(spec: Mapping[str, Any]) -> Sweep:
    values = run_identity.decode_config(spec["config"])
    for name, choices in registry.CHOICES.items():
        values[name] = choices[values[name]]
    return Sweep(**values, hyper=tuple(spec["points"]), seeds=tuple(spec["seeds"]))


def _from_file(spec: Mapping[str, Any]) -> Sweep:
    path = Path(spec["source"]["path"])
    _, sweeps = experiment_file.load(path)
    if _hash(path) != spec["source"]["sha256"]:
        raise ConfigError(str(path), "changed since this call started", "run it again")
    sweeps = overrides.override(sweeps, spec["source"]["assignments"])
    sweep = sweeps[spec["number"]]
    return sweep.smoke() if spec["smoke"] else sweep


def _hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
