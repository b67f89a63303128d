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
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from aejax.runtime.errors import MachineError, ResultsError
from aejax.storage import atomic

LOCK_FILE = ".lock"
UNSUPPORTED_ERRORS = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)


_open_handles: set[int] = set()
"""Handles of lock files. A child that is forked closes them: it would otherwise keep a lock after its parent dies."""


def _close_all() -> None:
    while _open_handles:
        os.close(_open_handles.pop())


os.register_at_fork(after_in_child=_close_all)


@contextlib.contextmanager
def hold(folder: Path) -> Iterator[None]:
    """Hold the lock of `folder` inside this block. Leftovers of a killed writer are cleared first.

    Raises ResultsError naming the holder if there is one, MachineError if the folder is not writable or its file system
    has no locks.
    """
    with _open(folder) as handle:
        _take_or_refuse(handle, folder)
        with atomic.disk_errors_as_one_line(folder / LOCK_FILE, 4096):
            _write_record(handle)
        atomic.clear_leftovers(folder)
        yield


@contextlib.contextmanager
def if_unheld(folder: Path) -> Iterator[bool]:
    """Whether no other process holds the lock of `folder`. None can take it inside this block.

    Makes no lock file.
    """
    if not os.path.lexists(folder / LOCK_FILE):
        yield True
        return
    with _open(folder) as handle:
        yield _take(handle, folder, seconds=0)


def raise_if_held(folder: Path) -> None:
    """Raise ResultsError naming the holder of `folder` if there is one. Makes no lock file and keeps no lock."""
    if os.path.lexists(folder / LOCK_FILE):
        with _open(folder) as handle:
            _take_or_refuse(handle, folder)


@contextlib.contextmanager
def _open(folder: Path) -> Iterator[int]:
    """The handle of the lock file, which is made if there is none. Closing it at the end releases the lock."""
    with atomic.disk_errors_as_one_line(folder / LOCK_FILE):
        handle = os.open(folder / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
    _open_handles.add(handle)
    try:
        yield handle
    finally:
        if handle in _open_handles:  # not in a forked child
            _open_handles.remove(handle)
            os.close(handle)


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
                fix = "choose a --results folder on a local disk"
                raise MachineError(str(folder), "its file system has no file locks", fix) from error
            with atomic.disk_errors_as_one_line(folder / LOCK_FILE):
                raise


def _take_or_refuse(handle: int, folder: Path) -> None:
    """Take the lock. Raises ResultsError naming the process that holds it."""
    if _take(handle, folder, seconds=0.5):
        return
    try:
        record = json.loads(os.pread(handle, 4096, 0))
        holder = f"process {record['pid']} on {record['host']} since {record['started']}"
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        holder = "another process"
    raise ResultsError(str(folder), f"in use by {holder}", "wait until it ends, or choose another --results folder")


def _write_record(handle: int) -> None:
    """Write this process, its host and the time to the lock file."""
    started = datetime.now(UTC).isoformat(timespec="seconds")
    record = {"pid": os.getpid(), "host": socket.gethostname(), "started": started}
    line = atomic.to_json(record).encode() + b"\n"
    os.pwrite(handle, line, 0)
    os.ftruncate(handle, len(line))
