"""What a variant is: a record of pure functions with one loss signature,
`loss(params, key, x_bd, **hyper) -> (scalar, metrics)`.

A loss takes its key even where it draws nothing at random. The keyword-only arguments of `loss` are the variant's
hyper-parameters. None has a default, so a config states the value of each. `progress` is not a hyper-parameter:
training passes to a loss that takes it the share of the training that is over, from 0 to 1, and evaluation passes 1.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection
from typing import Any, NamedTuple

import jax

from aejax.nets import Activation, CodingAxes, Net, Params
from aejax.runtime.errors import ConfigError, suggest
from aejax.variants.penalties import ErrorFunction, cross_entropy

Loss = Callable[..., tuple[jax.Array, dict[str, Any]]]
Ranges = tuple[tuple[str, float, float], ...]
"""Name, least and greatest value of every hyper-parameter with bounds of its own; all others are at least 0."""
PROGRESS = "progress"
Scalar = jax.Array
"""A traced number, of shape ()."""


class Autoencoder(NamedTuple):
    """A variant of a net of d inputs and k codings, as pure functions.

    init: `init(key, codings=None) -> params`, as that of `nets.Net`. What `params["memory"]` holds gets no gradient.
    encode: `encode(params, x_bd) -> z_bk`.
    decode: `decode(params, z_bk) -> x_bd`, the output activation included.
    loss: `loss(params, key, x_bd, **hyper) -> (scalar, metrics)`. The metrics hold `error`, the reconstruction error
        alone, and other scalars; where there is a memory, they hold its next state as `memory`.
    coding_axes: path and axis of every parameter with one entry per coding. They let one shape train fewer codings
        (`nets.mask_codings`); without them the number of codings cannot be varied.
    recorded_metrics: names of further metrics whose validation mean is recorded after each epoch.
    criterion: `error` or one of `recorded_metrics`. The best epoch is the one where it is least.
    post_update: `post_update(params, metrics) -> params`, called after every step of the optimiser. It projects
        parameters and updates the memory.
    overcomplete: whether there may be more codings than inputs.
    quadratic: whether the full-batch loss depends on the rows through their mean and covariance alone, on affine nets.
    generative: the functions of a variant that models the density of the data.
    hyper_ranges: bounds of hyper-parameters; a config with a value outside them is refused.
    activates_codings: whether the variant applies an activation to the codings. The net's should be the identity then.
    features: `features(params, x_bd) -> z_bk`, used instead of `encode` to train a classifier on the codings, for
        variants whose codings have no gradient.
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
    """The density p(x, z) of a variant, with a standard normal prior p(z) and a posterior q(z | x).

    sample: `sample(params, key, z_bk) -> x_bd`, one draw of p(x | z) for each coding.
    log_weights: `log_weights(params, key, x_bd) -> (b,)`, log p(x, z) - log q(z | x) in nats for one draw z of q(z | x)
        per row. Its mean over draws is the evidence lower bound; its log-mean-exp estimates log p(x).
    posterior: `posterior(params, x_bd)`, mean and log variance of q(z | x), (b, k) each.
    observed: `observed(key, x_bd) -> x_bd`, the rows whose density is modelled: the given rows, or draws of zeros and
        ones with the given rows as probabilities.
    binary: whether these rows are zeros and ones.
    variance: `variance(params)`, the variance of each input around its reconstruction; None for binary rows.
    """

    sample: Callable[[Params, jax.Array, jax.Array], jax.Array]
    log_weights: Callable[[Params, jax.Array, jax.Array], jax.Array]
    posterior: Callable[[Params, jax.Array], tuple[jax.Array, jax.Array]]
    observed: Callable[[jax.Array, jax.Array], jax.Array]
    binary: bool
    variance: Callable[[Params], jax.Array] | None = None


Apply = Callable[[Params, jax.Array], jax.Array]
"""`apply(params, rows)`, of inputs or codings."""


def decode_and_target(net: Net, output: Activation, error: ErrorFunction) -> tuple[Apply, Apply]:
    """`decode`, which ends in the output activation, and `predict`, whose result `error` compares with the rows.

    `predict` returns the logits where the error is the cross-entropy, and is `decode` otherwise. Raises ConfigError
    where the error is the cross-entropy and the output is not a sigmoid.
    """
    if error is cross_entropy and output is not jax.nn.sigmoid:
        fix = "set output to sigmoid, or error to squared_error"
        raise ConfigError("error", "cross_entropy with an output that is not a sigmoid", fix)

    def decode(params: Params, z_bk: jax.Array) -> jax.Array:
        return output(net.decode(params, z_bk))

    return decode, net.decode if error is cross_entropy else decode


def hyper_names(autoencoder: Autoencoder) -> tuple[str, ...]:
    """Names of the hyper-parameters of a variant: the keyword-only arguments of its loss, without `progress`."""
    return tuple(name for name in keyword_names(autoencoder.loss) if name != PROGRESS)


def keyword_names(function: Callable[..., Any]) -> tuple[str, ...]:
    """Names of a function's keyword-only arguments."""
    parameters = inspect.signature(function).parameters.values()
    return tuple(p.name for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY)


def fix_hyper(loss: Loss, **values: Any) -> Loss:
    """The loss with fixed values for some of its hyper-parameters. They are no longer in its signature."""
    if not values:
        return loss

    def loss_of_others(*arguments: Any, **others: Any):
        return loss(*arguments, **others, **values)

    signature = inspect.signature(loss)
    others = [parameter for name, parameter in signature.parameters.items() if name not in values]
    loss_of_others.__signature__ = signature.replace(parameters=others)  # pyright: ignore[reportFunctionMemberAccess]
    return loss_of_others


def check_hyper(given: Collection[str], allowed: Collection[str], field: str = "hyper") -> None:
    """Raise ConfigError naming the first hyper-parameter that is unknown or missing."""
    for name in given:
        if name not in allowed:
            raise ConfigError(f"{field}.{name}", "unknown hyper-parameter", suggest(name, allowed))
    for name in allowed:
        if name not in given:
            fix = f"give {name} a value; this variant takes: {', '.join(allowed)}"
            raise ConfigError(f"{field}.{name}", "missing", fix)
