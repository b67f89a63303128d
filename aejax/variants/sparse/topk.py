"""The k-sparse autoencoder (Makhzani & Frey 2013), as TopK with revival of dead units (Gao et al. 2024)."""

from __future__ import annotations

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

from aejax.nets import Activation, Net, Params, identity
from aejax.variants import penalties
from aejax.variants.base import Autoencoder, decode_and_target
from aejax.variants.sparse.dictionary import centring, check_dictionary, starting
from aejax.variants.sparse.revival import check_revival, idle_steps, revival_error
from aejax.variants.sparse.selection import largest


@functools.lru_cache(maxsize=256, typed=True)
def topk(
    net: Net,
    *,
    output: Activation = identity,
    error: Callable[[jax.Array, jax.Array], jax.Array] = penalties.squared_error,
    dead_after: int = 200,
    revived: int | None = None,
) -> Autoencoder:
    """The `active` largest codings of each row, and ReLU: `error + revive * revival_error + l2 * l2_penalty`.

    `active` is traced, so that one program gives a whole curve of error against sparsity; `params["memory"]` keeps it
    for `encode`, and for each unit the steps since it was last active. A unit that was not for `dead_after` steps is
    dead, and `revival_error` (AuxK) lets the `revived` largest of the dead ones, by default half as many as there are
    inputs, reconstruct what is left over. The reconstruction of no codings at all is subtracted from the input.
    Hyper-parameters: `active` from 1 to the number of codings, `revive` (Gao et al. take 1/32) and `l2` >= 0. Raises
    ConfigError where the decoder is not one dense layer, an option cannot be, or error and output do not belong
    together.
    """
    check_dictionary(net)
    most = check_revival(net, dead_after, revived)
    decode, predict = decode_and_target(net, output, error)
    centred = centring(decode, net.codings)

    def units(params: Params, x_bd: jax.Array) -> jax.Array:
        return net.encode(params, centred(params, x_bd))

    def select(units_bk: jax.Array, active: jax.Array) -> jax.Array:
        return jnp.where(largest(units_bk, active), jax.nn.relu(units_bk), 0.0)

    def encode(params: Params, x_bd: jax.Array) -> jax.Array:
        return select(units(params, x_bd), params["memory"]["active"])

    def loss(params: Params, key: jax.Array, x_bd: jax.Array, *, active: jax.Array, revive: jax.Array, l2: jax.Array):
        del key  # nothing random
        units_bk = units(params, x_bd)
        z_bk = select(units_bk, active)
        reconstruction_error = error(predict(params, z_bk), x_bd)
        idle_k = idle_steps(params["memory"]["idle"], z_bk)
        left_over_bd = x_bd - decode(params, z_bk)
        revival = revival_error(net, params, units_bk, left_over_bd, idle_k >= dead_after, most)
        penalty = revive * revival + l2 * penalties.l2(params)
        memory = {"active": jnp.asarray(active, jnp.float32), "idle": idle_k}
        return reconstruction_error + penalty, {"error": reconstruction_error, "penalty": penalty, "memory": memory}

    def init(key: jax.Array, codings: jax.Array | None = None) -> Params:
        memory = {"active": jnp.asarray(net.codings, jnp.float32), "idle": jnp.zeros(net.codings)}
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
