"""The contractive autoencoder (Rifai et al. 2011): codings that move little when the input does."""

from __future__ import annotations

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from aejax.nets import Activation, Net, Params, identity
from aejax.variants import penalties
from aejax.variants.base import Autoencoder, decode_and_target


@functools.lru_cache(maxsize=256, typed=True)
def contractive(
    net: Net,
    *,
    output: Activation = identity,
    error: Callable[[jax.Array, jax.Array], jax.Array] = penalties.squared_error,
) -> Autoencoder:
    """Reconstruct the input by codings of a small Jacobian: `error(...) + contraction * jacobian + l2 * l2_penalty`.

    `jacobian`, one of the metrics, is the squared Frobenius norm of d codings / d inputs, summed over both and averaged
    over examples: exact, and differentiated exactly. It takes as many passes through the encoder as there are codings
    (or inputs, if fewer), except of a single dense layer, where it costs no more than the encoder. Hyper-parameters:
    `contraction` and `l2` >= 0. There may be more codings than inputs. Raises ConfigError when error and output do not
    belong together.
    """
    decode, predict = decode_and_target(net, output, error)
    one_layer = _is_one_elementwise_layer(net)

    def loss(params: Params, key: jax.Array, x_bd: jax.Array, *, contraction: jax.Array, l2: jax.Array):
        del key  # nothing random
        reconstruction_error = error(predict(params, net.encode(params, x_bd)), x_bd)
        norms_b = _of_one_layer(net, params, x_bd) if one_layer else squared_jacobian_norms(net.encode, params, x_bd)
        jacobian, penalty = jnp.mean(norms_b), l2 * penalties.l2(params)
        metrics = {"error": reconstruction_error, "jacobian": jacobian, "penalty": penalty}
        return reconstruction_error + contraction * jacobian + penalty, metrics

    quadratic = error is penalties.squared_error  # of an affine net the Jacobian is the same for every row
    return Autoencoder(net.init, net.encode, decode, loss, net.coding_axes, overcomplete=True, quadratic=quadratic)


def squared_jacobian_norms(encode: Callable[..., jax.Array], params: Params, x_bd: jax.Array) -> jax.Array:
    """Squared Frobenius norm of d codings / d inputs of every row, (b,), for any encoder of rows.

    One reverse pass a coding, or one forward pass an input where there are fewer inputs, all of them under one vmap:
    it holds (b, d) numbers for every coding. Rows must not depend on each other.
    """

    def of_rows(x_bd: jax.Array) -> jax.Array:
        return encode(params, x_bd)

    (b, d), k = x_bd.shape, jax.eval_shape(of_rows, x_bd).shape[-1]
    if k <= d:
        _, pull = jax.vjp(of_rows, x_bd)
        jacobian_kbd = jax.vmap(lambda unit_k: pull(jnp.broadcast_to(unit_k, (b, k)))[0])(jnp.eye(k))
        return jnp.sum(jnp.square(jacobian_kbd), axis=(0, 2))
    push = jax.linearize(of_rows, x_bd)[1]
    jacobian_dbk = jax.vmap(lambda unit_d: push(jnp.broadcast_to(unit_d, (b, d))))(jnp.eye(d))
    return jnp.sum(jnp.square(jacobian_dbk), axis=(0, 2))


def _of_one_layer(net: Net, params: Params, x_bd: jax.Array) -> jax.Array:
    """The same of one dense layer z = f(x W + b): sum_k f'_k^2 |w_k|^2 (Rifai et al. 2011, equation 7 for any f).

    f' is what moving the bias does to the codings.
    """
    layer = params["encoder"]["layer_0"]

    def of_bias(bias_k: jax.Array) -> jax.Array:
        return net.encode({**params, "encoder": {"layer_0": {**layer, "bias": bias_k}}}, x_bd)

    slope_bk = jax.jvp(of_bias, (layer["bias"],), (jnp.ones_like(layer["bias"]),))[1]
    return jnp.square(slope_bk) @ jnp.sum(jnp.square(layer["kernel"]), axis=0)


@functools.lru_cache(maxsize=256, typed=True)
def _is_one_elementwise_layer(net: Net) -> bool:
    """Whether the encoder is one dense layer whose activation is elementwise: no coding moves with another's bias."""
    encoder = jax.eval_shape(lambda: net.init(jax.random.key(0)))["encoder"]
    shapes = {"layer_0": {"bias": (net.codings,), "kernel": (net.inputs, net.codings)}}
    if jax.tree.map(lambda leaf: tuple(leaf.shape), encoder) != shapes:
        return False
    odd_k = np.arange(net.codings) % 2 == 1

    def codings(bias_k: np.ndarray) -> np.ndarray:
        layer = {"kernel": jnp.zeros((net.inputs, net.codings)), "bias": jnp.asarray(bias_k, jnp.float32)}
        return np.asarray(net.encode({"encoder": {"layer_0": layer}}, jnp.zeros((1, net.inputs))))[0]

    bias_k = np.linspace(-2, 2, net.codings)
    at_k = codings(bias_k)
    moved = {moving: codings(bias_k + 5 * (odd_k == moving)) for moving in (False, True)}
    return all(np.array_equal(z_k[odd_k != moving], at_k[odd_k != moving]) for moving, z_k in moved.items())
