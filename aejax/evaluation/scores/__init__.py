"""Scores: what `Sweep.scores` measures of a trained autoencoder in addition to its reconstruction error.

`scores.NAME(**options)` returns a score. Its numbers are stored in the row under `scores`, its arrays with the arrays
of the run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from aejax.evaluation.scores.axes import axes
from aejax.evaluation.scores.base import Comparison, Score, TrainedRun
from aejax.evaluation.scores.classification import classification
from aejax.evaluation.scores.contraction import contraction
from aejax.evaluation.scores.denoising import denoising
from aejax.evaluation.scores.density import density
from aejax.evaluation.scores.likelihood import likelihood
from aejax.evaluation.scores.retrieval import retrieval
from aejax.evaluation.scores.sparsity import sparsity

__all__ = [
    "SCORES",
    "Comparison",
    "Score",
    "TrainedRun",
    "axes",
    "classification",
    "contraction",
    "denoising",
    "density",
    "from_config",
    "likelihood",
    "retrieval",
    "sparsity",
]

SCORES: dict[str, Callable[..., Score]] = {
    "axes": axes,
    "contraction": contraction,
    "denoising": denoising,
    "classification": classification,
    "density": density,
    "likelihood": likelihood,
    "retrieval": retrieval,
    "sparsity": sparsity,
}
"""Every score by its name in stored configs."""


def from_config(config: Mapping[str, Any]) -> Score:
    """The score of a stored config, which holds `name` and the options: the inverse of `Score.config`."""
    options = {name: tuple(value) if isinstance(value, list) else value for name, value in config.items()}
    del options["name"]
    return SCORES[config["name"]](**options)
