"""Points: grids, pairs, lists and draws, and the runs of a sweep of points."""

import json
from pathlib import Path
from typing import Any, cast

import jax
import numpy as np
import pytest
import scipy.stats

from aejax import nets
from aejax.config import overrides, points, run_identity
from aejax.config.sweep import Sweep, check_all, from_config
from aejax.runtime.errors import ConfigError
from aejax.training import schedules

GOOD = {"dataset": "digits", "widths": (8, 4), "epochs": 2, "batch_size": 50}
HYPER = {"learning_rate": 0.01, "l2": 0.0}
DRAWN = ({"a": 0.000165989675, "b": 0.684660363, "c": 1}, {"a": 0.000257580456, "b": 0.777220786, "c": 2})


def make_sweep(hyper, **fields):
    return Sweep(**{**GOOD, **fields}, hyper=hyper)


def test_a_grid_has_all_combinations_the_last_name_fastest():
    assert points.grid(a=(1, 2), b=(3, 4), c=5) == (
        {"a": 1, "b": 3, "c": 5},
        {"a": 1, "b": 4, "c": 5},
        {"a": 2, "b": 3, "c": 5},
        {"a": 2, "b": 4, "c": 5},
    )


def test_zipped_makes_pairs_and_refuses_different_lengths(refused):
    assert points.zipped(a=(1, 2), b=(3, 4), c=5) == ({"a": 1, "b": 3, "c": 5}, {"a": 2, "b": 4, "c": 5})
    assert points.zipped(c=5, a=[1, 2], b=np.array([3, 4])) == ({"c": 5, "a": 1, "b": 3}, {"c": 5, "a": 2, "b": 4})
    assert points.zipped(a=1) == ({"a": 1},)
    refused(ConfigError, "zipped.b", "3 values, a has 2", call=lambda: points.zipped(a=(1, 2), b=(1, 2, 3)))


def test_crossed_is_the_product_of_disjoint_names(refused):
    pairs = points.zipped(a=(1, 2), b=(3, 4))
    assert points.crossed(pairs, points.grid(c=(5, 6))) == (
        {"a": 1, "b": 3, "c": 5},
        {"a": 1, "b": 3, "c": 6},
        {"a": 2, "b": 4, "c": 5},
        {"a": 2, "b": 4, "c": 6},
    )
    refused(ConfigError, "crossed[1].b", "crossed[0]", call=lambda: points.crossed(pairs, points.grid(b=1)))


def test_more_draws_begin_with_the_same_and_do_not_depend_on_other_names():
    rate = points.log_uniform(1e-4, 1e-1)
    penalty = points.uniform(0, 1)
    few = points.draws(5, seed=3, a=rate, b=penalty)
    assert points.draws(9, seed=3, a=rate, b=penalty)[:5] == few
    alone = points.draws(5, seed=3, b=penalty)
    assert [point["b"] for point in alone] == [point["b"] for point in few]
    assert points.draws(5, seed=4, a=rate, b=penalty) != few
    assert [point["a"] for point in few] != [point["b"] for point in points.draws(5, seed=3, b=rate)]
    assert json.loads(json.dumps(few)) == list(few), "a draw survives JSON unchanged"


def test_draws_follow_their_distributions():
    drawn = points.draws(
        2000, a=points.log_uniform(1e-4, 1e-1), b=points.uniform(2, 3), c=points.choice(7, 8, 9), d=0.5
    )
    logs = np.log10([point["a"] for point in drawn])
    assert scipy.stats.kstest(logs, scipy.stats.uniform(-4, 3).cdf).pvalue > 0.01
    assert scipy.stats.kstest([point["b"] for point in drawn], scipy.stats.uniform(2, 1).cdf).pvalue > 0.01
    counts = np.bincount([int(point["c"]) for point in drawn], minlength=10)[7:]
    assert scipy.stats.chisquare(counts).pvalue > 0.01
    assert {point["d"] for point in drawn} == {0.5}
    for name, low, high in (("a", 1e-4, 1e-1), ("b", 2, 3)):
        assert all(low <= point[name] <= high for point in drawn)
    assert abs(np.corrcoef(logs, [point["b"] for point in drawn])[0, 1]) < 0.05


