"""Points: grids, pairs, lists and draws, and what a sweep makes of them."""

import json
from pathlib import Path
from typing import Any, cast

import jax
import numpy as np
import pytest
import scipy.stats

from aejax import nets
from aejax.config import overrides, points, run_identity, sweep
from aejax.config.sweep import Sweep
from aejax.runtime.errors import ConfigError
from aejax.training import schedules

GOOD = {"dataset": "digits", "widths": (8, 4), "epochs": 2, "batch_size": 50}
HYPER = {"learning_rate": 0.01, "l2": 0.0}
DRAWN = ({"a": 0.000165989675, "b": 0.684660363, "c": 1}, {"a": 0.000257580456, "b": 0.777220786, "c": 2})


def one(hyper, **fields):
    return Sweep(**{**GOOD, **fields}, hyper=hyper)


def test_a_grid_has_all_combinations_the_last_name_fastest():
    assert points.grid(a=(1, 2), b=(3, 4), c=5) == (
        {"a": 1, "b": 3, "c": 5},
        {"a": 1, "b": 4, "c": 5},
        {"a": 2, "b": 3, "c": 5},
        {"a": 2, "b": 4, "c": 5},
    )


def test_zipped_pairs_and_says_when_lengths_differ(refused):
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


def test_more_draws_begin_with_the_same_and_names_do_not_disturb_each_other():
    rate, penalty = points.log_uniform(1e-4, 1e-1), points.uniform(0, 1)
    few = points.draws(5, seed=3, a=rate, b=penalty)
    assert points.draws(9, seed=3, a=rate, b=penalty)[:5] == few
    alone = points.draws(5, seed=3, b=penalty)
    assert [point["b"] for point in alone] == [point["b"] for point in few]
    assert points.draws(5, seed=4, a=rate, b=penalty) != few
    assert [point["a"] for point in few] != [point["b"] for point in points.draws(5, seed=3, b=rate)]
    assert json.loads(json.dumps(few)) == list(few), "a draw is as good as one written out"


def test_draws_are_distributed_as_they_say():
    drawn = points.draws(
        2000, a=points.log_uniform(1e-4, 1e-1), b=points.uniform(2, 3), c=points.choice(7, 8, 9), d=0.5
    )
    logs = np.log10([point["a"] for point in drawn])
    assert scipy.stats.kstest(logs, scipy.stats.uniform(-4, 3).cdf).pvalue > 0.01
    assert scipy.stats.kstest([point["b"] for point in drawn], scipy.stats.uniform(2, 1).cdf).pvalue > 0.01
    counts = np.bincount([int(point["c"]) for point in drawn])[7:]
    assert scipy.stats.chisquare(counts).pvalue > 0.01
    assert {point["d"] for point in drawn} == {0.5}
    for name, low, high in (("a", 1e-4, 1e-1), ("b", 2, 3)):
        assert all(low <= point[name] <= high for point in drawn)
    assert abs(np.corrcoef(logs, [point["b"] for point in drawn])[0, 1]) < 0.05


def test_draws_are_these_numbers_on_every_machine():
    drawn = points.draws(2, seed=1, a=points.log_uniform(1e-4, 1e-1), b=points.uniform(0, 1), c=points.choice(1, 2, 4))
    assert drawn == DRAWN
    assert [type(number) for number in drawn[0].values()] == [float, float, int]


def test_rounding_leaves_no_interval():
    low, high = 0.1234567891, 0.1234567892
    drawn = points.draws(20, a=points.uniform(low, high), b=points.log_uniform(low, high))
    assert all(low <= number <= high for point in drawn for number in point.values())


def test_numbers_are_pythons_own():
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
def test_what_cannot_be_drawn_is_named(refused, call, parts):
    refused(ConfigError, *parts, call=call)


def test_a_sweep_takes_points_in_their_order_each_with_every_seed():
    pairs = points.zipped(learning_rate=(0.01, 0.001), l2=(0.0, 0.1))
    found = one(pairs, seeds=(5, 6)).runs()
    assert found == [(seed, dict(point)) for point in pairs for seed in (5, 6)]
    by_hand = one([dict(point) for point in pairs], seeds=(5, 6))
    assert by_hand.runs() == found


def test_points_and_grids_that_ask_the_same_are_the_same_runs():
    grid = one({"learning_rate": (0.01, 0.001), "l2": 0.0})
    listed = one(points.grid(learning_rate=(0.01, 0.001), l2=0.0))

    def ids(asked):
        return [run_identity.run_id(asked.config(), hyper, seed, "") for seed, hyper in asked.runs()]

    assert ids(grid) == ids(listed)


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
def test_points_that_cannot_be_run_are_named(refused, hyper, parts):
    refused(ConfigError, *parts, call=lambda: one(hyper))


def test_codings_are_an_axis_like_any_other():
    asked = one({**HYPER, "codings": (1, 2, 4)}, seeds=(0, 1))
    assert [(asked.codings_of(hyper), asked.widths_of(hyper), seed) for seed, hyper in asked.runs()] == [
        (k, (8, k), seed) for k in (1, 2, 4) for seed in (0, 1)
    ]
    assert asked.codings == 4
    assert asked.codings_of(HYPER) == 4
    assert {type(hyper["codings"]) for _, hyper in asked.runs()} == {int}
    assert one({**HYPER, "codings": range(1, 5)}).runs() == one({**HYPER, "codings": np.arange(1, 5)}).runs()
    assert (
        len({run_identity.run_id(asked.config(), hyper, 0, "") for _, hyper in [*asked.runs()[::2], (0, HYPER)]}) == 4
    )


