"""How often a block's state is saved: it costs under 2 % of training, block after block."""

import pytest

from aejax import cli
from aejax.runner import resume
from aejax.runner.context import RunContext, Timings
from aejax.runner.events import RunListener
from aejax.runner.resume import BlockCheckpointer
from aejax.storage import checkpoints, run_folders
from aejax.training import loop
from support import Killed


@pytest.fixture
def clock(monkeypatch):
    """A clock that tests set; `clock.cost` is the seconds of a save."""

    class Clock:
        now = 0.0
        cost = 1.0
        saves = 0

        def save(self, *_):
            self.now = self.now + self.cost
            self.saves = self.saves + 1

    clock = Clock()
    monkeypatch.setattr(resume.time, "perf_counter", lambda: clock.now)
    monkeypatch.setattr(checkpoints, "save", clock.save)
    return clock


@pytest.fixture
def context(tmp_path):
    return RunContext("x", tmp_path, RunListener(), Timings(), lambda row, params, arrays: None)


def train_block(clock, context, seconds, end=False):
    """As `loop.train_block` does, in chunks of a second, and with `end` as `train_job` does after it."""
    checkpointer = BlockCheckpointer(context, "a", {})
    start = clock.now
    saved = start
    while clock.now - start < seconds:
        clock.now += 1.0
        if checkpointer.due(clock.now - saved):
            checkpointer.save(1, dict, clock.now - start - checkpointer.seconds)
            saved = clock.now
    if end and checkpointer.due_at_the_end(clock.now - start - checkpointer.seconds):
        checkpointer.save(2, dict, clock.now - start - checkpointer.seconds)
    return checkpointer.seconds


@pytest.mark.parametrize("cost", [0.01, 0.5, 2.0])
@pytest.mark.parametrize("block", [15, 60, 3000])
def test_saving_takes_under_two_hundredths_of_the_time(clock, context, cost, block):
    """But for the first save, before which nobody knows what one costs."""
    clock.cost = cost
    took = sum(train_block(clock, context, block, end=True) for _ in range(6000 // block))
    assert took == pytest.approx(clock.saves * cost)
    assert took <= 0.02 * clock.now + cost


@pytest.mark.parametrize(
    ("seconds", "cost", "saves"), [(9, 0.0, 0), (9, 0.1, 1), (4, 0.1, 0), (11, 0.1, 2), (11, 9, 2)]
)
def test_what_is_trained_is_saved_before_it_is_scored_where_that_is_worth_it(clock, context, seconds, cost, saves):
    """Where a state is kept on the way always: runs that are stored by then would be trained again from there."""
    context.save_cost = clock.cost = cost
    if cost == 9:
        context.save_cost = 0.1  # it said so, and then took 9
    train_block(clock, context, seconds, end=True)
    assert clock.saves == saves


def test_asked_for_it_is_saved_at_the_end_too(clock, context):
    context.save_seconds = 1000.0
    train_block(clock, context, 3, end=True)
    assert clock.saves == 1


def test_a_state_is_not_saved_more_often_than_every_ten_seconds(clock, context):
    clock.cost = 0.0
    train_block(clock, context, 1000)
    assert 90 < clock.saves <= 100


def test_asked_for_it_is_saved_as_often_as_that(clock, context):
    context.save_seconds = 0.0
    train_block(clock, context, 40)
    assert clock.saves == 20  # a second of training, a second of saving


@pytest.mark.slow
@pytest.mark.parametrize("kept", [True, False])
def test_a_call_killed_while_it_stores_trains_nothing_that_is_stored_again(tmp_path, monkeypatch, kept):
    """The block is kept before its first run is stored. The control keeps only what was saved on the way."""
    tmp_path.joinpath("four.py").write_text(
        "from aejax import Sweep\n"
        "SWEEPS = [Sweep(dataset='plane3d', widths=(2,), epochs=4, batch_size=50, seeds=(0, 1, 2, 3),\n"
        "                hyper={'learning_rate': 0.01, 'l2': 0.0})]\n"
    )
    command = ["run", str(tmp_path / "four.py"), "--results", str(tmp_path), "--how", "vmap", "--save-every", "0"]
    write_run = run_folders.write_run
    train_block = loop.train_block
    stored = []
    blocks = []

    def third(*arguments):
        if len(stored) == 2:
            raise Killed
        stored.append(write_run(*arguments))

    def noted(*arguments, **options):
        blocks.append(train_block(*arguments, **options, chunk_seconds=0.0))
        return blocks[-1]

    monkeypatch.setattr(loop, "train_block", noted)
    if not kept:
        monkeypatch.setattr(BlockCheckpointer, "due_at_the_end", lambda *_: False)
    with monkeypatch.context() as patch:
        patch.setattr(run_folders, "write_run", third)
        with pytest.raises(Killed):
            cli.main(command)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("four/runs/*/*")}
    assert len(run_folders.read_index(tmp_path / "four")) == 2
    assert cli.main(command) == 0
    first, second = blocks
    assert len(second.fits) == 4
    assert (second.resumed_step == second.step == first.step) == kept
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert len(run_folders.read_index(tmp_path / "four")) == 4
    assert not list(tmp_path.glob("four/states/*"))
