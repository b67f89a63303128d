"""States of blocks in training: kept so seldom that they cost little, found again, and gone on from where they fit."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from aejax import datasets
from aejax.runner import jobs
from aejax.runner.context import RunContext
from aejax.runner.events import RunListener
from aejax.runner.jobs import Job, Member
from aejax.runtime import distributed
from aejax.runtime.errors import ResultsError
from aejax.storage import checkpoints
from aejax.training.population import Layout

LEAST_SECONDS_BETWEEN_SAVES = 10.0
SHARE_FOR_SAVING = 0.02
"""Of the training time: half of it for states on the way, half for the one at the end."""


class BlockCheckpointer:
    """Saves a block's state by time, so seldom that it costs under 2 % of training, and gives it back.

    What a save cost last is known from block to block of a job. `seconds` is what this block's saves took, `kept` the
    training time of this call that the last one kept.
    """

    def __init__(self, desk: RunContext, state_id: str, about: dict[str, Any]) -> None:
        self._desk, self._id, self._about = desk, state_id, about
        self._earlier = self.seconds = self.kept = 0.0

    def load(self) -> tuple[dict[str, np.ndarray], float] | None:
        """The newest state that is whole."""
        if self._desk.folder is None:
            return None
        found = checkpoints.load_newest(self._desk.folder, self._id, self._desk.watcher.warn)
        if found is None:
            return None
        checkpoints.check_same(found.about["block"], self._about, f"states/{self._id}")
        self._earlier = found.about["seconds"]
        return found.arrays, self._earlier

    def due(self, unsaved_seconds: float) -> bool:
        """Whether saving now would keep to its share of the time."""
        self._beat(unsaved_seconds)
        if self._desk.save_seconds is not None:
            return unsaved_seconds >= self._desk.save_seconds
        return unsaved_seconds >= max(LEAST_SECONDS_BETWEEN_SAVES, 2 * self._desk.save_cost / SHARE_FOR_SAVING)

    def due_at_the_end(self, seconds: float) -> bool:
        """Whether to save what is trained before its runs are scored and stored, `seconds` being all of its training.

        Always where an earlier state is kept: from that one, runs that are stored already would be trained again.
        """
        if self._desk.save_seconds is not None or self.seconds or self._earlier:
            return True
        return seconds >= (self._desk.save_cost / SHARE_FOR_SAVING or LEAST_SECONDS_BETWEEN_SAVES)

    def save(self, step: int, arrays: Callable[[], dict[str, np.ndarray]], seconds: float) -> None:
        """Save, where this process writes; what is timed begins with fetching the arrays from their devices."""
        start = time.perf_counter()
        fetched = arrays()
        if self._desk.folder is None:
            return
        checkpoints.save(self._desk.folder, self._id, step, {"block": self._about, "seconds": seconds}, fetched)
        self._desk.save_cost = time.perf_counter() - start
        self.seconds, self.kept = self.seconds + self._desk.save_cost, seconds - self._earlier
        self._beat(0.0)

    def _beat(self, unsaved_seconds: float) -> None:
        self._desk.beat(unsaved_seconds, self._desk.spent["useful"] + self.kept)

    def forget(self) -> None:
        """The block's runs are stored: its state is not needed again."""
        if self._desk.folder is not None:
            self._desk.forget(self._desk.folder, self._id)


def block_identity(job: Job, desk: RunContext, layout: Layout, members: list[Member]) -> dict[str, Any]:
    """Of a block: all that its state depends on, and the runs in it."""
    runs = {member.run_id: {"seed": member.seed, "hyper": member.hyper} for member in members}
    place = {"how": layout.how, "width": layout.width, "groups": layout.groups}
    block = {"layout": place, "runs": runs, "order": [m.run_id for m in members]}
    return {**job.identity(desk.dataset), "machine": jobs.machine_class(), **block}


