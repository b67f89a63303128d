"""Codings in, numbers out: an autoencoder's error on test, always beside exact PCA's.

SSE is the squared error summed over inputs and averaged over rows, in the units a net sees (pixels in [0, 1]). R2 is
`1 - SSE / SSE of the mean predictor`, both on test, the mean being that of the rows the reference PCA was fitted on:
predicting that mean scores 0, perfect reconstruction 1, and on its own rows PCA-k its cumulative explained variance.
"""

from __future__ import annotations

import functools
import time
import weakref
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.linalg

from aejax.datasets.base import Dataset
from aejax.evaluation import pca
from aejax.nets import Params
from aejax.variants import Autoencoder

ROUNDING = 1e-12
"""PCA errors below this share of the mean predictor's are rounding: a ratio to them would mean nothing."""
BLOCK_ROWS = 512
"""Rows scored at once; the last block is padded, so that splits of any size share one compiled program."""


class PCAReference(NamedTuple):
    """What autoencoders are compared with: exact PCA of train and validation rows together, and its SSE on test.

    `curve` is (min(n, d) + 1,) float64: the SSE with 0, 1, … components; entry 0 is the mean predictor's. `seconds` is
    the decomposition's wall time.
    """

    params: pca.PCAParams
    curve: np.ndarray
    seconds: float


_REFERENCES: weakref.WeakKeyDictionary[Dataset, PCAReference] = weakref.WeakKeyDictionary()


def pca_reference(dataset: Dataset) -> PCAReference:
    """The reference PCA of a dataset, fitted on train and validation rows and scored on test rows.

    It is computed once for each dataset and kept as long as the dataset lives.
    """
    if dataset not in _REFERENCES:
        start = time.perf_counter()
        params = pca.fit(np.concatenate([dataset.x_train, dataset.x_validation]), unit=dataset.unit)
        seconds = time.perf_counter() - start
        curve = pca.error_curve(params, dataset.x_test, unit=dataset.unit)
        _REFERENCES[dataset] = PCAReference(params, curve, seconds)
    return _REFERENCES[dataset]


@functools.partial(jax.jit, static_argnames=("autoencoder", "unit"))
def _reconstruct(autoencoder: Autoencoder, params: Params, x_bd: jax.Array, unit: float) -> tuple[jax.Array, ...]:
    x_bd = x_bd.astype(jnp.float32) / unit
    z_bk = autoencoder.encode(params, x_bd)
    reconstruction_bd = autoencoder.decode(params, z_bk)
    return z_bk, reconstruction_bd, jnp.sum(jnp.square(reconstruction_bd - x_bd), axis=-1)


