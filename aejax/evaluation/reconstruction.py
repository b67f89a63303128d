"""Reconstruction errors of an autoencoder on test rows, always compared with exact PCA.

SSE is the squared error summed over inputs and averaged over rows, in the units that a net sees (pixels in [0, 1]). R2
is `1 - SSE / SSE of the mean predictor`, both on test rows. The mean predictor returns the mean of the rows that the
reference PCA was fitted on. Its R2 is 0, and the R2 of a perfect reconstruction is 1. On the rows that PCA was fitted
on, the R2 of PCA with k components is its cumulative explained variance.
"""

from __future__ import annotations

import functools
import time
import weakref
from collections.abc import Callable, Sequence
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
"""A PCA error below this share of the mean predictor's error is a rounding error, and ratios to it have no meaning."""
BLOCK_ROWS = 512
"""Rows per compiled call. The last block is padded, so that splits of any size share one compiled program."""


class PCAReference(NamedTuple):
    """The baseline of every autoencoder: exact PCA of the training and validation rows together.

    params: the fitted PCA.
    curve: SSE on test rows with 0, 1, … components, (min(n, d) + 1,) float64; entry 0 is the mean predictor's.
    seconds: wall time of the fit.
    """

    params: pca.PCAParams
    curve: np.ndarray
    seconds: float


# Datasets are equal where their rows are. The fingerprint alone is not enough of a key, since
# `dataclasses.replace(dataset, x_test=...)` keeps it. The keys are weak: a reference lives as long as its dataset.
_REFERENCES: weakref.WeakKeyDictionary[Dataset, PCAReference] = weakref.WeakKeyDictionary()


def pca_reference(dataset: Dataset) -> PCAReference:
    """The reference PCA of a dataset, fitted on training and validation rows and evaluated on test rows.

    It is computed once per dataset object. Raises DataError where `pca.fit` does.
    """
    if dataset not in _REFERENCES:
        start = time.perf_counter()
        params = pca.fit(np.concatenate([dataset.x_train, dataset.x_validation]), unit=dataset.unit)
        seconds = time.perf_counter() - start
        curve = pca.error_curve(params, dataset.x_test, unit=dataset.unit)
        _REFERENCES[dataset] = PCAReference(params, curve, seconds)
    return _REFERENCES[dataset]


def in_blocks(compute: Callable[..., Sequence[jax.Array]], x_nd: np.ndarray, block_rows: int) -> list[np.ndarray]:
    """The arrays that `compute(block_bd, start)` returns for blocks of rows that begin at row `start`, joined.

    Every block has exactly `block_rows` rows: the last one is padded with zeros, and what is computed from these is
    left out. Matrix products have the highest precision.
    """
    parts = []
    with jax.default_matmul_precision("highest"):
        for start in range(0, len(x_nd), block_rows):
            block_bd = x_nd[start : start + block_rows]
            padded_bd = np.pad(block_bd, ((0, block_rows - len(block_bd)), (0, 0)))
            parts.append([np.asarray(array)[: len(block_bd)] for array in compute(padded_bd, start)])
    return [np.concatenate(arrays) for arrays in zip(*parts, strict=True)]


@functools.partial(jax.jit, static_argnames=("autoencoder", "unit"))
def _reconstruct(autoencoder: Autoencoder, params: Params, x_bd: jax.Array, unit: float) -> tuple[jax.Array, ...]:
    x_bd = x_bd.astype(jnp.float32) / unit
    z_bk = autoencoder.encode(params, x_bd)
    reconstruction_bd = autoencoder.decode(params, z_bk)
    return z_bk, reconstruction_bd, jnp.sum(jnp.square(reconstruction_bd - x_bd), axis=-1)


def reconstruct(
    autoencoder: Autoencoder, params: Params, x_nd: np.ndarray, *, unit: float = 1.0
) -> tuple[np.ndarray, ...]:
    """Codings (n, k), reconstructions (n, d) and squared errors (n,) of the rows `x_nd / unit`, all float32.

    Squared errors are summed over inputs. Matrix products have the highest precision.
    """
    return tuple(in_blocks(lambda block_bd, _: _reconstruct(autoencoder, params, block_bd, unit), x_nd, BLOCK_ROWS))


@functools.partial(jax.jit, static_argnames="autoencoder")
def _decode(autoencoder: Autoencoder, params: Params, z_bk: jax.Array) -> jax.Array:
    return autoencoder.decode(params, z_bk)


