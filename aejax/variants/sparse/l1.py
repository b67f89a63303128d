"""The sparse autoencoder of ReLU units with an L1 penalty (Bricken et al. 2023; Cunningham et al. 2023)."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from aejax.nets import Activation, Net, Params, identity
from aejax.runtime import validate
from aejax.runtime.memoise import build_once
from aejax.variants import penalties
from aejax.variants.base import Autoencoder, ErrorFunction, Scalar
from aejax.variants.sparse.dictionary import dictionary_autoencoder, dictionary_decoder, unit_columns
from aejax.variants.sparse.revival import idle_steps, shortfall


@build_once
def l1_sparse(
    net: Net, *, output: Activation = identity, error: ErrorFunction = penalties.squared_error, dead_after: int = 200
) -> Autoencoder:
    """ReLU codings and a penalty on their sum (Bricken et al. 2023; Cunningham et al. 2023).

        z    = relu(encoder(x - b))         x (b, d), b the reconstruction of codings of zero, z (b, k)
        loss = error(output(decoder(z)), x) + l1 * mean_b sum_k z_bk + revive * shortfall + l2 * l2_penalty

    The decoder's columns have length 1: with longer columns, smaller codings would lower the penalty and reconstruct
    the same.

    Hyper-parameters:
        l1: weight of the sum of the codings, at least 0, in units of the error per unit of a coding.
        revive: weight of the `shortfall` of dead units, which draws them towards 0 from below, at least 0, in the same
            units.
        l2: weight of `penalties.l2`, at least 0, in units of the error per squared weight.

    Option `dead_after`: number of steps without activity in any row after which a unit is dead.

    Raises ConfigError where the decoder is not one dense layer, on a `dead_after` that is not a positive whole number,
    and where error and output do not fit.
    """
    validate.whole_number("dead_after", dead_after, minimum=1)
    decode, predict, centre = dictionary_decoder(net, output, error)

    def encode(params: Params, x_bd: jax.Array) -> jax.Array:
        return jax.nn.relu(net.encode(params, centre(params, x_bd)))

    def loss(params: Params, key: jax.Array, x_bd: jax.Array, *, l1: Scalar, revive: Scalar, l2: Scalar):
        params = unit_columns(params)
        z_bk = encode(params, x_bd)
        reconstruction_error = error(predict(params, z_bk), x_bd)
        idle_k = idle_steps(params["memory"]["idle"], z_bk)
        revival = shortfall(net, params, centre(params, x_bd), 0.0, idle_k >= dead_after)
        penalty = l1 * jnp.mean(jnp.sum(z_bk, axis=1)) + revive * revival + l2 * penalties.l2(params)
        metrics = {"error": reconstruction_error, "penalty": penalty, "memory": {"idle": idle_k}}
        return reconstruction_error + penalty, metrics

    return dictionary_autoencoder(net, encode, decode, loss, unit_lengths=True)
