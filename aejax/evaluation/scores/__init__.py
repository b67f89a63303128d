"""Scores: what `Sweep.scores` measures of a trained autoencoder in addition to its reconstruction error.

`scores.NAME(**options)` returns a score. Its numbers are stored in the row under `scores`, its arrays with the arrays
of the run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

# `as` tells type checkers that the name is public here
from aejax.evaluation.scores.axes import axes as axes
from aejax.evaluation.scores.base import Comparison as Comparison
from aejax.evaluation.scores.base import Score as Score
from aejax.evaluation.scores.base import TrainedRun as TrainedRun
from aejax.evaluation.scores.classification import classification as classification
from aejax.evaluation.scores.contraction import contraction as contraction
from aejax.evaluation.scores.denoising import denoising as denoising
from aejax.evaluation.scores.density import density as density
from aejax.evaluation.scores.likelihood import likelihood as likelihood
from aejax.evaluation.scores.retrieval import retrieval as retrieval
from aejax.evaluation.scores.sparsity import sparsity as sparsity

SCORES: dict[str, Callable[..., Score]] = {
    score.__name__: score
    for score in (axes, contraction, denoising, classification, density, likelihood, retrieval, sparsity)
}
"""Every score by its name in stored configs."""


def from_config(config: Mapping[str, Any]) -> Score:
    """The score of a stored config, which holds `name` and the options: the inverse of `Score.config`."""
    options = {name: tuple(value) if isinstance(value, list) else value for name, value in config.items()}
    del options["name"]
    return SCORES[config["name"]](**options)