def resumable_blocks(job: Job, desk: RunContext, missing: set[str]) -> Iterator[tuple[list[str], Layout]]:
    """Members, in order, and layout of every block of this job that has a saved state and something to train.

    A state of another class of machine is named and left alone: going on from it would give bits of neither.
    """
    found, known = [], {member.run_id for member in job.members}
    for state_id, block in desk.saved.items():
        if not _is_of(job, desk.dataset, block) or not set(block["order"]) <= known:
            continue
        if missing & set(block["order"]):
            machine = {"machine": jobs.machine_class()}
            if (differ := _differ({"machine": block.get("machine", {})}, machine, state_id)) is not None:
                desk.watcher.warn(f"{differ.field}: of another class of machine: {differ.found}; kept, and not used")
                continue
            found.append((block["order"], block["layout"]))
        elif desk.folder is not None:  # killed after its last run was stored, before the state was removed
            checkpoints.remove(desk.folder, state_id)
    for ids, place in distributed.broadcast_json(found):
        devices, groups = jax.device_count(), place["groups"]
        if place["how"] == "loop":
            devices = 1
        elif place["how"] != "data":
            devices = next(d for d in range(devices, 0, -1) if groups % d == 0)
        yield ids, Layout(place["how"], place["width"], groups, devices)


def find_saved_blocks(
    folder: Path, planned: Sequence[tuple[Job, datasets.Dataset]], watcher: RunListener, again: bool = False
) -> dict[str, dict[str, Any]]:
    """What block each saved state of a folder is of. States of none of these jobs are named, with what differs.

    With `again` those of these jobs are removed: everything is trained from the start. Raises ResultsError where a
    block has states, none of them is valid, and they may be of one of these jobs.
    """
    saved = {}
    for state_id in checkpoints.list_ids(folder):
        try:
            found = checkpoints.load_newest(folder, state_id, watcher.warn)
        except ResultsError as error:
            known = checkpoints.identity_of_damaged(folder, state_id)
            if known is None:
                raise
            mine = _sharing(known["block"], planned)
            if _needless(known["block"], mine, again):
                checkpoints.remove(folder, state_id)  # the damaged ones are kept, out of the way
            elif mine and known["block"].get("machine") == jobs.machine_class():
                raise
            else:
                watcher.warn(f"{error.field}: {error.found}; of another sweep or machine, kept, and not used")
            continue
        if found is None:
            continue
        block = found.about["block"]
        if _needless(block, _sharing(block, planned), again):
            checkpoints.remove(folder, state_id)
            continue
        saved[state_id] = block
        if planned and not any(_is_of(job, dataset, block) for job, dataset in planned):
            job, dataset = max(planned, key=lambda one: _in_common(block["config"], one[0].sweep.config()))
            asked = job.identity(dataset)
            differ = _differ({name: block[name] for name in asked}, asked, state_id)
            if differ is not None:
                watcher.warn(f"{differ.field}: of another sweep: {differ.found}; kept, and not used")
    return saved


def _sharing(block: dict[str, Any], planned: Sequence[tuple[Job, datasets.Dataset]]) -> list[Job]:
    """The jobs that a block is of and has a member in common with: others of the same config have other members."""
    jobs_of = [job for job, dataset in planned if _is_of(job, dataset, block)]
    return [job for job in jobs_of if {member.run_id for member in job.members} & set(block["order"])]


def _needless(block: Mapping[str, Any], mine: Sequence[Job], again: bool) -> bool:
    """Whether a block of these jobs is trained anew, or was: killed after its last run was stored."""
    return any(again or set(block["order"]) <= set(job.stored) for job in mine)


def _differ(found: Mapping[str, Any], asked: Mapping[str, Any], state_id: str) -> ResultsError | None:
    try:
        checkpoints.check_same(found, asked, f"states/{state_id}")
    except ResultsError as error:
        return error
    return None


def _is_of(job: Job, dataset: datasets.Dataset, block: dict[str, Any]) -> bool:
    return all(block[name] == value for name, value in job.identity(dataset).items())


def _in_common(one: dict[str, Any], other: dict[str, Any]) -> int:
    return sum(other[name] == value for name, value in one.items() if name in other)
