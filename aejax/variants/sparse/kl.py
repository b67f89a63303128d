"""The sparse autoencoder of sigmoid units with a target activity (Ng 2011)."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from aejax import nets
from aejax.nets import Activation, Net, Params, identity
from aejax.runtime.memoise import build_once
from aejax.variants import penalties
from aejax.variants.base import Autoencoder, ErrorFunction, Scalar, decode_and_target


@build_once
def kl_sparse(
    net: Net, *, output: Activation = identity, error: ErrorFunction = penalties.squared_error
) -> Autoencoder:
    """Sigmoid codings whose mean over a batch is drawn to a target (Ng, CS294A lecture notes, 2011).

        z    = sigmoid(encoder(x))                                                       x (b, d), z (b, k)
        loss = error(output(decoder(z)), x) + sparsity * sum_k KL(target || mean_b z_bk) + l2 * l2_penalty

    The codings of silent units are small but never zero, so every coding counts in L0. Any net will do. The mean is
    that of the batch: batches should be so large that a unit is active in several rows. There may be more codings than
    inputs.

    Hyper-parameters:
        sparsity: weight of the divergence, at least 0, in units of the error per nat.
        target: the intended mean of each coding, between 0 and 1.
        l2: weight of `penalties.l2`, at least 0, in units of the error per squared weight.

    Raises ConfigError where error and output do not fit.
    """
    decode, predict = decode_and_target(net, output, error)

    def encode(params: Params, x_bd: jax.Array) -> jax.Array:
        return jax.nn.sigmoid(net.encode(params, x_bd))

    def loss(params: Params, key: jax.Array, x_bd: jax.Array, *, sparsity: Scalar, target: Scalar, l2: Scalar):
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
    """KL(target || mean_b sigmoid(logits_bk)) of Bernoulli distributions, (k,), in nats.

    The mean of the sigmoids and that of their complements are computed as logarithms. So the divergence is finite for
    any logits, even where the mean itself would round to 0 or 1.
    """
    log_rows = jnp.log(len(logits_bk))
    log_mean_k = jax.nn.logsumexp(jax.nn.log_sigmoid(logits_bk), axis=0) - log_rows
    log_rest_k = jax.nn.logsumexp(jax.nn.log_sigmoid(-logits_bk), axis=0) - log_rows
    return target * (jnp.log(target) - log_mean_k) + (1 - target) * (jnp.log1p(-target) - log_rest_k)
