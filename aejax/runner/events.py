"""Events of a running experiment, for a listener that shows them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from aejax.training.loop import Progress


class RunListener:
    """Receives the events of a running experiment in order and ignores them. The command line overrides it."""

    def check_interrupt(self) -> None:
        """Called between chunks and between runs, where nothing is half done. May raise Interrupted to stop."""

    def start(self, runs: int, device: str) -> None:
        """The call is about to train this many runs on this device."""

    def block(self, name: str) -> Callable[[Progress], None] | None:
        """A block of runs starts. Returns the function that receives its progress, or None."""

    def curves(self, run_ids: Sequence[str]) -> Callable[[int, dict[str, np.ndarray]], None] | None:
        """A block of these runs starts. Returns the function that receives the metrics of ended epochs, or None."""

    def warn(self, text: str) -> None:
        """Something that a person should know and that stops nothing."""

    def done(self, row: dict[str, Any], stored: bool) -> None:
        """A run ended with this row. `stored` says that it was on disk before."""
