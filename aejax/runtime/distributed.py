"""What several processes of one job agree on. With one process every function gives back what it was given.

Processes run the same program in the same order; what one of them alone decides (a clock, a signal, a file) has to be
agreed on before it changes what is run next. Only the first process writes.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from aejax.runtime.errors import ConfigError, MachineError
from aejax.runtime.signals import Interrupted


def join(coordinator: str | None, processes: int | None, process: int | None) -> None:
    """Join the other processes of the job; nothing without a coordinator. Before JAX starts.

    Raises ConfigError on numbers that do not belong together, MachineError when the coordinator is not reached.
    """
    if coordinator is None and processes is None and process is None:
        return
    if coordinator is None or processes is None or process is None:
        raise ConfigError(
            "--coordinator", "given in part", "give --coordinator HOST:PORT, --processes N and --process I"
        )
    if not 0 <= process < processes:
        raise ConfigError("--process", f"{process} of {processes}", f"give a number from 0 to {processes - 1}")
    host, separator, port = coordinator.rpartition(":")
    if not (separator and host and port.isdigit()):
        raise ConfigError("--coordinator", repr(coordinator), "write HOST:PORT, for example 127.0.0.1:7777")
    try:
        jax.distributed.initialize(coordinator, processes, process)
    except RuntimeError as error:
        found = " ".join(str(error).split())[:200]
        raise MachineError("--coordinator", found, "start every process with the same address") from error


def is_distributed() -> bool:
    """Whether this job has more than one process."""
    return jax.process_count() > 1


def is_first_process() -> bool:
    """Whether this is the process that writes."""
    return jax.process_index() == 0


def max_over_processes(value: int) -> int:
    """The largest of what each process has."""
    if not is_distributed():
        return value
    from jax.experimental import multihost_utils

    return int(np.max(multihost_utils.process_allgather(np.asarray(value, np.int32))))


def check_all_processes(look: Callable[[], None]) -> None:
    """Call `look`, and raise Interrupted on every process where it does on one."""
    stop = None
    try:
        look()
    except Interrupted as asked:
        stop = asked
    number = max_over_processes(0 if stop is None else stop.number)
    if number:
        raise stop or Interrupted(number)


def min_bytes_over_processes(count: int) -> int:
    """The least of what each process has, in bytes rounded down to whole megabytes where there are several."""
    return -max_over_processes(-(count >> 20)) << 20 if is_distributed() else count


def broadcast_arrays(tree: Any) -> Any:
    """The first process's arrays, on every process; the others give arrays of the same shapes."""
    if not is_distributed():
        return tree
    from jax.experimental import multihost_utils

    return jax.tree.map(np.asarray, multihost_utils.broadcast_one_to_all(tree))


def gather_to_host(tree: Any) -> Any:
    """Whole arrays on this host, of arrays that lie on the devices of all processes."""
    if not is_distributed():
        return jax.tree.map(np.asarray, tree)
    from jax.experimental import multihost_utils

    return jax.tree.map(np.asarray, multihost_utils.process_allgather(tree, tiled=True))


def place_on_devices(array: Any, sharding: jax.sharding.Sharding | None) -> jax.Array:
    """An array that every process holds, on the devices of all of them; on the default device without a sharding."""
    if sharding is None:
        return jax.numpy.asarray(array)
    held = np.asarray(array)
    return jax.make_array_from_callback(held.shape, sharding, lambda index: held[index])


def broadcast_json(value: Any) -> Any:
    """The first process's JSON value, on every process."""
    if not is_distributed():
        return value
    text = np.frombuffer(json.dumps(value, allow_nan=False).encode(), np.uint8)
    length = int(broadcast_arrays(np.asarray(len(text), np.int32)))
    mine = np.resize(text, length) if len(text) else np.zeros(length, np.uint8)
    return json.loads(broadcast_arrays(mine).astype(np.uint8).tobytes())
