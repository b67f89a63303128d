"""New rows out of a stored run: samples, interpolations between test rows, traversals of codings.

Written in the raw units of the run's data: a picture of all rows (.png), an array (.npy), or a table (.csv).
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from aejax import datasets
from aejax.evaluation import artifacts, density, reconstruction
from aejax.inference import stored_run
from aejax.runtime.errors import ConfigError, DataError, suggest
from aejax.storage import run_folders
from aejax.storage.run_folders import StoredRun
from aejax.variants import Autoencoder

DENSITIES = ("prior", *density.KINDS)
MOST_IMAGES = 100_000
MOST_TRAVERSED = 32
_AGAIN = "train it again with this aejax: aejax run FILE --again"


def sample(
    run: Path, *, images: int = 60, kind: str | None = None, seed: int = 0, noise: bool = False, out: Path | None = None
) -> tuple[Path, np.ndarray]:
    """Decode `images` draws from a density of the run's codings; returns the file written and the rows.

    `kind` is "prior" (of a variational run), "gaussian" (fitted to every run's training codings) or "mixture" (where
    `scores.density` asked for one); without it the first of prior, mixture and gaussian that the run has. `noise` draws
    from the likelihood of a variational run, too, rather than giving its mean. Raises ConfigError for a density that
    the run has not.
    """
    held, autoencoder = stored_run.load(run)
    path = _check_out(out, "samples", held)
    fitted = {one: density.from_arrays(held.arrays, f"density/{one}") for one in density.KINDS}
    has = ["prior"] * (autoencoder.generative is not None) + [one for one in reversed(density.KINDS) if fitted[one]]
    if kind is not None and kind not in DENSITIES:
        raise ConfigError("--density", repr(kind), suggest(kind, DENSITIES))
    if not has:
        raise ConfigError(str(run), "no density of its codings is stored", _AGAIN)
    chosen = kind or has[0]
    if chosen not in has:
        fix = f"give one of {', '.join(has)}"
        fix += ", or train it with scores=[scores.density()]" * (chosen == "mixture")
        raise ConfigError("--density", f"{chosen}, which this run has not", fix)
    if noise and chosen != "prior":
        raise ConfigError("--noise", f"given with the density {chosen}", "leave it out: only a prior has a likelihood")
    count = _whole("--images", images, 1, MOST_IMAGES)
    codings_key, noise_key = jax.random.split(jax.random.key(_whole("--seed", seed, 0, 2**32 - 1)))
    if (found := fitted.get(chosen)) is not None:
        z_nk = density.sample(found, codings_key, count)
    else:
        z_nk = jax.random.normal(codings_key, (count, held.row["codings"]))
    if noise and autoencoder.generative is not None:
        x_nd = np.asarray(autoencoder.generative.sample(held.params, noise_key, z_nk))
    else:
        x_nd = reconstruction.decode(autoencoder, held.params, np.asarray(z_nk))
    return path, _write(path, held, x_nd, columns=min(count, max(1, round(math.sqrt(count / 0.6)))))


def interpolate(
    run: Path,
    rows: Sequence[int] = (),
    *,
    steps: int = artifacts.STEPS,
    spherical: bool | None = None,
    data_dir: Path | None = None,
    out: Path | None = None,
) -> tuple[Path, np.ndarray]:
    """Decode what is between the codings of pairs of test rows, `steps` rows a pair; returns the file and the rows.

    Without numbers of rows the pairs are (0, 1), (2, 3), (4, 5), (6, 7). The way is straight, or `spherical`: along the
    arc, which is what a variational run gets unless told otherwise. Data is loaded only for rows whose codings are not
    stored with the run. Raises ConfigError for an odd number of rows, DataError for one that is not there.
    """
    held, autoencoder = stored_run.load(run)
    path = _check_out(out, "interpolation", held)
    most = held.row["data"]["test_rows"]
    given = [_whole("ROW", row, 0, most - 1) for row in rows] or list(range(min(8, most // 2 * 2)))
    if len(given) % 2 or not given:
        raise ConfigError("ROW", f"{len(given)} rows", "give pairs of them: an even number")
    steps = _whole("--steps", steps, 2, 1000)
    z_nk = _codings(held, autoencoder, given, data_dir)
    curved = autoencoder.generative is not None if spherical is None else spherical
    lines = [artifacts.interpolate(z_nk[i : i + 2], steps, curved) for i in range(0, len(given), 2)]
    return path, _write(
        path, held, reconstruction.decode(autoencoder, held.params, np.concatenate(lines)), columns=steps
    )


def traverse(
    run: Path,
    *,
    codings: Sequence[int] = (),
    row: int | None = None,
    data_dir: Path | None = None,
    out: Path | None = None,
) -> tuple[Path, np.ndarray]:
    """Decode codings moved one at a time, a line each; returns the file and the rows.

    Each goes through the quantiles pictures.LEVELS of training codings, of a variational run through
    pictures.DEVIATIONS of its prior; the others stay at their mean, or at the codings of a test row. Without numbers
    of codings they are all, at most the 32 that vary most. Raises ConfigError for a coding that the run has not.
    """
    held, autoencoder = stored_run.load(run)
    path = _check_out(out, "traversal", held)
    k, prior = held.row["codings"], autoencoder.generative is not None
    quantiles = _array(run, held, "codings/quantiles")
    if codings:
        units = [_whole("--codings", one, 0, k - 1) for one in codings]
    else:
        spread = quantiles[-1] - quantiles[0]
        units = sorted(np.argsort(-spread, kind="stable")[:MOST_TRAVERSED].tolist())
    if row is not None:
        _whole("--row", row, 0, held.row["data"]["test_rows"] - 1)
        base_k = _codings(held, autoencoder, [row], data_dir)[0]
    else:
        base_k = np.zeros(k) if prior else _array(run, held, "density/gaussian/means_ck")[0]
    lines = [artifacts.traversal(base_k, i, artifacts.DEVIATIONS if prior else quantiles[:, i]) for i in units]
    x_nd = reconstruction.decode(autoencoder, held.params, np.concatenate(lines))
    return path, _write(path, held, x_nd, columns=len(lines[0]))


def _codings(held: StoredRun, autoencoder: Autoencoder, rows: Sequence[int], data_dir: Path | None) -> np.ndarray:
    """Codings of these test rows: stored ones, or the dataset's rows encoded."""
    first = held.arrays.get("codings/first", np.zeros((0, held.row["codings"])))
    if max(rows) < len(first):
        return first[list(rows)]
    config, data = held.row["config"], held.row["data"]
    dataset = datasets.load(config["dataset"], data_dir, config["data_seed"])
    if dataset.inputs != data["inputs"] or max(rows) >= len(dataset.x_test):
        found = f"{len(dataset.x_test)} test rows of {dataset.inputs} inputs, the run had {data['test_rows']} of"
        raise DataError(config["dataset"], f"{found} {data['inputs']}", "give the data that the run was trained on")
    return reconstruction.reconstruct(autoencoder, held.params, dataset.x_test[list(rows)], unit=dataset.unit)[0]


