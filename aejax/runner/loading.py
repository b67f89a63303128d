"""An experiment's data as it is trained on: whole, or with `smoke` some rows of it, beside its reference PCA."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from aejax import datasets
from aejax.config.sweep import Sweep
from aejax.datasets.base import fingerprint
from aejax.evaluation import reconstruction
from aejax.runner.events import RunListener

SMOKE_ROWS = {"train": 256, "validation": 64, "test": 128}


def load(name: str, data_seed: int, data_dir: Path | None, smoke: bool) -> datasets.Dataset:
    """`datasets.load`, cut to SMOKE_ROWS with `smoke`."""
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


def warn_of_rank(one: Sweep, ruler: reconstruction.PCAReference, watcher: RunListener) -> None:
    """Tell the watcher where the data has fewer principal components than the sweep has codings."""
    if one.codings > ruler.params.rank:
        rank = f"{one.dataset} has rank {ruler.params.rank}, below {one.codings} codings"
        watcher.warn(f"{rank}: the reference PCA's further components are zero")
