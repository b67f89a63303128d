"""The hashing autoencoder (semantic hashing, Salakhutdinov & Hinton 2009): the codings are bits."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from aejax import nets
from aejax.nets import Activation, Net, Params, identity
from aejax.runtime.errors import ConfigError
from aejax.runtime.memoise import build_once
from aejax.variants import penalties
from aejax.variants.base import Autoencoder, ErrorFunction, Scalar, decode_and_target


@build_once
def hashing(
    net: Net, *, output: Activation = identity, error: ErrorFunction = penalties.squared_error, ramp: float = 0.5
) -> Autoencoder:
    """Train with noise before a sigmoid; encode to the bits z (b, k), zeros and ones (Salakhutdinov & Hinton 2009).

        z    = encoder(x) > 0                                       when encoding
        s    = sigmoid(encoder(x) + min(1, progress / ramp) * noise * normal)    in training
        loss = error(output(decoder(s)), x) + l2 * l2_penalty

    A unit keeps its information through the noise only where the net drives it far from 0 in either direction, so its
    sigmoid becomes a bit. Every step draws new noise. Its standard deviation rises from 0, because the full noise from
    the start can turn units off for good; the paper, too, first trained without noise. The encoder's output is taken
    as logits, so the net's `coding_activation` should be the identity. `decode` takes bits or values between 0 and 1.

    Hyper-parameters:
        noise: final standard deviation of the noise, at least 0, in units of the logits.
        l2: weight of `penalties.l2`, at least 0, in units of the error per squared weight.

    Option `ramp` is the share of the training, from 0 to 1, over which the noise rises.

    Two more metrics are recorded. `binary_error` is the error of the reconstruction from the bits, without noise; it
    chooses the best epoch, because the bits are what is used. `fuzziness` is the mean of 4 s (1 - s) without noise: 0
    where every s is a bit, 1 where every s is a half.

    Raises ConfigError on a `ramp` outside 0 to 1, and where error and output do not fit.
    """
    if isinstance(ramp, bool) or not isinstance(ramp, int | float) or not 0 <= ramp <= 1:
        raise ConfigError("ramp", repr(ramp), "give a share of the training, from 0 to 1")
    decode, predict = decode_and_target(net, output, error)

    def encode(params: Params, x_bd: jax.Array) -> jax.Array:
        return _bits(net.encode(params, x_bd))

    def loss(
        params: Params, key: jax.Array, x_bd: jax.Array, *, noise: Scalar, l2: Scalar, progress: Scalar | float = 1.0
    ):
        logits_bk = net.encode(params, x_bd)
        deviation = noise * jnp.minimum(1.0, progress / ramp) if ramp else noise
        noisy_bk = logits_bk + deviation * jax.random.normal(key, logits_bk.shape, logits_bk.dtype)
        reconstruction_error = error(predict(params, jax.nn.sigmoid(noisy_bk)), x_bd)
        bits_bk = _bits(logits_bk)
        penalty = l2 * penalties.l2(params)
        fuzziness_k = jnp.mean(4 * jax.nn.sigmoid(logits_bk) * jax.nn.sigmoid(-logits_bk), axis=0)
        trained_k = nets.coding_mask(params, net.coding_axes, net.codings)
        metrics = {
            "error": reconstruction_error,
            "binary_error": error(predict(params, bits_bk), x_bd),
            "fuzziness": jnp.sum(trained_k * fuzziness_k) / jnp.sum(trained_k),
            "penalty": penalty,
        }
        return reconstruction_error + penalty, metrics

    def features(params: Params, x_bd: jax.Array) -> jax.Array:
        return jax.nn.sigmoid(net.encode(params, x_bd))  # bits have no gradient

    return Autoencoder(
        net.init,
        encode,
        decode,
        loss,
        net.coding_axes,
        recorded_metrics=("binary_error", "fuzziness"),
        criterion="binary_error",
        features=features,
    )


def _bits(logits_bk: jax.Array) -> jax.Array:
    """1.0 where a logit is above 0, else 0.0."""
    return (logits_bk > 0).astype(logits_bk.dtype)
