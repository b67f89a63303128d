"""The plain autoencoder: the input is its own target."""

from __future__ import annotations

import jax

from aejax.nets import Activation, Net, Params, identity
from aejax.runtime.memoise import build_once
from aejax.variants import penalties
from aejax.variants.base import Autoencoder, ErrorFunction, Scalar, decode_and_target


@build_once
def plain(net: Net, *, output: Activation = identity, error: ErrorFunction = penalties.squared_error) -> Autoencoder:
    """Reconstruct the input x (b, d) from its codings z (b, k).

        z    = encoder(x)
        loss = error(output(decoder(z)), x) + l2 * l2_penalty

    Hyper-parameter:
        l2: weight of `penalties.l2`, at least 0, in units of the error per squared weight.

    `error=cross_entropy` takes the decoder's linear output as logits. It needs `output=jax.nn.sigmoid` and inputs in
    [0, 1]. Raises ConfigError where error and output do not fit.
    """
    decode, predict = decode_and_target(net, output, error)

    def loss(params: Params, key: jax.Array, x_bd: jax.Array, *, l2: Scalar):
        reconstruction_error = error(predict(params, net.encode(params, x_bd)), x_bd)
        penalty = l2 * penalties.l2(params)
        return reconstruction_error + penalty, {"error": reconstruction_error, "penalty": penalty}

    return Autoencoder(net.init, net.encode, decode, loss, net.coding_axes, quadratic=error is penalties.squared_error)
