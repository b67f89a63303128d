"""How much of the noise an autoencoder takes away, beside what PCA and the best affine map take away."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
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

SPLITS, BLOCK_ROWS = ("validation", "test"), 4096

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

AGAINST = (
    Comparison(
        "denoised_sse_test",
        "pca_best_denoised_sse_test",
        "PCA with its best number of components on noisy rows",
        "SSE {ours} from the clean ones against {theirs}",
        "On clean rows",
    ),
    Comparison(
        "denoised_sse_test",
        "affine_denoised_sse_test",
        "the best affine map for this noise",
        "SSE {ours} against {theirs}",
        "On clean rows",
    ),
)


def denoising(
    noise: str = "gaussian", level: float = 0.5, *, pepper: float = 0.0, salt: float = 1.0, repetitions: int = 1
) -> Score:
    """Squared error of reconstructions of noisy test rows against the clean ones, beside PCA's and an affine map's.

    `variants.denoising.corrupt` says what `noise`, `level`, `pepper` and `salt` are. The noise is the same for every
    run, `repetitions` draws for each row; that of validation, by which settings are chosen, is another. Numbers:
    `noisy_sse_test` (the noise itself) and those of HEADERS; `denoised_ratio` is ours over
    that of PCA with its best number of components. Raises ConfigError on a noise that cannot be.
    """
    where = "scores.denoising."
    check_noise(noise, pepper, salt, where)
    level = validate.number(f"{where}level", level, within=None if noise == "gaussian" else (0.0, 1.0))
    repetitions = validate.whole_number(f"{where}repetitions", repetitions, minimum=1)
    options = {"noise": noise, "level": level, "pepper": float(pepper), "salt": float(salt), "repetitions": repetitions}
    given = tuple(options.items())
    return Score("denoising", given, _measure, HEADERS, against=AGAINST, chosen_by="denoised_sse_validation")


class _Rivals(NamedTuple):
    """What does not depend on the autoencoder: errors by split, PCA's for 0, 1, … components, and the affine map."""

    noisy: dict[str, float]
    pca: dict[str, np.ndarray]
    affine: dict[str, float]
    denoise: Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class _Noise:
    """A noise, and how often each row is drawn."""

    noise: str
    level: float
    pepper: float
    salt: float
    repetitions: int

    def __call__(self, x_nd: np.ndarray, key: jax.Array) -> np.ndarray:
        noisy_nd = corrupt(key, jnp.asarray(x_nd), self.level, self.noise, pepper=self.pepper, salt=self.salt)
        return np.asarray(noisy_nd)

    def blocks(self, dataset: Dataset, split: str) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Clean and noisy floats of every block of rows, every repetition: the same at every call."""
        x_nd, key = getattr(dataset, f"x_{split}"), jax.random.fold_in(jax.random.key(0), SPLITS.index(split))
        for i, start in enumerate(range(0, len(x_nd), BLOCK_ROWS)):
            clean_nd = dataset.floats(x_nd[start : start + BLOCK_ROWS])
            for repetition in range(self.repetitions):
                yield clean_nd, self(clean_nd, jax.random.fold_in(jax.random.fold_in(key, i), repetition))

    def mean(self, dataset: Dataset, split: str, error: Callable[[np.ndarray, np.ndarray], Any]) -> Any:
        """Mean over rows of what `error` gives summed over those of a block."""
        rows = self.repetitions * len(getattr(dataset, f"x_{split}"))
        return sum(error(clean_nd, noisy_nd) for clean_nd, noisy_nd in self.blocks(dataset, split)) / rows


@functools.lru_cache(maxsize=4)
def _rivals(dataset: Dataset, noise: _Noise) -> _Rivals:
    principal = reconstruction.pca_reference(dataset).params
    denoise = best_affine_map(principal, noise.noise, noise.level, noise.pepper, noise.salt)
    errors = (
        lambda clean_nd, noisy_nd: _squares(noisy_nd - clean_nd),
        lambda clean_nd, noisy_nd: pca_curve(principal, clean_nd, noisy_nd),
        lambda clean_nd, noisy_nd: _squares(denoise(noisy_nd) - clean_nd),
    )
    noisy, curves, affine = ({split: noise.mean(dataset, split, error) for split in SPLITS} for error in errors)
    return _Rivals(noisy, curves, affine, denoise)


@functools.lru_cache(maxsize=8)
def _affine_of_rank(dataset: Dataset, noise: _Noise, rank: int) -> float:
    """Error on test of the best affine map of at most that rank."""
    principal = reconstruction.pca_reference(dataset).params
    denoise = best_affine_map(principal, noise.noise, noise.level, noise.pepper, noise.salt, rank=rank)
    return float(noise.mean(dataset, "test", lambda clean_nd, noisy_nd: _squares(denoise(noisy_nd) - clean_nd)))


def _measure(trained: TrainedRun, **options: Any) -> Measurement:
    dataset, principal, noise = trained.dataset, trained.reference.params, _Noise(**options)
    rivals = _rivals(dataset, noise)

    def ours(noisy_nd: np.ndarray) -> np.ndarray:
        return reconstruction.reconstruct(trained.autoencoder, trained.params, noisy_nd)[1]

    validation, test = (
        float(noise.mean(dataset, split, lambda clean_nd, noisy_nd: _squares(ours(noisy_nd) - clean_nd)))
        for split in SPLITS
    )
    best, curve = int(np.argmin(rivals.pca["validation"])), rivals.pca["test"]
    exact = curve[best] <= reconstruction.ROUNDING * float(trained.reference.curve[0])
    numbers: dict[str, float | None] = {
        "denoised_sse_validation": validation,
        "denoised_sse_test": test,
        "noisy_sse_test": float(rivals.noisy["test"]),
        "pca_denoised_sse_test": float(curve[min(trained.codings, len(curve) - 1)]),
        "pca_best_denoised_sse_test": float(curve[best]),
        "pca_best_components": best,
        "affine_denoised_sse_test": float(rivals.affine["test"]),
        "affine_rank_denoised_sse_test": _affine_of_rank(dataset, noise, trained.codings),
        "denoised_ratio": None if exact else test / float(curve[best]),
    }
    clean_nd = dataset.floats(dataset.x_test[images.example_rows(dataset)])
    noisy_nd = noise(clean_nd, jax.random.fold_in(jax.random.key(0), len(SPLITS)))
    first = principal._replace(components_kd=principal.components_kd[:best])
    shown = {
        "clean": clean_nd,
        "noisy": noisy_nd,
        "denoised": ours(noisy_nd),
        "pca": np.asarray(pca.decode(first, pca.encode(first, jnp.asarray(noisy_nd)))),
        "affine": rivals.denoise(noisy_nd).astype(np.float32),
    }
    return numbers, {f"denoising/{name}": images.brightness(dataset, x_nd) for name, x_nd in shown.items()}


def _squares(difference_nd: np.ndarray) -> np.ndarray:
    """Sum of squares over all rows, in float64."""
    return np.square(difference_nd, dtype=np.float64).sum()


def pca_curve(params: pca.PCAParams, clean_nd: np.ndarray, noisy_nd: np.ndarray) -> np.ndarray:
    """Squared error, summed over rows, of PCA's reconstructions of noisy rows with 0, 1, … components: (k + 1,).

    All from one projection: the components being orthonormal, with codings c of the clean and z of the noisy row the
    error of the first j is |x - mean|^2 + the sum of z_i^2 - 2 z_i c_i over i <= j. Float64.
    """
    centred_nd = clean_nd.astype(np.float64) - params.mean_d
    clean_nk = centred_nd @ params.components_kd.T
    noisy_nk = (noisy_nd.astype(np.float64) - params.mean_d) @ params.components_kd.T
    gains_k = (noisy_nk * (noisy_nk - 2 * clean_nk)).sum(axis=0)
    return np.square(centred_nd).sum() + np.concatenate([[0.0], np.cumsum(gains_k)])


def best_affine_map(
    params: pca.PCAParams, noise: str, level: float, pepper: float = 0.0, salt: float = 1.0, rank: int | None = None
) -> Callable[[np.ndarray], np.ndarray]:
    """The affine map from noisy to clean rows with the least expected squared error: noisy (n, d) to (n, d), float64.

    Of rows with the mean m and covariance C of the rows that PCA was fitted on. Every noise here is independent from
    value to value, of conditional mean a x + c and mean conditional variances D, so that the noisy rows have mean
    a m + c and covariance a^2 C + D, and covariance a C with the clean: m + a C (a^2 C + D)^-1 (x - a m - c), with a
    pseudo-inverse where values are constant. For Gaussian noise it shrinks each component by v / (v + level^2), v its
    variance: the Wiener filter. Of at most a `rank`, it is that map onto the leading eigenvectors of the covariance of
    what it gives (reduced-rank regression, Izenman 1975).
    """
    variances_k = params.variances_k * ((params.rows - 1) / params.rows)
    covariance_dd = (params.components_kd.T * variances_k) @ params.components_kd
    second_d = np.diag(covariance_dd) + np.square(params.mean_d)  # mean of x^2
    kept = 1.0 if noise == "gaussian" else 1.0 - level
    shift, gone = 0.0, 0.0  # mean, and mean square, of what replaces a value, times its probability
    if noise == "salt_and_pepper":
        shift, gone = level * (pepper + salt) / 2, level * (pepper**2 + salt**2) / 2
    if noise == "gaussian":
        noise_d = np.full(len(second_d), level**2)
    else:  # mean square less the square of the conditional mean, both averaged over rows
        of_the_mean_d = kept**2 * second_d + 2 * kept * shift * params.mean_d + shift**2
        noise_d = np.maximum(kept * second_d + gone - of_the_mean_d, 0.0)
    noisy_dd = kept**2 * covariance_dd + np.diag(noise_d)
    map_dd = kept * covariance_dd @ np.linalg.pinv(noisy_dd, rcond=1e-12, hermitian=True)
    if rank is not None and rank < len(map_dd):
        leading_dr = np.linalg.eigh(map_dd @ noisy_dd @ map_dd.T)[1][:, len(map_dd) - rank :]
        map_dd = leading_dr @ (leading_dr.T @ map_dd)

    def denoise(noisy_nd: np.ndarray) -> np.ndarray:
        centred_nd = noisy_nd.astype(np.float64) - (kept * params.mean_d + shift)
        return params.mean_d + centred_nd @ map_dd.T

    return denoise
