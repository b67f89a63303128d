"""One job from its missing runs to finished rows: layout, blocks, saved states, scores."""

from __future__ import annotations

import math
import time

from aejax.runner import jobs, resume, scoring
from aejax.runner.context import Emit, RunContext
from aejax.runner.jobs import Job, Member
from aejax.runner.resume import BlockCheckpointer
from aejax.runtime import distributed
from aejax.runtime.errors import AejaxError
from aejax.runtime.signals import Interrupted
from aejax.storage import run_folders
from aejax.training import autotune, population, train
from aejax.training.autotune import LayoutChoice


def train_job(job: Job, desk: RunContext, emit: Emit) -> None:
    """Train every missing run of a job and `emit` its row, parameters and arrays, blocks with a saved state first.

    A block that fails is tried again member by member, so that a member that fails harms no other; its row says why.
    """
    start, dataset = time.perf_counter(), desk.dataset
    what = job.task(dataset)
    missing = {member.run_id: member for member in job.missing}
    every = {member.run_id: member for member in job.members}
    for ids, layout in resume.resumable_blocks(job, desk, set(missing)):
        population.compile_population(what, layout)
        desk.spent.since("compile", start)
        chosen = LayoutChoice(layout, *_known(job, desk))
        _train(job, desk, emit, chosen, [every[name] for name in ids], missing)
        start = time.perf_counter()
    left = list(missing.values())
    if not left:
        return
    try:
        chosen = _choose(job, desk, what, left)
        population.compile_population(what, chosen.layout)  # again, where measuring others has made it forgotten
    except AejaxError:
        raise
    except Exception as error:  # nothing of this program can be trained
        for member in left:
            emit(
                *_finish(
                    job, desk, member, scoring.failed_run(job.sweep, *member.run, dataset, desk.ruler, error), None
                )
            )
        return
    finally:
        desk.spent.since("compile", start)
    for first in range(0, len(left), chosen.layout.block):
        _train(job, desk, emit, chosen, left[first : first + chosen.layout.block], missing)


def _choose(job: Job, desk: RunContext, what: population.ProgramSpec, left: list[Member]) -> LayoutChoice:
    """The layout of what is left of a job: as the rest of it had, since a vmap's bits depend on its width."""
    runs, dataset = [member.run for member in left], job.sweep.training_data(desk.dataset)
    check = desk.watcher.check
    if desk.width is not None:
        return autotune.choose_layout(what, dataset, runs, how=desk.how, width=desk.width, check_interrupt=check)
    known = distributed.broadcast_json(None if desk.layouts is None else desk.layouts.find(job, desk.dataset, desk.how))
    if known is None:
        chosen = autotune.choose_layout(
            what, dataset, runs, how=desk.how, total_members=len(job.members), check_interrupt=check
        )
        # what suits one run says nothing about many
        if desk.layouts is not None and (len(runs) > 1 or desk.how != "auto"):
            desk.layouts.keep(job, desk.dataset, chosen.layout, chosen.rates, desk.how)
        return chosen
    how, width, rates = known
    chosen = autotune.choose_layout(
        what, dataset, runs, how=how, width=width if how == "vmap" else None, check_interrupt=check
    )
    return chosen._replace(rates=rates)


def _known(job: Job, desk: RunContext) -> tuple[dict[str, float] | None, int | None]:
    """Measured rates, where they are known, and no estimate of a member's bytes."""
    known = None if desk.layouts is None else desk.layouts.find(job, desk.dataset, desk.how)
    return (None if known is None else known[2]), None


