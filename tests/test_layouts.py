"""Which layout a continued sweep gets: that of its stored runs, unless it says nothing about many runs."""

import pytest

from aejax import Sweep
from aejax.runner import jobs, run_experiment
from aejax.training import loop

pytestmark = pytest.mark.slow

HYPER = {"learning_rate": 0.01, "l2": 0.0}


def sweep(*seeds, **fields):
    return Sweep(dataset="plane3d", widths=(2,), epochs=2, batch_size=50, hyper=HYPER, seeds=seeds, **fields)


def run(root, *sweeps, **options):
    """How each run was executed, by seed."""
    rows = run_experiment.execute("x", sweeps, root=root, **options).rows
    return {row["seed"]: row["execution"] for row in rows}


def test_a_continued_sweep_keeps_the_width_of_its_vmap(tmp_path):
    assert run(tmp_path, sweep(0, 1, 2), how="vmap")[2]["width"] == 3
    continued = run(tmp_path, sweep(*range(8)), how="vmap")
    assert {execution["width"] for execution in continued.values()} == {3}
    fresh = run(tmp_path / "fresh", sweep(*range(8)), how="vmap")
    assert {execution["width"] for execution in fresh.values()} == {8}


def test_a_layout_of_another_kind_is_not_kept(tmp_path):
    run(tmp_path, sweep(0, 1, 2), how="vmap")
    assert run(tmp_path, sweep(0, 1, 2, 3, 4), how="map")[4]["how"] == "map"


def test_the_layout_of_a_single_run_says_nothing_about_many(tmp_path):
    assert run(tmp_path, sweep(0))[0]["how"] == "loop"
    continued = run(tmp_path, sweep(0, 1, 2))
    assert (continued[1]["how"], continued[2]["how"]) == ("map", "map")


def test_the_layout_of_a_run_that_was_trained_alone_after_a_failure_is_not_kept(tmp_path, monkeypatch):
    train_block = loop.train_block

    def fails_together(compiled, data, runs, **options):
        if len(runs) > 1:
            raise RuntimeError("out of memory")
        return train_block(compiled, data, runs, **options)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "train_block", fails_together)
        alone = run(tmp_path, sweep(0, 1), how="vmap")
    assert {(execution["how"], execution["asked"]) for execution in alone.values()} == {("loop", None)}
    assert run(tmp_path, sweep(0, 1, 2, 3), how="vmap")[3]["how"] == "vmap"


def test_two_sweeps_of_one_program_have_one_layout(tmp_path):
    together = run(tmp_path, sweep(0, 1), sweep(2, 3, 4, 5), how="vmap")
    assert {execution["width"] for execution in together.values()} == {2}


@pytest.mark.parametrize(
    "changes",
    [
        {"provenance": None},
        {"execution": {"how": 3, "width": 2, "rates": None}},
        {"execution": {"how": "sideways", "width": 2, "rates": None}},
        {"execution": {"how": "loop", "width": 1, "rates": None}},
        {"execution": None},
        {"config": "x"},
    ],
)
def test_rows_that_say_nothing_about_a_layout_are_left_out(tmp_path, changes):
    rows = run_experiment.execute("x", [sweep(0, 1)], root=tmp_path).rows
    data = {("plane3d", 0): run_experiment.datasets.load("plane3d")}
    (job,) = jobs.plan([sweep(0, 1)], data, lambda run_id: None)
    assert jobs.stored_layout(job, rows, "auto") == ("map", 1, None)
    assert jobs.stored_layout(job, [{**rows[0], **changes}], "auto") is None
    other = {**rows[0]["provenance"], "threads": rows[0]["provenance"]["threads"] + 1}
    assert jobs.stored_layout(job, [{**rows[0], "provenance": other}], "auto") is None
