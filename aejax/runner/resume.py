"""Checkpoints of blocks in training: when to save one, which blocks can be resumed, which saved states are stale."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from aejax.runner import jobs
from aejax.runner.context import RunContext
from aejax.runner.events import RunListener
from aejax.runner.jobs import Job, Member
from aejax.runtime import distributed
from aejax.runtime.errors import ResultsError
from aejax.storage import checkpoints
from aejax.training.layout import Layout

MIN_SECONDS_BETWEEN_SAVES = 10.0
MAX_SHARE_FOR_SAVING = 0.02
"""Share of the training time: half of it for states during training, half for the state at the end."""


class BlockCheckpointer:
    """Saves the state of a block in training, at most 2 % of the training time, and loads it again.

    The context remembers from block to block how long a save takes. `seconds` is the time that the saves of this block
    took, `saved_seconds` the training time of this call that the last save holds.
    """

    def __init__(self, context: RunContext, state_id: str, identity: Mapping[str, Any]) -> None:
        self._context = context
        self._state_id = state_id
        self._identity = identity
        self._earlier_seconds = 0.0
        self.seconds = 0.0
        self.saved_seconds = 0.0

    def load(self) -> tuple[dict[str, np.ndarray], float] | None:
        """The newest valid state and its training seconds, None where there is none.

        Raises ResultsError where it is the state of another block, or none is valid.
        """
        context = self._context
        if context.folder is None:
            return None
        state = checkpoints.load_newest(context.folder, self._state_id, context.listener.warn)
        if state is None:
            return None
        checkpoints.check_same(state.metadata["block"], self._identity, f"states/{self._state_id}")
        self._earlier_seconds = state.metadata["seconds"]
        return state.arrays, self._earlier_seconds

    def due(self, unsaved_seconds: float) -> bool:
        """Whether a save after so many seconds of training without one keeps to its share of the time."""
        context = self._context
        if context.save_seconds is not None:
            return unsaved_seconds >= context.save_seconds
        return unsaved_seconds >= max(MIN_SECONDS_BETWEEN_SAVES, 2 * context.save_cost / MAX_SHARE_FOR_SAVING)

    def due_at_the_end(self, train_seconds: float) -> bool:
        """Whether to save a trained block before its runs are scored and stored.

        `train_seconds` is all of its training. Always where an earlier state exists: a resumed block would otherwise
        train runs again that are stored already.
        """
        if self._context.save_seconds is not None or self.seconds or self._earlier_seconds:
            return True
        return train_seconds >= (self._context.save_cost / MAX_SHARE_FOR_SAVING or MIN_SECONDS_BETWEEN_SAVES)

    def save(self, step: int, arrays: Callable[[], dict[str, np.ndarray]], seconds: float) -> None:
        """Save the state after `step`. All processes fetch the arrays from their devices; the first one writes them."""
        start = time.perf_counter()
        state_arrays = arrays()
        context = self._context
        if context.folder is None:
            return
        about = {"block": self._identity, "seconds": seconds}
        checkpoints.save(context.folder, self._state_id, step, about, state_arrays)
        context.save_cost = time.perf_counter() - start
        self.seconds += context.save_cost
        self.saved_seconds = seconds - self._earlier_seconds

    def remove(self) -> None:
        """Remove the state of a block whose runs are all stored."""
        if self._context.folder is not None:
            self._context.remove_state(self._context.folder, self._state_id)


def block_identity(job: Job, layout: Layout, members: Sequence[Member]) -> dict[str, Any]:
    """Everything that the state of a block depends on, as JSON values: program, machine, layout, members in order."""
    return {
        **job.identity,
        "machine": jobs.machine_class(),
        "layout": {"how": layout.how, "width": layout.width, "groups": layout.groups},
        "runs": {member.run_id: {"seed": member.seed, "hyper": member.hyper} for member in members},
        "order": [member.run_id for member in members],
    }


def resumable_blocks(job: Job, context: RunContext) -> Iterator[tuple[list[Member], Layout]]:
    """Members and layout of every block of this job that has a saved state and a member to train.

    A state of another class of machine is skipped with a warning: resuming it would not be bit-reproducible.
    """
    members = {member.run_id: member for member in job.members}
    missing = {member.run_id for member in job.missing}
    resumable = []
    for state_id, block in context.saved_blocks.items():
        if not _is_of_job(block, job) or not set(block["order"]) <= members.keys():
            continue
        if missing & set(block["order"]):
            stored = {"machine": block.get("machine", {})}
            difference = checkpoints.difference(stored, {"machine": jobs.machine_class()})
            if difference:
                problem = f"saved on another class of machine: {difference}"
                context.listener.warn(f"states/{state_id}: {problem}; kept, and not used")
            else:
                resumable.append((block["order"], block["layout"]))
        elif context.folder is not None:  # a call was killed between storing the last run and removing the state
            checkpoints.remove(context.folder, state_id)
    for run_ids, place in distributed.broadcast_json(resumable):
        yield [members[run_id] for run_id in run_ids], _layout_here(**place)


def _layout_here(how: str, width: int, groups: int) -> Layout:
    """The layout of a saved block on the devices of this machine."""
    devices = jax.device_count()
    if how == "loop":
        devices = 1
    elif how != "data":
        devices = next(count for count in range(devices, 0, -1) if groups % count == 0)
    return Layout(how, width, groups, devices)


def find_saved_blocks(
    folder: Path, planned: Sequence[Job], listener: RunListener, again: bool = False
) -> dict[str, dict[str, Any]]:
    """The identity of the block of each saved state in a results folder, by state id.

    A state of another sweep is named with what differs. States of these jobs whose runs are all stored are removed,
    with `again` all states of these jobs. Raises ResultsError where a block of these jobs has only damaged states.
    """
    blocks = {}
    for state_id in checkpoints.list_ids(folder):
        damage = None
        try:
            state = checkpoints.load_newest(folder, state_id, listener.warn)
            about = None if state is None else state.metadata
        except ResultsError as error:
            damage = error
            about = checkpoints.metadata_of_damaged(folder, state_id)
            if about is None:
                raise
        if about is None:
            continue
        block = about["block"]
        sharing = _jobs_sharing_members(block, planned)
        if any(again or set(block["order"]) <= job.stored.keys() for job in sharing):
            checkpoints.remove(folder, state_id)  # damaged states are kept beside it
        elif damage is None:
            blocks[state_id] = block
            if planned and not any(_is_of_job(block, job) for job in planned):
                difference = _difference_from_nearest(block, planned)
                listener.warn(f"states/{state_id}: of another sweep: {difference}; kept, and not used")
        elif sharing and block.get("machine") == jobs.machine_class():
            raise damage
        else:
            listener.warn(f"{damage.field}: {damage.problem}; of another sweep or machine, kept, and not used")
    return blocks


def _difference_from_nearest(block: Mapping[str, Any], planned: Sequence[Job]) -> str:
    """The fields in which a block that belongs to none of these jobs differs from the most similar job."""
    nearest = max(planned, key=lambda job: _equal_fields(block["config"], job.sweep.config()))
    return checkpoints.difference({name: block[name] for name in nearest.identity}, nearest.identity)


def _jobs_sharing_members(block: Mapping[str, Any], planned: Sequence[Job]) -> list[Job]:
    """The jobs of the block's program that have a member of it; jobs with the same config can have other members."""
    order = set(block["order"])
    return [job for job in planned if _is_of_job(block, job) and {member.run_id for member in job.members} & order]


def _is_of_job(block: Mapping[str, Any], job: Job) -> bool:
    return all(block[name] == value for name, value in job.identity.items())


def _equal_fields(config: Mapping[str, Any], other: Mapping[str, Any]) -> int:
    return sum(other[name] == value for name, value in config.items() if name in other)
