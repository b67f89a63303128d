"""Workers as processes of this machine. They are started, never forked: a fork of a process with JAX can hang.

A worker is a Python process of its own. A `multiprocessing` one would import the caller's main module again and could
not be given an environment before it starts. A socket pair carries tasks and messages between driver and worker.
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
    """Train on `workers` processes of this machine, by default one for each core.

    Each computes with an equal share of the cores, or with NPROC threads where that is set.
    """

    workers: int | None = None

    def __post_init__(self) -> None:
        if self.workers is not None:
            validate.whole_number("--workers", self.workers, minimum=1)

    @property
    def count(self) -> int:
        """Number of workers, at most."""
        return self.workers or len(os.sched_getaffinity(0))

    @property
    def threads(self) -> int:
        """Threads of each worker."""
        return hardware.thread_count(self.count)

    def check(self) -> None:
        """Raise ConfigError where JAX does not compute on the processor, which workers can share."""
        if jax.default_backend() != "cpu":
            fix = "set JAX_PLATFORMS=cpu, or use --on ray, where every task has a GPU of its own"
            raise ConfigError("--on pool", f"its workers share the processor, JAX is on {jax.default_backend()}", fix)

    def describe(self) -> str:
        """The place in words."""
        return f"a pool of {self.count} workers with NPROC={self.threads}"

    def open(self) -> contextlib.closing[Processes]:
        """Workers that end with the block of a `with` statement."""
        return contextlib.closing(Processes(self.count, self.threads))


class _Worker(NamedTuple):
    process: subprocess.Popen[bytes]
    pipe: Connection


class Processes:
    """At most `count` workers. They start when there is a task for them; the next task replaces one that died."""

    def __init__(self, count: int, threads: int) -> None:
        self._count = count
        self._threads = threads
        self._idle: list[_Worker] = []
        self._busy: dict[int, _Worker] = {}

    def has_room(self) -> bool:
        """Whether a worker is free."""
        return len(self._busy) < self._count

    def submit(self, number: int, text: str) -> None:
        """Send a task to a free worker."""
        while self._idle:
            worker = self._idle.pop()
            with contextlib.suppress(OSError):
                worker.pipe.send_bytes(protocol.pack("task", number, text))
                self._busy[number] = worker
                return
            _end(worker)  # it died while it was idle
        worker = self._busy[number] = self._start()
        with contextlib.suppress(OSError):  # `wait` notices a dead worker
            worker.pipe.send_bytes(protocol.pack("task", number, text))

    def wait(self, seconds: float) -> list[Message]:
        """One message of each worker that has sent some."""
        messages: list[Message] = []
        by_pipe = {worker.pipe: number for number, worker in self._busy.items()}
        for pipe in wait(list(by_pipe), seconds):
            number = by_pipe[pipe]  # pyright: ignore[reportArgumentType]
            try:
                kind, *values = protocol.unpack(self._busy[number].pipe.recv_bytes())
            except (EOFError, OSError):
                kind = "lost"
                values = [_end(self._busy.pop(number)), True]
            if kind in ("done", "stopped", "refused", "failed"):
                self._idle.append(self._busy.pop(number))
            messages.append((kind, number, *values))
        return messages

    def stop(self, signal_number: int) -> None:
        """Ask all workers to save and stop."""
        for worker in self._busy.values():
            with contextlib.suppress(OSError):
                worker.pipe.send_bytes(protocol.pack("stop", signal_number, ""))

    def close(self) -> None:
        """Kill all workers."""
        for worker in [*self._idle, *self._busy.values()]:
            worker.process.kill()
            _end(worker)

    def _start(self) -> _Worker:
        driver_end, worker_end = socket.socketpair()
        path = os.pathsep.join(entry for entry in sys.path if entry)
        environment = {**os.environ, "NPROC": str(self._threads), "PYTHONPATH": path}
        environment[hardware.WORKERS_ON_HOST] = str(self._count)
        process = subprocess.Popen(
            [sys.executable, "-P", "-c", f"from aejax.runner.remote import pool; pool.serve({worker_end.fileno()})"],
            pass_fds=(worker_end.fileno(),),
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C reaches the driver only, which asks its workers to stop
        )
        worker_end.close()
        return _Worker(process, Connection(driver_end.detach()))


def _end(worker: _Worker) -> str:
    """Wait for a worker that is ending. Returns how it ended, in words."""
    worker.pipe.close()
    code = worker.process.wait()
    return f"worker killed by signal {-code}" if code < 0 else f"worker ended with exit code {code}"


def serve(handle: int) -> None:
    """The main loop of a worker: it trains the driver's tasks until the driver is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    pipe = Connection(handle)
    tasks = queue.SimpleQueue[str]()
    stop_signals: list[int] = []
    sending = threading.Lock()

    def listen() -> None:
        while True:
            try:
                kind, number, text = protocol.unpack(pipe.recv_bytes())
            except (EOFError, OSError):
                os._exit(0)  # the driver is gone: no process stores rows, and another call may hold the folder
            if kind == "task":
                tasks.put(text)
            else:
                stop_signals.append(number)

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
        worker.run_task(tasks.get(), post, lambda: stop_signals[0] if stop_signals else None)
