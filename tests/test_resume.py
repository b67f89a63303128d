"""Resumed equals uninterrupted, bit for bit, wherever it was stopped; a state that lacks anything is noticed."""

import jax
import numpy as np
import pytest

from aejax import nets, variants
from aejax.runtime.errors import ResultsError
from aejax.runtime.signals import Interrupted
from aejax.variants import penalties
from small_blocks import STEPS, block
from support import Memory, identical, stop_at

NET = nets.mlp(12, (8, 3))
VARIANTS = {
    "plain": variants.plain(NET),
    "tied": variants.plain(nets.tied(NET)),
    "cross-entropy": variants.plain(NET, output=jax.nn.sigmoid, error=penalties.cross_entropy),
}


def saved_at(autoencoder, step, how="vmap"):
    checkpointer = Memory(every=False)
    with pytest.raises(Interrupted):
        block(autoencoder, how=how, checkpointer=checkpointer, report=stop_at(step))
    assert checkpointer.steps[-1:] == [next(s for s in seen(autoencoder, how) if s >= step)]
    return checkpointer


def seen(autoencoder, how):
    """The steps after which a chunk ends."""
    steps = []
    block(autoencoder, how=how, report=lambda progress: steps.append(progress.step))
    return steps


@pytest.mark.slow
@pytest.mark.parametrize("how", ["vmap", "map", "loop"])
@pytest.mark.parametrize("name", VARIANTS)
def test_resumed_after_any_chunk_is_uninterrupted(name, how):
    autoencoder = VARIANTS[name]
    whole = block(autoencoder, how=how)
    for step in range(1, STEPS):
        checkpointer = saved_at(autoencoder, step, how)
        resumed = block(autoencoder, how=how, checkpointer=checkpointer)
        assert resumed.resumed_step == checkpointer.steps[0]
        assert all(identical(a, b) for a, b in zip(whole.fits, resumed.fits, strict=True)), step


def test_a_kept_state_of_the_end_trains_nothing_more():
    autoencoder = VARIANTS["plain"]
    whole = block(autoencoder)
    checkpointer = Memory()
    checkpointer.save(whole.step, whole.arrays, 1.0)
    again = block(autoencoder, checkpointer=checkpointer)
    assert (again.resumed_step, again.step) == (STEPS, STEPS)
    assert all(identical(a, b) for a, b in zip(whole.fits, again.fits, strict=True))


PARTS = [
    "state/params",
    "state/opt_state/0/mu",
    "state/opt_state/0/nu",
    "state/opt_state/0/count",
    "state/opt_state/1/count",
    "state/step",
    "state/bad_step",
    "state/epoch_sums",
    "state/best_params",
    "state/best_error",
    "state/best_epoch",
    "state/history",
    "key_data",
    "hyper",
]


def test_the_parts_are_all_there_is_to_a_state():
    names = block(VARIANTS["plain"]).arrays()
    assert all(any(name.startswith(part) for part in PARTS) for name in names)
    assert all(any(name.startswith(part) for name in names) for part in PARTS)


@pytest.mark.parametrize("part", PARTS)
def test_a_state_without_one_of_its_parts_is_refused(part):
    checkpointer = saved_at(VARIANTS["plain"], 7)
    arrays, seconds = checkpointer.kept
    checkpointer.kept = ({name: array for name, array in arrays.items() if not name.startswith(part)}, seconds)
    with pytest.raises(ResultsError, match=f"{part}.*missing"):
        block(VARIANTS["plain"], checkpointer=checkpointer)


@pytest.mark.parametrize("part", [part for part in PARTS if part not in ("key_data", "hyper")])
def test_every_part_of_a_state_matters(part):
    """The control of the bitwise test: a resume that forgot one part, and started it afresh, would be seen."""
    autoencoder = VARIANTS["plain"]
    whole = block(autoencoder)
    checkpointer = saved_at(autoencoder, 9)
    fresh = Memory(every=False)
    fresh.kept = None
    start = Memory()
    with pytest.raises(Interrupted):
        block(autoencoder, checkpointer=start, report=stop_at(1))
    initial = dict(start.kept[0])
    for name, array in initial.items():  # what a new state holds
        if not name.startswith(("state/params", "state/best_params", "key_data", "hyper")):
            initial[name] = np.full_like(array, -1 if name == "state/bad_step" else 0)
    initial["state/best_error"] = np.full_like(initial["state/best_error"], np.inf)
    arrays, seconds = checkpointer.kept
    checkpointer.kept = ({n: initial[n] if n.startswith(part) else a for n, a in arrays.items()}, seconds)
    resumed = block(autoencoder, checkpointer=checkpointer)
    assert not all(identical(a, b) for a, b in zip(whole.fits, resumed.fits, strict=True))


@pytest.mark.parametrize("name", ["key_data", "hyper/learning_rate"])
def test_a_state_of_other_runs_is_refused(name):
    checkpointer = saved_at(VARIANTS["plain"], 7)
    arrays, seconds = checkpointer.kept
    checkpointer.kept = ({n: a + 1 if n == name else a for n, a in arrays.items()}, seconds)
    with pytest.raises(ResultsError, match="other runs than asked for"):
        block(VARIANTS["plain"], checkpointer=checkpointer)


def test_a_state_of_another_shape_is_refused():
    checkpointer = saved_at(VARIANTS["plain"], 7)
    with pytest.raises(ResultsError, match="expected float32"):
        block(variants.plain(nets.mlp(12, (9, 3))), checkpointer=checkpointer)


def test_the_state_is_saved_when_it_is_due_and_not_at_the_end():
    checkpointer = Memory()
    block(VARIANTS["plain"], checkpointer=checkpointer)
    assert checkpointer.steps == [step for step in seen(VARIANTS["plain"], "vmap") if step < STEPS]
