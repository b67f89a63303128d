"""Log-probabilities, in nats, and what is made of them. Rows and codings are the last axes."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp

FACTORS = 112
"""2^112 is a float32, and 784 inputs are seven such products."""


@jax.custom_jvp
def log_bernoulli(logits_bd: jax.Array, x_bd: jax.Array) -> jax.Array:
    """Log p of every row of inputs in [0, 1], (b,): `x log s(l) + (1 - x) log s(-l)` summed, finite for any logit.

    The sum of `log(1 + exp(-|l|))` is taken as the log of products of at most FACTORS such terms, none of which is
    above 2: one logarithm for many. Half the cost of a decoder pass otherwise. Rounding stays below 1e-3 nats a row.
    """
    inputs = logits_bd.shape[-1]
    factors = min(FACTORS, inputs)
    terms_bd = 1 + jnp.exp(-jnp.abs(logits_bd))
    terms_bd = jnp.pad(terms_bd, ((0, 0), (0, -inputs % factors)), constant_values=1.0)
    products_bg = jnp.prod(terms_bd.reshape(len(terms_bd), -1, factors), axis=-1)
    return jnp.sum(x_bd * logits_bd - jnp.maximum(logits_bd, 0), axis=-1) - jnp.sum(jnp.log(products_bg), axis=-1)


@log_bernoulli.defjvp
def _log_bernoulli_jvp(primals, tangents):
    (logits_bd, x_bd), (logits_dot, x_dot) = primals, tangents
    dot = (x_bd - jax.nn.sigmoid(logits_bd)) * logits_dot + logits_bd * x_dot
    return log_bernoulli(logits_bd, x_bd), jnp.sum(dot, axis=-1)


def log_normal(x_bd: jax.Array, mean_bd: jax.Array, variance: jax.Array) -> jax.Array:
    """Log p of every row around its mean, (b,), with one variance for all inputs."""
    squares_b = jnp.sum(jnp.square(x_bd - mean_bd), axis=-1)
    return -0.5 * (squares_b / variance + x_bd.shape[-1] * (jnp.log(variance) + math.log(2 * math.pi)))


def kl_normal(mean_bk: jax.Array, log_variance_bk: jax.Array) -> jax.Array:
    """KL of normals from the standard normal, each coding's own, (b, k); exactly 0 for the standard normal itself."""
    return 0.5 * (jnp.expm1(log_variance_bk) - log_variance_bk + jnp.square(mean_bk))


def log_ratio(z_bk: jax.Array, log_variance_bk: jax.Array, noise_bk: jax.Array) -> jax.Array:
    """Log p(z) - log q(z) of `z = mean + sqrt(variance) * noise`, p standard normal, each coding's own, (b, k)."""
    return 0.5 * (jnp.square(noise_bk) + log_variance_bk - jnp.square(z_bk))


def log_mean_exp(logs_sb: jax.Array) -> jax.Array:
    """Log of the mean over the first axis of numbers given by their logs, (b,)."""
    return jax.nn.logsumexp(logs_sb, axis=0) - math.log(len(logs_sb))
