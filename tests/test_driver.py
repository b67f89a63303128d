"""What the driver of other processes gives them, and makes of what they say: without processes."""

import json
import signal
from collections import deque

import numpy as np
import pytest

from aejax import Sweep
from aejax.config import experiment_file, overrides
from aejax.datasets import load
from aejax.runner import jobs, remote
from aejax.runner.context import RunContext, Timings
from aejax.runner.events import RunListener
from aejax.runner.remote import protocol, task, worker
from aejax.runner.remote.driver import MAX_TRIES
from aejax.runtime.errors import ConfigError, DataError, MachineError
from aejax.runtime.signals import Interrupted
from aejax.storage import checkpoints, lock, run_folders
from support import check_refused

HYPER = {"learning_rate": 0.01, "l2": 0.0}


def sweep(**fields):
    return Sweep(**{"dataset": "digits", "widths": (6, 2), "epochs": 2, "batch_size": 128, "hyper": HYPER, **fields})


def planned(*sweeps):
    loaded = {("digits", 0): load("digits")}
    return jobs.plan(sweeps, loaded, lambda run_id: None)


def context_of(folder=None, listener=None, store=lambda *run: None, **fields):
    return RunContext("x", folder, listener or Memory(), Timings(), store, **fields)


def written(job, context=None, **changes):
    spec = task.write(job, [member.run_id for member in job.missing], context or context_of(), {}, [])
    return {**json.loads(spec), **changes}


def read_job(spec):
    return task.read_job(spec, task.read_sweep(spec), load("digits"))


@pytest.mark.parametrize(
    "one",
    [
        sweep(),
        sweep(widths=(6, 4), decoder_widths=(5,), seeds=(3, 1), batch_size=None, label="mine", precision="highest"),
        sweep(hyper={"learning_rate": (0.1, 1 / 3), "l2": (0.0, 1e-7)}),
        sweep(widths=(6, 4), hyper=({**HYPER, "codings": 1}, {**HYPER, "codings": 4})),
    ],
)
def test_a_task_read_back_is_the_same_job(one):
    (job,) = planned(one)
    again = read_job(written(job))
    assert (again.number, again.members, again.stored) == (job.number, job.members, job.stored)
    assert (again.sweep.config(), again.sweep.points()) == (job.sweep.config(), job.sweep.points())


def test_a_custom_function_needs_its_file(tmp_path, refused):
    mine = sweep(activation=lambda x: x * 0.5)
    refused(ConfigError, "Sweep.activation", "source=Source(FILE)", call=lambda: remote.check([mine], None))
    path = tmp_path / "mine.py"
    path.write_text(
        "from aejax import Sweep\n"
        f"SWEEPS = [Sweep(dataset='digits', widths=(6, 2), epochs=2, batch_size=128, hyper={HYPER},"
        " activation=lambda x: x * 0.5)]\n"
    )
    source = remote.Source(path, ("epochs=7",))
    sweeps = overrides.override(experiment_file.load(path)[1], source.assignments)
    remote.check(sweeps, source)
    (job,) = planned(*sweeps)
    spec = written(job, context_of(source=source))
    assert task.read_sweep(spec).config() == job.sweep.config()
    path.write_text(path.read_text().replace("(6, 2)", "(6, 3)"))
    refused(ConfigError, path, "changed since this call started", call=lambda: task.read_sweep(spec))


