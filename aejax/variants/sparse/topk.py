"""The k-sparse autoencoder (Makhzani & Frey 2013) as TopK, with revival of dead units (Gao et al. 2024)."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from aejax.nets import Activation, Net, Params, identity
from aejax.runtime.memoise import build_once
from aejax.variants import penalties
from aejax.variants.base import Autoencoder, ErrorFunction, Scalar
from aejax.variants.sparse.dictionary import dictionary_autoencoder, dictionary_decoder
from aejax.variants.sparse.revival import check_revival, idle_steps, revival_error
from aejax.variants.sparse.selection import top_units


@build_once
def topk(
    net: Net,
    *,
    output: Activation = identity,
    error: ErrorFunction = penalties.squared_error,
    dead_after: int = 200,
    revived: int | None = None,
) -> Autoencoder:
    """Keep the largest codings of each row (Makhzani & Frey 2013; Gao et al. 2024).

        u    = encoder(x - b)                         x (b, d), b the reconstruction of codings of zero
        z    = relu(u) for the `active` largest u of each row, else 0                             z (b, k)
        loss = error(output(decoder(z)), x) + revive * revival_error + l2 * l2_penalty

    Hyper-parameters:
        active: codings kept per row, from 1 to k. It is traced, so one program gives a whole curve of error against
            sparsity. `params["memory"]["active"]` keeps it for `encode`.
        revive: weight of `revival_error` (AuxK), at least 0, without unit; Gao et al. take 1/32.
        l2: weight of `penalties.l2`, at least 0, in units of the error per squared weight.

    Options:
        dead_after: number of steps without activity in any row after which a unit is dead.
        revived: how many dead units per row, the largest, learn to reconstruct what z leaves over; by default d / 2.

    Raises ConfigError where the decoder is not one dense layer, on options that are not positive whole numbers, and
    where error and output do not fit.
    """
    most = check_revival(net, dead_after, revived)
    decode, predict, centre = dictionary_decoder(net, output, error)

    def encode(params: Params, x_bd: jax.Array) -> jax.Array:
        return top_units(net.encode(params, centre(params, x_bd)), params["memory"]["active"])

    def loss(params: Params, key: jax.Array, x_bd: jax.Array, *, active: Scalar, revive: Scalar, l2: Scalar):
        units_bk = net.encode(params, centre(params, x_bd))
        z_bk = top_units(units_bk, active)
        reconstruction_error = error(predict(params, z_bk), x_bd)
        idle_k = idle_steps(params["memory"]["idle"], z_bk)
        revival = revival_error(net, params, units_bk, x_bd - decode(params, z_bk), idle_k >= dead_after, most)
        penalty = revive * revival + l2 * penalties.l2(params)
        memory = {"active": jnp.asarray(active, jnp.float32), "idle": idle_k}
        return reconstruction_error + penalty, {"error": reconstruction_error, "penalty": penalty, "memory": memory}

    return dictionary_autoencoder(
        net, encode, decode, loss, remembered={"active": net.codings}, hyper_ranges=(("active", 1, net.codings),)
    )
