"""The process that stores: hands tasks to workers, commits the rows they send, tries lost tasks again."""

from __future__ import annotations

import collections
import contextlib
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from aejax import datasets
from aejax.config import sweep
from aejax.evaluation import reconstruction
from aejax.runner import scoring
from aejax.runner.context import Emit, TimeSpent
from aejax.runner.events import RunListener
from aejax.runner.jobs import Job, Member
from aejax.runner.remote import task
from aejax.runner.remote.task import Call
from aejax.runtime import errors
from aejax.runtime.errors import AejaxError
from aejax.runtime.signals import Interrupted
from aejax.storage import checkpoints, run_folders
from aejax.training import train

TRIES = 3
"""How often a run is tried whose worker is lost."""
Message = tuple[Any, ...]
"""(kind, number of the task, values…), from a worker; ("lost", number, reason, blame) of one."""


class Workers(Protocol):
    """Where tasks are worked on."""

    def has_room(self) -> bool:
        """Whether another task may be given."""
        ...

    def submit(self, number: int, text: str) -> None:
        """Give a task."""
        ...

    def wait(self, seconds: float) -> list[Message]:
        """What has been told since, waiting for it at most so long."""
        ...

    def stop(self, signal_number: int) -> None:
        """Ask all to save and stop; each says so with its task."""
        ...


class Attempt(NamedTuple):
    """Some members of a job, with a worker or waiting for one. `alone`: its program has killed two workers."""

    job: Job
    members: dict[str, Member]
    tries: int
    alone: bool = False


