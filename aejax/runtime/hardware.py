"""The machine: its devices, threads and free memory."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import jax

from aejax.runtime.errors import MachineError

WORKERS_ON_HOST = "AEJAX_WORKERS_ON_HOST"
"""Environment variable that a worker pool sets: the number of its workers that share the memory of this host."""


def device_name() -> str:
    """Kind and number of the devices in use. Raises MachineError if the requested platform has no device."""
    try:
        devices = jax.devices()
    except (RuntimeError, AssertionError) as error:
        platform = os.environ.get("JAX_PLATFORMS") or "any"
        problem = f"{platform} asked for, no such device found"
        raise MachineError("JAX_PLATFORMS", problem, "unset JAX_PLATFORMS or set it to cpu") from error
    return f"{len(devices)} × {devices[0].device_kind}" if len(devices) > 1 else devices[0].device_kind


def thread_count(processes: int = 1) -> int:
    """Number of threads that XLA uses on a CPU in each of so many processes.

    It is NPROC if that is set (XLA reads it too), otherwise an equal share of the cores.
    """
    limit = os.environ.get("NPROC", "")
    threads = int(limit) if limit.isdigit() else 0
    return threads or max(1, len(os.sched_getaffinity(0)) // processes)


def use_one_device_per_core() -> None:
    """Give JAX one CPU device per core, so that the members of a population train in parallel.

    For programs that own their process; call it before JAX starts. Do nothing if the user has set the number of
    devices, or if JAX has already started.
    """
    is_set_by_flag = "xla_force_host_platform_device_count" in os.environ.get("XLA_FLAGS", "")
    if is_set_by_flag or jax.config.values["jax_num_cpu_devices"] > 0:
        return
    with contextlib.suppress(RuntimeError):
        jax.config.update("jax_num_cpu_devices", thread_count())


def free_bytes(device_count: int) -> int:
    """Free memory in bytes for each of `device_count` devices.

    It is the device's own memory, or its share of the host's memory if the device is a CPU or reports no limit.
    """
    device = jax.local_devices()[0]
    stats = device.memory_stats() if device.platform != "cpu" else None
    if stats and "bytes_limit" in stats:
        return int(stats["bytes_limit"] - stats.get("bytes_in_use", 0))
    sharing_devices = min(device_count, len(jax.local_devices()))
    sharing_processes = int(os.environ.get(WORKERS_ON_HOST, "1"))
    return _free_host_bytes() // (sharing_devices * sharing_processes)


def memory_map_usage() -> float:
    """The fraction of the allowed memory mappings that this process uses; 0 if the system does not report it.

    A compiled program uses hundreds of mappings, several for each of its kernels. Linux allows 65 530 for a process
    unless `vm.max_map_count` says otherwise. At the limit XLA aborts the process instead of raising an error.
    """
    limit = read_lines("/proc/sys/vm/max_map_count")
    try:
        count = Path("/proc/self/maps").read_bytes().count(b"\n")  # bytes: file names in it may have any encoding
    except OSError:
        return 0.0
    return count / int(limit[0]) if limit else 0.0


def _free_host_bytes() -> int:
    """Memory that this process may still allocate: the system's available memory, within its cgroup's limit."""
    free = [int(line.split()[1]) * 1024 for line in read_lines("/proc/meminfo") if line.startswith("MemAvailable:")]
    for limit_file, usage_file in (
        ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
        ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
    ):
        contents = (read_lines(limit_file), read_lines(usage_file))
        numbers = [int(lines[0]) for lines in contents if lines and lines[0].isdigit()]
        if len(numbers) == 2:
            limit, usage = numbers
            free.append(max(0, limit - usage))
    return min(free, default=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))


def read_lines(path: str) -> list[str]:
    """The lines of a text file; none if it cannot be read."""
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []
