"""Populations: members against fits alone, masks against smaller nets, and what one member does to another: nothing."""

import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aejax import nets, variants
from aejax.runtime import hardware
from aejax.runtime.errors import ConfigError, MachineError
from aejax.runtime.signals import Interrupted
from aejax.training import autotune, population, schedules, train
from aejax.training.layout import Data, Layout, make_layout
from aejax.training.loop import fit_program
from support import compiles, identical, same, small_dataset

pytestmark = pytest.mark.optimised

DATASET = small_dataset(rows=50)
NET = nets.mlp(12, (8, 3))
AUTOENCODER = variants.plain(NET)
SETTINGS: dict[str, Any] = {"epochs": 4, "batch_size": 10}
RUNS: list[tuple[int, dict[str, Any]]] = [
    (seed, {"learning_rate": rate, "l2": 0.001}) for rate in (0.01, 0.003) for seed in range(3)
]


def together(runs=RUNS, autoencoder=AUTOENCODER, **options):
    return train.fit_population(autoencoder, DATASET, runs, **{**SETTINGS, **options})


@pytest.fixture(scope="module")
def alone():
    return [train.fit(AUTOENCODER, DATASET, seed=seed, **(SETTINGS | hyper)) for seed, hyper in RUNS]


@pytest.mark.slow
def test_programs_are_forgotten_before_they_take_the_last_memory_mapping(monkeypatch):
    """XLA aborts a process at Linux's limit, 65 530; a program takes hundreds."""
    first = together(RUNS[:1], how="loop").fits[0]
    population.clear_compiled_programs()
    monkeypatch.setattr(population, "MIN_PROGRAMS_TO_CLEAR", 3)
    before = hardware.memory_map_usage()
    shares = []
    for width in (7, 6, 5, 4):
        together(RUNS[:1], variants.plain(nets.mlp(12, (width, 3))), how="loop")
        shares.append(hardware.memory_map_usage())
        if width == 5:
            monkeypatch.setattr(population, "MAX_MEMORY_MAP_USAGE", 0.0)
    assert population.compile_population.cache_info().currsize == 1
    if before > 0:  # on Linux
        assert before < shares[0] < shares[1] < shares[2] < 0.5
        assert shares[3] - before < 0.6 * (shares[2] - before)
    with compiles() as count:
        again = together(RUNS[:1], how="loop").fits[0]
    assert count() > 0
    assert identical(first, again)


def test_where_the_system_does_not_say_nothing_is_forgotten(monkeypatch):
    monkeypatch.setattr(hardware, "read_lines", lambda path: [])
    assert hardware.memory_map_usage() == 0.0


@pytest.mark.slow
@pytest.mark.parametrize("how", ["map", "loop"])
@pytest.mark.parametrize("batch_size", [10, 16])  # the last of 16 is smaller
def test_without_vmap_a_member_is_bit_for_bit_the_fit_alone(alone, how, batch_size):
    result = together(how=how, batch_size=batch_size)
    if batch_size == 16:
        ragged: dict[str, Any] = SETTINGS | {"batch_size": 16}
        alone = [train.fit(AUTOENCODER, DATASET, seed=seed, **(ragged | hyper)) for seed, hyper in RUNS]
    assert result.choice.layout.how == how
    assert all(identical(a, b) for a, b in zip(alone, result.fits, strict=True))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("net", "codings", "width"),
    [
        (nets.mlp(64, (12, 4)), None, 1),
        (nets.mlp(64, (12, 4)), None, 2),
        (nets.mlp(64, (48, 9)), 9, 1),
        (nets.tied(nets.mlp(64, (48, 4))), None, 1),
        (nets.conv(64, (4, 5), image_shape=(8, 8)), None, 1),
        (nets.recurrent(64, (7, 5), image_shape=(8, 8)), None, 1),
    ],
    ids=["mlp", "vmapped", "masked", "tied", "convolutional", "recurrent"],
)
def test_a_member_begins_with_the_same_bits_alone_and_in_a_map(net, codings, width):
    """The loop of a map must not change how XLA computes a draw."""
    groups = 3
    dataset = small_dataset(rows=50, inputs=64)
    hyper = {"learning_rate": 0.01, "l2": 0.001} | ({"codings": codings} if codings else {})
    run = population.program_spec(variants.plain(net), dataset, tuple(hyper), **SETTINGS).program()
    init = run.init if width == 1 else jax.vmap(run.init)
    shape = (groups,) if width == 1 else (groups, width)
    keys = jax.random.split(jax.random.key(0), shape)
    points = {name: jnp.full(shape, value, jnp.float32) for name, value in hyper.items()}
    together = jax.jit(lambda keys, points: jax.lax.map(lambda own: init(*own), (keys, points)))(keys, points)
    alone = jax.jit(init)
    for group in range(groups):
        expected = alone(keys[group], {name: values[group] for name, values in points.items()})
        result = jax.tree.map(lambda leaf, group=group: leaf[group], together)
        assert same(expected, result)


def test_masked_codings_that_are_not_zero_at_zero_are_not_trained():
    """A sigmoid is 0.5 at 0, so the loss has gradients for the decoder's masked weights: they are masked, too."""
    wide = variants.plain(nets.mlp(12, (8, 5), coding_activation=jax.nn.sigmoid))
    small = variants.plain(nets.mlp(12, (8, 3), coding_activation=jax.nn.sigmoid))
    hyper = {"learning_rate": jnp.float32(0.01), "l2": jnp.float32(0.0)}
    start = wide.init(jax.random.key(0), jnp.asarray(3))
    x_bd = jnp.asarray(DATASET.floats(DATASET.x_train[:10]))
    states = []
    for autoencoder, params, own in (
        (wide, start, {**hyper, "codings": jnp.asarray(3)}),
        (small, nets.slice_codings(start, wide.coding_axes, 3), hyper),
    ):
        program = fit_program(autoencoder, rows=10, batch_size=10, epochs=5)
        state = program.init(jax.random.key(1), own, params)
        for _ in range(5):
            state = program.train_step(state, jax.random.key(1), x_bd, own)
        states.append(state.params)
    sliced = nets.slice_codings(states[0], wide.coding_axes, 3)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), sliced, states[1])
    masked = nets.mask_codings(states[0], wide.coding_axes, 3)
    jax.tree.map(np.testing.assert_array_equal, masked, states[0])


def test_a_vmapped_member_agrees_with_the_fit_alone(alone):
    fits = together(how="vmap", width=6).fits
    differences = []
    for a, b in zip(alone, fits, strict=True):
        for x, y in zip(jax.tree.leaves(a.last_params), jax.tree.leaves(b.last_params), strict=True):
            differences.append(np.abs(x - y).ravel() / (np.abs(x).ravel() + 1e-6))
    assert np.median(np.concatenate(differences)) < 2e-6
    errors = np.array([[a.best_error, b.best_error] for a, b in zip(alone, fits, strict=True)])
    np.testing.assert_allclose(errors[:, 0], errors[:, 1], rtol=1e-4)
    np.testing.assert_allclose(errors[:, 0].mean(), errors[:, 1].mean(), rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("width", [2, 4])
def test_a_member_has_the_same_bits_whatever_its_neighbours_and_their_order(width):
    fits = together(how="vmap", width=width).fits
    order = [4, 0, 5, 2, 1, 3]
    shuffled = together([RUNS[i] for i in order], how="vmap", width=width).fits
    assert all(identical(fits[i], shuffled[at]) for at, i in enumerate(order))
    others = [RUNS[0], *[(99 + i, {"learning_rate": 1e30, "l2": 0.0}) for i in range(4)], RUNS[1]]
    among_nans = together(others, how="vmap", width=width).fits
    assert [fit.status for fit in among_nans] == ["completed", *["diverged"] * 4, "completed"]
    assert identical(fits[0], among_nans[0])
    assert identical(fits[1], among_nans[5])
    assert identical(fits[0], together(RUNS[:1], how="vmap", width=width).fits[0]), "padding is a neighbour, too"


def test_a_member_that_diverges_is_frozen_where_it_did():
    """Steps by hand: the first loss that is not finite names the step, and nothing moves from there on."""
    hyper = {"learning_rate": jnp.float32(1e19), "l2": jnp.float32(0.0)}
    run = fit_program(AUTOENCODER, rows=50, unit=255.0, **SETTINGS)
    data = Data(jnp.asarray(DATASET.x_train), jnp.asarray(DATASET.x_validation))
    key = jax.random.key(0)
    advance = jax.jit(run.advance)
    states = [run.init(key, hyper)]
    for until in range(1, run.steps + 1):
        states.append(advance(states[-1], key, data, hyper, jnp.int32(until)))
    bad = [int(state.bad_step) for state in states]
    first = next(step for step, result in enumerate(bad) if result >= 0) - 1
    assert first > 0
    assert bad[first + 1 :] == [first] * (run.steps - first)
    assert all(same(states[first].params, state.params) for state in states[first:])
    assert all(same(states[first].opt_state, state.opt_state) for state in states[first:])
    assert all(same(states[first].best_params, state.best_params) for state in states[first:])
    fitted = together([(0, {"learning_rate": 1e19, "l2": 0.0}), *RUNS], how="vmap", width=7).fits[0]
    assert (fitted.status, fitted.bad_step) == ("diverged", first)
    assert len(fitted.history["train_loss"]) == first // run.steps_per_epoch + 1


@pytest.mark.parametrize("tied", [False, True], ids=["plain", "tied"])
@pytest.mark.parametrize("widths", [(8, 5), (5,)], ids=["stacked", "linear"])
@pytest.mark.parametrize("codings", [2, 5])
def test_a_masked_member_is_the_smaller_net_with_the_same_initial_weights(tied, widths, codings):
    def build(widths):
        net = nets.mlp(12, widths)
        return variants.plain(nets.tied(net) if tied else net)

    def fit(autoencoder, hyper, params=None):
        run = fit_program(autoencoder, rows=50, unit=255.0, schedule=schedules.cosine, **SETTINGS)
        state = run.init(key, hyper)
        if params is not None:
            opt_state = run.init(key, hyper).opt_state
            state = state._replace(params=params, best_params=params, opt_state=opt_state)
        return state.params, jax.jit(run.advance)(state, key, data, hyper, jnp.int32(run.steps))

    key = jax.random.key(3)
    data = Data(jnp.asarray(DATASET.x_train), jnp.asarray(DATASET.x_validation))
    hyper = {"learning_rate": jnp.float32(0.01), "l2": jnp.float32(0.01)}
    wide = build(widths)
    small = build((*widths[:-1], codings))
    start, masked = fit(wide, {**hyper, "codings": jnp.float32(codings)})
    _, expected = fit(small, hyper, nets.slice_codings(start, wide.coding_axes, codings))
    result = nets.slice_codings(masked.params, wide.coding_axes, codings)
    assert jax.tree.map(jnp.shape, result) == jax.tree.map(jnp.shape, expected.params)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-6), result, expected.params)
    for name, line in masked.history.items():
        np.testing.assert_allclose(line, expected.history[name], rtol=1e-5)
    zeros = jax.tree.map(
        lambda a, b: bool(jnp.array_equal(a, b)),
        masked.params,
        nets.mask_codings(masked.params, wide.coding_axes, codings),
    )
    assert jax.tree.all(zeros), "what is masked has moved"


def test_masked_weights_start_as_those_of_a_net_of_that_many_codings():
    wide = nets.mlp(50, (400,))
    kernel = wide.init(jax.random.key(0), 20)["decoder"]["layer_0"]["kernel"]
    own = nets.mlp(50, (20,)).init(jax.random.key(1))["decoder"]["layer_0"]["kernel"]
    assert float(jnp.std(kernel[:20])) == pytest.approx(float(jnp.std(own)), rel=0.1)
    assert not kernel[20:].any()
    full = wide.init(jax.random.key(0), 400)
    assert same(full, wide.init(jax.random.key(0)))


def test_one_program_trains_every_number_of_codings():
    runs = [(seed, {"learning_rate": 0.01, "l2": 0.0, "codings": k}) for k in (1, 2, 3) for seed in (0, 1)]
    population.compile_population.cache_clear()
    with compiles() as count:
        fits = together(runs, how="map").fits
        assert count() <= 12  # init, advance, and small things around them: none of them once a member
    assert [fit.params["encoder"]["layer_1"]["kernel"].shape for fit in fits] == [(8, k) for k in (1, 1, 2, 2, 3, 3)]
    assert fits[4].best_error < fits[0].best_error


@pytest.mark.parametrize("how", ["vmap", "map"])
def test_the_program_does_not_grow_with_the_number_of_members(how):
    what = population.program_spec(AUTOENCODER, DATASET, ("learning_rate", "l2"), **SETTINGS)
    sizes = []
    for members in (4, 64):
        layout = make_layout(how, members, devices=1)
        advance: Any = population.compile_population(what, layout).advance
        sizes.append(len(advance.as_text().splitlines()))
    assert sizes[1] <= 1.05 * sizes[0]


