"""A sweep that is killed, or asked to stop, at random moments ends as one that was left alone."""

import json
import random
import signal
import subprocess
import time

import pytest

import kills
from aejax.reporting import time_budget
from support import rows_of, wait_for


@pytest.fixture
def compiled_once(tmp_path, monkeypatch):
    """What the first process of a test compiles, the others find."""
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")


@pytest.mark.usefixtures("compiled_once")
def test_kill_9_at_random_moments_loses_nothing(tmp_path):
    """Vmapped members: their bits depend on more than those of mapped ones, and have to come out the same, too."""
    record = kills.torture(tmp_path, kills=3, epochs=40, ways=["vmap"])
    assert record["kills"] == 3
    phases = record["phases"]
    assert isinstance(phases, dict)
    assert sum(phases.values()) == 3
    assert phases["training"] >= 1
    assert record["kills_that_left_a_state"]
    assert record["blocks_begun_or_gone_on_with"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_within_a_chunk_saves_and_says_how_to_go_on(tmp_path, number):
    experiment, results = tmp_path / "stopped.py", tmp_path / "results"
    experiment.write_text(kills.SWEEP.format(epochs=1_000_000))
    process = kills.start(experiment, results, how="map")  # nothing is measured: it trains sooner
    folder = results / "stopped"
    states = wait_for(lambda: list(folder.glob("states/*/*/manifest.json")))
    assert states, "no state was saved"
    time.sleep(random.Random(number).uniform(0, 1))
    process.send_signal(number)
    asked = time.monotonic()
    try:
        _, err = process.communicate(timeout=60)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    assert time.monotonic() - asked < 30, "chunks are of about a second; this machine may be slow, but not so slow"
    assert process.returncode == 128 + number, err
    assert "stopping after this chunk" in err
    assert "the same command goes on from there" in err
    assert "Traceback" not in err
    assert list(folder.glob("states/*/*/manifest.json"))
    assert rows_of(folder) == []


SLOW = """
import pathlib, time
import jax
from aejax import Sweep
def wait(x):
    pathlib.Path({began!r}).touch()
    time.sleep(0.3)
def slow(x):
    if len(x) == 10:  # a batch, not what the function is checked with
        jax.debug.callback(wait, x[0, 0])
    return jax.nn.elu(x)
HYPER = {{"learning_rate": 0.01, "l2": 0.0}}
SWEEPS = [
    Sweep(dataset="digits", widths=(4, 2), epochs=10**6, batch_size=10, activation=slow, hyper=HYPER, seeds={seeds})
]
"""


def slow_sweep(tmp_path, seeds):
    """A sweep in a process of its own, in which a step takes 0.3 s or more, once it has begun with its first steps."""
    experiment, began = tmp_path / "slow.py", tmp_path / "began"
    experiment.write_text(SLOW.format(began=str(began), seeds=seeds))
    process = kills.start(experiment, tmp_path / "results")
    wait_for(lambda: began.exists() or process.poll() is not None)
    assert process.poll() is None, process.communicate()
    return process


def test_a_second_signal_leaves_at_once(tmp_path):
    """The first chunk is of 32 steps, ten seconds or more: whoever waits for its end is late."""
    process = slow_sweep(tmp_path, seeds=(0,))
    process.send_signal(signal.SIGINT)
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    asked = time.monotonic()
    _, err = process.communicate(timeout=60)
    assert time.monotonic() - asked < 2
    assert process.returncode == 130
    assert "stopping after this chunk" in err
    assert "interrupted" not in err


def test_a_signal_stops_the_measuring_of_layouts(tmp_path):
    """It is measured first how a layout does: the first steps of all are some of that, and no layout was decided on."""
    process = slow_sweep(tmp_path, seeds=(0, 1))
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 143
    assert err.splitlines()[-1].startswith("aejax: interrupted")
    folder = tmp_path / "results" / "slow"
    assert not (folder / "layouts.json").exists()
    (call,) = map(json.loads, (folder / "goodput.jsonl").read_text().splitlines())
    assert (call["runs"], call["useful"]) == (0, 0.0)
    assert call["compile"] > 0.5
    assert sum(call[name] for name in time_budget.SPENT) == pytest.approx(call["wall"], rel=0.02)


def test_a_signal_at_any_moment_is_heeded(tmp_path):
    """From the first import on. Before aejax is in charge a signal ends the process itself, and nothing is written."""
    rng, experiment = random.Random(0), tmp_path / "stopped.py"
    experiment.write_text(kills.SWEEP.format(epochs=1_000_000))
    delays = sorted(rng.uniform(0.5, 9) for _ in range(4))
    began = time.monotonic()
    processes = [kills.start(experiment, tmp_path / str(i)) for i in range(len(delays))]
    for i, (delay, process) in enumerate(zip(delays, processes, strict=True)):
        time.sleep(max(0.0, began + delay - time.monotonic()))
        process.send_signal((signal.SIGINT, signal.SIGTERM)[i % 2])
    for i, process in enumerate(processes):
        _, err = process.communicate(timeout=60)
        folder, number = tmp_path / str(i), (signal.SIGINT, signal.SIGTERM)[i % 2]
        if process.returncode == -number:
            assert not folder.exists()
            continue
        assert process.returncode == 128 + number, (delays[i], err)
        assert err.splitlines()[-1].startswith("aejax: interrupted"), (delays[i], err)
        assert "Traceback" not in err
        assert not list(folder.rglob(".partial-*"))


@pytest.mark.usefixtures("compiled_once")
def test_what_was_interrupted_goes_on_from_its_state(tmp_path):
    """The saved state is used: training goes on from its step, and its members are those of a sweep left alone."""
    experiment = tmp_path / "stopped.py"
    experiment.write_text(kills.SWEEP.format(epochs=600) + "SWEEPS = SWEEPS[2:]\n")
    process = kills.start(experiment, tmp_path / "results")
    folder = tmp_path / "results" / "stopped"
    assert wait_for(lambda: list(folder.glob("states/*/*/manifest.json")))
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    steps = [int(path.parent.name) for path in folder.glob("states/*/*/manifest.json")]
    assert process.returncode == 143
    assert max(steps) > 0
    for results in ("results", "alone"):
        process = kills.start(experiment, tmp_path / results)
        process.communicate()
        assert process.returncode == 0
    assert kills.contents(folder) == kills.contents(tmp_path / "alone" / "stopped")
    assert not list(folder.glob("states/*"))
