"""Use a stored run on new data: codings out of rows, rows out of codings."""

from __future__ import annotations

import io
from pathlib import Path

import jax.numpy as jnp
import numpy as np

from aejax import datasets
from aejax.config import sweep
from aejax.datasets import files
from aejax.evaluation import reconstruction
from aejax.runtime.errors import ConfigError, DataError, MachineError
from aejax.storage import run_folders
from aejax.storage.run_folders import StoredRun
from aejax.variants import Autoencoder


def load(run: Path) -> tuple[StoredRun, Autoencoder]:
    """A stored run and its autoencoder, rebuilt from the row. `run` is its folder, or results/EXPERIMENT/RUN_ID.

    Raises ResultsError when it is missing or damaged, ConfigError when it did not complete.
    """
    if not run.exists() and (run.parent / "runs" / run.name).is_dir():
        run = run.parent / "runs" / run.name
    stored = run_folders.read_run(run)
    row = stored.row
    if row["status"] != "completed":
        raise ConfigError(str(run), f"this run {row['status']}: {row['reason']}", "give a run that completed")
    one = sweep.from_config(row["config"], row["hyper"], row["seed"])
    image_shape = row["data"]["image_shape"]
    return stored, one.build(row["data"]["inputs"], None if image_shape is None else tuple(image_shape))


def encode(run: Path, source: str, *, out: Path, data_dir: Path | None = None) -> np.ndarray:
    """Write the (n, k) float32 codings of `source` to the .npy file `out`, and return them.

    `source` is a file, a folder of images, or a dataset name with an optional split (`mnist:test`), cut
    by the run's own data_seed. Its raw values go
    through the scaling that the run was trained with. Raises DataError when they do not fit the run.
    """
    _check_out(out)
    stored, autoencoder = load(run)
    data = stored.row["data"]
    scaling = datasets.Scaling(stored.arrays["scaling/offset"], stored.arrays["scaling/scale"])
    image_shape = None if data["image_shape"] is None else tuple(data["image_shape"])
    seed = stored.row["config"]["data_seed"]
    x_nd = datasets.read_rows(
        source,
        inputs=data["inputs"],
        image_shape=image_shape,
        scaling=scaling,
        data_dir=data_dir,
        seed=seed,
        unit=data["unit"],
    )
    codings_nk = reconstruction.reconstruct(autoencoder, stored.params, x_nd)[0]
    _write_npy(out, codings_nk)
    return codings_nk


def decode(run: Path, codings: Path, *, out: Path) -> np.ndarray:
    """Write the reconstructions of the (n, k) codings file to `out`, and return them.

    They are float32 in the raw units of the run's data (0 … 255 for byte images), shaped as its images or (n, d).
    Raises DataError when the codings do not fit the run.
    """
    _check_out(out)
    stored, autoencoder = load(run)
    k = stored.row["codings"]
    if codings.suffix != ".npy":
        raise DataError(str(codings), f"ends in {codings.suffix!r}", "give codings as a .npy file")
    z_nk = files.read(codings).x["train"]
    if z_nk.ndim != 2 or z_nk.shape[1] != k:
        raise DataError(str(codings), f"shape {z_nk.shape}, the run has {k} codings", f"give an (n, {k}) array")
    if z_nk.dtype.kind not in "fiu":
        raise DataError(str(codings), f"dtype {z_nk.dtype}", "give real numbers")
    with np.errstate(over="ignore"):
        z_nk = np.asarray(z_nk, np.float32)
    if not np.isfinite(z_nk).all():
        row, column = np.argwhere(~np.isfinite(z_nk))[0]
        raise DataError(str(codings), f"row {row}, column {column} is not finite in float32", "give finite codings")
    scaling = datasets.Scaling(stored.arrays["scaling/offset"], stored.arrays["scaling/scale"])
    x_nd = np.asarray(autoencoder.decode(stored.params, jnp.asarray(z_nk)))
    reconstructions = scaling.invert(x_nd)
    image_shape = stored.row["data"]["image_shape"]
    if image_shape is not None:
        reconstructions = reconstructions.reshape(-1, *image_shape)
    _write_npy(out, reconstructions)
    return reconstructions


def _check_out(out: Path) -> None:
    if out.suffix != ".npy":
        raise ConfigError(str(out), f"ends in {out.suffix!r}", "end the output file in .npy")
    check_folder(out)


def check_folder(out: Path) -> None:
    """Raise MachineError unless a file can have this name: it is no folder, and is in one."""
    if out.is_dir():
        raise MachineError(str(out), "is a folder", "give a file name")
    if not out.parent.is_dir():
        raise MachineError(str(out.parent), "no such folder", "make it first")


def _write_npy(out: Path, array: np.ndarray) -> None:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    run_folders.write_atomic(out, buffer.getvalue())
