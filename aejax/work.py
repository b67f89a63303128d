"""One job from its missing runs to finished rows: layout, blocks, saved states, scores."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import numpy as np

from aejax import choice, compare, datasets, hosts, identities, jobs, population, rows, states, train
from aejax.choice import Choice
from aejax.errors import AejaxError, ResultsError
from aejax.interrupt import Interrupted
from aejax.jobs import Job, Layouts, Member
from aejax.population import Layout
from aejax.sweep import Sweep
from aejax.watcher import Watcher

LEAST_SECONDS_BETWEEN_SAVES, SHARE_FOR_SAVING = 10.0, 0.02
KINDS = ("useful", "compile", "data", "saving", "lost")
Emit = Callable[[dict[str, Any], dict[str, Any], dict[str, np.ndarray]], None]


class Spent(dict[str, float]):
    """Seconds by kind: useful steps, compiling, data, saving, lost work."""

    def __init__(self) -> None:
        super().__init__(dict.fromkeys(KINDS, 0.0))

    def since(self, kind: str, start: float) -> None:
        """Add what has passed since a `time.perf_counter()`."""
        self[kind] += time.perf_counter() - start


@dataclass
class Desk:
    """What a job needs besides itself: data on devices, a folder (None on processes that do not write), a watcher.

    `saved` says by state_id what block each saved state is of. `beat` is told the seconds of work that would be
    lost if the process died now, and those of this call that would not.
    """

    experiment: str
    dataset: datasets.Dataset
    ruler: compare.Reference
    folder: Path | None
    layouts: Layouts | None
    watcher: Watcher
    spent: Spent
    how: str = "auto"
    width: int | None = None
    save_seconds: float | None = None
    beat: Callable[[float, float], None] = lambda unsaved, kept: None
    saved: dict[str, dict[str, Any]] = field(default_factory=dict)
    save_cost: float = 0.0
    placed: dict[tuple, Any] = field(default_factory=dict)

    def data(self, one: Sweep, layout: Layout) -> Any:
        """What a sweep is trained on, on the devices of a layout, put there once."""
        key = (self.dataset.fingerprint, one.moments, str(layout.sharding()))
        if key not in self.placed:
            start = time.perf_counter()
            self.placed.clear()
            self.placed[key] = jax.block_until_ready(population.place(one.training_data(self.dataset), layout))
            self.spent.since("data", start)
        return self.placed[key]


class StateKeeper:
    """Saves a block's state by time, so seldom that it costs under 2 % of training, and gives it back.

    What a save cost last is known from block to block of a job. `seconds` is what this block's saves took, `kept` the
    training time of this call that the last one kept.
    """

    def __init__(self, desk: Desk, state_id: str, about: dict[str, Any]) -> None:
        self._desk, self._id, self._about = desk, state_id, about
        self._earlier = self.seconds = self.kept = 0.0

    def load(self) -> tuple[dict[str, np.ndarray], float] | None:
        """The newest state that is whole."""
        if self._desk.folder is None:
            return None
        found = states.newest(self._desk.folder, self._id, self._desk.watcher.warn)
        if found is None:
            return None
        states.check_same(found.about["block"], self._about, f"states/{self._id}")
        self._earlier = found.about["seconds"]
        return found.arrays, self._earlier

    def due(self, unsaved_seconds: float) -> bool:
        """Whether saving now would keep to its share of the time."""
        self._beat(unsaved_seconds)
        if self._desk.save_seconds is not None:
            return unsaved_seconds >= self._desk.save_seconds
        return unsaved_seconds >= max(LEAST_SECONDS_BETWEEN_SAVES, self._desk.save_cost / SHARE_FOR_SAVING)

    def save(self, step: int, arrays: dict[str, np.ndarray], seconds: float) -> None:
        """Save, where this process writes."""
        if self._desk.folder is None:
            return
        start = time.perf_counter()
        states.save(self._desk.folder, self._id, step, {"block": self._about, "seconds": seconds}, arrays)
        self._desk.save_cost = time.perf_counter() - start
        self.seconds, self.kept = self.seconds + self._desk.save_cost, seconds - self._earlier
        self._beat(0.0)

    def _beat(self, unsaved_seconds: float) -> None:
        self._desk.beat(unsaved_seconds, self._desk.spent["useful"] + self.kept)

    def forget(self) -> None:
        """The block's runs are stored: its state is not needed again."""
        if self._desk.folder is not None:
            states.forget(self._desk.folder, self._id)


