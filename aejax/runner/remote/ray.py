"""Workers of a running Ray cluster: one Ray task for each task, on a node that has room.

Ray schedules tasks and reports when a task or its node is lost. The driver then tries again; rows that were sent before
the loss are kept. Messages go through a mailbox, an actor on the driver's node.
"""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import os
import signal
import threading
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import jax

from aejax.runner.remote.driver import Message
from aejax.runtime import validate
from aejax.runtime.errors import MachineError, one_line

POLL_SECONDS = 0.2
"""Seconds between two looks for messages."""
ENVIRONMENT_PREFIXES = ("JAX_", "XLA_", "TFDS_DATA_DIR")
"""Prefixes of environment variables that tasks get from the driver: numbers can depend on them."""


@dataclass(frozen=True)
class Ray:
    """Train on the Ray cluster at `address`, with so many of its CPUs and GPUs for each task.

    "auto" is the cluster that `ray start` has started on this machine. The default of `gpus` is 1 where JAX computes on
    a GPU on this machine, else 0. A task without a GPU computes on the processor, with a thread for each of its CPUs.
    """

    address: str = "auto"
    cpus: int = 1
    gpus: int | None = None

    def __post_init__(self) -> None:
        validate.whole_number("--cpus-per-task", self.cpus, minimum=1)
        if self.gpus is not None:
            validate.whole_number("--gpus-per-task", self.gpus, minimum=0)

    def check(self) -> None:
        """Raise MachineError where Ray is not installed."""
        if importlib.util.find_spec("ray") is None:
            raise MachineError("--on ray", "Ray is not installed", "pip install 'aejax[ray]'")

    def describe(self) -> str:
        """The place in words."""
        return f"Ray at {self.address}, NPROC={self.cpus} a program"

    @contextlib.contextmanager
    def open(self) -> Iterator[Tasks]:
        """Tasks of the cluster, which keeps running. Raises MachineError where it cannot be reached."""
        self.check()
        import ray

        connected = ray.is_initialized()
        if not connected:
            _connect(self.address)
        gpus = self.gpus if self.gpus is not None else int(jax.default_backend() == "gpu")
        try:
            with contextlib.closing(Tasks(self.cpus, gpus)) as tasks:
                yield tasks
        finally:
            if not connected:
                ray.shutdown()


def _connect(address: str) -> None:
    import ray

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about changes in later versions of Ray
            ray.init(address=address, logging_level=logging.ERROR, log_to_driver=False)
    except (ConnectionError, RuntimeError, ValueError) as error:
        fix = "start one with `ray start --head`, or give --ray-address HOST:PORT"
        raise MachineError("--on ray", f"no cluster reached at {address} ({one_line(error)})", fix) from error
    finally:
        if threading.current_thread() is threading.main_thread():
            for number, handler in before.items():
                signal.signal(number, handler)  # ray.init has replaced it


class Mailbox:
    """Holds the messages of workers until the driver takes them, and the signal that stopped the driver."""

    def __init__(self) -> None:
        self._messages: list[Message] = []
        self._stop_signal: int | None = None

    def put(self, message: Message) -> None:
        """Add a message."""
        self._messages.append(message)

    def take(self) -> list[Message]:
        """All messages since the last call."""
        messages = self._messages
        self._messages = []
        return messages

    def stop(self, signal_number: int) -> None:
        """Tell workers to stop."""
        self._stop_signal = signal_number

    def stop_signal(self) -> int | None:
        """The signal that stopped the driver, None while none has."""
        return self._stop_signal


def run(number: int, text: str, mailbox: Any) -> None:
    """Train a task, in a worker of Ray."""
    import ray

    from aejax.runner.remote import worker

    last_look = 0.0
    known_signal: int | None = None

    def post(kind: str, *values: Any) -> None:
        ray.get(mailbox.put.remote((kind, number, *values)))

    def stop_signal() -> int | None:
        nonlocal last_look, known_signal
        if time.monotonic() - last_look > 1.0:
            last_look = time.monotonic()
            known_signal = ray.get(mailbox.stop_signal.remote())
        return known_signal

    post("began")
    worker.run_task(text, post, stop_signal)


class Tasks:
    """Tasks of a cluster. All are submitted at once; Ray queues those that have no room yet."""

    def __init__(self, cpus: int, gpus: int) -> None:
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        driver_node = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        self._mailbox: Any = ray.remote(num_cpus=0, scheduling_strategy=driver_node)(Mailbox).remote()  # pyright: ignore
        variables = {name: value for name, value in os.environ.items() if name.startswith(ENVIRONMENT_PREFIXES)}
        variables |= {"NPROC": str(cpus), "JAX_PLATFORMS": "" if gpus else "cpu"}
        as_task: Any = ray.remote(num_cpus=cpus, num_gpus=gpus, max_retries=0, runtime_env={"env_vars": variables})
        self._run = as_task(run)
        self._ray: Any = ray
        self._running: dict[Any, int] = {}
        self._began: set[int] = set()

    def has_room(self) -> bool:
        """Always true: Ray queues tasks."""
        return True

    def submit(self, number: int, text: str) -> None:
        """Submit a task."""
        self._running[self._run.remote(number, text, self._mailbox)] = number

    def wait(self, seconds: float) -> list[Message]:
        """All messages since the last call, and one for each task that was lost."""
        ended, _ = self._ray.wait(list(self._running), num_returns=1, timeout=min(seconds, POLL_SECONDS))
        try:  # after ray.wait: a task that has ended has sent all its messages
            messages: list[Message] = self._ray.get(self._mailbox.take.remote())
        except self._ray.exceptions.RayError as error:
            problem = f"the driver's own node failed ({one_line(error)})"
            raise MachineError("--on ray", problem, "run it again") from error
        self._began |= {number for kind, number, *_ in messages if kind == "began"}
        for reference in ended:
            number = self._running.pop(reference)
            messages += self._ending(reference, number)
        return [message for message in messages if message[0] != "began"]

    def stop(self, signal_number: int) -> None:
        """Ask all tasks to save and stop. Those that have not begun are cancelled."""
        self._ray.get(self._mailbox.stop.remote(signal_number))
        for reference, number in self._running.items():
            if number not in self._began:
                self._ray.cancel(reference)

    def close(self) -> None:
        """Kill all tasks."""
        for reference in self._running:
            self._ray.cancel(reference, force=True)
        self._ray.kill(self._mailbox)

    def _ending(self, reference: Any, number: int) -> list[Message]:
        """No message for a task that ended and has said so itself, else a message with the reason of its loss."""
        lost = self._ray.exceptions
        try:
            self._ray.get(reference)
        except lost.TaskCancelledError:
            return [("stopped", number, {})]
        except lost.RayTaskError as error:  # a worker catches everything itself, once it has aejax
            problem = f"a task did not start ({one_line(error.cause)})"
            raise MachineError("--on ray", problem, "install aejax on every node") from error
        except lost.RuntimeEnvSetupError as error:
            raise MachineError("--on ray", one_line(error), "fix the Ray installation of that node") from error
        except lost.OutOfMemoryError:
            return [("lost", number, "worker killed, its node out of memory", True)]
        except lost.NodeDiedError:
            return [("lost", number, "node lost", False)]
        except lost.RayError as error:
            blame = isinstance(error, lost.WorkerCrashedError)
            return [("lost", number, f"worker lost ({type(error).__name__})", blame)]
        return []
