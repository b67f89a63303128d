"""The sparse autoencoder of sigmoid units with a target activity (Ng 2011)."""

from __future__ import annotations

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

from aejax import nets
from aejax.nets import Activation, Net, Params, identity
from aejax.variants import penalties
from aejax.variants.base import Autoencoder, decode_and_target


@functools.lru_cache(maxsize=256, typed=True)
def kl_sparse(
    net: Net,
    *,
    output: Activation = identity,
    error: Callable[[jax.Array, jax.Array], jax.Array] = penalties.squared_error,
) -> Autoencoder:
    """Sigmoid codings whose mean over a batch is drawn to a target: `error + sparsity * sum_k KL(target || mean z_k) +
    l2 * l2_penalty` (Ng, CS294A notes, 2011).

    The codings are small where a unit is silent, never zero: every one counts for L0. Any net will do, of any depth.
    Hyper-parameters: `sparsity` >= 0 in units of the error per nat, `target` in (0, 1), `l2` >= 0. The mean is that of
    the batch: take batches in which a unit should be active several times. Raises ConfigError when error and output do
    not belong together.
    """
    decode, predict = decode_and_target(net, output, error)

    def encode(params: Params, x_bd: jax.Array) -> jax.Array:
        return jax.nn.sigmoid(net.encode(params, x_bd))

    def loss(params: Params, key: jax.Array, x_bd: jax.Array, *, sparsity: jax.Array, target: jax.Array, l2: jax.Array):
        del key  # nothing random
        logits_bk = net.encode(params, x_bd)
        reconstruction_error = error(predict(params, jax.nn.sigmoid(logits_bk)), x_bd)
        kl_k = nets.coding_mask(params, net.coding_axes, net.codings) * kl_of_mean(logits_bk, target)
        penalty = sparsity * jnp.sum(kl_k) + l2 * penalties.l2(params)
        return reconstruction_error + penalty, {"error": reconstruction_error, "penalty": penalty}

    ranges = (("target", 1e-6, 1 - 1e-6),)
    return Autoencoder(
        net.init, encode, decode, loss, net.coding_axes, overcomplete=True, hyper_ranges=ranges, activates_codings=True
    )


def kl_of_mean(logits_bk: jax.Array, target: jax.Array | float) -> jax.Array:
    """KL divergence in nats, (k,), of the Bernoulli of mean `target` from that of the mean over the batch of
    sigmoid(logits). Both means are taken in logarithms: finite for any logits, where a mean would round to 0 or 1.
    """
    rows = jnp.log(len(logits_bk))
    log_mean_k = jax.nn.logsumexp(jax.nn.log_sigmoid(logits_bk), axis=0) - rows
    log_rest_k = jax.nn.logsumexp(jax.nn.log_sigmoid(-logits_bk), axis=0) - rows
    return target * (jnp.log(target) - log_mean_k) + (1 - target) * (jnp.log1p(-target) - log_rest_k)
