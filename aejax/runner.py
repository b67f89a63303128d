"""Run an experiment: data, reference PCA, every run of every sweep, rows and arrays on disk, report."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from aejax import compare, datasets, pca, provenance, results, sweep, train
from aejax.datasets.base import fingerprint
from aejax.errors import AejaxError, MachineError, ResultsError
from aejax.sweep import Sweep

SMOKE_ROWS = {"train": 256, "validation": 64, "test": 128}
EXAMPLES, MAP_ROWS, FEATURES = 10, 2000, 64


class Outcome(NamedTuple):
    """What a call of `execute` did: all rows of the folder, the ids of this call's runs, and those just trained."""

    folder: Path
    rows: list[dict[str, Any]]
    run_ids: list[str]
    trained: list[str]

    @property
    def failed(self) -> list[dict[str, Any]]:
        """Rows of this call that did not complete."""
        return [row for row in self.rows if row["run_id"] in self.run_ids and row["status"] != "completed"]


class Watcher:
    """Told what happens, in order; does nothing. The command line draws it."""

    def check(self) -> None:
        """Called between chunks and between runs, where nothing is half done: may raise to stop."""

    def start(self, runs: int, device: str) -> None:
        """Training is about to start."""

    def run(self, number: int, name: str) -> Callable[[train.Progress], None] | None:
        """Run `number` starts; returns what `fit` reports to."""

    def warn(self, text: str) -> None:
        """Something a person should know, that stops nothing."""

    def done(self, number: int, row: dict[str, Any], stored: bool) -> None:
        """Run `number` ended with this row; `stored` when it was found on disk."""


def execute(
    experiment: str,
    sweeps: Sequence[Sweep],
    *,
    root: Path,
    data_dir: Path | None = None,
    smoke: bool = False,
    again: bool = False,
    watcher: Watcher | None = None,
) -> Outcome:
    """Train what is missing of an experiment and rebuild its report in `root/experiment`.

    Configs are checked before data is read, data before anything compiles, the folder before anything is computed.
    Runs already stored are kept (`again` trains them anew). A run that fails is recorded and harms no other. `smoke`
    trains a small part of everything on some of the rows, into `root/experiment-smoke`.
    """
    watcher = watcher or Watcher()
    if smoke:
        sweeps, experiment = [one.smoke() for one in sweeps], f"{experiment}-smoke"
    sweep.check_all(sweeps)
    device = device_name()
    data = {(one.dataset, one.data_seed): one for one in sweeps}
    loaded = {key: _load(*key, data_dir, smoke) for key in data}
    for one in sweeps:
        one.check_data(loaded[one.dataset, one.data_seed])
    folder = results.open_folder(root, experiment)
    plan = [(one, seed, hyper) for one in sweeps for seed, hyper in one.runs()]
    watcher.start(len(plan), device)

    rulers: dict[tuple[str, int], compare.Reference] = {}
    run_ids, trained = [], []
    try:
        for number, (one, seed, hyper) in enumerate(plan):
            dataset = loaded[one.dataset, one.data_seed]
            identity = sweep.run_id(one.config(), hyper, seed, dataset.fingerprint)
            run_ids.append(identity)
            watcher.check()
            row = None if again else results.read_row(folder / "runs" / identity)
            stored = row is not None and row["status"] in ("completed", "diverged")
            if row is None or not stored:
                draw = watcher.run(number, f"{one.name} {one.codings}, seed {seed}")
                if (one.dataset, one.data_seed) not in rulers:
                    rulers[one.dataset, one.data_seed] = compare.reference(dataset)
                ruler = rulers[one.dataset, one.data_seed]
                if one.codings > ruler.params.rank:
                    rank = f"{one.dataset} has rank {ruler.params.rank}, below {one.codings} codings"
                    watcher.warn(f"{rank}: the reference PCA's further components are zero")

                def report_to(progress: train.Progress, draw: Callable | None = draw) -> None:
                    watcher.check()
                    if draw is not None:
                        draw(progress)

                row, params, arrays = train_one(one, seed, hyper, dataset, ruler, report_to)
                row = {"format": sweep.FORMAT, "experiment": experiment, "run_id": identity, **row}
                results.write_run(folder, row, params, arrays)
                trained.append(identity)
            watcher.done(number, row, stored)
    finally:
        rows = results.write_index(folder)
    from aejax import report

    report.write(folder, rows, lambda run_id: _arrays(folder, run_id))
    return Outcome(folder, rows, run_ids, trained)


