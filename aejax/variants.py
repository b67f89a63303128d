"""Variants of the autoencoder: one function each, showing its whole loss.

A variant is a record of pure functions with one loss signature,
`loss(params, key, x_bd, **hyper) -> (scalar, metrics)`. The keyword-only arguments of `loss` are the variant's
hyper-parameters, all of them required: what is not written in a config is not silently something.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable
from typing import NamedTuple

import jax

from aejax.errors import ConfigError, nearest
from aejax.nets import Activation, CodingAxes, Net, Params, identity
from aejax.penalties import cross_entropy, l2, squared_error

Loss = Callable[..., tuple[jax.Array, dict[str, jax.Array]]]


class Autoencoder(NamedTuple):
    """`init(key) -> params`, `encode(params, x_bd) -> z_bk`, `decode(params, z_bk) -> x_bd`, and the loss.

    `metrics` of the loss always hold `error`, the reconstruction error alone: the quantity that validation compares.
    `coding_axes` says which parameters have an axis of codings, so that fewer can be trained in the same shapes
    (`nets.narrow`); `init` takes their number as a second argument then.
    """

    init: Callable[..., Params]
    encode: Callable[[Params, jax.Array], jax.Array]
    decode: Callable[[Params, jax.Array], jax.Array]
    loss: Loss
    coding_axes: CodingAxes = ()


@functools.lru_cache(maxsize=256)
def plain(
    net: Net,
    *,
    output: Activation = identity,
    error: Callable[[jax.Array, jax.Array], jax.Array] = squared_error,
) -> Autoencoder:
    """Reconstruct the input: `error(output(decoder(encoder(x))), x) + l2 * l2_penalty`.

    `error=cross_entropy` reads the decoder's linear output as logits and needs `output=jax.nn.sigmoid` and inputs in
    [0, 1]. Hyper-parameter: `l2` >= 0. Raises ConfigError when error and output do not belong together.
    """
    if error is cross_entropy and output is not jax.nn.sigmoid:
        raise ConfigError(
            "error",
            "cross_entropy with an output that is not a sigmoid",
            "set output to sigmoid, or error to squared_error",
        )

    def decode(params: Params, z_bk: jax.Array) -> jax.Array:
        return output(net.decode(params, z_bk))

    predict = net.decode if error is cross_entropy else decode

    def loss(params: Params, key: jax.Array, x_bd: jax.Array, *, l2: jax.Array):
        del key  # nothing random
        reconstruction_error = error(predict(params, net.encode(params, x_bd)), x_bd)
        penalty = l2 * _l2(params)
        return reconstruction_error + penalty, {"error": reconstruction_error, "penalty": penalty}

    return Autoencoder(net.init, net.encode, decode, loss, net.coding_axes)


_l2 = l2  # inside a loss, `l2` is the coefficient


def hyper_names(autoencoder: Autoencoder) -> tuple[str, ...]:
    """Names of the hyper-parameters that the loss takes: its keyword-only arguments."""
    parameters = inspect.signature(autoencoder.loss).parameters.values()
    return tuple(p.name for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY)


def check_hyper(given: Iterable[str], allowed: Iterable[str], field: str = "hyper") -> None:
    """Raise ConfigError naming the first hyper-parameter that is unknown or missing."""
    given, allowed = list(given), list(allowed)
    for name in given:
        if name not in allowed:
            raise ConfigError(f"{field}.{name}", "unknown hyper-parameter", nearest(name, allowed))
    for name in allowed:
        if name not in given:
            raise ConfigError(
                f"{field}.{name}", "missing", f"give {name} a value; this variant takes: {', '.join(allowed)}"
            )
