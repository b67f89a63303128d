"""The lock of a results folder: one writer at a time. Reading takes no lock.

The lock is an flock on the file `.lock`, which the system releases when its holder dies. The file names the holder.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import math
import os
import socket
import time
import weakref
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from aejax.runtime.errors import MachineError, ResultsError
from aejax.storage import atomic

NAME = ".lock"
UNSUPPORTED_ERRORS = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)
WIDTH = 16
"""Bytes of the numbers of seconds, with which the record ends."""


class PreviousHolder(NamedTuple):
    """The holder before: when it started and was last heard of (seconds since 1970), and of its work what was lost
    and what was kept, where it did not end by itself.
    """

    started: str
    heard: float
    lost_seconds: float
    kept_seconds: float


class Lock:
    """A held lock. `before` is the holder before, where it can be read, `started` names this one."""

    def __init__(self, handle: int, before: PreviousHolder | None):
        self.previous = before
        self.started = datetime.now(UTC).isoformat(timespec="seconds")
        self._handle: int | None = handle
        record = {"pid": os.getpid(), "host": socket.gethostname(), "started": self.started}
        head, tail = atomic.to_json(record).encode()[:-1], _tail(0.0, 0.0)
        self._offset = len(head)
        os.pwrite(handle, head + tail, 0)
        os.ftruncate(handle, len(head) + len(tail))

    @property
    def lost_seconds(self) -> float:
        """The work that the holder before had not saved when it died, 0.0 if it had."""
        return 0.0 if self.previous is None else self.previous.lost_seconds

    def beat(self, unsaved_seconds: float, kept_seconds: float = 0.0) -> None:
        """Note how many seconds of work would be lost, and kept, if this process died now: a small write, no fsync."""
        if self._handle is not None:
            with contextlib.suppress(OSError):  # a note is not worth a run
                os.pwrite(self._handle, _tail(unsaved_seconds, kept_seconds), self._offset)

    def _close(self) -> None:
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None


@contextlib.contextmanager
def hold(folder: Path) -> Iterator[Lock]:
    """Hold the lock of `folder` inside this block. Leftovers of a killed writer are cleared first.

    Leaving it without an exception records that nothing is lost; with one, the last `beat` stands. Raises ResultsError
    naming the holder if there is one, MachineError if the folder is not writable or its file system has no locks.
    """
    handle = _open(folder)
    try:
        if not _take(handle, folder, seconds=0.5):
            raise _in_use(handle, folder)
        with atomic.disk_errors_as_one_line(folder / NAME, 4096):
            lock = Lock(handle, _before(handle))
    except BaseException:
        os.close(handle)
        raise
    reference = weakref.ref(lock)
    os.register_at_fork(after_in_child=lambda: _close(reference()))  # else a child would keep the lock after we die
    try:
        atomic.clear_leftovers(folder)
        yield lock
        lock.beat(0.0)
    finally:
        lock._close()


@contextlib.contextmanager
def if_unheld(folder: Path) -> Iterator[bool]:
    """Whether no other process holds the lock of `folder`. None can take it inside this block.

    Makes no lock file.
    """
    if not os.path.lexists(folder / NAME):
        yield True
        return
    handle = _open(folder)
    try:
        yield _take(handle, folder, seconds=0)
    finally:
        os.close(handle)


def raise_if_held(folder: Path) -> None:
    """Raise ResultsError naming the holder of `folder` if there is one. Makes no lock file and keeps no lock."""
    if not os.path.lexists(folder / NAME):
        return
    handle = _open(folder)
    try:
        if not _take(handle, folder, seconds=0.5):
            raise _in_use(handle, folder)
    finally:
        os.close(handle)


def _open(folder: Path) -> int:
    with atomic.disk_errors_as_one_line(folder / NAME):
        return os.open(folder / NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)


def _take(handle: int, folder: Path, seconds: float) -> bool:
    """Take the lock. Returns False if another process still holds it after `seconds`.

    A process that only clears leftovers holds the lock for a moment, so that it is worth trying again.
    """
    end = time.monotonic() + seconds
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() >= end:
                return False
            time.sleep(0.02)
        except OSError as error:
            if error.errno in UNSUPPORTED_ERRORS:
                raise MachineError(
                    str(folder), "its file system has no file locks", "choose a --results folder on a local disk"
                ) from error
            with atomic.disk_errors_as_one_line(folder / NAME):
                raise


def _in_use(handle: int, folder: Path) -> ResultsError:
    """The error that names the holder of the lock."""
    try:
        record = _record(handle)
        holder = f"process {record['pid']} on {record['host']} since {record['started']}"
    except KeyError:
        holder = "another process"
    return ResultsError(str(folder), f"in use by {holder}", "wait until it ends, or choose another --results folder")


def _record(handle: int) -> dict[str, Any]:
    """The content of the lock file; empty if it is not a JSON object."""
    try:
        record = json.loads(os.pread(handle, 4096, 0))
    except (OSError, ValueError, RecursionError):
        return {}
    return record if isinstance(record, dict) else {}


def _before(handle: int) -> PreviousHolder | None:
    record = _record(handle)
    if not isinstance(record.get("started"), str):
        return None
    lost, kept = (_seconds(record.get(f"{name}_seconds")) for name in ("unsaved", "kept"))
    return PreviousHolder(record["started"], os.fstat(handle).st_mtime, lost, kept)


def _seconds(value: Any) -> float:
    return value if isinstance(value, float) and math.isfinite(value) and value > 0 else 0.0


def _tail(unsaved_seconds: float, kept_seconds: float) -> bytes:
    return b', "unsaved_seconds": %b, "kept_seconds": %b}\n' % (_field(unsaved_seconds), _field(kept_seconds))


def _field(seconds: float) -> bytes:
    seconds = min(max(seconds, 0.0), 1e9) if math.isfinite(seconds) else 0.0
    return f"{seconds:{WIDTH}.3f}".encode()


def _close(lock: Lock | None) -> None:
    if lock is not None:
        lock._close()
