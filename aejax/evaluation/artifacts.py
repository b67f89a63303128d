"""Arrays of a trained run for its figures and for `aejax sample | interpolate | traverse`.

Images are stored as bytes, 0 black and 255 white; those of a run on MNIST take about 250 KB. Runs on rows that are not
images have none.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np

from aejax.datasets import Dataset
from aejax.datasets.base import evenly_spaced
from aejax.datasets.images import as_bytes, brightness, example_rows
from aejax.evaluation import density, diagnostics, pca, reconstruction
from aejax.evaluation.scores.base import TrainedRun

MAP_ROWS = 2000
"""Most test rows on a map of codings. They are evenly spaced, as adjacent rows may be similar."""
FEATURES = 64
"""Most first-layer features."""
SAMPLES = 60
"""Samples of each density."""
TRAVERSAL_QUANTILES = (0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99)
"""Quantiles of the training codings that a traversal visits."""
TRAVERSAL_DEVIATIONS = (-3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0)
"""Values that a traversal visits instead where codings have a standard normal prior."""
INTERPOLATION_STEPS = 8
"""Images of an interpolation, including both ends."""
COUNTS = {"pairs": 4, "traversed": 10, "units": 12, "each": 8}
"""Interpolated pairs, traversed codings, units with activating rows, and activating rows of each unit."""
COUNTS_LARGE = {"pairs": 2, "traversed": 6, "units": 6, "each": 6}
"""The same for rows with more than LARGE inputs."""
LARGE = 1024
HISTOGRAMS = 16
"""Most codings with a histogram."""
BINS = 40
SPARSE = 0.1
"""Share of zeros above which the histogram of a coding is that of its other values."""
DENSITY_ROWS = 5_000
"""Most training rows for a run's Gaussian, quantiles and standard deviations of inputs; they are evenly spaced."""
FIRST_BYTES = 65_536
"""Most bytes of the stored test codings."""
_NEAREST_ROWS = 4096


