"""Revival of dead units: units that were active in no row for many steps.

The dead units of the TopK variants learn to reconstruct what the other units leave over (AuxK, Gao et al. 2024). Those
of the variants with a threshold are drawn towards it (the pre-activation loss of Anthropic's "Circuits Updates",
January 2025, but with a gradient to the units' own parameters only).
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from aejax import nets
from aejax.nets import Net, Params
from aejax.runtime import validate
from aejax.variants.sparse.selection import top_units


def check_revival(net: Net, dead_after: object, revived: object) -> int:
    """How many dead units are revived per row: `revived`, or half the number of inputs. Raises ConfigError."""
    validate.whole_number("dead_after", dead_after, minimum=1)
    if revived is None:
        return max(1, net.inputs // 2)
    return validate.whole_number("revived", revived, minimum=1)


def idle_steps(idle_k: jax.Array, z_bk: jax.Array) -> jax.Array:
    """Steps since each unit was last active, (k,), this batch included; `idle_k` is the number before this batch."""
    return jnp.where(jnp.any(jax.lax.stop_gradient(z_bk) != 0, axis=0), 0.0, idle_k + 1)


def revival_error(
    net: Net, params: Params, units_bk: jax.Array, left_over_bd: jax.Array, dead_k: jax.Array, most: int
) -> jax.Array:
    """AuxK: mean squared error with which the dead units reconstruct the residual of the active ones.

    In each row the `most` largest dead units, after a ReLU, reconstruct with the decoder's columns, without its bias.

    `left_over_bd`, x less its reconstruction, is a target and gets no gradient. For a cross-entropy it is the negative
    gradient by the logits, so dead units learn what reduces either error most. A unit that is negative in every row
    gets no gradient; only a shift of the rows' centre, which the other units cause, can help it. The value is 0 where
    no unit is dead.
    """
    dead_k = _without_masked(net, params, dead_k)
    z_bk = top_units(units_bk, most, among=dead_k[None, :])
    silent_1d = net.decode(params, jnp.zeros((1, net.codings)))
    reconstruction_bd = net.decode(params, z_bk) - silent_1d
    squares = jnp.mean(jnp.square(reconstruction_bd - jax.lax.stop_gradient(left_over_bd)))
    return jnp.where(jnp.any(dead_k), squares, 0.0)


def shortfall(
    net: Net, params: Params, centred_bd: jax.Array, threshold_1k: jax.Array | float, dead_k: jax.Array
) -> jax.Array:
    """How far dead units stay below their thresholds: summed over units, averaged over rows, in units of the codings.

    Only the dead units' own weights and biases in the encoder's last layer get a gradient (in a tied net these weights
    are also the units' columns); thresholds and everything that other units use get none. The gradient of a unit does
    not depend on its distance from the threshold. Dead units of ReLU codings are
    negative in every row; AuxK gives such units no gradient.
    """
    last_layer = {path for path, _ in net.coding_axes if path[0] == "encoder"}

    def stop_other_gradients(path: tuple, leaf: jax.Array) -> jax.Array:
        return leaf if tuple(part.key for part in path) in last_layer else jax.lax.stop_gradient(leaf)

    unit_params = jax.tree_util.tree_map_with_path(stop_other_gradients, params)
    units_bk = net.encode(unit_params, jax.lax.stop_gradient(centred_bd))
    short_bk = jax.nn.relu(jax.lax.stop_gradient(threshold_1k) - units_bk)
    return jnp.mean(jnp.sum(jnp.where(_without_masked(net, params, dead_k)[None, :], short_bk, 0.0), axis=1))


def _without_masked(net: Net, params: Params, dead_k: jax.Array) -> jax.Array:
    """The dead units that are not masked."""
    return dead_k & (nets.coding_mask(params, net.coding_axes, net.codings) > 0)
