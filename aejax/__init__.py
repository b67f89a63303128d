"""Autoencoders in JAX as pure functions, every one of them compared with PCA.

What users import from here:

* `Sweep`: one compiled program's worth of runs in an experiment file; `points` makes its hyper-parameter settings.
* `fit`, `fit_population`: train one autoencoder, or many in one program; they return `Fit`, the trained parameters.
* `score`: the test error of a trained autoencoder beside exact PCA's; `pca`: exact PCA with `encode` and `decode`.
* `datasets`: named sets, files and arrays as `Dataset`, rows split into train, validation and test.
* `nets`: `Net`, pure functions from inputs to codings and back: `mlp`, `conv`, `recurrent`, `tied`.
* `variants`: `Autoencoder`, one function for each loss: `plain`, `denoising`, `variational`, …; `penalties`: its terms.
* `schedules`, `optimisers`: how the learning rate changes, and what takes the steps.
* `scores`: what a run is measured on besides its error.
* `greedy`, `classify`: pretraining layer by layer, and classifiers that begin with a trained encoder.
* `load`: a stored run, with `encode` and `decode` for raw rows, its `row` and its parameters.
* `AejaxError` and its kinds `ConfigError`, `DataError`, `ResultsError`, `MachineError`.

Everything else is private and may move. Names are loaded when they are first used: `import aejax` loads no JAX, changes
no JAX setting and starts no device.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aejax import datasets, nets, variants
    from aejax.config import points
    from aejax.config.sweep import Sweep
    from aejax.datasets import Dataset
    from aejax.evaluation import pca, scores
    from aejax.evaluation.reconstruction import score
    from aejax.inference.stored_run import load
    from aejax.nets import Net
    from aejax.runtime.errors import AejaxError, ConfigError, DataError, MachineError, ResultsError
    from aejax.training import classifier as classify
    from aejax.training import greedy, optimisers, schedules
    from aejax.training.loop import Fit
    from aejax.training.train import fit, fit_population
    from aejax.variants import Autoencoder, penalties

__version__ = "0.1.0"

__all__ = ["AejaxError", "ConfigError", "DataError", "MachineError", "ResultsError"]
__all__ += ["Autoencoder", "Dataset", "Fit", "Net", "Sweep"]
__all__ += ["fit", "fit_population", "load", "score"]
__all__ += ["classify", "datasets", "greedy", "nets", "optimisers"]
__all__ += ["pca", "penalties", "points", "schedules", "scores", "variants"]

_MODULES = {
    "classify": "aejax.training.classifier",
    "datasets": "aejax.datasets",
    "greedy": "aejax.training.greedy",
    "nets": "aejax.nets",
    "optimisers": "aejax.training.optimisers",
    "pca": "aejax.evaluation.pca",
    "penalties": "aejax.variants.penalties",
    "points": "aejax.config.points",
    "schedules": "aejax.training.schedules",
    "scores": "aejax.evaluation.scores",
    "variants": "aejax.variants",
}
_MEMBERS = {
    "aejax.config.sweep": ("Sweep",),
    "aejax.datasets": ("Dataset",),
    "aejax.evaluation.reconstruction": ("score",),
    "aejax.inference.stored_run": ("load",),
    "aejax.nets": ("Net",),
    "aejax.runtime.errors": ("AejaxError", "ConfigError", "DataError", "MachineError", "ResultsError"),
    "aejax.training.loop": ("Fit",),
    "aejax.training.train": ("fit", "fit_population"),
    "aejax.variants": ("Autoencoder",),
}


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(_MODULES[name])
    for module, members in _MEMBERS.items():
        if name in members:
            return getattr(importlib.import_module(module), name)
    raise AttributeError(f"module 'aejax' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
