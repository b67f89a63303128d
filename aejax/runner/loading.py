"""An experiment's data as it is trained on: whole, or with `smoke` some rows of it, beside its reference PCA."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from aejax import datasets
from aejax.datasets.base import fingerprint

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