def test_draws_are_the_same_on_every_machine():
    drawn = points.draws(2, seed=1, a=points.log_uniform(1e-4, 1e-1), b=points.uniform(0, 1), c=points.choice(1, 2, 4))
    assert drawn == DRAWN
    assert [type(number) for number in drawn[0].values()] == [float, float, int]


def test_rounded_draws_stay_in_their_interval():
    low = 0.1234567891
    high = 0.1234567892
    drawn = points.draws(20, a=points.uniform(low, high), b=points.log_uniform(low, high))
    assert all(low <= number <= high for point in drawn for number in point.values())


def test_numbers_are_python_numbers():
    of_numpy: dict[str, Any] = {"c": (np.float32(0.5),), "d": np.int64(3)}
    made = points.grid(a=np.array([1, 2]), b=range(2), **of_numpy)
    assert json.loads(json.dumps(made, allow_nan=False)) == list(made)
    assert made[3] == {"a": 2, "b": 1, "c": 0.5, "d": 3}


@pytest.mark.parametrize(
    ("call", "parts"),
    [
        (lambda: points.draws(0), ["draws.count", "0"]),
        (lambda: points.draws(1, seed=-1), ["draws.seed", "-1"]),
        (lambda: points.log_uniform(0, 1), ["log_uniform.low", "above 0"]),
        (lambda: points.uniform(2, 1), ["uniform.high", "low is 2"]),
        (lambda: points.uniform(0, float("nan")), ["uniform.high", "nan"]),
        (lambda: points.uniform(1, 1), ["uniform.high", "low is 1"]),
        (lambda: points.choice(), ["choice", "empty"]),
        (lambda: points.draws(3), ["draws", "nothing to draw"]),
        (lambda: points.draws(3, l2=cast(Any, (0, 1))), ["draws.l2", "(0, 1)", "points.choice(0, 1)"]),
    ],
)
def test_bad_distributions_and_draws_are_refused(refused, call, parts):
    refused(ConfigError, *parts, call=call)


def test_runs_are_the_points_in_order_each_with_every_seed():
    pairs = points.zipped(learning_rate=(0.01, 0.001), l2=(0.0, 0.1))
    runs = make_sweep(pairs, seeds=(5, 6)).runs()
    assert runs == [(seed, dict(point)) for point in pairs for seed in (5, 6)]
    by_hand = make_sweep([dict(point) for point in pairs], seeds=(5, 6))
    assert by_hand.runs() == runs


def test_a_grid_and_its_list_of_points_have_the_same_run_ids():
    grid_sweep = make_sweep({"learning_rate": (0.01, 0.001), "l2": 0.0})
    listed = make_sweep(points.grid(learning_rate=(0.01, 0.001), l2=0.0))

    def ids(sweep):
        return [run_identity.run_id(sweep.config(), hyper, seed, "") for seed, hyper in sweep.runs()]

    assert ids(grid_sweep) == ids(listed)


@pytest.mark.parametrize(
    ("hyper", "parts"),
    [
        ([], ["Sweep.hyper", "zero runs"]),
        ("x", ["Sweep.hyper", "'x'"]),
        ([3], ["Sweep.hyper[0]", "3 (int)"]),
        ([HYPER, {"learning_rate": 0.1}], ["Sweep.hyper[1].l2", "missing"]),
        ([HYPER, {"learning_rate": 0.1, "L2": 0.0}], ["Sweep.hyper[1].L2", "did you mean l2?"]),
        ([{**HYPER, "codings": 2}, HYPER], ["Sweep.hyper[1].codings", "missing"]),
        ([HYPER, {**HYPER, "codings": 2}], ["Sweep.hyper[1].codings", "not in the points before"]),
        ([{**HYPER, "codings": 128.7}], ["Sweep.hyper[0].codings", "128.7 (float)", "whole number from 1 to 4"]),
        ([{**HYPER, "l2": (0, 1)}], ["Sweep.hyper[0].l2", "(0, 1) (tuple)"]),
        ({**HYPER, "coding": 2}, ["Sweep.hyper.coding", "did you mean codings?"]),
        ({**HYPER, "codings": ()}, ["Sweep.hyper.codings", "zero runs"]),
        ({**HYPER, "l2": points.uniform(0, 1)}, ["Sweep.hyper.l2", "uniform(0, 1) (Distribution)"]),
        ([{"learning_rate": 0.1, "l3": 1.0}], ["Sweep.hyper[0].l3", "did you mean l2?"]),
        ([HYPER, {**HYPER, "learning_rate": -1}], ["Sweep.hyper[1].learning_rate", "-1"]),
        ([HYPER, {**HYPER}], ["Sweep.hyper[1]", "the same point as Sweep.hyper[0]"]),
        ({**HYPER, "codings": 5}, ["Sweep.hyper.codings", "5", "from 1 to 4"]),
        ({**HYPER, "codings": (1, 2.5)}, ["Sweep.hyper.codings", "2.5 (float)"]),
        ({**HYPER, "codings": True}, ["Sweep.hyper.codings", "True (bool)"]),
        ({**HYPER, "codings": "3"}, ["Sweep.hyper.codings", "'3' (str)"]),
        ({**HYPER, "codings": 0}, ["Sweep.hyper.codings", "0"]),
    ],
)
def test_bad_points_are_refused(refused, hyper, parts):
    refused(ConfigError, *parts, call=lambda: make_sweep(hyper))


