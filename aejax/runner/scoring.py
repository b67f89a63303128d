"""One finished fit to one row: its numbers beside PCA's, and the arrays that figures need."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from aejax import datasets
from aejax.config.sweep import Sweep
from aejax.evaluation import artifacts, diagnostics, reconstruction
from aejax.evaluation.scores.base import TrainedRun
from aejax.runtime.errors import AejaxError
from aejax.storage import provenance
from aejax.training import greedy, train
from aejax.training.train import Fit

ScoredRun = tuple[dict[str, Any], dict[str, Any], dict[str, np.ndarray]]
"""Row, parameters and arrays of a run."""


def empty_row(
    one: Sweep, seed: int, hyper: dict[str, float], dataset: datasets.Dataset, ruler: reconstruction.PCAReference
) -> dict[str, Any]:
    """The row of a run of which nothing is known yet but what was asked for: status "failed", every number None."""
    return {
        "label": one.name,
        "dataset": one.dataset,
        "variant": one.config()["variant"],
        "tied": one.tied,
        "widths": list(one.widths_of(hyper)),
        "codings": one.codings_of(hyper),
        "seed": seed,
        "hyper": hyper,
        "status": "failed",
        "reason": None,
        "bad_step": None,
        "epochs": one.epochs,
        **dict.fromkeys(
            ("best_epoch", "sse_validation", "sse_test", "mse_test", "r2_test", "pca_sse_test", "sse_ratio"),
        ),
        **dict.fromkeys(("pca_equivalent_dimension", "principal_angle_max_deg", "compile_seconds", "train_seconds")),
        "pca_seconds": ruler.seconds,
        "config": one.config(),
        "data": _describe(dataset, ruler),
        "provenance": provenance.describe(one.precision, dataset.fingerprint),
    }


def failed_run(
    one: Sweep,
    seed: int,
    hyper: dict[str, float],
    dataset: datasets.Dataset,
    ruler: reconstruction.PCAReference,
    error: Exception,
) -> ScoredRun:
    """What is stored of a run that could not be trained or scored: why."""
    reason = f"{type(error).__name__}: {' '.join(str(error).split())[:500]}"
    return {**empty_row(one, seed, hyper, dataset, ruler), "reason": reason}, {}, _frame(dataset, ruler)


def score_run(
    one: Sweep,
    seed: int,
    hyper: dict[str, float],
    dataset: datasets.Dataset,
    ruler: reconstruction.PCAReference,
    fitted: Fit,
    check: Callable[[], None] = lambda: None,
) -> ScoredRun:
    """Row, parameters and arrays of a fit. One that diverged, or cannot be scored, gives a row that says why.

    `check` is called now and then by scores that take long, and may raise Interrupted.
    """
    row, arrays = empty_row(one, seed, hyper, dataset, ruler), _frame(dataset, ruler)
    row |= {name: getattr(fitted, name) for name in ("status", "bad_step", "compile_seconds", "train_seconds")}
    arrays |= {f"history/{name}": line for name, line in fitted.history.items()}
    if fitted.status != "completed":
        epochs, where = len(fitted.history["train_loss"]), ""
        if fitted.bad_step is not None:
            where = f"loss not finite from step {fitted.bad_step} on, in epoch {epochs}"
        if one.pretraining is not None and greedy.diverged(fitted):
            where = "a phase of its pretraining diverged"
        return {**row, "reason": where or "validation error never finite"}, {}, arrays
    others = {name: value for name, value in hyper.items() if name != "codings"}
    own = dataclasses.replace(one, widths=one.widths_of(hyper), hyper=others, seeds=(seed,))
    autoencoder, codings = own.build(dataset.inputs, dataset.image_shape), own.codings
    if one.keep == "last":
        fitted = fitted.last(autoencoder.criterion)
    try:
        z_nk, _, error_n = reconstruction.reconstruct(autoencoder, fitted.params, dataset.x_test, unit=dataset.unit)
        sse = float(error_n.astype(np.float64).mean())
        given = {"codings": codings, "linear": own.linear, "sse_test": sse}
        numbers = reconstruction.score(autoencoder, fitted.params, dataset, ruler, **given)
        numbers["sse_validation"] = reconstruction.sse(
            autoencoder, fitted.params, dataset.x_validation, unit=dataset.unit
        )
        measured: dict[str, float | None] = {}
        score_seconds: dict[str, float] = {}
        trained = TrainedRun(autoencoder, fitted.params, others, dataset, ruler, codings, train.make_key(seed), check)
        for measure in one.scores:
            start = time.perf_counter()
            found, more = measure(trained)
            score_seconds[measure.name] = score_seconds.get(measure.name, 0.0) + time.perf_counter() - start
            measured |= found
            arrays |= more
        every = {**numbers, **measured}
        wrong = [name for name, value in every.items() if value is not None and not np.isfinite(value)]
        if wrong:
            return {**row, "status": "failed", "reason": f"{', '.join(wrong)} not finite"}, {}, arrays
        prior = autoencoder.generative is not None
        numbers["health"] = diagnostics.examine(z_nk, ruler.curve, numbers["sse_test"], prior=prior)
        arrays |= artifacts.collect(trained, z_nk, arrays)
    except AejaxError:
        raise
    except Exception as error:
        return failed_run(one, seed, hyper, dataset, ruler, error)
    numbers |= {"best_epoch": fitted.best_epoch + 1}
    if one.scores:
        numbers |= {"scores": measured, "score_seconds": score_seconds}
    if autoencoder.criterion != "error":
        numbers["criterion"], numbers["criterion_validation"] = autoencoder.criterion, fitted.best_error
    return row | numbers, jax.tree.map(np.asarray, fitted.params), arrays


def _frame(dataset: datasets.Dataset, ruler: reconstruction.PCAReference) -> dict[str, np.ndarray]:
    return {
        "pca_curve": ruler.curve,
        "scaling/offset": np.atleast_1d(dataset.scaling.offset_d),
        "scaling/scale": np.atleast_1d(dataset.scaling.scale_d),
    }


def _describe(dataset: datasets.Dataset, ruler: reconstruction.PCAReference) -> dict[str, Any]:
    return {
        "train_rows": len(dataset.x_train),
        "validation_rows": len(dataset.x_validation),
        "test_rows": len(dataset.x_test),
        "inputs": dataset.inputs,
        "image_shape": None if dataset.image_shape is None else list(dataset.image_shape),
        "unit": dataset.unit,
        "constant_columns": dataset.scaling.constant or int((dataset.x_train == dataset.x_train[:1]).all(axis=0).sum()),
        "pca_rank": ruler.params.rank,
        "pca_rows": ruler.params.rows,
        "mean_sse_test": float(ruler.curve[0]),
    }
