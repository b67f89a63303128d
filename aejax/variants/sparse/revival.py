"""Revival of dead units: those of TopK learn to reconstruct what the others leave over (AuxK, Gao et al. 2024), those
with a threshold are drawn towards it (the pre-activation loss of Anthropic's "Circuits Updates", January 2025, here on
their own parameters alone).
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from aejax import nets
from aejax.nets import Net, Params
from aejax.runtime import validate
from aejax.variants.sparse.selection import largest


def check_revival(net: Net, dead_after: object, revived: object) -> int:
    """How many dead units are revived at once: `revived`, or half the number of inputs. Raises ConfigError."""
    validate.whole_number("dead_after", dead_after, minimum=1)
    if revived is None:
        return max(1, net.inputs // 2)
    return validate.whole_number("revived", revived, minimum=1)


def idle_steps(idle_k: jax.Array, z_bk: jax.Array) -> jax.Array:
    """Steps since each unit was last active, this batch included."""
    return jnp.where(jnp.any(jax.lax.stop_gradient(z_bk) != 0, axis=0), 0.0, idle_k + 1)


def revival_error(
    net: Net, params: Params, units_bk: jax.Array, left_over_bd: jax.Array, dead_k: jax.Array, most: int
) -> jax.Array:
    """Mean squared error of the row's `most` largest dead units, and ReLU, for what the codings left over.

    What is left over is a target: no gradient through it. Of a cross-entropy it is the gradient with respect to the
    logits, so that dead units learn in either case what would help most. A unit that is negative on every row learns
    nothing: it is helped only by the centre of the rows, which the other units move. 0 where no unit is dead.
    """
    dead_k = _there(net, params, dead_k)
    dead_1k = dead_k[None, :]
    chosen_bk = largest(jnp.where(dead_1k, units_bk, -jnp.inf), most) & dead_1k
    z_bk = jnp.where(chosen_bk, jax.nn.relu(units_bk), 0.0)
    silent_1d = net.decode(params, jnp.zeros((1, net.codings)))
    reconstruction_bd = net.decode(params, z_bk) - silent_1d  # of the columns alone, without the bias
    squares = jnp.mean(jnp.square(reconstruction_bd - jax.lax.stop_gradient(left_over_bd)))
    return jnp.where(jnp.any(dead_k), squares, 0.0)


def shortfall(
    net: Net, params: Params, centred_bd: jax.Array, threshold_1k: jax.Array | float, dead_k: jax.Array
) -> jax.Array:
    """How far dead units stay below their thresholds for these rows: summed over units, averaged over rows.

    Only the dead units' own weights and biases of the encoder's last layer learn from it (of a tied net these weights
    are the unit's own column, too), no threshold and nothing that living units share. Its gradient is the same for a
    unit far below its threshold as for one close to it. AuxK has none where a unit is negative on every row, as the
    dead ones of ReLU codings are.
    """
    own = {path for path, _ in net.coding_axes if path[0] == "encoder"}

    def alone(path: tuple, leaf: jax.Array) -> jax.Array:
        return leaf if tuple(part.key for part in path) in own else jax.lax.stop_gradient(leaf)

    units_bk = net.encode(jax.tree_util.tree_map_with_path(alone, params), jax.lax.stop_gradient(centred_bd))
    short_bk = jax.nn.relu(jax.lax.stop_gradient(threshold_1k) - units_bk)
    return jnp.mean(jnp.sum(jnp.where(_there(net, params, dead_k)[None, :], short_bk, 0.0), axis=1))


def _there(net: Net, params: Params, dead_k: jax.Array) -> jax.Array:
    """The dead units less those that are masked, which are not there to be revived."""
    return dead_k & (nets.coding_mask(params, net.coding_axes, net.codings) > 0)
