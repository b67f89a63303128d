"""Denoising with the exact expectation over the noise, for nets where it has a closed form."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from aejax.nets import Activation, Net, Params, affine_kernels, identity
from aejax.runtime.errors import ConfigError, suggest
from aejax.runtime.memoise import build_once
from aejax.variants import penalties
from aejax.variants.base import Autoencoder, ErrorFunction, Scalar

NOISES = ("gaussian", "masking")


@build_once
def marginalised_denoising(
    net: Net, *, output: Activation = identity, error: ErrorFunction = penalties.squared_error, noise: str = "gaussian"
) -> Autoencoder:
    """The expectation of the loss of `denoising` over all noise, for an affine net (Chen et al. 2012).

        loss = E[error(f(noisy(x)), x)] + l2 * l2_penalty,    f(x) = x J + c,  J (d, d)

    If the entries of a noisy row have mean m_i and vary independently with variance v_i, the expected squared error
    summed over the inputs is |f(m) - x|^2 + sum_i v_i |J_i|^2 for the rows J_i of J. "gaussian" noise of standard
    deviation `level` has m = x and v = level^2. "masking" with probability `level` has m = (1 - level) x and
    v = level (1 - level) x^2. The metric `error` is the expected error per input.

    Hyper-parameters:
        level: strength of the noise. For "gaussian" a standard deviation in units of the inputs, at least 0; for
            "masking" a probability from 0 to 1.
        l2: weight of `penalties.l2`, at least 0, in units of the error per squared weight.

    Raises ConfigError on an unknown noise, and unless the net is affine, the error squared and the output the identity.
    """
    if noise not in NOISES:
        raise ConfigError("noise", repr(noise), suggest(str(noise), NOISES))
    if not (net.affine and output is identity and error is penalties.squared_error):
        problem = "marginalised_denoising, with a net, an output or an error whose expectation has no closed form"
        raise ConfigError("variant", problem, "take denoising, or an mlp of one affine layer and squared_error")

    def loss(params: Params, key: jax.Array, x_bd: jax.Array, *, level: Scalar, l2: Scalar):
        encoder_dk, decoder_kd = affine_kernels(params)
        if noise == "gaussian":
            mean_bd = x_bd
            variance_d = jnp.square(level) * jnp.ones(net.inputs)
        else:
            mean_bd = (1 - level) * x_bd
            variance_d = level * (1 - level) * jnp.mean(jnp.square(x_bd), axis=0)
        squared_rows_d = jnp.sum((encoder_dk @ (decoder_kd @ decoder_kd.T)) * encoder_dk, axis=1)  # |J_i|^2
        error_at_mean = error(net.decode(params, net.encode(params, mean_bd)), x_bd)
        expected_error = error_at_mean + jnp.mean(variance_d * squared_rows_d)
        penalty = l2 * penalties.l2(params)
        return expected_error + penalty, {"error": expected_error, "penalty": penalty}

    ranges = (("level", 0.0, 1.0),) if noise == "masking" else ()
    return Autoencoder(net.init, net.encode, net.decode, loss, net.coding_axes, quadratic=True, hyper_ranges=ranges)
