"""The sparse autoencoder of ReLU units with an L1 penalty on the codings."""

from __future__ import annotations

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

from aejax import penalties
from aejax.nets import Activation, Net, Params, identity
from aejax.variants.base import Autoencoder, decoders
from aejax.variants.sparse.dictionary import check_dictionary, starting, unit_columns


@functools.lru_cache(maxsize=256, typed=True)
def l1_sparse(
    net: Net,
    *,
    output: Activation = identity,
    error: Callable[[jax.Array, jax.Array], jax.Array] = penalties.squared_error,
) -> Autoencoder:
    """ReLU codings and a penalty on their sum: `error + l1 * mean_b sum_k z_bk + l2 * l2_penalty` (Bricken et al. 2023;
    Cunningham et al. 2023).

    The decoder's columns have length 1, or small codings with long columns would cheat the penalty. The reconstruction
    of no codings at all is subtracted from the input (of an affine decoder its bias). Hyper-parameters: `l1` and `l2`
    >= 0. Raises ConfigError where the decoder is not one dense layer, or error and output do not belong together.
    """
    check_dictionary(net)
    decode, predict = decoders(net, output, error)

    def encode(params: Params, x_bd: jax.Array) -> jax.Array:
        centre_1d = decode(params, jnp.zeros((1, net.codings)))
        return jax.nn.relu(net.encode(params, x_bd - centre_1d))

    def loss(params: Params, key: jax.Array, x_bd: jax.Array, *, l1: jax.Array, l2: jax.Array):
        del key  # nothing random
        params = unit_columns(params)
        z_bk = encode(params, x_bd)
        reconstruction_error = error(predict(params, z_bk), x_bd)
        penalty = l1 * jnp.mean(jnp.sum(z_bk, axis=1)) + l2 * penalties.l2(params)
        return reconstruction_error + penalty, {"error": reconstruction_error, "penalty": penalty}

    def settle(params: Params, metrics: dict) -> Params:
        del metrics
        return unit_columns(params)

    init = starting(net)
    return Autoencoder(init, encode, decode, loss, net.coding_axes, settle=settle, overcomplete=True, activates=True)
