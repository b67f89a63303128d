"""Variants whose codings come in the order of the principal components. Plain codings only span the same subspace.

All three keep the best reconstruction and break the symmetry between the codings: `nonuniform_l2` by a penalty that
grows along them, `nested_dropout` by reconstructing from the first few, `rotation_augmented` by rotating them until
their covariance is diagonal.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from aejax import nets
from aejax.nets import Activation, Net, Params, affine_kernels, identity
from aejax.nets.base import leaf_at, other_axes
from aejax.runtime.errors import ConfigError, suggest
from aejax.runtime.memoise import build_once
from aejax.variants import penalties
from aejax.variants.base import Autoencoder, ErrorFunction, Scalar, decode_and_target

PREFIXES = ("all", "sampled")


@build_once
def nonuniform_l2(
    net: Net, *, output: Activation = identity, error: ErrorFunction = penalties.squared_error
) -> Autoencoder:
    """Penalise the kernels of each coding more than those of the coding before (Kunin et al. 2019; Bao et al. 2020).

        z       = encoder(x),    x (b, d), z (b, k)
        growing = sum_j (j - 1) / (k - 1) * |kernels of coding j|^2 / 2,    j = 1 … k
        loss    = error(output(decoder(z)), x) + l2 * l2_penalty + l2_spread * growing

    The kernels of coding j are its column of the encoder's last kernel and its row of the decoder's first. In a linear
    autoencoder both have the weight `l2 + l2_spread * (j - 1) / (k - 1)`, and coding j is the j-th principal component
    where this weight is below what the component is worth.

    Hyper-parameters:
        l2: weight of `penalties.l2`, at least 0, in units of the error per squared weight.
        l2_spread: additional weight of the last coding, at least 0, in the same units.

    Raises ConfigError for a net whose codings have no kernels of their own, and where error and output do not fit.
    """
    kernels = tuple((path, axis) for path, axis in net.coding_axes if path[-1] == "kernel")
    if not kernels:
        raise ConfigError("variant", "nonuniform_l2, with a net whose codings have no kernels of their own", "take mlp")
    decode, predict = decode_and_target(net, output, error)

    def loss(params: Params, key: jax.Array, x_bd: jax.Array, *, l2: Scalar, l2_spread: Scalar):
        reconstruction_error = error(predict(params, net.encode(params, x_bd)), x_bd)
        trained_codings = jnp.sum(nets.coding_mask(params, net.coding_axes, net.codings))
        share_k = jnp.arange(net.codings) / jnp.maximum(trained_codings - 1, 1)
        squares_k = sum(_squares(leaf_at(params, path), axis) for path, axis in kernels)
        penalty = l2 * penalties.l2(params) + l2_spread * 0.5 * jnp.sum(share_k * squares_k)
        return reconstruction_error + penalty, {"error": reconstruction_error, "penalty": penalty}

    return Autoencoder(net.init, net.encode, decode, loss, net.coding_axes, quadratic=error is penalties.squared_error)


@build_once
def nested_dropout(
    net: Net, *, output: Activation = identity, error: ErrorFunction = penalties.squared_error, prefixes: str = "all"
) -> Autoencoder:
    """Reconstruct from the first p codings only, for a geometric random p (Rippel et al. 2014).

        z            = encoder(x),    x (b, d), z (b, k)
        nested_error = E_p error(output(decoder(z_1 … z_p, 0 … 0)), x),    P(p >= j) = continuation^(j - 1),  p <= k
        loss         = nested_error + l2 * l2_penalty

    Hyper-parameters:
        continuation: probability, from 0 to 1, of keeping one more coding; 1 is the plain autoencoder.
        l2: weight of `penalties.l2`, at least 0, in units of the error per squared weight.

    Option `prefixes`: "all" computes the expectation exactly, with one reconstruction for each p; for the squared error
    of an affine net it comes from (k, k) moments, which makes the variant `quadratic`. "sampled" draws one p for each
    row and step.

    The metric `error` is that of all codings. The best epoch is chosen by `nested_error`. Raises ConfigError on other
    `prefixes`, and where error and output do not fit.
    """
    if prefixes not in PREFIXES:
        raise ConfigError("prefixes", repr(prefixes), suggest(str(prefixes), PREFIXES))
    decode, predict = decode_and_target(net, output, error)
    k = net.codings
    quadratic = prefixes == "all" and net.affine and output is identity and error is penalties.squared_error

    def loss(params: Params, key: jax.Array, x_bd: jax.Array, *, continuation: Scalar, l2: Scalar):
        z_bk = net.encode(params, x_bd)
        kept_k = continuation ** jnp.arange(k)  # the probability that coding j is kept
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
    """Squared error per input of an affine decoder b + z D: its expectation over prefixes, and that of all codings.

    The error of the first p codings is E|y|^2 - 2 sum_{j<=p} c_j + sum_{i,j<=p} h_ij with y = x - b,
    c_j = E[z_j y] D_j and h_ij = E[z_i z_j] D_i D_j. In the expectation c_j has the probability that coding j is kept
    as its weight, and h_ij the probability that both codings are.
    """
    rows, inputs = x_bd.shape
    decoder_kd = affine_kernels(params)[1]
    residual_bd = x_bd - net.decode(params, jnp.zeros((1, net.codings)))
    share_k = jnp.sum((z_bk.T @ residual_bd) * decoder_kd, axis=1) / rows
    cross_kk = (z_bk.T @ z_bk) * (decoder_kd @ decoder_kd.T) / rows
    total = jnp.sum(jnp.square(residual_bd)) / rows
    both_kept_kk = jnp.minimum(kept_k[:, None], kept_k[None, :])
    nested = total - 2 * jnp.sum(kept_k * share_k) + jnp.sum(both_kept_kk * cross_kk)
    return nested / inputs, (total - 2 * jnp.sum(share_k) + jnp.sum(cross_kk)) / inputs


@build_once
def rotation_augmented(
    net: Net, *, output: Activation = identity, error: ErrorFunction = penalties.squared_error
) -> Autoencoder:
    """The plain loss with a gradient that also rotates the codings to the principal axes (Bao et al. 2020).

        z    = encoder(x),    x (b, d), z (b, k)
        loss = error(output(decoder(z)), x) + l2 * l2_penalty + rotation * r
        r has the value 0 and the gradient  W A / d  in every kernel W of the codings,
        A = (above the diagonal of M - below it) / 2,    M (k, k) the covariance of the codings

    A is skew, so a step along this gradient rotates the codings and the decoder alike and changes no reconstruction.
    M becomes diagonal with falling entries. The paper's weight is 1 beside the gradient of the error summed over
    inputs; our error is a mean over inputs, so A is divided by d.

    A diagonal M makes each coding a principal component only where encoder and decoder are each other's transposes. A
    net that is not tied needs a small `l2` for this. Adam scales the step of each parameter, which
    destroys the rotation: use sgd or nesterov.

    Hyper-parameters:
        rotation: weight of the rotation's gradient, at least 0, without unit.
        l2: weight of `penalties.l2`, at least 0, in units of the error per squared weight.

    Raises ConfigError for a net whose codings are not linear, and where error and output do not fit.
    """
    if not (net.linear_codings and net.coding_axes):
        problem = "rotation_augmented, with codings that cannot be rotated, because of their activation or net"
        raise ConfigError("variant", problem, "set coding_activation=identity, and net=mlp")
    decode, predict = decode_and_target(net, output, error)

    def loss(params: Params, key: jax.Array, x_bd: jax.Array, *, rotation: Scalar, l2: Scalar):
        z_bk = net.encode(params, x_bd)
        reconstruction_error = error(predict(params, z_bk), x_bd)
        centred_bk = z_bk - jnp.mean(z_bk, axis=0, keepdims=True)
        covariance_kk = centred_bk.T @ centred_bk / len(x_bd)
        skew_kk = (jnp.triu(covariance_kk, 1) - jnp.tril(covariance_kk, -1)) / 2 / net.inputs
        rotation_term = jnp.zeros(())  # stays 0; its gradient rotates
        for path, axis in net.coding_axes:
            leaf = leaf_at(params, path)
            rotated = jnp.moveaxis(jnp.tensordot(leaf, skew_kk, axes=(axis, 0)), -1, axis)
            rotation_term += jnp.vdot(jax.lax.stop_gradient(rotated), leaf - jax.lax.stop_gradient(leaf))
        penalty = l2 * penalties.l2(params)
        metrics = {"error": reconstruction_error, "penalty": penalty}
        return reconstruction_error + penalty + rotation * rotation_term, metrics

    return Autoencoder(net.init, net.encode, decode, loss, net.coding_axes, quadratic=error is penalties.squared_error)


def _squares(leaf: jax.Array, axis: int) -> jax.Array:
    """Sum of squares over all axes but one."""
    return jnp.sum(jnp.square(leaf), axis=other_axes(leaf, axis))