def _train(
    job: Job, desk: RunContext, emit: Emit, chosen: LayoutChoice, members: list[Member], missing: dict[str, Member]
) -> None:
    """Train one block, emit those of its members that are missing, and take them off the list."""
    layout, what, watcher = chosen.layout, job.task(desk.dataset), desk.watcher
    watcher.check()
    about = resume.block_identity(job, desk, layout, members)
    keeper = BlockCheckpointer(desk, jobs.short_hash(about), about)
    more = f", seed {members[0].seed}" if len(members) == 1 else f", {len(members)} members"
    codings = sorted({job.sweep.codings_of(member.hyper) for member in members})
    named = "–".join(str(k) for k in dict.fromkeys((codings[0], codings[-1])))
    draw = watcher.block(f"{job.sweep.name} {named}{more}")

    def report(progress: train.Progress) -> None:
        if draw is not None:
            draw(progress)
        watcher.check()

    runs, start = [member.run for member in members], time.perf_counter()
    curves = None if distributed.is_distributed() else watcher.curves([member.run_id for member in members])
    try:
        data = desk.data(job.sweep, layout)
        start = time.perf_counter()
        options = {"report": report, "checkpointer": keeper, "on_epochs": curves, "start": job.start(desk.dataset)}
        block = train.train_block(what, layout, data, runs, **options)
    except (AejaxError, Interrupted):
        _account(desk, keeper, start, keeper.kept)
        desk.beat(0.0, desk.spent["useful"])
        raise
    except Exception as error:
        _account(desk, keeper, start, 0.0)
        if len(members) > 1:
            watcher.warn(f"{job.sweep.name}: a block of {len(members)} failed ({type(error).__name__}): one by one")
            alone = chosen._replace(layout=population.make_layout("loop", 1))
            for member in members:
                if member.run_id in missing:
                    _train(job, desk, emit, alone, [member], missing)
            return
        failed = scoring.failed_run(job.sweep, *members[0].run, desk.dataset, desk.ruler, error)
        emit(*_finish(job, desk, missing.pop(members[0].run_id), failed, chosen))
        return
    kept = block.step == block.resumed_step
    if not kept and distributed.max_over_processes(int(keeper.due_at_the_end(block.train_seconds))):
        keeper.save(block.step, block.arrays, block.train_seconds)
        kept = True
    _account(desk, keeper, start)
    check = (
        (lambda: None) if distributed.is_distributed() else watcher.check
    )  # several processes stop together, between members
    for member, fitted in zip(members, block.fits, strict=True):
        if member.run_id not in missing:
            continue
        try:
            distributed.check_all_processes(watcher.check)
            parts = scoring.score_run(job.sweep, *member.run, desk.dataset, desk.ruler, fitted, check)
        except Interrupted:
            if not kept:
                start = time.perf_counter()
                keeper.save(block.step, block.arrays, block.train_seconds)
                desk.spent.since("saving", start)
            desk.beat(0.0, desk.spent["useful"])
            raise
        emit(*_finish(job, desk, missing.pop(member.run_id), parts, chosen))
    keeper.forget()
    desk.beat(0.0, desk.spent["useful"])


def _account(desk: RunContext, keeper: BlockCheckpointer, start: float, kept: float = math.inf) -> None:
    """Add the time since `start` to what was spent: on saving, on at most `kept` useful seconds, the rest on lost."""
    seconds = time.perf_counter() - start - keeper.seconds
    desk.spent["saving"] += keeper.seconds
    desk.spent["useful"] += min(kept, seconds)
    desk.spent["lost"] += max(0.0, seconds - kept)


def _finish(
    job: Job, desk: RunContext, member: Member, parts: scoring.ScoredRun, chosen: LayoutChoice | None
) -> scoring.ScoredRun:
    row, params, arrays = parts
    head = {"format": run_folders.FORMAT, "experiment": desk.experiment, "run_id": member.run_id}
    execution = None
    if chosen is not None:
        how, width, _, devices = chosen.layout
        execution = {"how": how, "width": width, "block": chosen.layout.block, "devices": devices}
        execution |= {"members": len(job.members), "rates": chosen.rates, "member_bytes": chosen.member_bytes}
    return {**head, **row, "execution": execution}, params, arrays
