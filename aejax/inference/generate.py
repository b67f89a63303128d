"""Generate new rows from a stored run: samples, interpolations between test rows, traversals of codings.

Rows are written in the raw units of the run's data: as an array (.npy), a table (.csv) or a picture of all rows (.png).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np

from aejax import datasets
from aejax.evaluation import artifacts, density, reconstruction
from aejax.inference import output, stored_run
from aejax.inference.stored_run import LoadedRun
from aejax.runtime import validate
from aejax.runtime.errors import ConfigError, DataError, suggest
from aejax.storage import run_folders

DENSITIES = ("prior", *density.KINDS)
MAX_IMAGES = 100_000
MAX_TRAVERSED = 32
_TRAIN_AGAIN = "train it again with this aejax: aejax run FILE --again"


def sample(
    run: Path, *, images: int = 60, kind: str | None = None, seed: int = 0, noise: bool = False, out: Path | None = None
) -> tuple[Path, np.ndarray]:
    """Draw codings from a density, decode them and write the rows; returns the file and the rows.

    `images` is the number of draws. `kind` is the density: "prior" (variational runs), "gaussian" (fitted to the
    training codings of every run) or "mixture" (runs with `scores.density`); the default is the first of prior,
    mixture and gaussian that the run has. With `noise` a variational run samples from its likelihood instead of
    returning the mean. Raises ConfigError for a density that the run does not have.
    """
    loaded = stored_run.load(run)
    path = _output_path(out, "samples", loaded)
    generative = loaded.autoencoder.generative
    fitted = {name: density.from_arrays(loaded.arrays, f"density/{name}") for name in density.KINDS}
    available = ["prior"] * (generative is not None) + [name for name in reversed(density.KINDS) if fitted[name]]
    if kind is not None and kind not in DENSITIES:
        raise ConfigError("--density", repr(kind), suggest(kind, DENSITIES))
    if not available:
        raise ConfigError(str(run), "no density of its codings is stored", _TRAIN_AGAIN)
    kind = kind or available[0]
    if kind not in available:
        fix = f"give one of {', '.join(available)}"
        fix += ", or train it with scores=[scores.density()]" * (kind == "mixture")
        raise ConfigError("--density", f"{kind}, which this run does not have", fix)
    if noise and kind != "prior":
        raise ConfigError("--noise", f"given with the density {kind}", "leave it out: only a prior has a likelihood")
    count = validate.whole_number("--images", images, minimum=1, maximum=MAX_IMAGES)
    seed = validate.whole_number("--seed", seed, minimum=0, maximum=validate.MAX_SEED)
    codings_key, noise_key = jax.random.split(jax.random.key(seed))
    fitted_density = fitted.get(kind)
    if fitted_density is not None:
        z_nk = density.sample(fitted_density, codings_key, count)
    else:
        z_nk = jax.random.normal(codings_key, (count, loaded.row["codings"]))
    if noise and generative is not None:
        x_nd = np.asarray(generative.sample(loaded.params, noise_key, z_nk))
    else:
        x_nd = loaded.decode_scaled(np.asarray(z_nk))
    return path, _write(path, loaded, x_nd, columns=min(count, max(1, round(math.sqrt(count / 0.6)))))


def interpolate(
    run: Path,
    rows: Sequence[int] = (),
    *,
    steps: int = artifacts.INTERPOLATION_STEPS,
    spherical: bool | None = None,
    data_dir: Path | None = None,
    out: Path | None = None,
) -> tuple[Path, np.ndarray]:
    """Decode codings between those of pairs of test rows, `steps` rows per pair; returns the file and the rows.

    The default pairs are (0, 1), (2, 3), (4, 5), (6, 7). The path is a straight line or, if `spherical`, an arc; the
    default is the arc for variational runs and the line for others. The dataset is loaded only where the codings of a
    row are not stored. Raises ConfigError for an odd number of rows or a row that does not exist.
    """
    loaded = stored_run.load(run)
    path = _output_path(out, "interpolation", loaded)
    test_rows = loaded.row["data"]["test_rows"]
    rows = rows if len(rows) else range(min(8, test_rows // 2 * 2))
    pairs = [validate.whole_number("ROW", row, minimum=0, maximum=test_rows - 1) for row in rows]
    if len(pairs) % 2 or not pairs:
        raise ConfigError("ROW", f"{len(pairs)} rows", "give pairs of them: an even number")
    steps = validate.whole_number("--steps", steps, minimum=2, maximum=1000)
    z_nk = _codings(loaded, pairs, data_dir)
    if spherical is None:
        spherical = loaded.autoencoder.generative is not None
    lines = [artifacts.interpolate(z_nk[i : i + 2], steps, spherical) for i in range(0, len(pairs), 2)]
    return path, _write(path, loaded, loaded.decode_scaled(np.concatenate(lines)), columns=steps)


def traverse(
    run: Path,
    *,
    codings: Sequence[int] = (),
    row: int | None = None,
    data_dir: Path | None = None,
    out: Path | None = None,
) -> tuple[Path, np.ndarray]:
    """Decode codings with one coding varied at a time, one line of rows per coding; returns the file and the rows.

    The varied coding takes the quantiles `artifacts.TRAVERSAL_QUANTILES` of its training values; in a variational run
    it takes `artifacts.TRAVERSAL_DEVIATIONS` standard deviations of the prior. The other codings stay at their means,
    or at the codings of test row `row`. The default is every coding, at most the 32 with the largest spread. Raises
    ConfigError for a coding or a row that does not exist.
    """
    loaded = stored_run.load(run)
    path = _output_path(out, "traversal", loaded)
    k = loaded.row["codings"]
    has_prior = loaded.autoencoder.generative is not None
    quantiles = _stored_array(run, loaded, "codings/quantiles")
    if len(codings):
        units = [validate.whole_number("--codings", unit, minimum=0, maximum=k - 1) for unit in codings]
    else:
        spread = quantiles[-1] - quantiles[0]
        units = sorted(np.argsort(-spread, kind="stable")[:MAX_TRAVERSED].tolist())
    if row is not None:
        validate.whole_number("--row", row, minimum=0, maximum=loaded.row["data"]["test_rows"] - 1)
        base_k = _codings(loaded, [row], data_dir)[0]
    elif has_prior:
        base_k = np.zeros(k)
    else:
        base_k = _stored_array(run, loaded, "density/gaussian/means_ck")[0]
    z_usk = artifacts.traversals(base_k, np.asarray(units), quantiles, has_prior)
    return path, _write(path, loaded, loaded.decode_scaled(z_usk.reshape(-1, k)), columns=z_usk.shape[1])


def _codings(loaded: LoadedRun, rows: Sequence[int], data_dir: Path | None) -> np.ndarray:
    """Codings of these test rows: the stored ones, or else those of the dataset's rows. Raises DataError."""
    stored_nk = loaded.arrays.get("codings/first", np.zeros((0, loaded.row["codings"])))
    if max(rows) < len(stored_nk):
        return stored_nk[list(rows)]
    config = loaded.row["config"]
    data = loaded.row["data"]
    dataset = datasets.load(config["dataset"], data_dir, config["data_seed"])
    if dataset.inputs != data["inputs"] or max(rows) >= len(dataset.x_test):
        problem = f"{len(dataset.x_test)} test rows of {dataset.inputs} inputs, the run had {data['test_rows']} of"
        raise DataError(config["dataset"], f"{problem} {data['inputs']}", "give the data that the run was trained on")
    x_nd = dataset.x_test[list(rows)]
    return reconstruction.reconstruct(loaded.autoencoder, loaded.params, x_nd, unit=dataset.unit)[0]