def decode(autoencoder: Autoencoder, params: Params, z_nk: np.ndarray) -> np.ndarray:
    """Decode codings (n, k) to rows (n, d), in blocks, at highest matmul precision."""
    z_nk = np.asarray(z_nk, np.float32)
    return in_blocks(lambda block_bk, _: [_decode(autoencoder, params, block_bk)], z_nk, BLOCK_ROWS)[0]


def sse(autoencoder: Autoencoder, params: Params, x_nd: np.ndarray, *, unit: float = 1.0) -> float:
    """SSE: squared error summed over inputs and averaged over the rows `x_nd / unit`; lower is better."""
    return float(reconstruct(autoencoder, params, x_nd, unit=unit)[2].astype(np.float64).mean())


def pca_equivalent_dimension(sse_test: float, curve: np.ndarray) -> float:
    """The smallest number of principal components whose SSE is `sse_test`, interpolated linearly between whole numbers.

    `curve` is the SSE of PCA with 0, 1, … components. The result is 0 where `sse_test` is no lower than the mean
    predictor's, and where `sse_test` is below the whole curve it is the number of components at which the curve ends
    its fall: the rank of the data.
    """
    decreasing = np.minimum.accumulate(curve)
    small_enough = decreasing <= max(sse_test, decreasing[-1] + ROUNDING * curve[0])
    k = int(np.argmax(small_enough))
    if k == 0 or sse_test <= decreasing[k]:
        return float(k)
    return float(k - (sse_test - decreasing[k]) / (decreasing[k - 1] - decreasing[k]))


def principal_angle_max_deg(autoencoder: Autoencoder, params: Params, components_kd: np.ndarray) -> float:
    """Largest principal angle, in degrees, between the range of an affine decoder and the span of PCA components.

    `components_kd` has an orthonormal row for each coding. The angle is 0 where the decoder spans the PCA subspace
    (Baldi & Hornik 1989), and 90 where a direction of that subspace is orthogonal to the decoder's range or where the
    decoder has a rank below the number of codings. The angles are computed as in Björck & Golub 1973.
    """
    codings = len(components_kd)
    with jax.default_matmul_precision("highest"):
        decoded = np.asarray(autoencoder.decode(params, jnp.concatenate([jnp.zeros((1, codings)), jnp.eye(codings)])))
    decoder_kd = (decoded[1:] - decoded[:1]).astype(np.float64)
    if np.linalg.matrix_rank(decoder_kd) < codings:
        return 90.0
    return float(np.degrees(scipy.linalg.subspace_angles(decoder_kd.T, components_kd.T).max()))


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
    """Errors of an autoencoder on test rows, compared with PCA with as many components on the same rows.

    sse_test: squared error summed over inputs, averaged over rows; lower is better.
    mse_test: sse_test per input.
    r2_test: 1 - sse_test / SSE of the mean predictor; at most 1, higher is better.
    pca_sse_test: SSE of PCA with as many components as codings, at most the rank of the data.
    sse_ratio: sse_test / pca_sse_test, below 1 where the autoencoder is better; None where PCA's error is a rounding
        error.
    pca_equivalent_dimension: as the function of that name says; higher is better.
    principal_angle_max_deg: as the function of that name says; None unless `linear`, and where the rank of the data is
        below the number of codings.

    Without `reference` it is that of the dataset. Without `codings` the number is that of the encoder's outputs. With
    `sse_test` the test rows are not reconstructed again.
    """
    reference = reference or pca_reference(dataset)
    k = codings or jax.eval_shape(autoencoder.encode, params, jnp.zeros((1, dataset.inputs))).shape[-1]
    if sse_test is None:
        sse_test = sse(autoencoder, params, dataset.x_test, unit=dataset.unit)
    pca_sse = float(reference.curve[min(k, len(reference.curve) - 1)])
    angle = None
    if linear and k <= reference.params.rank:
        angle = principal_angle_max_deg(autoencoder, params, reference.params.components_kd[:k])
    return {
        "sse_test": sse_test,
        "mse_test": sse_test / dataset.inputs,
        "r2_test": 1 - sse_test / float(reference.curve[0]),
        "pca_sse_test": pca_sse,
        "sse_ratio": sse_test / pca_sse if pca_sse > ROUNDING * float(reference.curve[0]) else None,
        "pca_equivalent_dimension": pca_equivalent_dimension(sse_test, reference.curve),
        "principal_angle_max_deg": angle,
    }