def test_an_undercomplete_net_is_so_at_its_widest(refused):
    wide = one({**HYPER, "codings": (1, 2)}, widths=(64,))
    refused(ConfigError, "Sweep.widths", "64 codings for the 64 inputs", call=lambda: sweep.check_all([wide]))


def test_a_stored_run_of_fewer_codings_is_the_smaller_net():
    for fields in ({}, {"tied": True}, {"decoder_widths": (5,)}):
        asked = one({**HYPER, "codings": (1, 2, 4)}, **fields)
        config = json.loads(json.dumps(asked.config(), allow_nan=False))
        assert config["widths"] == [8, 4]
        own = sweep.from_config(config, {**HYPER, "codings": 2}, 3)
        assert (own.widths, own.runs()) == ((8, 2), [(3, HYPER)])
        wide, small = asked.build(64), own.build(64)
        stored = jax.eval_shape(
            lambda key, net=wide: nets.slice_codings(net.init(key), net.coding_axes, 2), jax.random.key(0)
        )
        assert stored == jax.eval_shape(small.init, jax.random.key(0))
    assert sweep.from_config(asked.config(), HYPER, 0).widths == (8, 4)


def test_smoke_keeps_one_point_and_both_ends_of_the_codings():
    asked = one({"learning_rate": (0.01, 0.02), "l2": 0.0, "codings": (1, 2, 4)}, seeds=(7, 8, 9)).smoke()
    assert asked.seeds == (7, 8)
    assert [(hyper["learning_rate"], hyper["codings"]) for hyper in asked.points()] == [(0.01, 1), (0.02, 4)]
    assert len(one({"learning_rate": (0.01, 0.02), "l2": 0.0}).smoke().points()) == 1
    several = ((0.1, 3), (0.1, 1), (0.1, 4), (0.2, 3))
    listed = one([{"learning_rate": rate, "l2": 0.0, "codings": k} for rate, k in several]).smoke()
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
def test_set_on_a_list_of_points(assignments, expected):
    asked = one(points.zipped(learning_rate=(0.01, 0.001), l2=(0.0, 0.1)))
    (changed,) = overrides.override([asked], assignments)
    assert [(point["learning_rate"], point["l2"]) for point in changed.points()] == expected


def test_set_adds_the_axis_of_codings():
    (changed,) = overrides.override([one(HYPER)], ["hyper.codings=2,4"])
    assert [point["codings"] for point in changed.points()] == [2, 4]
    asked = [one(HYPER), one(points.zipped(learning_rate=(0.01, 0.001), l2=(0.0, 0.1)))]
    found = overrides.override(asked, ["hyper.codings=2,4", "seeds=1,2"])
    assert [len(changed.runs()) for changed in found] == [4, 8]
    assert [point["codings"] for point in found[1].points()] == [2, 4, 2, 4]


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
def test_a_bad_set_on_points_is_named(refused, assignment, parts):
    asked = one(points.zipped(learning_rate=(0.01, 0.001), l2=(0.0, 0.1)))
    refused(ConfigError, *parts, call=lambda: overrides.override([asked], [assignment]))


def test_ten_thousand_runs_are_checked_and_a_twin_is_found(refused):
    many = one({"learning_rate": tuple(np.linspace(0.001, 0.1, 100)), "l2": 0.0}, seeds=tuple(range(100)))
    sweep.check_all([many])
    refused(ConfigError, "SWEEPS[1]", "the same run twice", call=lambda: sweep.check_all([many, many]))


def test_a_list_of_ten_thousand_points_is_checked_and_a_twin_is_found(refused):
    drawn = points.draws(10_000, learning_rate=points.log_uniform(1e-4, 0.1), l2=points.uniform(0, 1))
    asked = one(drawn)
    sweep.check_all([asked])
    assert asked.runs()[-1] == (0, drawn[-1])
    refused(
        ConfigError, "Sweep.hyper[10000]", "the same point as Sweep.hyper[77]", call=lambda: one([*drawn, drawn[77]])
    )


def test_the_ids_of_committed_runs_are_those_of_their_sweeps():
    def identity(asked, data):
        ((seed, hyper),) = asked.runs()
        return run_identity.run_id(asked.config(), hyper, seed, data)

    digits = "a230de60691e562154d98f0f0d1b97a2324270e2e3f1253370f137fead4b5721"
    asked = one(HYPER, widths=(2,), epochs=400, batch_size=74, schedule=schedules.warmup_cosine)
    assert identity(asked, digits) == "2df4be8e8c1d"
    plane = "7deff40cd6d0ce6a1d70246da7a1a3763b925ce22d6c2a0295e1bc16cb2d0aab"
    asked = one(points.grid(learning_rate=0.01, l2=-0.0), dataset="plane3d", widths=(2,), epochs=6000, batch_size=None)
    assert identity(asked, plane) == "cfd9ca629a6a"


def test_runs_are_known_by_the_ids_they_always_had():
    for name in ("stacked", "linear_pca"):
        lines = (Path(__file__).parents[1] / "results" / name / "runs.jsonl").read_text().splitlines()
        for row in map(json.loads, lines):
            found = run_identity.run_id(
                row["config"], row["hyper"], row["seed"], row["provenance"]["dataset_fingerprint"]
            )
            assert found == row["run_id"]