def test_codings_can_be_swept_like_any_hyper_parameter():
    sweep = make_sweep({**HYPER, "codings": (1, 2, 4)}, seeds=(0, 1))
    assert [(sweep.codings_of(hyper), sweep.widths_of(hyper), seed) for seed, hyper in sweep.runs()] == [
        (k, (8, k), seed) for k in (1, 2, 4) for seed in (0, 1)
    ]
    assert sweep.codings == 4
    assert sweep.codings_of(HYPER) == 4
    assert {type(hyper["codings"]) for _, hyper in sweep.runs()} == {int}
    from_range = make_sweep({**HYPER, "codings": range(1, 5)})
    from_array = make_sweep({**HYPER, "codings": np.arange(1, 5)})
    assert from_range.runs() == from_array.runs()
    hypers = [hyper for seed, hyper in sweep.runs() if seed == 0] + [HYPER]
    assert len({run_identity.run_id(sweep.config(), hyper, 0, "") for hyper in hypers}) == 4


def test_the_full_net_must_be_undercomplete(refused):
    wide = make_sweep({**HYPER, "codings": (1, 2)}, widths=(64,))
    refused(ConfigError, "Sweep.widths", "64 codings for the 64 inputs", call=lambda: check_all([wide]))


def test_a_stored_run_of_fewer_codings_is_rebuilt_as_the_smaller_net():
    for fields in ({}, {"tied": True}, {"decoder_widths": (5,)}):
        sweep = make_sweep({**HYPER, "codings": (1, 2, 4)}, **fields)
        config = json.loads(json.dumps(sweep.config(), allow_nan=False))
        assert config["widths"] == [8, 4]
        rebuilt = from_config(config, {**HYPER, "codings": 2}, 3)
        assert (rebuilt.widths, rebuilt.runs()) == ((8, 2), [(3, HYPER)])
        wide = sweep.build(64)
        small = rebuilt.build(64)
        stored = jax.eval_shape(
            lambda key, net=wide: nets.slice_codings(net.init(key), net.coding_axes, 2), jax.random.key(0)
        )
        assert stored == jax.eval_shape(small.init, jax.random.key(0))
    assert from_config(sweep.config(), HYPER, 0).widths == (8, 4)


def test_smoke_keeps_one_point_or_the_first_and_last_number_of_codings():
    sweep = make_sweep({"learning_rate": (0.01, 0.02), "l2": 0.0, "codings": (1, 2, 4)}, seeds=(7, 8, 9)).smoke()
    assert sweep.seeds == (7, 8)
    assert [(hyper["learning_rate"], hyper["codings"]) for hyper in sweep.points()] == [(0.01, 1), (0.02, 4)]
    assert len(make_sweep({"learning_rate": (0.01, 0.02), "l2": 0.0}).smoke().points()) == 1
    pairs = ((0.1, 3), (0.1, 1), (0.1, 4), (0.2, 3))
    listed = make_sweep([{"learning_rate": rate, "l2": 0.0, "codings": k} for rate, k in pairs]).smoke()
    assert [hyper["codings"] for hyper in listed.points()] == [3, 4]


