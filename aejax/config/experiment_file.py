"""Experiment files: plain Python ending in SWEEPS. They are trusted code; nothing else aejax reads is run."""

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
    """(name, sweeps) of an experiment file; the name is the file's stem, and names the results folder.

    Raises ConfigError with file and line when the file is missing, does not run, or has no usable SWEEPS.
    """
    if not path.is_file():
        raise ConfigError(str(path), "no such file", "give an experiment file, for example experiments/quickstart.py")
    if path.suffix != ".py":
        raise ConfigError(str(path), "not a .py file", "an experiment is a Python file that ends in SWEEPS")
    name = run_folders.check_name(path.stem, str(path))
    module_name = f"aejax_experiment_{name}"
    loader = _Fresh(module_name, str(path.resolve()))
    spec = importlib.util.spec_from_loader(module_name, loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module  # as an import would: dataclasses look themselves up there
    sys.path.insert(0, str(path.resolve().parent))  # as `python FILE` would: files beside it can be imported
    try:
        loader.exec_module(module)
    except SyntaxError as error:
        same = error.filename == loader.path or error.lineno is None
        where = f"{path}:{error.lineno or 1}" if same else f"{error.filename}:{error.lineno}"
        raise ConfigError(where, f"SyntaxError: {error.msg}", "mend that line") from error
    except AejaxError as error:
        error.args = (f"{path}:{_line(error, loader.path)}: {error}",)
        raise
    except (Exception, SystemExit) as error:
        found = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise ConfigError(f"{path}:{_line(error, loader.path)}", found, "mend that line") from error
    finally:
        sys.path.remove(str(path.resolve().parent))
    sweeps = getattr(module, "SWEEPS", None)
    if sweeps is None:
        raise ConfigError(str(path), "has no SWEEPS", "end it in SWEEPS = [Sweep(...), ...]")
    if not isinstance(sweeps, list | tuple) or not all(isinstance(sweep, Sweep) for sweep in sweeps):
        raise ConfigError(
            f"{path}: SWEEPS", f"holds something else than Sweep ({type(sweeps).__name__})", "make it a list of Sweep"
        )
    if not sweeps:
        raise ConfigError(f"{path}: SWEEPS", "empty: a sweep of zero runs", "put at least one Sweep in it")
    return name, list(sweeps)


class _Fresh(importlib.machinery.SourceFileLoader):
    """Compiles the file as it is now: no byte code is read, none is left beside a user's file."""

    def get_code(self, fullname: str) -> CodeType:
        """Code of the source."""
        return self.source_to_code(self.get_data(self.path), self.path)


def _line(error: BaseException, filename: str) -> int:
    """The last line of the experiment file itself that the error passed through."""
    frames = traceback.extract_tb(error.__traceback__)
    return next((frame.lineno or 0 for frame in reversed(frames) if frame.filename == filename), 0)
