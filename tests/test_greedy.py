"""Greedy training: what each phase trains, what stands still, what the whole begins with, and where the ways agree."""

import dataclasses
import functools
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aejax import datasets, nets, variants
from aejax.config import sweep
from aejax.config.sweep import Sweep
from aejax.evaluation import pca
from aejax.reporting import summary
from aejax.runner import run_experiment
from aejax.runner.context import RunContext, Timings
from aejax.runner.events import RunListener
from aejax.runner.remote import task
from aejax.runtime.errors import ConfigError
from aejax.runtime.signals import Interrupted
from aejax.training import greedy, loop, population, schedules, train
from aejax.training.greedy import Greedy, Stack
from aejax.training.layout import make_layout, place_data
from support import Memory, identical, small_dataset, stop_at

CHECKOUT = Path(__file__).resolve().parents[1]
DATASET = small_dataset()
DEEP = Stack(12, (9, 6, 3), activation=jax.nn.sigmoid, coding_activation=jax.nn.tanh)
TIED = Stack(12, (8, 3), tied=True, activation=jax.nn.elu, output=jax.nn.sigmoid)
QUICK: dict[str, Any] = {"epochs": 3, "learning_rate": 0.01, "l2": 1e-4}


@functools.cache
def first(stack):
    return jax.tree.map(np.asarray, jax.jit(stack.net().init)(jax.random.key(0)))


@functools.cache
def phases(stack, way, codings=None):
    options: dict[str, Any] = {"seed": 0, "batch_size": 24, "codings": codings}
    return greedy.train_phases(Greedy(way=way, **QUICK), stack, first(stack), DATASET, **options)


def same(one, other):
    return jax.tree.all(jax.tree.map(np.array_equal, one, other))


@pytest.mark.slow
def test_a_later_phase_leaves_the_layers_outside_it_as_they_are():
    stack = DEEP
    made = phases(DEEP, "inner")
    for i, fit in enumerate(made.fits):
        for j in range(stack.layers):
            before = made.fits[i - 1].params if i else first(stack)
            held = same(greedy.pair(fit.last_params, j), greedy.pair(before, j))
            assert held == (i != j)
    for i in range(stack.layers):
        assert same(greedy.pair(made.params, i), greedy.pair(made.fits[i].params, i))


@pytest.mark.parametrize(
    ("stack", "way"),
    [pytest.param(DEEP, "inner", marks=pytest.mark.slow), (TIED, "separate")],
    ids=["inner", "separate"],
)
def test_a_phase_is_trained_on_what_the_frozen_layers_give(stack, way):
    made = phases(stack, way)
    rows = DATASET
    for i in range(stack.layers - 1):
        rows = greedy.encode_dataset(stack.shallow(i), greedy.pair(made.params, i), rows)
    hidden = stack.net().hidden(made.params, jnp.asarray(DATASET.floats(DATASET.x_train)))
    assert rows.x_train.dtype == np.float32
    np.testing.assert_allclose(rows.x_train, hidden, rtol=1e-5, atol=1e-6)
    last = stack.shallow(stack.layers - 1)
    loss, _ = last.loss(
        made.fits[-1].params if way == "separate" else greedy.pair(made.params, stack.layers - 1),
        jax.random.key(0),
        jnp.asarray(rows.x_validation),
        l2=0.0,
    )
    assert float(loss) == pytest.approx(made.fits[-1].best_error, rel=1e-5)
    assert all(fit.history["validation_error"][-1] < fit.history["validation_error"][0] for fit in made.fits)


@pytest.mark.slow
def test_the_ways_agree_where_they_start_from_the_same_layers():
    stack = DEEP
    inner = phases(DEEP, "inner")
    rows = DATASET
    whole = first(DEEP)
    for i in range(stack.layers):
        own = {"epochs": 3, "batch_size": 24, "learning_rate": 0.01, "l2": 1e-4}
        begin = train.start_from(greedy.pair(whole, i))
        alone = train.fit(stack.shallow(i), rows, seed=greedy.phase_seed(0, i), start=begin, **own)
        np.testing.assert_allclose(alone.history["train_loss"], inner.fits[i].history["train_loss"], rtol=1e-5)
        rows = greedy.encode_dataset(stack.shallow(i), alone.params, rows)
    separate = phases(stack, "separate")
    assert not same(separate.params, inner.params)  # they start elsewhere


