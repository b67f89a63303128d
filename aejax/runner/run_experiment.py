"""Run an experiment: data, jobs, every missing run of every sweep to a stored row, then the report.

The way of a run, each step once:

    execute             check the sweeps, load their data, lock the results folder
      jobs.plan         sweeps with data -> jobs; which of their runs are stored already
      train_job         a job's layout, its blocks, their checkpoints
        train_block     (training) the compiled loop, chunk by chunk
        score_run       a fit -> row, parameters and arrays
        write_run       (storage) one folder, written whole or not at all
      summary.write     (reporting) rows -> summary.md, summary.csv, figures
"""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from aejax import datasets
from aejax.config import sweep as sweep_config
from aejax.config.sweep import Sweep
from aejax.datasets import Dataset
from aejax.datasets import smoke as smoke_rows
from aejax.reporting import tensorboard, time_budget
from aejax.runner import jobs, remote, resume
from aejax.runner.context import RunContext, Timings
from aejax.runner.events import RunListener
from aejax.runner.jobs import Job
from aejax.runner.train_job import train_job
from aejax.runtime import distributed, hardware
from aejax.runtime.errors import AejaxError, ConfigError
from aejax.storage import lock, run_folders


class Outcome(NamedTuple):
    """What a call of `execute` did: all rows of the folder, the ids of this call's runs, and those just trained."""

    folder: Path
    rows: list[dict[str, Any]]
    run_ids: list[str]
    trained: list[str]

    @property
    def failed(self) -> list[dict[str, Any]]:
        """Rows of this call's runs that did not complete."""
        run_ids = set(self.run_ids)
        return [row for row in self.rows if row["run_id"] in run_ids and row["status"] != "completed"]


class Plan(NamedTuple):
    """What a call would do: the device, and its jobs in numbers."""

    experiment: str
    device: str
    jobs: list[dict[str, Any]]


def execute(
    experiment: str,
    sweeps: Sequence[Sweep],
    *,
    root: Path,
    data_dir: Path | None = None,
    smoke: bool = False,
    again: bool = False,
    how: str = "auto",
    width: int | None = None,
    save_seconds: float | None = None,
    listener: RunListener | None = None,
    on: remote.Place | None = None,
    source: remote.Source | None = None,
    events: bool = False,
) -> Outcome:
    """Train the missing runs of an experiment and rebuild its report in `root/experiment`.

    Configs are checked before data is read, data before anything compiles, the folder before anything is computed.
    Each sweep is one population; `aejax.fit_population` explains `how` and `width`. Runs that are stored are kept;
    `again` trains them again. Blocks that were interrupted resume from their saved state, which is saved in at most 2 %
    of the training time, or every `save_seconds`. A run that fails is recorded and harms no other. `smoke` trains a
    small part of everything on some of the rows, into `root/experiment-smoke`. `events` exports TensorBoard events of
    this call's runs.

    `on` trains on other processes, `remote.Pool()` or `remote.Ray()`, one task a sweep. Sweeps with custom functions
    then need the experiment file that defines them as `source`. With several processes (`jax.distributed`) all of them
    call this, and the first one writes.

    Raises ConfigError and DataError on what cannot be trained, ResultsError where another call writes to the folder,
    MachineError where a device, disk space, memory or tensorboardX is missing, Interrupted when `listener` raises it.
    """
    listener = listener or RunListener()
    call = _Call(listener)
    experiment, sweeps = _named(experiment, sweeps, smoke)
    call.device = hardware.device_name()
    if on is not None:
        if distributed.is_distributed():
            raise ConfigError("--on", "given to one of several processes", "leave out --coordinator, or --on")
        on.check()
        remote.check(sweeps, source)
        call.device = on.describe()
    folder = root / run_folders.check_name(experiment, "experiment")
    if distributed.is_first_process():
        lock.raise_if_held(folder)
    data = _load_data(sweeps, data_dir, smoke)
    call.timings.add_since("data", call.start)
    listener.check_interrupt()
    output = run_folders.open_folder(root, experiment) if distributed.is_first_process() else None
    with contextlib.nullcontext() if output is None else lock.hold(output):
        rows = [] if output is None else run_folders.repair_index(output, listener.warn)
        planned = _plan(sweeps, data, None if again else output, listener)
        listener.start(sum(len(job.members) for job in planned), call.device)
        context = RunContext(experiment, output, listener, call.timings, call.store, how, width, save_seconds, rows)
        call.folder = output
        if output is not None:
            context.saved_blocks = resume.find_saved_blocks(output, planned, listener, again)
        try:
            if on is None:
                _train_here(planned, context)
            else:
                _report_stored(planned, listener)
                context = replace(context, data_dir=data_dir, smoke=smoke, source=source)
                remote.train(on, remote.Driver(context), planned)
        except BaseException:
            try:
                call.conclude()
            except AejaxError as error:  # the first error is the one to raise
                listener.warn(str(error))
            raise
        rows = call.conclude()
        run_ids = [member.run_id for job in planned for member in job.members]
        call.report(rows, run_ids, events)
    return Outcome(folder, rows, run_ids, call.trained)


