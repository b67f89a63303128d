"""Ctrl-C and SIGTERM: stop where nothing is half done.

Leaving Python while a device is still computing crashes the process, so the first signal only asks; the training loop
looks between two chunks. A second signal leaves at once: files are written atomically, so that loses no finished run.

While the main thread waits for a device no handler of Python's runs, and two signals that wait become one. So a thread
counts them, told by the interpreter's signal handler in C, which does run.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from types import FrameType

STOPPED = "aejax: interrupted; finished runs are kept, the same command goes on from there"
_END = 0  # no signal's number


class Interrupted(BaseException):
    """The process was asked to stop. `exit_code` is what the shell expects: 130 for Ctrl-C, 143 for SIGTERM."""

    def __init__(self, number: int):
        super().__init__(signal.Signals(number).name)
        self.number = number
        self.exit_code = 128 + number


class SignalHandler:
    """Inside this block signals are remembered; `check` raises Interrupted once one has come.

    Before the first `check` there is nothing to lose, and the first signal leaves at once. It raises nothing: what is
    raised in a callback, such as JAX's while garbage is collected, is lost.
    """

    def __init__(self) -> None:
        self._asked: int | None = None
        self._checked = False
        self._before: dict[int, object] = {}

    def __enter__(self) -> SignalHandler:
        self._ear, self._mouth = os.pipe()
        os.set_blocking(self._mouth, False)
        self._fd_before = signal.set_wakeup_fd(self._mouth, warn_on_full_buffer=False)
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.getsignal(number)
        self.install()
        return self

    def install(self) -> None:
        """Be told of signals, also after something else was, as `jax.distributed` is of SIGTERM once it starts."""
        for number in self._before:
            signal.signal(number, self._ask)

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # pyright: ignore[reportArgumentType]
        signal.set_wakeup_fd(self._fd_before)
        os.write(self._mouth, bytes([_END]))
        self._thread.join()
        os.close(self._ear)
        os.close(self._mouth)

    def raise_if_interrupted(self) -> None:
        """Raise Interrupted when a signal has come. Called where nothing is running on a device."""
        self._checked = True
        if self._asked is not None:
            raise Interrupted(self._asked)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        del frame
        self._asked = self._asked or number

    def _listen(self) -> None:
        """Count signals, in a thread of its own: say what the first one does, leave at the second."""
        came = False
        while (number := os.read(self._ear, 1)[0]) != _END:
            if number not in self._before:
                continue
            if not came:
                said = "aejax: stopping after this chunk; once more to leave at once" if self._checked else STOPPED
                print(said, file=sys.stderr, flush=True)
            if came or not self._checked:
                os._exit(128 + number)
            came, self._asked = True, self._asked or number
