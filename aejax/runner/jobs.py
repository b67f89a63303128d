"""Jobs: an experiment's sweeps with their data, one compiled program each, and which of their runs are stored."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import numpy as np

from aejax.config import run_identity
from aejax.config.sweep import Sweep
from aejax.datasets import Dataset
from aejax.storage import provenance, run_folders
from aejax.training import greedy, population, train
from aejax.training.layout import LAYOUT_KINDS
from aejax.training.loop import Initialiser, ProgramSpec
from aejax.variants import Autoencoder

ENDED = ("completed", "diverged")
"""Status of runs that are not trained again."""


class Member(NamedTuple):
    """One run of a job."""

    run_id: str
    seed: int
    hyper: dict[str, float]

    @property
    def run(self) -> tuple[int, dict[str, float]]:
        """Seed and hyper-parameters, as `fit_population` takes them."""
        return self.seed, self.hyper


@dataclass(frozen=True, eq=False)
class Job:
    """A sweep with its dataset: the runs of one compiled program.

    `number` is the sweep's place in the experiment. `stored` maps run ids to the rows of the members that need no
    training. What follows from sweep and dataset is computed once.
    """

    number: int
    sweep: Sweep
    dataset: Dataset
    members: list[Member]
    stored: Mapping[str, dict[str, Any]]

    @property
    def missing(self) -> list[Member]:
        """The members to train."""
        return [member for member in self.members if member.run_id not in self.stored]

    @functools.cached_property
    def identity(self) -> dict[str, Any]:
        """Everything that a member's numbers depend on besides its seed and hyper-parameters."""
        return {"format": run_folders.FORMAT, "config": self.sweep.config(), "data": self.dataset.fingerprint}

    @functools.cached_property
    def autoencoder(self) -> Autoencoder:
        """The autoencoder of the widest member."""
        return self.sweep.build(self.dataset.inputs, self.dataset.image_shape)

    @functools.cached_property
    def training_data(self) -> Dataset:
        """The dataset, or with the sweep's `moments` a few rows with the same mean and covariance."""
        return self.sweep.training_data(self.dataset)

    @functools.cached_property
    def spec(self) -> ProgramSpec:
        """The program to compile. Raises ConfigError where a member cannot be trained."""
        sweep = self.sweep
        runs = [member.run for member in self.members]
        data = self.training_data
        names = train.check_fit(self.autoencoder, data, runs, epochs=sweep.epochs, batch_size=sweep.batch_size)
        return population.program_spec(
            self.autoencoder,
            data,
            names,
            epochs=sweep.epochs,
            batch_size=sweep.batch_size,
            schedule=sweep.schedule,
            optimiser=sweep.optimiser,
            full_batch_steps=sweep.full_batch_steps,
        )

    @functools.cached_property
    def initialiser(self) -> Initialiser | None:
        """Gives the members their first parameters where the sweep has pretraining; None where their seeds do."""
        sweep = self.sweep
        if sweep.pretraining is None:
            return None
        options = {name: getattr(sweep, name) for name in ("batch_size", "schedule", "full_batch_steps")}
        stack = greedy.stack_of(sweep, self.dataset.inputs)
        return greedy.start(sweep.pretraining, stack, self.autoencoder, self.dataset, **options)


ReadRow = Callable[[str], dict[str, Any] | None]
"""The row of a stored run by its id; None where it has to be trained."""


def plan(sweeps: Sequence[Sweep], data: Mapping[tuple[str, int], Dataset], read_row: ReadRow) -> list[Job]:
    """The jobs of an experiment in its order. `data` maps (dataset name, data_seed) to datasets."""
    jobs = []
    for number, sweep in enumerate(sweeps):
        config = sweep.config()
        dataset = data[sweep.dataset, sweep.data_seed]
        members = [
            Member(run_identity.run_id(config, hyper, seed, dataset.fingerprint), seed, hyper)
            for seed, hyper in sweep.runs()
        ]
        rows = {member.run_id: read_row(member.run_id) for member in members}
        stored = {run_id: row for run_id, row in rows.items() if row is not None and row["status"] in ENDED}
        jobs.append(Job(number, sweep, dataset, members, stored))
    return jobs


