"""One finished fit to one row: its numbers beside PCA's, and the arrays that figures need."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from aejax.config.sweep import Sweep
from aejax.datasets import Dataset
from aejax.evaluation import artifacts, diagnostics, reconstruction
from aejax.evaluation.reconstruction import pca_reference
from aejax.evaluation.scores.base import TrainedRun
from aejax.runtime.errors import AejaxError, reason_of
from aejax.storage import provenance, run_folders
from aejax.training import greedy, train
from aejax.training.loop import Fit


class ScoredRun(NamedTuple):
    """Row, parameters and arrays of a run that has ended."""

    row: dict[str, Any]
    params: dict[str, Any]
    arrays: dict[str, np.ndarray]

    def named(self, experiment: str, run_id: str, execution: Mapping[str, Any] | None) -> ScoredRun:
        """The run as it is stored: its row begins with format, experiment and run id, and says how it was executed."""
        head = {"format": run_folders.FORMAT, "experiment": experiment, "run_id": run_id}
        return self._replace(row={**head, **self.row, "execution": execution})


def empty_row(sweep: Sweep, seed: int, hyper: Mapping[str, float], dataset: Dataset) -> dict[str, Any]:
    """The row of a run that has no numbers yet: what was asked for, status "failed", every number None."""
    return {
        "label": sweep.name,
        "dataset": sweep.dataset,
        "variant": sweep.config()["variant"],
        "tied": sweep.tied,
        "widths": list(sweep.widths_of(hyper)),
        "codings": sweep.codings_of(hyper),
        "seed": seed,
        "hyper": hyper,
        "status": "failed",
        "reason": None,
        "bad_step": None,
        "epochs": sweep.epochs,
        **dict.fromkeys(("best_epoch", "sse_validation", "sse_test", "mse_test", "r2_test", "pca_sse_test")),
        **dict.fromkeys(("sse_ratio", "pca_equivalent_dimension", "principal_angle_max_deg")),
        **dict.fromkeys(("compile_seconds", "train_seconds")),
        "pca_seconds": pca_reference(dataset).seconds,
        "config": sweep.config(),
        "data": _describe_data(dataset),
        "provenance": provenance.describe(sweep.precision, dataset.fingerprint),
    }


def failed_run(sweep: Sweep, seed: int, hyper: Mapping[str, float], dataset: Dataset, reason: str) -> ScoredRun:
    """A run that could not be trained or scored; its row holds the reason."""
    row = {**empty_row(sweep, seed, hyper, dataset), "reason": reason}
    return ScoredRun(row, {}, _data_arrays(dataset))


def score_run(
    sweep: Sweep,
    seed: int,
    hyper: Mapping[str, float],
    dataset: Dataset,
    fit: Fit,
    check_interrupt: Callable[[], None] = lambda: None,
) -> ScoredRun:
    """The scored run of a fit. A fit that diverged, or cannot be scored, gives a row with the reason.

    Scores that take long call `check_interrupt` now and then; it may raise Interrupted.
    """
    row = empty_row(sweep, seed, hyper, dataset)
    row |= {name: getattr(fit, name) for name in ("status", "bad_step", "compile_seconds", "train_seconds")}
    arrays = _data_arrays(dataset)
    arrays |= {f"history/{name}": values for name, values in fit.history.items()}
    if fit.status != "completed":
        return ScoredRun({**row, "reason": _why_diverged(sweep, fit)}, {}, arrays)
    loss_hyper = {name: value for name, value in hyper.items() if name != "codings"}
    run_sweep = dataclasses.replace(sweep, widths=sweep.widths_of(hyper), hyper=loss_hyper, seeds=(seed,))
    codings = run_sweep.codings
    autoencoder = run_sweep.build(dataset.inputs, dataset.image_shape)
    if sweep.keep == "last":
        fit = fit.last(autoencoder.criterion)
    key = train.make_key(seed)
    trained = TrainedRun(autoencoder, fit.params, loss_hyper, dataset, codings, key, check_interrupt)
    try:
        sse_test = float(trained.test_errors_n.astype(np.float64).mean())
        numbers = reconstruction.score(
            autoencoder, fit.params, dataset, codings=codings, linear=run_sweep.linear, sse_test=sse_test
        )
        numbers["sse_validation"] = reconstruction.sse(autoencoder, fit.params, dataset.x_validation, unit=dataset.unit)
        measured: dict[str, float | None] = {}
        score_seconds: dict[str, float] = {}
        for score in sweep.scores:
            start = time.perf_counter()
            score_numbers, score_arrays = score(trained)
            score_seconds[score.name] = score_seconds.get(score.name, 0.0) + time.perf_counter() - start
            measured |= score_numbers
            arrays |= score_arrays
        not_finite = [
            name for name, value in {**numbers, **measured}.items() if value is not None and not np.isfinite(value)
        ]
        if not_finite:
            reason = f"{', '.join(not_finite)} not finite"
            return ScoredRun({**row, "status": "failed", "reason": reason}, {}, arrays)
        numbers["health"] = diagnostics.examine(
            trained.test_codings_nk, trained.reference.curve, sse_test, prior=autoencoder.generative is not None
        )
        arrays |= artifacts.collect(trained, arrays)
    except AejaxError:
        raise
    except Exception as error:
        return failed_run(sweep, seed, hyper, dataset, reason_of(error))
    numbers["best_epoch"] = fit.best_epoch + 1
    if sweep.scores:
        numbers |= {"scores": measured, "score_seconds": score_seconds}
    if autoencoder.criterion != "error":
        numbers |= {"criterion": autoencoder.criterion, "criterion_validation": fit.best_error}
    return ScoredRun(row | numbers, jax.tree.map(np.asarray, fit.params), arrays)


def _why_diverged(sweep: Sweep, fit: Fit) -> str:
    if sweep.pretraining is not None and greedy.diverged(fit):
        return "a phase of its pretraining diverged"
    if fit.bad_step is None:
        return "validation error never finite"
    return f"loss not finite from step {fit.bad_step} on, in epoch {len(fit.history['train_loss'])}"


def _data_arrays(dataset: Dataset) -> dict[str, np.ndarray]:
    """The arrays that every run stores: PCA's error curve and the scaling of the data."""
    return {
        "pca_curve": pca_reference(dataset).curve,
        "scaling/offset": np.atleast_1d(dataset.scaling.offset_d),
        "scaling/scale": np.atleast_1d(dataset.scaling.scale_d),
    }


def _describe_data(dataset: Dataset) -> dict[str, Any]:
    reference = pca_reference(dataset)
    constant_columns = int((dataset.x_train == dataset.x_train[:1]).all(axis=0).sum())
    return {
        "train_rows": len(dataset.x_train),
        "validation_rows": len(dataset.x_validation),
        "test_rows": len(dataset.x_test),
        "inputs": dataset.inputs,
        "image_shape": None if dataset.image_shape is None else list(dataset.image_shape),
        "unit": dataset.unit,
        "constant_columns": dataset.scaling.constant or constant_columns,
        "pca_rank": reference.params.rank,
        "pca_rows": reference.params.rows,
        "mean_sse_test": float(reference.curve[0]),
    }
