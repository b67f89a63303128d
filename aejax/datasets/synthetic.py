"""Data whose best linear coding is known: a noisy plane in space, and a Gaussian of low rank plus noise."""

from __future__ import annotations

import numpy as np

from aejax.datasets.base import Raw

PLANE3D_ROWS = {"train": 8000, "validation": 4000, "test": 8000}
"""With the notebook's 100 rows the sampling error of the plane would hide what is asked of a net: to find PCA's."""
LOWRANK_ROWS = {"train": 4000, "validation": 500, "test": 2000}
LOWRANK_INPUTS = 32
LOWRANK_SIGNAL_VARIANCES = tuple(2.0**power for power in range(4, -4, -1))
"""Rank 8, each half the one before: far enough apart that 4000 rows find every direction."""
LOWRANK_NOISE_VARIANCE = 0.01

PLANE3D_SHAPE = (PLANE3D_ROWS["train"], 3)
LOWRANK_SHAPE = (LOWRANK_ROWS["train"], LOWRANK_INPUTS)


def plane3d(seed: int) -> Raw:
    """Points (x0, x1, x2) near a plane, on part of an ellipse.

    After the data of A. Géron's autoencoder notebook (Hands-On Machine Learning, handson-ml, chapter 15).
    """
    rng, noise = np.random.default_rng([seed, 0]), 0.1
    x = {}
    for split, rows in PLANE3D_ROWS.items():
        angle_n = rng.random(rows) * 3 * np.pi / 2 - 0.5
        x0_n = np.cos(angle_n) + np.sin(angle_n) / 2 + noise * rng.standard_normal(rows) / 2
        x1_n = 0.7 * np.sin(angle_n) + noise * rng.standard_normal(rows) / 2
        x2_n = 0.1 * x0_n + 0.3 * x1_n + noise * rng.standard_normal(rows)
        x[split] = np.stack([x0_n, x1_n, x2_n], axis=1)
    return Raw(x, dict.fromkeys(x), None, None)


def lowrank(seed: int) -> Raw:
    """Draws from the Gaussian of `lowrank_covariance(seed)`, not standardised, so that its covariance stays known."""
    mean_d, rotation_dd, variance_d = _lowrank(seed)
    rng = np.random.default_rng([seed, 2])
    x = {
        split: mean_d + (rng.standard_normal((rows, LOWRANK_INPUTS)) * np.sqrt(variance_d)) @ rotation_dd.T
        for split, rows in LOWRANK_ROWS.items()
    }
    return Raw(x, dict.fromkeys(x), None, 1.0)


def lowrank_covariance(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The truth behind `lowrank`: mean (d,) and covariance (d, d), float64, d = 32.

    Its eigenvalues are LOWRANK_SIGNAL_VARIANCES + LOWRANK_NOISE_VARIANCE, then LOWRANK_NOISE_VARIANCE 24 times.
    """
    mean_d, rotation_dd, variance_d = _lowrank(seed)
    return mean_d, (rotation_dd * variance_d) @ rotation_dd.T


def _lowrank(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean (d,), rotation (d, d) with the principal directions as columns, and the variance (d,) along each."""
    rng = np.random.default_rng([seed, 1])
    mean_d = rng.standard_normal(LOWRANK_INPUTS)
    rotation_dd, _ = np.linalg.qr(rng.standard_normal((LOWRANK_INPUTS, LOWRANK_INPUTS)))
    variance_d = np.full(LOWRANK_INPUTS, LOWRANK_NOISE_VARIANCE)
    variance_d[: len(LOWRANK_SIGNAL_VARIANCES)] += LOWRANK_SIGNAL_VARIANCES
    return mean_d, rotation_dd, variance_d
