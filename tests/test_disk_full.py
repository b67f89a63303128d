"""Real full and read-only disks: a one-line error, exit code 5, no finished run lost, no temporary file left."""

import errno
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

import small_disk
from aejax.runtime.errors import MachineError
from aejax.storage import run_folders

pytestmark = pytest.mark.slow

FULL = r"(\S+): no space left on device: (\d+) bytes needed, (\d+) free; free space .*"


def run_on_small_disk(mount_point, command):
    """What tests/small_disk.py prints for a command. Skips the test if this system forbids mounting a disk."""
    unshare = shutil.which("unshare")
    in_namespace = [] if unshare is None else [unshare, *(["-m"] if os.geteuid() == 0 else ["-rm"])]
    mount = ["mount", "-t", "tmpfs", "tmpfs", str(mount_point)]
    if not in_namespace or subprocess.run([*in_namespace, *mount], capture_output=True).returncode:
        pytest.skip("this system does not let us mount a disk")
    script = [*in_namespace, sys.executable, small_disk.__file__, str(mount_point), command]
    done = subprocess.run(script, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout) | {"mount_point": str(mount_point)}


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    """The outcomes of `small_disk.main`."""
    return run_on_small_disk(tmp_path_factory.mktemp("disk"), "main")


def test_a_sweep_on_a_full_disk_keeps_finished_runs_and_continues_on_a_larger_disk(tmp_path):
    (tmp_path / "disk").mkdir()
    outcomes = run_on_small_disk(tmp_path / "disk", "sweep")
    small = outcomes["small"]
    assert small["code"] == 5, small
    message = re.fullmatch(f"aejax: error: {FULL}", small["errors"][-1])
    assert message, small["errors"]
    assert message[1].startswith(f"{outcomes['mount_point']}/results/sweep/runs/")
    assert int(message[2]) > int(message[3]) > 0
    assert (small["widths"], small["rows"], small["left"]) == ([[3]], 1, [])
    grown = outcomes["grown"]
    assert grown["code"] == 0, grown
    assert "1 trained, 1 were stored already" in grown["out"]
    assert (sorted(grown["widths"]), grown["rows"], grown["left"]) == ([[3], [3000, 3]], 2, [])


ATTEMPTS = [f"{write}, too big" for write in ("a new run", "a run again", "a state", "a file")]
ATTEMPTS += [f"{write}, full" for write in ("a new run", "a run again", "a state", "a file", "the index")]


@pytest.mark.parametrize("attempt", ATTEMPTS)
def test_the_error_on_a_full_disk_names_the_path_and_the_needed_and_free_bytes(outcomes, attempt):
    outcome = outcomes[attempt]
    assert (outcome["kind"], outcome["code"]) == ("MachineError", 5), outcome
    message = re.fullmatch(FULL, outcome["text"])
    assert message, outcome["text"]
    assert message[1].startswith(f"{outcomes['mount_point']}/results/x/")
    needed = int(message[2])
    free = int(message[3])
    assert free == outcome["free"]
    assert needed > free
    assert (needed >= small_disk.SIZE) == (attempt != "the index, full")
    assert ("too big" in attempt) == (free > 0)


def test_a_full_disk_loses_nothing_and_no_temporary_file_is_left(outcomes):
    assert (outcomes["left"], outcomes["lost"], outcomes["old"]) == ([], [], [1])


def test_the_lock_can_be_taken_on_a_full_disk(outcomes):
    assert outcomes["a lock, full"] == {"kind": None}


def test_work_continues_once_space_is_freed(outcomes):
    assert outcomes["after"] == [3, 2, 30]


def test_a_read_only_disk_is_reported_and_unchanged(outcomes):
    assert len(outcomes["read-only"]) == 9
    message = rf"{outcomes['mount_point']}/results/\S+: read-only; choose a folder you can write to"
    for name, outcome in outcomes["read-only"].items():
        assert (outcome["kind"], outcome["code"]) == ("MachineError", 5), name
        assert re.match(message, outcome["text"]), name
    assert not outcomes["changed"]


def test_a_folder_without_permission_is_reported(tmp_path):
    run_folders.open_folder(tmp_path, "x")  # import everything it needs before giving up root
    user = os.geteuid()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o555)
        try:
            os.seteuid(user or 65534)  # root may write anywhere, so it becomes nobody
            with pytest.raises(MachineError, match="no permission to write"):
                run_folders.open_folder(folder, "x")
        finally:
            os.seteuid(user)
            folder.chmod(0o700)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_an_exceeded_quota_is_reported_as_a_full_disk(tmp_path, monkeypatch, number):
    def fail(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(MachineError, match=r"file: .*: 7 bytes needed, \d+ free; free space"):
        run_folders.write_atomic(tmp_path / "file", b"content")
    assert [*tmp_path.iterdir()] == []
