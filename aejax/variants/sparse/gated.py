"""The gated sparse autoencoder (Rajamanoharan et al. 2024a): one path says which units are active, one how much."""

from __future__ import annotations

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

from aejax.nets import Activation, Net, Params, identity
from aejax.runtime import validate
from aejax.runtime.errors import ConfigError
from aejax.variants import penalties
from aejax.variants.base import Autoencoder, decode_and_target
from aejax.variants.sparse.dictionary import centring, check_dictionary, starting, unit_columns
from aejax.variants.sparse.revival import idle_steps, shortfall


@functools.lru_cache(maxsize=256, typed=True)
def gated(
    net: Net,
    *,
    output: Activation = identity,
    error: Callable[[jax.Array, jax.Array], jax.Array] = penalties.squared_error,
    dead_after: int = 200,
) -> Autoencoder:
    """Magnitudes where the gate is open: `error + l1 * mean_b sum_k relu(gate_bk) + auxiliary + revive * shortfall +
    l2 * l2_penalty`.

    `gate` is the net's own last layer, W h + b; the magnitude is relu(exp(log_scale) * W h + bias), so the two share W.
    L1 shrinks the gate, not the magnitude. The gate's step has no derivative: it learns from `auxiliary`, the error of
    relu(gate) as codings, whose decoder is frozen. The decoder's columns have length 1; the reconstruction of no
    codings at all is subtracted from the input. A unit that was active on no row of `dead_after` steps is dead, and its
    gate is drawn towards 0 from below by its `shortfall`. Hyper-parameters: `l1`, `revive` and `l2` >= 0. Raises
    ConfigError where the decoder is not one dense layer, the net has no biases, an option cannot be, or error and
    output do not belong together.
    """
    check_dictionary(net)
    validate.whole_number("dead_after", dead_after, minimum=1)
    decode, predict = decode_and_target(net, output, error)
    centred = centring(decode, net.codings)
    layers = [path[:-1] for path, _ in net.coding_axes if path[0] == "encoder" and path[-1] == "bias"]
    if not layers:
        raise ConfigError(
            "bias", "False with gated, whose gate and magnitude differ by their biases", "set bias to True"
        )
    (layer,) = layers

    def gate_and_magnitude(params: Params, x_bd: jax.Array) -> tuple[jax.Array, jax.Array]:
        gate_bk = net.encode(params, centred(params, x_bd))
        linear_bk = gate_bk - params[layer[0]][layer[1]]["bias"][None, :]
        scale_1k, bias_1k = jnp.exp(params["magnitude"]["log_scale"])[None, :], params["magnitude"]["bias"][None, :]
        return gate_bk, jax.nn.relu(scale_1k * linear_bk + bias_1k)

    def encode(params: Params, x_bd: jax.Array) -> jax.Array:
        gate_bk, magnitude_bk = gate_and_magnitude(params, x_bd)
        return jnp.where(gate_bk > 0, magnitude_bk, 0.0)

    def loss(params: Params, key: jax.Array, x_bd: jax.Array, *, l1: jax.Array, revive: jax.Array, l2: jax.Array):
        del key  # nothing random
        params = unit_columns(params)
        gate_bk, magnitude_bk = gate_and_magnitude(params, x_bd)
        z_bk = jnp.where(gate_bk > 0, magnitude_bk, 0.0)
        reconstruction_error = error(predict(params, z_bk), x_bd)
        open_bk = jax.nn.relu(gate_bk)
        auxiliary = error(predict(jax.lax.stop_gradient(params), open_bk), x_bd)
        idle_k = idle_steps(params["memory"]["idle"], z_bk)
        revival = shortfall(net, params, centred(params, x_bd), 0.0, idle_k >= dead_after)
        penalty = l1 * jnp.mean(jnp.sum(open_bk, axis=1)) + revive * revival + l2 * penalties.l2(params)
        metrics = {"error": reconstruction_error, "penalty": penalty, "auxiliary": auxiliary}
        return reconstruction_error + auxiliary + penalty, {**metrics, "memory": {"idle": idle_k}}

    def init(key: jax.Array, codings: jax.Array | None = None) -> Params:
        magnitude = {"log_scale": jnp.zeros(net.codings), "bias": jnp.zeros(net.codings)}
        return {**starting(net)(key, codings), "magnitude": magnitude, "memory": {"idle": jnp.zeros(net.codings)}}

    def settle(params: Params, metrics: dict) -> Params:
        return {**unit_columns(params), "memory": metrics["memory"]}

    own = (("magnitude", "log_scale"), ("magnitude", "bias"), ("memory", "idle"))
    axes = (*net.coding_axes, *((path, 0) for path in own))
    return Autoencoder(init, encode, decode, loss, axes, post_update=settle, overcomplete=True, activates_codings=True)
