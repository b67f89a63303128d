"""The driver: it hands tasks to workers, stores the rows they send, and tries lost tasks again."""

from __future__ import annotations

import collections
import contextlib
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from aejax.runner import jobs, scoring
from aejax.runner.context import RunContext
from aejax.runner.jobs import Job, Member
from aejax.runner.remote import task
from aejax.runtime import errors
from aejax.runtime.errors import AejaxError
from aejax.runtime.signals import Interrupted
from aejax.storage import checkpoints
from aejax.training.loop import Progress

MAX_TRIES = 3
"""How often a run is tried whose worker is lost."""
Message = tuple[Any, ...]
"""(kind, number of the task, values…) from a worker; ("lost", number, reason, blame) about a worker."""


class Workers(Protocol):
    """Other processes that train tasks."""

    def has_room(self) -> bool:
        """Whether another task can be submitted."""
        ...

    def submit(self, number: int, text: str) -> None:
        """Submit a task."""

    def wait(self, seconds: float) -> list[Message]:
        """The messages since the last call; waits at most so many seconds for the first."""
        ...

    def stop(self, signal_number: int) -> None:
        """Ask all workers to save and stop. Each answers with the number of its task."""


class Attempt(NamedTuple):
    """Members of a job that a worker trains, or that wait for a worker.

    `tries` counts the workers that were lost. `alone` says that two workers died on the program of these members.
    """

    job: Job
    members: dict[str, Member]
    tries: int
    alone: bool = False


@dataclass
class Driver:
    """Trains jobs on workers and stores what they send."""

    context: RunContext

    def run(self, planned: Sequence[Job], workers: Workers) -> None:
        """Train every missing run of these jobs. Each is stored once, as trained or as failed.

        Raises an error that stopped a worker (AejaxError) once the other workers have saved and stopped, and
        Interrupted likewise.
        """
        self._workers = workers
        attempts = [Attempt(job, {member.run_id: member for member in job.missing}, 0) for job in planned]
        self._waiting = collections.deque(attempt for attempt in attempts if attempt.members)
        self._running: dict[int, Attempt] = {}
        self._error: AejaxError | None = None
        self._stopping = False
        self._shown: tuple[int, Callable[[Progress], None] | None] | None = None
        self._rows: list[dict[str, Any]] = []
        numbers = itertools.count(1)
        try:
            while (self._waiting or self._running) and self._error is None:
                self.context.listener.check_interrupt()
                while self._waiting and workers.has_room():
                    self._submit(next(numbers), self._waiting.popleft())
                self._receive()
        except Interrupted as stop:
            self._stop(stop.number)
            raise
        if self._error is not None:
            self._stop(15)
            raise self._error

    def _submit(self, number: int, attempt: Attempt) -> None:
        job = attempt.job
        saved_blocks = None if attempt.alone else self._blocks_of(job)
        rows = jobs.layout_rows(job, [*job.stored.values(), *self._rows, *self.context.rows])
        text = task.write(job, attempt.members, self.context, saved_blocks, rows)
        self._running[number] = attempt
        self._workers.submit(number, text)

    def _blocks_of(self, job: Job) -> dict[str, dict[str, Any]]:
        """The saved blocks that have members of this job only, by the id of their state."""
        run_ids = {member.run_id for member in job.members}
        blocks = self.context.saved_blocks
        return {state_id: block for state_id, block in blocks.items() if set(block["order"]) <= run_ids}

    def _stop(self, signal_number: int) -> None:
        self._stopping = True
        self._workers.stop(signal_number)
        while self._running:
            self._receive()

    def _receive(self) -> None:
        """Handle the messages of one second."""
        for kind, number, *values in self._workers.wait(1.0):
            attempt = self._running.get(number)
            if attempt is None:  # a message of a task that was given up
                continue
            if kind == "row":
                self._store(attempt, *values)
            elif kind == "remove_state":
                self._remove_state(values[0])
            elif kind == "warn":
                self.context.listener.warn(values[0])
            elif kind == "progress":
                self._show(number, *values)
            else:
                self._end(kind, self._running.pop(number), values)

    def _end(self, kind: str, attempt: Attempt, values: list[Any]) -> None:
        """A task has ended: "done", "stopped", "failed", "refused" by an error, or "lost" with its worker."""
        self._shown = None
        if kind == "refused":
            name, field, problem, fix, text = values
            error = getattr(errors, name)(field, problem, fix)
            error.args = (text,)
            self._error = self._error or error
            return
        if kind == "lost":
            if not self._stopping:
                self._try_again(attempt, *values)
            return
        for timing, seconds in values[-1].items():
            self.context.timings[timing] += seconds
        if kind != "stopped":
            self._fail(attempt, values[0] if kind == "failed" else "its worker ended without it")

    def _try_again(self, attempt: Attempt, reason: str, blame: bool) -> None:
        """Try a lost attempt again. After two deaths of workers it is tried run by run: one run may harm the others."""
        job = attempt.job
        tries = attempt.tries + 1
        if not attempt.members:
            return
        if tries == MAX_TRIES:
            self._fail(attempt, f"{reason}, {tries} times")
            return
        count = len(attempt.members)
        runs = f"{count} run{'s' * (count > 1)}"
        self.context.listener.warn(f"{job.sweep.name}: {reason}; {runs}: try {tries + 1} of {MAX_TRIES}")
        self._find_new_states(job)
        if blame and tries == MAX_TRIES - 1 and count > 1:
            for state_id in self._blocks_of(job):  # resuming them has killed a worker
                self._remove_state(state_id)
            for run_id, member in attempt.members.items():
                self._waiting.append(Attempt(job, {run_id: member}, tries, alone=True))
        else:
            self._waiting.appendleft(attempt._replace(tries=tries))

    def _find_new_states(self, job: Job) -> None:
        """Add the states that a lost worker saved. Other workers may be saving theirs at the same time."""
        folder = self.context.folder
        if folder is None:
            return
        run_ids = {member.run_id for member in job.members}
        for state_id in set(checkpoints.list_ids(folder)) - set(self.context.saved_blocks):
            with contextlib.suppress(AejaxError, OSError):  # another worker replaced its state just now
                state = checkpoints.load_newest(folder, state_id, lambda _: None, repair=False)
                if state is not None and set(state.metadata["block"]["order"]) <= run_ids:
                    self.context.saved_blocks[state_id] = state.metadata["block"]

    def _remove_state(self, state_id: str) -> None:
        """Remove a state. A worker asks for it after it has sent all runs of the block, which are stored by then."""
        self.context.saved_blocks.pop(state_id, None)
        if self.context.folder is not None:
            checkpoints.remove(self.context.folder, state_id)

    def _fail(self, attempt: Attempt, reason: str) -> None:
        """Store the members of an attempt as failed."""
        job = attempt.job
        for member in list(attempt.members.values()):
            failed = scoring.failed_run(job.sweep, *member.run, job.dataset, reason)
            self._store(attempt, *failed.named(self.context.experiment, member.run_id, execution=None))

    def _store(self, attempt: Attempt, row: dict[str, Any], params: Any, arrays: Any) -> None:
        if attempt.members.pop(row["run_id"], None) is not None:
            self.context.store(row, params, arrays)
            self._rows.append(row)
            self._shown = None  # the listener has cleared the progress

    def _show(self, number: int, name: str, progress: Sequence[Any]) -> None:
        """Show the progress of one task at a time."""
        if self._shown is None:
            self._shown = number, self.context.listener.block(name)
        shown_number, report = self._shown
        if shown_number == number and report is not None:
            *steps, best_error = progress
            report(Progress._make([*steps, math.inf if best_error is None else best_error]))