def train_one(
    one: Sweep,
    seed: int,
    hyper: dict[str, float],
    dataset: datasets.Dataset,
    ruler: compare.Reference,
    report_to: Callable[[train.Progress], None] | None = None,
) -> tuple[dict[str, Any], dict[str, Any], dict[str, np.ndarray]]:
    """Row, parameters and arrays of one run. A run that cannot be trained gives a row that says why."""
    autoencoder = one.build(dataset.inputs)
    row: dict[str, Any] = {
        "label": one.name,
        "dataset": one.dataset,
        "variant": one.config()["variant"],
        "tied": one.tied,
        "widths": list(one.widths),
        "codings": one.codings,
        "seed": seed,
        "hyper": hyper,
        "status": "failed",
        "reason": None,
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
    arrays = {
        "pca_curve": ruler.curve,
        "scaling/offset": np.atleast_1d(dataset.scaling.offset_d),
        "scaling/scale": np.atleast_1d(dataset.scaling.scale_d),
    }
    try:
        fitted = train.fit(
            autoencoder,
            dataset,
            seed=seed,
            epochs=one.epochs,
            batch_size=one.batch_size,
            schedule=one.schedule,
            report=report_to,
            **hyper,  # pyright: ignore[reportArgumentType]  (names are checked to be hyper-parameters)
        )
        row |= {
            "status": fitted.status,
            "compile_seconds": fitted.compile_seconds,
            "train_seconds": fitted.train_seconds,
        }
        arrays |= {f"history/{name}": line for name, line in fitted.history.items()}
        if fitted.status != "completed":
            epoch = len(fitted.history["train_loss"])
            return {**row, "reason": f"loss or validation error not finite by epoch {epoch}"}, {}, arrays
        numbers = compare.score(autoencoder, fitted.params, dataset, ruler, codings=one.codings, linear=one.linear)
        numbers["sse_validation"] = compare.sse(autoencoder, fitted.params, dataset.x_validation, unit=dataset.unit)
        wrong = [name for name, value in numbers.items() if value is not None and not np.isfinite(value)]
        if wrong:
            return {**row, "status": "failed", "reason": f"{', '.join(wrong)} not finite"}, {}, arrays
        pictures = _pictures(autoencoder, fitted.params, dataset, ruler, one.codings)
    except AejaxError:
        raise
    except Exception as error:
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:500]}"
        return {**row, "status": "failed", "reason": reason}, {}, arrays
    row |= numbers | {"best_epoch": fitted.best_epoch + 1}
    return row, jax.tree.map(np.asarray, fitted.params), arrays | pictures


def device_name() -> str:
    """Kind and number of the devices in use. Raises MachineError when JAX finds none of the platform asked for."""
    try:
        devices = jax.devices()
    except (RuntimeError, AssertionError) as error:
        asked = os.environ.get("JAX_PLATFORMS") or "any"
        raise MachineError(
            "JAX_PLATFORMS", f"{asked} asked for, no such device found", "unset JAX_PLATFORMS or set it to cpu"
        ) from error
    return f"{len(devices)} × {devices[0].device_kind}" if len(devices) > 1 else devices[0].device_kind


def _load(name: str, data_seed: int, data_dir: Path | None, smoke: bool) -> datasets.Dataset:
    dataset = datasets.load(name, data_dir, data_seed)
    if not smoke:
        return dataset
    parts = {
        f"{kind}_{split}": None if (whole := getattr(dataset, f"{kind}_{split}")) is None else whole[:rows]
        for kind in ("x", "y")
        for split, rows in SMOKE_ROWS.items()
    }
    print_of_part = fingerprint(parts, dataset.image_shape, dataset.scaling)
    return dataclasses.replace(dataset, **parts, fingerprint=print_of_part)


