"""Run an experiment: data, reference PCA, every missing run of every sweep, rows and arrays on disk, report."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from aejax import datasets
from aejax.config import sweep
from aejax.config.sweep import Sweep
from aejax.evaluation import reconstruction
from aejax.reporting import tensorboard, time_budget
from aejax.runner import jobs, loading, remote, resume, train_job
from aejax.runner.context import RunContext, TimeSpent
from aejax.runner.events import RunListener
from aejax.runner.jobs import Job, Layouts
from aejax.runtime import distributed, hardware
from aejax.runtime.errors import AejaxError, ConfigError, ResultsError
from aejax.storage import lock, run_folders

Loaded = dict[tuple[str, int], datasets.Dataset]


class Outcome(NamedTuple):
    """What a call of `execute` did: all rows of the folder, the ids of this call's runs, and those just trained."""

    folder: Path
    rows: list[dict[str, Any]]
    run_ids: list[str]
    trained: list[str]

    @property
    def failed(self) -> list[dict[str, Any]]:
        """Rows of this call that did not complete."""
        mine = set(self.run_ids)
        return [row for row in self.rows if row["run_id"] in mine and row["status"] != "completed"]


class Plan(NamedTuple):
    """What a call would do: its jobs, in numbers, and the device."""

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
    watcher: RunListener | None = None,
    on: remote.Place | None = None,
    source: remote.Source | None = None,
    events: bool = False,
) -> Outcome:
    """Train what is missing of an experiment and rebuild its report in `root/experiment`.

    Configs are checked before data is read, data before anything compiles, the folder before anything is computed.
    Each sweep is one population (`train.fit_population` explains `how` and `width`). Runs already stored are kept
    (`again` trains them anew); blocks that were interrupted go on from their saved state, which is saved as often as
    2 % of the time allows, or every `save_seconds`. A run that fails is recorded and harms no other. `smoke` trains a
    small part of everything on some of the rows, into `root/experiment-smoke`.

    `events` exports TensorBoard events of this call's runs, too. Raises MachineError without tensorboardX.

    `on` trains on other processes, `cluster.Pool()` or `cluster.Ray()`, one task a sweep; sweeps with functions of
    one's own then need the experiment file they are in, as `source`.

    One call at a time writes to a folder: another gets ResultsError. With several processes (`jax.distributed`) all
    of them call this, and the first one writes.
    """
    watcher, started, began = watcher or RunListener(), datetime.now(UTC), time.perf_counter()
    experiment, sweeps = _named(experiment, sweeps, smoke)
    device, spent = hardware.device_name(), TimeSpent()
    if on is not None:
        _check_place(on, sweeps, source)
        device = on.describe()
    folder = root / run_folders.check_name(experiment, "experiment")
    if distributed.is_first_process():
        lock.raise_if_held(folder)
    loaded = _load_all(sweeps, data_dir, smoke)
    spent.since("data", began)
    watcher.check()
    with _held(root, experiment) as held:
        here = folder if distributed.is_first_process() else None
        if here is not None:
            run_folders.mend_index(here, watcher.warn)
        planned = _plan(sweeps, loaded, here, again, watcher)
        watcher.start(sum(len(job.members) for job in planned), device)
        layouts = None if here is None else Layouts(here, watcher.warn)
        of = [(job, loaded[job.sweep.dataset, job.sweep.data_seed]) for job in planned]
        saved = {} if here is None else resume.find_saved_blocks(here, of, watcher, again)
        trained: list[str] = []

        def emit(row: dict[str, Any], params: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
            start = time.perf_counter()
            if here is not None:
                run_folders.write_run(here, row, params, arrays)
            spent.since("saving", start)
            trained.append(row["run_id"])
            watcher.done(row, stored=False)

        rulers: dict[tuple[str, int], reconstruction.PCAReference] = {}
        beat = held.beat if held is not None else lambda unsaved, kept: None
        try:
            if on is not None:
                for row in (row for job in planned for row in job.stored.values()):
                    watcher.done(row, stored=True)
                call = remote.Call(experiment, here, data_dir, smoke, how, width, save_seconds, source)
                remote.train(on, remote.Driver(call, loaded, watcher, spent, emit, beat, saved), planned)
            for job in planned if on is None else ():
                for row in job.stored.values():
                    watcher.done(row, stored=True)
                if not job.missing:
                    continue
                watcher.check()
                key = (job.sweep.dataset, job.sweep.data_seed)
                if key not in rulers:
                    start = time.perf_counter()
                    rulers[key] = reconstruction.reference(loaded[key])
                    spent.since("data", start)
                loading.warn_of_rank(job.sweep, rulers[key], watcher)
                desk = RunContext(experiment, loaded[key], rulers[key], here, layouts, watcher, spent, how, width)
                desk.save_seconds, desk.saved = save_seconds, saved
                desk.beat = beat
                train_job.train_job(job, desk, emit)
        except BaseException:
            try:
                _conclude(held, here, watcher, spent, started, began, len(trained), device)
            except AejaxError as another:  # what stopped it is what there is to say
                watcher.warn(str(another))
            raise
        rows = _conclude(held, here, watcher, spent, started, began, len(trained), device)
        ids = [member.run_id for job in planned for member in job.members]
        if here is not None:
            from aejax.reporting import summary

            start = time.perf_counter()
            summary.write(folder, rows, lambda run_id: _arrays(folder, run_id))
            if events:
                mine = [row for row in rows if row["run_id"] in set(ids)]
                tensorboard.write(folder, mine, lambda run_id: _arrays(folder, run_id))
            if trained:
                time_budget.add_report(
                    here, started.isoformat(timespec="milliseconds"), device, time.perf_counter() - start
                )
    return Outcome(folder, rows, ids, trained)


def plan(
    experiment: str, sweeps: Sequence[Sweep], *, root: Path, data_dir: Path | None = None, smoke: bool = False
) -> Plan:
    """What `execute` would do, without compiling or writing anything; everything is checked as it would check it."""
    experiment, sweeps = _named(experiment, sweeps, smoke)
    run_folders.check_name(experiment, "experiment")
    device, loaded = hardware.device_name(), _load_all(sweeps, data_dir, smoke)
    planned = _plan(sweeps, loaded, root / experiment, False, RunListener())
    return Plan(experiment, device, jobs.describe(planned, loaded))


def _named(experiment: str, sweeps: Sequence[Sweep], smoke: bool) -> tuple[str, Sequence[Sweep]]:
    if smoke:
        sweeps, experiment = [one.smoke() for one in sweeps], f"{experiment}-smoke"
    sweep.check_all(sweeps)
    return experiment, sweeps


def _check_place(on: remote.Place, sweeps: Sequence[Sweep], source: remote.Source | None) -> None:
    if distributed.is_distributed():
        raise ConfigError("--on", "given to one of several processes", "leave out --coordinator, or --on")
    on.check()
    remote.check(sweeps, source)


def _load_all(sweeps: Sequence[Sweep], data_dir: Path | None, smoke: bool) -> Loaded:
    keys = dict.fromkeys((one.dataset, one.data_seed) for one in sweeps)
    loaded = {key: loading.load(*key, data_dir, smoke) for key in keys}
    for one in sweeps:
        one.check_data(loaded[one.dataset, one.data_seed])
    return loaded


@contextlib.contextmanager
def _held(root: Path, experiment: str) -> Iterator[lock.Lock | None]:
    """The results folder, made and locked by the process that writes."""
    if not distributed.is_first_process():
        yield None
        return
    folder = run_folders.open_folder(root, experiment)
    with lock.hold(folder) as held:
        yield held


def _plan(sweeps: Sequence[Sweep], loaded: Loaded, folder: Path | None, again: bool, watcher: RunListener) -> list[Job]:
    """The jobs, as the process sees them that has the folder."""

    def stored(run_id: str) -> dict[str, Any] | None:
        return None if again or folder is None else run_folders.read_row(folder / "runs" / run_id, watcher.warn)

    planned = jobs.plan(sweeps, loaded, stored)
    held = distributed.broadcast_json([job.stored for job in planned])
    return [job._replace(stored=rows) for job, rows in zip(planned, held, strict=True)]


def _conclude(
    held: lock.Lock | None,
    folder: Path | None,
    watcher: RunListener,
    spent: TimeSpent,
    started: datetime,
    began: float,
    runs: int,
    device: str,
) -> list[dict[str, Any]]:
    """Index and record of the time spent, also of a call that was stopped."""
    if folder is None or held is None:
        return []
    start = time.perf_counter()
    rows = run_folders.write_index(folder, watcher.warn)
    spent.since("saving", start)
    wall = time.perf_counter() - began
    line = {
        "started": started.isoformat(timespec="milliseconds"),
        "wall": wall,
        **spent,
        "runs": runs,
        "device": device,
    }
    line["other"] = max(0.0, wall - sum(spent.values()))
    if runs or spent["useful"] or spent["lost"] or spent["compile"]:
        run_folders.append_line(folder / "goodput.jsonl", line)
    held.beat(0.0, 0.0)
    return rows


def _text(started: datetime) -> str:
    return started.isoformat(timespec="milliseconds")


def _arrays(folder: Path, run_id: str) -> dict[str, np.ndarray] | None:
    run = folder / "runs" / run_id
    return run_folders.read_run(run).arrays if run_folders.read_row(run) is not None else None


def summary_lines(rows: Iterable[dict[str, Any]]) -> list[str]:
    """One line of words a row, for terminals that draw nothing."""
    lines = []
    for row in rows:
        name = f"{row['label']} {row['codings']}, seed {row['seed']}"
        if row["status"] != "completed":
            lines.append(f"{name}: {row['status']}: {row['reason']}")
            continue
        verdict = "beats" if row["sse_test"] < row["pca_sse_test"] else "loses to"
        if row["sse_ratio"] is None:
            verdict = "beside an exact"
        lines.append(
            f"{name}: SSE {row['sse_test']:.4f} {verdict} PCA {row['pca_sse_test']:.4f}, worth "
            f"{row['pca_equivalent_dimension']:.1f} components, {row['train_seconds']:.1f} s"
        )
    return lines


def rebuild(folder: Path, warn: Callable[[str], None] | None = None) -> list[Path]:
    """Rebuild runs.jsonl, summary and figures of a results folder from its stored runs. Returns the files written.

    Raises ResultsError where there are none, or another call is writing there.
    """
    if not (folder / "runs.jsonl").is_file() and not (folder / "runs").is_dir():
        raise ResultsError(str(folder), "no runs there", "give a results folder, for example results/quickstart")
    from aejax.reporting import summary

    with lock.hold(folder):
        return summary.write(folder, run_folders.write_index(folder, warn), lambda run_id: _arrays(folder, run_id))
