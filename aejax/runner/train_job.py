"""One job from its missing runs to stored rows: layout, blocks, checkpoints, scores."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import Any

from aejax.evaluation.reconstruction import pca_reference
from aejax.runner import jobs, resume, scoring
from aejax.runner.context import RunContext
from aejax.runner.jobs import Job, Member
from aejax.runner.resume import BlockCheckpointer
from aejax.runner.scoring import ScoredRun
from aejax.runtime import distributed
from aejax.runtime.errors import AejaxError
from aejax.runtime.signals import Interrupted
from aejax.training import autotune, loop, population
from aejax.training.autotune import LayoutChoice
from aejax.training.layout import make_layout
from aejax.training.loop import Fit, Progress


def train_job(job: Job, context: RunContext) -> None:
    """Train and store every missing run of a job, those of blocks with a saved state first.

    A block that fails is trained again member by member, so that a member that fails harms no other; its row says why.
    """
    _fit_reference(job, context)
    start = time.perf_counter()
    missing = {member.run_id: member for member in job.missing}
    for members, layout in resume.resumable_blocks(job, context):
        population.compile_population(job.spec, layout)
        context.timings.add_since("compile", start)
        choice = LayoutChoice(layout, _stored_rates(job, context), None)
        _train_block(job, context, choice, members, missing)
        start = time.perf_counter()
    members = list(missing.values())
    if not members:
        return
    try:
        choice = _choose_layout(job, context, members)
        population.compile_population(job.spec, choice.layout)  # measuring other layouts can have cleared it
    except AejaxError:
        raise
    except Exception as error:  # no member of this program can be trained
        for member in members:
            _store(job, context, member, scoring.failed_run(job.sweep, *member.run, job.dataset, error), None)
        return
    finally:
        context.timings.add_since("compile", start)
    for first in range(0, len(members), choice.layout.block):
        _train_block(job, context, choice, members[first : first + choice.layout.block], missing)


def _fit_reference(job: Job, context: RunContext) -> None:
    """Fit the reference PCA, and warn where the data has fewer principal components than the sweep has codings."""
    start = time.perf_counter()
    rank = pca_reference(job.dataset).params.rank
    context.timings.add_since("data", start)
    if job.sweep.codings > rank:
        context.listener.warn(
            f"{job.sweep.dataset} has rank {rank}, below {job.sweep.codings} codings: "
            "the reference PCA's further components are zero"
        )


def _choose_layout(job: Job, context: RunContext, members: Sequence[Member]) -> LayoutChoice:
    """The layout for the members that are left: the one that stored runs of the program had, else a chosen one."""
    spec = job.spec
    data = job.training_data
    runs = [member.run for member in members]
    check = context.listener.check_interrupt
    if context.width is not None:
        return autotune.choose_layout(spec, data, runs, how=context.how, width=context.width, check_interrupt=check)
    stored = _stored_layout(job, context)
    if stored is None:
        return autotune.choose_layout(
            spec, data, runs, how=context.how, total_members=len(job.members), check_interrupt=check
        )
    width = stored.width if stored.how == "vmap" else None
    choice = autotune.choose_layout(spec, data, runs, how=stored.how, width=width, check_interrupt=check)
    return choice._replace(rates=stored.rates)


def _stored_layout(job: Job, context: RunContext) -> jobs.StoredLayout | None:
    """The layout of stored runs as the first process finds it, on every process."""
    stored = None
    if distributed.is_first_process():
        stored = jobs.stored_layout(job, [*job.stored.values(), *context.rows], context.how)
    fields = distributed.broadcast_json(stored)
    return None if fields is None else jobs.StoredLayout(*fields)


def _stored_rates(job: Job, context: RunContext) -> dict[str, float] | None:
    stored = _stored_layout(job, context)
    return None if stored is None else stored.rates


def _train_block(
    job: Job, context: RunContext, choice: LayoutChoice, members: Sequence[Member], missing: dict[str, Member]
) -> None:
    """Train one block, store those of its members that are missing, and take them out of `missing`."""
    layout = choice.layout
    listener = context.listener
    listener.check_interrupt()
    identity = resume.block_identity(job, layout, members)
    checkpointer = BlockCheckpointer(context, jobs.short_hash(identity), identity)
    show_progress = listener.block(_block_name(job, members))

    def report(progress: Progress) -> None:
        if show_progress is not None:
            show_progress(progress)
        listener.check_interrupt()

    on_epochs = None if distributed.is_distributed() else listener.curves([member.run_id for member in members])
    runs = [member.run for member in members]
    start = time.perf_counter()
    try:
        data = context.place_data(job, layout)
        start = time.perf_counter()
        block = loop.train_block(
            population.compile_population(job.spec, layout),
            data,
            runs,
            report=report,
            checkpointer=checkpointer,
            on_epochs=on_epochs,
            start=job.initialiser,
        )
    except (AejaxError, Interrupted):
        _account(context, checkpointer, start, useful_seconds=checkpointer.saved_seconds)
        raise
    except Exception as error:
        _account(context, checkpointer, start, useful_seconds=0.0)
        _train_alone(job, context, choice, members, missing, error)
        return
    saved = block.step == block.resumed_step
    if not saved and distributed.max_over_processes(int(checkpointer.due_at_the_end(block.train_seconds))):
        checkpointer.save(block.step, block.arrays, block.train_seconds)
        saved = True
    _account(context, checkpointer, start)
    try:
        for member, fit in zip(members, block.fits, strict=True):
            if member.run_id in missing:
                _score_and_store(job, context, choice, member, fit)
                del missing[member.run_id]
    except Interrupted:
        if not saved:
            start = time.perf_counter()
            checkpointer.save(block.step, block.arrays, block.train_seconds)
            context.timings.add_since("saving", start)
        raise
    checkpointer.remove()


def _train_alone(
    job: Job,
    context: RunContext,
    choice: LayoutChoice,
    members: Sequence[Member],
    missing: dict[str, Member],
    error: Exception,
) -> None:
    """After a block failed with this error: train its members one by one, or store a single member as failed."""
    if len(members) == 1:
        failed = scoring.failed_run(job.sweep, *members[0].run, job.dataset, error)
        _store(job, context, missing.pop(members[0].run_id), failed, choice)
        return
    context.listener.warn(
        f"{job.sweep.name}: a block of {len(members)} failed ({type(error).__name__}): trained one by one"
    )
    alone = choice._replace(layout=make_layout("loop", 1))
    for member in members:
        if member.run_id in missing:
            _train_block(job, context, alone, [member], missing)


def _block_name(job: Job, members: Sequence[Member]) -> str:
    """The block in words: "stacked 2–16, 12 members"."""
    codings = [job.sweep.codings_of(member.hyper) for member in members]
    smallest = min(codings)
    largest = max(codings)
    span = f"{smallest}–{largest}" if smallest < largest else f"{smallest}"
    count = f"seed {members[0].seed}" if len(members) == 1 else f"{len(members)} members"
    return f"{job.sweep.name} {span}, {count}"


def _account(
    context: RunContext, checkpointer: BlockCheckpointer, start: float, useful_seconds: float = math.inf
) -> None:
    """Add the time since `start`: what the checkpointer took to saving, at most `useful_seconds` to useful, the rest
    to lost.
    """
    seconds = time.perf_counter() - start - checkpointer.seconds
    context.timings["saving"] += checkpointer.seconds
    context.timings["useful"] += min(useful_seconds, seconds)
    context.timings["lost"] += max(0.0, seconds - useful_seconds)


def _score_and_store(job: Job, context: RunContext, choice: LayoutChoice, member: Member, fit: Fit) -> None:
    check = context.listener.check_interrupt
    distributed.check_all_processes(check)
    # several processes stop together, between members
    check_within = (lambda: None) if distributed.is_distributed() else check
    scored = scoring.score_run(job.sweep, *member.run, job.dataset, fit, check_within)
    _store(job, context, member, scored, choice)


def _store(job: Job, context: RunContext, member: Member, scored: ScoredRun, choice: LayoutChoice | None) -> None:
    execution = None if choice is None else _execution(job, context, choice)
    context.store(*scored.named(context.experiment, member.run_id, execution))


def _execution(job: Job, context: RunContext, choice: LayoutChoice) -> dict[str, Any]:
    """How a run was executed, as its row says.

    `asked` is the layout that was asked for. It is None where later runs should not reuse this layout, which was chosen
    for a single run of many, or for a run that is trained alone because its block failed.
    """
    layout = choice.layout
    precedent = context.how != "auto" or len(job.members) == 1 or layout.how != "loop"
    return {
        "asked": context.how if precedent and context.width is None else None,
        "how": layout.how,
        "width": layout.width,
        "block": layout.block,
        "devices": layout.devices,
        "members": len(job.members),
        "rates": choice.rates,
        "member_bytes": choice.member_bytes,
    }
