"""How steady codings are when the input moves, beside PCA's."""

from __future__ import annotations

import math

import jax
import numpy as np

from aejax.evaluation import reconstruction
from aejax.evaluation.scores.base import Comparison, Measurement, Score, TrainedRun
from aejax.nets import Params
from aejax.runtime import validate
from aejax.variants import Autoencoder
from aejax.variants.contractive import squared_jacobian_norms

BLOCK_ROWS = 50
"""Rows whose Jacobians are held at once."""

HEADERS = (
    (
        "jacobian_norm",
        "Jacobian",
        "Frobenius norm of d codings / d inputs, mean over test rows; that of k principal components is the root of k",
    ),
    (
        "coding_sensitivity",
        "sensitivity",
        "squared distance that Gaussian noise on the input moves codings, over that between two test rows: 0 is "
        "steady, whatever the codings' scale",
    ),
    ("pca_coding_sensitivity", "PCA sensitivity", "the same of PCA with as many components"),
    (
        "equal_pca_coding_sensitivity",
        "PCA sensitivity, equal SSE",
        "the same of PCA with the fewest components whose error on test is no larger than ours",
    ),
)
AGAINST = (
    Comparison(
        "coding_sensitivity",
        "pca_coding_sensitivity",
        "PCA with as many components in the steadiness of codings",
        "sensitivity {ours} against {theirs}",
        "In squared error",
        curve=True,
        only="equal_pca_coding_sensitivity",  # codings that tell no more than the mean are steady for nothing
    ),
    Comparison(
        "coding_sensitivity",
        "equal_pca_coding_sensitivity",
        "PCA with no more error in the steadiness of codings",
        "sensitivity {ours} against {theirs}",
        "In squared error",
        curve=True,
    ),
)


def contraction(level: float = 0.25, *, rows: int = 1000) -> Score:
    """The Jacobian of the codings on the first `rows` test rows, and what noise does to the codings of all of them.

    `level` is the standard deviation of the noise, the same for every run. The Jacobian's norm shrinks with the
    codings' scale; `coding_sensitivity` does not. Numbers: those of HEADERS. Raises ConfigError on a number that
    cannot be.
    """
    level = validate.number("scores.contraction.level", level, positive=True)
    rows = validate.whole_number("scores.contraction.rows", rows, minimum=1)
    return Score("contraction", (("level", level), ("rows", rows)), _measure, HEADERS, against=AGAINST)


def _measure(trained: TrainedRun, *, level: float, rows: int) -> Measurement:
    dataset, principal = trained.dataset, trained.reference.params
    clean_nd = dataset.floats(dataset.x_test)
    noise_nd = level * np.asarray(jax.random.normal(jax.random.key(0), clean_nd.shape))

    def codings(x_nd: np.ndarray) -> np.ndarray:
        return reconstruction.reconstruct(trained.autoencoder, trained.params, x_nd)[0]

    def of_pca(k: int) -> float | None:
        components_kd = principal.components_kd[:k]
        pca_nk = (clean_nd - principal.mean_d) @ components_kd.T
        return sensitivity(pca_nk, pca_nk + noise_nd @ components_kd.T)

    clean_nk, _, error_n = reconstruction.reconstruct(trained.autoencoder, trained.params, clean_nd)
    sse = float(error_n.astype(np.float64).mean())
    equal = math.ceil(reconstruction.pca_equivalent_dimension(sse, trained.reference.curve))
    return {
        "jacobian_norm": jacobian_norm(trained.autoencoder, trained.params, clean_nd[:rows]),
        "coding_sensitivity": sensitivity(clean_nk, codings(clean_nd + noise_nd)),
        "pca_coding_sensitivity": of_pca(min(trained.codings, principal.rank)),
        "equal_pca_coding_sensitivity": of_pca(equal) if equal else None,
    }, {}


def jacobian_norm(autoencoder: Autoencoder, params: Params, x_nd: np.ndarray) -> float:
    """Frobenius norm of the encoder's Jacobian, mean over rows, at highest precision."""
    with jax.default_matmul_precision("highest"):
        blocks = [x_nd[start : start + BLOCK_ROWS] for start in range(0, len(x_nd), BLOCK_ROWS)]
        padded = [np.pad(block, ((0, BLOCK_ROWS - len(block)), (0, 0))) for block in blocks]
        found = [
            np.asarray(_squared_norms(autoencoder.encode, params, some))[: len(block)]
            for some, block in zip(padded, blocks, strict=True)
        ]
    return float(np.sqrt(np.concatenate(found).astype(np.float64)).mean())


_squared_norms = jax.jit(squared_jacobian_norms, static_argnames="encode")


def sensitivity(clean_nk: np.ndarray, noisy_nk: np.ndarray) -> float | None:
    """Mean squared distance between codings of a clean and a noisy row over that between those of two clean rows.

    None where all rows have the same codings.
    """
    clean_nk, noisy_nk = clean_nk.astype(np.float64), noisy_nk.astype(np.float64)
    between = 2 * clean_nk.var(axis=0).sum()
    moved = np.square(noisy_nk - clean_nk).sum(axis=1).mean()
    constant = between <= reconstruction.ROUNDING * np.square(clean_nk).sum(axis=1).mean()
    return None if constant else float(moved / between)