def test_a_vmapped_program_still_skips_what_it_need_not_do():
    """Were each member's step a number of its own, every step would validate, and select what it needs of that."""
    what = population.program_spec(AUTOENCODER, DATASET, ("learning_rate", "l2"), **SETTINGS)
    advance: Any = population.compile_population(what, make_layout("vmap", 6, width=6)).advance
    assert " conditional(" in advance.as_text()


@pytest.mark.slow
def test_what_does_not_fit_into_memory_is_trained_in_blocks(alone, monkeypatch):
    what = population.program_spec(AUTOENCODER, DATASET, ("learning_rate", "l2"), **SETTINGS)
    whole = together(how="map")
    assert whole.choice.layout.block >= len(RUNS)
    needed = population.compile_population(what, make_layout("map", len(RUNS))).device_bytes
    monkeypatch.setattr(hardware, "free_bytes", lambda devices: int(0.7 * needed))
    halves = together(how="map")
    assert 1 <= halves.choice.layout.block < len(RUNS)
    assert halves.choice.member_bytes
    assert all(identical(a, b) for a, b in zip(alone, halves.fits, strict=True))


@pytest.mark.parametrize("count", [1, 2, 3, 8, 61, 64, 65, 100, 256])
def test_blocks_are_even_and_little_is_padded(count):
    result = make_layout("map", count, devices=2, most=7)
    assert result.block <= 14
    assert result.groups % result.devices == 0
    blocks = -(-count // result.block)
    assert blocks * result.block - count < max(2, 0.1 * count)


@pytest.mark.parametrize("start", [("map", 1, 64, 8), ("map", 1, 4, 2), ("vmap", 2, 4, 2), ("vmap", 8, 2, 2)])
def test_a_layout_that_almost_fits_gets_smaller_until_it_does(start):
    """Whatever room there is: every step down has fewer members, down to one."""
    for room in range(1, Layout(*start).block):
        chosen = Layout(*start)
        steps = 0
        while chosen.block > 1:
            smaller = autotune._smaller(chosen, max(1, min(room, chosen.block - 1)))
            assert smaller.block < chosen.block
            assert smaller.groups % smaller.devices == 0
            chosen = smaller
            steps = steps + 1
        assert steps < 12


def test_not_one_member_fits_into_memory(monkeypatch, refused):
    monkeypatch.setattr(hardware, "free_bytes", lambda devices: 1000)
    refused(MachineError, "memory", "bytes needed", "1000 free", call=lambda: together(how="map"))


def test_a_width_that_does_not_fit_is_refused_with_the_largest_that_does(monkeypatch, refused):
    what = population.program_spec(AUTOENCODER, DATASET, ("learning_rate", "l2"), **SETTINGS)
    chosen = make_layout("vmap", 6, width=6)
    functions = population.compile_population(what, chosen)
    monkeypatch.setattr(hardware, "free_bytes", lambda devices: functions.device_bytes)
    refused(MachineError, "members fit", call=lambda: together(how="vmap", width=6))


def test_the_layout_is_chosen_by_measurement_where_that_is_worth_it(monkeypatch):
    assert together().choice.rates is None
    monkeypatch.setattr(autotune, "MIN_SECONDS_TO_MEASURE", 0.0)
    layout, rates, *_ = together().choice
    assert rates is not None
    assert {name.split()[0] for name in rates} == {"vmap", "map", "loop"}
    taken = rates[layout.how if layout.width == 1 else f"{layout.how} {layout.width}"]
    assert taken >= max(rates.values()) / autotune.MIN_SPEEDUP - 0.1  # rates are rounded


@pytest.mark.parametrize(("faster", "taken"), [(1.0, "map"), (1.09, "map"), (1.11, "vmap")])
def test_a_layout_of_other_bits_has_to_be_clearly_faster(monkeypatch, faster, taken):
    """On a processor a map, whose bits are those of a fit alone, is the one to beat: by more than noise."""
    monkeypatch.setattr(autotune, "MIN_SECONDS_TO_MEASURE", 0.0)
    speeds = {"map": 1000.0, "vmap": 1000.0 * faster, "loop": 900.0}
    monkeypatch.setattr(autotune, "_measure_rate", lambda spec, dataset, runs, layout, check: speeds[layout.how])
    what = population.program_spec(AUTOENCODER, DATASET, ("learning_rate", "l2"), **SETTINGS)
    chosen = autotune.choose_layout(what, DATASET, RUNS)
    assert chosen.layout.how == taken
    assert chosen.rates is not None
    assert max(chosen.rates.values()) == pytest.approx(1000.0 * faster)


def test_choosing_looks_for_a_signal_before_whatever_takes_time(monkeypatch):
    """Each compile and each try of a layout: so that Ctrl-C waits for one of them, not for all."""
    did = []
    known = set()
    compiled = autotune.compile_population

    def note(what, layout):
        functions = compiled(what, layout)
        did.extend(["compile"] if layout not in known else [])
        known.add(layout)

        def advance(*arguments):
            did.append("run")
            return functions.advance(*arguments)

        return functions._replace(advance=advance)

    monkeypatch.setattr(autotune, "MIN_SECONDS_TO_MEASURE", 0.0)
    monkeypatch.setattr(autotune, "compile_population", note)
    what = population.program_spec(AUTOENCODER, DATASET, ("learning_rate", "l2"), **SETTINGS)
    autotune.choose_layout(what, DATASET, RUNS, check_interrupt=lambda: did.append("look"))
    taken = "".join(word[0] for word in did)
    assert re.fullmatch("(l(c|rr)?)*", taken), taken
    assert taken.count("c") >= 3
    assert taken.count("rr") >= 6
    for number in range(1, taken.count("l") + 1):
        left = iter(range(number, 0, -1))

        def stop(left=left):
            if next(left) == 1:
                raise Interrupted(2)

        did.clear()
        with pytest.raises(Interrupted):
            autotune.choose_layout(what, DATASET, RUNS, check_interrupt=stop)


@pytest.mark.parametrize("left", [1, 3, 6])
def test_a_vmaps_width_follows_from_all_members_however_few_are_left(left):
    what = population.program_spec(AUTOENCODER, DATASET, ("learning_rate", "l2"), **SETTINGS)
    whole = autotune.choose_layout(what, DATASET, RUNS, how="vmap")
    assert (
        autotune.choose_layout(what, DATASET, RUNS[:left], how="vmap", total_members=len(RUNS)).layout.width
        == whole.layout.width
    )


def test_less_memory_takes_groups_from_an_asked_for_width(monkeypatch):
    """The bits depend on the width alone."""
    what = population.program_spec(AUTOENCODER, DATASET, ("learning_rate", "l2"), **SETTINGS)
    room = population.compile_population(what, make_layout("vmap", 4, width=2)).device_bytes
    whole = autotune.choose_layout(what, DATASET, RUNS, how="vmap", width=2).layout
    monkeypatch.setattr(hardware, "free_bytes", lambda devices: int(room / autotune.SHARE_OF_FREE_MEMORY) + 1)
    fewer = autotune.choose_layout(what, DATASET, RUNS, how="vmap", width=2).layout
    assert (fewer.width, whole.width) == (2, 2)
    assert fewer.groups < whole.groups


def test_a_population_of_one_is_a_fit(alone):
    result = together(RUNS[:1])
    assert result.choice.layout.how == "loop"
    assert identical(result.fits[0], alone[0])


@pytest.mark.parametrize(
    ("runs", "parts"),
    [
        ([], ["runs", "zero members"]),
        ([(0, {"learning_rate": 0.1})], ["hyper.l2", "missing"]),
        ([(0, {"learning_rate": 0.1, "l2": 0.0}), (0, {"learning_rate": 0.1, "l3": 0.0})], ["hyper.l3", "l2"]),
        ([(2**32, {"learning_rate": 0.1, "l2": 0.0})], ["seed", "4294967295"]),
        ([(0, {"learning_rate": 0.1, "l2": 0.0, "codings": 4})], ["codings", "4", "from 1 to 3"]),
        ([(0, {"learning_rate": 0.1, "l2": 0.0, "codings": 1.5})], ["codings", "1.5"]),
    ],
)
def test_members_that_cannot_be_trained_are_named(refused, runs, parts):
    refused(ConfigError, *parts, call=lambda: together(runs))


def test_an_unknown_way_is_refused_with_the_nearest(refused):
    refused(ConfigError, "how", "vmapp", "did you mean vmap?", call=lambda: together(how="vmapp"))
