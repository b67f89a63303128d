"""JumpReLU (Rajamanoharan et al. 2024b): a learned threshold for every unit, and a penalty on L0 itself."""

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
def jump_relu(
    net: Net,
    *,
    output: Activation = identity,
    error: ErrorFunction = penalties.squared_error,
    first_threshold: float = 0.1,
    dead_after: int = 200,
) -> Autoencoder:
    """Keep the units above their learned thresholds, and penalise their number (Rajamanoharan et al. 2024b).

        u    = encoder(x - b)                         x (b, d), b the reconstruction of codings of zero
        z    = u where u > exp(log_threshold), else 0                                             z (b, k)
        loss = error(output(decoder(z)), x) + l0 * mean_b L0(z_b) + revive * shortfall + l2 * l2_penalty

    L0 counts the codings that are not zero. The thresholds learn from the pseudo-derivatives of `jump` and `step`,
    which estimate the derivative of the expected loss from the units within half a `bandwidth` of their threshold. The
    decoder's columns have length 1.

    Hyper-parameters:
        l0: price of an active coding, at least 0, in units of the error per active coding of a row.
        bandwidth: width of the window around a threshold, above 0, in units of the codings.
        revive: weight of the `shortfall` of dead units, which draws them towards their thresholds from below, at least
            0, in units of the error per unit of a coding.
        l2: weight of `penalties.l2`, at least 0, in units of the error per squared weight.

    Options:
        first_threshold: every threshold at the start, above 0, in units of the codings.
        dead_after: number of steps without activity in any row after which a unit is dead.

    Raises ConfigError where the decoder is not one dense layer, on options outside their ranges, and where error and
    output do not fit.
    """
    validate.number("first_threshold", first_threshold, positive=True)
    validate.whole_number("dead_after", dead_after, minimum=1)
    decode, predict, centre = dictionary_decoder(net, output, error)

    def units_and_thresholds(params: Params, x_bd: jax.Array) -> tuple[jax.Array, jax.Array]:
        return net.encode(params, centre(params, x_bd)), jnp.exp(params["threshold"]["log"])[None, :]

    def encode(params: Params, x_bd: jax.Array) -> jax.Array:
        units_bk, threshold_1k = units_and_thresholds(params, x_bd)
        return jnp.where(units_bk > threshold_1k, units_bk, 0.0)

    def loss(
        params: Params, key: jax.Array, x_bd: jax.Array, *, l0: Scalar, bandwidth: Scalar, revive: Scalar, l2: Scalar
    ):
        params = unit_columns(params)
        units_bk, threshold_1k = units_and_thresholds(params, x_bd)
        z_bk = jump(units_bk, threshold_1k, bandwidth)
        reconstruction_error = error(predict(params, z_bk), x_bd)
        active_b = jnp.sum(step(units_bk, threshold_1k, bandwidth), axis=1)
        idle_k = idle_steps(params["memory"]["idle"], z_bk)
        revival = shortfall(net, params, centre(params, x_bd), threshold_1k, idle_k >= dead_after)
        penalty = l0 * jnp.mean(active_b) + revive * revival + l2 * penalties.l2(params)
        metrics = {"error": reconstruction_error, "penalty": penalty, "memory": {"idle": idle_k}}
        return reconstruction_error + penalty, metrics

    def first_thresholds() -> Params:
        return {"threshold": {"log": jnp.full(net.codings, jnp.log(first_threshold))}}

    ranges = (("bandwidth", 1e-6, 1e6),)
    return dictionary_autoencoder(
        net, encode, decode, loss, unit_parameters=first_thresholds, unit_lengths=True, hyper_ranges=ranges
    )


def step(units_bk: jax.Array, threshold_1k: jax.Array, bandwidth: jax.Array | float) -> jax.Array:
    """1 where a unit u exceeds its threshold t, else 0, (b, k).

    The pseudo-derivative by t is -K((u - t) / bandwidth) / bandwidth, where K(v) is 1 for |v| < 1/2, else 0. The
    derivative by u is 0.
    """
    above_bk = (units_bk > threshold_1k).astype(units_bk.dtype)
    near_bk = _near(units_bk, threshold_1k, bandwidth)
    return above_bk - near_bk / bandwidth * _zero_with_gradient(threshold_1k)


def jump(units_bk: jax.Array, threshold_1k: jax.Array, bandwidth: jax.Array | float) -> jax.Array:
    """The unit u where it exceeds its threshold t, else 0, (b, k).

    The pseudo-derivative by t is -t K((u - t) / bandwidth) / bandwidth, with K as in `step`. The derivative by u is the
    ordinary one.
    """
    above_bk = (units_bk > threshold_1k).astype(units_bk.dtype)
    near_bk = _near(units_bk, threshold_1k, bandwidth)
    height_bk = jax.lax.stop_gradient(threshold_1k / bandwidth) * near_bk
    return units_bk * above_bk - height_bk * _zero_with_gradient(threshold_1k)


def _near(units_bk: jax.Array, threshold_1k: jax.Array, bandwidth: jax.Array | float) -> jax.Array:
    """1 where a unit is within half a bandwidth of its threshold, else 0."""
    return (jnp.abs(units_bk - threshold_1k) < bandwidth / 2).astype(units_bk.dtype)


def _zero_with_gradient(x: jax.Array) -> jax.Array:
    """Zero, with the derivative of x."""
    return x - jax.lax.stop_gradient(x)