@pytest.mark.parametrize(
    ("assignments", "expected"),
    [
        (["hyper.l2=0.5"], [(0.01, 0.5), (0.001, 0.5)]),
        (["hyper.l2=0,0.5"], [(0.01, 0), (0.01, 0.5), (0.001, 0), (0.001, 0.5)]),
        (["hyper.learning_rate=0.3", "hyper.l2=0.2"], [(0.3, 0.2)]),
        (["epochs=9"], [(0.01, 0.0), (0.001, 0.1)]),
    ],
)
def test_set_changes_a_list_of_points(assignments, expected):
    sweep = make_sweep(points.zipped(learning_rate=(0.01, 0.001), l2=(0.0, 0.1)))
    (changed,) = overrides.override([sweep], assignments)
    assert [(point["learning_rate"], point["l2"]) for point in changed.points()] == expected


def test_set_can_add_codings():
    (changed,) = overrides.override([make_sweep(HYPER)], ["hyper.codings=2,4"])
    assert [point["codings"] for point in changed.points()] == [2, 4]
    sweeps = [make_sweep(HYPER), make_sweep(points.zipped(learning_rate=(0.01, 0.001), l2=(0.0, 0.1)))]
    changed_sweeps = overrides.override(sweeps, ["hyper.codings=2,4", "seeds=1,2"])
    assert [len(changed.runs()) for changed in changed_sweeps] == [4, 8]
    assert [point["codings"] for point in changed_sweeps[1].points()] == [2, 4, 2, 4]


@pytest.mark.parametrize(
    ("assignment", "parts"),
    [
        ("hyper.l3=1", ["Sweep.hyper[0].l3", "did you mean l2?"]),
        ("hyper.l2=", ["Sweep.hyper[0].l2", "'' (str)"]),
        ("hyper.codings=9", ["Sweep.hyper[0].codings", "from 1 to 4"]),
        ("codings=2", ["--set codings", "did you mean hyper.codings?"]),
        ("l2=2", ["--set l2", "did you mean hyper.l2?"]),
        ("hyper=2", ["--set hyper", "hyper.learning_rate, hyper.l2, hyper.codings"]),
    ],
)
def test_a_bad_assignment_to_points_is_refused(refused, assignment, parts):
    sweep = make_sweep(points.zipped(learning_rate=(0.01, 0.001), l2=(0.0, 0.1)))
    refused(ConfigError, *parts, call=lambda: overrides.override([sweep], [assignment]))


def test_a_repeated_run_is_found_among_ten_thousand(refused):
    many = make_sweep({"learning_rate": tuple(np.linspace(0.001, 0.1, 100)), "l2": 0.0}, seeds=tuple(range(100)))
    check_all([many])
    refused(ConfigError, "SWEEPS[1]", "the same run twice", call=lambda: check_all([many, many]))


def test_a_repeated_point_is_found_among_ten_thousand(refused):
    drawn = points.draws(10_000, learning_rate=points.log_uniform(1e-4, 0.1), l2=points.uniform(0, 1))
    sweep = make_sweep(drawn)
    check_all([sweep])
    assert sweep.runs()[-1] == (0, drawn[-1])
    refused(
        ConfigError,
        "Sweep.hyper[10000]",
        "the same point as Sweep.hyper[77]",
        call=lambda: make_sweep([*drawn, drawn[77]]),
    )


def test_sweeps_have_the_ids_of_their_committed_runs():
    def identity(sweep, data):
        ((seed, hyper),) = sweep.runs()
        return run_identity.run_id(sweep.config(), hyper, seed, data)

    digits = "a230de60691e562154d98f0f0d1b97a2324270e2e3f1253370f137fead4b5721"
    sweep = make_sweep(HYPER, widths=(2,), epochs=400, batch_size=74, schedule=schedules.warmup_cosine)
    assert identity(sweep, digits) == "2df4be8e8c1d"
    plane = "7deff40cd6d0ce6a1d70246da7a1a3763b925ce22d6c2a0295e1bc16cb2d0aab"
    sweep = make_sweep(
        points.grid(learning_rate=0.01, l2=-0.0), dataset="plane3d", widths=(2,), epochs=6000, batch_size=None
    )
    assert identity(sweep, plane) == "cfd9ca629a6a"


def test_committed_configs_have_the_ids_of_their_rows():
    for name in ("stacked", "linear_pca"):
        lines = (Path(__file__).parents[1] / "results" / name / "runs.jsonl").read_text().splitlines()
        for row in map(json.loads, lines):
            run_id = run_identity.run_id(
                row["config"], row["hyper"], row["seed"], row["provenance"]["dataset_fingerprint"]
            )
            assert run_id == row["run_id"]
