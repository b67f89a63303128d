"""The denoising autoencoder (Vincent et al. 2008, 2010): a noisy input, the clean one as its target."""

from __future__ import annotations

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

from aejax.nets import Activation, Net, Params, identity
from aejax.runtime.errors import ConfigError, suggest
from aejax.variants import penalties
from aejax.variants.base import Autoencoder, decode_and_target

NOISES = ("gaussian", "masking", "salt_and_pepper")


@functools.lru_cache(maxsize=256, typed=True)
def denoising(
    net: Net,
    *,
    output: Activation = identity,
    error: Callable[[jax.Array, jax.Array], jax.Array] = penalties.squared_error,
    noise: str = "gaussian",
    pepper: float = 0.0,
    salt: float = 1.0,
) -> Autoencoder:
    """Reconstruct the clean input from a noisy one: `error(output(decoder(encoder(noisy(x)))), x) + l2 * l2_penalty`.

    The noise is drawn anew at every step, and for validation always the same; `corrupt` says what each noise does. The
    metric `error` is of noisy rows against clean ones. Hyper-parameters: `level` of the noise and `l2` >= 0. There may
    be more codings than inputs. Raises ConfigError on a noise or values that cannot be, and when error and output do
    not belong together.
    """
    check_noise(noise, pepper, salt)
    decode, predict = decode_and_target(net, output, error)

    def loss(params: Params, key: jax.Array, x_bd: jax.Array, *, level: jax.Array, l2: jax.Array):
        noisy_bd = corrupt(key, x_bd, level, noise, pepper=pepper, salt=salt)
        reconstruction_error = error(predict(params, net.encode(params, noisy_bd)), x_bd)
        penalty = l2 * penalties.l2(params)
        return reconstruction_error + penalty, {"error": reconstruction_error, "penalty": penalty}

    ranges = () if noise == "gaussian" else (("level", 0.0, 1.0),)
    return Autoencoder(net.init, net.encode, decode, loss, net.coding_axes, overcomplete=True, hyper_ranges=ranges)


def corrupt(
    key: jax.Array, x_bd: jax.Array, level: jax.Array | float, noise: str, *, pepper: float = 0.0, salt: float = 1.0
) -> jax.Array:
    """Noisy rows, (b, d), not cut off at the ends of the data's range; `level` may be traced.

    "gaussian" adds noise of standard deviation `level`; "masking" sets each value to 0 with probability `level`, and
    does not scale up the others; "salt_and_pepper" sets it, with probability `level`, to `pepper` or `salt`, each half
    of the time. These are 0 and 1, the ends of the range of pixels: data of another range needs values of its own.
    """
    if noise == "gaussian":
        return x_bd + level * jax.random.normal(key, x_bd.shape, x_bd.dtype)
    uniform_bd = jax.random.uniform(key, x_bd.shape, x_bd.dtype)  # in [0, 1): level 0 hits nothing, level 1 everything
    if noise == "masking":
        return jnp.where(uniform_bd < level, 0.0, x_bd)
    extreme_bd = jnp.where(uniform_bd < level / 2, jnp.asarray(pepper, x_bd.dtype), jnp.asarray(salt, x_bd.dtype))
    return jnp.where(uniform_bd < level, extreme_bd, x_bd)


def check_noise(noise: str, pepper: float, salt: float, field: str = "") -> None:
    """Raise ConfigError on a noise, or on values of salt and pepper, that cannot be."""
    if noise not in NOISES:
        raise ConfigError(f"{field}noise", repr(noise), suggest(str(noise), NOISES))
    for name, value in (("pepper", pepper), ("salt", salt)):
        if isinstance(value, bool) or not isinstance(value, int | float) or not -1e6 <= value <= 1e6:
            raise ConfigError(f"{field}{name}", repr(value), "give a number from -1e6 to 1e6")
    if not pepper < salt:
        raise ConfigError(f"{field}pepper", f"{pepper:g}, salt {salt:g}", "give a pepper below the salt")
    if noise != "salt_and_pepper" and (pepper, salt) != (0.0, 1.0):
        raise ConfigError(f"{field}noise", repr(noise), "set it to salt_and_pepper, or leave pepper and salt out")