def _describe(dataset: datasets.Dataset, ruler: compare.Reference) -> dict[str, Any]:
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


def _pictures(
    autoencoder: Any, params: Any, dataset: datasets.Dataset, ruler: compare.Reference, codings: int
) -> dict[str, np.ndarray]:
    """What the figures need of a run: examples and their reconstructions, 2-D codings, first-layer features."""
    labels = dataset.y_test
    chosen = range(min(EXAMPLES, len(dataset.x_test)))
    if labels is not None:
        chosen = np.unique(labels, return_index=True)[1][:EXAMPLES]
    rows = dataset.x_test[np.asarray(chosen)]
    original = dataset.floats(rows)
    first = pca.truncate(ruler.params, min(codings, ruler.params.rank))
    examples = {
        "original": original,
        "reconstruction": compare.reconstruct(autoencoder, params, rows, unit=dataset.unit)[1],
        "pca": np.asarray(pca.decode(first, pca.encode(first, jax.numpy.asarray(original)))),
    }
    arrays = {f"examples/{name}": _brightness(dataset, x_nd) for name, x_nd in examples.items()}
    arrays["features"] = np.asarray(params["encoder"]["layer_0"]["kernel"]).T[:FEATURES]
    if codings == 2 <= ruler.params.rank:
        some = dataset.x_test[:MAP_ROWS]
        arrays["codings/test"] = compare.reconstruct(autoencoder, params, some, unit=dataset.unit)[0]
        arrays["codings/pca"] = np.asarray(pca.encode(first, jax.numpy.asarray(dataset.floats(some))))
        if labels is not None:
            arrays["codings/labels"] = labels[:MAP_ROWS]
    return arrays


def _brightness(dataset: datasets.Dataset, x_nd: np.ndarray) -> np.ndarray:
    """Images as 0 (black) to 1 (white), whatever their scaling; rows that are no images as they are."""
    low, high = float(dataset.x_train.min()) / dataset.unit, float(dataset.x_train.max()) / dataset.unit
    if dataset.image_shape is None or (low >= 0 and high <= 1):
        return x_nd
    low, high = (
        dataset.scaling.invert(edge).astype(np.float64) for edge in (dataset.x_train.min(0), dataset.x_train.max(0))
    )
    return ((dataset.scaling.invert(x_nd) - low.min()) / (high.max() - low.min())).astype(np.float32)


def _arrays(folder: Path, run_id: str) -> dict[str, np.ndarray] | None:
    run = folder / "runs" / run_id
    return results.read_run(run).arrays if results.read_row(run) is not None else None


def summary_lines(rows: Iterable[dict[str, Any]]) -> list[str]:
    """One line of words a row, for terminals that draw nothing."""
    lines = []
    for row in rows:
        name = f"{row['label']} {row['codings']}, seed {row['seed']}"
        if row["status"] != "completed":
            lines.append(f"{name}: {row['status']}: {row['reason']}")
            continue
        verdict = "beats" if row["sse_test"] < row["pca_sse_test"] else "loses to"
        if row["sse_ratio"] is None:
            verdict = "beside an exact"
        lines.append(
            f"{name}: SSE {row['sse_test']:.4f} {verdict} PCA {row['pca_sse_test']:.4f}, worth "
            f"{row['pca_equivalent_dimension']:.1f} components, {row['train_seconds']:.1f} s"
        )
    return lines


def rebuild(folder: Path) -> list[Path]:
    """Rebuild runs.jsonl, summary and figures of a results folder from its stored runs. Returns the files written."""
    if not (folder / "runs.jsonl").is_file() and not (folder / "runs").is_dir():
        raise ResultsError(str(folder), "no runs there", "give a results folder, for example results/quickstart")
    from aejax import report

    return report.write(folder, results.write_index(folder), lambda run_id: _arrays(folder, run_id))