def train_job(job: Job, desk: Desk, emit: Emit) -> None:
    """Train every missing run of a job and `emit` its row, parameters and arrays, blocks with a saved state first.

    A block that fails is tried again member by member, so that a member that fails harms no other; its row says why.
    """
    start, dataset = time.perf_counter(), desk.dataset
    what = job.task(dataset)
    missing = {member.run_id: member for member in job.missing}
    every = {member.run_id: member for member in job.members}
    for ids, layout in _with_a_state(job, desk, set(missing)):
        population.compiled(what, layout)
        desk.spent.since("compile", start)
        chosen = Choice(layout, *_known(job, desk))
        _train(job, desk, emit, chosen, [every[name] for name in ids], missing)
        start = time.perf_counter()
    left = list(missing.values())
    if not left:
        return
    try:
        chosen = _choose(job, desk, what, left)
    except AejaxError:
        raise
    except Exception as error:  # nothing of this program can be trained
        for member in left:
            emit(*_finish(job, desk, member, rows.failed(job.sweep, *member.run, dataset, desk.ruler, error), None))
        return
    finally:
        desk.spent.since("compile", start)
    for first in range(0, len(left), chosen.layout.block):
        _train(job, desk, emit, chosen, left[first : first + chosen.layout.block], missing)


def _choose(job: Job, desk: Desk, what: population.Task, left: list[Member]) -> Choice:
    """The layout of what is left of a job: as the rest of it had, since a vmap's bits depend on its width."""
    runs, dataset = [member.run for member in left], job.sweep.training_data(desk.dataset)
    check = desk.watcher.check
    if desk.width is not None:
        return choice.choose(what, dataset, runs, how=desk.how, width=desk.width, check=check)
    known = hosts.json_from_first(None if desk.layouts is None else desk.layouts.find(job, desk.dataset, desk.how))
    if known is None:
        chosen = choice.choose(what, dataset, runs, how=desk.how, of=len(job.members), check=check)
        # what suits one run says nothing about many
        if desk.layouts is not None and (len(runs) > 1 or desk.how != "auto"):
            desk.layouts.keep(job, desk.dataset, chosen.layout, chosen.rates, desk.how)
        return chosen
    how, width, rates = known
    chosen = choice.choose(what, dataset, runs, how=how, width=width if how == "vmap" else None, check=check)
    return chosen._replace(rates=rates)


def _known(job: Job, desk: Desk) -> tuple[dict[str, float] | None, int | None]:
    """Measured rates, where they are known, and no estimate of a member's bytes."""
    known = None if desk.layouts is None else desk.layouts.find(job, desk.dataset, desk.how)
    return (None if known is None else known[2]), None


def _about(job: Job, desk: Desk, layout: Layout, members: list[Member]) -> dict[str, Any]:
    runs = {member.run_id: {"seed": member.seed, "hyper": member.hyper} for member in members}
    place = {"how": layout.how, "width": layout.width, "groups": layout.groups}
    return {**job.identity(desk.dataset), "layout": place, "runs": runs, "order": [m.run_id for m in members]}


def _with_a_state(job: Job, desk: Desk, missing: set[str]) -> Iterator[tuple[list[str], Layout]]:
    """Members, in order, and layout of every block of this job that has a saved state and something to train."""
    found, known = [], {member.run_id for member in job.members}
    for state_id, block in desk.saved.items():
        if not _is_of(job, desk.dataset, block) or not set(block["order"]) <= known:
            continue
        if missing & set(block["order"]):
            found.append((block["order"], block["layout"]))
        elif desk.folder is not None:  # killed after its last run was stored, before the state was removed
            states.forget(desk.folder, state_id)
    for ids, place in hosts.json_from_first(found):
        devices, groups = jax.device_count(), place["groups"]
        if place["how"] == "loop":
            devices = 1
        elif place["how"] != "data":
            devices = next(d for d in range(devices, 0, -1) if groups % d == 0)
        yield ids, Layout(place["how"], place["width"], groups, devices)


def read_saved(
    folder: Path, planned: Sequence[tuple[Job, datasets.Dataset]], watcher: Watcher
) -> dict[str, dict[str, Any]]:
    """What block each saved state of a folder is of. States of none of these jobs are named, with what differs."""
    saved = {}
    for state_id in states.saved_ids(folder):
        found = states.newest(folder, state_id, watcher.warn)
        if found is None:
            continue
        block = found.about["block"]
        mine = [job for job, dataset in planned if _is_of(job, dataset, block)]
        if any(set(block["order"]) <= set(job.stored) for job in mine):
            states.forget(folder, state_id)  # killed after its last run was stored, before the state was removed
            continue
        saved[state_id] = block
        if planned and not mine:
            job, dataset = max(planned, key=lambda one: _in_common(block["config"], one[0].sweep.config()))
            asked = job.identity(dataset)
            try:
                states.check_same({name: block[name] for name in asked}, asked, f"states/{state_id}")
            except ResultsError as other:
                watcher.warn(f"{other.field}: of another sweep: {other.found}; kept, and not used")
    return saved


