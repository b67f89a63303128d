"""What else is measured of a trained autoencoder, beside its error: one function each, asked for in `Sweep.scores`.

A score is made by a function here, `scores.NAME(**options)`; its numbers stand in the row under `scores`, its arrays
among the run's.
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
"""Every score by its name, as stored runs name it."""


def from_config(config: Mapping[str, Any]) -> Score:
    """The score that a config tells: `name` and its options."""
    options = {name: tuple(value) if isinstance(value, list) else value for name, value in config.items()}
    del options["name"]
    return SCORES[config["name"]](**options)
