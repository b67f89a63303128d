"""The gated sparse autoencoder (Rajamanoharan et al. 2024a): gates say which units are active, magnitudes how much."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from aejax.nets import Activation, Net, Params, identity
from aejax.runtime import validate
from aejax.runtime.errors import ConfigError
from aejax.runtime.memoise import build_once
from aejax.variants import penalties
from aejax.variants.base import Autoencoder, ErrorFunction, Scalar
from aejax.variants.sparse.dictionary import dictionary_autoencoder, dictionary_decoder, unit_columns
from aejax.variants.sparse.revival import idle_steps, shortfall


@build_once
def gated(
    net: Net, *, output: Activation = identity, error: ErrorFunction = penalties.squared_error, dead_after: int = 200
) -> Autoencoder:
    """Codings are magnitudes where a gate is open; the L1 penalty shrinks the gates (Rajamanoharan et al. 2024a).

        gate      = encoder(x - b) = W h + c          x (b, d), b the reconstruction of codings of zero
        magnitude = relu(exp(log_scale) * W h + bias)
        z         = magnitude where gate > 0, else 0                                              z (b, k)
        auxiliary = error(output(frozen decoder(relu(gate))), x)
        loss      = error(output(decoder(z)), x) + auxiliary + l1 * mean_b sum_k relu(gate_bk)
                    + revive * shortfall + l2 * l2_penalty

    h are the hidden units (the centred input for one layer). Gate and magnitude share W, the kernel of the encoder's
    last layer. The step gate > 0 has no derivative, so the gate learns from `auxiliary`, in which the decoder gets no
    gradient. The decoder's columns have length 1.

    Hyper-parameters:
        l1: weight of the sum of the open gates, at least 0, in units of the error per unit of a gate.
        revive: weight of the `shortfall` of dead units, which draws their gates towards 0 from below, at least 0, in
            the same units.
        l2: weight of `penalties.l2`, at least 0, in units of the error per squared weight.

    Option `dead_after`: number of steps without activity in any row after which a unit is dead.

    Raises ConfigError where the decoder is not one dense layer, the net has no biases, `dead_after` is not a positive
    whole number, or error and output do not fit.
    """
    validate.whole_number("dead_after", dead_after, minimum=1)
    decode, predict, centre = dictionary_decoder(net, output, error)
    bias_layers = [path[1] for path, _ in net.coding_axes if path[0] == "encoder" and path[-1] == "bias"]
    if not bias_layers:
        problem = "False with gated, whose gate and magnitude differ by their biases"
        raise ConfigError("bias", problem, "set bias to True")
    (last,) = bias_layers

    def gate_and_magnitude(params: Params, x_bd: jax.Array) -> tuple[jax.Array, jax.Array]:
        gate_bk = net.encode(params, centre(params, x_bd))
        linear_bk = gate_bk - params["encoder"][last]["bias"][None, :]
        scale_1k = jnp.exp(params["magnitude"]["log_scale"])[None, :]
        bias_1k = params["magnitude"]["bias"][None, :]
        return gate_bk, jax.nn.relu(scale_1k * linear_bk + bias_1k)

    def encode(params: Params, x_bd: jax.Array) -> jax.Array:
        gate_bk, magnitude_bk = gate_and_magnitude(params, x_bd)
        return jnp.where(gate_bk > 0, magnitude_bk, 0.0)

    def loss(params: Params, key: jax.Array, x_bd: jax.Array, *, l1: Scalar, revive: Scalar, l2: Scalar):
        params = unit_columns(params)
        gate_bk, magnitude_bk = gate_and_magnitude(params, x_bd)
        z_bk = jnp.where(gate_bk > 0, magnitude_bk, 0.0)
        reconstruction_error = error(predict(params, z_bk), x_bd)
        open_bk = jax.nn.relu(gate_bk)
        auxiliary = error(predict(jax.lax.stop_gradient(params), open_bk), x_bd)
        idle_k = idle_steps(params["memory"]["idle"], z_bk)
        revival = shortfall(net, params, centre(params, x_bd), 0.0, idle_k >= dead_after)
        penalty = l1 * jnp.mean(jnp.sum(open_bk, axis=1)) + revive * revival + l2 * penalties.l2(params)
        metrics = {"error": reconstruction_error, "penalty": penalty, "auxiliary": auxiliary}
        return reconstruction_error + auxiliary + penalty, {**metrics, "memory": {"idle": idle_k}}

    def first_magnitudes() -> Params:
        return {"magnitude": {"log_scale": jnp.zeros(net.codings), "bias": jnp.zeros(net.codings)}}

    return dictionary_autoencoder(net, encode, decode, loss, unit_parameters=first_magnitudes, unit_lengths=True)
