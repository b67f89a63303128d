"""Error after denoising, compared with PCA and with the best affine map."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from aejax.datasets import images
from aejax.datasets.base import Dataset
from aejax.evaluation import pca, reconstruction
from aejax.evaluation.scores.base import Comparison, Measurement, Score, TrainedRun
from aejax.runtime import validate
from aejax.variants.denoising import check_noise, corrupt

SPLITS = ("validation", "test")
BLOCK_ROWS = 4096
"""Rows that noise is drawn for at once."""

HEADERS = (
    ("denoised_sse_test", "denoised", "SSE of the reconstructions of noisy test rows against the clean rows"),
    ("pca_denoised_sse_test", "PCA denoised", "the same of PCA with as many components, from the same noisy rows"),
    (
        "pca_best_denoised_sse_test",
        "best PCA denoised",
        "the same of PCA with the number of components that is best on noisy validation rows",
    ),
    ("pca_best_components", "best PCA's k", "that number of components"),
    (
        "affine_denoised_sse_test",
        "affine denoised",
        "the same of the affine map that is best for the mean and covariance of training and validation rows and this "
        "noise (a Wiener filter), the most that any linear method can do",
    ),
    (
        "affine_rank_denoised_sse_test",
        "affine of that rank",
        "the same of the best such map whose rank is at most the number of codings: the most that linear nets can do",
    ),
    (
        "denoised_sse_validation",
        "denoised, validation",
        "SSE of the reconstructions of noisy validation rows against the clean rows: what settings are chosen by",
    ),
)

_compare = functools.partial(Comparison, "denoised_sse_test", sse_introduction="On clean rows")
_COMPARISONS = (
    _compare(
        "pca_best_denoised_sse_test",
        "PCA with its best number of components on noisy rows",
        "SSE {ours} from the clean ones against {theirs}",
    ),
    _compare("affine_denoised_sse_test", "the best affine map for this noise", "SSE {ours} against {theirs}"),
)


def denoising(
    noise: str = "gaussian", level: float = 0.5, *, pepper: float = 0.0, salt: float = 1.0, repetitions: int = 1
) -> Score:
    """SSE between the reconstructions of noisy test rows and the clean rows, compared with PCA and with affine maps.

    `variants.denoising.corrupt` defines `noise`, `level`, `pepper` and `salt`. Each row has `repetitions` draws, which
    are the same for every run. Every number but two is a squared error summed over inputs and averaged over rows and
    draws, in the units of the net's input; lower is better.

    denoised_sse_test: error of the autoencoder.
    denoised_sse_validation: the same on validation rows; settings are chosen by it.
    noisy_sse_test: error of the noisy rows themselves.
    pca_denoised_sse_test: error of the reference PCA with as many components as codings.
    pca_best_denoised_sse_test: error of PCA with the number of components that is best on noisy validation rows.
    pca_best_components: that number of components.
    affine_denoised_sse_test: error of `best_affine_map`.
    affine_rank_denoised_sse_test: error of the best affine map whose rank is at most the number of codings.
    denoised_ratio: denoised_sse_test / pca_best_denoised_sse_test, below 1 where the autoencoder is better; None where
        PCA's error is a rounding error.

    The arrays `denoising/clean`, `noisy`, `denoised`, `pca` and `affine`, (10, d), are examples from the test rows.
    Raises ConfigError for an unknown `noise`, a `level` or range of values that this noise does not allow, and
    `repetitions` below 1.
    """
    prefix = "scores.denoising."
    check_noise(noise, pepper, salt, prefix)
    level = validate.number(f"{prefix}level", level, within=None if noise == "gaussian" else (0.0, 1.0))
    repetitions = validate.whole_number(f"{prefix}repetitions", repetitions, minimum=1)
    values = {"noise": noise, "level": level, "pepper": float(pepper), "salt": float(salt), "repetitions": repetitions}
    options = tuple(values.items())
    return Score("denoising", options, _measure, HEADERS, comparisons=_COMPARISONS, chosen_by="denoised_sse_validation")


Denoise = Callable[[np.ndarray], np.ndarray]
"""A map from noisy rows (n, d) to rows that should be the clean ones, (n, d)."""


class _Noise(NamedTuple):
    """A noise as `corrupt` defines it, and the number of draws for each row."""

    noise: str
    level: float
    pepper: float
    salt: float
    repetitions: int

    def __call__(self, x_nd: np.ndarray, key: jax.Array) -> np.ndarray:
        return np.asarray(corrupt(key, jnp.asarray(x_nd), self.level, self.noise, pepper=self.pepper, salt=self.salt))

    def mean(self, dataset: Dataset, split: str, error: Callable[[np.ndarray, np.ndarray], Any]) -> Any:
        """Mean over rows and repetitions of `error(clean_nd, noisy_nd)`, which is a sum over the rows of a block.

        The noise is the same in every call.
        """
        x_nd = getattr(dataset, f"x_{split}")
        split_key = jax.random.fold_in(jax.random.key(0), SPLITS.index(split))
        total = 0
        for i, start in enumerate(range(0, len(x_nd), BLOCK_ROWS)):
            clean_nd = dataset.floats(x_nd[start : start + BLOCK_ROWS])
            block_key = jax.random.fold_in(split_key, i)
            for repetition in range(self.repetitions):
                total = total + error(clean_nd, self(clean_nd, jax.random.fold_in(block_key, repetition)))
        return total / (self.repetitions * len(x_nd))

    def sse(self, dataset: Dataset, split: str, denoise: Denoise) -> float:
        """Squared error between denoised and clean rows, summed over inputs, averaged over rows and repetitions."""

        def sum_of_squares(clean_nd: np.ndarray, noisy_nd: np.ndarray) -> np.ndarray:
            return np.square(denoise(noisy_nd) - clean_nd, dtype=np.float64).sum()

        return float(self.mean(dataset, split, sum_of_squares))


@functools.lru_cache(maxsize=4)
def _noisy_sse(dataset: Dataset, noise: _Noise) -> float:
    """SSE of the noisy test rows themselves."""
    return noise.sse(dataset, "test", lambda noisy_nd: noisy_nd)


@functools.lru_cache(maxsize=8)
def _pca_curve(dataset: Dataset, noise: _Noise, split: str) -> np.ndarray:
    """SSE of PCA with 0, 1, … components, (k + 1,)."""
    return noise.mean(dataset, split, functools.partial(pca_curve, reconstruction.pca_reference(dataset).params))


@functools.lru_cache(maxsize=4)
def _affine_map(dataset: Dataset, noise: _Noise, rank: int | None) -> Denoise:
    params = reconstruction.pca_reference(dataset).params
    return best_affine_map(params, noise.noise, noise.level, noise.pepper, noise.salt, rank)


@functools.lru_cache(maxsize=16)
def _affine_sse(dataset: Dataset, noise: _Noise, rank: int | None) -> float:
    """SSE of the best affine map for test rows, or of the best whose rank is at most `rank`."""
    return noise.sse(dataset, "test", _affine_map(dataset, noise, rank))


def _measure(trained: TrainedRun, **options: Any) -> Measurement:
    dataset = trained.dataset
    reference = trained.reference
    noise = _Noise(**options)

    def denoise(noisy_nd: np.ndarray) -> np.ndarray:
        return trained.reconstruct(noisy_nd)[1]

    test_sse = noise.sse(dataset, "test", denoise)
    curve = _pca_curve(dataset, noise, "test")
    best_k = int(np.argmin(_pca_curve(dataset, noise, "validation")))
    best_pca_sse = float(curve[best_k])
    pca_exact = best_pca_sse <= reconstruction.ROUNDING * float(reference.curve[0])
    numbers: dict[str, float | None] = {
        "denoised_sse_validation": noise.sse(dataset, "validation", denoise),
        "denoised_sse_test": test_sse,
        "noisy_sse_test": _noisy_sse(dataset, noise),
        "pca_denoised_sse_test": float(curve[min(trained.codings, len(curve) - 1)]),
        "pca_best_denoised_sse_test": best_pca_sse,
        "pca_best_components": best_k,
        "affine_denoised_sse_test": _affine_sse(dataset, noise, None),
        "affine_rank_denoised_sse_test": _affine_sse(dataset, noise, trained.codings),
        "denoised_ratio": None if pca_exact else test_sse / best_pca_sse,
    }
    clean_nd = dataset.floats(dataset.x_test[images.example_rows(dataset)])
    noisy_nd = noise(clean_nd, jax.random.fold_in(jax.random.key(0), len(SPLITS)))
    best_pca = reference.params._replace(components_kd=reference.params.components_kd[:best_k])
    examples = {
        "clean": clean_nd,
        "noisy": noisy_nd,
        "denoised": denoise(noisy_nd),
        "pca": np.asarray(pca.decode(best_pca, pca.encode(best_pca, jnp.asarray(noisy_nd)))),
        "affine": _affine_map(dataset, noise, None)(noisy_nd).astype(np.float32),
    }
    return numbers, {f"denoising/{name}": images.brightness(dataset, x_nd) for name, x_nd in examples.items()}


def pca_curve(params: pca.PCAParams, clean_nd: np.ndarray, noisy_nd: np.ndarray) -> np.ndarray:
    """Squared error between PCA's reconstructions of noisy rows and the clean rows x, with 0, 1, …, k components.

    Returns (k + 1,) float64, summed over inputs and rows. One projection gives all entries: the components are
    orthonormal, so that with codings c of the clean row and z of the noisy row the error with j components is
    |x - mean|^2 plus the sum of z_i^2 - 2 z_i c_i over i <= j.
    """
    centred_nd = clean_nd.astype(np.float64) - params.mean_d
    clean_nk = centred_nd @ params.components_kd.T
    noisy_nk = (noisy_nd.astype(np.float64) - params.mean_d) @ params.components_kd.T
    gains_k = (noisy_nk * (noisy_nk - 2 * clean_nk)).sum(axis=0)
    return np.square(centred_nd).sum() + np.concatenate([[0.0], np.cumsum(gains_k)])


def best_affine_map(
    params: pca.PCAParams, noise: str, level: float, pepper: float = 0.0, salt: float = 1.0, rank: int | None = None
) -> Denoise:
    """The affine map from noisy to clean rows with the smallest expected squared error: (n, d) to (n, d) float64.

    m and C are the mean and the covariance (denominator n) of the rows that PCA was fitted on. The noise of each value
    is independent of the others. Given the clean row x, the noisy row y has mean a x + c, and its variances, averaged
    over x, are the diagonal matrix D. Noisy rows therefore have mean a m + c, covariance a^2 C + D, and covariance a C
    with the clean rows. The map is m + a C (a^2 C + D)^+ (y - a m - c), with a pseudo-inverse for constant inputs.
    For Gaussian noise it multiplies each principal component by v / (v + level^2), where v is the component's variance:
    the Wiener filter. With a `rank`, the output is projected on the leading eigenvectors of its covariance
    (reduced-rank regression, Izenman 1975).
    """
    variances_k = params.variances_k * ((params.rows - 1) / params.rows)
    covariance_dd = (params.components_kd.T * variances_k) @ params.components_kd
    mean_square_d = np.diag(covariance_dd) + np.square(params.mean_d)
    kept = 1.0 if noise == "gaussian" else 1.0 - level  # a: probability that a value is not replaced
    low, high = (pepper, salt) if noise == "salt_and_pepper" else (0.0, 0.0)  # what values are replaced by
    shift = level * (low + high) / 2  # c: mean of a replacement times its probability
    replaced_square = level * (low**2 + high**2) / 2  # mean square of a replacement times its probability
    if noise == "gaussian":
        noise_d = np.full(len(mean_square_d), level**2)
    else:  # mean square minus the square of the conditional mean, both averaged over rows
        conditional_d = kept**2 * mean_square_d + 2 * kept * shift * params.mean_d + shift**2
        noise_d = np.maximum(kept * mean_square_d + replaced_square - conditional_d, 0.0)
    noisy_dd = kept**2 * covariance_dd + np.diag(noise_d)
    map_dd = kept * covariance_dd @ np.linalg.pinv(noisy_dd, rcond=1e-12, hermitian=True)
    if rank is not None and rank < len(map_dd):
        leading_dr = np.linalg.eigh(map_dd @ noisy_dd @ map_dd.T)[1][:, len(map_dd) - rank :]
        map_dd = leading_dr @ (leading_dr.T @ map_dd)

    def denoise(noisy_nd: np.ndarray) -> np.ndarray:
        centred_nd = noisy_nd.astype(np.float64) - (kept * params.mean_d + shift)
        return params.mean_d + centred_nd @ map_dd.T

    return denoise
