"""Experiment files: plain Python files that define SWEEPS.

An experiment file is trusted code and is executed. aejax executes nothing else that it reads.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import sys
import traceback
from pathlib import Path
from types import CodeType

from aejax.config.sweep import Sweep
from aejax.runtime.errors import AejaxError, ConfigError
from aejax.storage import run_folders


def load(path: Path) -> tuple[str, list[Sweep]]:
    """(name, sweeps) of an experiment file. The name is the file's stem; it names the results folder.

    Raises ConfigError with file and line when the file is missing, fails to run, or has no usable SWEEPS.
    """
    if not path.is_file():
        raise ConfigError(str(path), "no such file", "give an experiment file, for example experiments/quickstart.py")
    if path.suffix != ".py":
        raise ConfigError(str(path), "not a .py file", "an experiment is a Python file that ends in SWEEPS")
    name = run_folders.check_name(path.stem, str(path))
    module_name = f"aejax_experiment_{name}"
    loader = _UncachedLoader(module_name, str(path.resolve()))
    spec = importlib.util.spec_from_loader(module_name, loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module  # dataclasses look up their own module there
    folder = str(path.resolve().parent)
    sys.path.insert(0, folder)  # the file can import its neighbours, as under `python FILE`
    try:
        loader.exec_module(module)
    except SyntaxError as error:
        is_experiment_file = error.filename == loader.path or error.lineno is None
        location = f"{path}:{error.lineno or 1}" if is_experiment_file else f"{error.filename}:{error.lineno}"
        raise ConfigError(location, f"SyntaxError: {error.msg}", "fix that line") from error
    except AejaxError as error:
        error.args = (f"{path}:{_line(error, loader.path)}: {error}",)
        raise
    except (Exception, SystemExit) as error:
        problem = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise ConfigError(f"{path}:{_line(error, loader.path)}", problem, "fix that line") from error
    finally:
        sys.path.remove(folder)
    sweeps = getattr(module, "SWEEPS", None)
    if sweeps is None:
        raise ConfigError(str(path), "has no SWEEPS", "end it in SWEEPS = [Sweep(...), ...]")
    if not isinstance(sweeps, list | tuple):
        raise ConfigError(f"{path}: SWEEPS", f"of type {type(sweeps).__name__}", "make it a list of Sweep")
    for i, sweep in enumerate(sweeps):
        if not isinstance(sweep, Sweep):
            raise ConfigError(f"{path}: SWEEPS[{i}]", f"of type {type(sweep).__name__}", "make it a Sweep")
    if not sweeps:
        raise ConfigError(f"{path}: SWEEPS", "empty: a sweep of zero runs", "put at least one Sweep in it")
    return name, list(sweeps)


class _UncachedLoader(importlib.machinery.SourceFileLoader):
    """Compiles the current source: it reads no cached byte code and writes none beside the user's file."""

    def get_code(self, fullname: str) -> CodeType:
        """The compiled source."""
        return self.source_to_code(self.get_data(self.path), self.path)


def _line(error: BaseException, filename: str) -> int:
    """The last line of the experiment file that the error passed through; 0 where there is none."""
    frames = traceback.extract_tb(error.__traceback__)
    return next((frame.lineno or 0 for frame in reversed(frames) if frame.filename == filename), 0)
