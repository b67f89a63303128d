"""Formulas on arrays: reconstruction errors and penalties. Every one is a scalar."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import optax


def squared_error(reconstruction_bd: jax.Array, x_bd: jax.Array) -> jax.Array:
    """Mean squared error over examples and inputs (the per-pixel MSE)."""
    return jnp.mean(jnp.square(reconstruction_bd - x_bd))


def cross_entropy(logits_bd: jax.Array, x_bd: jax.Array) -> jax.Array:
    """Bernoulli cross-entropy of inputs in [0, 1], in nats, mean over examples and inputs; finite for any logit."""
    return jnp.mean(optax.sigmoid_binary_cross_entropy(logits_bd, x_bd))


def l2(params: dict) -> jax.Array:
    """Half the sum of squares of every kernel, biases left out.

    The half is TensorFlow's `l2_loss` (which the chapter's L2 0.001 refers to) and makes the gradient of
    `coefficient * l2` equal `coefficient * kernel`, as a weight decay. A tied kernel is stored, so counted, once.
    """
    leaves = jax.tree_util.tree_leaves_with_path(params)
    kernels = [leaf for path, leaf in leaves if path[-1] == jax.tree_util.DictKey("kernel")]
    return 0.5 * sum((jnp.sum(jnp.square(kernel)) for kernel in kernels), start=jnp.zeros(()))
