"""Distances of the codings from the individual principal components and from the subspace that these span."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import scipy.linalg

from aejax.datasets.base import Dataset
from aejax.evaluation import pca
from aejax.evaluation.scores.base import Measurement, Score, TrainedRun

HEADERS = (
    ("axis_distance", "axis distance", "0 where every principal component is what one coding alone is decoded by"),
    ("subspace_distance", "subspace distance", "0 where the codings together are decoded into the PCA subspace"),
)


def axes() -> Score:
    """Distances between a decoder and the first k principal directions u_i of the training rows (Bao et al. 2020).

    w_j is the derivative of the decoder with respect to coding j, at codings of zero: a column of the matrix of an
    affine decoder. Q is an orthonormal basis of the w_j, and U has the u_i as columns.

    axis_distance: 1 - mean_i max_j cos^2(u_i, w_j), from 0 to 1; 0 where each direction belongs to a coding of its own.
    subspace_distance: 1 - tr(U U^T Q Q^T) / k, from 0 to 1; 0 where the decoder spans the PCA subspace.

    Lower is better for both. Both are None where the training rows have a rank below k. The array `axes/cosines`,
    (k, k) float64, holds |cos(u_i, w_j)|. The directions are those of the training rows alone: the reference PCA is
    fitted on validation rows as well, which turns its last components by more than the distances to be measured.
    """
    return Score("axes", (), _measure, HEADERS)


def _measure(trained: TrainedRun) -> Measurement:
    k = trained.codings
    directions_kd = principal_directions(trained.dataset)[:k]
    if len(directions_kd) < k:
        return dict.fromkeys(name for name, _, _ in HEADERS), {}
    with jax.default_matmul_precision("highest"):
        decode = functools.partial(trained.autoencoder.decode, trained.params)
        _, decoder_kd = jax.jvp(decode, (jnp.zeros((k, k)),), (jnp.eye(k),))
    axis, subspace, cosines_kk = distances(np.asarray(decoder_kd, np.float64), directions_kd)
    return {"axis_distance": axis, "subspace_distance": subspace}, {"axes/cosines": cosines_kk}


def distances(decoder_kd: np.ndarray, directions_kd: np.ndarray) -> tuple[float, float, np.ndarray]:
    """Axis distance, subspace distance and |cosines| (k, k) between k decoder rows and k orthonormal directions."""
    k = len(directions_kd)
    lengths_k = np.linalg.norm(decoder_kd, axis=1)
    cosines_kk = np.abs(directions_kd @ decoder_kd.T) / np.where(lengths_k > 0, lengths_k, 1.0)[None, :]
    basis_dr = scipy.linalg.orth(decoder_kd.T, rcond=1e-6)  # smaller singular values are rounding errors of float32
    inside = np.square(directions_kd @ basis_dr).sum()
    return float(1 - np.square(cosines_kk).max(axis=1).mean()), float(1 - inside / k), cosines_kk


@functools.lru_cache(maxsize=2)
def principal_directions(dataset: Dataset) -> np.ndarray:
    """All principal directions of the training rows, (rank, d), float64."""
    fitted = pca.fit(dataset.x_train, unit=dataset.unit)
    return fitted.components_kd[: fitted.rank]
