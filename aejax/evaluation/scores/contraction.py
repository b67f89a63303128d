"""Sensitivity of codings to changes of the input, compared with PCA."""

from __future__ import annotations

import functools
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
"""Rows whose Jacobians are computed at once."""

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
_SENTENCE = "sensitivity {ours} against {theirs}"
_compare = functools.partial(Comparison, "coding_sensitivity", sentence=_SENTENCE, all_settings=True)
_COMPARISONS = (
    _compare(
        "pca_coding_sensitivity",
        "PCA with as many components in the steadiness of codings",
        requires="equal_pca_coding_sensitivity",  # codings no better than the mean are excluded
    ),
    _compare("equal_pca_coding_sensitivity", "PCA with no more error in the steadiness of codings"),
)


def contraction(level: float = 0.25, *, rows: int = 1000) -> Score:
    """Norm of the encoder's Jacobian on the first `rows` test rows, and effect of noise on the codings of all.

    The noise is Gaussian with standard deviation `level`, with the same draws for every run.

    jacobian_norm: Frobenius norm of d codings / d inputs, averaged over rows (Rifai et al. 2011). It shrinks with the
        scale of the codings; that of k principal components is sqrt(k).
    coding_sensitivity: mean squared distance between the codings of a clean and a noisy row over that between the
        codings of two clean rows; at least 0, independent of the codings' scale, None where the codings are constant.
    pca_coding_sensitivity: the same for PCA with as many components as codings, at most its rank.
    equal_pca_coding_sensitivity: the same for PCA with the fewest components whose test SSE is no larger than the
        autoencoder's; None where the autoencoder is no better than the mean predictor.

    Lower is better for all of them. Raises ConfigError where `level` is not above 0 or `rows` is below 1.
    """
    level = validate.number("scores.contraction.level", level, positive=True)
    rows = validate.whole_number("scores.contraction.rows", rows, minimum=1)
    return Score("contraction", (("level", level), ("rows", rows)), _measure, HEADERS, comparisons=_COMPARISONS)


def _measure(trained: TrainedRun, *, level: float, rows: int) -> Measurement:
    reference = trained.reference
    clean_nd = trained.dataset.floats(trained.dataset.x_test)
    noise_nd = level * np.asarray(jax.random.normal(jax.random.key(0), clean_nd.shape))

    def pca_sensitivity(k: int) -> float | None:
        components_kd = reference.params.components_kd[:k]
        pca_nk = (clean_nd - reference.params.mean_d) @ components_kd.T
        return sensitivity(pca_nk, pca_nk + noise_nd @ components_kd.T)

    # not `trained.test_codings_nk`: a division of bytes inside the compiled program rounds differently than on the host
    clean_nk, _, error_n = trained.reconstruct(clean_nd)
    noisy_nk = trained.reconstruct(clean_nd + noise_nd)[0]
    sse = float(error_n.astype(np.float64).mean())
    equal_k = math.ceil(reconstruction.pca_equivalent_dimension(sse, reference.curve))
    return {
        "jacobian_norm": jacobian_norm(trained.autoencoder, trained.params, clean_nd[:rows]),
        "coding_sensitivity": sensitivity(clean_nk, noisy_nk),
        "pca_coding_sensitivity": pca_sensitivity(min(trained.codings, reference.params.rank)),
        "equal_pca_coding_sensitivity": pca_sensitivity(equal_k) if equal_k else None,
    }, {}


def jacobian_norm(autoencoder: Autoencoder, params: Params, x_nd: np.ndarray) -> float:
    """Frobenius norm of the encoder's Jacobian, averaged over rows of floats (n, d), at highest matmul precision."""
    (square_n,) = reconstruction.in_blocks(
        lambda block_bd, _: [_squared_norms(autoencoder.encode, params, block_bd)], x_nd, BLOCK_ROWS
    )
    return float(np.sqrt(square_n.astype(np.float64)).mean())


_squared_norms = jax.jit(squared_jacobian_norms, static_argnames="encode")


def sensitivity(clean_nk: np.ndarray, noisy_nk: np.ndarray) -> float | None:
    """Mean squared distance between the codings of a clean and a noisy row over that between two clean rows.

    None where all rows have the same codings.
    """
    clean_nk = clean_nk.astype(np.float64)
    noisy_nk = noisy_nk.astype(np.float64)
    between_rows = 2 * clean_nk.var(axis=0).sum()
    by_noise = np.square(noisy_nk - clean_nk).sum(axis=1).mean()
    constant = between_rows <= reconstruction.ROUNDING * np.square(clean_nk).sum(axis=1).mean()
    return None if constant else float(by_noise / between_rows)