def _is_of(job: Job, dataset: datasets.Dataset, block: dict[str, Any]) -> bool:
    return all(block[name] == value for name, value in job.identity(dataset).items())


def _in_common(one: dict[str, Any], other: dict[str, Any]) -> int:
    return sum(other[name] == value for name, value in one.items() if name in other)


def _train(job: Job, desk: Desk, emit: Emit, chosen: Choice, members: list[Member], missing: dict[str, Member]) -> None:
    """Train one block, emit those of its members that are missing, and take them off the list."""
    layout, what, watcher = chosen.layout, job.task(desk.dataset), desk.watcher
    watcher.check()
    about = _about(job, desk, layout, members)
    keeper = StateKeeper(desk, jobs.digest(about), about)
    more = f", seed {members[0].seed}" if len(members) == 1 else f", {len(members)} members"
    codings = sorted({job.sweep.codings_of(member.hyper) for member in members})
    named = "–".join(str(k) for k in dict.fromkeys((codings[0], codings[-1])))
    draw = watcher.block(f"{job.sweep.name} {named}{more}")

    def report(progress: train.Progress) -> None:
        if draw is not None:
            draw(progress)
        watcher.check()

    runs, start = [member.run for member in members], time.perf_counter()
    curves = None if hosts.several() else watcher.curves([member.run_id for member in members])
    try:
        data = desk.data(job.sweep, layout)
        start = time.perf_counter()
        options = {"report": report, "keeper": keeper, "curves": curves, "start": job.start(desk.dataset)}
        block = train.train_block(what, layout, data, runs, **options)
    except (AejaxError, Interrupted):
        _account(desk, keeper, start, keeper.kept)
        desk.beat(0.0, desk.spent["useful"])
        raise
    except Exception as error:
        _account(desk, keeper, start, 0.0)
        if len(members) > 1:
            watcher.warn(f"{job.sweep.name}: a block of {len(members)} failed ({type(error).__name__}): one by one")
            alone = chosen._replace(layout=population.layout("loop", 1))
            for member in members:
                if member.run_id in missing:
                    _train(job, desk, emit, alone, [member], missing)
            return
        failed = rows.failed(job.sweep, *members[0].run, desk.dataset, desk.ruler, error)
        emit(*_finish(job, desk, missing.pop(members[0].run_id), failed, chosen))
        return
    _account(desk, keeper, start)
    for member, fitted in zip(members, block.fits, strict=True):
        if member.run_id not in missing:
            continue
        try:
            watcher.check()
            parts = rows.score(job.sweep, *member.run, desk.dataset, desk.ruler, fitted, watcher.check)
        except Interrupted:
            start = time.perf_counter()
            keeper.save(block.step, block.arrays(), block.train_seconds)
            desk.spent.since("saving", start)
            raise
        emit(*_finish(job, desk, missing.pop(member.run_id), parts, chosen))
    keeper.forget()
    desk.beat(0.0, desk.spent["useful"])


def _account(desk: Desk, keeper: StateKeeper, start: float, kept: float = math.inf) -> None:
    """Add the time since `start` to what was spent: on saving, on at most `kept` useful seconds, the rest on lost."""
    seconds = time.perf_counter() - start - keeper.seconds
    desk.spent["saving"] += keeper.seconds
    desk.spent["useful"] += min(kept, seconds)
    desk.spent["lost"] += max(0.0, seconds - kept)


def _finish(job: Job, desk: Desk, member: Member, parts: rows.Parts, chosen: Choice | None) -> rows.Parts:
    row, params, arrays = parts
    head = {"format": identities.FORMAT, "experiment": desk.experiment, "run_id": member.run_id}
    execution = None
    if chosen is not None:
        how, width, _, devices = chosen.layout
        execution = {"how": how, "width": width, "block": chosen.layout.block, "devices": devices}
        execution |= {"members": len(job.members), "rates": chosen.rates, "member_bytes": chosen.member_bytes}
    return {**head, **row, "execution": execution}, params, arrays