def linear(way, tied):
    """A linear 12-5-2 trained to the end on its training rows, which are its validation rows as well."""
    stack = Stack(12, (5, 2), tied=tied, activation=nets.identity)
    dataset = dataclasses.replace(DATASET, x_validation=DATASET.x_train)
    made = Greedy(way=way, epochs=3000, learning_rate=0.01)
    options: dict[str, Any] = {"seed": 0, "batch_size": None, "schedule": schedules.cosine}
    made = greedy.train_phases(made, stack, first(stack), dataset, **options)
    x_nd = DATASET.floats(DATASET.x_train).astype(np.float64)
    return stack, made, x_nd


def sse(stack, params, x_nd):
    net = stack.net()
    reconstruction_nd = np.asarray(net.decode(params, net.encode(params, jnp.asarray(x_nd, jnp.float32))), np.float64)
    return float(np.square(reconstruction_nd - x_nd).sum(axis=1).mean())


def test_a_tied_linear_stack_is_pca():
    """Tied, the first phase ends with orthonormal kernels: distances between codings are those between projections,
    and the second phase's best 2 directions of 5 are the data's own first 2.
    """
    stack, made, x_nd = linear("inner", tied=True)
    curve = pca.error_curve(pca.fit(x_nd), x_nd)
    assert stack.shallow(0).encode(greedy.pair(made.params, 0), jnp.zeros((1, 12))).shape == (1, 5)
    assert sse(stack, made.params, x_nd) == pytest.approx(curve[2], rel=1e-3)


@pytest.mark.slow
def test_an_untied_linear_stack_is_pca_of_its_codings_and_only_fine_tuning_makes_it_pca():
    """Untied, the first phase leaves the codings' metric open, and the second is the PCA of codings in that metric."""
    stack, made, x_nd = linear("separate", tied=False)
    outer = greedy.pair(made.params, 0)
    h_nk = x_nd @ outer["encoder"]["layer_0"]["kernel"] + outer["encoder"]["layer_0"]["bias"]
    own = pca.fit(h_nk)
    assert 1 <= made.fits[1].best_error * 5 / pca.error_curve(own, h_nk)[2] < 1.02
    two = pca.truncate(own, 2)
    h_hat = (h_nk - own.mean_d) @ two.components_kd.T @ two.components_kd + own.mean_d
    x_hat = h_hat @ outer["decoder"]["layer_0"]["kernel"] + outer["decoder"]["layer_0"]["bias"]
    assembled = float(np.square(x_hat - x_nd).sum(axis=1).mean())
    assert sse(stack, made.params, x_nd) == pytest.approx(assembled, rel=0.02)
    best = pca.error_curve(pca.fit(x_nd), x_nd)[2]
    assert assembled > 1.15 * best
    whole = variants.plain(stack.net())
    dataset = dataclasses.replace(DATASET, x_validation=DATASET.x_train)
    options: dict[str, Any] = {"epochs": 3000, "batch_size": None, "schedule": schedules.cosine}
    options |= {"learning_rate": 0.01, "l2": 0.0}
    tuned = train.fit(whole, dataset, seed=0, start=train.start_from(made.params), **options)
    assert sse(stack, tuned.params, x_nd) == pytest.approx(best, rel=1e-3)


def test_training_of_the_whole_begins_with_the_assembled_net():
    stack = TIED
    whole = variants.plain(stack.net(), output=stack.output)
    hyper = {"learning_rate": 0.01, "l2": 1e-3}
    begin = greedy.start(Greedy(**QUICK), stack, whole, DATASET, batch_size=24)
    fits = train.fit_population(
        whole, DATASET, [(0, hyper), (1, hyper)], epochs=1, batch_size=None, how="vmap", start=begin
    ).fits
    assembled = phases(stack, "separate").params
    x_nd = jnp.asarray(DATASET.floats(DATASET.x_train))
    expected, _ = whole.loss(assembled, jax.random.key(0), x_nd, l2=1e-3)
    assert fits[0].history["train_loss"][0] == pytest.approx(float(expected), rel=1e-5)
    assert fits[0].history["train_loss"][0] != fits[1].history["train_loss"][0]
    net = stack.net()  # the layers of each shallow autoencoder, one after another, are the whole
    z_nk = stack.shallow(0).encode(greedy.pair(assembled, 0), x_nd)
    for i in range(1, stack.layers):
        z_nk = stack.shallow(i).encode(greedy.pair(assembled, i), z_nk)
    np.testing.assert_allclose(net.encode(assembled, x_nd), z_nk, rtol=1e-4, atol=1e-5)
    for i in reversed(range(stack.layers)):
        z_nk = stack.shallow(i).decode(greedy.pair(assembled, i), z_nk)
    np.testing.assert_allclose(whole.decode(assembled, net.encode(assembled, x_nd)), z_nk, rtol=1e-4, atol=1e-5)


