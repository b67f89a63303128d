"""How near the codings are to the principal components themselves, not only to the subspace these span."""

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
    """Distances of a decoder from the first k principal directions u_i of the rows that it was trained on.

    `axis_distance` is 1 - mean_i max_j cos^2(u_i, w_j), w_j being what coding j is decoded by: a column of an affine
    decoder, of another its derivative at codings of zero. `subspace_distance` is 1 - tr(U U^T Q Q^T) / k, Q being an
    orthonormal basis of the w_j (Bao et al. 2020). Float64. The directions are those of the training rows alone: the
    reference PCA has seen the validation rows, too, which turns the last of them more than the distances asked for.
    None where the training rows have a rank below k. The array `axes/cosines` holds |cos(u_i, w_j)|, (k, k).
    """
    return Score("axes", (), _axes, HEADERS)


def _axes(trained: TrainedRun) -> Measurement:
    k, directions_kd = trained.codings, principal_directions(trained.dataset)[: trained.codings]
    if len(directions_kd) < k:
        return dict.fromkeys(name for name, _, _ in HEADERS), {}
    with jax.default_matmul_precision("highest"):
        decoded = jax.jvp(lambda z_bk: trained.autoencoder.decode(trained.params, z_bk), *_units(k))[1]
    axis, subspace, cosines_kk = distances(np.asarray(decoded, np.float64), directions_kd)
    return {"axis_distance": axis, "subspace_distance": subspace}, {"axes/cosines": cosines_kk}


def distances(decoder_kd: np.ndarray, directions_kd: np.ndarray) -> tuple[float, float, np.ndarray]:
    """Axis and subspace distance of decoder rows from as many orthonormal directions, and all |cosines|, (k, k)."""
    k, lengths_k = len(directions_kd), np.linalg.norm(decoder_kd, axis=1)
    cosines_kk = np.abs(directions_kd @ decoder_kd.T) / np.where(lengths_k > 0, lengths_k, 1.0)[None, :]
    basis_dr = scipy.linalg.orth(decoder_kd.T, rcond=1e-6)  # float32 knows no smaller ones
    inside = np.square(directions_kd @ basis_dr).sum()
    return float(1 - np.square(cosines_kk).max(axis=1).mean()), float(1 - inside / k), cosines_kk


@functools.lru_cache(maxsize=2)
def principal_directions(dataset: Dataset) -> np.ndarray:
    """All principal directions of the training rows, (rank, d), float64."""
    fitted = pca.fit(dataset.x_train, unit=dataset.unit)
    return fitted.components_kd[: fitted.rank]


def _units(k: int) -> tuple[tuple[jax.Array], tuple[jax.Array]]:
    """Codings of zero, and each coding's unit vector as a tangent."""
    return (jnp.zeros((k, k)),), (jnp.eye(k),)
