"""The lock of a results folder, between real processes: one writer at a time."""

import contextlib
import errno
import fcntl
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path

import pytest

from aejax import cli
from aejax.runtime.errors import MachineError, ResultsError
from aejax.storage import lock, run_folders
from support import check_refused

HOLDER = """
import os, subprocess, sys, time
from pathlib import Path
from aejax.storage import lock
with lock.hold(Path(sys.argv[1])):
    child = 0
    if "fork" in sys.argv:
        child = os.fork()
    if "spawn" in sys.argv:
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], close_fds=False).pid
    if child or "fork" not in sys.argv:
        print(child, flush=True)
    time.sleep(60)
"""


@pytest.fixture
def folder(tmp_path):
    return run_folders.open_folder(tmp_path / "results", "x")


@contextlib.contextmanager
def holding_process(folder, *options):
    """Start a process that holds the lock of the folder. Yields it and the id of its child, 0 without a child."""
    process = subprocess.Popen([sys.executable, "-c", HOLDER, str(folder), *options], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    child = int(process.stdout.readline())
    try:
        yield process, child
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
        if child:
            os.kill(child, signal.SIGKILL)


def test_a_second_writer_is_refused_at_once_with_an_error_that_names_the_first(folder):
    with holding_process(folder) as (process, _):
        start = time.monotonic()
        with pytest.raises(ResultsError) as caught, lock.hold(folder):
            pass
        assert time.monotonic() - start < 2
        started = json.loads((folder / ".lock").read_text())["started"]
        for part in (f"process {process.pid} ", f" on {socket.gethostname()} ", started, str(folder)):
            assert part in str(caught.value)
        assert caught.value.exit_code == 4


@pytest.mark.parametrize("option", ["alone", "fork", "spawn"])
def test_a_dead_holder_does_not_block_even_if_its_child_lives(folder, option):
    with holding_process(folder, option) as (process, child):
        process.kill()
        process.wait()
        if child:
            os.kill(child, 0)  # raises if the child is dead
        start = time.monotonic()
        with lock.hold(folder):
            assert time.monotonic() - start < 2
            assert json.loads((folder / ".lock").read_text())["pid"] == os.getpid()


def test_the_lock_file_holds_process_host_and_start_time(folder):
    with lock.hold(folder):
        record = json.loads((folder / ".lock").read_text())
    assert record.keys() == {"pid", "host", "started"}
    assert (record["pid"], record["host"]) == (os.getpid(), socket.gethostname())
    assert abs(datetime.fromisoformat(record["started"]).timestamp() - time.time()) < 60


def test_a_lock_file_of_an_earlier_version_is_read(folder):
    """Earlier versions also wrote how many seconds of work were saved and unsaved."""
    record = b'{"pid": 7, "host": "h", "started": "t", "unsaved_seconds":   12.500, "kept_seconds":   60.500}\n'
    (folder / ".lock").write_bytes(record)
    lock.raise_if_held(folder)
    with lock.if_unheld(folder) as is_unheld:
        assert is_unheld
    with lock.hold(folder):
        assert json.loads((folder / ".lock").read_text()).keys() == {"pid", "host", "started"}
        (folder / ".lock").write_bytes(record)
        with pytest.raises(ResultsError, match="in use by process 7 on h since t;"), lock.hold(folder):
            pass
        with pytest.raises(ResultsError, match="in use by process 7 on h since t;"):
            lock.raise_if_held(folder)


@pytest.mark.parametrize("record", [b"", b"{", b"\xff" * 200, b"[]", b"null", b"9" * 5000, b"[" * 4000, b'{"pid": 1}'])
def test_an_unreadable_lock_file_is_replaced(folder, record):
    (folder / ".lock").write_bytes(record)
    with lock.hold(folder):
        assert json.loads((folder / ".lock").read_text())["pid"] == os.getpid()
        with pytest.raises(ResultsError, match=f"in use by process {os.getpid()} "), lock.hold(folder):
            pass
        (folder / ".lock").write_bytes(record)
        with pytest.raises(ResultsError, match="in use by another process"), lock.hold(folder):
            pass
    with lock.hold(folder):
        pass


SLOW_DATA = """
import sys, time
from pathlib import Path
from aejax import cli, datasets
from aejax.cli import progress
from aejax.config import experiment_file, overrides
from aejax.reporting import tensorboard
from aejax.runner import remote, run_experiment
datasets.load = lambda *_: time.sleep(60)
start = time.monotonic()
code = cli.main(["run", sys.argv[1], "--results", sys.argv[2]])
print(code, time.monotonic() - start)
"""


def test_a_second_sweep_is_refused_before_it_reads_data(tiny, tmp_path):
    """Loading the data would take the second process a minute. Its time is counted after all imports."""
    folder = run_folders.open_folder(tmp_path / "results", "tiny")
    with holding_process(folder) as (process, _):
        command = [sys.executable, "-c", SLOW_DATA, tiny, folder.parent]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=50)
        code, seconds = done.stdout.split()
        assert (int(code), float(seconds) < 2) == (4, True), done
        assert f"in use by process {process.pid} " in done.stderr


def test_report_is_refused_while_a_sweep_holds_the_lock(finished, tmp_path, capsys):
    folder = shutil.copytree(finished, tmp_path / "tiny")
    (folder / "summary.md").write_text("written by the running sweep")
    with holding_process(folder) as (process, _):
        check_refused(capsys, ["report", folder], 4, f"in use by process {process.pid} ")
    assert (folder / "summary.md").read_text() == "written by the running sweep"
    assert cli.main(["report", str(folder)]) == 0


def test_the_lock_file_is_kept_and_reused(folder):
    inodes = set()
    for _ in range(3):
        with lock.hold(folder):
            pass
        inodes.add((folder / ".lock").stat().st_ino)
    assert len(inodes) == 1


def test_opening_a_held_folder_keeps_the_unfinished_writes_of_its_holder(folder):
    partial = folder / "runs" / ".partial-abc"
    with lock.hold(folder):
        partial.mkdir()
        run_folders.open_folder(folder.parent, folder.name)
        assert partial.is_dir()
    with lock.hold(folder):
        assert not partial.exists()


def test_a_writer_waits_for_a_process_that_only_clears_leftovers(folder):
    (folder / ".lock").touch()
    code = """
import sys, time
from pathlib import Path
from aejax.storage import lock
with lock.if_unheld(Path(sys.argv[1])) as is_unheld:
    print(is_unheld, flush=True)
    time.sleep(0.2)
"""
    with subprocess.Popen([sys.executable, "-c", code, folder], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "True\n"
        with lock.hold(folder):
            pass


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_reported(folder, monkeypatch, number):
    def fail(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", fail)
    with pytest.raises(MachineError, match="no file locks"), lock.hold(folder):
        pass


def test_a_lock_file_that_is_a_link_is_not_followed(folder, tmp_path):
    (tmp_path / "mine").write_text("mine")
    (folder / ".lock").symlink_to(tmp_path / "mine")
    with pytest.raises(MachineError), lock.hold(folder):
        pass
    assert (tmp_path / "mine").read_text() == "mine"


def test_an_absent_folder_is_reported(tmp_path):
    with pytest.raises(MachineError, match="no such file"), lock.hold(tmp_path / "absent"):
        pass


def test_no_file_handle_stays_open(folder):
    handles = Path("/dev/fd")  # exists on every system with fcntl locks
    before = len([*handles.iterdir()])
    for _ in range(5):
        with lock.hold(folder), pytest.raises(ResultsError), lock.hold(folder):
            pass
    assert len([*handles.iterdir()]) == before
