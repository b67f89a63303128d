"""The index runs.jsonl: every line is checked, damage is reported, and a sweep repairs it before it computes."""

import json
import shutil

import pytest

from aejax import cli
from aejax.runtime.errors import MachineError, ResultsError
from aejax.runtime.signals import Interrupted
from aejax.storage import run_folders
from aejax.storage.run_folders import FORMAT
from aejax.training import loop
from support import check_refused

ROW = {"format": FORMAT, "run_id": "0123456789ab", "dataset": "d", "label": "l", "codings": 2}
ROW |= {"hyper": {"l2": 1e-4}, "seed": 0, "sse_test": 3.25, "name": "größe", "execution": None}
OTHER = {**ROW, "run_id": "f" * 12, "seed": 1}


@pytest.fixture
def folder(tmp_path):
    """A results folder with two rows in its index, and no run folders."""
    folder = run_folders.open_folder(tmp_path / "results", "x")
    run_folders._write_rows(folder, [ROW, OTHER])
    return folder


@pytest.mark.parametrize("line", [b'{"run_id": tru', b'"run_id"', b'{"run_id": "a"}', b"\xff", b"", b"[]", b"{}"])
def test_a_line_that_is_not_a_row_is_reported_by_number(folder, line):
    (folder / "runs.jsonl").write_bytes(json.dumps(ROW).encode() + b"\n" + line + b"\n")
    with pytest.raises(ResultsError, match=r"runs\.jsonl:2: not a row"):
        run_folders.read_index(folder)


def test_a_changed_number_is_reported_with_its_line(folder):
    path = folder / "runs.jsonl"
    assert run_folders.read_index(folder) == [ROW, OTHER]
    path.write_text("2.25".join(path.read_text().rsplit("3.25", 1)))
    with pytest.raises(ResultsError, match=r"runs\.jsonl:2: damaged: its SHA-256 is not the line's"):
        run_folders.read_index(folder)


def test_every_flipped_bit_of_a_line_is_detected(folder):
    path = folder / "runs.jsonl"
    intact = path.read_bytes().splitlines(keepends=True)[0]
    for bit in range(8 * len(intact)):
        data = bytearray(intact)
        data[bit // 8] ^= 1 << (bit % 8)
        path.write_bytes(data)
        try:
            assert run_folders.read_index(folder) == [ROW], f"bit {bit}: {bytes(data)}"
        except ResultsError:
            continue
        assert bytes(data[:-1]) == intact[:-1], f"bit {bit}: {bytes(data)}"  # only the line ending changed


def test_lines_of_earlier_versions_without_a_checksum_are_read(folder):
    (folder / "runs.jsonl").write_text("".join(run_folders.to_json(row) + "\n" for row in (ROW, OTHER)))
    assert run_folders.read_index(folder) == [ROW, OTHER]
    assert run_folders.write_index(folder) == [ROW, OTHER]
    assert all(json.loads(line)["sha256"] for line in (folder / "runs.jsonl").read_text().splitlines())


def test_a_damaged_index_is_kept_and_rebuilt_from_its_valid_lines(folder):
    path = folder / "runs.jsonl"
    warnings = []
    intact = path.read_bytes()
    path.write_bytes(intact.replace(b"3.25", b"2.25", 1))
    with pytest.raises(ResultsError):
        run_folders.write_index(folder)
    assert run_folders.write_index(folder, warnings.append) == [OTHER]
    assert len(warnings) == 1
    assert "runs.jsonl:1: damaged" in warnings[0]
    assert "kept as runs.jsonl.corrupt" in warnings[0]
    assert (folder / "runs.jsonl.corrupt").read_bytes() == intact.replace(b"3.25", b"2.25", 1)
    assert run_folders.write_index(folder, warnings.append) == [OTHER]
    assert len(warnings) == 1
    path.write_bytes(b"no row\n")
    assert run_folders.write_index(folder, warnings.append) == []
    assert (folder / "runs.jsonl.corrupt-2").read_bytes() == b"no row\n"


def damaged_copy(finished, tmp_path):
    """A copy of a finished experiment with a changed number in its index and one run folder deleted.

    Returns the folder, the rows and the lines of the index before the damage.
    """
    shutil.copytree(finished.parent, tmp_path / "results")
    folder = tmp_path / "results" / "tiny"
    path = folder / "runs.jsonl"
    rows = run_folders.read_index(folder)
    lines = path.read_text().splitlines(keepends=True)
    path.write_text(lines[0].replace('"seed": ', '"seed": 1') + "".join(lines[1:]))
    shutil.rmtree(folder / "runs" / rows[-1]["run_id"])
    return folder, rows, lines


@pytest.mark.slow
def test_a_sweep_repairs_a_damaged_index_before_it_trains(tiny, finished, tmp_path, capsys, monkeypatch):
    folder, rows, lines = damaged_copy(finished, tmp_path)
    train_block = loop.train_block

    def check_index_and_train(*arguments, **options):
        assert len(run_folders.read_index(folder)) == 2
        return train_block(*arguments, **options)

    monkeypatch.setattr(loop, "train_block", check_index_and_train)
    assert cli.main(["run", str(tiny), "--results", str(folder.parent)]) == 0
    output = capsys.readouterr()
    assert "1 trained, 2 were stored already" in output.out
    assert f"warning: {folder / 'runs.jsonl'}:1: damaged" in output.err
    assert (folder / "runs.jsonl.corrupt").is_file()
    assert (folder / "runs.jsonl").read_text().splitlines(keepends=True)[:2] == lines[:2]
    assert [row["run_id"] for row in run_folders.read_index(folder)] == [row["run_id"] for row in rows]


def test_reading_commands_report_the_line_and_change_nothing(finished, tmp_path, capsys):
    folder, _, _ = damaged_copy(finished, tmp_path)
    before = sorted(path.name for path in folder.iterdir())
    check_refused(capsys, ["ls", folder], 4, "runs.jsonl:1: damaged")
    assert sorted(path.name for path in folder.iterdir()) == before
    assert cli.main(["report", str(folder)]) == 0
    assert "runs.jsonl:1: damaged" in capsys.readouterr().err
    assert (folder / "runs.jsonl.corrupt").is_file()


def test_the_first_reason_to_stop_decides_the_exit_code(tiny, tmp_path, capsys, monkeypatch):
    """A sweep is interrupted, and then writing the index fails too: it exits as interrupted and warns of the other."""

    def stop(*_, **__):
        monkeypatch.setattr(run_folders, "write_index", fail)
        raise Interrupted(15)

    def fail(folder, *_):
        raise MachineError(str(folder), "no space left on device", "free space")

    monkeypatch.setattr(loop, "train_block", stop)
    assert cli.main(["run", str(tiny), "--results", str(tmp_path / "results")]) == 143
    errors = capsys.readouterr().err
    assert "warning: " in errors
    assert "no space left on device" in errors
    assert errors.splitlines()[-1].startswith("aejax: interrupted")
