"""Workers on this machine: the rows of a single process, whatever happens to the workers."""

import os
import signal
from pathlib import Path

import pytest

from processes import finish, start, stored
from support import rows_of, wait_for

pytestmark = pytest.mark.slow

TINY_FOUR = """
import jax.numpy as jnp
from aejax import Sweep
COMMON = {"dataset": "digits", "epochs": 3, "batch_size": 128, "seeds": (0, 1)}
SWEEPS = [
    Sweep(**COMMON, widths=(6, 2), hyper={"learning_rate": (0.01, 0.003), "l2": 0.0}),
    Sweep(**COMMON, widths=(3,), hyper={"learning_rate": 0.01, "l2": 0.0}),
    Sweep(**COMMON, widths=(6, 4), hyper=({"learning_rate": 0.01, "l2": 0.1, "codings": 2},
                                          {"learning_rate": 0.1, "l2": 0.0, "codings": 4})),
    Sweep(**COMMON, widths=(6, 3), hyper={"learning_rate": 0.01, "l2": 0.0}, activation=lambda x: jnp.maximum(x, 0.1)),
]
"""
LONG = """
from aejax import Sweep
COMMON = {"dataset": "digits", "epochs": 1200, "batch_size": 128, "seeds": (0, 1)}
SWEEPS = [Sweep(**COMMON, widths=(8, k), hyper={"learning_rate": 0.01, "l2": 0.0}) for k in (2, 3)]
"""
DEADLY = """
import os, signal
import jax
from aejax import Sweep
def die():
    os.kill(os.getpid(), signal.SIGKILL)
def kills_where_it_diverges(x):
    jax.lax.cond((abs(x) > 1e6).any(), lambda: jax.debug.callback(die), lambda: None)
    return jax.nn.relu(x)
COMMON = {"dataset": "digits", "epochs": 2, "batch_size": 128}
SWEEPS = [
    Sweep(**COMMON, widths=(5, 3), hyper={"learning_rate": (0.01, 1e20), "l2": 0.0}, label="one of two",
          activation=kills_where_it_diverges),
    Sweep(**COMMON, widths=(5, 4), hyper={"learning_rate": 0.01, "l2": 0.0}),
]
"""


def workers_of(process):
    """Process ids of the workers."""
    workers = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            stat = (path / "stat").read_text()
            command = (path / "cmdline").read_text()
        except OSError:
            continue
        if stat.rpartition(")")[2].split()[1] == str(process.pid) and "aejax.runner.remote" in command:
            workers.append(int(path.name))
    return workers


@pytest.fixture(scope="module")
def long_here(tmp_path_factory):
    """The rows of LONG, trained by one process."""
    folder = tmp_path_factory.mktemp("long")
    finish(start(LONG, folder))
    return stored(folder / "x")


def test_two_workers_give_the_rows_of_one_process(tmp_path):
    finish(start(TINY_FOUR, tmp_path / "here"))
    errors = finish(start(TINY_FOUR, tmp_path / "pool", "--on", "pool", "--workers", "2"))
    assert "12 runs on a pool of 2 workers with NPROC=1" in errors
    here = stored(tmp_path / "here/x")
    pool = stored(tmp_path / "pool/x")
    assert len(here) == 12
    assert pool == here
    assert {row["provenance"]["threads"] for row in rows_of(tmp_path / "pool/x")} == {1}
    assert not any((tmp_path / "pool/x/states").glob("*"))


def test_a_worker_that_is_killed_is_replaced_and_no_run_is_lost(tmp_path, long_here):
    process = start(LONG, tmp_path, "--on", "pool", "--workers", "2", "--save-every", "0.2")
    wait_for(lambda: any((tmp_path / "x/states").glob("[!.]*/[!.]*")) or process.poll() is not None)
    os.kill(workers_of(process)[0], signal.SIGKILL)
    errors = finish(process)
    assert "worker killed by signal 9; 2 runs: try 2 of 3" in errors
    assert stored(tmp_path / "x") == long_here
    assert not any((tmp_path / "x/states").glob("*"))


def test_ctrl_c_stops_the_pool_and_the_same_command_continues(tmp_path, long_here):
    arguments = ("--on", "pool", "--workers", "2", "--save-every", "0.2")
    process = start(LONG, tmp_path, *arguments)
    wait_for(lambda: any((tmp_path / "x/states").glob("[!.]*/[!.]*")))
    workers = workers_of(process)
    process.send_signal(signal.SIGINT)
    assert "stopping after this chunk" in finish(process, 130)
    assert len(rows_of(tmp_path / "x")) < 4
    assert any((tmp_path / "x/states").glob("[!.]*/[!.]*"))
    assert not any(Path(f"/proc/{worker}").exists() for worker in workers)
    finish(start(LONG, tmp_path, *arguments))
    assert stored(tmp_path / "x") == long_here


def test_workers_leave_with_a_driver_that_is_killed(tmp_path):
    process = start(LONG, tmp_path, "--on", "pool", "--workers", "2", "--set", "epochs=1000000")
    wait_for(lambda: len(workers_of(process)) == 2)
    workers = workers_of(process)
    process.kill()
    process.messages()
    wait_for(lambda: not any(Path(f"/proc/{worker}").exists() for worker in workers))


def test_a_run_that_kills_its_worker_fails_and_harms_no_other(tmp_path):
    errors = finish(start(DEADLY, tmp_path, "--on", "pool", "--workers", "2"), 3)
    rows = {(row["codings"], row["hyper"]["learning_rate"]): row for row in rows_of(tmp_path / "x")}
    failed = rows.pop((3, 1e20))
    assert (failed["status"], failed["reason"]) == ("failed", "worker killed by signal 9, 3 times"), errors
    assert failed["sse_test"] is None
    assert {key: row["status"] for key, row in rows.items()} == {(3, 0.01): "completed", (4, 0.01): "completed"}
