"""What a worker is told: one program's runs as strict JSON. Functions go by aejax's own names.

A sweep with a function of its owner's is told as the experiment file it stands in, which the worker loads again.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from aejax import __version__
from aejax.config import experiment_file, overrides, registry, run_identity
from aejax.config.sweep import Sweep
from aejax.runner.jobs import Job, Member
from aejax.runtime.errors import ConfigError, MachineError
from aejax.storage import lock
from aejax.storage.atomic import to_json


class Source(NamedTuple):
    """Where sweeps come from: an experiment file and the `--set` assignments that changed them."""

    path: Path
    assignments: tuple[str, ...] = ()


@dataclass(frozen=True)
class Call:
    """What all tasks of one call have in common: as `runner.execute` was asked."""

    experiment: str
    folder: Path | None
    data_dir: Path | None = None
    smoke: bool = False
    how: str = "auto"
    width: int | None = None
    save_seconds: float | None = None
    source: Source | None = None


def check(sweeps: Sequence[Sweep], source: Source | None) -> None:
    """Raise ConfigError naming the field where a sweep cannot be told to another process."""
    for one in sweeps:
        own = _own(one)
        if own and source is None:
            found = "a function of one's own, which another process knows only from the experiment file"
            raise ConfigError(f"Sweep.{own[0]}", found, "give source=Source(FILE), or train without `on`")


def write(
    job: Job, members: Sequence[Member], data_fingerprint: str, call: Call, saved: Mapping[str, Any] | None
) -> str:
    """The task of training these members of a job; `saved` has the blocks of its saved states, None keeps none."""
    one = job.sweep
    source = None
    if _own(one):
        assert call.source is not None
        path = call.source.path.resolve()
        source = {"path": str(path), "sha256": _hash(path), "assignments": list(call.source.assignments)}
    ids = {member.run_id for member in members}
    folder = call.folder
    return to_json(
        {
            "aejax": __version__,
            "experiment": call.experiment,
            "number": job.number,
            "config": one.config(),
            "points": one.points(),
            "seeds": list(one.seeds),
            "source": source,
            "members": [[*member, member.run_id in ids] for member in job.members],
            "data": data_fingerprint,
            "data_dir": None if call.data_dir is None else str(call.data_dir.resolve()),
            "working_folder": str(Path.cwd()),
            "folder": None if folder is None else str(folder.resolve()),
            "saved": saved,
            "mark": None if folder is None else mark(folder),
            **{name: getattr(call, name) for name in ("smoke", "how", "width", "save_seconds")},
        }
    )


def read(spec: Mapping[str, Any]) -> Job:
    """The job of a task; members that are not wanted count as stored.

    Raises ConfigError where the experiment file is another now, MachineError where this aejax is of another version.
    """
    if spec["aejax"] != __version__:
        found = f"a worker on {os.uname().nodename} has aejax {__version__}, the task is of {spec['aejax']}"
        raise MachineError("aejax", found, "install the same version on every machine")
    one = _from_names(spec) if spec["source"] is None else _from_file(spec)
    wanted, found = ({**config, "digests": None} for config in (spec["config"], one.config()))
    changed = [name for name in wanted if wanted[name] != found.get(name)]
    if changed:
        name = changed[0]
        found = f"{found.get(name)!r} in a worker, {wanted[name]!r} where it was asked for"
        raise ConfigError(f"Sweep.{name}", found, "let the experiment file give the same SWEEPS each time it is loaded")
    members = [Member(run_id, seed, hyper) for run_id, seed, hyper, _ in spec["members"]]
    return Job(spec["number"], one, members, {run_id: {} for run_id, _, _, missing in spec["members"] if not missing})


def mark(folder: Path) -> dict[str, Any] | None:
    """What tells this folder, while it is held, from one of the same name on another machine."""
    try:
        record = json.loads((folder / lock.NAME).read_bytes())
        return {name: record[name] for name in ("pid", "host", "started")}
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _own(one: Sweep) -> list[str]:
    """The fields that hold a function aejax has no name for."""
    known = registry.CHOICES.items()
    return [name for name, choices in known if not any(getattr(one, name) is choice for choice in choices.values())]


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
    one = sweeps[spec["number"]]
    return one.smoke() if spec["smoke"] else one


def _hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
