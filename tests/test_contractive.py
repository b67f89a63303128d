"""Contractive: the penalty compared with closed forms, finite differences and other ways to compute it."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aejax import nets, variants
from aejax.config import registry
from aejax.config.sweep import Sweep
from aejax.evaluation import reconstruction, scores
from aejax.evaluation.reconstruction import pca_reference
from aejax.evaluation.scores.base import TrainedRun
from aejax.evaluation.scores.contraction import jacobian_norm, sensitivity
from aejax.runtime.errors import ConfigError
from aejax.training import train
from aejax.variants.contractive import squared_jacobian_norms
from support import small_dataset

INPUTS = 12


@pytest.fixture
def x_bd():
    return jnp.asarray(np.random.default_rng(0).uniform(0, 1, (16, INPUTS)), jnp.float32)


def params_and_penalty(net, x_bd, contraction=1.0):
    """Parameters with biases that are not zero, and the Jacobian penalty that the loss reports for them."""
    params = jax.tree.map(lambda leaf: np.asarray(leaf) + np.float32(0.1), net.init(jax.random.key(0)))
    metrics = variants.contractive(net).loss(params, jax.random.key(1), x_bd, contraction=contraction, l2=0.0)[1]
    return params, float(metrics["jacobian"])


def general_penalty(net, params, x_bd):
    """The Jacobian penalty as `squared_jacobian_norms` computes it for any encoder."""
    return float(squared_jacobian_norms(net.encode, params, x_bd).mean())


@pytest.mark.parametrize("tied", [False, True])
def test_one_sigmoid_layer_has_rifais_closed_form(x_bd, tied):
    net = nets.mlp(INPUTS, (5,), coding_activation=jax.nn.sigmoid)
    params, penalty = params_and_penalty(nets.tied(net) if tied else net, x_bd)
    layer = {name: np.asarray(leaf, np.float64) for name, leaf in params["encoder"]["layer_0"].items()}
    z_bk = 1 / (1 + np.exp(-(np.asarray(x_bd, np.float64) @ layer["kernel"] + layer["bias"])))
    closed = (np.square(z_bk * (1 - z_bk)) @ np.square(layer["kernel"]).sum(axis=0)).mean()
    assert penalty == pytest.approx(closed, rel=1e-5)
    assert general_penalty(net, params, x_bd) == pytest.approx(closed, rel=1e-5)


def test_the_penalty_of_a_linear_net_is_the_squared_norm_of_its_kernel(x_bd):
    params, penalty = params_and_penalty(nets.mlp(INPUTS, (3,)), x_bd)
    assert penalty == pytest.approx(float(np.square(params["encoder"]["layer_0"]["kernel"]).sum()), rel=1e-5)


def test_the_penalty_of_a_deep_net_agrees_with_finite_differences(x_bd):
    """The differences use the encoder written in float64."""
    params, penalty = params_and_penalty(
        nets.mlp(INPUTS, (9, 7, 3), activation=jnp.tanh, coding_activation=jax.nn.sigmoid), x_bd
    )
    layers = [jax.tree.map(lambda a: np.asarray(a, np.float64), params["encoder"][f"layer_{i}"]) for i in range(3)]

    def encode(x_bd):
        for layer in layers[:-1]:
            x_bd = np.tanh(x_bd @ layer["kernel"] + layer["bias"])
        return 1 / (1 + np.exp(-(x_bd @ layers[-1]["kernel"] + layers[-1]["bias"])))

    step = 1e-5
    rows_bd = np.asarray(x_bd, np.float64)
    moves = (encode(rows_bd + step * unit_d) - encode(rows_bd - step * unit_d) for unit_d in np.eye(INPUTS))
    expected = sum(np.square(move / (2 * step)).sum() for move in moves) / len(rows_bd)
    assert penalty == pytest.approx(expected, rel=1e-4)


def test_with_more_codings_than_inputs_forward_passes_give_the_same_penalty(x_bd):
    net = nets.mlp(INPUTS, (9, 20), activation=jax.nn.gelu)
    params, penalty = params_and_penalty(net, x_bd)
    jacobian_bkd = jax.jit(jax.vmap(jax.jacrev(lambda x_d: net.encode(params, x_d[None])[0])))(x_bd)
    assert jacobian_bkd.shape == (16, 20, INPUTS)
    assert penalty == pytest.approx(float(np.square(jacobian_bkd).sum() / 16), rel=1e-5)


def _mixing(x_bd):
    return jax.nn.softmax(x_bd, axis=-1)


@pytest.mark.parametrize(
    "activation", [*registry.ACTIVATIONS.values(), _mixing], ids=lambda f: getattr(f, "__name__", "?")
)
def test_the_formula_for_one_layer_equals_the_general_penalty_for_every_activation(x_bd, activation):
    """Softmax is not elementwise, so the formula does not hold for it and must not be used."""
    net = nets.mlp(INPUTS, (3,), coding_activation=activation)
    params, penalty = params_and_penalty(net, x_bd)
    assert penalty == pytest.approx(general_penalty(net, params, x_bd), rel=1e-5)


def test_the_gradient_of_the_loss_agrees_with_finite_differences(x_bd):
    """Central differences of the loss along a random direction."""
    net = nets.mlp(INPUTS, (6, 3), activation=jnp.tanh)
    autoencoder = variants.contractive(net)
    params = jax.jit(net.init)(jax.random.key(0))
    loss = jax.jit(lambda p: autoencoder.loss(p, jax.random.key(1), x_bd, contraction=0.3, l2=0.0)[0])
    leaves, tree = jax.tree.flatten(params)
    rng = np.random.default_rng(1)
    step = 1e-2
    direction = jax.tree.unflatten(tree, [jnp.asarray(rng.normal(size=leaf.shape), jnp.float32) for leaf in leaves])
    ahead, back = (jax.tree.map(lambda p, a, s=s: p + s * a, params, direction) for s in (step, -step))
    product = jax.tree.map(lambda g, a: float((g * a).sum()), jax.jit(jax.grad(loss))(params), direction)
    assert sum(jax.tree.leaves(product)) == pytest.approx(float(loss(ahead) - loss(back)) / (2 * step), rel=2e-3)


def test_more_contraction_makes_codings_less_sensitive_to_noise():
    dataset = small_dataset()
    autoencoder = variants.contractive(nets.mlp(INPUTS, (8, 3), coding_activation=jax.nn.sigmoid))
    pca = pca_reference(dataset)
    runs = [(0, {"learning_rate": 0.01, "contraction": weight, "l2": 0.0}) for weight in (0.0, 0.02)]
    fits = train.fit_population(autoencoder, dataset, runs, epochs=30, batch_size=18, how="vmap", width=2).fits
    measure = scores.contraction(0.1, rows=20)
    key = jax.random.key(0)
    measured: list[dict[str, Any]] = [
        measure(TrainedRun(autoencoder, fit.params, {}, dataset, 3, key))[0] for fit in fits
    ]
    plain, contracted = measured
    assert contracted["jacobian_norm"] < 0.8 * plain["jacobian_norm"]
    assert contracted["pca_coding_sensitivity"] == plain["pca_coding_sensitivity"]
    clean_nd = dataset.floats(dataset.x_test)
    noise_nd = 0.1 * np.asarray(jax.random.normal(jax.random.key(0), clean_nd.shape))
    for numbers, fit in zip(measured, fits, strict=True):  # PCA with the fewest components whose error is no larger
        sse = reconstruction.sse(autoencoder, fit.params, dataset.x_test, unit=dataset.unit)
        k = next(k for k, error in enumerate(pca.curve) if error <= sse)
        kernel_dk = pca.params.components_kd[:k].T
        z_nk = (clean_nd - pca.params.mean_d) @ kernel_dk
        assert 0 < k < INPUTS
        assert numbers["equal_pca_coding_sensitivity"] == pytest.approx(sensitivity(z_nk, z_nk + noise_nd @ kernel_dk))
    assert fits[1].history["validation_error"][-1] > fits[0].history["validation_error"][-1]


def test_the_jacobian_norm_is_the_mean_of_the_norms_of_the_rows():
    """The derivative of the sigmoid z is z (1 - z). Rows are of different size, and so are their norms."""
    net = nets.mlp(INPUTS, (3,), coding_activation=jax.nn.sigmoid)
    params = net.init(jax.random.key(0))
    layer = {name: np.asarray(leaf, np.float64) for name, leaf in params["encoder"]["layer_0"].items()}
    x_nd = np.random.default_rng(0).normal(size=(60, INPUTS)) * np.linspace(0.1, 5, 60)[:, None]
    z_nk = 1 / (1 + np.exp(-(x_nd @ layer["kernel"] + layer["bias"])))
    norms_n = np.sqrt(np.square(z_nk * (1 - z_nk)) @ np.square(layer["kernel"]).sum(axis=0))
    assert norms_n.max() > 3 * norms_n.min()
    assert jacobian_norm(variants.plain(net), params, x_nd.astype(np.float32)) == pytest.approx(
        norms_n.mean(), rel=1e-4
    )


def test_noise_on_the_inputs_is_the_same_for_every_seed():
    dataset = small_dataset()
    autoencoder = variants.plain(nets.mlp(INPUTS, (3,)))
    params = autoencoder.init(jax.random.key(0))
    runs = [TrainedRun(autoencoder, params, {}, dataset, 3, jax.random.key(seed)) for seed in (1, 2)]
    numbers = [scores.contraction(0.1, rows=20)(run)[0] for run in runs]
    assert numbers[0] == numbers[1]


def test_the_score_of_a_pca_encoder_has_known_values():
    """Orthonormal columns have the Jacobian norm sqrt(k), and noise of variance s^2 changes the codings by s^2 k."""
    dataset = small_dataset(rows=5000)
    net = nets.mlp(INPUTS, (3,))
    autoencoder = variants.contractive(net)
    pca = pca_reference(dataset)
    level = 0.2
    first_kd = pca.params.components_kd[:3]
    params = net.init(jax.random.key(0))
    layer = {"kernel": jnp.asarray(first_kd.T, jnp.float32), "bias": jnp.zeros(3)}
    params["encoder"] = {"layer_0": layer}
    measured, _ = scores.contraction(level)(TrainedRun(autoencoder, params, {}, dataset, 3, jax.random.key(0)))
    assert measured["jacobian_norm"] == pytest.approx(3**0.5, rel=1e-5)
    assert measured["coding_sensitivity"] == pytest.approx(measured["pca_coding_sensitivity"], rel=1e-4)
    spread = 2 * (dataset.floats(dataset.x_test) @ first_kd.T).var(axis=0).sum()
    assert measured["coding_sensitivity"] == pytest.approx(level**2 * 3 / spread, rel=0.05)
    assert sensitivity(np.ones((4, 2)), np.zeros((4, 2))) is None
    assert jacobian_norm(autoencoder, params, dataset.floats(dataset.x_test[:7])) == pytest.approx(3**0.5, rel=1e-5)


def test_invalid_hyper_parameters_and_options_are_refused(refused):
    config = {"dataset": "digits", "widths": (4, 3), "epochs": 1, "batch_size": 64, "variant": variants.contractive}
    hyper = {"learning_rate": 0.01, "l2": 0.0}
    call = lambda: Sweep(**config, hyper=hyper | {"contraction": -1.0})  # noqa: E731
    refused(ConfigError, "Sweep.hyper.contraction", "-1.0", call=call)
    refused(ConfigError, "Sweep.hyper.contraction", "missing", call=lambda: Sweep(**config, hyper=hyper))
    refused(ConfigError, "scores.contraction.level", "0", call=lambda: scores.contraction(0.0))
    refused(ConfigError, "scores.contraction.rows", "0", call=lambda: scores.contraction(rows=0))
