"""What a variant is: a record of pure functions with one loss signature,
`loss(params, key, x_bd, **hyper) -> (scalar, metrics)`.

The keyword-only arguments of `loss` are the variant's hyper-parameters, all of them required: what is not written in a
config is not silently something. `progress` alone is none: a loss that takes it is told how much of the training is
over, from 0 to 1, and 1 when it is evaluated.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax

from aejax.nets import Activation, CodingAxes, Net, Params
from aejax.runtime.errors import ConfigError, suggest
from aejax.variants.penalties import cross_entropy

Loss = Callable[..., tuple[jax.Array, dict[str, Any]]]
Ranges = tuple[tuple[str, float, float], ...]
"""Name, least and most of every hyper-parameter that has bounds of its own; the others are numbers of at least 0."""
PROGRESS = "progress"


class Autoencoder(NamedTuple):
    """`init(key) -> params`, `encode(params, x_bd) -> z_bk`, `decode(params, z_bk) -> x_bd`, and the loss.

    `metrics` of the loss always hold `error`, the reconstruction error alone. `coding_axes` says which parameters have
    an axis of codings, so that fewer can be trained in the same shapes (`nets.narrow`); `init` takes their number as a
    second argument then.

    `watched` names further scalars among the metrics whose mean over validation is recorded after each epoch;
    `criterion`, one of them or `error`, is what the best epoch is chosen by, lower being better. `settle(params,
    metrics) -> params` follows every step of the optimiser: projections, and what `params["memory"]` holds, which no
    gradient reaches. `overcomplete` variants may have more codings than inputs. The full-batch loss of a `quadratic`
    variant of an affine net depends on the rows through their mean and covariance alone. `generative` holds the
    functions of a model of the data's density. `ranges` bounds hyper-parameters: others are refused in a config. A
    variant that `activates` ends the encoder in an activation of its own, after the net's, which should be none.
    `features(params, x_bd) -> z_bk` stands for `encode` where a classifier is trained through it: for codings that have
    no gradient.
    """

    init: Callable[..., Params]
    encode: Callable[[Params, jax.Array], jax.Array]
    decode: Callable[[Params, jax.Array], jax.Array]
    loss: Loss
    coding_axes: CodingAxes = ()
    recorded_metrics: tuple[str, ...] = ()
    criterion: str = "error"
    post_update: Callable[[Params, dict[str, Any]], Params] | None = None
    overcomplete: bool = False
    quadratic: bool = False
    generative: Generative | None = None
    hyper_ranges: Ranges = ()
    activates_codings: bool = False
    features: Callable[[Params, jax.Array], jax.Array] | None = None


class Generative(NamedTuple):
    """Of a variant that is a density: `sample(params, key, z_bk) -> x_bd` draws rows given codings from the standard
    normal prior; `log_weights(params, key, x_bd) -> (b,)` draws one coding a row from the posterior and gives
    log p(x, z) - log q(z | x) in nats: their mean over draws is the ELBO, their log-mean-exp the log-likelihood.
    `posterior(params, x_bd)` is mean and log variance, (b, k), of the codings of rows. `observed(key, x_bd)` are the
    rows that it is a density of: those given, or draws of zeros and ones. `binary` says whether its rows are these.
    `variance(params)` is that of each input of other rows around what is decoded.
    """

    sample: Callable[[Params, jax.Array, jax.Array], jax.Array]
    log_weights: Callable[[Params, jax.Array, jax.Array], jax.Array]
    posterior: Callable[[Params, jax.Array], tuple[jax.Array, jax.Array]]
    observed: Callable[[jax.Array, jax.Array], jax.Array]
    binary: bool
    variance: Callable[[Params], jax.Array] | None = None


Decode = Callable[[Params, jax.Array], jax.Array]


def decode_and_target(net: Net, output: Activation, error: Callable[..., jax.Array]) -> tuple[Decode, Decode]:
    """`decode`, which ends in the output activation, and what `error` compares with the rows: with cross-entropy the
    logits, else the same. Raises ConfigError when error and output do not belong together.
    """
    if error is cross_entropy and output is not jax.nn.sigmoid:
        raise ConfigError(
            "error",
            "cross_entropy with an output that is not a sigmoid",
            "set output to sigmoid, or error to squared_error",
        )

    def decode(params: Params, z_bk: jax.Array) -> jax.Array:
        return output(net.decode(params, z_bk))

    return decode, net.decode if error is cross_entropy else decode


def hyper_names(autoencoder: Autoencoder) -> tuple[str, ...]:
    """Names of the hyper-parameters that the loss takes: its keyword-only arguments but `progress`."""
    return tuple(name for name in keyword_names(autoencoder.loss) if name != PROGRESS)


def keyword_names(function: Callable[..., Any]) -> tuple[str, ...]:
    """Names of a function's keyword-only arguments."""
    parameters = inspect.signature(function).parameters.values()
    return tuple(p.name for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY)


def fix_hyper(loss: Loss, **values: Any) -> Loss:
    """The loss with some of its hyper-parameters fixed: it takes the others only."""
    if not values:
        return loss

    def of_the_others(*arguments: Any, **others: Any):
        return loss(*arguments, **others, **values)

    signature = inspect.signature(loss)
    left = [parameter for name, parameter in signature.parameters.items() if name not in values]
    of_the_others.__signature__ = signature.replace(parameters=left)  # pyright: ignore[reportFunctionMemberAccess]
    return of_the_others


def check_hyper(given: Iterable[str], allowed: Iterable[str], field: str = "hyper") -> None:
    """Raise ConfigError naming the first hyper-parameter that is unknown or missing."""
    given, allowed = list(given), list(allowed)
    for name in given:
        if name not in allowed:
            raise ConfigError(f"{field}.{name}", "unknown hyper-parameter", suggest(name, allowed))
    for name in allowed:
        if name not in given:
            raise ConfigError(
                f"{field}.{name}", "missing", f"give {name} a value; this variant takes: {', '.join(allowed)}"
            )
