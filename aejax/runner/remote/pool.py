"""Workers as processes of this machine: started fresh, never forked, since a fork of a process with JAX may hang.

A worker is another Python, not a `multiprocessing` one: that would import the caller's main module again, and could
not be given its environment before it starts. A pipe each way carries tasks and messages, between these two only.
"""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any, NamedTuple

import jax

from aejax.runner.remote import protocol
from aejax.runner.remote.driver import Message
from aejax.runtime import hardware, validate
from aejax.runtime.errors import ConfigError


@dataclass(frozen=True)
class Pool:
    """Train on `workers` processes of this machine, by default one a core.

    Each computes with an equal share of the cores, or NPROC threads where that is set.
    """

    workers: int | None = None

    def __post_init__(self) -> None:
        if self.workers is not None:
            validate.whole_number("--workers", self.workers, minimum=1)

    @property
    def count(self) -> int:
        """Workers at most."""
        return self.workers or len(os.sched_getaffinity(0))

    @property
    def threads(self) -> int:
        """Threads of each."""
        asked = os.environ.get("NPROC", "")
        given = int(asked) if asked.isdigit() else 0
        return given or max(1, len(os.sched_getaffinity(0)) // self.count)

    def check(self) -> None:
        """Raise ConfigError where JAX computes on something that processes cannot share."""
        if jax.default_backend() != "cpu":
            fix = "set JAX_PLATFORMS=cpu, or use --on ray, where every task has a GPU of its own"
            raise ConfigError("--on pool", f"its workers share the processor, JAX is on {jax.default_backend()}", fix)

    def describe(self) -> str:
        """In words, for people."""
        return f"a pool of {self.count} workers with NPROC={self.threads}"

    @contextlib.contextmanager
    def open(self) -> Iterator[Processes]:
        """Workers, which are gone when this block is left."""
        workers = Processes(self.count, self.threads)
        try:
            yield workers
        finally:
            workers.close()


class _Worker(NamedTuple):
    process: subprocess.Popen[bytes]
    pipe: Connection


class Processes:
    """At most `count` workers, started when there is work for them. One that dies is replaced by the next task."""

    def __init__(self, count: int, threads: int) -> None:
        self._count, self._threads = count, threads
        self._idle: list[_Worker] = []
        self._busy: dict[int, _Worker] = {}

    def has_room(self) -> bool:
        """Whether a worker is free."""
        return len(self._busy) < self._count

    def submit(self, number: int, text: str) -> None:
        """Give a task to a free worker."""
        while self._idle:
            worker = self._idle.pop()
            with contextlib.suppress(OSError):
                worker.pipe.send_bytes(protocol.pack("task", number, text))
                self._busy[number] = worker
                return
            _end(worker)  # it died while it had nothing to do
        worker = self._busy[number] = self._start()
        with contextlib.suppress(OSError):  # its death is noticed where messages are waited for
            worker.pipe.send_bytes(protocol.pack("task", number, text))

    def wait(self, seconds: float) -> list[Message]:
        """One message of each worker that has any."""
        messages: list[Message] = []
        by_pipe = {worker.pipe: number for number, worker in self._busy.items()}
        for pipe in wait(list(by_pipe), seconds):
            number = by_pipe[pipe]  # pyright: ignore[reportArgumentType]
            try:
                kind, *values = protocol.unpack(self._busy[number].pipe.recv_bytes())
            except (EOFError, OSError):
                kind, values = "lost", [_end(self._busy.pop(number)), True]
            if kind in ("done", "stopped", "refused", "failed"):
                self._idle.append(self._busy.pop(number))
            messages.append((kind, number, *values))
        return messages

    def stop(self, signal_number: int) -> None:
        """Ask all to save and stop."""
        for worker in self._busy.values():
            with contextlib.suppress(OSError):
                worker.pipe.send_bytes(protocol.pack("stop", signal_number, ""))

    def close(self) -> None:
        """End all of them, now."""
        for worker in [*self._idle, *self._busy.values()]:
            worker.process.kill()
            _end(worker)
        self._idle, self._busy = [], {}

    def _start(self) -> _Worker:
        mine, its = socket.socketpair()
        path = os.pathsep.join(entry for entry in sys.path if entry)
        environment = {**os.environ, "NPROC": str(self._threads), "PYTHONPATH": path}
        environment[hardware.WORKERS_ON_HOST] = str(self._count)
        process = subprocess.Popen(
            [sys.executable, "-P", "-c", f"from aejax.runner.remote import pool; pool.serve({its.fileno()})"],
            pass_fds=(its.fileno(),),
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C in a terminal is for the driver, which asks its workers to stop
        )
        its.close()
        return _Worker(process, Connection(mine.detach()))


def _end(worker: _Worker) -> str:
    """Wait for a worker that is ending, and say how it did."""
    worker.pipe.close()
    code = worker.process.wait()
    return f"worker killed by signal {-code}" if code < 0 else f"worker ended with exit code {code}"


def serve(handle: int) -> None:
    """A worker's life: tasks from the driver until the driver is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    pipe, tasks, stopping = Connection(handle), queue.SimpleQueue[tuple[int, str]](), []
    sending = threading.Lock()

    def listen() -> None:
        while True:
            try:
                kind, number, text = protocol.unpack(pipe.recv_bytes())
            except (EOFError, OSError):
                os._exit(0)  # nobody is left to store anything, and another may have the folder by now
            if kind == "task":
                tasks.put((number, text))
            else:
                stopping.append(number)

    def post(*message: Any) -> None:
        data = protocol.pack(*message)
        with sending:
            try:
                pipe.send_bytes(data)
            except OSError:
                os._exit(0)

    threading.Thread(target=listen, daemon=True).start()
    from aejax.runner.remote import worker

    while True:
        _, text = tasks.get()
        worker.run_task(text, post, lambda: stopping[0] if stopping else None)
