"""What happens while an experiment runs, told to whoever draws it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from aejax.training.train import Progress


class RunListener:
    """Told what happens, in order; does nothing. The command line draws it."""

    def check(self) -> None:
        """Called between chunks and between runs, where nothing is half done: may raise Interrupted to stop."""

    def start(self, runs: int, device: str) -> None:
        """Training is about to start."""

    def block(self, name: str) -> Callable[[Progress], None] | None:
        """A block of runs starts; returns what it reports its progress to."""

    def curves(self, run_ids: Sequence[str]) -> Callable[[int, dict[str, np.ndarray]], None] | None:
        """A block of these runs starts; returns what is told the curves of its epochs as they end, or None."""

    def warn(self, text: str) -> None:
        """Something a person should know, that stops nothing."""

    def done(self, row: dict[str, Any], stored: bool) -> None:
        """A run ended with this row; `stored` when it was found on disk."""
