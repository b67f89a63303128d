"""Linear autoencoders compared with their exact theory: Baldi & Hornik 1989, Kunin et al. 2019, Bao et al. 2020,
Chen et al. 2012. Every optimum is derived here from the moments of the data, independently of the code.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg

from aejax import nets, variants
from aejax.datasets.base import Dataset, Scaling
from aejax.evaluation.scores.axes import distances
from aejax.runtime.errors import ConfigError
from aejax.training import optimisers, schedules, train
from aejax.variants.penalties import cross_entropy, squared_error

N = 200
D = 8
K = 3
VARIANCES = np.array([4.0, 2.5, 1.5, 0.5, 0.3, 0.2, 0.1, 0.05])


@functools.cache
def dataset(offset=0.0):
    """Rows with variances of exactly VARIANCES (denominator n) along random axes; every column has mean `offset`."""
    rng = np.random.default_rng(0)
    drawn_nd = rng.normal(size=(N, D))
    white_nd = np.sqrt(N) * np.linalg.qr(drawn_nd - drawn_nd.mean(axis=0))[0]
    rotation_dd = np.linalg.qr(rng.normal(size=(D, D)))[0]
    x_nd = (white_nd * np.sqrt(VARIANCES) @ rotation_dd.T + offset).astype(np.float32)
    return Dataset("known", x_nd, x_nd, x_nd, None, None, None, None, Scaling(np.zeros(1), np.ones(1)), 1.0, "")


def directions():
    """The first K principal directions, (K, D), by a singular value decomposition."""
    return np.linalg.svd(dataset().x_train.astype(np.float64), full_matrices=False)[2][:K]


@functools.cache
def trained(variant, tied=False, bias=False, offset=0.0, noise=None, steps=6000, **hyper):
    """The last error per row, encoder and decoder kernel of full-batch training."""
    net = nets.mlp(D, (K,), precision="highest", bias=bias, initialiser="glorot")
    autoencoder = variant(nets.tied(net) if tied else net, **({} if noise is None else {"noise": noise}))
    options = {"schedule": schedules.warmup_cosine, "optimiser": optimisers.nesterov, "full_batch_steps": steps // 3}
    settings = {"seed": 1, "epochs": 3, "batch_size": None, "learning_rate": 0.05}
    fit = train.fit(autoencoder, dataset(offset), **settings, **options, **hyper)
    assert fit.status == "completed"
    encoder_dk, decoder_kd = (np.asarray(kernel, np.float64) for kernel in nets.affine_kernels(fit.last_params))
    return D * fit.history["validation_error"][-1], encoder_dk, decoder_kd


def shrunk(l2_k):
    """Singular values of W2 W1 at the optimum of |X - W2 W1 X|^2 + sum_j L_j (|row j of W1|^2 + |column j of W2|^2).

    Along direction u_j the penalty of a product w is least, 2 L w, where both factors have length sqrt(w). The total
    s^2 (1 - w)^2 + 2 L w is least at w = 1 - L / s^2, or at 0 where this is negative. Our error is divided by n d and
    our penalty is half the sum of squares, so L = n d l2 / 2; s^2 is n times the variance.
    """
    return np.maximum(0.0, 1 - N * D * np.asarray(l2_k) / 2 / (N * VARIANCES[:K]))


@pytest.mark.parametrize("tied", [False, True])
def test_the_global_minimum_is_pcas_error_and_subspace(tied):
    error, _, decoder_kd = trained(variants.plain, tied=tied, l2=0.0)
    assert error == pytest.approx(VARIANCES[K:].sum(), rel=1e-5)
    assert distances(decoder_kd, directions())[1] < 1e-6


def test_uniform_l2_shrinks_as_kunin_derives_gives_transposed_factors_and_leaves_the_rotation_free():
    _, encoder_dk, decoder_kd = trained(variants.plain, l2=0.03)
    values_k = np.linalg.svd(encoder_dk @ decoder_kd, compute_uv=False)[:K]
    np.testing.assert_allclose(values_k, shrunk(0.03), rtol=1e-4)
    np.testing.assert_allclose(encoder_dk, decoder_kd.T, atol=1e-4)
    axis, subspace, _ = distances(decoder_kd, directions())
    assert subspace < 1e-6
    assert axis > 0.05


def test_uniform_l2_above_the_variance_of_a_component_drops_it():
    """L is 1.2 times the squared singular value of the third component, so keeping it costs more than it saves."""
    l2 = 2 * 1.2 * VARIANCES[2] / D
    values_k = np.linalg.svd(np.matmul(*trained(variants.plain, l2=l2)[1:]), compute_uv=False)[:K]
    np.testing.assert_allclose(values_k, shrunk(l2), rtol=1e-4, atol=1e-4)
    assert shrunk(l2)[2] == 0


def assert_in_order(decoder_kd, tolerance):
    """Assert that decoder row j lies along principal direction j."""
    axis, _, cosines_kk = distances(decoder_kd, directions())
    assert axis < tolerance
    np.testing.assert_array_equal(cosines_kk.argmax(axis=1), np.arange(K))


def test_nonuniform_l2_finds_the_components_in_order_with_kunins_values():
    l2_k = 0.05 + 0.25 * np.arange(K) / (K - 1)
    _, encoder_dk, decoder_kd = trained(variants.nonuniform_l2, l2=0.05, l2_spread=0.25, steps=30000)
    assert_in_order(decoder_kd, 1e-6)
    np.testing.assert_allclose(np.linalg.norm(decoder_kd, axis=1) ** 2, shrunk(l2_k), rtol=1e-4)
    np.testing.assert_allclose(encoder_dk, decoder_kd.T, atol=1e-4)


@pytest.mark.parametrize("codings", [K, 2, 1])
@pytest.mark.parametrize("tied", [False, True])
def test_the_growing_penalty_rises_from_the_first_to_the_last_trained_coding(tied, codings):
    net = nets.mlp(D, (5, K))
    net = nets.tied(net) if tied else net
    params = net.init(jax.random.key(0), codings)
    kernels = [np.asarray(params["encoder"]["layer_1"]["kernel"], np.float64)]
    kernels += [] if tied else [np.asarray(params["decoder"]["layer_0"]["kernel"], np.float64).T]
    shares = np.linspace(0, 1, codings)
    expected = sum(share * np.square(kernel[:, j]).sum() / 2 for kernel in kernels for j, share in enumerate(shares))
    loss = variants.nonuniform_l2(net).loss
    x_bd = jnp.asarray(dataset().x_train[:5])
    metrics = loss(params, jax.random.key(0), x_bd, l2=0.0, l2_spread=0.3)[1]
    assert float(metrics["penalty"]) == pytest.approx(0.3 * expected, rel=1e-5)


def test_nested_dropout_finds_the_components_in_order_at_the_error_of_pca():
    error, _, decoder_kd = trained(variants.nested_dropout, continuation=0.5, l2=0.0)
    assert_in_order(decoder_kd, 1e-6)
    assert error == pytest.approx(VARIANCES[K:].sum(), rel=1e-5)


@pytest.mark.parametrize("tied", [False, True])
def test_rotation_finds_the_components_in_order_and_without_it_they_stay_rotated(tied):
    l2 = 0.0 if tied else 0.01
    _, _, decoder_kd = trained(variants.rotation_augmented, tied=tied, rotation=4.0, l2=l2)
    assert_in_order(decoder_kd, 1e-6)
    np.testing.assert_allclose(np.linalg.norm(decoder_kd, axis=1) ** 2, shrunk(l2), rtol=1e-4)
    assert distances(decoder_kd, directions())[1] < 1e-6
    unrotated = trained(variants.rotation_augmented, tied=tied, rotation=0.0, l2=l2)[2]
    assert distances(unrotated, directions())[0] > 0.05


def stacked_and_affine():
    return {
        "affine": nets.mlp(D, (K,)),
        "tied affine": nets.tied(nets.mlp(D, (K,))),
        "stacked": nets.mlp(D, (5, K)),
        "tied stacked": nets.tied(nets.mlp(D, (5, K))),
    }


EVERY_NET = pytest.mark.parametrize("kind", stacked_and_affine())


def started(kind):
    """A net, its parameters with biases that are not zero, and some rows around 0.5."""
    net = stacked_and_affine()[kind]
    params = jax.tree.map(lambda leaf: leaf + 0.1, net.init(jax.random.key(0)))
    return net, params, jnp.asarray(dataset(0.5).x_train[:40])


@EVERY_NET
def test_the_rotation_gradient_changes_no_reconstruction_and_is_baos(kind):
    net, params, x_bd = started(kind)
    variant = variants.rotation_augmented(net)

    @jax.jit
    @jax.value_and_grad
    def total(params, rotation):
        return variant.loss(params, jax.random.key(0), x_bd, rotation=rotation, l2=0.0)[0]

    value, gradient = total(params, 3.0)
    plain_value, plain_gradient = total(params, 0.0)
    assert value == plain_value
    added = jax.tree.map(jnp.subtract, gradient, plain_gradient)

    def reconstruct(params):
        return net.decode(params, net.encode(params, x_bd))

    reconstruction_bd, change_bd = jax.jit(lambda p, change: jax.jvp(reconstruct, (p,), (change,)))(params, added)
    assert float(jnp.abs(change_bd).max()) < 1e-5 * float(jnp.abs(reconstruction_bd).max())
    z_nk = np.asarray(net.encode(params, x_bd), np.float64)
    upper_kk = np.triu(np.cov(z_nk, rowvar=False, bias=True), 1)
    gamma_kk = 0.5 * (upper_kk - upper_kk.T)  # the paper's gradient is grad - gamma W1, and W1 is our kernel transposed
    last = f"layer_{len(params['encoder']) - 1}"
    expected = -3.0 / D * gamma_kk @ np.asarray(params["encoder"][last]["kernel"]).T
    np.testing.assert_allclose(added["encoder"][last]["kernel"].T, expected, atol=1e-5)


def nested_by_hand(net, params, x_bd, continuation):
    """The expectation over p of the error of the first p codings, summed over p."""
    z_bk = net.encode(params, x_bd)
    expected = 0.0
    for p in range(1, K + 1):
        probability = continuation ** (p - 1) * (1 - continuation if p < K else 1)
        prefix_bk = z_bk * (np.arange(K) < p)[None, :]
        expected += probability * float(squared_error(net.decode(params, prefix_bk), x_bd))
    return expected


@EVERY_NET
@pytest.mark.parametrize("continuation", [0.0, 0.6, 1.0])
def test_nested_dropout_is_the_expectation_over_prefixes(kind, continuation):
    net, params, x_bd = started(kind)
    variant = variants.nested_dropout(net)
    assert variant.quadratic is kind.endswith("affine")
    metrics = variant.loss(params, jax.random.key(0), x_bd, continuation=continuation, l2=0.0)[1]
    assert metrics["nested_error"] == pytest.approx(nested_by_hand(net, params, x_bd, continuation), rel=1e-5)
    whole = squared_error(net.decode(params, net.encode(params, x_bd)), x_bd)
    assert metrics["error"] == pytest.approx(float(whole), rel=1e-5)


def test_the_loss_with_sampled_prefixes_has_the_same_expectation():
    net, params, x_bd = started("stacked")
    loss = jax.jit(variants.nested_dropout(net, prefixes="sampled").loss)
    drawn = jax.vmap(lambda key: loss(params, key, x_bd, continuation=0.6, l2=0.0)[0])(
        jax.random.split(jax.random.key(1), 2000)
    )
    spread = float(drawn.std()) / np.sqrt(len(drawn))
    assert float(drawn.mean()) == pytest.approx(nested_by_hand(net, params, x_bd, 0.6), abs=4 * spread)
    assert spread > 0


@pytest.mark.parametrize("kind", ["affine", "tied affine"])
@pytest.mark.parametrize(("noise", "level"), [("gaussian", 0.7), ("masking", 0.4)])
def test_the_marginalised_loss_is_the_mean_of_the_denoising_loss(kind, noise, level):
    net, params, x_bd = started(kind)
    denoising = jax.jit(variants.denoising(net, noise=noise).loss)
    drawn, of_draws = jax.vmap(lambda key: denoising(params, key, x_bd, level=level, l2=0.01))(
        jax.random.split(jax.random.key(1), 4000)
    )
    expected_loss, metrics = variants.marginalised_denoising(net, noise=noise).loss(
        params, jax.random.key(0), x_bd, level=level, l2=0.01
    )
    spread = float(drawn.std()) / np.sqrt(len(drawn))
    assert float(expected_loss) == pytest.approx(float(drawn.mean()), abs=4 * spread)
    assert float(metrics["error"]) == pytest.approx(float(of_draws["error"].mean()), abs=4 * spread)
    assert spread < 0.01 * float(expected_loss)


def test_gaussian_denoising_shrinks_each_component_by_its_signal_to_noise():
    """Along u_j, W = w u u^T costs v (1 - w)^2 + level^2 w^2, least at w = v / (v + level^2), for the k largest v."""
    error, encoder_dk, decoder_kd = trained(variants.marginalised_denoising, level=1.0, l2=0.0)
    values_k = np.linalg.svd(encoder_dk @ decoder_kd, compute_uv=False)[:K]
    ridge_k = VARIANCES[:K] / (VARIANCES[:K] + 1.0)
    np.testing.assert_allclose(values_k, ridge_k, rtol=1e-3)
    assert distances(decoder_kd, directions())[1] < 1e-6
    assert error == pytest.approx((VARIANCES[:K] * (1 - ridge_k)).sum() + VARIANCES[K:].sum(), rel=1e-4)


def test_masking_denoising_is_the_reduced_rank_regression_on_masked_rows():
    """The regression of x on its masked x', with a bias. Let Q be the covariance of x' and P that of x' and x.

    The error of a map J is tr C - tr P^T Q^-1 P + |Q^1/2 J - Q^-1/2 P|^2, so the best map of rank k is Q^-1/2 times the
    best approximation of Q^-1/2 P of rank k.
    """
    level = 0.4
    x_nd = dataset(0.5).x_train.astype(np.float64)
    error, encoder_dk, decoder_kd = trained(
        variants.marginalised_denoising, bias=True, offset=0.5, noise="masking", level=level, l2=0.0
    )
    covariance_dd = np.cov(x_nd, rowvar=False, bias=True)
    masked_dd = (1 - level) ** 2 * covariance_dd + level * (1 - level) * np.diag(np.square(x_nd).mean(axis=0))
    root_dd = np.real(np.asarray(scipy.linalg.sqrtm(masked_dd)))
    left, values, right = np.linalg.svd(np.linalg.solve(root_dd, (1 - level) * covariance_dd))
    best_dd = np.linalg.solve(root_dd, left[:, :K] * values[:K] @ right[:K])
    np.testing.assert_allclose(encoder_dk @ decoder_kd, best_dd, atol=1e-3)
    assert error == pytest.approx(np.trace(covariance_dd) - np.square(values[:K]).sum(), rel=1e-4)


def test_distances_of_decoders_with_known_distances():
    eye = np.eye(4)
    turned = np.array([[1.0, 1.0, 0.0, 0.0], [1.0, -1.0, 0.0, 0.0]])
    for decoder_kd, axis, subspace in (
        (eye[:2], 0.0, 0.0),
        (-3 * eye[[1, 0]], 0.0, 0.0),
        (turned, 0.5, 0.0),
        (eye[2:], 1.0, 1.0),
        (eye[[0, 3]], 0.5, 0.5),
        (np.stack([eye[0], eye[0]]), 0.5, 0.5),
        (np.zeros((2, 4)), 1.0, 1.0),
    ):
        assert distances(decoder_kd, eye[:2])[:2] == pytest.approx((axis, subspace))


def test_nets_without_closed_form_or_rotation_and_invalid_options_are_refused(refused):
    stacked = nets.mlp(D, (5, K))
    squashed = nets.mlp(D, (K,), coding_activation=jax.nn.tanh)
    marginalised = variants.marginalised_denoising
    sigmoid = {"output": jax.nn.sigmoid, "error": cross_entropy}
    for net in (stacked, squashed):
        refused(ConfigError, "variant", "affine", call=lambda net=net: marginalised(net))
    refused(ConfigError, "variant", "affine", call=lambda: marginalised(nets.mlp(D, (K,)), **sigmoid))
    refused(ConfigError, "noise", "masking", call=lambda: marginalised(nets.mlp(D, (K,)), noise="maskin"))
    refused(ConfigError, "coding_activation", call=lambda: variants.rotation_augmented(squashed))
    refused(ConfigError, "prefixes", "all", call=lambda: variants.nested_dropout(stacked, prefixes="every"))
    refused(ConfigError, "bias", "True or False", call=lambda: nets.mlp(D, (K,), bias=0))  # pyright: ignore[reportArgumentType]
    refused(ConfigError, "initialiser", "glorot", call=lambda: nets.mlp(D, (K,), initialiser="glorott"))
