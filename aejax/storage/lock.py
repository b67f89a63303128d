"""The lock of a results folder: one writer at a time. Reading takes no lock.

The lock is an flock on the file `.lock`, which the system releases when its holder dies. The file names the holder.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import socket
import time
import weakref
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from aejax.runtime.errors import MachineError, ResultsError
from aejax.storage import atomic

LOCK_FILE = ".lock"
UNSUPPORTED_ERRORS = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)


class Lock:
    """The lock of a results folder that this process holds."""

    def __init__(self, handle: int):
        self._handle: int | None = handle

    def _release(self) -> None:
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None


@contextlib.contextmanager
def hold(folder: Path) -> Iterator[Lock]:
    """Hold the lock of `folder` inside this block. Leftovers of a killed writer are cleared first.

    Raises ResultsError naming the holder if there is one, MachineError if the folder is not writable or its file system
    has no locks.
    """
    handle = _open(folder)
    try:
        if not _take(handle, folder, seconds=0.5):
            raise _in_use(handle, folder)
        with atomic.disk_errors_as_one_line(folder / LOCK_FILE, 4096):
            _write_record(handle)
    except BaseException:
        os.close(handle)
        raise
    lock = Lock(handle)
    reference = weakref.ref(lock)
    os.register_at_fork(after_in_child=lambda: _release(reference()))  # else a child would keep the lock after we die
    try:
        atomic.clear_leftovers(folder)
        yield lock
    finally:
        lock._release()


@contextlib.contextmanager
def if_unheld(folder: Path) -> Iterator[bool]:
    """Whether no other process holds the lock of `folder`. None can take it inside this block.

    Makes no lock file.
    """
    if not os.path.lexists(folder / LOCK_FILE):
        yield True
        return
    handle = _open(folder)
    try:
        yield _take(handle, folder, seconds=0)
    finally:
        os.close(handle)


def raise_if_held(folder: Path) -> None:
    """Raise ResultsError naming the holder of `folder` if there is one. Makes no lock file and keeps no lock."""
    if not os.path.lexists(folder / LOCK_FILE):
        return
    handle = _open(folder)
    try:
        if not _take(handle, folder, seconds=0.5):
            raise _in_use(handle, folder)
    finally:
        os.close(handle)


def _open(folder: Path) -> int:
    with atomic.disk_errors_as_one_line(folder / LOCK_FILE):
        return os.open(folder / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)


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
            with atomic.disk_errors_as_one_line(folder / LOCK_FILE):
                raise


def _in_use(handle: int, folder: Path) -> ResultsError:
    """The error that names the holder of the lock."""
    try:
        record = _read_record(handle)
        holder = f"process {record['pid']} on {record['host']} since {record['started']}"
    except KeyError:
        holder = "another process"
    return ResultsError(str(folder), f"in use by {holder}", "wait until it ends, or choose another --results folder")


def _read_record(handle: int) -> dict[str, Any]:
    """The content of the lock file; empty if it is not a JSON object."""
    try:
        record = json.loads(os.pread(handle, 4096, 0))
    except (OSError, ValueError, RecursionError):
        return {}
    return record if isinstance(record, dict) else {}


def _write_record(handle: int) -> None:
    """Write this process, its host and the time to the lock file."""
    started = datetime.now(UTC).isoformat(timespec="seconds")
    record = {"pid": os.getpid(), "host": socket.gethostname(), "started": started}
    line = atomic.to_json(record).encode() + b"\n"
    os.pwrite(handle, line, 0)
    os.ftruncate(handle, len(line))


def _release(lock: Lock | None) -> None:
    if lock is not None:
        lock._release()
