"""Communication between the processes of one `jax.distributed` job.

All processes run the same program in the same order. A value that only one process knows (a clock reading, a signal,
the content of a file) must be shared before it decides which computation runs next. Only the first process writes
files. In a job of one process, every function returns its argument.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from aejax.runtime.errors import ConfigError, MachineError, one_line
from aejax.runtime.signals import Interrupted


def join(coordinator: str | None, process_count: int | None, process_index: int | None) -> None:
    """Join the other processes of the job. Do nothing when all arguments are None. Call it before JAX starts.

    Raises ConfigError when the arguments are incomplete or contradict each other, MachineError when the coordinator
    cannot be reached.
    """
    if coordinator is None and process_count is None and process_index is None:
        return
    if coordinator is None or process_count is None or process_index is None:
        fix = "give --coordinator HOST:PORT, --processes N and --process I"
        raise ConfigError("--coordinator", "given in part", fix)
    if not 0 <= process_index < process_count:
        fix = f"give a number from 0 to {process_count - 1}"
        raise ConfigError("--process", f"{process_index} of {process_count}", fix)
    host, separator, port = coordinator.rpartition(":")
    if not (separator and host and port.isdigit()):
        raise ConfigError("--coordinator", repr(coordinator), "write HOST:PORT, for example 127.0.0.1:7777")
    try:
        jax.distributed.initialize(coordinator, process_count, process_index)
    except RuntimeError as error:
        raise MachineError("--coordinator", one_line(error), "start every process with the same address") from error


def is_distributed() -> bool:
    """Whether this job has more than one process."""
    return jax.process_count() > 1


def is_first_process() -> bool:
    """Whether this is the process that writes files."""
    return jax.process_index() == 0


def max_over_processes(value: int) -> int:
    """The maximum of the values of all processes."""
    if not is_distributed():
        return value
    return int(np.max(multihost_utils.process_allgather(np.asarray(value, np.int32))))


def check_all_processes(check: Callable[[], None]) -> None:
    """Call `check` on every process. If it raises Interrupted on any process, raise Interrupted on all of them."""
    interrupted = None
    try:
        check()
    except Interrupted as error:
        interrupted = error
    number = max_over_processes(0 if interrupted is None else interrupted.number)
    if number:
        raise interrupted or Interrupted(number)


def min_bytes_over_processes(count: int) -> int:
    """The minimum over all processes of a number of bytes, rounded down to MiB if there are several processes."""
    return -max_over_processes(-(count >> 20)) << 20 if is_distributed() else count


def broadcast_arrays(tree: Any) -> Any:
    """The arrays of the first process, on every process. The other processes pass arrays of the same shapes."""
    if not is_distributed():
        return tree
    return jax.tree.map(np.asarray, multihost_utils.broadcast_one_to_all(tree))


def gather_to_host(tree: Any) -> Any:
    """Complete NumPy arrays on this host, from arrays that are sharded over the devices of all processes."""
    if not is_distributed():
        return jax.tree.map(np.asarray, tree)
    return jax.tree.map(np.asarray, multihost_utils.process_allgather(tree, tiled=True))


def place_on_devices(array: Any, sharding: jax.sharding.Sharding | None) -> jax.Array:
    """Place an array that every process has on the devices of `sharding`, or on the default device without one."""
    if sharding is None:
        return jax.numpy.asarray(array)
    host_array = np.asarray(array)
    return jax.make_array_from_callback(host_array.shape, sharding, lambda index: host_array[index])


def broadcast_json(value: Any) -> Any:
    """The JSON value of the first process, on every process."""
    if not is_distributed():
        return value
    text = np.frombuffer(json.dumps(value, allow_nan=False).encode(), np.uint8)
    length = int(broadcast_arrays(np.asarray(len(text), np.int32)))
    return json.loads(broadcast_arrays(np.resize(text, length)).astype(np.uint8).tobytes())
