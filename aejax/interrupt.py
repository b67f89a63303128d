"""Ctrl-C and SIGTERM: stop where nothing is half done.

Leaving Python while a device is still computing crashes the process, so the first signal only asks; the training loop
looks between two chunks. A second signal leaves at once: files are written atomically, so that loses no finished run.
"""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType


class Interrupted(BaseException):
    """The process was asked to stop. `exit_code` is what the shell expects: 130 for Ctrl-C, 143 for SIGTERM."""

    def __init__(self, number: int):
        super().__init__(signal.Signals(number).name)
        self.number = number
        self.exit_code = 128 + number


class Interrupts:
    """Inside this block signals are remembered; `check` raises Interrupted once one has come."""

    def __init__(self) -> None:
        self._asked: int | None = None
        self._before: dict[int, object] = {}

    def __enter__(self) -> Interrupts:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._ask)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # pyright: ignore[reportArgumentType]

    def check(self) -> None:
        """Raise Interrupted when a signal has come. Called where nothing is running on a device."""
        if self._asked is not None:
            raise Interrupted(self._asked)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        del frame
        if self._asked is not None:
            os._exit(128 + number)
        self._asked = number
        print("aejax: stopping after this chunk; once more to leave at once", file=sys.stderr, flush=True)
