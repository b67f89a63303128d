"""Denoising with the noise averaged over exactly, for the nets where that has a closed form."""

from __future__ import annotations

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

from aejax.nets import Activation, Net, Params, affine_kernels, identity
from aejax.runtime.errors import ConfigError, suggest
from aejax.variants import penalties
from aejax.variants.base import Autoencoder

NOISES = ("gaussian", "masking")


@functools.lru_cache(maxsize=256, typed=True)
def marginalised_denoising(
    net: Net,
    *,
    output: Activation = identity,
    error: Callable[[jax.Array, jax.Array], jax.Array] = penalties.squared_error,
    noise: str = "gaussian",
) -> Autoencoder:
    """The expected loss of `denoising` over all noise, of an affine net: `E error(f(noisy(x)), x) + l2 * l2_penalty`.

    For f(x) = x J + c, J of shape (d, d), and a noisy row of mean m whose entries vary independently by variances v_i,
    the squared error summed over inputs is |f(m) - x|^2 + sum_i v_i |J_i|^2. Gaussian noise of deviation `level` has
    m = x and v = level^2; masking with probability `level`, which does not scale up what is left, has m = (1 - level) x
    and v = level (1 - level) x^2 (marginalised denoising, Chen et al. 2012). The metric `error` is that expectation.
    Hyper-parameters: `level` >= 0, at most 1 for masking, and `l2` >= 0. Raises ConfigError unless the net is affine,
    the error squared and the output the identity.
    """
    if noise not in NOISES:
        raise ConfigError("noise", repr(noise), suggest(str(noise), NOISES))
    if not (net.affine and output is identity and error is penalties.squared_error):
        found = "marginalised_denoising, with a net, an output or an error whose expectation has no closed form"
        raise ConfigError("variant", found, "take denoising, or an mlp of one affine layer and squared_error")

    def decode(params: Params, z_bk: jax.Array) -> jax.Array:
        return net.decode(params, z_bk)

    def loss(params: Params, key: jax.Array, x_bd: jax.Array, *, level: jax.Array, l2: jax.Array):
        del key  # the noise is averaged over
        encoder_dk, decoder_kd = affine_kernels(params)
        if noise == "gaussian":
            mean_bd, variance_d = x_bd, jnp.square(level) * jnp.ones(net.inputs)
        else:
            mean_bd = (1 - level) * x_bd
            variance_d = level * (1 - level) * jnp.mean(jnp.square(x_bd), axis=0)
        lengths_d = jnp.sum((encoder_dk @ (decoder_kd @ decoder_kd.T)) * encoder_dk, axis=1)  # |J_i|^2 of J = E D
        at_mean = error(net.decode(params, net.encode(params, mean_bd)), x_bd)
        expected_error = at_mean + jnp.mean(variance_d * lengths_d)
        penalty = l2 * penalties.l2(params)
        return expected_error + penalty, {"error": expected_error, "penalty": penalty}

    ranges = (("level", 0.0, 1.0),) if noise == "masking" else ()
    return Autoencoder(net.init, net.encode, decode, loss, net.coding_axes, quadratic=True, hyper_ranges=ranges)
