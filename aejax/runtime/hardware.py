"""The machine: its devices and its free memory."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import jax

from aejax.runtime.errors import MachineError

PROCESSES_SHARING_MEMORY = "AEJAX_SHARERS"
"""Environment variable that a pool sets for its workers: how many of them share this host's memory."""


def device_name() -> str:
    """Kind and number of the devices in use. Raises MachineError when JAX finds none of the platform asked for."""
    try:
        devices = jax.devices()
    except (RuntimeError, AssertionError) as error:
        asked = os.environ.get("JAX_PLATFORMS") or "any"
        raise MachineError(
            "JAX_PLATFORMS", f"{asked} asked for, no such device found", "unset JAX_PLATFORMS or set it to cpu"
        ) from error
    return f"{len(devices)} × {devices[0].device_kind}" if len(devices) > 1 else devices[0].device_kind


def thread_count() -> int:
    """Threads that XLA computes with on a processor: NPROC where it is set, as XLA reads it, else the cores."""
    asked = os.environ.get("NPROC", "")
    return int(asked) if asked.isdigit() and int(asked) > 0 else len(os.sched_getaffinity(0))


def use_one_device_per_core() -> None:
    """One JAX device a core where JAX computes on the processor: members of a population then train side by side.

    For programs that own their process, before JAX starts. Where the user has said how many there are, or JAX has
    started already, nothing changes.
    """
    if (
        "xla_force_host_platform_device_count" in os.environ.get("XLA_FLAGS", "")
        or jax.config.values["jax_num_cpu_devices"] > 0
    ):
        return
    with contextlib.suppress(RuntimeError):
        jax.config.update("jax_num_cpu_devices", thread_count())


def free_bytes(devices: int) -> int:
    """Bytes that each of so many devices can still hold: of its own memory, or its share of the host's."""
    device = jax.local_devices()[0]
    stats = device.memory_stats() if device.platform != "cpu" else None
    if stats and "bytes_limit" in stats:
        return int(stats["bytes_limit"] - stats.get("bytes_in_use", 0))
    return _host_bytes() // (
        min(devices, len(jax.local_devices())) * int(os.environ.get(PROCESSES_SHARING_MEMORY, "1"))
    )


def memory_map_usage() -> float:
    """How much of the memory mappings that the system grants a process this one holds; 0 where it does not say.

    A compiled program takes hundreds of them, each of its kernels several. Linux grants 65 530 unless
    `vm.max_map_count` says otherwise, and where one more is refused XLA aborts the process instead of raising.
    """
    granted = _lines("/proc/sys/vm/max_map_count")
    try:
        held = Path("/proc/self/maps").read_bytes().count(b"\n")  # names of mapped files may be in any encoding
    except OSError:
        return 0.0
    return held / int(granted[0]) if granted else 0.0


def _host_bytes() -> int:
    """Memory that this process may still take: what the system has available, within the limit of its cgroup."""
    free = [int(line.split()[1]) * 1024 for line in _lines("/proc/meminfo") if line.startswith("MemAvailable:")]
    for limit, used in (
        ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
        ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
    ):
        numbers = [lines[0] for lines in (_lines(limit), _lines(used)) if lines and lines[0].isdigit()]
        if len(numbers) == 2:
            free.append(max(0, int(numbers[0]) - int(numbers[1])))
    return min(free, default=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []
