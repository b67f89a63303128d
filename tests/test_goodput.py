"""Where the time of a real call went: parts that sum to its wall time, and what a killed one lost and kept."""

import json
import time

import pytest

from aejax import cli
from aejax.reporting import time_budget
from aejax.runner.context import Timings
from aejax.runtime.signals import Interrupted
from aejax.storage import run_folders
from aejax.training import loop


def calls_of(folder):
    return [json.loads(line) for line in (folder / "goodput.jsonl").read_text().splitlines()]


def check_sums(call):
    assert sum(call[name] for name in time_budget.SPENT) == pytest.approx(call["wall"], rel=0.01), call
    assert all(call[name] >= 0 for name in time_budget.SPENT), call


def test_the_parts_sum_to_the_wall_time(tiny, tmp_path):
    began = time.perf_counter()
    assert cli.main(["run", str(tiny), "--results", str(tmp_path), "--set", "epochs=20"]) == 0
    wall = time.perf_counter() - began
    call, drawn = calls_of(tmp_path / "tiny")
    check_sums(call)
    assert call["runs"] == 3
    assert call["lost"] == 0
    assert 0.7 * wall < call["wall"] + drawn["wall"] <= wall
    check_sums(drawn)
    assert (drawn["started"], drawn["runs"], drawn["saving"]) == (call["started"], 0, drawn["wall"])
    rows = run_folders.read_index(tmp_path / "tiny")
    assert call["useful"] == pytest.approx(sum(row["train_seconds"] for row in rows), rel=0.2, abs=0.1)
    assert all(call[name] > 0 for name in ("useful", "compile", "data", "saving"))
    assert cli.main(["run", str(tiny), "--results", str(tmp_path), "--set", "epochs=20"]) == 0
    assert len(calls_of(tmp_path / "tiny")) == 2, "a call that trains nothing has nothing to tell"
    assert cli.main(["report", str(tmp_path / "tiny")]) == 0
    assert "1 call of `aejax run`" in (tmp_path / "tiny/summary.md").read_text(), "two lines, one call"


def test_an_interrupted_call_tells_of_what_it_saved(tiny, tmp_path, monkeypatch):
    """It stops in its third chunk, with no run finished: what was trained is saved, and useful."""
    train_block = loop.train_block

    def stopped(*arguments, report, **options):
        def third(progress):
            report(progress)
            seen.append(progress.step)
            if len(seen) == 3:
                raise Interrupted(2)

        seen = []
        return train_block(*arguments, report=third, chunk_seconds=0.05, **options)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "train_block", stopped)
        run = ["run", str(tiny), "--results", str(tmp_path), "--set", "epochs=400"]
        assert cli.main(run) == 130
    (call,) = calls_of(tmp_path / "tiny")
    check_sums(call)
    (state,) = (tmp_path / "tiny/states").glob("*/*/state.json")
    assert call["runs"] == 0
    assert call["useful"] == pytest.approx(json.loads(state.read_text())["about"]["seconds"], rel=0.05, abs=0.02)
    assert call["saving"] > 0
    assert call["lost"] < 0.1


def test_a_block_that_fails_is_lost_time(tiny, tmp_path, monkeypatch):
    def fails(*_, **__):
        time.sleep(0.2)
        raise RuntimeError("out of memory")

    monkeypatch.setattr(loop, "train_block", fails)
    assert cli.main(["run", str(tiny), "--results", str(tmp_path), "--set", "seeds=0"]) == 3
    call, _ = calls_of(tmp_path / "tiny")
    check_sums(call)
    assert 0.4 <= call["lost"] <= call["wall"] / 2 + 0.4
    assert call["useful"] == 0


def test_the_kinds_are_those_that_are_shown():
    assert {*Timings(), "other"} == set(time_budget.SPENT)
