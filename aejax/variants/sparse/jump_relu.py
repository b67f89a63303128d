"""JumpReLU (Rajamanoharan et al. 2024b): a learned threshold for every unit, and a penalty on L0 itself."""

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
def jump_relu(
    net: Net,
    *,
    output: Activation = identity,
    error: Callable[[jax.Array, jax.Array], jax.Array] = penalties.squared_error,
    first_threshold: float = 0.1,
    dead_after: int = 200,
) -> Autoencoder:
    """Codings above their unit's threshold, unchanged: `error + l0 * mean_b L0(z_b) + revive * shortfall +
    l2 * l2_penalty`.

    The thresholds, kept as logarithms, get the pseudo-derivatives of `jump` and `step`: kernel estimates, over units
    within half a `bandwidth` of their threshold, of the derivative of the expected loss. They start at
    `first_threshold`. The decoder's columns have length 1; the reconstruction of no codings at all is subtracted from
    the input. A unit that was active on no row of `dead_after` steps is dead, and drawn towards its threshold from
    below by its `shortfall`. Hyper-parameters: `l0` >= 0 in units of the error per active coding, `bandwidth` > 0 in
    units of the codings, `revive` >= 0 in units of the error per unit of a coding, `l2` >= 0. Raises ConfigError where
    the decoder is not one dense layer, an option cannot be, or error and output do not belong together.
    """
    check_dictionary(net)
    validate.number("first_threshold", first_threshold, positive=True)
    validate.whole_number("dead_after", dead_after, minimum=1)
    decode, predict = decode_and_target(net, output, error)
    centred = centring(decode, net.codings)

    def units(params: Params, x_bd: jax.Array) -> tuple[jax.Array, jax.Array]:
        return net.encode(params, centred(params, x_bd)), jnp.exp(params["threshold"]["log"])[None, :]

    def encode(params: Params, x_bd: jax.Array) -> jax.Array:
        units_bk, threshold_1k = units(params, x_bd)
        return jnp.where(units_bk > threshold_1k, units_bk, 0.0)

    def loss(
        params: Params,
        key: jax.Array,
        x_bd: jax.Array,
        *,
        l0: jax.Array,
        bandwidth: jax.Array,
        revive: jax.Array,
        l2: jax.Array,
    ):
        del key  # nothing random
        params = unit_columns(params)
        units_bk, threshold_1k = units(params, x_bd)
        z_bk = jump(units_bk, threshold_1k, bandwidth)
        reconstruction_error = error(predict(params, z_bk), x_bd)
        active_b = jnp.sum(step(units_bk, threshold_1k, bandwidth), axis=1)
        idle_k = idle_steps(params["memory"]["idle"], z_bk)
        revival = shortfall(net, params, centred(params, x_bd), threshold_1k, idle_k >= dead_after)
        penalty = l0 * jnp.mean(active_b) + revive * revival + l2 * penalties.l2(params)
        metrics = {"error": reconstruction_error, "penalty": penalty, "memory": {"idle": idle_k}}
        return reconstruction_error + penalty, metrics

    def init(key: jax.Array, codings: jax.Array | None = None) -> Params:
        log_k = jnp.full(net.codings, jnp.log(first_threshold))
        memory = {"idle": jnp.zeros(net.codings)}
        return {**starting(net)(key, codings), "threshold": {"log": log_k}, "memory": memory}

    def settle(params: Params, metrics: dict) -> Params:
        return {**unit_columns(params), "memory": metrics["memory"]}

    axes = (*net.coding_axes, (("threshold", "log"), 0), (("memory", "idle"), 0))
    ranges = (("bandwidth", 1e-6, 1e6),)
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


def step(units_bk: jax.Array, threshold_1k: jax.Array, bandwidth: jax.Array | float) -> jax.Array:
    """1 where a unit exceeds its threshold, else 0. Pseudo-derivative, of the threshold t alone and with K the
    indicator of |u| < 1/2: -K((unit - t) / bandwidth) / bandwidth.
    """
    above_bk = (units_bk > threshold_1k).astype(units_bk.dtype)
    near_bk = _near(units_bk, threshold_1k, bandwidth)
    return above_bk - near_bk / bandwidth * _nothing(threshold_1k)


def jump(units_bk: jax.Array, threshold_1k: jax.Array, bandwidth: jax.Array | float) -> jax.Array:
    """The unit where it exceeds its threshold, else 0, with its ordinary derivative with respect to the unit.
    Pseudo-derivative with respect to the threshold t: -t K((unit - t) / bandwidth) / bandwidth.
    """
    above_bk = (units_bk > threshold_1k).astype(units_bk.dtype)
    near_bk = _near(units_bk, threshold_1k, bandwidth)
    height_bk = jax.lax.stop_gradient(threshold_1k / bandwidth) * near_bk
    return units_bk * above_bk - height_bk * _nothing(threshold_1k)


def _near(units_bk: jax.Array, threshold_1k: jax.Array, bandwidth: jax.Array | float) -> jax.Array:
    return (jnp.abs(units_bk - threshold_1k) < bandwidth / 2).astype(units_bk.dtype)


def _nothing(x: jax.Array) -> jax.Array:
    """Zero, with the derivative of x."""
    return x - jax.lax.stop_gradient(x)
