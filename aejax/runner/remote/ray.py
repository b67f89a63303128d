"""Workers of a Ray cluster that is there already: a Ray task each, on whichever node has room.

Ray schedules, and says when a task or its node is lost; the driver tries again, so that rows sent before a loss are
kept. Messages go through a mailbox, an actor on the driver's node.
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
from aejax.runtime.errors import MachineError

SECONDS = 0.2
"""How often messages are asked for."""
CARRIED = ("JAX_", "XLA_", "TFDS_DATA_DIR")
"""How variables of the driver's environment begin that tasks get, too: numbers may depend on them."""


@dataclass(frozen=True)
class Ray:
    """Train on the Ray cluster at `address`, each program with so many of its CPUs and GPUs.

    "auto" is the cluster that `ray start` has started on this machine. `gpus` is 1 by default where JAX is on a GPU
    here, else 0; a task without one computes on the processor, with as many threads as it has CPUs.
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
        """In words, for people."""
        return f"Ray at {self.address}, NPROC={self.cpus} a program"

    @contextlib.contextmanager
    def open(self) -> Iterator[Tasks]:
        """The cluster, left as it was found. Raises MachineError when it cannot be reached."""
        self.check()
        import ray

        connected = ray.is_initialized()
        if not connected:
            _connect(self.address)
        gpus = self.gpus if self.gpus is not None else int(jax.default_backend() == "gpu")
        try:
            tasks = Tasks(self.cpus, gpus)
            try:
                yield tasks
            finally:
                tasks.close()
        finally:
            if not connected:
                ray.shutdown()


def _connect(address: str) -> None:
    import ray

    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.getsignal(number) for number in numbers}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what later versions of Ray will do
            ray.init(address=address, logging_level=logging.ERROR, log_to_driver=False)
    except (ConnectionError, RuntimeError, ValueError) as error:
        found = " ".join(str(error).split())[:200]
        fix = "start one with `ray start --head`, or give --ray-address HOST:PORT"
        raise MachineError("--on ray", f"no cluster reached at {address} ({found})", fix) from error
    finally:
        if threading.current_thread() is threading.main_thread():
            for number, handler in before.items():
                signal.signal(number, handler)  # ray.init puts its own there


class Mailbox:
    """What workers tell, until the driver takes it, and whether they are to stop."""

    def __init__(self) -> None:
        self._messages: list[Message] = []
        self._asked: int | None = None

    def put(self, message: Message) -> int | None:
        """Leave a message; returns `asked()`."""
        self._messages.append(message)
        return self._asked

    def take(self) -> list[Message]:
        """All messages, once."""
        messages, self._messages = self._messages, []
        return messages

    def stop(self, signal_number: int) -> None:
        """Workers are to stop."""
        self._asked = signal_number

    def asked(self) -> int | None:
        """The signal that the driver was stopped by."""
        return self._asked


def run(number: int, text: str, mailbox: Any) -> None:
    """A task, in a worker of Ray's."""
    import ray

    from aejax.runner.remote import worker

    known: list[Any] = [0.0, None]

    def post(kind: str, *values: Any) -> None:
        ray.get(mailbox.put.remote((kind, number, *values)))

    def asked() -> int | None:
        if time.monotonic() - known[0] > 1.0:
            known[:] = [time.monotonic(), ray.get(mailbox.asked.remote())]
        return known[1]

    post("began")
    worker.run_task(text, post, asked)


class Tasks:
    """Tasks of a cluster. Ray queues those that have no room yet; it is told all of them."""

    def __init__(self, cpus: int, gpus: int) -> None:
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        self._mailbox: Any = ray.remote(num_cpus=0, scheduling_strategy=here)(Mailbox).remote()  # pyright: ignore
        variables = {name: value for name, value in os.environ.items() if name.startswith(CARRIED)}
        variables |= {"NPROC": str(cpus), "JAX_PLATFORMS": "" if gpus else "cpu"}
        self._run: Any = ray.remote(num_cpus=cpus, num_gpus=gpus, max_retries=0, runtime_env={"env_vars": variables})(
            run
        )
        self._running: dict[Any, int] = {}
        self._began: set[int] = set()

    def has_room(self) -> bool:
        """Ray queues."""
        return True

    def submit(self, number: int, text: str) -> None:
        """Submit a task."""
        self._running[self._run.remote(number, text, self._mailbox)] = number

    def wait(self, seconds: float) -> list[Message]:
        """All messages, and the tasks that were lost."""
        import ray

        ended, _ = ray.wait(list(self._running), num_returns=1, timeout=min(seconds, SECONDS))
        messages = self._take()  # after that: an ended task has left all it had to say
        self._began |= {number for kind, number, *_ in messages if kind == "began"}
        for reference in ended:
            number = self._running.pop(reference)
            messages += _ending(reference, number)
        return [message for message in messages if message[0] != "began"]

    def stop(self, signal_number: int) -> None:
        """Ask all to save and stop; those that have not begun are taken back."""
        import ray

        ray.get(self._mailbox.stop.remote(signal_number))
        for reference, number in self._running.items():
            if number not in self._began:
                ray.cancel(reference)

    def close(self) -> None:
        """End all tasks, now."""
        import ray

        for reference in self._running:
            ray.cancel(reference, force=True)
        ray.kill(self._mailbox)

    def _take(self) -> list[Message]:
        import ray
        from ray.exceptions import RayError

        try:
            return ray.get(self._mailbox.take.remote())
        except RayError as error:
            found = " ".join(str(error).split())[:200]
            raise MachineError("--on ray", f"the driver's own node failed ({found})", "run it again") from error


def _ending(reference: Any, number: int) -> list[Message]:
    """Nothing for a task that ended and has said so itself; else how it was lost."""
    import ray
    from ray import exceptions as lost

    try:
        ray.get(reference)
    except lost.TaskCancelledError:
        return [("stopped", number, {})]
    except lost.RayTaskError as error:  # a worker catches everything itself, once it has aejax
        found = " ".join(str(error.cause).split())[:200]
        raise MachineError("--on ray", f"a task did not start ({found})", "install aejax on every node") from error
    except lost.RuntimeEnvSetupError as error:
        found = " ".join(str(error).split())[:200]
        raise MachineError("--on ray", found, "mend the node's Ray") from error
    except lost.OutOfMemoryError:
        return [("lost", number, "worker killed, its node out of memory", True)]
    except lost.NodeDiedError:
        return [("lost", number, "node lost", False)]
    except lost.RayError as error:
        blame = isinstance(error, lost.WorkerCrashedError)
        return [("lost", number, f"worker lost ({type(error).__name__})", blame)]
    return []
