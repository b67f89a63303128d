"""The Matryoshka sparse autoencoder (Bussmann et al. 2025): nested groups of codings that each reconstruct."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from aejax.nets import Activation, Net, Params, identity, slice_codings
from aejax.runtime import validate
from aejax.runtime.errors import ConfigError
from aejax.runtime.memoise import build_once
from aejax.variants import penalties
from aejax.variants.base import Autoencoder, ErrorFunction, Scalar
from aejax.variants.sparse.dictionary import dictionary_decoder
from aejax.variants.sparse.revival import check_revival, idle_steps, revival_error
from aejax.variants.sparse.selection import top_units
from aejax.variants.sparse.topk import topk


@build_once
def matryoshka(
    net: Net,
    *,
    output: Activation = identity,
    error: ErrorFunction = penalties.squared_error,
    prefixes: tuple[int, ...] | None = None,
    dead_after: int = 200,
    revived: int | None = None,
) -> Autoencoder:
    """TopK codings whose first few reconstruct on their own, too (Bussmann et al. 2025).

        z    = as in `topk`                                                              x (b, d), z (b, k)
        loss = sum_m error(output(decoder(z_1 … z_m)), x) + revive * revival_error + l2 * l2_penalty,
               m each of `prefixes`, and k

    The first codings become common, coarse features that finer ones do not absorb. The metric `error` is that of all k
    codings; `nested_error` is the sum of the others. Codings are selected in each row, as in `topk`, and not over the
    batch as in the paper, so `encode` needs no threshold. The number of codings cannot be varied, because the prefixes
    depend on it.

    Hyper-parameters:
        active: codings kept per row, from 1 to k.
        revive: weight of `revival_error` (AuxK), at least 0, without unit; Gao et al. (2024) take 1/32.
        l2: weight of `penalties.l2`, at least 0, in units of the error per squared weight.

    Options:
        prefixes: rising numbers of codings, each below k; by default k / 16, k / 8, k / 4 and k / 2. With none, `()`,
            the loss is that of `topk`.
        dead_after, revived: as in `topk`.

    Raises ConfigError as `topk` does, and on other prefixes.
    """
    nested = check_prefixes(prefixes, net.codings)
    all_codings = topk(net, output=output, error=error, dead_after=dead_after, revived=revived)
    most = check_revival(net, dead_after, revived)
    decode, predict, centre = dictionary_decoder(net, output, error)

    def loss(params: Params, key: jax.Array, x_bd: jax.Array, *, active: Scalar, revive: Scalar, l2: Scalar):
        units_bk = net.encode(params, centre(params, x_bd))
        z_bk = top_units(units_bk, active)
        reconstruction_error = error(predict(params, z_bk), x_bd)
        nested_error = jnp.zeros(())
        for m in nested:
            first_params = slice_codings(params, net.coding_axes, m)
            nested_error = nested_error + error(predict(first_params, z_bk[:, :m]), x_bd)
        idle_k = idle_steps(params["memory"]["idle"], z_bk)
        revival = revival_error(net, params, units_bk, x_bd - decode(params, z_bk), idle_k >= dead_after, most)
        penalty = revive * revival + l2 * penalties.l2(params)
        memory = {"active": jnp.asarray(active, jnp.float32), "idle": idle_k}
        metrics = {"error": reconstruction_error, "nested_error": nested_error, "penalty": penalty, "memory": memory}
        return reconstruction_error + nested_error + penalty, metrics

    return all_codings._replace(loss=loss, coding_axes=())


def check_prefixes(prefixes: tuple[int, ...] | None, codings: int) -> tuple[int, ...]:
    """The prefixes below the number of codings, by default a sixteenth to a half of it. Raises ConfigError."""
    if prefixes is None:
        return tuple(dict.fromkeys(codings // part for part in (16, 8, 4, 2) if codings // part >= 1))
    checked = validate.whole_numbers("prefixes", prefixes, minimum=1, maximum=codings - 1, empty=None)
    if list(checked) != sorted(set(checked)):
        raise ConfigError("prefixes", f"{checked}", f"give numbers that rise, all below the {codings} codings")
    return checked
