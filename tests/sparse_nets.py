"""A small dictionary and its formulas in NumPy, for tests of sparse variants."""

import jax
import numpy as np
import pytest

from aejax import nets

INPUTS = 12
CODINGS = 16
ROWS = 20
NET = nets.mlp(INPUTS, (CODINGS,))
TIED = nets.tied(NET)
TOPK = {"active": 3.0, "revive": 0.0, "l2": 0.0}
KEY = jax.random.key(0)
THRESHOLDED = {"l1_sparse": {"l1": 1e-3}, "gated": {"l1": 1e-3}, "jump_relu": {"l0": 1e-3, "bandwidth": 0.1}}
thresholded = pytest.mark.parametrize(("name", "hyper"), THRESHOLDED.items(), ids=THRESHOLDED)


def moved(autoencoder, seed=3):
    """Initial parameters plus noise, so that no bias or threshold has a round value. The memory is unchanged."""
    params = autoencoder.init(jax.random.key(seed))
    trained = {name: part for name, part in params.items() if name != "memory"}
    leaves, tree = jax.tree.flatten(trained)
    keys = jax.random.split(jax.random.key(seed + 1), len(leaves))
    leaves = [leaf + 0.2 * jax.random.normal(key, leaf.shape) for key, leaf in zip(keys, leaves, strict=True)]
    return {**params, **jax.tree.unflatten(tree, leaves)}


def units_of(params, x_bd):
    """The encoder's linear output for rows less the decoder's bias, and the decoder's kernel and bias, in float64."""
    encoder, decoder = (params[name]["layer_0"] for name in ("encoder", "decoder"))
    kernel_dk, bias_k, kernel_kd, bias_d = (
        np.asarray(layer[name], np.float64) for layer in (encoder, decoder) for name in ("kernel", "bias")
    )
    return (np.asarray(x_bd, np.float64) - bias_d) @ kernel_dk + bias_k, kernel_kd, bias_d


def error_of(z_bk, kernel_kd, bias_d, x_bd):
    """Mean squared error of the reconstruction from these codings."""
    return float(np.mean((z_bk @ kernel_kd + bias_d - np.asarray(x_bd, np.float64)) ** 2))


def top(units_bk, count):
    """The `count` largest of each row by NumPy, after a ReLU; the others are 0."""
    kept_bk = np.zeros_like(units_bk)
    largest_indices = np.argpartition(units_bk, -count, axis=1)[:, -count:]
    np.put_along_axis(kept_bk, largest_indices, np.take_along_axis(units_bk, largest_indices, axis=1), axis=1)
    return np.maximum(kept_bk, 0)
