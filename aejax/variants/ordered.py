"""Variants whose codings come in the order of the principal components, where plain ones only span the same subspace.

All three leave the best reconstruction as it is and break the symmetry between the codings: by a penalty that grows
along them, by reconstructing from the first few, or by turning them until their covariance is diagonal.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

from aejax import nets
from aejax.nets import Activation, Net, Params, affine_kernels, identity
from aejax.runtime.errors import ConfigError, suggest
from aejax.variants import penalties
from aejax.variants.base import Autoencoder, decode_and_target

PREFIXES = ("all", "sampled")


@functools.lru_cache(maxsize=256, typed=True)
def nonuniform_l2(
    net: Net,
    *,
    output: Activation = identity,
    error: Callable[[jax.Array, jax.Array], jax.Array] = penalties.squared_error,
) -> Autoencoder:
    """Penalise each coding's kernels more than the coding before: `error + l2 * l2_penalty + l2_spread * growing`.

    `growing` is half the sum of squares of what makes coding j and of what it is decoded by, times (j - 1) / (k - 1).
    So in a linear autoencoder coding j has the weight `l2 + l2_spread * (j - 1) / (k - 1)` on both factors, and is the
    j-th principal component where its weight is below what that is worth (Kunin et al. 2019; Bao et al. 2020).
    Hyper-parameters: `l2` and `l2_spread` >= 0. Raises ConfigError for a net whose codings have no kernels of their
    own, and when error and output do not belong together.
    """
    kernels = tuple((path, axis) for path, axis in net.coding_axes if path[-1] == "kernel")
    if not kernels:
        raise ConfigError("variant", "nonuniform_l2, with a net whose codings have no kernels of their own", "take mlp")
    decode, predict = decode_and_target(net, output, error)

    def loss(params: Params, key: jax.Array, x_bd: jax.Array, *, l2: jax.Array, l2_spread: jax.Array):
        del key  # nothing random
        reconstruction_error = error(predict(params, net.encode(params, x_bd)), x_bd)
        codings = jnp.sum(nets.coding_mask(params, net.coding_axes, net.codings))  # those that no mask has taken away
        share_k = jnp.arange(net.codings) / jnp.maximum(codings - 1, 1)
        squares_k = sum(_squares(_leaf(params, path), axis) for path, axis in kernels)
        penalty = l2 * penalties.l2(params) + l2_spread * 0.5 * jnp.sum(share_k * squares_k)
        return reconstruction_error + penalty, {"error": reconstruction_error, "penalty": penalty}

    return Autoencoder(net.init, net.encode, decode, loss, net.coding_axes, quadratic=error is penalties.squared_error)


@functools.lru_cache(maxsize=256, typed=True)
def nested_dropout(
    net: Net,
    *,
    output: Activation = identity,
    error: Callable[[jax.Array, jax.Array], jax.Array] = penalties.squared_error,
    prefixes: str = "all",
) -> Autoencoder:
    """Reconstruct from the first p codings alone, p being geometric (Rippel et al. 2014).

    At least j codings are kept with probability `continuation` ** (j - 1), so all k of them with that of j = k: with 1
    this is the plain autoencoder. `prefixes="all"` takes the expectation exactly: one reconstruction for each p, or for
    the squared error of an affine net all of them out of (k, k) moments, which makes it `quadratic`; "sampled" draws
    one p for each row and step. The metric `error` is of all codings together; the epoch is chosen by `nested_error`.
    Hyper-parameters: `continuation` from 0 to 1, `l2` >= 0. Raises ConfigError on other `prefixes`, and when error and
    output do not belong together.
    """
    if prefixes not in PREFIXES:
        raise ConfigError("prefixes", repr(prefixes), suggest(str(prefixes), PREFIXES))
    decode, predict = decode_and_target(net, output, error)
    k = net.codings
    quadratic = prefixes == "all" and net.affine and output is identity and error is penalties.squared_error

    def loss(params: Params, key: jax.Array, x_bd: jax.Array, *, continuation: jax.Array, l2: jax.Array):
        z_bk = net.encode(params, x_bd)
        kept_k = continuation ** jnp.arange(k)  # the probability that at least the first j codings are kept
        if quadratic:
            nested_error, reconstruction_error = _prefix_errors(net, params, z_bk, x_bd, kept_k)
        elif prefixes == "all":
            errors_k = jax.lax.map(
                lambda last: error(predict(params, jnp.where(jnp.arange(k)[None, :] <= last, z_bk, 0.0)), x_bd),
                jnp.arange(k),
            )
            nested_error = jnp.sum((kept_k - jnp.append(kept_k[1:], 0.0)) * errors_k)
            reconstruction_error = errors_k[-1]
        else:
            kept_bk = jax.random.uniform(key, (len(x_bd), 1)) < kept_k[None, :]
            nested_error = error(predict(params, jnp.where(kept_bk, z_bk, 0.0)), x_bd)
            reconstruction_error = error(predict(params, z_bk), x_bd)
        penalty = l2 * penalties.l2(params)
        metrics = {"error": reconstruction_error, "nested_error": nested_error, "penalty": penalty}
        return nested_error + penalty, metrics

    return Autoencoder(
        net.init,
        net.encode,
        decode,
        loss,
        net.coding_axes,
        recorded_metrics=("nested_error",),
        criterion="nested_error",
        quadratic=quadratic,
        hyper_ranges=(("continuation", 0.0, 1.0),),
    )


def _prefix_errors(
    net: Net, params: Params, z_bk: jax.Array, x_bd: jax.Array, kept_k: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Squared error per input of an affine decoder b + z D, expected over prefixes, and of all codings.

    Of the first p codings it is E|y|^2 - 2 sum_{j<=p} c_j + sum_{i,j<=p} h_ij with y = x - b, c_j = E[z_j y] D_j and
    h_ij = E[z_i z_j] D_i D_j. In the expectation c_j counts as often as coding j is kept, h_ij as often as both are.
    """
    rows, inputs = x_bd.shape
    decoder_kd = affine_kernels(params)[1]
    residual_bd = x_bd - net.decode(params, jnp.zeros((1, net.codings)))
    share_k = jnp.sum((z_bk.T @ residual_bd) * decoder_kd, axis=1) / rows
    cross_kk = (z_bk.T @ z_bk) * (decoder_kd @ decoder_kd.T) / rows
    total = jnp.sum(jnp.square(residual_bd)) / rows
    both_kk = jnp.minimum(kept_k[:, None], kept_k[None, :])
    nested = total - 2 * jnp.sum(kept_k * share_k) + jnp.sum(both_kk * cross_kk)
    return nested / inputs, (total - 2 * jnp.sum(share_k) + jnp.sum(cross_kk)) / inputs