def test_fewer_codings_have_a_last_pair_of_that_many():
    stack = TIED
    made = phases(TIED, "separate", 2)
    axes = stack.net().coding_axes
    assert same(made.params, jax.tree.map(np.asarray, nets.mask_codings(made.params, axes, 2)))
    assert np.any(made.params["encoder"]["layer_1"]["kernel"][:, 1])
    assert made.params["encoder"]["layer_1"]["kernel"].shape == (8, 3)
    whole = variants.plain(stack.net(), output=stack.output)
    begin = greedy.start(Greedy(**QUICK), stack, whole, DATASET, batch_size=24)
    hyper = {"learning_rate": 0.01, "l2": 0.0, "codings": 2}
    (fit,) = train.fit_population(whole, DATASET, [(0, hyper)], epochs=1, batch_size=24, start=begin).fits
    assert fit.params["encoder"]["layer_1"]["kernel"].shape == (8, 2)


WHOLE = variants.plain(TIED.net(), output=TIED.output)
RUNS = [(seed, {"learning_rate": rate, "l2": 0.001}) for seed, rate in ((0, 0.02), (4, 0.05), (0, 0.1))]


def block(how, begin, **options):
    what = population.program_spec(
        WHOLE, DATASET, ("learning_rate", "l2"), epochs=3, batch_size=24, schedule=schedules.cosine
    )
    layout = make_layout(how, len(RUNS), width=3 if how == "vmap" else None, devices=1)
    data = place_data(DATASET, layout)
    return loop.train_block(
        population.compile_population(what, layout), data, RUNS, start=begin, chunk_seconds=0.0, **options
    )


def test_a_resumed_block_is_the_uninterrupted_one_and_needs_no_phases():
    begin = greedy.start(Greedy(**QUICK), TIED, WHOLE, DATASET, batch_size=24)
    whole = block("vmap", begin)
    for step in (1, 5):
        checkpointer = Memory(every=False)
        with pytest.raises(Interrupted):
            block("vmap", begin, checkpointer=checkpointer, report=stop_at_whole(step))
        resumed = block("vmap", no_phases, checkpointer=checkpointer)
        assert resumed.resumed_step == checkpointer.steps[0] >= step
        assert all(identical(a, b) for a, b in zip(whole.fits, resumed.fits, strict=True))
    again = block("vmap", begin)  # phases lost in a kill are trained again
    assert all(identical(a, b) for a, b in zip(whole.fits, again.fits, strict=True))


def no_phases(runs, report):
    raise AssertionError("the phases were asked for")


def stop_at_whole(step):
    """Stops the whole's training, 9 steps of 3 epochs, and no phase's, which have as many and an epoch less to go."""
    stop = stop_at(step)
    calls = []

    def report(progress):
        calls.append(progress.step)
        phases_over = sum(s == progress.steps for s in calls) >= 4  # two seeds, two phases
        if phases_over and progress.step < progress.steps:
            stop(progress)

    return report


def test_what_the_phases_made_is_kept_when_it_is_due_and_they_can_be_stopped():
    begin = greedy.start(Greedy(**QUICK), TIED, WHOLE, DATASET, batch_size=24)
    checkpointer = Memory()
    with pytest.raises(Interrupted):
        block("vmap", begin, checkpointer=checkpointer, report=stop_at_whole(1))
    assert checkpointer.steps[0] == 0
    checkpointer = Memory()
    with pytest.raises(Interrupted):
        block("vmap", begin, checkpointer=checkpointer, report=stop_at(1))
    assert checkpointer.steps == []


def test_a_member_that_begins_with_no_numbers_diverges_and_harms_no_other():
    begin = greedy.start(Greedy(**QUICK), TIED, WHOLE, DATASET, batch_size=24)

    def broken(runs, report):
        started = begin(runs, report)
        lost = jax.tree.map(lambda leaf: np.full_like(leaf, np.nan), started.params[1])
        return started._replace(params=[started.params[0], lost, started.params[2]])

    whole = block("vmap", begin)
    harmed = block("vmap", broken)
    assert [fit.status for fit in harmed.fits] == ["completed", "diverged", "completed"]
    assert [greedy.diverged(fit) for fit in harmed.fits] == [False, True, False]
    assert identical(whole.fits[0], harmed.fits[0])
    assert identical(whole.fits[2], harmed.fits[2])


