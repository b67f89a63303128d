"""Log-probabilities in nats, and functions of them. The last axis holds inputs or codings."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp

FACTORS = 112
"""Terms per product in `log_bernoulli`: 2^112 is a float32, and the 784 inputs of MNIST make seven full products."""


@jax.custom_jvp
def log_bernoulli(logits_bd: jax.Array, x_bd: jax.Array) -> jax.Array:
    """Log p of every row of inputs in [0, 1], (b,): the sum of `x log s(l) + (1 - x) log s(-l)`; finite for any logit.

    It computes the sum of `log(1 + exp(-|l|))` as the log of products of at most FACTORS terms, each at most 2, so one
    logarithm serves many inputs; one per input would cost half as much as a pass through the decoder. The rounding
    error stays below 1e-3 nats per row.
    """
    inputs = logits_bd.shape[-1]
    factors = min(FACTORS, inputs)
    terms_bd = 1 + jnp.exp(-jnp.abs(logits_bd))
    terms_bd = jnp.pad(terms_bd, ((0, 0), (0, -inputs % factors)), constant_values=1.0)
    products_bg = jnp.prod(terms_bd.reshape(len(terms_bd), -1, factors), axis=-1)
    return jnp.sum(x_bd * logits_bd - jnp.maximum(logits_bd, 0), axis=-1) - jnp.sum(jnp.log(products_bg), axis=-1)


@log_bernoulli.defjvp
def _log_bernoulli_jvp(primals, tangents):
    logits_bd, x_bd = primals
    logits_tangent_bd, x_tangent_bd = tangents
    tangent_bd = (x_bd - jax.nn.sigmoid(logits_bd)) * logits_tangent_bd + logits_bd * x_tangent_bd
    return log_bernoulli(logits_bd, x_bd), jnp.sum(tangent_bd, axis=-1)


def log_normal(x_bd: jax.Array, mean_bd: jax.Array, variance: jax.Array) -> jax.Array:
    """Log p of every row under a normal density around its mean, (b,), with the same variance for all inputs."""
    squares_b = jnp.sum(jnp.square(x_bd - mean_bd), axis=-1)
    return -0.5 * (squares_b / variance + x_bd.shape[-1] * (jnp.log(variance) + math.log(2 * math.pi)))


def kl_normal(mean_bk: jax.Array, log_variance_bk: jax.Array) -> jax.Array:
    """KL divergence of normals from the standard normal, per coding, (b, k); exactly 0 for the standard normal."""
    return 0.5 * (jnp.expm1(log_variance_bk) - log_variance_bk + jnp.square(mean_bk))


def log_ratio(z_bk: jax.Array, log_variance_bk: jax.Array, noise_bk: jax.Array) -> jax.Array:
    """Log p(z) - log q(z) of `z = mean + sqrt(variance) * noise`, per coding, (b, k). p is the standard normal."""
    return 0.5 * (jnp.square(noise_bk) + log_variance_bk - jnp.square(z_bk))


def log_mean_exp(logs_sb: jax.Array) -> jax.Array:
    """Log of the mean over the first axis of numbers given by their logarithms, (b,)."""
    return jax.nn.logsumexp(logs_sb, axis=0) - math.log(len(logs_sb))
