"""Rows and arrays of runs that never ran, with numbers that can be calculated by hand."""

import csv
import io
import itertools
import json
import math
import zlib

import numpy as np
from PIL import Image

from aejax.reporting import summary

INPUTS = 12
CURVE = np.linspace(24.0, 0.0, 13)
"""PCA's SSE falls by 2 with each component: 20 at 2 codings, 10 at 7."""

FIGURES = {"error_against_codings.png", "reconstructions.png", "learning_curves.png", "codings_2d.png", "features.png"}
SWEPT = {"swept.png", "swept_curves.png"}
"""Drawn as well where a hyper-parameter takes several values."""
METRICS = ("sse_validation", "sse_test", "mse_test", "r2_test", "pca_sse_test", "sse_ratio", "pca_equivalent_dimension")


def make(label="stacked", seed=0, sse=8.0, *, codings=7, validation=None, status="completed", hyper=None, **changes):
    """A row whose numbers follow from `sse` and `codings` by hand."""
    pca = float(CURVE[codings])
    hyper = hyper or {"learning_rate": 0.001}
    completed = status == "completed"
    ratio = sse / pca if pca else None
    metrics = (sse if validation is None else validation, sse, sse / INPUTS, 1 - sse / 24, pca, ratio, 12 - sse / 2)
    row = {"format": 1, "experiment": "tying", "label": label, "dataset": "blobs", "variant": "plain", "tied": False}
    row |= {"widths": [30, codings], "codings": codings, "seed": seed, "hyper": hyper, "status": status}
    row |= {"reason": None if completed else "the loss was not finite in epoch 3"}
    row |= dict(zip(METRICS, metrics if completed else (None,) * 7, strict=True)) | {"principal_angle_max_deg": None}
    row |= {
        "best_epoch": 3 + seed if completed else None,
        "epochs": 8,
        "compile_seconds": 1.0,
        "train_seconds": 2.0 + seed,
    }
    row |= {"config": {"dataset": "blobs", "batch_size": 50, "decoder_widths": None, "digests": {}}}
    data = {"train_rows": 80, "validation_rows": 10, "test_rows": 30, "inputs": INPUTS, "image_shape": [4, 3]}
    data |= {"unit": 255.0, "constant_columns": 1, "pca_rank": 12, "pca_rows": 90, "mean_sse_test": 24.0}
    facts = dict.fromkeys(("aejax", "jax", "jaxlib", "flax", "optax", "numpy", "python"), "1.2.3")
    facts |= {"git_commit": "c0ffee", "platform": "cpu", "device_kind": "cpu", "processor": "p", "cores": 2}
    facts |= {"precision": "default", "dataset_fingerprint": "0123456789abcdef"}
    row |= {"data": data, "provenance": facts | {"created": f"2026-03-0{1 + seed % 3}T10:00:00+00:00"}}
    row |= changes
    return {"run_id": f"{zlib.crc32(json.dumps(row).encode()):012x}", **row}


def arrays_of(rows, *, epochs=5, labelled=True, test_rows=30):
    """The arrays of each run by run_id."""
    arrays_by_run = {}
    for row in rows:
        rng = np.random.default_rng(row["seed"])
        d = row["data"]["inputs"]
        curves = ("train_loss", "train_error", "validation_error")
        arrays = {f"history/{name}": rng.uniform(0.1, 1, epochs).astype("f4") for name in curves}
        arrays |= {
            f"examples/{kind}": rng.uniform(0, 1, (5, d)).astype("f4") for kind in ("original", "reconstruction")
        }
        arrays |= {"examples/pca": arrays["examples/original"], "pca_curve": CURVE}
        arrays |= {"features": rng.normal(size=(row["widths"][0], d)).astype("f4")}
        if row["codings"] >= 2:
            arrays |= {f"codings/{kind}": rng.normal(size=(test_rows, 2)).astype("f4") for kind in ("test", "pca")}
            arrays |= {"codings/labels": np.arange(test_rows) % 3} if labelled else {}
        arrays_by_run[row["run_id"]] = arrays
    return arrays_by_run


def population(seeds=3, *, diverged=lambda hyper, seed: False, sse=None, **grid):
    """Rows of every combination of a grid of hyper-parameters with every seed. `codings` in the grid are masked.

    By default the test SSE is 6 + the squared distance from learning rate 0.01 in decades + 100 l2 + seed / 100. The
    validation SSE is 1 more than the test SSE.
    """

    def default_sse(hyper, seed):
        decades = math.log10(hyper.get("learning_rate", 0.01)) + 2
        return 6 + decades**2 + 100 * hyper.get("l2", 0.0) + seed / 100

    rows = []
    for values in itertools.product(*grid.values()):
        hyper = dict(zip(grid, values, strict=True))
        for seed in range(seeds):
            error = (sse or default_sse)(hyper, seed)
            changes = {"status": "diverged", "bad_step": 17} if diverged(hyper, seed) else {}
            codings = hyper.get("codings", 7)
            row = make(seed=seed, sse=error, validation=error + 1, hyper=hyper, codings=codings, **changes)
            if "codings" in hyper:
                row["config"] = row["config"] | {"widths": [30, max(grid["codings"])]}
            rows.append(row)
    return rows


def falling(rows, epochs=20):
    """The arrays of each run by run_id. Its error falls from the mean predictor's to its own, or diverges to NaN."""
    arrays_by_run = arrays_of(rows, epochs=epochs)
    for row in rows:
        x = np.linspace(0, 1, epochs)
        rng = np.random.default_rng(row["seed"])
        last = (row["sse_validation"] or 100.0) / INPUTS
        curve = last + (2.0 - last) * np.exp(-6 * x) + 0.01 * rng.uniform(size=epochs)
        if row["status"] == "diverged":
            curve = np.append(curve[:4] * np.array([1, 2, 8, 90]), np.nan)
        for name in ("train_error", "validation_error"):
            arrays_by_run[row["run_id"]][f"history/{name}"] = curve.astype("f4")
    return arrays_by_run


def blank(path):
    """Whether a picture has so few colours that nothing can be drawn in it."""
    colours = Image.open(path).convert("RGB").getcolors(maxcolors=1 << 24)
    assert colours is not None
    return len(colours) <= 20


def write(folder, rows, arrays=None):
    """Write the summary. Returns its text and the names of the files written."""
    written = summary.write(folder, rows, (arrays_of(rows) if arrays is None else arrays).get)
    assert all(path.parent == folder and path.is_file() for path in written)
    assert {path.name for path in folder.iterdir()} >= {path.name for path in written}, "a temporary file is left"
    return (folder / "summary.md").read_text("utf-8"), {path.name for path in written}


def read_csv(folder):
    return list(csv.DictReader(io.StringIO((folder / "summary.csv").read_text("utf-8"))))


def verdict(folder, rows):
    text, _ = write(folder, rows, {})
    return next(part for part in text.split("\n\n") if part.startswith("**"))


def terminal(folder, rows, capsys):
    """The cells of each line of the terminal's table; wrapped cells are joined."""
    from aejax.cli import progress
    from aejax.runner import run_experiment  # only this one needs all of training

    outcome = run_experiment.Outcome(folder, rows, [row["run_id"] for row in rows], [])
    progress.TerminalProgress().summarise(outcome)
    table: list[list[str]] = []
    for line in capsys.readouterr().out.splitlines():
        assert len(line) <= 80 or line[0] not in "┏┃│└"
        cells = [cell.strip() for cell in line.split("│")[1:-1]]
        if cells and cells[1]:
            table.append(cells)
        elif cells:
            table[-1][0] += f" {cells[0]}"
    return table
