"""What a worker does: one task after another, telling its finished runs to the process that stores them."""

from __future__ import annotations

import contextlib
import fcntl
import functools
import json
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from aejax import datasets
from aejax.evaluation import reconstruction
from aejax.runner import loading, train_job
from aejax.runner.context import RunContext, TimeSpent
from aejax.runner.events import RunListener
from aejax.runner.jobs import Job, Layouts
from aejax.runner.remote import task
from aejax.runtime import hardware
from aejax.runtime.errors import AejaxError, DataError
from aejax.runtime.signals import Interrupted
from aejax.training import train
from aejax.training.population import Layout

Post = Callable[..., None]
"""post(kind, *values): tell the driver."""
SECONDS_BETWEEN_NOTES = 0.5


def run_task(text: str, post: Post, asked: Callable[[], int | None]) -> None:
    """Train a task's members and `post` each row, then how the task ended; raises nothing that it could post.

    `asked` gives the signal that the driver was stopped by, None while it was not.
    """
    spent = TimeSpent()
    hardware.use_one_device_per_core()
    try:
        _train(json.loads(text), post, asked, spent)
        post("done", dict(spent))
    except Interrupted:
        post("stopped", dict(spent))
    except AejaxError as error:
        post("refused", type(error).__name__, error.field, error.found, error.fix, str(error))
    except Exception as error:
        post("failed", f"{type(error).__name__}: {' '.join(str(error).split())[:500]}", dict(spent))


class _RemoteListener(RunListener):
    """A watcher that tells another process's."""

    def __init__(self, post: Post, asked: Callable[[], int | None]) -> None:
        self._post, self._asked, self._told = post, asked, 0.0

    def check(self) -> None:
        """Stop where the driver was asked to."""
        number = self._asked()
        if number is not None:
            raise Interrupted(number)

    def warn(self, text: str) -> None:
        """Pass it on."""
        self._post("warn", text)

    def block(self, name: str) -> Callable[[train.Progress], None]:
        """Passes progress on, now and then."""

        def report(progress: train.Progress) -> None:
            if time.monotonic() - self._told >= SECONDS_BETWEEN_NOTES:
                self._told = time.monotonic()
                known = math.isfinite(progress.best_error)
                self._post("progress", name, [*progress[:-1], progress.best_error if known else None])

        return report


class _SharedLayouts(Layouts):
    """Layouts that several workers add to."""

    def __init__(self, folder: Path, warn: Callable[[str], None]) -> None:
        super().__init__(folder, warn)
        self._folder, self._warn = folder, warn

    def keep(
        self, job: Job, dataset: datasets.Dataset, layout: Layout, rates: dict[str, float] | None, how: str = "auto"
    ) -> None:
        """Remember a layout beside those that others have kept meanwhile."""
        with _alone(self._folder):
            Layouts(self._folder, self._warn).keep(job, dataset, layout, rates, how)


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One worker at a time, where the file system has locks."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


@functools.lru_cache(maxsize=2)
def _materials(name: str, data_seed: int, data_dir: str | None, smoke: bool) -> tuple[datasets.Dataset, Any]:
    dataset = loading.load(name, data_seed, None if data_dir is None else Path(data_dir), smoke)
    return dataset, reconstruction.reference(dataset)


def _train(spec: Mapping[str, Any], post: Post, asked: Callable[[], int | None], spent: TimeSpent) -> None:
    teller = _RemoteListener(post, asked)
    teller.check()
    with contextlib.suppress(OSError):  # relative paths mean what they meant where the call was made
        os.chdir(spec["working_folder"])
    job = task.read(spec)
    one, start = job.sweep, time.perf_counter()
    dataset, ruler = _materials(one.dataset, one.data_seed, spec["data_dir"], spec["smoke"])
    spent.since("data", start)
    if dataset.fingerprint != spec["data"]:
        found = f"fingerprint {dataset.fingerprint} on {os.uname().nodename}, {spec['data']} where it was asked for"
        raise DataError(one.dataset, found, "give every machine the same data")
    loading.warn_of_rank(one, ruler, teller)
    folder = None if spec["folder"] is None else Path(spec["folder"])
    if folder is not None and (spec["mark"] is None or task.mark(folder) != spec["mark"]):
        folder = None  # another disk: nothing is saved there
    layouts = None if folder is None else _SharedLayouts(folder, teller.warn)
    if folder is None or spec["saved"] is None:
        spec, folder = {**spec, "saved": {}}, None
    desk = RunContext(spec["experiment"], dataset, ruler, folder, layouts, teller, spent, spec["how"], spec["width"])
    desk.save_seconds = spec["save_seconds"]
    desk.saved = spec["saved"]
    desk.forget = lambda _, state_id: post("forget", state_id)  # the driver may not have stored its runs yet
    desk.beat = lambda unsaved, kept: post("beat", unsaved, kept)

    def emit(row: dict[str, Any], params: dict[str, Any], arrays: dict[str, Any]) -> None:
        row["config"] = spec["config"]  # another processor may give an own function another digest
        post("row", row, params, arrays)

    train_job.train_job(job, desk, emit)