def _array(run: Path, held: StoredRun, name: str) -> np.ndarray:
    if name not in held.arrays:
        raise ConfigError(str(run), f"{name} is not stored", _AGAIN)
    return held.arrays[name]


def _whole(field: str, value: Any, least: int, most: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or not least <= value <= most:
        raise ConfigError(field, f"{value!r}", f"give a whole number from {least} to {most}")
    return int(value)


def _check_out(out: Path | None, name: str, held: StoredRun) -> Path:
    """The file to write: the one asked for, or NAME.png, NAME.csv where rows are no images."""
    images = held.row["data"]["image_shape"] is not None
    path = Path(f"{name}.png" if images else f"{name}.csv") if out is None else out
    kinds = (".npy", ".png") if images else (".npy", ".csv")
    if path.suffix not in kinds:
        found = f"ends in {path.suffix!r}, and the run's rows are {'images' if images else 'no images'}"
        raise ConfigError(str(path), found, f"end the output file in {' or '.join(kinds)}")
    stored_run.check_folder(path)
    return path


def _write(path: Path, held: StoredRun, x_nd: np.ndarray, columns: int) -> np.ndarray:
    """Write rows of floats as the run decodes them; returns them in raw units, shaped as the run's data."""
    shape = held.row["data"]["image_shape"]
    scaling = datasets.Scaling(held.arrays["scaling/offset"], held.arrays["scaling/scale"])
    raw_nd = scaling.invert(x_nd)
    writers: dict[str, Callable[[], bytes]] = {
        ".npy": lambda: _npy(raw_nd if shape is None else raw_nd.reshape(-1, *shape)),
        ".csv": lambda: _csv(raw_nd),
        ".png": lambda: _png(_grey(held, x_nd, raw_nd), shape, columns),
    }
    run_folders.write_atomic(path, writers[path.suffix]())
    return raw_nd if shape is None else raw_nd.reshape(-1, *shape)


def _npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def _csv(raw_nd: np.ndarray) -> bytes:
    buffer = io.StringIO()
    np.savetxt(buffer, raw_nd, delimiter=",", fmt="%.7g")
    return buffer.getvalue().encode()


def _grey(held: StoredRun, x_nd: np.ndarray, raw_nd: np.ndarray) -> np.ndarray:
    """Rows as 0 (black) to 1 (white): bytes by their unit, else between the lowest and highest raw value shown."""
    if held.row["data"]["unit"] != 1 or held.arrays["scaling/offset"].shape == held.arrays["scaling/scale"].shape == (
        1,
    ):
        return np.clip(x_nd, 0, 1)
    low, high = float(raw_nd.min()), float(raw_nd.max())
    return (raw_nd - low) / (high - low or 1.0)


def _png(x_nd: np.ndarray, shape: Sequence[int], columns: int) -> bytes:
    from PIL import Image

    height, width, colours = (*shape, 1)[:3]
    gap, count = max(1, height // 14), len(x_nd)
    lines = math.ceil(count / columns)
    tiles = np.ones((lines * columns, height + gap, width + gap, colours))
    tiles[:count, :height, :width] = x_nd.reshape(count, height, width, colours)
    image = tiles.reshape(lines, columns, *tiles.shape[1:]).swapaxes(1, 2)
    image = image.reshape(lines * (height + gap), columns * (width + gap), colours)[:-gap, :-gap]
    pixels = np.rint(image * 255).astype(np.uint8)
    picture = Image.fromarray(pixels[..., 0] if colours == 1 else pixels)
    scale = math.ceil(64 / height)  # small images are hard to see
    buffer = io.BytesIO()
    picture.resize((picture.width * scale, picture.height * scale), Image.Resampling.NEAREST).save(buffer, "PNG")
    return buffer.getvalue()
