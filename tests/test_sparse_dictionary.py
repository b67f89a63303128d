"""Dead units come back, and a dictionary that is known is found."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aejax import compare, nets, train, variants
from aejax.datasets.base import Dataset, Scaling, fingerprint
from aejax.scores.sparsity import counts
from aejax.variants.sparse import columns
from support import small_dataset
from test_sparse import CODINGS, INPUTS, KEY, NET, ROWS, moved, top, units_of


@pytest.fixture
def x_bd():
    return jnp.asarray(np.random.default_rng(0).uniform(0, 1, (ROWS, INPUTS)), jnp.float32)


def planted(autoencoder):
    """The same, but its first unit starts a hundred times weaker than it did: never among the largest."""

    def init(key, codings=None):
        params = autoencoder.init(key, codings)
        layer = params["encoder"]["layer_0"]
        return {**params, "encoder": {"layer_0": {**layer, "kernel": layer["kernel"].at[:, 0].multiply(0.01)}}}

    return autoencoder._replace(init=init)


def test_revival_brings_back_a_planted_dead_unit_that_stays_dead_without_it():
    dataset, autoencoder = small_dataset(), planted(variants.topk(NET, dead_after=12))
    runs = [(0, {"learning_rate": 0.02, "active": 3.0, "revive": revive, "l2": 0.0}) for revive in (0.0, 1.0)]
    dead, alive = train.fit_population(autoencoder, dataset, runs, epochs=60, batch_size=18, how="vmap").fits
    assert float(dead.last_params["memory"]["idle"][0]) == 240  # steps
    assert float(alive.last_params["memory"]["idle"][0]) < 12
    for fit, active in ((dead, False), (alive, True)):
        z_nk = compare.reconstruct(autoencoder, fit.last_params, dataset.x_test, unit=dataset.unit)[0]
        assert bool(z_nk[:, 0].any()) is active
        assert counts(z_nk)[0]["l0"] <= 3


def test_revival_is_the_error_of_dead_units_for_what_is_left(x_bd):
    autoencoder, dead = variants.topk(NET, revived=2), np.asarray([1, 4, 9])
    params = moved(autoencoder)
    layer = params["encoder"]["layer_0"]
    weak = {"kernel": layer["kernel"].at[:, dead].multiply(0.01), "bias": layer["bias"].at[dead].set(0.0)}
    params["encoder"] = {"layer_0": weak}
    params["memory"]["idle"] = jnp.zeros(CODINGS).at[dead].set(1e3)
    units_bk, kernel_kd, bias_d = units_of(params, x_bd)
    z_bk = top(units_bk, 2)
    assert not z_bk[:, dead].any()
    left_bd = np.asarray(x_bd) - (z_bk @ kernel_kd + bias_d)
    revived_bk = top(units_bk[:, dead], 2)
    assert (revived_bk > 0).any()
    expected = np.mean((revived_bk @ kernel_kd[dead] - left_bd) ** 2)

    def loss(p, revive):
        return autoencoder.loss(p, KEY, x_bd, active=2.0, revive=revive, l2=0.0)[0]

    assert float(loss(params, 1.0) - loss(params, 0.0)) == pytest.approx(expected, rel=1e-4)
    with_revival, without = (jax.grad(loss)(params, revive)["encoder"]["layer_0"]["kernel"] for revive in (1.0, 0.0))
    learns_k = np.any(np.asarray(with_revival != without), axis=0)
    assert set(np.flatnonzero(learns_k)) == set(dead)  # and nothing of the others, as what is left is a target


def known_dictionary(inputs=24, atoms=32, together=2, train_rows=4096):
    """Rows that are sums of two of 32 known directions in 24 dimensions, and the directions."""
    rng = np.random.default_rng(0)
    atoms_ad = rng.normal(size=(atoms, inputs))
    atoms_ad /= np.linalg.norm(atoms_ad, axis=1, keepdims=True)

    def draw(n):
        weights_na = np.zeros((n, atoms))
        chosen = np.argsort(rng.random((n, atoms)), axis=1)[:, :together]
        np.put_along_axis(weights_na, chosen, rng.uniform(0.5, 1.5, (n, together)), axis=1)
        return (weights_na @ atoms_ad + 0.01 * rng.normal(size=(n, inputs))).astype(np.float32)

    x = {"x_train": draw(train_rows), "x_validation": draw(256), "x_test": draw(256)}
    y, scaling = dict.fromkeys(("y_train", "y_validation", "y_test")), Scaling(np.zeros(1), np.ones(1))
    print_of = fingerprint(x, None, scaling)
    return atoms_ad, Dataset(name="known", **x, **y, image_shape=None, scaling=scaling, unit=1.0, fingerprint=print_of)


@pytest.mark.parametrize(
    ("name", "hyper"),
    [("topk", {"active": 2.0, "revive": 0.03}), ("batch_topk", {"active": 2.0, "revive": 0.03})],
)
def test_a_known_dictionary_is_found_where_pca_finds_none_of_it(name, hyper):
    atoms_ad, dataset = known_dictionary()
    autoencoder = getattr(variants, name)(nets.mlp(24, (48,)))
    settings = {"epochs": 30, "batch_size": 64, "learning_rate": 0.01, "l2": 0.0}
    fit = train.fit(autoencoder, dataset, seed=0, **settings, **hyper)

    def closest(directions_md):
        lengths_m = np.linalg.norm(directions_md, axis=1, keepdims=True)
        return (atoms_ad @ (directions_md / lengths_m).T).max(axis=1).mean()

    found = closest(np.asarray(columns(fit.params)))
    ruler = compare.reference(dataset)
    components_kd = np.asarray(ruler.params.components_kd)
    assert found > 0.95
    assert closest(np.concatenate([components_kd, -components_kd])) < 0.7
    numbers = compare.score(autoencoder, fit.params, dataset, ruler)
    z_nk = compare.reconstruct(autoencoder, fit.params, dataset.x_test)[0]
    assert counts(z_nk)[0]["l0"] <= 2.5
    assert numbers["r2_test"] > 0.9
    assert numbers["pca_equivalent_dimension"] > 15  # components for what two codings a row give
