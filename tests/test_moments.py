"""Condensed rows have the mean and covariance of all rows, and give an affine net the same loss."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aejax import nets, variants
from aejax.config.sweep import Sweep
from aejax.datasets import moments
from aejax.runtime.errors import ConfigError
from aejax.training import train
from support import small_dataset

QUADRATIC = [
    (variants.plain, {"l2": 0.01}),
    (variants.contractive, {"l2": 0.01, "contraction": 0.1}),
    (variants.nonuniform_l2, {"l2": 0.01, "l2_spread": 0.01}),
    (variants.nested_dropout, {"l2": 0.01, "continuation": 0.7}),
    (variants.rotation_augmented, {"l2": 0.01, "rotation": 2.0}),
    (functools.partial(variants.marginalised_denoising, noise="gaussian"), {"l2": 0.01, "level": 0.3}),
    (functools.partial(variants.marginalised_denoising, noise="masking"), {"l2": 0.01, "level": 0.3}),
]
LINEAR = {"dataset": "digits", "widths": (3,), "epochs": 2, "hyper": {"learning_rate": 0.01, "l2": 0.0}}


@pytest.mark.parametrize("rank", [12, 4])
@pytest.mark.parametrize("unit", [1.0, 255.0])
def test_condensed_rows_have_the_mean_and_covariance_of_all_rows(rank, unit):
    rng = np.random.default_rng(0)
    x_nd = (rng.normal(size=(500, rank)) @ rng.normal(size=(rank, 12)) + rng.normal(size=12)) * unit
    condensed = moments.condense_rows(x_nd, unit).astype(np.float64)
    assert len(condensed) == rank + 1
    np.testing.assert_allclose(condensed.mean(axis=0), x_nd.mean(axis=0) / unit, atol=1e-6)
    covariance = np.cov(x_nd / unit, rowvar=False, bias=True)
    np.testing.assert_allclose(np.cov(condensed, rowvar=False, bias=True), covariance, atol=1e-5 * covariance.max())


def test_at_most_d_plus_1_rows_are_only_divided_by_the_unit():
    x_nd = np.arange(24, dtype=np.uint8).reshape(4, 6)
    np.testing.assert_array_equal(moments.condense_rows(x_nd, 255.0), x_nd.astype(np.float32) / np.float32(255.0))


@pytest.mark.parametrize(("build", "hyper"), QUADRATIC)
def test_condensed_rows_give_the_loss_and_gradient_of_all_rows(build, hyper):
    dataset = small_dataset(rows=400)
    condensed = moments.condense(dataset)
    net = nets.mlp(12, (3,))
    autoencoder = build(net)
    params = net.init(jax.random.key(0))
    assert autoencoder.quadratic
    params["encoder"]["layer_0"]["bias"] += 0.3
    all_nd = dataset.floats(dataset.x_train)
    few_nd = condensed.floats(condensed.x_train)
    assert len(few_nd) < 20
    loss_and_gradient = jax.jit(jax.value_and_grad(lambda p, x: autoencoder.loss(p, jax.random.key(0), x, **hyper)[0]))
    loss, gradient = loss_and_gradient(params, jnp.asarray(all_nd))
    loss_few, gradient_few = loss_and_gradient(params, jnp.asarray(few_nd))
    np.testing.assert_allclose(loss, loss_few, rtol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), gradient, gradient_few)


def test_training_on_condensed_rows_is_full_batch_training_on_all_rows():
    dataset = small_dataset(rows=400)
    autoencoder = variants.plain(nets.mlp(12, (3,)))
    settings = {"seed": 0, "epochs": 200, "batch_size": None, "learning_rate": 0.01, "l2": 0.0}
    all_rows, condensed = (train.fit(autoencoder, data, **settings) for data in (dataset, moments.condense(dataset)))
    np.testing.assert_allclose(all_rows.history["train_loss"], condensed.history["train_loss"], rtol=1e-3)
    np.testing.assert_allclose(all_rows.best_error, condensed.best_error, rtol=1e-3)


def test_moments_need_a_full_batch_quadratic_loss_of_an_affine_net(refused):
    Sweep(**LINEAR, batch_size=None, moments=True)
    for changed in ({"batch_size": 10}, {"widths": (5, 3)}, {"coding_activation": jax.nn.elu}):
        call = {**LINEAR, "batch_size": None, "moments": True, **changed}
        refused(ConfigError, "Sweep.moments", "affine", call=lambda call=call: Sweep(**call))
    refused(
        ConfigError,
        "Sweep.moments",
        "True or False",
        call=lambda: Sweep(**{**LINEAR, "batch_size": None, "moments": 1}),
    )
