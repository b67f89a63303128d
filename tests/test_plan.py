"""`aejax run --dry-run`: programs, members, what is stored and missing, memory; nothing is written or compiled."""

import re
import shutil

import pytest

from aejax import Sweep, cli
from aejax.datasets import load
from aejax.runner import jobs
from aejax.training import population
from aejax.training.layout import make_layout

HEADERS = ["codings", "parameters", "members", "stored", "to train", "steps", "memory"]


def plan_of(capsys, *arguments):
    """The cells of each line of the table by what the line is of, and the line below it."""
    assert cli.main(["run", *map(str, arguments), "--dry-run"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert all(len(line) <= 80 for line in lines[:-1])
    assert re.split(" {2,}", lines[1].strip()) == HEADERS
    cells = [re.split(" {2,}", line) for line in lines[2:-1]]
    return {label: dict(zip(HEADERS, numbers, strict=True)) for label, *numbers in cells}, lines[-1]


def test_a_plan_of_nothing_stored(tiny, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(population, "compile_population", None)
    jobs_by_label, summary = plan_of(capsys, tiny, "--results", tmp_path / "results")
    stacked = jobs_by_label["stacked"]
    linear = jobs_by_label["linear"]
    encoder = 64 * 6 + 6 + 6 * 2 + 2
    decoder = 2 * 6 + 6 + 6 * 64 + 64
    assert (stacked["codings"], stacked["parameters"]) == ("2", str(encoder + decoder))
    assert [stacked[name] for name in ("members", "stored", "to train")] == ["2", "0", "2"]
    assert [linear[name] for name in ("members", "stored", "to train")] == ["1", "0", "1"]
    assert stacked["steps"] == str(2 * -(-1258 // 128))
    assert summary.startswith("2 programs to compile, 3 runs to train, 0 stored already; at most about ")
    assert [path.name for path in tmp_path.iterdir()] == ["tiny.py"]


def test_a_plan_counts_what_is_stored_and_changes_nothing(tiny, finished, tmp_path, capsys):
    folder = shutil.copytree(finished, tmp_path / "results/tiny")
    (folder / "runs/.partial-abc").mkdir()
    before = sorted((str(path), path.stat().st_mtime_ns) for path in folder.rglob("*"))
    planned, summary = plan_of(capsys, tiny, "--results", folder.parent, "--set", "seeds=0,1,2,3")
    assert [planned["stacked"][name] for name in ("members", "stored", "to train")] == ["4", "2", "2"]
    assert [planned["linear"][name] for name in ("members", "stored", "to train")] == ["4", "1", "3"]
    assert summary.startswith("2 programs to compile, 5 runs to train, 3 stored already")
    _, summary = plan_of(capsys, tiny, "--results", folder.parent)
    assert summary.startswith("0 programs to compile, 0 runs to train, 3 stored already; at most about 0 MiB")
    assert sorted((str(path), path.stat().st_mtime_ns) for path in folder.rglob("*")) == before


@pytest.mark.parametrize(("how", "most"), [("vmap", 2), ("map", 6)])
@pytest.mark.parametrize("fields", [{"widths": (6, 2)}, {"widths": (64, 8), "tied": True, "batch_size": None}])
def test_the_memory_that_a_plan_gives_is_about_what_the_program_takes(how, most, fields):
    """It is of all members at once, as in a vmap; a map, which computes one at a time, takes less."""
    one = Sweep(**{"dataset": "digits", "epochs": 2, "batch_size": 128, **fields}, hyper=HYPER, seeds=(0, 1, 2, 3))
    loaded = {("digits", 0): load("digits")}
    (job,) = jobs.plan([one], loaded, lambda run_id: None)
    line = jobs.describe(job)
    layout = make_layout(how, 4, devices=1)
    taken = population.compile_population(job.spec, layout).device_bytes
    assert taken / 2 < line["bytes"] < taken * most


HYPER = {"learning_rate": 0.01, "l2": 0.0}