def reconstruct(
    autoencoder: Autoencoder, params: Params, x_nd: np.ndarray, *, unit: float = 1.0, block_rows: int = BLOCK_ROWS
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Codings (n, k), reconstructions (n, d) and squared errors (n,) of rows `x_nd / unit`, at highest precision."""
    parts = []
    with jax.default_matmul_precision("highest"):
        for start in range(0, len(x_nd), block_rows):
            block = x_nd[start : start + block_rows]
            padded = np.pad(block, ((0, block_rows - len(block)), (0, 0)))
            parts.append([np.asarray(a)[: len(block)] for a in _reconstruct(autoencoder, params, padded, unit)])
    z_nk, reconstruction_nd, error_n = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    return z_nk, reconstruction_nd, error_n


@functools.partial(jax.jit, static_argnames="autoencoder")
def _decode(autoencoder: Autoencoder, params: Params, z_bk: jax.Array) -> jax.Array:
    return autoencoder.decode(params, z_bk)


def decode(autoencoder: Autoencoder, params: Params, z_nk: np.ndarray, block_rows: int = BLOCK_ROWS) -> np.ndarray:
    """Rows (n, d) out of codings, in blocks, at highest precision."""
    parts = []
    with jax.default_matmul_precision("highest"):
        for start in range(0, len(z_nk), block_rows):
            block = np.asarray(z_nk[start : start + block_rows], np.float32)
            padded = np.pad(block, ((0, block_rows - len(block)), (0, 0)))
            parts.append(np.asarray(_decode(autoencoder, params, padded))[: len(block)])
    return np.concatenate(parts)


def sse(
    autoencoder: Autoencoder, params: Params, x_nd: np.ndarray, *, unit: float = 1.0, block_rows: int = BLOCK_ROWS
) -> float:
    """Squared error summed over inputs, averaged over the rows `x_nd / unit`."""
    return float(reconstruct(autoencoder, params, x_nd, unit=unit, block_rows=block_rows)[2].astype(np.float64).mean())


def pca_equivalent_dimension(sse_test: float, curve: np.ndarray) -> float:
    """The fewest principal components that give this error, interpolated linearly on the exact curve of errors.

    0 when the error is that of the mean predictor or worse; where the curve has reached its end, the rank, when it is
    below all of it.
    """
    falling = np.minimum.accumulate(curve)
    enough = falling <= max(sse_test, falling[-1] + ROUNDING * curve[0])
    k = int(np.argmax(enough))
    if k == 0 or sse_test <= falling[k]:
        return float(k)
    return float(k - (sse_test - falling[k]) / (falling[k - 1] - falling[k]))


def principal_angle_max_deg(
    autoencoder: Autoencoder, params: Params, components_kd: np.ndarray, inputs: int, codings: int
) -> float:
    """Largest principal angle, in degrees, between a linear decoder's range and the span of the components.

    0 when the decoder spans the PCA subspace (Baldi & Hornik 1989), 90 when it misses a direction of it altogether.
    Angles as in Björck & Golub 1973; `components_kd` has k orthonormal rows of d = `inputs`.
    """
    with jax.default_matmul_precision("highest"):
        decoded = np.asarray(autoencoder.decode(params, jnp.concatenate([jnp.zeros((1, codings)), jnp.eye(codings)])))
    decoder_kd = (decoded[1:] - decoded[:1]).astype(np.float64)
    if np.linalg.matrix_rank(decoder_kd) < codings:
        return 90.0
    return float(np.degrees(scipy.linalg.subspace_angles(decoder_kd.T, components_kd[:, :inputs].T).max()))


def score(
    autoencoder: Autoencoder,
    params: Params,
    dataset: Dataset,
    reference: PCAReference | None = None,
    *,
    codings: int | None = None,
    linear: bool = False,
    sse_test: float | None = None,
) -> dict[str, Any]:
    """The numbers of one row: the autoencoder on test and PCA with as many components on the same test rows.

    Keys: sse_test, mse_test (per input), r2_test, pca_sse_test, sse_ratio (ours over PCA's: below 1 we win; None where
    PCA's error is zero up to rounding), pca_equivalent_dimension, and principal_angle_max_deg (None unless `linear`).
    `reference` is the dataset's own unless another is given; `sse_test` saves reconstructing the test rows. Codings
    beyond the rank of the data are compared with PCA at its full rank.
    """
    reference = reference or pca_reference(dataset)
    k = codings or jax.eval_shape(autoencoder.encode, params, jnp.zeros((1, dataset.inputs))).shape[-1]
    if sse_test is None:
        sse_test = sse(autoencoder, params, dataset.x_test, unit=dataset.unit)
    pca_sse = float(reference.curve[min(k, len(reference.curve) - 1)])
    angle = None
    if linear and k <= reference.params.rank:
        angle = principal_angle_max_deg(autoencoder, params, reference.params.components_kd[:k], dataset.inputs, k)
    return {
        "sse_test": sse_test,
        "mse_test": sse_test / dataset.inputs,
        "r2_test": 1 - sse_test / float(reference.curve[0]),
        "pca_sse_test": pca_sse,
        "sse_ratio": sse_test / pca_sse if pca_sse > ROUNDING * float(reference.curve[0]) else None,
        "pca_equivalent_dimension": pca_equivalent_dimension(sse_test, reference.curve),
        "principal_angle_max_deg": angle,
    }
