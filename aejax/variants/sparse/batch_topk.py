"""BatchTopK (Bussmann et al. 2024): a number of codings for the batch, which each row takes its share of."""

from __future__ import annotations

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

from aejax.nets import Activation, Net, Params, identity
from aejax.runtime.errors import ConfigError
from aejax.variants import penalties
from aejax.variants.base import Autoencoder, decode_and_target
from aejax.variants.sparse.dictionary import centring, check_dictionary, starting
from aejax.variants.sparse.revival import check_revival, idle_steps, revival_error
from aejax.variants.sparse.selection import largest


@functools.lru_cache(maxsize=256, typed=True)
def batch_topk(
    net: Net,
    *,
    output: Activation = identity,
    error: Callable[[jax.Array, jax.Array], jax.Array] = penalties.squared_error,
    dead_after: int = 200,
    revived: int | None = None,
    memory_of: float = 0.99,
) -> Autoencoder:
    """The `active * b` largest codings of a batch of b rows, and ReLU: `error + revive * revival_error +
    l2 * l2_penalty`. Rows that are hard to reconstruct take more of them than easy ones.

    A row's codings must not depend on other rows: `encode` keeps what exceeds a threshold, the mean over training of
    the smallest coding kept, each step weighing `memory_of` times the next one. Validation is judged by it, too.
    `params["memory"]` holds it, and the steps since each unit was active, as in `topk`, whose other options and
    hyper-parameters this variant shares. Raises ConfigError as `topk` does.
    """
    check_dictionary(net)
    most = check_revival(net, dead_after, revived)
    if isinstance(memory_of, bool) or not isinstance(memory_of, int | float) or not 0 <= memory_of < 1:
        raise ConfigError("memory_of", repr(memory_of), "give a number of at least 0 and below 1")
    decode, predict = decode_and_target(net, output, error)
    centred = centring(decode, net.codings)

    def units(params: Params, x_bd: jax.Array) -> jax.Array:
        return net.encode(params, centred(params, x_bd))

    def encode(params: Params, x_bd: jax.Array) -> jax.Array:
        units_bk = units(params, x_bd)
        return jnp.where(units_bk > params["memory"]["threshold"], jax.nn.relu(units_bk), 0.0)

    def loss(
        params: Params,
        key: jax.Array,
        x_bd: jax.Array,
        *,
        active: jax.Array,
        revive: jax.Array,
        l2: jax.Array,
        progress: jax.Array,
    ):
        del key  # nothing random
        units_bk = units(params, x_bd)
        kept_bk = largest(units_bk, active * len(x_bd), of_batch=True)
        kept_bk = jnp.where(progress < 1, kept_bk, units_bk > params["memory"]["threshold"])
        z_bk = jnp.where(kept_bk, jax.nn.relu(units_bk), 0.0)
        reconstruction_error = error(predict(params, z_bk), x_bd)
        idle_k = idle_steps(params["memory"]["idle"], z_bk)
        left_over_bd = x_bd - decode(params, z_bk)
        revival = revival_error(net, params, units_bk, left_over_bd, idle_k >= dead_after, most)
        penalty = revive * revival + l2 * penalties.l2(params)
        memory = {"threshold": remembered(params["memory"]["threshold"], z_bk), "idle": idle_k}
        return reconstruction_error + penalty, {"error": reconstruction_error, "penalty": penalty, "memory": memory}

    def remembered(threshold: jax.Array, z_bk: jax.Array) -> jax.Array:
        """The next threshold; a negative one is none yet, and a batch without a coding changes nothing."""
        smallest = jnp.min(jnp.where(z_bk > 0, z_bk, jnp.inf))
        moved = jnp.where(threshold < 0, smallest, memory_of * threshold + (1 - memory_of) * smallest)
        return jax.lax.stop_gradient(jnp.where(jnp.isfinite(smallest), moved, threshold))

    def init(key: jax.Array, codings: jax.Array | None = None) -> Params:
        memory = {"threshold": jnp.full((), -1.0), "idle": jnp.zeros(net.codings)}
        return {**starting(net)(key, codings), "memory": memory}

    def settle(params: Params, metrics: dict) -> Params:
        return {**params, "memory": metrics["memory"]}

    axes = (*net.coding_axes, (("memory", "idle"), 0))
    ranges = (("active", 1, net.codings),)
    return Autoencoder(
        init,
        encode,
        decode,
        loss,
        axes,
        post_update=settle,
        overcomplete=True,
        hyper_ranges=ranges,
        activates_codings=True,
    )
