"""Small data and small tools that several tests share."""

from __future__ import annotations

import contextlib
import functools
import json
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from aejax import cli
from aejax.datasets.base import Dataset, Scaling, fingerprint
from aejax.runtime.signals import Interrupted
from aejax.storage import run_folders
from aejax.training import population

TINY = """
from aejax import Sweep
HYPER = {"learning_rate": 0.01, "l2": 0.0}
SWEEPS = [
    Sweep(dataset="digits", widths=(6, 2), epochs=2, batch_size=128, hyper=HYPER, seeds=(0, 1)),
    Sweep(dataset="digits", widths=(3,), epochs=2, batch_size=128, hyper=HYPER),
]
"""
SWEEP = """
from aejax import Sweep
COMMON = {"dataset": "digits", "epochs": 3, "batch_size": 50, "seeds": (0, 1, 2)}
SWEEPS = [
    Sweep(**COMMON, widths=(12, 4), hyper={"learning_rate": (0.01, 1e30), "l2": 0.0, "codings": (2, 4)}),
    Sweep(**COMMON, widths=(3,), hyper={"learning_rate": 0.01, "l2": 0.0}),
]
"""


QUICK_OPTION = "xla_cpu_use_fusion_emitters"
"""XLA compiles a small program much faster with this option off."""


def write_record(record: Mapping[str, Any], folder: Path | None, name: str) -> None:
    """Print what a script measured, and write it to NAME.json in a folder where there is one."""
    text = json.dumps(record, indent=1, allow_nan=False)
    print(text)
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.json").write_text(text + "\n")


def same(a, b):
    """Whether two trees hold the same arrays, bit for bit."""
    return jax.tree.all(jax.tree.map(lambda x, y: np.asarray(x).tobytes() == np.asarray(y).tobytes(), a, b))


def identical(a, b):
    """Whether two fits have the same numbers, bit for bit."""
    return same((a.params, a.last_params, a.history), (b.params, b.last_params, b.history)) and (
        a.best_epoch,
        a.best_error,
        a.bad_step,
        a.status,
    ) == (b.best_epoch, b.best_error, b.bad_step, b.status)


class Memory:
    """Keeps the last state in memory; `every` asks for one after every chunk."""

    def __init__(self, every=True):
        self.steps = []
        self.every = every
        self.kept: Any = None

    def load(self):
        return self.kept

    def due(self, unsaved_seconds):
        return self.every

    def save(self, step, arrays, seconds):
        self.kept = ({name: np.array(array) for name, array in arrays().items()}, seconds)
        self.steps.append(step)


def stop_at(step):
    """A report that interrupts a fit after the first chunk that ends at this step or later."""

    def report(progress):
        if progress.step >= step:
            raise Interrupted(2)

    return report


class Killed(BaseException):
    """Nothing catches it: as good as SIGKILL to whatever is stored afterwards."""


def small_dataset(rows: int = 72, inputs: int = 12, seed: int = 0, unit: float = 255.0) -> Dataset:
    """Byte rows near a curved two-dimensional sheet; half of `rows` again as validation, and as many as test."""
    rng = np.random.default_rng(seed)
    weights = rng.normal(size=(2, inputs))

    def draw(n: int) -> np.ndarray:
        sheet = np.sin(rng.uniform(-2, 2, (n, 2)) @ weights) * 0.45 + 0.5 + rng.normal(size=(n, inputs)) * 0.01
        return np.clip(sheet * unit, 0, unit).astype(np.uint8)

    x = {"x_train": draw(rows), "x_validation": draw(rows // 2), "x_test": draw(rows)}
    y = {name.replace("x", "y", 1): (np.arange(len(array)) % 3).astype(np.int64) for name, array in x.items()}
    scaling = Scaling(np.zeros(1), np.full(1, unit))
    return Dataset(
        name="small",
        **x,
        **y,
        image_shape=None,
        scaling=scaling,
        unit=unit,
        fingerprint=fingerprint({**x, **y}, None, scaling),
    )


@contextlib.contextmanager
def compiles() -> Iterator[Callable[[], int]]:
    """Counts the programs that XLA compiles inside the block."""
    count = 0
    listening = True  # a listener cannot be taken away in every version of JAX: it falls silent instead

    def listen(event: str, *_: object, **__: object) -> None:
        nonlocal count
        count += listening and event == "/jax/core/compile/backend_compile_duration"

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield lambda: count
    finally:
        listening = False


@functools.cache
def quick_options() -> dict[str, Any]:
    """Those `compiler_options` with which XLA compiles small programs quickly that it knows."""
    options = {QUICK_OPTION: False}
    try:
        jax.jit(lambda x: x + 1, compiler_options=options)(0.0)
    except jax.errors.JaxRuntimeError:  # an XLA that has no such option: it takes longer
        return {}
    return options


@contextlib.contextmanager
def quickly_compiled() -> Iterator[None]:
    """Programs that run for a moment are compiled in a third of the time, with other bits than a user's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(population, "_jit", functools.partial(population._jit, compiler_options=quick_options()))
        before = jax.config.read("jax_disable_most_optimizations")
        population.clear_compiled_programs()
        jax.config.update("jax_disable_most_optimizations", True)
        try:
            yield
        finally:
            jax.config.update("jax_disable_most_optimizations", before)
            population.clear_compiled_programs()


def rows_of(folder):
    return run_folders.read_index(folder)


def wait_for(condition, seconds=120):
    """What `condition()` gives once it gives something."""
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.02)
    return value


def check_refused(capsys, arguments, code, *parts):
    """The command ends with that code and one line on standard error that holds every part."""
    assert cli.main([str(argument) for argument in arguments]) == code
    captured = capsys.readouterr()
    lines = captured.err.splitlines()
    assert lines[-1].startswith("aejax: error: "), captured.err
    assert "Traceback" not in captured.err
    assert len(lines) == 1, captured.err
    for part in parts:
        assert str(part) in lines[-1]
