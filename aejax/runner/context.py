"""What the jobs of one call of `aejax run` share: results folder, listener, timings, the layout that was asked for."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from aejax.runner.events import RunListener
from aejax.runner.jobs import Job, StoredLayout
from aejax.storage import checkpoints
from aejax.training.layout import Layout, place_data

KINDS = ("useful", "compile", "data", "saving", "lost")
Store = Callable[[dict[str, Any], dict[str, Any], dict[str, np.ndarray]], None]
"""Takes the row, the parameters and the arrays of a run that has ended."""


class Timings(dict[str, float]):
    """Seconds by kind: useful training steps, compiling, data, saving, lost work."""

    def __init__(self) -> None:
        super().__init__(dict.fromkeys(KINDS, 0.0))

    def add_since(self, kind: str, start: float) -> None:
        """Add the seconds that have passed since `start`, a value of `time.perf_counter()`."""
        self[kind] += time.perf_counter() - start


class Source(NamedTuple):
    """Where sweeps come from: an experiment file and the `--set` assignments that changed them."""

    path: Path
    assignments: tuple[str, ...] = ()


@dataclass
class RunContext:
    """What the jobs of one call share.

    `folder` is the results folder, None on a process that does not write. `store` takes each run that has ended: in
    `execute` it writes the run to the results folder, in a worker it sends the run to the driver. `how` and `width` are
    the layout that was asked for, `save_seconds` the seconds between two checkpoints. `rows` are rows that were stored
    before this call. Processes that train for this one load data and sweeps again: from `data_dir`, with `smoke` only
    some rows, and from `source` where a sweep has custom functions. `saved_blocks` maps the id of each saved state to
    the identity of its block. `remove_state` removes the state of a block whose runs are all stored.
    """

    experiment: str
    folder: Path | None
    listener: RunListener
    timings: Timings
    store: Store
    how: str = "auto"
    width: int | None = None
    save_seconds: float | None = None
    rows: Sequence[dict[str, Any]] = ()
    data_dir: Path | None = None
    smoke: bool = False
    source: Source | None = None
    saved_blocks: dict[str, dict[str, Any]] = field(default_factory=dict)
    remove_state: Callable[[Path, str], None] = checkpoints.remove
    layouts: dict[str, StoredLayout] = field(default_factory=dict)
    """Layouts that this call chose, by program: a later job of the same program takes the same one."""
    save_cost: float = 0.0
    """Seconds that the last checkpoint took."""
    _placed: dict[tuple[str, bool, str], Any] = field(default_factory=dict)

    def begin_job(self) -> None:
        """Release the data of the job before, and forget how long its checkpoints took."""
        self._placed.clear()
        self.save_cost = 0.0

    def place_data(self, job: Job, layout: Layout) -> Any:
        """The training data of a job on the devices of a layout. Blocks with the same layout share it."""
        key = (job.dataset.fingerprint, job.sweep.moments, str(layout.sharding()))
        if key not in self._placed:
            start = time.perf_counter()
            self._placed.clear()
            self._placed[key] = jax.block_until_ready(place_data(job.training_data, layout))
            self.timings.add_since("data", start)
        return self._placed[key]
