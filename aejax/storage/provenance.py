"""Provenance of a result: versions, commit, device, precision, dataset and time."""

from __future__ import annotations

import functools
import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import jax

from aejax import __version__
from aejax.runtime import hardware


def describe(precision: str, data_fingerprint: str) -> dict[str, Any]:
    """The provenance of a run in this process, as a JSON object."""
    device = jax.devices()[0]
    return {
        "aejax": __version__,
        **{name: metadata.version(name) for name in ("jax", "jaxlib", "flax", "optax", "numpy")},
        "git_commit": _git_commit(),
        "python": platform.python_version(),
        "platform": device.platform,
        "device_kind": device.device_kind,
        "processor": _processor(),
        "instruction_set": _instruction_set(),
        "cores": os.cpu_count(),
        "threads": hardware.thread_count(),
        "devices": jax.device_count(),
        "processes": jax.process_count(),
        "precision": precision,
        "dataset_fingerprint": data_fingerprint,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }


@functools.cache
def _processor() -> str:
    """Model name of the host's CPU."""
    lines = hardware.read_lines("/proc/cpuinfo")
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()


@functools.cache
def _instruction_set() -> str:
    """The CPU's architecture and widest vector instructions. Other vector widths sum in another order."""
    flags = " ".join(hardware.read_lines("/proc/cpuinfo")).split()
    widest = next((name for name in ("avx512f", "avx2", "avx", "sve", "asimd") if name in flags), "")
    return f"{platform.machine()} {widest}".strip()


@functools.cache
def _git_commit() -> str | None:
    """Commit of the git checkout that aejax is imported from, or None outside a checkout.

    It ends in `+changes` when the source of the package differs from the commit.
    """
    package = Path(__file__).resolve().parents[1]

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(package), *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()

    try:
        if Path(git("rev-parse", "--show-toplevel")).resolve() != package.parent:
            return None
        return git("rev-parse", "HEAD") + ("+changes" if git("status", "--porcelain", "--", str(package)) else "")
    except (OSError, subprocess.SubprocessError):
        return None
