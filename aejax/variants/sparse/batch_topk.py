"""BatchTopK (Bussmann et al. 2024): the largest codings of the batch, so hard rows get more than easy ones."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from aejax.nets import Activation, Net, Params, identity
from aejax.runtime.errors import ConfigError
from aejax.runtime.memoise import build_once
from aejax.variants import penalties
from aejax.variants.base import Autoencoder, ErrorFunction, Scalar
from aejax.variants.sparse.dictionary import dictionary_autoencoder, dictionary_decoder
from aejax.variants.sparse.revival import check_revival, idle_steps, revival_error
from aejax.variants.sparse.selection import largest


@build_once
def batch_topk(
    net: Net,
    *,
    output: Activation = identity,
    error: ErrorFunction = penalties.squared_error,
    dead_after: int = 200,
    revived: int | None = None,
    memory_of: float = 0.99,
) -> Autoencoder:
    """Keep the largest codings of the batch (Bussmann et al. 2024).

        u    = encoder(x - b)                         x (b, d), b the reconstruction of codings of zero
        z    = relu(u) for the `active * b` largest u of the batch, else 0                        z (b, k)
        loss = error(output(decoder(z)), x) + revive * revival_error + l2 * l2_penalty

    The codings of a row must not depend on other rows, so `encode` keeps the u above a threshold instead. This is a
    running mean of the smallest coding that a training batch kept. Validation uses it, too.
    `params["memory"]["threshold"]` holds it; -1 means that there is none yet.

    Hyper-parameters:
        active: codings kept per row, on average over the batch, from 1 to k.
        revive: weight of `revival_error` (AuxK), at least 0, without unit; Gao et al. (2024) take 1/32.
        l2: weight of `penalties.l2`, at least 0, in units of the error per squared weight.

    Options:
        dead_after: number of steps without activity in any row after which a unit is dead.
        revived: how many dead units per row, the largest, learn to reconstruct what z leaves over; by default d / 2.
        memory_of: weight of the old threshold in the running mean at each step, at least 0 and below 1.

    Raises ConfigError as `topk` does, and on a `memory_of` outside its range.
    """
    most = check_revival(net, dead_after, revived)
    if isinstance(memory_of, bool) or not isinstance(memory_of, int | float) or not 0 <= memory_of < 1:
        raise ConfigError("memory_of", repr(memory_of), "give a number of at least 0 and below 1")
    decode, predict, centre = dictionary_decoder(net, output, error)

    def encode(params: Params, x_bd: jax.Array) -> jax.Array:
        units_bk = net.encode(params, centre(params, x_bd))
        return jnp.where(units_bk > params["memory"]["threshold"], jax.nn.relu(units_bk), 0.0)

    def loss(
        params: Params, key: jax.Array, x_bd: jax.Array, *, active: Scalar, revive: Scalar, l2: Scalar, progress: Scalar
    ):
        units_bk = net.encode(params, centre(params, x_bd))
        kept_bk = largest(units_bk, active * len(x_bd), of_batch=True)
        kept_bk = jnp.where(progress < 1, kept_bk, units_bk > params["memory"]["threshold"])
        z_bk = jnp.where(kept_bk, jax.nn.relu(units_bk), 0.0)
        reconstruction_error = error(predict(params, z_bk), x_bd)
        idle_k = idle_steps(params["memory"]["idle"], z_bk)
        revival = revival_error(net, params, units_bk, x_bd - decode(params, z_bk), idle_k >= dead_after, most)
        penalty = revive * revival + l2 * penalties.l2(params)
        memory = {"threshold": next_threshold(params["memory"]["threshold"], z_bk), "idle": idle_k}
        return reconstruction_error + penalty, {"error": reconstruction_error, "penalty": penalty, "memory": memory}

    def next_threshold(threshold: jax.Array, z_bk: jax.Array) -> jax.Array:
        """The running mean after this batch; a batch without active codings does not change it."""
        smallest = jnp.min(jnp.where(z_bk > 0, z_bk, jnp.inf))
        moved = jnp.where(threshold < 0, smallest, memory_of * threshold + (1 - memory_of) * smallest)
        return jax.lax.stop_gradient(jnp.where(jnp.isfinite(smallest), moved, threshold))

    return dictionary_autoencoder(
        net, encode, decode, loss, remembered={"threshold": -1.0}, hyper_ranges=(("active", 1, net.codings),)
    )
