"""Synthetic data with a known best linear coding: points near a plane, and a Gaussian of low rank plus noise."""

from __future__ import annotations

import numpy as np

from aejax.datasets.base import RawData

PLANE3D_ROWS = {"train": 8000, "validation": 4000, "test": 8000}
"""The original notebook has 100 rows. From so few, the plane is estimated too inexactly to tell whether a net has found
the plane of PCA.
"""
LOWRANK_ROWS = {"train": 4000, "validation": 500, "test": 2000}
LOWRANK_INPUTS = 32
LOWRANK_SIGNAL_VARIANCES = tuple(2.0**power for power in range(4, -4, -1))
"""Rank 8. Each variance is half of the one before, so that 4000 rows are enough to tell all directions apart."""
LOWRANK_NOISE_VARIANCE = 0.01

PLANE3D_SHAPE = (PLANE3D_ROWS["train"], 3)
"""(training rows, inputs)."""
LOWRANK_SHAPE = (LOWRANK_ROWS["train"], LOWRANK_INPUTS)
"""(training rows, inputs)."""


def plane3d(seed: int) -> RawData:
    """Points (x0, x1, x2) near a plane, on part of an ellipse, without labels.

    Like the data of A. Géron's autoencoder notebook (Hands-On Machine Learning, handson-ml, chapter 15).
    """
    rng = np.random.default_rng([seed, 0])
    noise = 0.1
    x = {}
    for split, rows in PLANE3D_ROWS.items():
        angle_n = rng.random(rows) * 3 * np.pi / 2 - 0.5
        x0_n = np.cos(angle_n) + np.sin(angle_n) / 2 + noise * rng.standard_normal(rows) / 2
        x1_n = 0.7 * np.sin(angle_n) + noise * rng.standard_normal(rows) / 2
        x2_n = 0.1 * x0_n + 0.3 * x1_n + noise * rng.standard_normal(rows)
        x[split] = np.stack([x0_n, x1_n, x2_n], axis=1)
    return RawData(x, dict.fromkeys(x), None, None)


def lowrank(seed: int) -> RawData:
    """Samples of the Gaussian with the mean and covariance `lowrank_covariance(seed)`, without labels.

    The values are not standardised, because that would change their known covariance.
    """
    mean_d, rotation_dd, variance_d = _lowrank_parameters(seed)
    rng = np.random.default_rng([seed, 2])
    x = {
        split: mean_d + (rng.standard_normal((rows, LOWRANK_INPUTS)) * np.sqrt(variance_d)) @ rotation_dd.T
        for split, rows in LOWRANK_ROWS.items()
    }
    return RawData(x, dict.fromkeys(x), None, 1.0)


def lowrank_covariance(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The true mean (d,) and covariance (d, d) of `lowrank`, float64, d = 32.

    The eigenvalues of the covariance are LOWRANK_SIGNAL_VARIANCES + LOWRANK_NOISE_VARIANCE, followed by 24 times
    LOWRANK_NOISE_VARIANCE.
    """
    mean_d, rotation_dd, variance_d = _lowrank_parameters(seed)
    return mean_d, (rotation_dd * variance_d) @ rotation_dd.T


def _lowrank_parameters(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean (d,), rotation (d, d) with the principal directions as columns, and the variance (d,) along each of them."""
    rng = np.random.default_rng([seed, 1])
    mean_d = rng.standard_normal(LOWRANK_INPUTS)
    rotation_dd, _ = np.linalg.qr(rng.standard_normal((LOWRANK_INPUTS, LOWRANK_INPUTS)))
    variance_d = np.full(LOWRANK_INPUTS, LOWRANK_NOISE_VARIANCE)
    variance_d[: len(LOWRANK_SIGNAL_VARIANCES)] += LOWRANK_SIGNAL_VARIANCES
    return mean_d, rotation_dd, variance_d