def test_a_message_comes_as_it_was_sent():
    params = {"encoder": {"layer_0": {"kernel": np.arange(6, dtype=np.float32).reshape(2, 3).T, "bias": np.zeros(0)}}}
    arrays = {"history/train_loss": np.ones(3), "pca_curve": np.array(7, np.int64)}
    kind, row, *found = protocol.unpack(protocol.pack("row", {"run_id": "a", "name": "größe"}, params, arrays))
    assert (kind, row) == ("row", {"run_id": "a", "name": "größe"})
    for sent, got in zip((params, arrays), found, strict=True):
        a = run_folders.flatten_tree(sent)
        b = run_folders.flatten_tree(got)
        assert {name: (x.dtype, x.shape, x.tobytes()) for name, x in a.items()} == {
            name: (x.dtype, x.shape, x.tobytes()) for name, x in b.items()
        }
    assert protocol.unpack(protocol.pack("row", {}, {}, {})) == ["row", {}, {}, {}]
    assert protocol.unpack(protocol.pack("task", 3, "text")) == ["task", 3, "text"]
    with pytest.raises(ValueError, match="not JSON compliant"):
        protocol.pack("progress", float("nan"), 0.0)


def test_a_worker_of_another_version_is_refused(refused):
    (job,) = planned(sweep())
    refused(MachineError, "the task is of 9.9", "same version", call=lambda: task.read_sweep(written(job, aejax="9.9")))


class Scripted:
    """Workers that tell what a script says for each task; `given` are the tasks, read."""

    def __init__(self, *answers):
        self.answers = deque(answers)
        self.given = []
        self.messages = deque()
        self.stopped = None

    def has_room(self):
        return not self.messages

    def submit(self, number, text):
        job = read_job(json.loads(text))
        self.given.append([member.run_id for member in job.missing])
        for answer in self.answers.popleft()(job):
            self.messages.append((answer[0], number, *answer[1:]))

    def wait(self, seconds):
        return [self.messages.popleft()] if self.messages else []

    def stop(self, signal_number):
        self.stopped = signal_number


class Memory(RunListener):
    def __init__(self):
        self.warned = []

    def warn(self, text):
        self.warned.append(text)


def make_driver(store, *, folder=None, listener=None, saved_blocks=None):
    return remote.Driver(context_of(folder, listener, store, saved_blocks=saved_blocks or {}))


def drive(workers, *sweeps):
    """The rows in the order in which they were stored, and the driver."""
    stored = []
    driver = make_driver(lambda row, params, arrays: stored.append(row))
    driver.run(planned(*sweeps), workers)
    ids = [row["run_id"] for row in stored]
    assert len(set(ids)) == len(ids)
    return stored, driver


def row(member):
    return ("row", {"run_id": member.run_id, "status": "completed"}, {}, {})


def lost(*, after=0, blame=True):
    return lambda job: [*(row(member) for member in job.missing[:after]), ("lost", "gone", blame)]


def trained(job):
    return [*(row(member) for member in job.missing), ("done", {"useful": 1.0})]


def test_runs_that_were_sent_before_a_loss_are_not_trained_again():
    workers = Scripted(lost(after=1), trained)
    rows, driver = drive(workers, sweep(seeds=(0, 1, 2)))
    assert len(rows) == 3
    assert workers.given[1] == workers.given[0][1:]
    assert driver.context.timings["useful"] == 1.0


def test_a_state_is_there_until_the_runs_of_its_block_are_stored(tmp_path):
    """A worker leaves it: the driver may be killed with rows still under way to it."""
    todo = planned(sweep(seeds=(0, 1)))
    folder = run_folders.open_folder(tmp_path, "x")
    with lock.hold(folder):
        text = written(todo[0], context_of(folder, save_seconds=0.0))
        messages = []
        worker.run_task(json.dumps(text), lambda *message: messages.append(message), lambda: None)
        kinds = [kind for kind, *_ in messages if kind != "progress"]
        assert kinds == ["row", "row", "remove_state", "done"]
        (state_id,) = checkpoints.list_ids(folder)
        there = []

        def store(row, params, arrays):
            there.append(checkpoints.list_ids(folder))

        saved_blocks = {state_id: {"order": [member.run_id for member in todo[0].members]}}
        driver = make_driver(store, folder=folder, saved_blocks=saved_blocks)
        driver.run(todo, Scripted(lambda job: messages))
    assert there == [[state_id], [state_id]]
    assert checkpoints.list_ids(folder) == []
    assert driver.context.saved_blocks == {}


