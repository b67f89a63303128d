"""The sparse autoencoder of ReLU units with an L1 penalty on the codings."""

from __future__ import annotations

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

from aejax.nets import Activation, Net, Params, identity
from aejax.runtime import validate
from aejax.variants import penalties
from aejax.variants.base import Autoencoder, decode_and_target
from aejax.variants.sparse.dictionary import centring, check_dictionary, starting, unit_columns
from aejax.variants.sparse.revival import idle_steps, shortfall


@functools.lru_cache(maxsize=256, typed=True)
def l1_sparse(
    net: Net,
    *,
    output: Activation = identity,
    error: Callable[[jax.Array, jax.Array], jax.Array] = penalties.squared_error,
    dead_after: int = 200,
) -> Autoencoder:
    """ReLU codings and a penalty on their sum: `error + l1 * mean_b sum_k z_bk + revive * shortfall + l2 * l2_penalty`
    (Bricken et al. 2023; Cunningham et al. 2023).

    The decoder's columns have length 1, or small codings with long columns would cheat the penalty. The reconstruction
    of no codings at all is subtracted from the input (of an affine decoder its bias). A unit that was active on no row
    of `dead_after` steps is dead, and drawn towards 0 from below by its `shortfall`. Hyper-parameters: `l1`, `revive`
    and `l2` >= 0. Raises ConfigError where the decoder is not one dense layer, an option cannot be, or error and output
    do not belong together.
    """
    check_dictionary(net)
    validate.whole_number("dead_after", dead_after, minimum=1)
    decode, predict = decode_and_target(net, output, error)
    centred = centring(decode, net.codings)

    def encode(params: Params, x_bd: jax.Array) -> jax.Array:
        return jax.nn.relu(net.encode(params, centred(params, x_bd)))

    def loss(params: Params, key: jax.Array, x_bd: jax.Array, *, l1: jax.Array, revive: jax.Array, l2: jax.Array):
        del key  # nothing random
        params = unit_columns(params)
        z_bk = encode(params, x_bd)
        reconstruction_error = error(predict(params, z_bk), x_bd)
        idle_k = idle_steps(params["memory"]["idle"], z_bk)
        revival = shortfall(net, params, centred(params, x_bd), 0.0, idle_k >= dead_after)
        penalty = l1 * jnp.mean(jnp.sum(z_bk, axis=1)) + revive * revival + l2 * penalties.l2(params)
        metrics = {"error": reconstruction_error, "penalty": penalty, "memory": {"idle": idle_k}}
        return reconstruction_error + penalty, metrics

    def init(key: jax.Array, codings: jax.Array | None = None) -> Params:
        return {**starting(net)(key, codings), "memory": {"idle": jnp.zeros(net.codings)}}

    def settle(params: Params, metrics: dict) -> Params:
        return {**unit_columns(params), "memory": metrics["memory"]}

    axes = (*net.coding_axes, (("memory", "idle"), 0))
    return Autoencoder(init, encode, decode, loss, axes, post_update=settle, overcomplete=True, activates_codings=True)
