"""What does a learned coding give that PCA does not, on this data, at this cost?

Submodules are loaded when they are first used, so that `import aejax` starts nothing and waits for nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aejax import (
        classify,
        compare,
        datasets,
        greedy,
        nets,
        optimisers,
        pca,
        penalties,
        points,
        population,
        program,
        report,
        results,
        schedules,
        scores,
        sweep,
        train,
        variants,
    )
    from aejax.sweep import Sweep

__version__ = "0.1.0"

__all__ = [
    "Sweep",
    "classify",
    "compare",
    "datasets",
    "greedy",
    "nets",
    "optimisers",
    "pca",
    "penalties",
    "points",
    "population",
    "program",
    "report",
    "results",
    "schedules",
    "scores",
    "sweep",
    "train",
    "variants",
]


def __getattr__(name: str) -> Any:
    if name == "Sweep":
        return importlib.import_module("aejax.sweep").Sweep
    if name in __all__:
        return importlib.import_module(f"aejax.{name}")
    raise AttributeError(f"module 'aejax' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
