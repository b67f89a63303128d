"""A full disk and a read-only one, real ones: one line, exit code 5, nothing finished lost, nothing of ours left."""

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

FULL = r"(\S+): no space left on device: (\d+) bytes needed, (\d+) free; free space .*"


def on_a_small_disk(place, what):
    """What aejax said there, as JSON."""
    unshare = shutil.which("unshare")
    own = [] if unshare is None else [unshare, *(["-m"] if os.geteuid() == 0 else ["-rm"])]
    probe = ["mount", "-t", "tmpfs", "tmpfs", str(place)]
    if not own or subprocess.run([*own, *probe], capture_output=True).returncode:
        pytest.skip("this system lets us mount no disk of our own")
    run = [*own, sys.executable, small_disk.__file__, str(place), what]
    done = subprocess.run(run, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout) | {"place": str(place)}


@pytest.fixture(scope="module")
def said(tmp_path_factory):
    """What aejax said on a small disk, by what was tried."""
    return on_a_small_disk(tmp_path_factory.mktemp("disk"), "main")


def test_a_sweep_on_a_full_disk_keeps_what_is_finished_and_goes_on_once_there_is_room(tmp_path):
    (tmp_path / "disk").mkdir()
    said = on_a_small_disk(tmp_path / "disk", "sweep")
    small, grown = said["small"], said["grown"]
    assert small["code"] == 5, small
    told = re.fullmatch(
        r"aejax: error: (\S+): no space left on device: (\d+) bytes needed, (\d+) free; free space .*",
        small["errors"][-1],
    )
    assert told, small["errors"]
    assert told[1].startswith(f"{said['place']}/results/sweep/runs/")
    assert int(told[2]) > int(told[3]) > 0
    assert (small["widths"], small["rows"], small["left"]) == ([[3]], 1, [])
    assert grown["code"] == 0, grown
    assert "1 trained, 1 were stored already" in grown["out"]
    assert (sorted(grown["widths"]), grown["rows"], grown["left"]) == ([[3], [3000, 3]], 2, [])


ATTEMPTS = [f"{what}, too big" for what in ("a new run", "a run again", "a state", "a file")]
ATTEMPTS += [f"{what}, full" for what in ("a new run", "a run again", "a state", "a file", "the index")]


@pytest.mark.parametrize("attempt", ATTEMPTS)
def test_a_full_disk_is_told_with_path_needed_and_free_bytes(said, attempt):
    found = said[attempt]
    assert (found["kind"], found["code"]) == ("MachineError", 5), found
    told = re.fullmatch(FULL, found["text"])
    assert told, found["text"]
    assert told[1].startswith(f"{said['place']}/results/x/")
    needed, free = int(told[2]), int(told[3])
    assert free == found["free"]
    assert needed > free
    assert (needed >= small_disk.SIZE) == (attempt != "the index, full")
    assert ("too big" in attempt) == (free > 0)


def test_a_full_disk_loses_nothing_and_nothing_of_ours_is_left(said):
    assert (said["left"], said["lost"], said["old"]) == ([], [], [1])


def test_a_full_disk_can_still_be_locked(said):
    assert said["a lock, full"] == {"kind": None}


def test_work_goes_on_once_space_is_freed(said):
    assert said["after"] == [3, 2, 30]


def test_a_read_only_disk_is_told_and_left_alone(said):
    assert len(said["read-only"]) == 9
    for name, found in said["read-only"].items():
        assert (found["kind"], found["code"]) == ("MachineError", 5), name
        assert re.match(rf"{said['place']}/results/\S+: read-only; choose a folder you can write to", found["text"]), (
            name
        )
    assert not said["changed"]


def test_a_folder_without_permission_is_told(tmp_path):
    run_folders.open_folder(tmp_path, "x")  # all is imported that it needs
    user = os.geteuid()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o555)
        try:
            os.seteuid(user or 65534)  # root may write anywhere: it is nobody for a moment
            with pytest.raises(MachineError, match="no permission to write"):
                run_folders.open_folder(folder, "x")
        finally:
            os.seteuid(user)
            folder.chmod(0o700)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_quota_is_a_full_disk_too(tmp_path, monkeypatch, number):
    def fail(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(MachineError, match=r"file: .*: 7 bytes needed, \d+ free; free space"):
        run_folders.write_atomic(tmp_path / "file", b"content")
    assert [*tmp_path.iterdir()] == []
