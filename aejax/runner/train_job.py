"""One job from its missing runs to stored rows: layout, blocks, checkpoints, scores."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence

from aejax.evaluation.reconstruction import pca_reference
from aejax.runner import jobs, resume, scoring
from aejax.runner.context import RunContext
from aejax.runner.jobs import Job, Member
from aejax.runner.resume import BlockCheckpointer
from aejax.runner.scoring import ScoredRun
from aejax.runtime import distributed
from aejax.runtime.errors import AejaxError, reason_of
from aejax.runtime.signals import Interrupted
from aejax.training import autotune, loop, population
from aejax.training.autotune import LayoutChoice
from aejax.training.layout import Layout, make_layout
from aejax.training.loop import Fit, Progress


def train_job(job: Job, context: RunContext) -> None:
    """Train and store every missing run of a job, those of blocks with a saved state first.

    A block that fails is trained again member by member, so that a member that fails harms no other; its row says why.
    Raises ConfigError where a member cannot be trained.
    """
    context.begin_job()
    _fit_reference(job, context)
    spec = job.spec
    start = time.perf_counter()
    missing = {member.run_id: member for member in job.missing}
    for members, layout in resume.resumable_blocks(job, context):
        population.compile_population(spec, layout)
        context.timings.add_since("compile", start)
        _train_block(job, context, _choice_of_resumed(job, context, layout), members, missing)
        start = time.perf_counter()
    members = list(missing.values())
    if not members:
        return
    try:
        choice = _choose_layout(job, context, members)
        population.compile_population(spec, choice.layout)  # measuring other layouts can have cleared it
    except AejaxError:
        raise
    except Exception as error:  # no member of this program can be trained
        for member in members:
            failed = scoring.failed_run(job.sweep, *member.run, job.dataset, reason_of(error))
            _store(job, context, member, failed, None)
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
        problem = f"{job.sweep.dataset} has rank {rank}, below {job.sweep.codings} codings"
        context.listener.warn(f"{problem}: the reference PCA's further components are zero")


def _choose_layout(job: Job, context: RunContext, members: Sequence[Member]) -> LayoutChoice:
    """The layout for the members that are left: the one that other runs of the program had, else a chosen one."""
    data = job.training_data
    runs = [member.run for member in members]
    how = context.how
    check = context.listener.check_interrupt
    if context.width is not None:
        return autotune.choose_layout(job.spec, data, runs, how=how, width=context.width, check_interrupt=check)
    known = _known_layout(job, context)
    if known is not None:
        width = known.width if known.how == "vmap" else None
        choice = autotune.choose_layout(job.spec, data, runs, how=known.how, width=width, check_interrupt=check)
        return choice._replace(rates=known.rates, asked=how)
    total = len(job.members)
    choice = autotune.choose_layout(job.spec, data, runs, how=how, total_members=total, check_interrupt=check)
    if how == "auto" and len(runs) == 1:  # what suits a single run says nothing about many
        return choice
    _remember_layout(job, context, choice.layout, choice.rates)
    return choice._replace(asked=how)


def _choice_of_resumed(job: Job, context: RunContext, layout: Layout) -> LayoutChoice:
    """The layout of a block with a saved state, which the other members get too where it is what was asked for."""
    known = _known_layout(job, context)
    rates = None if known is None else known.rates
    if context.width is None and (layout.how == context.how or (context.how == "auto" and layout.how != "loop")):
        _remember_layout(job, context, layout, rates)
        return LayoutChoice(layout, rates, None, asked=context.how)
    return LayoutChoice(layout, rates, None)


def _known_layout(job: Job, context: RunContext) -> jobs.StoredLayout | None:
    """The layout that this call or stored runs gave the program of the job, the same on every process."""
    known = context.layouts.get(jobs.short_hash(job.identity))
    if known is None and distributed.is_first_process():
        known = jobs.stored_layout(job, [*job.stored.values(), *context.rows], context.how)
    fields = distributed.broadcast_json(known)
    return None if fields is None else jobs.StoredLayout(*fields)


def _remember_layout(job: Job, context: RunContext, layout: Layout, rates: dict[str, float] | None) -> None:
    known = jobs.StoredLayout(layout.how, layout.width, rates)
    context.layouts.setdefault(jobs.short_hash(job.identity), known)


def _train_block(
    job: Job, context: RunContext, choice: LayoutChoice, members: Sequence[Member], missing: dict[str, Member]
) -> None:
    """Train one block, store those of its members that are missing, and take them out of `missing`.

    After an exception the members are trained one by one; a single member is stored as failed.
    """
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
        compiled = population.compile_population(job.spec, layout)
        block = loop.train_block(
            compiled, data, runs, report=report, checkpointer=checkpointer, on_epochs=on_epochs, start=job.initialiser
        )
    except (AejaxError, Interrupted):
        _account(context, checkpointer, start, useful=checkpointer.saved_seconds)
        raise
    except Exception as error:
        _account(context, checkpointer, start, useful=0.0)
        if len(members) == 1:
            failed = scoring.failed_run(job.sweep, *members[0].run, job.dataset, reason_of(error))
            _store(job, context, missing.pop(members[0].run_id), failed, choice)
            return
        problem = f"a block of {len(members)} failed ({type(error).__name__})"
        listener.warn(f"{job.sweep.name}: {problem}: trained one by one")
        alone = choice._replace(layout=make_layout("loop", 1), asked=None)
        for member in members:
            if member.run_id in missing:
                _train_block(job, context, alone, [member], missing)
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


def _block_name(job: Job, members: Sequence[Member]) -> str:
    """The block in words: "stacked 2–16, 12 members"."""
    codings = [job.sweep.codings_of(member.hyper) for member in members]
    smallest = min(codings)
    largest = max(codings)
    span = f"{smallest}–{largest}" if smallest < largest else f"{smallest}"
    count = f"seed {members[0].seed}" if len(members) == 1 else f"{len(members)} members"
    return f"{job.sweep.name} {span}, {count}"


def _account(context: RunContext, checkpointer: BlockCheckpointer, start: float, useful: float = math.inf) -> None:
    """Add the time since `start`: what the checkpointer took to saving, at most `useful` seconds to useful, the rest to
    lost.
    """
    seconds = time.perf_counter() - start - checkpointer.seconds
    context.timings["saving"] += checkpointer.seconds
    context.timings["useful"] += min(useful, seconds)
    context.timings["lost"] += max(0.0, seconds - useful)


def _score_and_store(job: Job, context: RunContext, choice: LayoutChoice, member: Member, fit: Fit) -> None:
    check = context.listener.check_interrupt
    distributed.check_all_processes(check)
    # several processes stop together, between members
    check_within = (lambda: None) if distributed.is_distributed() else check
    scored = scoring.score_run(job.sweep, *member.run, job.dataset, fit, check_within)
    _store(job, context, member, scored, choice)


def _store(job: Job, context: RunContext, member: Member, scored: ScoredRun, choice: LayoutChoice | None) -> None:
    """Store a run; its row says how it was executed. `asked` is None where later runs should not reuse the layout."""
    execution = None
    if choice is not None:
        execution = {
            "asked": choice.asked,
            **{name: getattr(choice.layout, name) for name in ("how", "width", "block", "devices")},
            "members": len(job.members),
            "rates": choice.rates,
            "member_bytes": choice.member_bytes,
        }
    context.store(*scored.named(context.experiment, member.run_id, execution))
