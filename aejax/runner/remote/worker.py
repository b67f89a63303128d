"""What a worker does: it trains one task after another and sends finished runs to the driver, which stores them."""

from __future__ import annotations

import contextlib
import functools
import json
import math
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from aejax import datasets
from aejax.datasets import Dataset
from aejax.datasets import smoke as smoke_rows
from aejax.runner.context import RunContext, Timings
from aejax.runner.events import RunListener
from aejax.runner.remote import task
from aejax.runner.train_job import train_job
from aejax.runtime import hardware
from aejax.runtime.errors import AejaxError, DataError, reason_of
from aejax.runtime.signals import Interrupted
from aejax.training.loop import Progress

Post = Callable[..., None]
"""post(kind, *values): send a message to the driver."""
SECONDS_BETWEEN_MESSAGES = 0.5


def run_task(text: str, post: Post, stop_signal: Callable[[], int | None]) -> None:
    """Train the members of a task and `post` each row, then how the task ended. Errors are posted, not raised.

    `stop_signal` gives the signal that stopped the driver, None while none has.
    """
    timings = Timings()
    hardware.use_one_device_per_core()
    try:
        _train(json.loads(text), post, stop_signal, timings)
        post("done", dict(timings))
    except Interrupted:
        post("stopped", dict(timings))
    except AejaxError as error:
        post("refused", type(error).__name__, error.field, error.problem, error.fix, str(error))
    except Exception as error:
        post("failed", reason_of(error), dict(timings))


class _RemoteListener(RunListener):
    """Sends warnings and progress to the driver, whose listener shows them."""

    def __init__(self, post: Post, stop_signal: Callable[[], int | None]) -> None:
        self._post = post
        self._stop_signal = stop_signal
        self._last_message = 0.0

    def check_interrupt(self) -> None:
        """Raise Interrupted once the driver was stopped."""
        number = self._stop_signal()
        if number is not None:
            raise Interrupted(number)

    def warn(self, text: str) -> None:
        """Send the warning."""
        self._post("warn", text)

    def block(self, name: str) -> Callable[[Progress], None]:
        """Returns a function that sends progress, at most twice a second."""

        def report(progress: Progress) -> None:
            now = time.monotonic()
            if now - self._last_message >= SECONDS_BETWEEN_MESSAGES:
                self._last_message = now
                best_error = progress.best_error if math.isfinite(progress.best_error) else None
                self._post("progress", name, [*progress[:-1], best_error])

        return report


@functools.lru_cache(maxsize=2)
def _load(name: str, data_seed: int, data_dir: str | None, smoke: bool) -> Dataset:
    dataset = datasets.load(name, None if data_dir is None else Path(data_dir), data_seed)
    return smoke_rows.cut(dataset) if smoke else dataset


def _train(spec: Mapping[str, Any], post: Post, stop_signal: Callable[[], int | None], timings: Timings) -> None:
    listener = _RemoteListener(post, stop_signal)
    listener.check_interrupt()
    with contextlib.suppress(OSError):  # relative paths keep the meaning they had where the call was made
        os.chdir(spec["working_folder"])
    sweep = task.read_sweep(spec)
    start = time.perf_counter()
    dataset = _load(sweep.dataset, sweep.data_seed, spec["data_dir"], spec["smoke"])
    timings.add_since("data", start)
    if dataset.fingerprint != spec["data"]:
        problem = f"fingerprint {dataset.fingerprint} on {os.uname().nodename}, {spec['data']} where it was asked for"
        raise DataError(sweep.dataset, problem, "give every machine the same data")

    def store(row: dict[str, Any], params: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        row["config"] = spec["config"]  # the digest of a custom function can differ between processors
        post("row", row, params, arrays)

    folder = _folder_to_save_in(spec)
    options = {name: spec[name] for name in ("how", "width", "save_seconds", "rows")}
    context = RunContext(spec["experiment"], folder, listener, timings, store, **options)
    context.saved_blocks = {} if folder is None else spec["saved_blocks"]
    context.remove_state = lambda _, state_id: post("remove_state", state_id)  # the driver may have to store its runs
    train_job(task.read_job(spec, sweep, dataset), context)


def _folder_to_save_in(spec: Mapping[str, Any]) -> Path | None:
    """The results folder for states; None where states are not wanted, or the folder is on another machine's disk."""
    if spec["saved_blocks"] is None or spec["mark"] is None:
        return None
    folder = Path(spec["folder"])
    return folder if task.mark(folder) == spec["mark"] else None
