"""The plain autoencoder: the input is its own target."""

from __future__ import annotations

import functools
from collections.abc import Callable

import jax

from aejax.nets import Activation, Net, Params, identity
from aejax.variants import penalties
from aejax.variants.base import Autoencoder, decode_and_target


@functools.lru_cache(maxsize=256, typed=True)
def plain(
    net: Net,
    *,
    output: Activation = identity,
    error: Callable[[jax.Array, jax.Array], jax.Array] = penalties.squared_error,
) -> Autoencoder:
    """Reconstruct the input: `error(output(decoder(encoder(x))), x) + l2 * l2_penalty`.

    `error=cross_entropy` reads the decoder's linear output as logits and needs `output=jax.nn.sigmoid` and inputs in
    [0, 1]. Hyper-parameter: `l2` >= 0. Raises ConfigError when error and output do not belong together.
    """
    decode, predict = decode_and_target(net, output, error)

    def loss(params: Params, key: jax.Array, x_bd: jax.Array, *, l2: jax.Array):
        del key  # nothing random
        reconstruction_error = error(predict(params, net.encode(params, x_bd)), x_bd)
        penalty = l2 * penalties.l2(params)
        return reconstruction_error + penalty, {"error": reconstruction_error, "penalty": penalty}

    return Autoencoder(net.init, net.encode, decode, loss, net.coding_axes, quadratic=error is penalties.squared_error)
