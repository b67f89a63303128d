"""Experiment files: plain Python ending in SWEEPS. They are trusted code; nothing else aejax reads is run."""

from __future__ import annotations

import importlib.util
import traceback
from pathlib import Path

from aejax import results
from aejax.errors import AejaxError, ConfigError
from aejax.sweep import Sweep


def load(path: Path) -> tuple[str, list[Sweep]]:
    """(name, sweeps) of an experiment file; the name is the file's stem, and names the results folder.

    Raises ConfigError with file and line when the file is missing, does not run, or has no usable SWEEPS.
    """
    if not path.is_file():
        raise ConfigError(str(path), "no such file", "give an experiment file, for example experiments/quickstart.py")
    if path.suffix != ".py":
        raise ConfigError(str(path), "not a .py file", "an experiment is a Python file that ends in SWEEPS")
    name = results.check_name(path.stem, str(path))
    spec = importlib.util.spec_from_file_location(f"aejax_experiment_{name}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except SyntaxError as error:
        raise ConfigError(f"{path}:{error.lineno}", f"SyntaxError: {error.msg}", "mend that line") from error
    except AejaxError as error:
        error.args = (f"{path}:{_line(error, path)}: {error}",)
        raise
    except (Exception, SystemExit) as error:
        found = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise ConfigError(f"{path}:{_line(error, path)}", found, "mend that line") from error
    sweeps = getattr(module, "SWEEPS", None)
    if sweeps is None:
        raise ConfigError(str(path), "has no SWEEPS", "end it in SWEEPS = [Sweep(...), ...]")
    if not isinstance(sweeps, list | tuple) or not all(isinstance(sweep, Sweep) for sweep in sweeps):
        raise ConfigError(f"{path}: SWEEPS", f"a {type(sweeps).__name__} of other things", "make it a list of Sweep")
    if not sweeps:
        raise ConfigError(f"{path}: SWEEPS", "empty: a sweep of zero runs", "put at least one Sweep in it")
    return name, list(sweeps)


def _line(error: BaseException, path: Path) -> int:
    """The last line of the experiment file itself that the error passed through."""
    frames = traceback.extract_tb(error.__traceback__)
    return next((frame.lineno or 0 for frame in reversed(frames) if frame.filename == str(path)), 0)