def plan(
    experiment: str, sweeps: Sequence[Sweep], *, root: Path, data_dir: Path | None = None, smoke: bool = False
) -> Plan:
    """What `execute` would do, with the same checks. Nothing is compiled or written."""
    experiment, sweeps = _named(experiment, sweeps, smoke)
    run_folders.check_name(experiment, "experiment")
    device = hardware.device_name()
    data = _load_data(sweeps, data_dir, smoke)
    planned = _plan(sweeps, data, root / experiment, RunListener())
    return Plan(experiment, device, [jobs.describe(job) for job in planned])


@dataclass
class _Call:
    """The record of one call: when it started, what it trained, and the seconds it spent by kind."""

    listener: RunListener
    device: str = ""
    folder: Path | None = None
    timings: Timings = field(default_factory=Timings)
    trained: list[str] = field(default_factory=list)
    started: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="milliseconds"))
    start: float = field(default_factory=time.perf_counter)

    def store(self, row: dict[str, Any], params: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        """Write a run that has ended to its folder."""
        start = time.perf_counter()
        if self.folder is not None:
            run_folders.write_run(self.folder, row, params, arrays)
        self.timings.add_since("saving", start)
        self.trained.append(row["run_id"])
        self.listener.done(row, stored=False)

    def conclude(self) -> list[dict[str, Any]]:
        """Rebuild the index and record the time spent, also of a call that was stopped. Returns the folder's rows."""
        if self.folder is None:
            return []
        start = time.perf_counter()
        rows = run_folders.write_index(self.folder, self.listener.warn)
        self.timings.add_since("saving", start)
        wall = time.perf_counter() - self.start
        line = {"started": self.started, "wall": wall, **self.timings, "runs": len(self.trained), "device": self.device}
        line["other"] = max(0.0, wall - sum(self.timings.values()))
        if self.trained or any(self.timings[kind] for kind in ("useful", "lost", "compile")):
            run_folders.append_line(self.folder / "goodput.jsonl", line)
        return rows

    def report(self, rows: list[dict[str, Any]], run_ids: Sequence[str], events: bool) -> None:
        """Write summary and figures, and TensorBoard events of this call's runs where they are asked for."""
        if self.folder is None:
            return
        from aejax.reporting import summary

        start = time.perf_counter()
        load_arrays = functools.partial(run_folders.read_arrays, self.folder)
        summary.write(self.folder, rows, load_arrays)
        if events:
            wanted = set(run_ids)
            tensorboard.write(self.folder, [row for row in rows if row["run_id"] in wanted], load_arrays)
        if self.trained:
            time_budget.add_report(self.folder, self.started, self.device, time.perf_counter() - start)


def _named(experiment: str, sweeps: Sequence[Sweep], smoke: bool) -> tuple[str, Sequence[Sweep]]:
    """The name of the results folder and the sweeps, with `smoke` the small ones."""
    if smoke:
        experiment = f"{experiment}-smoke"
        sweeps = [sweep.smoke() for sweep in sweeps]
    sweep_config.check_all(sweeps)
    return experiment, sweeps


def _load_data(sweeps: Sequence[Sweep], data_dir: Path | None, smoke: bool) -> dict[tuple[str, int], Dataset]:
    """Every dataset of the sweeps by name and data_seed, each checked against the sweeps that use it."""
    data = {}
    for sweep in sweeps:
        key = (sweep.dataset, sweep.data_seed)
        if key not in data:
            dataset = datasets.load(sweep.dataset, data_dir, sweep.data_seed)
            data[key] = smoke_rows.cut(dataset) if smoke else dataset
    for sweep in sweeps:
        sweep.check_data(data[sweep.dataset, sweep.data_seed])
    return data


def _plan(
    sweeps: Sequence[Sweep], data: dict[tuple[str, int], Dataset], folder: Path | None, listener: RunListener
) -> list[Job]:
    """The jobs, with the stored rows that the process with the folder finds."""

    def read_row(run_id: str) -> dict[str, Any] | None:
        return None if folder is None else run_folders.read_row(folder / "runs" / run_id, listener.warn)

    planned = jobs.plan(sweeps, data, read_row)
    stored = distributed.broadcast_json([dict(job.stored) for job in planned])
    return [replace(job, stored=rows) for job, rows in zip(planned, stored, strict=True)]


def _train_here(planned: Sequence[Job], context: RunContext) -> None:
    """Train the jobs in this process, one after another."""
    for job in planned:
        _report_stored([job], context.listener)
        if job.missing:
            context.listener.check_interrupt()
            train_job(job, context)


def _report_stored(planned: Sequence[Job], listener: RunListener) -> None:
    for job in planned:
        for row in job.stored.values():
            listener.done(row, stored=True)