DIGITS: dict[str, Any] = {"dataset": "digits", "widths": (16, 4), "epochs": 2, "batch_size": 64, "seeds": (0, 1)}
DIGITS |= {"hyper": {"learning_rate": 0.01, "l2": 0.0}}


@pytest.mark.slow
def test_a_sweep_trains_it_and_says_the_same_again(tmp_path, monkeypatch):
    monkeypatch.setattr(summary, "write", lambda *_: [])
    pretraining = Greedy(epochs=2, learning_rate=0.01)
    one = Sweep(**DIGITS, pretraining=pretraining)
    lost = Sweep(**{**DIGITS, "seeds": (0,)}, pretraining=Greedy(epochs=2, learning_rate=1e25))
    assert one.name == "greedy stacked"
    first, again = (run_experiment.execute("greedy", [one, lost], root=tmp_path / name).rows for name in ("a", "b"))
    completed = [row for row in first if row["status"] == "completed"]
    assert len(completed) == 2
    assert all(row["config"]["pretraining"] == pretraining.config() for row in completed)
    for name in ("run_id", "status", "sse_test", "sse_validation"):
        assert [row[name] for row in first] == [row[name] for row in again]
    (row,) = [row for row in first if row["status"] != "completed"]
    assert (row["status"], row["reason"]) == ("diverged", "a phase of its pretraining diverged")


def test_a_config_and_a_task_carry_it():
    one = Sweep(**DIGITS, pretraining=Greedy(epochs=2, learning_rate=0.01, way="inner"))
    config = json.loads(json.dumps(one.config(), allow_nan=False))
    assert sweep.from_config(config, one.runs()[0][1], 0).pretraining == one.pretraining
    assert "pretraining" not in Sweep(**DIGITS).config()
    assert one.smoke().pretraining == Greedy(epochs=1, learning_rate=0.01, way="inner")
    data = datasets.load("digits")
    (job,) = run_experiment.jobs.plan([one], {("digits", 0): data}, lambda run_id: None)
    context = RunContext("greedy", None, RunListener(), Timings(), lambda row, params, arrays: None)
    spec = json.loads(task.write(job, [member.run_id for member in job.members], context, None, []))
    assert task.read_sweep(spec).config() == one.config()
    assert job.initialiser is not None
    assert run_experiment.jobs.describe(job)["steps"] == 6 * 20


def test_asking_for_it_starts_no_device():
    code = """
from aejax import Sweep, greedy
given = {"hyper": {"learning_rate": 0.1, "l2": 0}, "pretraining": greedy.Greedy(epochs=1, learning_rate=0.1)}
Sweep(dataset="digits", widths=(9, 3), epochs=1, batch_size=8, **given)
from jax._src import xla_bridge
print(list(xla_bridge._backends))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=CHECKOUT)
    assert done.stdout.strip() == "[]"


GIVEN: dict[str, Any] = {"pretraining": Greedy(epochs=1, learning_rate=0.1)}
REFUSED = {
    "way": (lambda: Greedy(epochs=1, learning_rate=0.1, way="seperate"), r"Greedy\.way: 'seperate'; did you mean sep"),
    "epochs": (lambda: Greedy(epochs=0, learning_rate=0.1), r"Greedy\.epochs: 0"),
    "rate": (lambda: Greedy(epochs=1, learning_rate=0.0), r"Greedy\.learning_rate: 0\.0"),
    "penalty": (lambda: Greedy(epochs=1, learning_rate=0.1, l2=-1.0), r"Greedy\.l2: -1"),
    "text": (
        lambda: Sweep(**{**DIGITS, "pretraining": "greedy"}),
        r"Sweep\.pretraining: 'greedy'; give greedy\.Greedy",
    ),
    "one layer": (lambda: Sweep(**{**DIGITS, "widths": (3,)}, **GIVEN), r"Sweep\.pretraining: .*two widths or more"),
    "no mirror": (lambda: Sweep(**DIGITS, decoder_widths=(9,), **GIVEN), r"Sweep\.pretraining: .*decoder_widths out"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_is_named(name):
    make, message = REFUSED[name]
    with pytest.raises(ConfigError, match=message):
        make()
