"""A stored run on new data: encode rows into codings, decode codings into rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from aejax import datasets
from aejax.config import sweep
from aejax.datasets import files
from aejax.evaluation import reconstruction
from aejax.inference import output
from aejax.nets import Params
from aejax.runtime.errors import ConfigError, DataError, ResultsError
from aejax.storage import run_finder, run_folders
from aejax.variants import Autoencoder


@dataclass(frozen=True, eq=False)
class LoadedRun:
    """A stored run with its autoencoder. `encode` and `decode` map raw rows to codings and back.

    Fields:
        row: The run's record: config, hyper-parameters, seed, metrics, provenance.
        params: Trained parameters as a nested dict of NumPy arrays.
        arrays: Arrays stored with the run, by name: scaling, learning curves, data of the figures.
        autoencoder: The pure functions of the trained autoencoder. They take rows in the units of training.
    """

    row: dict[str, Any]
    params: Params
    arrays: dict[str, np.ndarray]
    autoencoder: Autoencoder

    def __repr__(self) -> str:
        row = self.row
        return (
            f"LoadedRun {row['experiment']}/{row['run_id']}: {row['label']}, {row['dataset']}, seed {row['seed']}\n"
            f"  {row['data']['inputs']} inputs, {row['codings']} codings, variant {row['variant']}\n"
            f"  SSE on test {row['sse_test']:.4f}, PCA {row['pca_sse_test']:.4f}"
        )

    @property
    def scaling(self) -> datasets.Scaling:
        """The scaling of the training rows: raw units to the units of training."""
        return datasets.Scaling(self.arrays["scaling/offset"], self.arrays["scaling/scale"])

    @property
    def image_shape(self) -> tuple[int, ...] | None:
        """(height, width) or (height, width, channels) of the data; None where the rows are not images."""
        shape = self.row["data"]["image_shape"]
        return None if shape is None else tuple(shape)

    def encode(self, x_nd: ArrayLike) -> np.ndarray:
        """Codings (n, k), float32, of raw rows (n, d) or of images (n, height, width[, channels]).

        Rows are in the raw units of the run's data, such as 0 … 255 for byte images, and are scaled as in training.
        Computed in blocks at highest precision. Raises DataError where the rows do not fit the run.
        """
        array = np.asarray(x_nd)
        if self.image_shape is not None and array.shape[1:] == self.image_shape:
            array = array.reshape(len(array), -1)
        inputs = self.row["data"]["inputs"]
        return self.encode_scaled(_to_float32("x_nd", array, inputs, "inputs", self.scaling.apply))

    def decode(self, z_nk: ArrayLike) -> np.ndarray:
        """Reconstructions (n, d), float32, of codings (n, k), in the raw units of the run's data.

        Computed in blocks at highest precision. Raises DataError where the codings do not fit the run.
        """
        return self.scaling.invert(self.decode_scaled(_check_codings("z_nk", z_nk, self.row["codings"])))

    def encode_scaled(self, x_nd: np.ndarray) -> np.ndarray:
        """Codings (n, k) of rows (n, d) in the units of training."""
        return reconstruction.reconstruct(self.autoencoder, self.params, x_nd)[0]

    def decode_scaled(self, z_nk: np.ndarray) -> np.ndarray:
        """Reconstructions (n, d) of codings (n, k), in the units of training."""
        return reconstruction.decode(self.autoencoder, self.params, z_nk)

    def shape_as_data(self, x_nd: np.ndarray) -> np.ndarray:
        """Rows (n, d) in the shape of the run's data: (n, *image_shape) for images, else unchanged."""
        return x_nd if self.image_shape is None else x_nd.reshape(-1, *self.image_shape)


def load(path: str | Path) -> LoadedRun:
    """Load a stored run. Every file is checked against the run's manifest; no stored code is executed.

    `path` is the run folder, results/EXPERIMENT/runs/ID, or results/EXPERIMENT/ID; the beginning of an id is enough
    where it is unique. Raises ResultsError where the run is missing or damaged, ConfigError where it did not complete
    or its net has a user's function.
    """
    folder = Path(path)
    if run_finder.is_experiment(folder) or not folder.is_dir():
        folder = run_finder.find_run_folder(folder)
    if not folder.is_dir():
        raise ResultsError(str(path), "only the run's row is in this copy", "run the experiment again")
    stored = run_folders.read_run(folder)
    row = stored.row
    if row["status"] != "completed":
        raise ConfigError(str(path), f"this run {row['status']}: {row['reason']}", "give a run that completed")
    image_shape = row["data"]["image_shape"]
    rebuilt = sweep.from_config(row["config"], row["hyper"], row["seed"])
    autoencoder = rebuilt.build(row["data"]["inputs"], None if image_shape is None else tuple(image_shape))
    return LoadedRun(row, stored.params, stored.arrays, autoencoder)


def encode(run: Path, source: str, *, out: Path, data_dir: Path | None = None) -> np.ndarray:
    """Write the codings (n, k), float32, of `source` to the .npy file `out`, and return them.

    `source` is a file, a folder of images, or a dataset name with an optional split (`mnist:test`), which is cut with
    the run's data_seed. Values are raw and are scaled as in training. Raises DataError where they do not fit the run.
    """
    output.check_path(out, (".npy",))
    loaded = load(run)
    data = loaded.row["data"]
    x_nd = datasets.read_rows(
        source,
        inputs=data["inputs"],
        image_shape=loaded.image_shape,
        scaling=loaded.scaling,
        data_dir=data_dir,
        seed=loaded.row["config"]["data_seed"],
        unit=data["unit"],
    )
    z_nk = loaded.encode_scaled(x_nd)
    run_folders.write_atomic(out, output.to_npy(z_nk))
    return z_nk


def decode(run: Path, codings: Path, *, out: Path) -> np.ndarray:
    """Write the reconstructions of the codings file (n, k) to the .npy file `out`, and return them.

    They are float32 in the raw units of the run's data (0 … 255 for byte images), shaped as its images or (n, d).
    Raises DataError where the codings do not fit the run.
    """
    output.check_path(out, (".npy",))
    loaded = load(run)
    if codings.suffix != ".npy":
        raise DataError(str(codings), f"ends in {codings.suffix!r}", "give codings as a .npy file")
    z_nk = _check_codings(str(codings), files.read(codings).x["train"], loaded.row["codings"])
    reconstructions = loaded.shape_as_data(loaded.decode(z_nk))
    run_folders.write_atomic(out, output.to_npy(reconstructions))
    return reconstructions


def _check_codings(field: str, values: ArrayLike, codings: int) -> np.ndarray:
    """The codings (n, k) as float32. Raises DataError where they do not fit a run of that many codings."""
    return _to_float32(field, np.asarray(values), codings, "codings", lambda z_nk: z_nk.astype(np.float32))


def _to_float32(
    field: str, array: np.ndarray, columns: int, noun: str, convert: Callable[[np.ndarray], np.ndarray]
) -> np.ndarray:
    """`convert(array)`, float32. Raises DataError unless it has so many columns and is finite."""
    if array.ndim != 2 or array.shape[1] != columns or len(array) == 0:
        raise DataError(field, f"shape {array.shape}, the run has {columns} {noun}", f"give an (n, {columns}) array")
    if array.dtype.kind not in "fiu":
        raise DataError(field, f"dtype {array.dtype}", "give real numbers")
    with np.errstate(over="ignore"):
        converted = convert(array)
    if not np.isfinite(converted).all():
        row, column = np.argwhere(~np.isfinite(converted))[0]
        raise DataError(field, f"row {row}, column {column} is not finite in float32", "give finite numbers")
    return converted
