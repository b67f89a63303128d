"""runs.jsonl: every line checked, a damaged one named; a call that computes sees it first, and mends it."""

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
    """Two rows whose run folders are elsewhere."""
    folder = run_folders.open_folder(tmp_path / "results", "x")
    run_folders._write_rows(folder, [ROW, OTHER])
    return folder


@pytest.mark.parametrize("line", [b'{"run_id": tru', b'"run_id"', b'{"run_id": "a"}', b"\xff", b"", b"[]", b"{}"])
def test_a_line_that_is_no_row_is_named(folder, line):
    (folder / "runs.jsonl").write_bytes(json.dumps(ROW).encode() + b"\n" + line + b"\n")
    with pytest.raises(ResultsError, match=r"runs\.jsonl:2: not a row"):
        run_folders.read_index(folder)


def test_a_changed_number_is_named_with_its_line(folder):
    path = folder / "runs.jsonl"
    assert run_folders.read_index(folder) == [ROW, OTHER]
    path.write_text("2.25".join(path.read_text().rsplit("3.25", 1)))
    with pytest.raises(ResultsError, match=r"runs\.jsonl:2: damaged: its SHA-256 is not the line's"):
        run_folders.read_index(folder)


def test_every_single_bit_of_a_line_counts(folder):
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
        assert bytes(data[:-1]) == intact[:-1], f"bit {bit}: {bytes(data)}"  # another end of line


def test_lines_without_a_sum_are_those_of_earlier_versions(folder):
    (folder / "runs.jsonl").write_text("".join(run_folders.to_json(row) + "\n" for row in (ROW, OTHER)))
    assert run_folders.read_index(folder) == [ROW, OTHER]
    assert run_folders.write_index(folder) == [ROW, OTHER]
    assert all(json.loads(line)["sha256"] for line in (folder / "runs.jsonl").read_text().splitlines())


def test_a_damaged_index_is_kept_and_rebuilt_from_what_is_whole(folder):
    path, told = folder / "runs.jsonl", []
    intact = path.read_bytes()
    path.write_bytes(intact.replace(b"3.25", b"2.25", 1))
    with pytest.raises(ResultsError):
        run_folders.write_index(folder)
    assert run_folders.write_index(folder, told.append) == [OTHER]
    assert len(told) == 1
    assert "runs.jsonl:1: damaged" in told[0]
    assert "kept as runs.jsonl.corrupt" in told[0]
    assert (folder / "runs.jsonl.corrupt").read_bytes() == intact.replace(b"3.25", b"2.25", 1)
    assert run_folders.write_index(folder, told.append) == [OTHER]
    assert len(told) == 1
    path.write_bytes(b"no row\n")
    assert run_folders.write_index(folder, told.append) == []
    assert (folder / "runs.jsonl.corrupt-2").read_bytes() == b"no row\n"


def spoilt(finished, tmp_path):
    """A copy of a finished experiment whose index has a changed number, and of which one run is to be trained."""
    shutil.copytree(finished.parent, tmp_path / "results")
    folder = tmp_path / "results" / "tiny"
    path, rows = folder / "runs.jsonl", run_folders.read_index(folder)
    lines = path.read_text().splitlines(keepends=True)
    path.write_text(lines[0].replace('"seed": ', '"seed": 1') + "".join(lines[1:]))
    shutil.rmtree(folder / "runs" / rows[-1]["run_id"])
    return folder, rows, lines


def test_a_sweep_mends_a_damaged_index_before_it_computes(tiny, finished, tmp_path, capsys, monkeypatch):
    folder, rows, lines = spoilt(finished, tmp_path)
    train_block = loop.train_block

    def after_it_was_mended(*arguments, **options):
        assert len(run_folders.read_index(folder)) == 2
        return train_block(*arguments, **options)

    monkeypatch.setattr(loop, "train_block", after_it_was_mended)
    assert cli.main(["run", str(tiny), "--results", str(folder.parent)]) == 0
    said = capsys.readouterr()
    assert "1 trained, 2 were stored already" in said.out
    assert f"warning: {folder / 'runs.jsonl'}:1: damaged" in said.err
    assert (folder / "runs.jsonl.corrupt").is_file()
    assert (folder / "runs.jsonl").read_text().splitlines(keepends=True)[:2] == lines[:2]
    assert [row["run_id"] for row in run_folders.read_index(folder)] == [row["run_id"] for row in rows]


def test_reading_commands_name_the_line_and_change_nothing(finished, tmp_path, capsys):
    folder, _, _ = spoilt(finished, tmp_path)
    before = sorted(path.name for path in folder.iterdir())
    check_refused(capsys, ["ls", folder], 4, "runs.jsonl:1: damaged")
    assert sorted(path.name for path in folder.iterdir()) == before
    assert cli.main(["report", str(folder)]) == 0
    assert "runs.jsonl:1: damaged" in capsys.readouterr().err
    assert (folder / "runs.jsonl.corrupt").is_file()


def test_what_stopped_a_sweep_is_what_it_says(tiny, tmp_path, capsys, monkeypatch):
    """Writing the index fails, too, while it stops: the first reason is told with its code, the second warned of."""

    def stop(*_, **__):
        monkeypatch.setattr(run_folders, "write_index", full)
        raise Interrupted(15)

    def full(folder, *_):
        raise MachineError(str(folder), "no space left on device", "free space")

    monkeypatch.setattr(loop, "train_block", stop)
    assert cli.main(["run", str(tiny), "--results", str(tmp_path / "results")]) == 143
    said = capsys.readouterr().err
    assert "warning: " in said
    assert "no space left on device" in said
    assert said.splitlines()[-1].startswith("aejax: interrupted")