def collect(trained: TrainedRun, stored: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The arrays of a run by name. `stored` are the arrays of its scores, among them its densities.

    Where codings are not finite only examples and features are collected.
    """
    arrays = _examples(trained) | _features(trained)
    z_nk = trained.test_codings_nk
    training_nk = trained.training_codings(DENSITY_ROWS)
    if not (np.isfinite(z_nk).all() and np.isfinite(training_nk).all()):
        return arrays
    if trained.codings >= 2 <= trained.reference.params.rank:
        arrays |= _map(trained)
    arrays |= density.fit(training_nk).arrays("density/gaussian")
    arrays["codings/quantiles"] = np.quantile(training_nk, TRAVERSAL_QUANTILES, axis=0).astype(np.float32)
    arrays["codings/first"] = z_nk[: max(2, FIRST_BYTES // (4 * trained.codings))]
    arrays["codings/spectrum"] = diagnostics.spectrum(z_nk)
    arrays |= _histograms(z_nk)
    if trained.dataset.image_shape is not None:
        arrays |= _images(trained, stored | arrays)
    return arrays


def _histograms(z_nk: np.ndarray) -> dict[str, np.ndarray]:
    """Histograms of the codings that vary most. Those of sparse codings leave out zeros, which would hide the rest."""
    units = most_varying(z_nk, HISTOGRAMS)
    zero_share = (z_nk[:, units] == 0).mean(axis=0)
    sparse = zero_share > SPARSE
    histograms = []
    for unit, without_zeros in zip(units, sparse & (zero_share < 1), strict=True):
        values_n = z_nk[z_nk[:, unit] != 0, unit] if without_zeros else z_nk[:, unit]
        histograms.append(np.histogram(values_n, BINS, range=_range(values_n)))
    counts, edges = zip(*histograms, strict=True)
    return {
        "activations/units": units,
        "activations/active": np.where(sparse, 1 - zero_share, 1.0).astype(np.float32),
        "activations/counts": np.stack(counts).astype(np.int32),
        "activations/edges": np.stack(edges).astype(np.float32),
    }


def most_varying(z_nk: np.ndarray, max_codings: int) -> np.ndarray:
    """Indices of the `max_codings` codings with the largest variance, in ascending order."""
    return np.sort(np.argsort(-z_nk.var(axis=0, dtype=np.float64), kind="stable")[:max_codings])


def interpolate(ends_2k: np.ndarray, steps: int, spherical: bool = False) -> np.ndarray:
    """Codings (steps, k) float32 from the first of two ends to the second, both included.

    They are on a line, or with `spherical` on the arc between the two directions, with linearly changing length
    (Shoemake 1985). In high dimensions samples of a Gaussian are near such an arc.
    """
    t_s1 = np.linspace(0, 1, steps)[:, None]
    first_k, last_k = np.asarray(ends_2k, np.float64)
    lengths = np.linalg.norm([first_k, last_k], axis=1)
    if spherical and lengths.min() > 0:
        a_k = first_k / lengths[0]
        b_k = last_k / lengths[1]
        angle = float(np.arccos(np.clip(a_k @ b_k, -1, 1)))
        if 1e-6 < angle < np.pi - 1e-6:
            arc_sk = (np.sin((1 - t_s1) * angle) * a_k + np.sin(t_s1 * angle) * b_k) / np.sin(angle)
            return (((1 - t_s1) * lengths[0] + t_s1 * lengths[1]) * arc_sk).astype(np.float32)
    return ((1 - t_s1) * first_k + t_s1 * last_k).astype(np.float32)


def traversals(base_k: np.ndarray, units: np.ndarray, quantiles_sk: np.ndarray, has_prior: bool) -> np.ndarray:
    """Codings (units, steps, k) float32: for each unit those of `base_k`, except that this one coding is varied.

    It takes its quantiles, (steps, k) for all codings, or TRAVERSAL_DEVIATIONS where codings have a prior.
    """
    z_usk = np.tile(np.asarray(base_k, np.float32), (len(units), len(quantiles_sk), 1))
    for z_sk, unit in zip(z_usk, units, strict=True):
        z_sk[:, unit] = TRAVERSAL_DEVIATIONS if has_prior else quantiles_sk[:, unit]
    return z_usk


def _range(z_n: np.ndarray) -> tuple[float, float]:
    """Range of a histogram: that of the values, or 1 wide where they are constant."""
    low = float(z_n.min())
    high = float(z_n.max())
    return (low, high) if high - low > 1e-6 * max(abs(low), abs(high)) else (low - 0.5, high + 0.5)


def _images(trained: TrainedRun, stored: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Decoded samples with their nearest training rows, interpolations, traversals, and rows that activate units."""
    dataset = trained.dataset
    z_nk = trained.test_codings_nk
    has_prior = trained.autoencoder.generative is not None
    counts = COUNTS_LARGE if dataset.inputs > LARGE else COUNTS
    ends = example_rows(dataset)[: 2 * counts["pairs"]]
    pairs = np.resize(ends, (max(1, len(ends) // 2), 2))  # a single row is paired with itself
    traversed = most_varying(z_nk, counts["traversed"])
    base_k = np.zeros(trained.codings) if has_prior else stored["density/gaussian/means_ck"][0]
    samples = _samples(trained, stored)
    codings = {f"samples/{kind}/images": z_sk for kind, z_sk in samples.items()}
    interpolations = [interpolate(z_nk[pair], INTERPOLATION_STEPS, spherical=has_prior) for pair in pairs]
    codings["interpolations/images"] = np.stack(interpolations)
    codings["traversals/images"] = traversals(base_k, traversed, stored["codings/quantiles"], has_prior)
    joined_nk = np.concatenate([z.reshape(-1, trained.codings) for z in codings.values()])
    decoded_nd = reconstruction.decode(trained.autoencoder, trained.params, joined_nk)
    ends_of_groups = np.cumsum([z.size // trained.codings for z in codings.values()])
    arrays = {}
    for (name, z), group_nd in zip(codings.items(), np.split(decoded_nd, ends_of_groups[:-1]), strict=True):
        arrays[name] = as_bytes(dataset, group_nd).reshape(*z.shape[:-1], -1)
    nearest_n, distance_n = nearest(dataset, decoded_nd[: SAMPLES * len(samples)])
    for i, kind in enumerate(samples):
        drawn = slice(i * SAMPLES, (i + 1) * SAMPLES)
        arrays[f"samples/{kind}/nearest"] = _stored_images(dataset, dataset.x_train[nearest_n[drawn]])
        arrays[f"samples/{kind}/distance"] = distance_n[drawn]
    activating = most_varying(z_nk, counts["units"])
    most_activating = [np.argsort(-z_nk[:, unit], kind="stable")[: counts["each"]] for unit in activating]
    return arrays | {
        "samples/test_distance": _test_distance(dataset),
        "interpolations/ends": _stored_images(dataset, dataset.x_test[pairs.ravel()]).reshape(len(pairs), 2, -1),
        "traversals/units": traversed,
        "activating/units": activating,
        "activating/images": np.stack([_stored_images(dataset, dataset.x_test[rows]) for rows in most_activating]),
    }


def _stored_images(dataset: Dataset, x_nd: np.ndarray) -> np.ndarray:
    """Rows of the dataset, as it stores them, as byte images."""
    return as_bytes(dataset, dataset.floats(x_nd))


def _samples(trained: TrainedRun, stored: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """SAMPLES codings from each of the run's prior and mixture, or from its Gaussian if it has neither."""
    keys = dict(zip(("prior", *density.KINDS), jax.random.split(trained.key, 3), strict=True))
    samples: dict[str, np.ndarray] = {}
    if trained.autoencoder.generative is not None:
        samples["prior"] = np.asarray(jax.random.normal(keys["prior"], (SAMPLES, trained.codings)))
    for kind in reversed(density.KINDS):
        fitted = density.from_arrays(stored, f"density/{kind}")
        if fitted is not None and not (kind == "gaussian" and samples):
            samples[kind] = np.asarray(density.sample(fitted, keys[kind], SAMPLES))
    return samples


def nearest(dataset: Dataset, x_md: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Index of the training row nearest to each row of floats, (m,), and the Euclidean distance to it, (m,) float32."""
    x_md = np.asarray(x_md, np.float32)
    unit = np.float32(dataset.unit)
    smallest_m = np.full(len(x_md), np.inf, np.float32)
    nearest_m = np.zeros(len(x_md), int)
    for start in range(0, len(dataset.x_train), _NEAREST_ROWS):
        block_nd = dataset.x_train[start : start + _NEAREST_ROWS].astype(np.float32)
        # unit times the squared distance, without the square of x, which is the same for all training rows
        distance_mn = np.einsum("nd,nd->n", block_nd, block_nd)[None] / unit - 2 * x_md @ block_nd.T
        block_nearest_m = distance_mn.argmin(axis=1)
        block_smallest_m = distance_mn[np.arange(len(x_md)), block_nearest_m]
        nearest_m = np.where(block_smallest_m < smallest_m, start + block_nearest_m, nearest_m)
        smallest_m = np.minimum(smallest_m, block_smallest_m)
    distance_m = np.linalg.norm(x_md - dataset.floats(dataset.x_train[nearest_m]), axis=1)
    return nearest_m, distance_m.astype(np.float32)


@functools.lru_cache(maxsize=1)
def _test_distance(dataset: Dataset) -> np.ndarray:
    """Distances of evenly spaced test rows to their nearest training rows, to compare those of samples with."""
    rows = evenly_spaced(len(dataset.x_test), SAMPLES)
    return nearest(dataset, dataset.floats(dataset.x_test[rows]))[1]


def _examples(trained: TrainedRun) -> dict[str, np.ndarray]:
    """Examples from the test rows, and their reconstructions by the autoencoder and by PCA with as many components."""
    dataset = trained.dataset
    rows = dataset.x_test[example_rows(dataset)]
    original = dataset.floats(rows)
    params = trained.truncated_pca
    examples = {
        "original": original,
        "reconstruction": trained.reconstruct(rows, unit=dataset.unit)[1],
        "pca": np.asarray(pca.decode(params, pca.encode(params, jnp.asarray(original)))),
    }
    return {f"examples/{name}": brightness(dataset, x_nd) for name, x_nd in examples.items()}


def _map(trained: TrainedRun) -> dict[str, np.ndarray]:
    """Maps of test rows, (n, 2) each, with their labels: two codings, and the first two principal components.

    More than two codings are projected on the plane in which they vary most.
    """
    dataset = trained.dataset
    z_nk = trained.test_codings_nk
    rows = evenly_spaced(len(z_nk), MAP_ROWS)
    if trained.codings > 2:
        centred_nk = z_nk.astype(np.float64) - z_nk.mean(axis=0, dtype=np.float64)
        directions_kk = np.linalg.eigh(centred_nk.T @ centred_nk)[1]
        z_nk = (centred_nk @ directions_kk[:, :-3:-1]).astype(np.float32)
    params = pca.truncate(trained.reference.params, 2)
    x_nd = jnp.asarray(dataset.floats(dataset.x_test[rows]))
    arrays = {"codings/test": z_nk[rows], "codings/pca": np.asarray(pca.encode(params, x_nd))}
    if dataset.y_test is not None:
        arrays["codings/labels"] = dataset.y_test[rows]
    return arrays


def _features(trained: TrainedRun) -> dict[str, np.ndarray]:
    """Kernels of the first layer, one per unit, where they can be drawn.

    Those of a dense layer are (units, d), with the standard deviations of the inputs (d,). Those of a convolution are
    (units, h, w), or (units, h, w, 3) for colour. Other layers, such as recurrent ones, have none.
    """
    kernel = trained.params["encoder"].get("layer_0", {}).get("kernel")
    if kernel is None:
        return {}
    features = np.moveaxis(np.asarray(kernel), -1, 0)[:FEATURES]
    if features.shape[1:] == (trained.dataset.inputs,):
        return {"features": features, "features/deviation": _deviation(trained.dataset)}
    if features.ndim == 4 and features.shape[3] == 1:
        features = features[..., 0]
    return {"features": features} if features.ndim == 3 or features.shape[3:] == (3,) else {}


@functools.lru_cache(maxsize=1)
def _deviation(dataset: Dataset) -> np.ndarray:
    """Standard deviations of the inputs over evenly spaced training rows, (d,)."""
    rows = evenly_spaced(len(dataset.x_train), DENSITY_ROWS)
    return np.std(dataset.floats(dataset.x_train[rows]), axis=0)
