"""What is to be done: an experiment's sweeps as jobs, one compiled program each, and what of them is stored already."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from aejax import datasets
from aejax.config import run_identity
from aejax.config.sweep import Sweep
from aejax.storage import provenance, run_folders
from aejax.training import greedy, population, train
from aejax.training.population import Layout, ProgramSpec

LAYOUTS = "layouts.json"


class Member(NamedTuple):
    """One run of a job."""

    run_id: str
    seed: int
    hyper: dict[str, float]

    @property
    def run(self) -> tuple[int, dict[str, float]]:
        """As `fit_population` takes it."""
        return self.seed, self.hyper


class Job(NamedTuple):
    """A sweep on its data: one compiled program. `stored` are the rows of the members that need no training."""

    number: int
    sweep: Sweep
    members: list[Member]
    stored: dict[str, dict[str, Any]]

    @property
    def missing(self) -> list[Member]:
        """The members to train."""
        return [member for member in self.members if member.run_id not in self.stored]

    def identity(self, dataset: datasets.Dataset) -> dict[str, Any]:
        """All that a member's numbers depend on but its seed and hyper-parameters."""
        return {"format": run_folders.FORMAT, "config": self.sweep.config(), "data": dataset.fingerprint}

    def task(self, dataset: datasets.Dataset) -> ProgramSpec:
        """What is compiled for it. Raises ConfigError."""
        one, autoencoder = self.sweep, self.sweep.build(dataset.inputs, dataset.image_shape)
        dataset = one.training_data(dataset)
        runs = [member.run for member in self.members]
        names = train.check_fit(autoencoder, dataset, runs, epochs=one.epochs, batch_size=one.batch_size)
        return population.program_spec(
            autoencoder,
            dataset,
            names,
            epochs=one.epochs,
            batch_size=one.batch_size,
            schedule=one.schedule,
            optimiser=one.optimiser,
            full_batch_steps=one.full_batch_steps,
        )

    def start(self, dataset: datasets.Dataset) -> train.Initialiser | None:
        """What its members begin with, where that is not what their seeds draw."""
        one, autoencoder = self.sweep, self.sweep.build(dataset.inputs, dataset.image_shape)
        if one.pretraining is None:
            return None
        options = {name: getattr(one, name) for name in ("batch_size", "schedule", "full_batch_steps")}
        return greedy.start(one.pretraining, greedy.stack_of(one, dataset.inputs), autoencoder, dataset, **options)


Stored = Callable[[str], dict[str, Any] | None]
"""The row of a stored run by its id, None where it is to be trained."""


def plan(sweeps: Sequence[Sweep], loaded: Mapping[tuple[str, int], datasets.Dataset], stored: Stored) -> list[Job]:
    """The jobs of an experiment, in its order. Runs that ended, also in divergence, are not trained again."""
    jobs = []
    for number, one in enumerate(sweeps):
        config, data = one.config(), loaded[one.dataset, one.data_seed].fingerprint
        members = [Member(run_identity.run_id(config, hyper, seed, data), seed, hyper) for seed, hyper in one.runs()]
        rows = {member.run_id: stored(member.run_id) for member in members}
        done = {name: row for name, row in rows.items() if row is not None and row["status"] in _ENDED}
        jobs.append(Job(number, one, members, done))
    return jobs


_ENDED = ("completed", "diverged")


def describe(jobs: Sequence[Job], loaded: Mapping[tuple[str, int], datasets.Dataset]) -> list[dict[str, Any]]:
    """The plan in numbers, a dict a job: nothing is compiled. `bytes` is an estimate of what training it holds.

    Parameters, gradients, two moments and the best parameters of each member, the rows, and a batch's activations.
    """
    lines = []
    for job in jobs:
        one = job.sweep
        dataset = loaded[one.dataset, one.data_seed]
        shapes = jax.eval_shape(one.build(dataset.inputs, dataset.image_shape).init, jax.random.key(0))
        parameters = sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(shapes))
        batch = one.batch_size or len(dataset.x_train)
        units = 2 * (sum(one.widths) + sum(one.decoder_widths or one.widths) + 2 * dataset.inputs)
        before = 0 if one.pretraining is None else one.pretraining.epochs * len(one.widths)
        member_bytes = 4 * (6 * parameters + batch * units + 3 * one.epochs)
        data_bytes = dataset.x_train.nbytes + dataset.x_validation.nbytes
        lines.append(
            {
                "label": one.name,
                "dataset": one.dataset,
                "codings": sorted({one.codings_of(member.hyper) for member in job.members}),
                "members": len(job.members),
                "stored": len(job.stored),
                "missing": len(job.missing),
                "parameters": parameters,
                "steps": one.steps(len(dataset.x_train)) * (one.epochs + before) // one.epochs,
                "bytes": member_bytes * len(job.missing) + data_bytes if job.missing else 0,
            }
        )
    return lines


def short_hash(value: Any) -> str:
    """Twelve hex digits of a value's JSON."""
    return hashlib.sha256(run_folders.to_json(value, sort_keys=True).encode()).hexdigest()[:12]


def machine_class() -> dict[str, Any]:
    """What bits depend on besides the config: a program is laid out anew where this is another."""
    facts = provenance.describe("", "")
    names = ("platform", "device_kind", "processor", "instruction_set", "threads", "devices", "jax", "jaxlib")
    return {**{name: facts[name] for name in names}, "processes": jax.process_count()}


class Layouts:
    """The layouts that programs were given, kept beside the runs: a sweep that goes on does so in the same layout.

    A program that is unknown, or was laid out on another class of machine, is laid out anew. `how` is what was asked
    for: each way has a layout of its own.
    """

    def __init__(self, folder: Path, warn: Callable[[str], None]) -> None:
        self._path = folder / LAYOUTS
        self._known: dict[str, Any] = {}
        try:
            kept = json.loads(self._path.read_text("utf-8"))
            if kept["sha256"] != short_hash(kept["layouts"]):
                raise ValueError
            self._known = kept["layouts"]
        except FileNotFoundError:
            pass
        except (OSError, ValueError, KeyError, TypeError):
            warn(f"{self._path} is damaged: layouts are chosen anew, and may give other last digits")

    def find(
        self, job: Job, dataset: datasets.Dataset, how: str = "auto"
    ) -> tuple[str, int, dict[str, float] | None] | None:
        """How, width and measured rates of a program, where it was laid out on such a machine."""
        found = self._known.get(_key(job, dataset, how))
        return None if found is None else (found["how"], found["width"], found["rates"])

    def keep(
        self, job: Job, dataset: datasets.Dataset, layout: Layout, rates: dict[str, float] | None, how: str = "auto"
    ) -> None:
        """Remember a layout."""
        self._known[_key(job, dataset, how)] = {"how": layout.how, "width": layout.width, "rates": rates}
        whole = {"layouts": self._known, "sha256": short_hash(self._known)}
        run_folders.write_atomic(self._path, run_folders.to_json(whole, indent=1).encode())


def _key(job: Job, dataset: datasets.Dataset, how: str) -> str:
    return short_hash([job.identity(dataset), machine_class(), *([] if how == "auto" else [how])])
