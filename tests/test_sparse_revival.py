"""Revival brings dead units back, by AuxK or by their shortfall, and has no gradient for other units' parameters."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aejax import nets, variants
from aejax.evaluation import reconstruction
from aejax.evaluation.scores.sparsity import counts
from aejax.training import train
from aejax.variants.sparse.dictionary import unit_columns
from sparse_nets import CODINGS, INPUTS, KEY, NET, ROWS, moved, thresholded, top, units_of
from support import small_dataset


@pytest.fixture
def x_bd():
    return jnp.asarray(np.random.default_rng(0).uniform(0, 1, (ROWS, INPUTS)), jnp.float32)


def with_a_weak_unit(autoencoder):
    """The same autoencoder, with an initial kernel of the first unit so small that the unit is never kept."""

    def init(key, codings=None):
        params = autoencoder.init(key, codings)
        layer = params["encoder"]["layer_0"]
        return {**params, "encoder": {"layer_0": {**layer, "kernel": layer["kernel"].at[:, 0].multiply(0.01)}}}

    return autoencoder._replace(init=init)


def test_revival_brings_back_a_dead_unit_that_stays_dead_without_it():
    dataset = small_dataset()
    autoencoder = with_a_weak_unit(variants.topk(NET, dead_after=12))
    runs = [(0, {"learning_rate": 0.02, "active": 3.0, "revive": revive, "l2": 0.0}) for revive in (0.0, 1.0)]
    dead, alive = train.fit_population(autoencoder, dataset, runs, epochs=60, batch_size=18, how="vmap").fits
    assert float(dead.last_params["memory"]["idle"][0]) == 240  # steps
    assert float(alive.last_params["memory"]["idle"][0]) < 12
    for fit, active in ((dead, False), (alive, True)):
        z_nk = reconstruction.reconstruct(autoencoder, fit.last_params, dataset.x_test, unit=dataset.unit)[0]
        assert bool(z_nk[:, 0].any()) is active
        assert counts(z_nk)[0]["l0"] <= 3


@pytest.mark.parametrize(("revived", "count"), [(2, 2), (None, INPUTS // 2)])
def test_revival_is_the_error_of_reconstructing_the_left_over_from_dead_units(revived, count, x_bd):
    """By default half as many dead units as there are inputs take part in each row."""
    autoencoder = variants.topk(NET, revived=revived)
    dead = np.asarray([0, 1, 3, 4, 6, 7, 9, 12, 15])
    params = moved(autoencoder)
    layer = params["encoder"]["layer_0"]
    weak = {"kernel": layer["kernel"].at[:, dead].multiply(0.01), "bias": layer["bias"].at[dead].set(0.005)}
    params["encoder"] = {"layer_0": weak}
    params["memory"]["idle"] = jnp.zeros(CODINGS).at[dead].set(1e3)
    units_bk, kernel_kd, bias_d = units_of(params, x_bd)
    z_bk = top(units_bk, 2)
    assert not z_bk[:, dead].any()
    left_over_bd = np.asarray(x_bd) - (z_bk @ kernel_kd + bias_d)
    revived_bk = top(units_bk[:, dead], count)
    assert ((units_bk[:, dead] > 0).sum(axis=1) > count).any()
    expected = np.mean((revived_bk @ kernel_kd[dead] - left_over_bd) ** 2)

    def loss(p, revive):
        return autoencoder.loss(p, KEY, x_bd, active=2.0, revive=revive, l2=0.0)[0]

    assert float(loss(params, 1.0) - loss(params, 0.0)) == pytest.approx(expected, rel=1e-4)
    with_revival, without = (jax.grad(loss)(params, revive)["encoder"]["layer_0"]["kernel"] for revive in (1.0, 0.0))
    learns_k = np.any(np.asarray(with_revival != without), axis=0)
    learners = dead[(revived_bk > 0).any(axis=0)]
    assert set(np.flatnonzero(learns_k)) == set(learners)  # no other unit learns: the left-over is a target


@thresholded
def test_shortfall_moves_only_the_parameters_of_dead_units(name, hyper, x_bd):
    autoencoder = getattr(variants, name)(NET, dead_after=5)
    params = autoencoder.init(KEY, CODINGS - 1)  # the last one is masked and does not change
    dead = 3
    inactive = 7
    masked = CODINGS - 1
    bias_k = params["encoder"]["layer_0"]["bias"].at[jnp.array([dead, inactive])].set(-20.0)
    params = {**params, "encoder": {"layer_0": {**params["encoder"]["layer_0"], "bias": bias_k}}}
    idle_k = params["memory"]["idle"].at[dead].set(4.0)  # this is the fifth step without it
    params = {**params, "memory": {"idle": idle_k.at[masked].set(99.0)}}

    def loss(p, revive):
        return autoencoder.loss(p, KEY, x_bd, **hyper, revive=revive, l2=0.0)

    units_bk, *_ = units_of(unit_columns(params), x_bd)
    threshold = 0.1 if name == "jump_relu" else 0.0
    added = float(loss(params, 0.5)[0]) - float(loss(params, 0.0)[0])
    assert added == pytest.approx(0.5 * np.mean(threshold - units_bk[:, dead]), rel=1e-4)
    with_it, without = (jax.grad(lambda p, r=r: loss(p, r)[0])(params) for r in (0.5, 0.0))
    gradient = jax.tree.map(lambda a, b: np.asarray(a - b), with_it, without)
    layer = gradient["encoder"].pop("layer_0")
    assert layer["bias"][dead] == pytest.approx(-0.5)
    centred_bd = np.asarray(x_bd) - np.asarray(params["decoder"]["layer_0"]["bias"])
    np.testing.assert_allclose(layer["kernel"][:, dead], -0.5 * centred_bd.mean(axis=0), rtol=1e-4)
    others = [np.delete(layer["bias"], dead), np.delete(layer["kernel"], dead, axis=1), *jax.tree.leaves(gradient)]
    assert len(others) > 4  # decoder, memory, and threshold or magnitude
    for other in others:
        np.testing.assert_allclose(other, 0, atol=1e-6)
    idle_after_k = loss(params, 0.5)[1]["memory"]["idle"]
    assert (idle_after_k[dead], idle_after_k[inactive]) == (5, 1)
    z_bk = autoencoder.encode({**params, "memory": {"idle": idle_k}}, x_bd)
    assert set(np.flatnonzero(np.asarray(idle_after_k) == 0)) == set(np.flatnonzero(np.any(z_bk != 0, axis=0)))


@thresholded
def test_shortfall_has_no_gradient_for_hidden_layers(name, hyper, x_bd):
    autoencoder = getattr(variants, name)(nets.mlp(INPUTS, (9, CODINGS), decoder_widths=()), dead_after=5)
    params = autoencoder.init(KEY)
    params["memory"] = {"idle": params["memory"]["idle"].at[3].set(4.0)}
    layer = params["encoder"]["layer_1"]
    params["encoder"]["layer_1"] = {**layer, "bias": layer["bias"].at[3].set(-20.0)}
    with_it, without = (
        jax.grad(lambda p, r=r: autoencoder.loss(p, KEY, x_bd, **hyper, revive=r, l2=0.0)[0])(params)
        for r in (0.5, 0.0)
    )
    gradient = jax.tree.map(lambda a, b: np.asarray(a - b), with_it, without)
    last_layer = gradient["encoder"].pop("layer_1")
    assert last_layer["bias"][3] == pytest.approx(-0.5)
    assert np.any(last_layer["kernel"][:, 3])
    assert "layer_0" in gradient["encoder"]
    for other in (np.delete(last_layer["kernel"], 3, axis=1), *jax.tree.leaves(gradient)):
        np.testing.assert_allclose(other, 0, atol=1e-6)
