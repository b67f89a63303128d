"""The time budget of real calls: its parts sum to the wall time."""

import json
import time

import pytest

from aejax import cli
from aejax.reporting import time_budget
from aejax.runner.context import Timings
from aejax.runtime.signals import Interrupted
from aejax.storage import run_folders
from aejax.training import loop


def read_calls(folder):
    return [json.loads(line) for line in (folder / "goodput.jsonl").read_text().splitlines()]


def check_sums(call):
    assert sum(call[name] for name in time_budget.SPENT) == pytest.approx(call["wall"], rel=0.01), call
    assert all(call[name] >= 0 for name in time_budget.SPENT), call


@pytest.mark.slow
def test_the_parts_sum_to_the_wall_time(tiny, tmp_path):
    began = time.perf_counter()
    assert cli.main(["run", str(tiny), "--results", str(tmp_path), "--set", "epochs=20"]) == 0
    wall = time.perf_counter() - began
    call, drawn = read_calls(tmp_path / "tiny")
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
    assert len(read_calls(tmp_path / "tiny")) == 2, "a call that trains nothing adds no line"
    assert cli.main(["report", str(tmp_path / "tiny")]) == 0
    assert "1 call of `aejax run`" in (tmp_path / "tiny/summary.md").read_text(), "two lines, one call"


@pytest.mark.slow
def test_the_saved_training_of_an_interrupted_call_is_useful(tiny, tmp_path, monkeypatch):
    """The call stops in its third chunk, before any run is finished, and saves a checkpoint."""
    train_block = loop.train_block

    def interrupted_train_block(*arguments, report, **options):
        def interrupt_at_third(progress):
            report(progress)
            seen.append(progress.step)
            if len(seen) == 3:
                raise Interrupted(2)

        seen = []
        return train_block(*arguments, report=interrupt_at_third, chunk_seconds=0.05, **options)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "train_block", interrupted_train_block)
        run = ["run", str(tiny), "--results", str(tmp_path), "--set", "epochs=400"]
        assert cli.main(run) == 130
    (call,) = read_calls(tmp_path / "tiny")
    check_sums(call)
    (state,) = (tmp_path / "tiny/states").glob("*/*/state.json")
    assert call["runs"] == 0
    assert call["useful"] == pytest.approx(json.loads(state.read_text())["about"]["seconds"], rel=0.05, abs=0.02)
    assert call["saving"] > 0
    assert call["lost"] < 0.1


def test_the_time_of_a_block_that_fails_is_lost(tiny, tmp_path, monkeypatch):
    def fails(*_, **__):
        time.sleep(0.2)
        raise RuntimeError("out of memory")

    monkeypatch.setattr(loop, "train_block", fails)
    assert cli.main(["run", str(tiny), "--results", str(tmp_path), "--set", "seeds=0"]) == 3
    call, _ = read_calls(tmp_path / "tiny")
    check_sums(call)
    assert 0.4 <= call["lost"] <= call["wall"] / 2 + 0.4
    assert call["useful"] == 0


def test_the_summary_shows_every_kind_of_time():
    assert {*Timings(), "other"} == set(time_budget.SPENT)
