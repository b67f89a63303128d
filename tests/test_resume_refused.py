"""A state is resumed only by the config, data, format and machine class that saved it."""

import shutil

import numpy as np
import pytest

from aejax import cli
from aejax.runner import jobs
from aejax.runtime.signals import Interrupted
from aejax.storage import checkpoints, run_folders
from aejax.training import loop

ONE = """
from aejax import Sweep
SWEEPS = [Sweep(dataset="file:{data}", widths=(3,), epochs=40, batch_size=20,
                hyper={{"learning_rate": 0.01, "l2": 0.0}})]
"""


@pytest.fixture
def seen(monkeypatch):
    """Blocks as they were trained; stops the first one in its second chunk."""
    train_block = loop.train_block
    blocks = []
    chunks = []

    def watched(*arguments, report, **options):
        def second(progress):
            report(progress)
            chunks.append(progress.step)
            if len(chunks) == 2:
                raise Interrupted(15)

        blocks.append(train_block(*arguments, report=second, chunk_seconds=0.001, **options))
        return blocks[-1]

    monkeypatch.setattr(loop, "train_block", watched)
    return blocks


@pytest.fixture
def stopped(tmp_path, seen):
    """A command whose training was interrupted, and the folder of its only state."""
    rows = np.random.default_rng(0).normal(size=(60, 6))
    np.save(tmp_path / "own.npy", rows)
    (tmp_path / "one.py").write_text(ONE.format(data=tmp_path / "own.npy"))
    command = ["run", str(tmp_path / "one.py"), "--results", str(tmp_path / "results")]
    assert cli.main(command) == 143
    (state,) = (tmp_path / "results/one/states").iterdir()
    assert len(list(state.iterdir())) == 1
    return command, state, rows


def check_not_used(command, state, seen, capsys, *parts):
    """The command trains from the start and says why; the state is kept for the command that it is of."""
    before = {path: path.read_bytes() for path in state.rglob("*") if path.is_file()}
    capsys.readouterr()
    assert cli.main(command) == 0
    said = capsys.readouterr().err
    for part in (f"states/{state.name}: of another sweep: ", *parts, "kept, and not used"):
        assert part in said
    assert [block.resumed_step for block in seen] == [0]
    assert {path: path.read_bytes() for path in state.rglob("*") if path.is_file()} == before
    seen.clear()


@pytest.mark.slow
def test_another_config(stopped, seen, capsys):
    command, state, _ = stopped
    changed = [*command, "--set", "epochs=3", "--set", "batch_size=10"]
    check_not_used(changed, state, seen, capsys, "config.epochs: 40 stored, 3 asked", "config.batch_size: 20 stored")
    assert cli.main(command) == 0
    assert "of another sweep" not in capsys.readouterr().err
    assert seen[0].resumed_step > 0
    assert not list(state.parent.iterdir())


def test_other_data_under_the_same_name(stopped, seen, capsys, tmp_path):
    command, state, rows = stopped
    np.save(tmp_path / "own.npy", rows + 1e-3)
    check_not_used(command, state, seen, capsys, 'data: "', "stored", "asked")


def test_another_format(stopped, seen, capsys, monkeypatch):
    command, state, _ = stopped
    with monkeypatch.context() as patch:
        patch.setattr(run_folders, "FORMAT", run_folders.FORMAT + 1)
        check_not_used(
            command, state, seen, capsys, f"format: {run_folders.FORMAT - 1} stored, {run_folders.FORMAT} asked"
        )
    capsys.readouterr()
    assert cli.main(command) == 2, "the run is of a newer format than this aejax reads"
    said = capsys.readouterr().err
    assert f"format {run_folders.FORMAT + 1}, this aejax reads up to {run_folders.FORMAT}" in said


def test_another_class_of_machine(stopped, seen, capsys, monkeypatch):
    """Going on from it would give bits of neither."""
    command, state, _ = stopped
    here = jobs.machine_class()
    before = {path: path.read_bytes() for path in state.rglob("*") if path.is_file()}
    with monkeypatch.context() as patch:
        patch.setattr(jobs, "machine_class", lambda: here | {"threads": here["threads"] + 1, "processes": 2})
        seen.clear()
        capsys.readouterr()
        assert cli.main(command) == 0
    said = capsys.readouterr().err
    assert f"states/{state.name}: saved on another class of machine: " in said
    assert f"machine.threads: {here['threads']} stored, {here['threads'] + 1} asked" in said
    assert "machine.processes: 1 stored, 2 asked; kept, and not used" in said
    assert "platform" not in said
    assert [block.resumed_step for block in seen] == [0]
    assert {path: path.read_bytes() for path in state.rglob("*") if path.is_file()} == before
    assert cli.main(command) == 0
    assert not list(state.parent.iterdir()), "its run is stored: nobody will go on from it"


def spoil(state):
    """Damage the arrays of a state's only step, and leave what says whose they are."""
    (arrays,) = state.glob("*/state.safetensors")
    data = bytearray(arrays.read_bytes())
    data[-1] ^= 1
    arrays.write_bytes(data)


def test_a_state_beyond_repair_stops_only_the_sweep_that_it_is_of(stopped, seen, capsys):
    command, state, _ = stopped
    spoil(state)
    seen.clear()
    capsys.readouterr()
    other = [*command, "--set", "epochs=3"]
    assert cli.main(other) == 0
    assert (
        f"states/{state.name}: states were saved, and none is valid; of another sweep or machine"
        in capsys.readouterr().err
    )
    assert [block.resumed_step for block in seen] == [0]
    for _ in range(2):
        assert cli.main(command) == 4
        assert "none is valid; delete that folder to train from the start" in capsys.readouterr().err
    (head,) = state.glob("*/state.json")
    head.write_text(head.read_text().replace('"epochs": 40', '"epochs": 41'))  # now nobody knows whose it is
    assert cli.main(other) == 4
    assert len(seen) == 1


def test_again_trains_from_the_start(stopped, seen, capsys):
    """Also where a call was killed between the last run of a block and the end of its state."""
    command, state, _ = stopped
    seen.clear()
    assert cli.main([*command, "--again"]) == 0
    assert [block.resumed_step for block in seen] == [0]
    assert not list(state.parent.iterdir())


def test_again_leaves_the_state_of_other_members_alone(stopped, seen, capsys):
    command, state, _ = stopped
    seen.clear()
    assert cli.main([*command, "--again", "--set", "seeds=7"]) == 0
    assert [block.resumed_step for block in seen] == [0]
    assert list(state.glob("*/manifest.json"))
    assert cli.main(command) == 0
    assert seen[1].resumed_step > 0
    assert not list(state.parent.iterdir())


def test_a_damaged_state_of_stored_runs_stops_no_call(stopped, seen, capsys, tmp_path):
    command, state, _ = stopped
    shutil.copytree(state, tmp_path / "copy")
    assert cli.main(command) == 0
    shutil.copytree(tmp_path / "copy", state)
    spoil(state)
    assert cli.main(command) == 0
    assert len(list(state.parent.glob(".corrupt-*"))) == 1


def test_a_state_of_a_newer_format(stopped, capsys, monkeypatch):
    command, state, _ = stopped
    monkeypatch.setattr(checkpoints, "FORMAT", 0)
    assert cli.main(command) == 2
    assert "format 1, this aejax reads up to 0" in capsys.readouterr().err
    assert len(list(state.iterdir())) == 1
