"""The denoising autoencoder (Vincent et al. 2008, 2010): a noisy input and a clean target."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from aejax.nets import Activation, Net, Params, identity
from aejax.runtime.errors import ConfigError, suggest
from aejax.runtime.memoise import build_once
from aejax.variants import penalties
from aejax.variants.base import Autoencoder, ErrorFunction, Scalar, decode_and_target

NOISES = ("gaussian", "masking", "salt_and_pepper")


@build_once
def denoising(
    net: Net,
    *,
    output: Activation = identity,
    error: ErrorFunction = penalties.squared_error,
    noise: str = "gaussian",
    pepper: float = 0.0,
    salt: float = 1.0,
) -> Autoencoder:
    """Reconstruct the clean input x (b, d) from codings z (b, k) of a noisy one (Vincent et al. 2008, 2010).

        z    = encoder(corrupt(x))
        loss = error(output(decoder(z)), x) + l2 * l2_penalty

    Every step draws new noise; validation always draws the same. The metric `error` compares reconstructions of noisy
    rows with clean rows. There may be more codings than inputs.

    Hyper-parameters:
        level: strength of the noise (see `corrupt`). A standard deviation in units of the inputs for "gaussian", a
            probability from 0 to 1 for the other noises.
        l2: weight of `penalties.l2`, at least 0, in units of the error per squared weight.

    Options `noise`, `pepper` and `salt` are those of `corrupt`. Raises ConfigError on an unknown noise, on values of
    pepper and salt that do not fit the noise, and where error and output do not fit.
    """
    check_noise(noise, pepper, salt)
    decode, predict = decode_and_target(net, output, error)

    def loss(params: Params, key: jax.Array, x_bd: jax.Array, *, level: Scalar, l2: Scalar):
        noisy_bd = corrupt(key, x_bd, level, noise, pepper=pepper, salt=salt)
        reconstruction_error = error(predict(params, net.encode(params, noisy_bd)), x_bd)
        penalty = l2 * penalties.l2(params)
        return reconstruction_error + penalty, {"error": reconstruction_error, "penalty": penalty}

    ranges = () if noise == "gaussian" else (("level", 0.0, 1.0),)
    return Autoencoder(net.init, net.encode, decode, loss, net.coding_axes, overcomplete=True, hyper_ranges=ranges)


def corrupt(
    key: jax.Array, x_bd: jax.Array, level: jax.Array | float, noise: str, *, pepper: float = 0.0, salt: float = 1.0
) -> jax.Array:
    """Noisy rows (b, d). They are not clipped to the range of the data. `level` may be traced.

    "gaussian" adds normal noise of standard deviation `level`.
    "masking" sets each value to 0 with probability `level` and leaves the other values as they are.
    "salt_and_pepper" sets each value with probability `level` / 2 to `pepper` and with the same probability to `salt`.
    The defaults 0 and 1 are the ends of the range of pixels; data with another range needs other values.
    """
    if noise == "gaussian":
        return x_bd + level * jax.random.normal(key, x_bd.shape, x_bd.dtype)
    uniform_bd = jax.random.uniform(key, x_bd.shape, x_bd.dtype)  # in [0, 1): level 0 hits nothing, level 1 everything
    if noise == "masking":
        return jnp.where(uniform_bd < level, 0.0, x_bd)
    extreme_bd = jnp.where(uniform_bd < level / 2, jnp.asarray(pepper, x_bd.dtype), jnp.asarray(salt, x_bd.dtype))
    return jnp.where(uniform_bd < level, extreme_bd, x_bd)


def check_noise(noise: str, pepper: float, salt: float, field: str = "") -> None:
    """Raise ConfigError on an unknown noise, and on values of pepper and salt that do not fit it.

    `field` is the prefix of the field's name in the message.
    """
    if noise not in NOISES:
        raise ConfigError(f"{field}noise", repr(noise), suggest(str(noise), NOISES))
    for name, value in (("pepper", pepper), ("salt", salt)):
        if isinstance(value, bool) or not isinstance(value, int | float) or not -1e6 <= value <= 1e6:
            raise ConfigError(f"{field}{name}", repr(value), "give a number from -1e6 to 1e6")
    if not pepper < salt:
        raise ConfigError(f"{field}pepper", f"{pepper:g}, salt {salt:g}", "give a pepper below the salt")
    if noise != "salt_and_pepper" and (pepper, salt) != (0.0, 1.0):
        raise ConfigError(f"{field}noise", repr(noise), "set it to salt_and_pepper, or leave pepper and salt out")
