"""What figures and `aejax sample | interpolate | traverse` need of a trained run, as small arrays.

Images are bytes, 0 black and 255 white; of a run on MNIST they take about 250 KB. Rows that are no images have none.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from aejax.datasets import Dataset
from aejax.datasets.base import evenly_spaced
from aejax.datasets.images import as_bytes, brightness, example_rows
from aejax.evaluation import density, diagnostics, pca, reconstruction
from aejax.evaluation.scores.base import TrainedRun
from aejax.evaluation.scores.density import training_codings

MAP_ROWS, FEATURES = 2000, 64  # evenly spaced test rows on a map: neighbours may be alike
SAMPLES = 60
LEVELS = (0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99)
"""Quantiles of training codings that a traversal goes through."""
DEVIATIONS = (-3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0)
"""What it goes through instead where codings have a standard normal prior."""
STEPS = 8
"""Images of an interpolation, both ends among them."""
COUNTS = {"pairs": 4, "traversed": 10, "units": 12, "each": 8}
COUNTS_LARGE = {"pairs": 2, "traversed": 6, "units": 6, "each": 6}
LARGE = 1024
"""Inputs above which COUNTS_LARGE are kept rather than COUNTS."""
HISTOGRAMS, BINS = 16, 40
SPARSE = 0.1
"""Share of exact zeros from which a coding's histogram is of its other values."""
DENSITY_ROWS = 5_000
"""Training rows, evenly spaced, that a density and the deviations of inputs are taken from."""
FIRST_BYTES = 65_536
"""Test codings are kept up to so many bytes."""
_NEAREST_ROWS = 4096


