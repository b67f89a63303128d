"""The Matryoshka sparse autoencoder (Bussmann et al. 2025): nested prefixes of the codings, each reconstructing."""

from __future__ import annotations

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

from aejax.nets import Activation, Net, Params, identity, slice_codings
from aejax.runtime import validate
from aejax.runtime.errors import ConfigError
from aejax.variants import penalties
from aejax.variants.base import Autoencoder, decode_and_target
from aejax.variants.sparse.dictionary import centring
from aejax.variants.sparse.revival import idle_steps, revival_error
from aejax.variants.sparse.selection import largest
from aejax.variants.sparse.topk import topk


@functools.lru_cache(maxsize=256, typed=True)
def matryoshka(
    net: Net,
    *,
    output: Activation = identity,
    error: Callable[[jax.Array, jax.Array], jax.Array] = penalties.squared_error,
    prefixes: tuple[int, ...] | None = None,
    dead_after: int = 200,
    revived: int | None = None,
) -> Autoencoder:
    """TopK codings of which the first few must do, too: `sum_m error(first m codings) + revive * revival_error +
    l2 * l2_penalty`, m each of `prefixes` and all codings; the metric `error` is that of all.

    The first codings become the common, coarse features, so that finer ones do not absorb them. `prefixes` are by
    default a sixteenth, an eighth, a quarter and a half of the codings. Selection is in each row, as in `topk`, whose
    codings, options and hyper-parameters these are, not over the batch as in the paper: `encode` needs no threshold
    then. Without prefixes it *is* `topk`. Codings cannot be masked: prefixes go with their number. Raises ConfigError
    as `topk` does, and on prefixes that do not rise below the number of codings.
    """
    nested = check_prefixes(prefixes, net.codings)
    whole = topk(net, output=output, error=error, dead_after=dead_after, revived=revived)
    most = max(1, net.inputs // 2) if revived is None else revived
    decode, predict = decode_and_target(net, output, error)
    centred = centring(decode, net.codings)

    def loss(params: Params, key: jax.Array, x_bd: jax.Array, *, active: jax.Array, revive: jax.Array, l2: jax.Array):
        del key  # nothing random
        units_bk = net.encode(params, centred(params, x_bd))
        z_bk = jnp.where(largest(units_bk, active), jax.nn.relu(units_bk), 0.0)
        reconstruction_error, nested_error = error(predict(params, z_bk), x_bd), jnp.zeros(())
        for m in nested:
            first = slice_codings(params, net.coding_axes, m)
            nested_error = nested_error + error(predict(first, z_bk[:, :m]), x_bd)
        idle_k = idle_steps(params["memory"]["idle"], z_bk)
        left_over_bd = x_bd - decode(params, z_bk)
        revival = revival_error(net, params, units_bk, left_over_bd, idle_k >= dead_after, most)
        penalty = revive * revival + l2 * penalties.l2(params)
        memory = {"active": jnp.asarray(active, jnp.float32), "idle": idle_k}
        metrics = {"error": reconstruction_error, "nested_error": nested_error, "penalty": penalty, "memory": memory}
        return reconstruction_error + nested_error + penalty, metrics

    return whole._replace(loss=loss, coding_axes=())


def check_prefixes(prefixes: tuple[int, ...] | None, codings: int) -> tuple[int, ...]:
    """The prefixes besides all codings, by default a sixteenth to a half of them. Raises ConfigError."""
    if prefixes is None:
        return tuple(dict.fromkeys(codings // part for part in (16, 8, 4, 2) if codings // part >= 1))
    found = validate.whole_numbers("prefixes", prefixes, minimum=1, maximum=codings - 1, empty=None)
    if list(found) != sorted(set(found)):
        raise ConfigError("prefixes", f"{found}", f"give numbers that rise, all below the {codings} codings")
    return found