def test_a_row_that_comes_twice_is_stored_once():
    rows, _ = drive(Scripted(lambda job: [row(job.missing[0]), *trained(job)]), sweep(seeds=(0, 1)))
    assert len(rows) == 2


def test_what_kills_two_workers_is_tried_run_by_run():
    workers = Scripted(lost(), lost(), trained, lost(), trained)
    rows, _ = drive(workers, sweep(seeds=(0, 1, 2)))
    assert [len(ids) for ids in workers.given] == [3, 3, 1, 1, 1]
    failed = [one for one in rows if one["status"] == "failed"]
    assert [one["reason"] for one in failed] == ["gone, 3 times"]
    assert failed[0]["run_id"] == workers.given[3][0]
    assert failed[0]["pca_seconds"] > 0


def test_a_lost_node_is_not_its_programs_fault():
    workers = Scripted(*[lost(blame=False)] * MAX_TRIES)
    rows, _ = drive(workers, sweep(seeds=(0, 1)))
    assert [len(ids) for ids in workers.given] == [2] * MAX_TRIES
    assert {one["reason"] for one in rows} == {"gone, 3 times"}


def test_an_exception_outside_training_fails_its_task_alone():
    rows, _ = drive(Scripted(lambda job: [("failed", "OSError: gone", {})], trained), sweep(), sweep(widths=(3,)))
    assert [one["status"] for one in rows] == ["failed", "completed"]
    assert rows[0]["reason"] == "OSError: gone"


def test_a_refusal_stops_the_others_and_comes_back_as_it_was():
    workers = Scripted(lambda job: [("refused", "DataError", "digits", "gone", "mend", "digits: gone; mend")])
    with pytest.raises(DataError) as caught:
        drive(workers, sweep())
    assert (str(caught.value), caught.value.field, caught.value.exit_code) == ("digits: gone; mend", "digits", 2)
    assert workers.stopped == signal.SIGTERM


def test_an_interrupt_waits_for_the_workers_and_tries_nothing_again():
    class Stopping(Memory):
        calls = 0

        def check_interrupt(self):
            self.calls += 1
            if self.calls == 3:
                raise Interrupted(signal.SIGINT)

    workers = Scripted(
        lambda job: [("progress", "linear", [1, 2, 0, 1, 0.5]), row(job.missing[0]), ("lost", "gone", True)]
    )
    stored = []
    listener = Stopping()
    driver = make_driver(lambda *parts: stored.append(parts), listener=listener)
    with pytest.raises(Interrupted):
        driver.run(planned(sweep(seeds=(0, 1))), workers)
    assert workers.stopped == signal.SIGINT
    assert len(stored) == 1
    assert listener.warned == []


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["--workers", "2"], "--workers: given with --on here; add --on pool"),
        (["--on", "pool", "--workers", "0"], "--workers"),
        (["--on", "pool", "--cpus-per-task", "2"], "--cpus-per-task: given with --on pool; add --on ray"),
        (["--on", "ray", "--cpus-per-task", "0"], "--cpus-per-task"),
    ],
)
def test_options_that_do_not_belong_together_are_refused(arguments, part, tiny, capsys):
    check_refused(capsys, ["run", tiny, *arguments], 2, part)


def test_a_pool_is_for_processors(monkeypatch, refused):
    monkeypatch.setattr("jax.default_backend", lambda: "gpu")
    refused(ConfigError, "--on pool", "gpu", "--on ray", call=remote.Pool().check)


def test_the_share_of_cores(monkeypatch):
    monkeypatch.delenv("NPROC", raising=False)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(8)))
    assert [remote.Pool(workers).threads for workers in (None, 1, 3, 8, 20)] == [1, 8, 2, 1, 1]
    monkeypatch.setenv("NPROC", "2")
    assert remote.Pool(3).threads == 2
    assert remote.Pool().count == 8
