"""Jobs of two processes on this machine: they store the same rows as one process, and agree on every decision."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from aejax import cli
from aejax.runtime import distributed
from aejax.runtime.errors import ConfigError
from kills import contents
from logged import Logged
from support import SWEEP, rows_of, wait_for
from unrendered import AEJAX

pytestmark = pytest.mark.slow

TESTS = Path(__file__).resolve().parent


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


SHORT_OF_MAPPINGS = """
import sys
import unrendered
from aejax.runtime import hardware
from aejax.training import population
population.MIN_PROGRAMS_TO_CLEAR = 1
hardware.memory_map_usage = lambda: float(sys.argv[1])
sys.exit(unrendered.main(sys.argv[2:]))
"""


def test_two_processes_store_the_same_rows_as_one(tmp_path):
    """The second process alone is short of memory mappings; both must then clear their compiled programs together."""
    (tmp_path / "two.py").write_text(SWEEP)
    run = ["run", str(tmp_path / "two.py"), "--results"]
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
    job = ["--coordinator", f"127.0.0.1:{free_port()}", "--processes", "2", "--process"]
    short = [sys.executable, "-c", SHORT_OF_MAPPINGS]
    both = [
        Logged([*short, str(i), *run, str(tmp_path / "both"), *job, str(i)], env=environment, cwd=TESTS) for i in (0, 1)
    ]
    errors = [process.messages(timeout=240) for process in both]
    assert [process.returncode for process in both] == [3, 0], errors  # only the first reports failed runs
    alone = Logged([*AEJAX, *run, str(tmp_path / "alone")], env=environment)
    errors = alone.messages(timeout=240)
    assert alone.returncode == 3, errors
    assert contents(tmp_path / "both" / "two") == contents(tmp_path / "alone" / "two")
    rows = rows_of(tmp_path / "both" / "two")
    assert len(rows) == 15
    assert {row["execution"]["devices"] for row in rows} == {4}
    assert {row["provenance"]["devices"] for row in rows} == {4}


SCORING = """
import pathlib, sys, time
import unrendered
from aejax.runner import scoring
score = scoring.score_run
def slow(*arguments):
    pathlib.Path(sys.argv[1]).touch()
    time.sleep(0.5)
    return score(*arguments)
scoring.score_run = slow
sys.exit(unrendered.main(sys.argv[2:]))
"""


def test_a_signal_to_one_of_two_processes_stops_both_while_they_score(tmp_path):
    """No state was saved before the signal, so both processes save one; two new processes resume from it."""
    (tmp_path / "two.py").write_text(SWEEP + "SWEEPS = SWEEPS[1:]\n")
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": "--xla_force_host_platform_device_count=1"}
    run = ["run", str(tmp_path / "two.py"), "--results", str(tmp_path), "--processes", "2"]

    def start_both(*command):
        job = ["--coordinator", f"127.0.0.1:{free_port()}", "--process"]
        return [Logged([*command, *run, *job, str(i)], env=environment, cwd=TESTS) for i in (0, 1)]

    processes = start_both(sys.executable, "-c", SCORING, str(tmp_path / "scores"))
    wait_for((tmp_path / "scores").exists)
    processes[0].send_signal(signal.SIGTERM)
    errors = [process.messages(timeout=100) for process in processes]
    assert [process.returncode for process in processes] == [143, 143], errors
    assert "run the same command again to continue" in errors[0]
    assert len(list(tmp_path.glob("two/states/*/*"))) == 1
    assert len(rows_of(tmp_path / "two")) < 3
    processes = start_both(*AEJAX)
    errors = [process.messages(timeout=240) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], errors
    assert len(rows_of(tmp_path / "two")) == 3
    assert not list(tmp_path.glob("two/states/*"))


SIGNALLED = """
import os, signal, sys, time
from aejax.runtime import distributed
from aejax.runtime.signals import Interrupted, SignalHandler
with SignalHandler() as interrupts:
    distributed.join(sys.argv[1], 1, 0)
    interrupts.install()
    interrupts.raise_if_interrupted()
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(0.2)
    try:
        distributed.check_all_processes(interrupts.raise_if_interrupted)
    except Interrupted as error:
        print(error.exit_code)
"""


def test_a_process_of_a_job_receives_a_signal():
    """`jax.distributed` replaces the handler of SIGTERM; `SignalHandler.install` must restore ours."""
    command = [sys.executable, "-c", SIGNALLED, f"127.0.0.1:{free_port()}"]
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=100)
    assert done.stdout == "143\n", done.stderr


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (("127.0.0.1:1", None, None), ["--coordinator", "in part"]),
        ((None, 2, 0), ["--coordinator", "in part"]),
        (("127.0.0.1:1", 2, 2), ["--process", "2 of 2", "from 0 to 1"]),
        (("nowhere", 2, 0), ["--coordinator", "nowhere", "HOST:PORT"]),
    ],
)
def test_incomplete_job_arguments_are_refused(refused, arguments, parts):
    refused(ConfigError, *parts, call=lambda: distributed.join(*arguments))


def test_a_job_of_one_process_returns_its_own_values():
    assert not distributed.is_distributed()
    assert distributed.is_first_process()
    assert distributed.max_over_processes(3) == 3
    assert distributed.broadcast_json({"a": [1, None]}) == {"a": [1, None]}
    distributed.join(None, None, None)


def test_the_command_line_refuses_incomplete_job_arguments(tmp_path, capsys):
    (tmp_path / "two.py").write_text(SWEEP)
    assert cli.main(["run", str(tmp_path / "two.py"), "--processes", "2"]) == 2
    assert "--coordinator: given in part" in capsys.readouterr().err
