"""What a job is worked on with: data on devices, a results folder, somebody who watches, and an account of the time."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import numpy as np

from aejax import datasets
from aejax.config.sweep import Sweep
from aejax.evaluation import reconstruction
from aejax.runner.events import RunListener
from aejax.runner.jobs import Layouts
from aejax.storage import checkpoints
from aejax.training import population
from aejax.training.population import Layout

KINDS = ("useful", "compile", "data", "saving", "lost")
Emit = Callable[[dict[str, Any], dict[str, Any], dict[str, np.ndarray]], None]


class TimeSpent(dict[str, float]):
    """Seconds by kind: useful steps, compiling, data, saving, lost work."""

    def __init__(self) -> None:
        super().__init__(dict.fromkeys(KINDS, 0.0))

    def since(self, kind: str, start: float) -> None:
        """Add what has passed since a `time.perf_counter()`."""
        self[kind] += time.perf_counter() - start


@dataclass
class RunContext:
    """What a job needs besides itself: data on devices, a folder (None on processes that do not write), a watcher.

    `saved` says by state_id what block each saved state is of. `beat` is told the seconds of work that would be
    lost if the process died now, and those of this call that would not. `forget` is called with the folder and the
    state_id of a block whose runs have all been emitted.
    """

    experiment: str
    dataset: datasets.Dataset
    ruler: reconstruction.PCAReference
    folder: Path | None
    layouts: Layouts | None
    watcher: RunListener
    spent: TimeSpent
    how: str = "auto"
    width: int | None = None
    save_seconds: float | None = None
    beat: Callable[[float, float], None] = lambda unsaved, kept: None
    forget: Callable[[Path, str], None] = checkpoints.remove
    saved: dict[str, dict[str, Any]] = field(default_factory=dict)
    save_cost: float = 0.0
    placed: dict[tuple, Any] = field(default_factory=dict)

    def data(self, one: Sweep, layout: Layout) -> Any:
        """What a sweep is trained on, on the devices of a layout, put there once."""
        key = (self.dataset.fingerprint, one.moments, str(layout.sharding()))
        if key not in self.placed:
            start = time.perf_counter()
            self.placed.clear()
            self.placed[key] = jax.block_until_ready(population.place_data(one.training_data(self.dataset), layout))
            self.spent.since("data", start)
        return self.placed[key]
