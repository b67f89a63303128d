"""The hashing autoencoder: codings that are bits (semantic hashing, Salakhutdinov & Hinton 2009)."""

from __future__ import annotations

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

from aejax import nets
from aejax.nets import Activation, Net, Params, identity
from aejax.runtime.errors import ConfigError
from aejax.variants import penalties
from aejax.variants.base import Autoencoder, decode_and_target


@functools.lru_cache(maxsize=256, typed=True)
def hashing(
    net: Net,
    *,
    output: Activation = identity,
    error: Callable[[jax.Array, jax.Array], jax.Array] = penalties.squared_error,
    ramp: float = 0.5,
) -> Autoencoder:
    """Train with noise before a sigmoid, `error(output(decoder(sigmoid(encoder(x) + noise * normal))), x) + l2 *
    l2_penalty`, and code by what is left without it: the bits `encoder(x) > 0`, as 0.0 and 1.0.

    A unit can carry information through the noise only when the net drives it far from 0, one way or the other: so its
    sigmoid becomes a bit. The noise is drawn anew at every step; its standard deviation rises from 0 to `noise` over
    the first `ramp` (0 to 1) of the training, as all of it at once can turn units off for good: the
    paper first trained without noise, too. `decode` takes bits, or anything between.

    Watched are `binary_error`, the error of reconstructing from the bits, without noise, which the best epoch is chosen
    by, the bits being what will be used, and `fuzziness`, the mean of 4 s (1 - s) of the sigmoids s without noise: 0
    where they are bits, 1 where they are a half. The net's `coding_activation` should be the identity: what it gives
    is taken as logits.

    Hyper-parameters: `noise` and `l2` >= 0. Raises ConfigError on a `ramp` that is no share, and when error
    and output do not belong together.
    """
    if isinstance(ramp, bool) or not isinstance(ramp, int | float) or not 0 <= ramp <= 1:
        raise ConfigError("ramp", repr(ramp), "give a share of the training, from 0 to 1")
    decode, predict = decode_and_target(net, output, error)

    def encode(params: Params, x_bd: jax.Array) -> jax.Array:
        logits_bk = net.encode(params, x_bd)
        return (logits_bk > 0).astype(logits_bk.dtype)

    def loss(
        params: Params,
        key: jax.Array,
        x_bd: jax.Array,
        *,
        noise: jax.Array,
        l2: jax.Array,
        progress: jax.Array | float = 1.0,
    ):
        logits_bk = net.encode(params, x_bd)
        deviation = noise * jnp.minimum(1.0, progress / ramp) if ramp else noise
        noisy_bk = logits_bk + deviation * jax.random.normal(key, logits_bk.shape, logits_bk.dtype)
        reconstruction_error = error(predict(params, jax.nn.sigmoid(noisy_bk)), x_bd)
        bits_bk = (logits_bk > 0).astype(logits_bk.dtype)
        penalty = l2 * penalties.l2(params)
        fuzzy_k = jnp.mean(4 * jax.nn.sigmoid(logits_bk) * jax.nn.sigmoid(-logits_bk), axis=0)
        live_k = nets.coding_mask(params, net.coding_axes, net.codings)
        metrics = {
            "error": reconstruction_error,
            "binary_error": error(predict(params, bits_bk), x_bd),
            "fuzziness": jnp.sum(live_k * fuzzy_k) / jnp.sum(live_k),
            "penalty": penalty,
        }
        return reconstruction_error + penalty, metrics

    def features(params: Params, x_bd: jax.Array) -> jax.Array:
        return jax.nn.sigmoid(net.encode(params, x_bd))  # bits have no gradient

    watched = ("binary_error", "fuzziness")
    return Autoencoder(
        net.init,
        encode,
        decode,
        loss,
        net.coding_axes,
        recorded_metrics=watched,
        criterion="binary_error",
        features=features,
    )
