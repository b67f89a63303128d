"""How often a block's state is saved: it costs under 2 % of training, block after block."""

import pytest

from aejax import states, work
from aejax.watcher import Watcher
from aejax.work import Desk, Spent, StateKeeper


@pytest.fixture
def clock(monkeypatch):
    """Seconds by a clock of one's own; `clock.cost` is what a save takes."""

    class Clock:
        now, cost, saves = 0.0, 1.0, 0

        def save(self, *_):
            self.now, self.saves = self.now + self.cost, self.saves + 1

    clock = Clock()
    monkeypatch.setattr(work.time, "perf_counter", lambda: clock.now)
    monkeypatch.setattr(states, "save", clock.save)
    return clock


@pytest.fixture
def desk(tmp_path):
    nothing = None
    return Desk("x", nothing, nothing, tmp_path, nothing, Watcher(), Spent())  # pyright: ignore[reportArgumentType]


def train_block(clock, desk, seconds):
    """As `train.train_block` does, in chunks of a second."""
    keeper, start = StateKeeper(desk, "a", {}), clock.now
    saved = start
    while clock.now - start < seconds:
        clock.now += 1.0
        if keeper.due(clock.now - saved):
            keeper.save(1, {}, clock.now - start - keeper.seconds)
            saved = clock.now
    return keeper.seconds


@pytest.mark.parametrize("cost", [0.01, 0.5, 2.0])
@pytest.mark.parametrize("block", [15, 60, 3000])
def test_saving_takes_under_two_hundredths_of_the_time(clock, desk, cost, block):
    """But for the first save, before which nobody knows what one costs."""
    clock.cost = cost
    saving = sum(train_block(clock, desk, block) for _ in range(6000 // block))
    assert saving == pytest.approx(clock.saves * cost)
    assert saving <= 0.02 * clock.now + cost


def test_a_state_is_not_saved_more_often_than_every_ten_seconds(clock, desk):
    clock.cost = 0.0
    train_block(clock, desk, 1000)
    assert 90 < clock.saves <= 100


def test_asked_for_it_is_saved_as_often_as_that(clock, desk):
    desk.save_seconds = 0.0
    train_block(clock, desk, 40)
    assert clock.saves == 20  # a second of training, a second of saving


def test_whoever_watches_is_told_what_would_be_lost_and_what_is_kept(clock, desk):
    told = []
    desk.beat, desk.save_seconds = lambda *seconds: told.append(seconds), 2.0
    desk.spent["useful"] = 100.0
    train_block(clock, desk, 8)
    saves = [((1.0, kept), (2.0, kept), (0.0, kept + 2.0)) for kept in (100.0, 102.0, 104.0)]
    assert told == [call for calls in saves for call in calls]