def _stored_array(run: Path, loaded: LoadedRun, name: str) -> np.ndarray:
    if name not in loaded.arrays:
        raise ConfigError(str(run), f"{name} is not stored", _TRAIN_AGAIN)
    return loaded.arrays[name]


def _output_path(out: Path | None, name: str, loaded: LoadedRun) -> Path:
    """The checked output file: `out`, or by default NAME.png for images and NAME.csv for other rows."""
    images = loaded.image_shape is not None
    path = Path(f"{name}.png" if images else f"{name}.csv") if out is None else out
    reason = f", and the run's rows are {'images' if images else 'no images'}"
    output.check_path(path, (".npy", ".png") if images else (".npy", ".csv"), reason)
    return path


def _write(path: Path, loaded: LoadedRun, x_nd: np.ndarray, columns: int) -> np.ndarray:
    """Write decoded rows; returns them in raw units, in the shape of the run's data.

    `x_nd` is in the units of training. A picture has `columns` rows side by side.
    """
    raw_nd = loaded.scaling.invert(x_nd)
    raw = loaded.shape_as_data(raw_nd)
    if path.suffix == ".npy":
        content = output.to_npy(raw)
    elif loaded.image_shape is None:
        content = output.to_csv(raw_nd)
    else:
        content = output.to_png(_brightness(loaded, x_nd, raw_nd), loaded.image_shape, columns)
    run_folders.write_atomic(path, content)
    return raw


def _brightness(loaded: LoadedRun, x_nd: np.ndarray, raw_nd: np.ndarray) -> np.ndarray:
    """Rows as brightness from 0 (black) to 1 (white).

    Where one scale serves all columns, that is the value in the units of training. Otherwise the lowest raw value of
    all rows becomes 0 and the highest 1.
    """
    scaling = loaded.scaling
    if loaded.row["data"]["unit"] != 1 or scaling.offset_d.shape == scaling.scale_d.shape == (1,):
        return np.clip(x_nd, 0, 1)
    low = float(raw_nd.min())
    high = float(raw_nd.max())
    return (raw_nd - low) / (high - low or 1.0)
