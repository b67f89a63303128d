"""A sweep that is killed, or asked to stop, at random moments ends as one that was left alone."""

import random
import signal
import subprocess
import time

import pytest

import kills
from support import rows_of


def test_kill_9_at_random_moments_loses_nothing(tmp_path):
    record = kills.torture(tmp_path, kills=3, epochs=40)
    assert record["kills"] == 3


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_within_a_chunk_saves_and_says_how_to_go_on(tmp_path, number):
    experiment, results = tmp_path / "stopped.py", tmp_path / "results"
    experiment.write_text(kills.SWEEP.format(epochs=1_000_000))
    process = kills.start(experiment, results)
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


def test_a_second_signal_leaves_at_once(tmp_path):
    experiment, results = tmp_path / "stopped.py", tmp_path / "results"
    experiment.write_text(kills.SWEEP.format(epochs=1_000_000))
    process = kills.start(experiment, results)
    assert wait_for(lambda: list((results / "stopped").glob("states/*/*/manifest.json")))
    for _ in range(2):
        process.send_signal(signal.SIGINT)
        time.sleep(0.05)
    process.communicate(timeout=60)
    assert process.returncode == 130


def test_what_was_interrupted_goes_on_from_its_state(tmp_path):
    """The saved state is used: training goes on from its step, and its members are those of a sweep left alone."""
    experiment = tmp_path / "stopped.py"
    experiment.write_text(kills.SWEEP.format(epochs=150))
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
        assert process.returncode == 3
    assert kills.contents(folder) == kills.contents(tmp_path / "alone" / "stopped")
    assert not list(folder.glob("states/*"))


def wait_for(found, seconds=120):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        value = found()
        if value:
            return value
        time.sleep(0.05)
    return None
