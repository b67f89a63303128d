"""Wherever a member lies in a population: its seed, its hyper-parameters and its first parameters are its own."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aejax import variants
from aejax.training import autotune, loop, optimisers, population, train
from aejax.training.layout import Layout, place_data
from aejax.training.loop import InitialParams
from support import small_dataset

DATASET = small_dataset(rows=4, inputs=2)
RUNS: list[tuple[int, dict[str, Any]]] = [
    (7, {"learning_rate": 0.1, "target": 2.0}),
    (3, {"learning_rate": 0.5, "target": 1.0}),
    (9, {"learning_rate": 0.2, "target": 5.0}),
    (3, {"learning_rate": 0.3, "target": 0.0}),
    (1, {"learning_rate": 0.4, "target": 4.0}),
]
SETTINGS: dict[str, Any] = {"epochs": 2, "batch_size": None, "optimiser": optimisers.sgd}


def loss(params, key, x_bd, *, target):
    error = jnp.square(params["w"] - target) / 2
    return error, {"error": error}


AUTOENCODER = variants.Autoencoder(
    lambda key: {"w": jax.random.uniform(key)}, lambda p, x_bd: x_bd, lambda p, z_bk: z_bk, loss
)
"""One number, which begins at random and goes to a target."""


def drawn(seed):
    return float(jax.random.uniform(jax.random.fold_in(jax.random.key(seed), 0)))


def given(seed):
    return 10.0 * seed


def after_two_steps(w, learning_rate, target):
    """By gradient descent on half the squared distance."""
    return target + (1 - learning_rate) ** 2 * (w - target)


def start(runs, report):
    return InitialParams([{"w": np.float32(given(seed) + hyper["target"])} for seed, hyper in runs])


@pytest.mark.parametrize("from_given", [False, True], ids=["drawn", "given"])
@pytest.mark.parametrize(
    ("how", "width", "groups"),
    [("vmap", 5, 1), ("vmap", 2, 3), ("vmap", 3, 2), ("map", None, 5), ("map", None, 1), ("loop", None, 1)],
)
def test_every_fit_is_that_of_its_own_run(monkeypatch, how, width, groups, from_given):
    """Blocks of several groups of several members, padded ones among them, and several blocks of one member."""
    if groups == 1:
        monkeypatch.setattr(autotune, "MAX_STATE_BYTES", 0)
    options: dict[str, Any] = {"how": how, "width": width, "start": start if from_given else None}
    result = train.fit_population(AUTOENCODER, DATASET, RUNS, **SETTINGS, **options)
    if jax.device_count() == 1:
        assert result.choice.layout.groups == groups
    firsts = [given(seed) + hyper["target"] if from_given else drawn(seed) for seed, hyper in RUNS]
    expected = [after_two_steps(w, **hyper) for w, (_, hyper) in zip(firsts, RUNS, strict=True)]
    np.testing.assert_allclose([fit.params["w"] for fit in result.fits], expected, rtol=1e-5)


def test_the_members_of_a_block_share_its_seconds_of_training():
    layout = Layout("map", 1, 5, 1)
    spec = population.program_spec(AUTOENCODER, DATASET, ("learning_rate", "target"), **SETTINGS)
    compiled = population.compile_population(spec, layout)
    block = loop.train_block(compiled, place_data(DATASET, layout), RUNS)
    seconds = [fit.train_seconds for fit in block.fits]
    assert sum(seconds) == pytest.approx(block.train_seconds)
    assert len(set(seconds)) == 1
    assert seconds[0] > 0