@dataclass
class Driver:
    """Trains jobs on workers.

    `saved` says by state_id what block each saved state is of; `beat` is told the seconds of work that nobody has
    saved, and those of this call that are.
    """

    call: Call
    loaded: Mapping[tuple[str, int], datasets.Dataset]
    watcher: RunListener
    spent: TimeSpent
    emit: Emit
    beat: Callable[[float, float], None]
    saved: dict[str, dict[str, Any]]

    def run(self, jobs: Sequence[Job], workers: Workers) -> None:
        """Train every missing run of these jobs; each is emitted once, as trained or as failed.

        Raises what a worker was refused (AejaxError) once the others have saved and stopped; so it does on Interrupted.
        """
        self._workers = workers
        self._waiting = collections.deque(
            Attempt(job, {member.run_id: member for member in job.missing}, 0) for job in jobs if job.missing
        )
        self._running: dict[int, Attempt] = {}
        self._unsaved: dict[int, float] = {}
        self._kept: dict[int, float] = {}
        self._error: AejaxError | None = None
        self._stopping = False
        self._draw: tuple[int, Callable[[train.Progress], None] | None] | None = None
        numbers = itertools.count(1)
        try:
            while (self._waiting or self._running) and self._error is None:
                self.watcher.check()
                while self._waiting and workers.has_room():
                    self._give(next(numbers), self._waiting.popleft())
                self._hear()
        except Interrupted as stop:
            self._stop(stop.number)
            raise
        if self._error is not None:
            self._stop(15)
            raise self._error

    def _give(self, number: int, attempt: Attempt) -> None:
        known = {member.run_id for member in attempt.job.members}
        saved = {name: block for name, block in self.saved.items() if set(block["order"]) <= known}
        members, data = list(attempt.members.values()), self._dataset(attempt.job).fingerprint
        text = task.write(attempt.job, members, data, self.call, None if attempt.alone else saved)
        self._running[number] = attempt
        self._workers.submit(number, text)

    def _stop(self, signal_number: int) -> None:
        self._stopping = True
        self._workers.stop(signal_number)
        while self._running:
            self._hear()

    def _hear(self) -> None:
        for kind, number, *values in self._workers.wait(1.0):
            attempt = self._running.get(number)
            if attempt is None:  # it was given up before
                continue
            if kind == "row":
                self._store(attempt, *values)
            elif kind == "forget":
                self._forget(values[0])
            elif kind == "warn":
                self.watcher.warn(values[0])
            elif kind == "beat":
                self._unsaved[number], self._kept[number] = values
                self._beat()
            elif kind == "progress":
                self._show(number, *values)
            else:
                self._end(kind, number, self._running.pop(number), values)

    def _beat(self) -> None:
        self.beat(sum(self._unsaved.values()), self.spent["useful"] + sum(self._kept.values()))

    def _end(self, kind: str, number: int, attempt: Attempt, values: list[Any]) -> None:
        unsaved, kept = self._unsaved.pop(number, 0.0), self._kept.pop(number, 0.0)
        self._draw = None
        if kind == "refused":
            name, field, found, fix, text = values
            error = getattr(errors, name)(field, found, fix)
            error.args = (text,)
            self._error = self._error or error
            return
        if kind == "lost":
            self.spent["lost"] += unsaved
            self.spent["useful"] += kept
            if not self._stopping:
                self._again(attempt, *values)
            return
        for name, seconds in values[-1].items():
            self.spent[name] += seconds
        if kind != "stopped":
            self._fail(attempt, values[0] if kind == "failed" else "its worker ended without it")

    def _again(self, attempt: Attempt, reason: str, blame: bool) -> None:
        """Try a lost attempt again. What has killed two workers is tried run by run: one of them may harm the rest."""
        job, tries = attempt.job, attempt.tries + 1
        if not attempt.members:
            return
        if tries == TRIES:
            self._fail(attempt, f"{reason}, {tries} times")
            return
        count = len(attempt.members)
        self.watcher.warn(f"{job.sweep.name}: {reason}; {count} run{'s' * (count > 1)}: try {tries + 1} of {TRIES}")
        self._look_for_states(job)
        if blame and tries == TRIES - 1 and len(attempt.members) > 1:
            self._forget_states(job)
            self._waiting.extend(Attempt(job, {name: one}, tries, True) for name, one in attempt.members.items())
        else:
            self._waiting.appendleft(attempt._replace(tries=tries))

    def _look_for_states(self, job: Job) -> None:
        """Learn of the states that a lost worker saved, beside others that save theirs."""
        if self.call.folder is None:
            return
        known = {member.run_id for member in job.members}
        for state_id in set(checkpoints.list_ids(self.call.folder)) - set(self.saved):
            with contextlib.suppress(AejaxError, OSError):  # another's, just then replaced
                found = checkpoints.load_newest(self.call.folder, state_id, lambda _: None, repair=False)
                if found is not None and set(found.about["block"]["order"]) <= known:
                    self.saved[state_id] = found.about["block"]

    def _forget_states(self, job: Job) -> None:
        """Going on from them has killed a worker."""
        known = {member.run_id for member in job.members}
        for state_id in [name for name, block in self.saved.items() if set(block["order"]) <= known]:
            self._forget(state_id)

    def _forget(self, state_id: str) -> None:
        """A worker says so once it has sent all runs of a block: they are stored by now."""
        self.saved.pop(state_id, None)
        if self.call.folder is not None:
            checkpoints.remove(self.call.folder, state_id)

    def _fail(self, attempt: Attempt, reason: str) -> None:
        for member in list(attempt.members.values()):
            dataset, one = self._dataset(attempt.job), attempt.job.sweep
            parts = scoring.failed_run(one, *member.run, dataset, self._ruler(one), RuntimeError(reason))
            head = {"format": run_folders.FORMAT, "experiment": self.call.experiment, "run_id": member.run_id}
            self._store(attempt, {**head, **parts[0], "reason": reason, "execution": None}, *parts[1:])

    def _store(self, attempt: Attempt, row: dict[str, Any], params: Any, arrays: Any) -> None:
        if attempt.members.pop(row["run_id"], None) is not None:
            self.emit(row, params, arrays)
            self._draw = None  # whoever draws has cleared it

    def _show(self, number: int, name: str, progress: Sequence[Any]) -> None:
        """Draw one task's progress, of all that tell theirs."""
        if self._draw is None:
            self._draw = number, self.watcher.block(name)
        shown, draw = self._draw
        if shown == number and draw is not None:
            *steps, best_error = progress
            draw(train.Progress._make([*steps, math.inf if best_error is None else best_error]))

    def _dataset(self, job: Job) -> datasets.Dataset:
        return self.loaded[job.sweep.dataset, job.sweep.data_seed]

    def _ruler(self, one: sweep.Sweep) -> reconstruction.PCAReference:
        if not hasattr(self, "_rulers"):
            self._rulers: dict[tuple[str, int], reconstruction.PCAReference] = {}
        key = (one.dataset, one.data_seed)
        if key not in self._rulers:
            self._rulers[key] = reconstruction.reference(self.loaded[key])
        return self._rulers[key]
