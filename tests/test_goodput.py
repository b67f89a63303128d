"""Where the time of a real call went: parts that sum to its wall time, and what a killed one lost and kept."""

import json
import signal
import time

import pytest

import kills
from aejax import cli
from aejax.reporting import time_budget
from aejax.runner import scoring
from aejax.runner.context import TimeSpent
from aejax.runtime.signals import Interrupted
from aejax.storage import lock, run_folders
from aejax.training import train
from support import TINY, Killed, wait_for


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
    train_block = train.train_block

    def stopped(*arguments, report, **options):
        def third(progress):
            report(progress)
            seen.append(progress.step)
            if len(seen) == 3:
                raise Interrupted(2)

        seen = []
        return train_block(*arguments, report=third, chunk_seconds=0.05, **options)

    with monkeypatch.context() as patch:
        patch.setattr(train, "train_block", stopped)
        run = ["run", str(tiny), "--results", str(tmp_path), "--set", "epochs=400"]
        assert cli.main(run) == 130
    (call,) = calls_of(tmp_path / "tiny")
    check_sums(call)
    (state,) = (tmp_path / "tiny/states").glob("*/*/state.json")
    assert call["runs"] == 0
    assert call["useful"] == pytest.approx(json.loads(state.read_text())["about"]["seconds"], rel=0.05, abs=0.02)
    assert call["saving"] > 0
    assert call["lost"] < 0.1


def test_a_call_killed_while_it_scores_has_told_of_its_training_once(tiny, tmp_path, monkeypatch):
    """Whoever comes next reads it in the lock: the block's training is kept, and not counted twice."""

    def killed(*_):
        told.append(json.loads((tmp_path / "tiny/.lock").read_bytes()))
        raise Killed

    def noted(*arguments, **options):
        blocks.append(train_block(*arguments, **options))
        return blocks[-1]

    told, blocks, train_block = [], [], train.train_block
    monkeypatch.setattr(train, "train_block", noted)
    monkeypatch.setattr(scoring, "score_run", killed)
    with pytest.raises(Killed):
        cli.main(["run", str(tiny), "--results", str(tmp_path), "--set", "epochs=400", "--save-every", "0"])
    (record,), (block,) = told, blocks
    assert record["unsaved_seconds"] == 0
    assert record["kept_seconds"] == pytest.approx(block.train_seconds, rel=0.2)


def test_a_block_that_fails_is_lost_time(tiny, tmp_path, monkeypatch):
    def fails(*_, **__):
        time.sleep(0.2)
        raise RuntimeError("out of memory")

    monkeypatch.setattr(train, "train_block", fails)
    assert cli.main(["run", str(tiny), "--results", str(tmp_path), "--set", "seeds=0"]) == 3
    call, _ = calls_of(tmp_path / "tiny")
    check_sums(call)
    assert 0.4 <= call["lost"] <= call["wall"] / 2 + 0.4
    assert call["useful"] == 0


def test_a_killed_call_lost_what_it_had_not_saved(tiny, tmp_path):
    folder = tmp_path / "results/tiny"
    tiny.write_text(TINY.replace("epochs=2", "epochs=10**6"))

    def told():
        try:
            return json.loads((folder / ".lock").read_text())
        except (OSError, ValueError):
            return {"kept_seconds": 0.0, "unsaved_seconds": 0.0}

    process = kills.start(tiny, tmp_path / "results", save_every=1.5, how="map")
    wait_for(lambda: (record := told())["kept_seconds"] > 0 and record["unsaved_seconds"] > 0)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    record = told()
    assert not (folder / "goodput.jsonl").exists()
    process = kills.start(tiny, tmp_path / "results", save_every=1.5, how="map")
    wait_for(lambda: told()["started"] != record["started"] and told()["kept_seconds"] > 0)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 143, err
    killed, call = calls_of(folder)
    check_sums(killed)
    check_sums(call)
    assert killed["killed"]
    assert killed["wall"] > killed["useful"] + killed["lost"]
    assert (killed["useful"], killed["lost"]) == (record["kept_seconds"], record["unsaved_seconds"])
    assert killed["started"] == record["started"]
    assert (killed["runs"], call["runs"], call["lost"] < 0.5, call["useful"] > 1) == (0, 0, True, True)


def test_a_call_that_ended_by_itself_is_none_that_was_killed(tmp_path):
    folder = run_folders.open_folder(tmp_path, "x")
    assert time_budget.of_a_killed(None) is None
    with lock.hold(folder) as held:
        held.beat(2.0, 3.0)
        held.beat(0.0, 0.0)
    with lock.hold(folder) as held:
        assert held.previous is not None
        assert time_budget.of_a_killed(held.previous) is None
    call = time_budget.of_a_killed(lock.PreviousHolder("no time", 1e9, 2.0, 3.0))
    assert call is not None
    assert (call["wall"], call["other"]) == (5.0, 0.0)


def test_the_kinds_are_those_that_are_shown():
    assert {*TimeSpent(), "other"} == set(time_budget.SPENT)
