"""Phases of greedy training by NumPy: their first parameters, their penalty, and the epoch that each of them keeps."""

import dataclasses

import jax
import numpy as np
import pytest

from aejax import nets, variants
from aejax.training import greedy
from aejax.training.greedy import WAYS, Greedy, Stack
from support import small_dataset

DATASET = dataclasses.replace(small_dataset(rows=12, inputs=6), x_validation=np.zeros((5, 6), np.uint8))
"""Rows of zeros are reconstructed best before any training: biases begin at 0 and leave it for the mean of the rows."""
STACK = Stack(6, (4, 2), activation=nets.identity)
L2 = 0.3
SEED = 3


def first_params(seed, *codings):
    """What a fit of this seed begins with."""
    return jax.jit(STACK.net().init)(jax.random.fold_in(jax.random.key(seed), 0), *codings)


@pytest.fixture(scope="module", params=WAYS)
def trained(request):
    """The parameters that each phase began with, and the phases."""
    way = request.param
    initial = first_params(SEED)
    phases = Greedy(way=way, epochs=3, learning_rate=0.05, l2=L2)
    made = greedy.train_phases(phases, STACK, initial, DATASET, seed=SEED, batch_size=None)
    if way == "inner":
        return [greedy.pair(initial, i) for i in range(2)], made
    keys = [jax.random.fold_in(jax.random.key(greedy.phase_seed(SEED, i)), 0) for i in range(2)]
    return [STACK.shallow(i).init(key) for i, key in enumerate(keys)], made


def test_the_loss_of_a_phase_holds_the_l2_weight_times_half_its_squared_kernels(trained):
    begun, made = trained
    for params, fit in zip(begun, made.fits, strict=True):
        squares = sum(np.square(params[part]["layer_0"]["kernel"]).sum() for part in ("encoder", "decoder"))
        penalty = fit.history["train_loss"][0] - fit.history["train_error"][0]
        assert penalty == pytest.approx(L2 / 2 * squares, rel=1e-4)


def test_a_phase_keeps_its_best_epoch_and_the_next_one_sees_what_that_gives(trained):
    _, made = trained
    assert made.fits[0].best_epoch < 2, "its best epoch is its last, which tells nothing"
    x_nd = DATASET.x_validation / 255.0
    for i, fit in enumerate(made.fits):
        own = greedy.pair(made.params, i)
        encoder = own["encoder"]["layer_0"]
        decoder = own["decoder"]["layer_0"]
        z_nk = x_nd @ encoder["kernel"] + encoder["bias"]
        error = np.square(z_nk @ decoder["kernel"] + decoder["bias"] - x_nd).mean()
        assert error == pytest.approx(fit.history["validation_error"].min(), rel=1e-4)
        x_nd = z_nk


@pytest.mark.parametrize("codings", [None, 1])
def test_phases_that_move_nothing_leave_what_a_fit_without_them_begins_with(codings):
    phases = Greedy(way="inner", epochs=1, learning_rate=1e-20)
    masked = {} if codings is None else {"codings": codings}
    begin = greedy.start(phases, STACK, variants.plain(STACK.net()), DATASET, batch_size=None)
    (params,) = begin([(SEED, masked)], None).params
    expected = first_params(SEED, *masked.values())
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-12), params, expected)
