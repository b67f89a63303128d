"""A sweep that is killed or interrupted at random moments and then resumed ends like an uninterrupted sweep."""

import json
import random
import signal
import subprocess
import sys
import time

import pytest

import kills
from aejax.reporting import time_budget
from support import rows_of, wait_for

pytestmark = pytest.mark.slow


def test_kill_9_at_random_moments_loses_nothing(tmp_path):
    """With vmapped members, whose bits depend on the size of their block, unlike those of mapped members."""
    record = kills.torture(tmp_path, kills=3, epochs=40, ways=["vmap"])
    assert record["kills"] == 3
    phases = record["phases"]
    assert isinstance(phases, dict)
    assert sum(phases.values()) == 3
    assert phases["training"] >= 1
    assert record["kills_that_left_a_state"]
    assert record["blocks_begun_or_gone_on_with"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_within_a_chunk_saves_and_says_how_to_continue(tmp_path, number):
    experiment = tmp_path / "stopped.py"
    results = tmp_path / "results"
    experiment.write_text(kills.SWEEP.format(epochs=1_000_000))
    process = kills.start(experiment, results, how="map")  # `map` measures no layouts, so training starts sooner
    folder = results / "stopped"
    states = wait_for(lambda: list(folder.glob("states/*/*/manifest.json")))
    assert states, "no state was saved"
    time.sleep(random.Random(number).uniform(0, 1))
    process.send_signal(number)
    signalled = time.monotonic()
    try:
        errors = process.messages(timeout=60)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    assert time.monotonic() - signalled < 30, "chunks take about a second, even on a slow machine far less than 30"
    assert process.returncode == 128 + number, errors
    assert "stopping after this chunk" in errors
    assert "run the same command again to continue" in errors
    assert "Traceback" not in errors
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
    if len(x) == 10:  # a batch; the check of the function passes other shapes
        jax.debug.callback(wait, x[0, 0])
    return jax.nn.elu(x)
HYPER = {{"learning_rate": 0.01, "l2": 0.0}}
SWEEPS = [
    Sweep(dataset="digits", widths=(4, 2), epochs=10**6, batch_size=10, activation=slow, hyper=HYPER, seeds={seeds})
]
"""


def start_slow_sweep(tmp_path, seeds):
    """Start a sweep whose steps take at least 0.3 s each. Returns its process once the first step has begun."""
    experiment = tmp_path / "slow.py"
    began = tmp_path / "began"
    experiment.write_text(SLOW.format(began=str(began), seeds=seeds))
    process = kills.start(experiment, tmp_path / "results")
    wait_for(lambda: began.exists() or process.poll() is not None)
    assert process.poll() is None, process.messages()
    return process


def test_a_second_signal_leaves_at_once(tmp_path):
    """The first chunk has 32 steps and takes about ten seconds; the process must not wait for its end."""
    process = start_slow_sweep(tmp_path, seeds=(0,))
    process.send_signal(signal.SIGINT)
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    signalled = time.monotonic()
    errors = process.messages(timeout=60)
    assert time.monotonic() - signalled < 2
    assert process.returncode == 130
    assert "stopping after this chunk" in errors
    assert "interrupted" not in errors


def test_a_signal_stops_the_measurement_of_layouts(tmp_path):
    """The first steps of a sweep measure how fast each layout is. A signal then leaves no layout chosen."""
    process = start_slow_sweep(tmp_path, seeds=(0, 1))
    process.send_signal(signal.SIGTERM)
    errors = process.messages(timeout=120)
    assert process.returncode == 143
    assert errors.splitlines()[-1].startswith("aejax: interrupted")
    folder = tmp_path / "results" / "slow"
    assert not list(folder.glob("runs/*"))
    assert not list(folder.glob("states/*"))
    (call,) = map(json.loads, (folder / "goodput.jsonl").read_text().splitlines())
    assert (call["runs"], call["useful"]) == (0, 0.0)
    assert call["compile"] > 0.5
    assert sum(call[name] for name in time_budget.SPENT) == pytest.approx(call["wall"], rel=0.02)


def test_a_signal_at_any_moment_stops_the_sweep(tmp_path):
    """Signals come from the first import on. Before aejax handles them they end the process, and nothing is written."""
    rng = random.Random(0)
    experiment = tmp_path / "stopped.py"
    experiment.write_text(kills.SWEEP.format(epochs=1_000_000))
    aejax = (sys.executable, "-m", "aejax")  # as users start it
    delays = sorted(rng.uniform(0.5, 9) for _ in range(4))
    began = time.monotonic()
    processes = [kills.start(experiment, tmp_path / str(i), program=aejax) for i in range(len(delays))]
    for i, (delay, process) in enumerate(zip(delays, processes, strict=True)):
        time.sleep(max(0.0, began + delay - time.monotonic()))
        process.send_signal((signal.SIGINT, signal.SIGTERM)[i % 2])
    for i, process in enumerate(processes):
        errors = process.messages(timeout=60)
        folder = tmp_path / str(i)
        number = (signal.SIGINT, signal.SIGTERM)[i % 2]
        if process.returncode == -number:
            assert not folder.exists()
            continue
        assert process.returncode == 128 + number, (delays[i], errors)
        assert errors.splitlines()[-1].startswith("aejax: interrupted"), (delays[i], errors)
        assert "Traceback" not in errors
        assert not list(folder.rglob(".partial-*"))


def test_an_interrupted_sweep_resumes_from_its_saved_state(tmp_path):
    """Training continues from the step of the state, and ends with the members of an uninterrupted sweep."""
    experiment = tmp_path / "stopped.py"
    experiment.write_text(kills.SWEEP.format(epochs=600) + "SWEEPS = SWEEPS[2:]\n")
    process = kills.start(experiment, tmp_path / "results")
    folder = tmp_path / "results" / "stopped"
    assert wait_for(lambda: list(folder.glob("states/*/*/manifest.json")))
    process.send_signal(signal.SIGTERM)
    process.messages(timeout=60)
    steps = [int(path.parent.name) for path in folder.glob("states/*/*/manifest.json")]
    assert process.returncode == 143
    assert max(steps) > 0
    for results in ("results", "uninterrupted"):
        process = kills.start(experiment, tmp_path / results)
        process.messages()
        assert process.returncode == 0
    assert kills.contents(folder) == kills.contents(tmp_path / "uninterrupted" / "stopped")
    assert not list(folder.glob("states/*"))
