"""The contractive autoencoder (Rifai et al. 2011): codings that change little when the input does."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from aejax.nets import Activation, Net, Params, identity, parameter_shapes
from aejax.runtime.memoise import build_once
from aejax.variants import penalties
from aejax.variants.base import Autoencoder, ErrorFunction, Scalar, decode_and_target


@build_once
def contractive(
    net: Net, *, output: Activation = identity, error: ErrorFunction = penalties.squared_error
) -> Autoencoder:
    """Reconstruct the input x (b, d) from codings z (b, k) whose Jacobian is small (Rifai et al. 2011).

        z        = encoder(x)
        jacobian = mean_b sum_kd (dz_bk / dx_bd)^2
        loss     = error(output(decoder(z)), x) + contraction * jacobian + l2 * l2_penalty

    The Jacobian and its gradient are exact. They take as many passes through the encoder as there are codings, or
    inputs if these are fewer; for a single dense layer they cost no more than the encoder. `jacobian` is a metric.
    There may be more codings than inputs.

    Hyper-parameters:
        contraction: weight of the Jacobian, at least 0, in units of the error per squared Jacobian entry.
        l2: weight of `penalties.l2`, at least 0, in units of the error per squared weight.

    Raises ConfigError where error and output do not fit.
    """
    decode, predict = decode_and_target(net, output, error)
    one_layer = _is_one_elementwise_layer(net)

    def loss(params: Params, key: jax.Array, x_bd: jax.Array, *, contraction: Scalar, l2: Scalar):
        reconstruction_error = error(predict(params, net.encode(params, x_bd)), x_bd)
        norms_b = _one_layer_norms(net, params, x_bd) if one_layer else squared_jacobian_norms(net.encode, params, x_bd)
        jacobian = jnp.mean(norms_b)
        penalty = l2 * penalties.l2(params)
        metrics = {"error": reconstruction_error, "jacobian": jacobian, "penalty": penalty}
        return reconstruction_error + contraction * jacobian + penalty, metrics

    quadratic = error is penalties.squared_error  # the Jacobian of an affine net is the same for every row
    return Autoencoder(net.init, net.encode, decode, loss, net.coding_axes, overcomplete=True, quadratic=quadratic)


def squared_jacobian_norms(encode: Callable[..., jax.Array], params: Params, x_bd: jax.Array) -> jax.Array:
    """Squared Frobenius norm of d codings / d inputs of every row, (b,), for any encoder of independent rows.

    It makes one reverse pass per coding, or one forward pass per input where there are fewer inputs. All passes are
    under one vmap, so memory holds (b, d) numbers for every coding.
    """

    def encode_rows(x_bd: jax.Array) -> jax.Array:
        return encode(params, x_bd)

    b, d = x_bd.shape
    k = jax.eval_shape(encode_rows, x_bd).shape[-1]
    if k <= d:
        _, pull = jax.vjp(encode_rows, x_bd)
        jacobian_kbd = jax.vmap(lambda unit_k: pull(jnp.broadcast_to(unit_k, (b, k)))[0])(jnp.eye(k))
        return jnp.sum(jnp.square(jacobian_kbd), axis=(0, 2))
    push = jax.linearize(encode_rows, x_bd)[1]
    jacobian_dbk = jax.vmap(lambda unit_d: push(jnp.broadcast_to(unit_d, (b, d))))(jnp.eye(d))
    return jnp.sum(jnp.square(jacobian_dbk), axis=(0, 2))


def _one_layer_norms(net: Net, params: Params, x_bd: jax.Array) -> jax.Array:
    """`squared_jacobian_norms` of one dense layer z = f(x W + b): sum_k f'_k^2 |w_k|^2, (b,).

    It is equation 7 of Rifai et al. (2011) for any elementwise f. The slopes f' are the derivatives of the codings by
    the biases.
    """
    layer = params["encoder"]["layer_0"]

    def encode_with(bias_k: jax.Array) -> jax.Array:
        return net.encode({**params, "encoder": {"layer_0": {**layer, "bias": bias_k}}}, x_bd)

    slope_bk = jax.jvp(encode_with, (layer["bias"],), (jnp.ones_like(layer["bias"]),))[1]
    return jnp.square(slope_bk) @ jnp.sum(jnp.square(layer["kernel"]), axis=0)


def _is_one_elementwise_layer(net: Net) -> bool:
    """Whether the encoder is one dense layer with biases whose activation is elementwise.

    The activation is elementwise if no coding changes when the bias of another coding does: the test moves the biases
    of all odd, then of all even codings, at 0.
    """
    shapes = jax.tree.map(lambda leaf: tuple(leaf.shape), parameter_shapes(net)["encoder"])
    if shapes != {"layer_0": {"bias": (net.codings,), "kernel": (net.inputs, net.codings)}}:
        return False

    def encode_zeros(bias_k: np.ndarray) -> np.ndarray:
        layer = {"kernel": jnp.zeros((net.inputs, net.codings)), "bias": jnp.asarray(bias_k, jnp.float32)}
        return np.asarray(net.encode({"encoder": {"layer_0": layer}}, jnp.zeros((1, net.inputs))))[0]

    bias_k = np.linspace(-2, 2, net.codings)
    z_k = encode_zeros(bias_k)
    odd_k = np.arange(net.codings) % 2 == 1
    return all(
        np.array_equal(encode_zeros(bias_k + 5 * moved_k)[~moved_k], z_k[~moved_k]) for moved_k in (~odd_k, odd_k)
    )