@functools.lru_cache(maxsize=256, typed=True)
def rotation_augmented(
    net: Net,
    *,
    output: Activation = identity,
    error: Callable[[jax.Array, jax.Array], jax.Array] = penalties.squared_error,
) -> Autoencoder:
    """The plain loss, whose gradient also turns the codings until they are uncorrelated, the widest first.

    With M the covariance of the codings, A = (above the diagonal of M - below it) / 2 is skew: the step that adds
    `rotation * A` to the codings' kernels and to those that decode them turns both alike, so that no reconstruction
    changes, and M flows to a diagonal in falling order (the rotation augmented gradient of Bao et al. 2020, whose own
    weight is 1 beside the gradient of the error summed over inputs). The term that does it has the value zero.

    A diagonal M makes each coding a principal component only where encoder and decoder are each other's transposes:
    where they are not tied, a small `l2` sees to that. Turning is no scaling of single parameters: with Adam, which
    scales them, it does not arrive; take sgd or nesterov. Hyper-parameters: `rotation` and `l2` >= 0. Raises
    ConfigError for a net whose codings are not linear, and when error and output do not belong together.
    """
    if not (net.linear_codings and net.coding_axes):
        found = "rotation_augmented, with codings that an activation or their net keeps from being turned"
        raise ConfigError("variant", found, "set coding_activation=identity, and net=mlp")
    decode, predict = decode_and_target(net, output, error)

    def loss(params: Params, key: jax.Array, x_bd: jax.Array, *, rotation: jax.Array, l2: jax.Array):
        del key  # nothing random
        z_bk = net.encode(params, x_bd)
        reconstruction_error = error(predict(params, z_bk), x_bd)
        centred_bk = z_bk - jnp.mean(z_bk, axis=0, keepdims=True)
        covariance_kk = centred_bk.T @ centred_bk / len(x_bd)
        skew_kk = (jnp.triu(covariance_kk, 1) - jnp.tril(covariance_kk, -1)) / 2 / net.inputs
        turning = jnp.zeros(())
        for path, axis in net.coding_axes:
            leaf = _leaf(params, path)
            turned = jnp.moveaxis(jnp.tensordot(leaf, skew_kk, axes=(axis, 0)), -1, axis)
            turning += jnp.vdot(jax.lax.stop_gradient(turned), leaf - jax.lax.stop_gradient(leaf))
        penalty = l2 * penalties.l2(params)
        metrics = {"error": reconstruction_error, "penalty": penalty}
        return reconstruction_error + penalty + rotation * turning, metrics

    return Autoencoder(net.init, net.encode, decode, loss, net.coding_axes, quadratic=error is penalties.squared_error)


def _squares(leaf: jax.Array, axis: int) -> jax.Array:
    """Sum of squares of what belongs to each entry of an axis."""
    return jnp.sum(jnp.square(leaf), axis=tuple(i for i in range(leaf.ndim) if i != axis))


def _leaf(params: Params, path: tuple[str, ...]) -> jax.Array:
    for name in path:
        params = params[name]
    return params  # pyright: ignore[reportReturnType]