def describe(job: Job) -> dict[str, Any]:
    """A job of the plan in numbers. Nothing is compiled.

    `bytes` estimates the memory of training: parameters, gradients, two moments and the best parameters of each member,
    the rows, and the activations of a batch.
    """
    sweep = job.sweep
    dataset = job.dataset
    shapes = jax.eval_shape(job.autoencoder.init, jax.random.key(0))
    parameters = sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(shapes))
    batch_size = sweep.batch_size or len(dataset.x_train)
    units = 2 * (sum(sweep.widths) + sum(sweep.decoder_widths or sweep.widths) + 2 * dataset.inputs)
    pretraining_epochs = 0 if sweep.pretraining is None else sweep.pretraining.epochs * len(sweep.widths)
    member_bytes = 4 * (6 * parameters + batch_size * units + 3 * sweep.epochs)
    data_bytes = dataset.x_train.nbytes + dataset.x_validation.nbytes
    return {
        "label": sweep.name,
        "dataset": sweep.dataset,
        "codings": sorted({sweep.codings_of(member.hyper) for member in job.members}),
        "members": len(job.members),
        "stored": len(job.stored),
        "missing": len(job.missing),
        "parameters": parameters,
        "steps": sweep.steps(len(dataset.x_train)) * (sweep.epochs + pretraining_epochs) // sweep.epochs,
        "bytes": member_bytes * len(job.missing) + data_bytes if job.missing else 0,
    }


def short_hash(value: Any) -> str:
    """The first twelve hex digits of the SHA-256 of a value's JSON."""
    return hashlib.sha256(run_folders.to_json(value, sort_keys=True).encode()).hexdigest()[:12]


_MACHINE_CLASS = ("platform", "device_kind", "processor", "instruction_set", "threads", "devices", "jax", "jaxlib")


def machine_class() -> dict[str, Any]:
    """The facts about this machine that a run's bits depend on besides its config."""
    return _machine_class_of(provenance.describe("", ""))


def _machine_class_of(facts: Mapping[str, Any]) -> dict[str, Any]:
    return {**{name: facts.get(name) for name in _MACHINE_CLASS}, "processes": facts.get("processes", 1)}


class StoredLayout(NamedTuple):
    """How runs of a program were trained: kind and width of their layout, and the samples/s of those measured."""

    how: str
    width: int
    rates: dict[str, float] | None


def stored_layout(job: Job, rows: Iterable[Mapping[str, Any]], how: str) -> StoredLayout | None:
    """The layout that stored runs of this job's program had, on this class of machine, when `how` was asked for.

    A continued sweep keeps its layout, since the bits of vmapped members depend on it. None where no run is stored.
    """
    here = machine_class()
    for row in layout_rows(job, rows):
        execution = row["execution"]
        if execution["asked"] == how and _machine_class_of(row["provenance"]) == here:
            return StoredLayout(execution["how"], execution["width"], execution["rates"])
    return None


def layout_rows(job: Job, rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Of rows of this job's program, one for each layout and class of machine, cut to what `stored_layout` reads.

    Rows whose layout later runs should not reuse are left out, and so are rows without the fields of a run.
    """
    wanted = {**job.identity, "config": _without_digests(job.identity["config"])}
    distinct = {}
    for row in rows:
        try:
            facts = row["provenance"]
            config = _without_digests(row["config"])
            program = {"format": row["format"], "config": config, "data": facts["dataset_fingerprint"]}
            layout = {name: row["execution"][name] for name in ("how", "width", "rates")}
            layout["asked"] = _requested_how(row["execution"])
            key = short_hash([layout, _machine_class_of(facts)])
        except (KeyError, TypeError, AttributeError, ValueError):
            continue
        if program == wanted and layout["asked"] is not None and layout["how"] in LAYOUT_KINDS[1:]:
            fields = {name: row[name] for name in ("format", "config", "provenance")}
            distinct.setdefault(key, {**fields, "execution": layout})
    return list(distinct.values())


def _requested_how(execution: Mapping[str, Any]) -> str | None:
    """What was asked for, None where the layout should not be reused. Rows of earlier versions do not say it.

    Of those a loop is not reused: it was chosen for a single run, or for a run that was trained alone after a failure.
    """
    return execution.get("asked", None if execution["how"] == "loop" else "auto")


def _without_digests(config: Mapping[str, Any]) -> dict[str, Any]:
    """The config without the digests of custom functions, which can differ between processors."""
    return {name: value for name, value in config.items() if name != "digests"}
