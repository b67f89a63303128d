"""Ctrl-C and SIGTERM: stop at a point where no work is half done.

Leaving Python while a device is computing crashes the process. So the first signal is only recorded, and the training
loop checks for it between two chunks. The second signal ends the process at once; files are written atomically, so
that no finished run is lost.

While the main thread waits for a device, Python runs no signal handler, and two pending signals become one. The
interpreter's C-level handler still runs: it writes each signal number to a pipe, and a thread reads and counts them.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from types import FrameType

STOPPED = "aejax: interrupted; finished runs are kept; run the same command again to continue"
_END = 0
"""Written to the pipe to end the thread. No signal has this number."""


class Interrupted(BaseException):
    """A signal asked the process to stop. `exit_code` is the shell's: 130 for Ctrl-C, 143 for SIGTERM."""

    def __init__(self, number: int):
        super().__init__(signal.Signals(number).name)
        self.number = number
        self.exit_code = 128 + number


class SignalHandler:
    """A context that records SIGINT and SIGTERM; `raise_if_interrupted` raises Interrupted after a signal.

    Before the first call of `raise_if_interrupted` there is nothing to lose, so the first signal ends the process at
    once. It does so without an exception: one raised inside a callback (JAX has some during garbage collection) would
    be lost.
    """

    def __init__(self) -> None:
        self._received: int | None = None
        self._checked = False
        self._previous_handlers: dict[int, object] = {}

    def __enter__(self) -> SignalHandler:
        self._read_end, self._write_end = os.pipe()
        os.set_blocking(self._write_end, False)
        self._previous_wakeup_fd = signal.set_wakeup_fd(self._write_end, warn_on_full_buffer=False)
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()
        self._previous_handlers |= {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        self.install()
        return self

    def install(self) -> None:
        """Install the handlers. Call it again after other code has replaced them: `jax.distributed` takes SIGTERM."""
        for number in self._previous_handlers:
            signal.signal(number, self._record)

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous_handlers.items():
            signal.signal(number, handler)  # pyright: ignore[reportArgumentType]
        signal.set_wakeup_fd(self._previous_wakeup_fd)
        os.write(self._write_end, bytes([_END]))
        self._thread.join()
        os.close(self._read_end)
        os.close(self._write_end)

    def raise_if_interrupted(self) -> None:
        """Raise Interrupted if a signal was received. Call it where nothing runs on a device."""
        self._checked = True
        if self._received is not None:
            raise Interrupted(self._received)

    def _record(self, number: int, _frame: FrameType | None) -> None:
        self._received = self._received or number

    def _listen(self) -> None:
        """Run in the thread: report the first signal, end the process at the second."""
        is_first = True
        while (number := os.read(self._read_end, 1)[0]) != _END:
            if number not in self._previous_handlers:
                continue
            if is_first:
                stopping = "aejax: stopping after this chunk; send the signal again to leave at once"
                print(stopping if self._checked else STOPPED, file=sys.stderr, flush=True)
            if not is_first or not self._checked:
                os._exit(128 + number)
            is_first = False
            self._received = self._received or number