def collect(trained: TrainedRun, z_nk: np.ndarray, stored: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """All such arrays of a run by name. `z_nk` are its test codings, `stored` what its scores found already."""
    arrays = _examples(trained)
    training_nk = training_codings(trained, DENSITY_ROWS)
    if not (np.isfinite(z_nk).all() and np.isfinite(training_nk).all()):
        return arrays
    if trained.codings >= 2 <= trained.reference.params.rank:
        arrays |= _map(trained, z_nk)
    arrays |= density.fit(training_nk).arrays("density/gaussian")
    arrays["codings/quantiles"] = np.quantile(training_nk, LEVELS, axis=0).astype(np.float32)
    arrays["codings/first"] = z_nk[: max(2, FIRST_BYTES // (4 * trained.codings))]
    arrays["codings/spectrum"] = diagnostics.spectrum(z_nk)
    units = most_varying(z_nk, HISTOGRAMS)
    zeros = (z_nk[:, units] == 0).mean(axis=0)
    sparse = zeros > SPARSE  # a bar of zeros would hide all else
    apart = sparse & (zeros < 1)
    lines = [z_nk[z_nk[:, i] != 0, i] if apart[at] else z_nk[:, i] for at, i in enumerate(units)]
    histograms = [np.histogram(line, BINS, range=_range(line)) for line in lines]
    arrays["activations/units"] = units
    arrays["activations/active"] = np.where(sparse, 1 - zeros, 1.0).astype(np.float32)
    arrays["activations/counts"] = np.stack([counts for counts, _ in histograms]).astype(np.int32)
    arrays["activations/edges"] = np.stack([edges for _, edges in histograms]).astype(np.float32)
    return arrays | _images(trained, z_nk, stored | arrays) if trained.dataset.image_shape is not None else arrays


def most_varying(z_nk: np.ndarray, most: int) -> np.ndarray:
    """Numbers of the codings that vary most, at most `most`, in order of their place."""
    return np.sort(np.argsort(-z_nk.var(axis=0, dtype=np.float64), kind="stable")[:most])


def interpolate(ends_2k: np.ndarray, steps: int, spherical: bool = False) -> np.ndarray:
    """Codings (steps, k) from the first end to the second: on a line, or on the arc between their directions with the
    length changing evenly (Shoemake 1985), which a Gaussian's samples lie near in high dimensions.
    """
    t_s1 = np.linspace(0, 1, steps)[:, None]
    first_k, last_k = np.asarray(ends_2k, np.float64)
    if spherical:
        lengths = np.linalg.norm([first_k, last_k], axis=1)
        if lengths.min() > 0:
            a_k, b_k = first_k / lengths[0], last_k / lengths[1]
            angle = float(np.arccos(np.clip(a_k @ b_k, -1, 1)))
            if 1e-6 < angle < np.pi - 1e-6:
                arc_sk = (np.sin((1 - t_s1) * angle) * a_k + np.sin(t_s1 * angle) * b_k) / np.sin(angle)
                return (((1 - t_s1) * lengths[0] + t_s1 * lengths[1]) * arc_sk).astype(np.float32)
    return ((1 - t_s1) * first_k + t_s1 * last_k).astype(np.float32)


def traversal(base_k: np.ndarray, unit: int, values: Sequence[float] | np.ndarray) -> np.ndarray:
    """Codings (steps, k) that differ from `base_k` in one coding, which takes these values."""
    z_sk = np.repeat(np.asarray(base_k, np.float32)[None], len(values), axis=0)
    z_sk[:, unit] = values
    return z_sk


def _range(z_n: np.ndarray) -> tuple[float, float]:
    low, high = float(z_n.min()), float(z_n.max())
    return (low, high) if high - low > 1e-6 * max(abs(low), abs(high)) else (low - 0.5, high + 0.5)


def _images(trained: TrainedRun, z_nk: np.ndarray, stored: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Decoded samples with their nearest training rows, interpolations and traversals; rows that activate units."""
    dataset, prior = trained.dataset, trained.autoencoder.generative is not None
    counts = COUNTS_LARGE if dataset.inputs > LARGE else COUNTS
    ends = example_rows(dataset)[: 2 * counts["pairs"]]
    pairs = np.resize(ends, (max(1, len(ends) // 2), 2))  # a single row is paired with itself
    units = most_varying(z_nk, counts["traversed"])
    base_k = np.zeros(trained.codings) if prior else stored["density/gaussian/means_ck"][0]
    values = dict.fromkeys(units, DEVIATIONS) if prior else {i: stored["codings/quantiles"][:, i] for i in units}
    parts = _samples(trained, stored) | {
        "interpolations/images": [interpolate(z_nk[pair], STEPS, spherical=prior) for pair in pairs],
        "traversals/images": [traversal(base_k, i, values[i]) for i in units],
    }
    joined = np.concatenate([np.concatenate(part) for part in parts.values()])
    decoded_nd, arrays, start = reconstruction.decode(trained.autoencoder, trained.params, joined), {}, 0
    kinds = [name.split("/")[1] for name in parts if name.startswith("samples/")]
    nearest_n, distance_n = nearest(dataset, decoded_nd[: SAMPLES * len(kinds)])
    for i, kind in enumerate(kinds):
        here = slice(i * SAMPLES, (i + 1) * SAMPLES)
        arrays[f"samples/{kind}/nearest"] = as_bytes(dataset, dataset.floats(dataset.x_train[nearest_n[here]]))
        arrays[f"samples/{kind}/distance"] = distance_n[here]
    arrays["samples/test_distance"] = _test_distance(dataset)
    for name, part in parts.items():
        shape = (len(part), len(part[0]), -1) if not name.startswith("samples/") else (SAMPLES, -1)
        stop = start + sum(map(len, part))
        arrays[name] = as_bytes(dataset, decoded_nd[start:stop]).reshape(shape)
        start = stop
    arrays["interpolations/ends"] = as_bytes(dataset, dataset.floats(dataset.x_test[pairs.ravel()])).reshape(
        len(pairs), 2, -1
    )
    arrays["traversals/units"] = units
    arrays["activating/units"] = few = most_varying(z_nk, counts["units"])
    most_ue = [np.argsort(-z_nk[:, i], kind="stable")[: counts["each"]] for i in few]
    activating = [as_bytes(dataset, dataset.floats(dataset.x_test[most_e])) for most_e in most_ue]
    return arrays | {"activating/images": np.stack(activating)}


def _samples(trained: TrainedRun, stored: dict[str, np.ndarray]) -> dict[str, list[np.ndarray]]:
    """Codings of SAMPLES samples of the prior and the mixture that the run has; of its Gaussian if it has neither."""
    keys = dict(zip(("prior", *density.KINDS), jax.random.split(trained.key, 3), strict=True))
    drawn: dict[str, list[np.ndarray]] = {}
    if trained.autoencoder.generative is not None:
        z_nk = jax.random.normal(keys["prior"], (SAMPLES, trained.codings))
        drawn["samples/prior/images"] = [np.asarray(z_nk)]
    for kind in reversed(density.KINDS):
        fitted = density.from_arrays(stored, f"density/{kind}")
        if fitted is not None and not (kind == "gaussian" and drawn):
            drawn[f"samples/{kind}/images"] = [np.asarray(density.sample(fitted, keys[kind], SAMPLES))]
    return drawn


def nearest(dataset: Dataset, x_md: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of every row of floats the nearest training row's number, and the Euclidean distance to it, (m,) each."""
    x_md, unit = np.asarray(x_md, np.float32), np.float32(dataset.unit)
    best_m, which_m = np.full(len(x_md), np.inf, np.float32), np.zeros(len(x_md), int)
    for start in range(0, len(dataset.x_train), _NEAREST_ROWS):
        block_nd = dataset.x_train[start : start + _NEAREST_ROWS].astype(np.float32)
        square_mn = np.einsum("nd,nd->n", block_nd, block_nd)[None] / unit - 2 * x_md @ block_nd.T
        here_m = square_mn.argmin(axis=1)
        found_m = square_mn[np.arange(len(x_md)), here_m]
        which_m = np.where(found_m < best_m, start + here_m, which_m)
        best_m = np.minimum(best_m, found_m)
    distance_m = np.linalg.norm(x_md - dataset.floats(dataset.x_train[which_m]), axis=1)
    return which_m, distance_m.astype(np.float32)


@functools.lru_cache(maxsize=1)
def _test_distance(dataset: Dataset) -> np.ndarray:
    """Distances of evenly spaced test rows to their nearest training rows: what those of samples are read against."""
    some = evenly_spaced(len(dataset.x_test), SAMPLES)
    return nearest(dataset, dataset.floats(dataset.x_test[some]))[1]


def _examples(trained: TrainedRun) -> dict[str, np.ndarray]:
    """Examples and their reconstructions, ours and PCA's; first-layer features of a layer that has images to show."""
    dataset = trained.dataset
    reference = trained.reference
    rows = dataset.x_test[example_rows(dataset)]
    original = dataset.floats(rows)
    first = pca.truncate(reference.params, min(trained.codings, reference.params.rank))
    examples = {
        "original": original,
        "reconstruction": reconstruction.reconstruct(trained.autoencoder, trained.params, rows, unit=dataset.unit)[1],
        "pca": np.asarray(pca.decode(first, pca.encode(first, jnp.asarray(original)))),
    }
    arrays = {f"examples/{name}": brightness(dataset, x_nd) for name, x_nd in examples.items()}
    arrays |= _features(trained)
    return arrays


def _map(trained: TrainedRun, z_nk: np.ndarray) -> dict[str, np.ndarray]:
    """Test rows in the plane of two codings, of more in that in which they vary most, and in the plane of two
    components, with their labels.
    """
    dataset, first = trained.dataset, pca.truncate(trained.reference.params, 2)
    some_m = evenly_spaced(len(z_nk), MAP_ROWS)
    if trained.codings > 2:
        centred_nk = z_nk.astype(np.float64) - z_nk.mean(axis=0, dtype=np.float64)
        directions_kk = np.linalg.eigh(centred_nk.T @ centred_nk)[1]
        z_nk = (centred_nk @ directions_kk[:, :-3:-1]).astype(np.float32)
    some = jnp.asarray(dataset.floats(dataset.x_test[some_m]))
    arrays = {"codings/test": z_nk[some_m], "codings/pca": np.asarray(pca.encode(first, some))}
    return arrays if dataset.y_test is None else arrays | {"codings/labels": dataset.y_test[some_m]}


def _features(trained: TrainedRun) -> dict[str, np.ndarray]:
    """First-layer kernels, one a unit: (units, d) of a dense layer, with the inputs' standard deviations (d,), or
    (units, h, w) or in colour (units, h, w, 3) of a convolution; a recurrent layer has none.
    """
    kernel = trained.params["encoder"].get("layer_0", {}).get("kernel")
    if kernel is None:
        return {}
    units = np.moveaxis(np.asarray(kernel), -1, 0)[:FEATURES]
    if units.ndim == 4 and units.shape[3] == 1:
        units = units[..., 0]
    images = units.ndim == 3 or (units.ndim == 4 and units.shape[3] == 3)
    if images:
        return {"features": units}
    if units.shape[1:] != (trained.dataset.inputs,):
        return {}
    return {"features": units, "features/deviation": _deviation(trained.dataset)}


@functools.lru_cache(maxsize=1)
def _deviation(dataset: Dataset) -> np.ndarray:
    """Standard deviations of the inputs over evenly spaced training rows, (d,)."""
    some = evenly_spaced(len(dataset.x_train), DENSITY_ROWS)
    return np.std(dataset.floats(dataset.x_train[some]), axis=0)
