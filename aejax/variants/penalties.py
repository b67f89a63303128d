"""Reconstruction errors and penalties: functions of arrays that return a scalar."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

ErrorFunction = Callable[[jax.Array, jax.Array], jax.Array]
"""`error(reconstruction_bd, x_bd) -> scalar`."""


def squared_error(reconstruction_bd: jax.Array, x_bd: jax.Array) -> jax.Array:
    """Squared error, mean over examples and inputs (the MSE per pixel), in squared units of the inputs."""
    return jnp.mean(jnp.square(reconstruction_bd - x_bd))


def cross_entropy(logits_bd: jax.Array, x_bd: jax.Array) -> jax.Array:
    """Bernoulli cross-entropy of inputs in [0, 1], mean over examples and inputs, in nats. Finite for any logits."""
    return jnp.mean(optax.sigmoid_binary_cross_entropy(logits_bd, x_bd))


def l2(params: dict) -> jax.Array:
    """Half the sum of squares of every kernel; biases are not counted.

    As in TensorFlow's `l2_loss`, the half makes the gradient of `coefficient * l2` equal to `coefficient * kernel`, a
    weight decay. A tied kernel is stored, and so counted, once.
    """
    leaves = jax.tree_util.tree_leaves_with_path(params)
    kernels = [leaf for path, leaf in leaves if path[-1] == jax.tree_util.DictKey("kernel")]
    return 0.5 * sum((jnp.sum(jnp.square(kernel)) for kernel in kernels), start=jnp.zeros(()))
