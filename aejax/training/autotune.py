"""Which layout a population gets: the fastest that was measured, or the one asked for, as large as memory allows."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np

from aejax.datasets.base import Dataset
from aejax.runtime import distributed, hardware
from aejax.runtime.errors import ConfigError, MachineError, suggest
from aejax.training.population import (
    LAYOUT_KINDS,
    Layout,
    ProgramSpec,
    Runs,
    compile_population,
    make_layout,
    member_arrays,
    place_data,
)

SHARE_OF_FREE_MEMORY = 0.8
SHARE_OF_CACHE = 64 * 2**20
"""Bytes of the states that a device takes in turn: with more, moving them in and out of a chunk shows."""
MIN_SECONDS_TO_MEASURE = 60.0
"""Seconds of training below which layouts are not compared: compiling the others would cost more than it gains."""
MIN_SPEEDUP = 1.1
"""How much faster than the layout to take unmeasured another has to be: bits should not hang on noise."""
MODERATE_WIDTH = 8  # a vmap of moderate width, tried beside the widest
LARGE_BATCH = 256  # rows a device from which sharing a single run's batch out is tried


class LayoutChoice(NamedTuple):
    """A layout, and why: samples per second of every layout that was measured, None where none was."""

    layout: Layout
    rates: dict[str, float] | None
    member_bytes: int | None


def choose_layout(
    what: ProgramSpec,
    dataset: Dataset,
    runs: Runs,
    *,
    how: str = "auto",
    width: int | None = None,
    total_members: int | None = None,
    check_interrupt: Callable[[], None] = lambda: None,
) -> LayoutChoice:
    """The layout for these runs: the one asked for, or with "auto" the fastest, measured where that is worth it.

    The first candidate, which on processors has the bits of a fit alone, is taken unless another is FASTER.

    A layout that does not fit into 80 % of the free memory is made smaller; the rest of the runs are further blocks.
    `of` is how many there are of which these runs are left: a vmap's width, on which its bits depend, follows from all
    of them. `check` is called wherever nothing is running on a device, and may raise Interrupted.
    Raises MachineError when not one member fits, and when an asked-for width does not.
    """
    if how not in LAYOUT_KINDS:
        raise ConfigError("how", repr(how), suggest(how, LAYOUT_KINDS))
    if how != "auto" or width is not None:
        how = "vmap" if how == "auto" else how
        own = (
            math.ceil(max(total_members or 0, len(runs)) / len(jax.devices()))
            if how == "vmap" and width is None
            else width
        )
        asked = make_layout(how, len(runs), width=own, most=_most(what))
        return _fitting(what, asked, check_interrupt, asked=width is not None)
    on_cpu = jax.devices()[0].platform == "cpu"
    first, *others = _candidates(what, len(runs), on_cpu)
    choice = _fitting(what, first, check_interrupt)
    if not others:
        return choice
    rate = _rate(what, dataset, runs, choice.layout, check_interrupt)
    if len(runs) * what.batch_size * what.program().steps / rate < MIN_SECONDS_TO_MEASURE:
        return choice
    rates = {choice: rate}
    for other in others:
        candidate = _fitting(what, other, check_interrupt)
        if candidate.layout not in [known.layout for known in rates]:
            rates[candidate] = _rate(what, dataset, runs, candidate.layout, check_interrupt)
    best = max(rates, key=lambda candidate: rates[candidate])
    best = best if rates[best] >= MIN_SPEEDUP * rate else choice
    named = {f"{c.layout.how} {c.layout.width}" if c.layout.width > 1 else c.layout.how: r for c, r in rates.items()}
    return best._replace(rates={name: round(value, 1) for name, value in named.items()})


def _candidates(what: ProgramSpec, count: int, on_cpu: bool) -> list[Layout]:
    """Layouts to compare, the one to take unmeasured first: a processor's caches like one member at a time."""
    devices = len(jax.devices())
    if count == 1:
        shared = devices > 1 and what.batch_size >= LARGE_BATCH * devices
        return [make_layout("loop", 1), *([make_layout("data", 1)] if shared else [])]
    ways = [
        make_layout("vmap", count),
        make_layout("vmap", count, width=min(MODERATE_WIDTH, math.ceil(count / devices))),
    ]
    ways.insert(0 if on_cpu else 2, make_layout("map", count, most=_most(what)))
    return list(dict.fromkeys([*ways, make_layout("loop", count)]))


def _most(what: ProgramSpec) -> int:
    """Members whose states a device takes in turn within one block."""
    hyper = dict.fromkeys(what.names, jax.ShapeDtypeStruct((), np.float32))
    state = jax.eval_shape(what.program().init, jax.random.key(0), hyper)
    size = sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(state))
    return max(1, SHARE_OF_CACHE // size)


def _fitting(what: ProgramSpec, chosen: Layout, check: Callable[[], None], asked: bool = False) -> LayoutChoice:
    """The layout, or the largest smaller one whose program fits into the free memory; of the same width if `asked`."""
    while True:
        distributed.check_all_processes(check)
        functions, free = (
            compile_population(what, chosen),
            distributed.min_bytes_over_processes(hardware.free_bytes(chosen.devices)),
        )
        own = functions.device_bytes - functions.data_bytes
        member_bytes = math.ceil(own * chosen.devices / chosen.block)
        if functions.device_bytes <= SHARE_OF_FREE_MEMORY * free:
            return LayoutChoice(chosen, None, member_bytes)
        room = SHARE_OF_FREE_MEMORY * free - functions.data_bytes
        fits = max(0, int(chosen.block * room / own))
        narrow = asked and chosen.width > 1 and chosen.groups <= chosen.devices
        if narrow or chosen.how == "data" or chosen.block == 1:
            raise MachineError(
                "memory",
                f"{functions.device_bytes} bytes needed a device for {chosen.block} members, {free} free",
                f"at most {fits} members fit: use a smaller width, batch_size or net"
                if fits
                else "use a smaller net or batch_size, or a device with more memory",
            )
        chosen = _smaller(chosen, max(1, min(fits, chosen.block - 1)))


def _smaller(chosen: Layout, members: int) -> Layout:
    """A layout of fewer members than it has, as near to `members` as whole groups on every device allow."""
    how, width, groups, devices = chosen
    if groups > devices:
        return Layout(how, width, max(devices, members // width // devices * devices), devices)
    if width > 1:
        width = max(1, members // groups)
        return Layout("vmap" if width > 1 else "map", width, groups, devices)
    return make_layout("loop", 1, devices=1)


def _rate(what: ProgramSpec, dataset: Dataset, runs: Runs, chosen: Layout, check: Callable[[], None]) -> float:
    """Samples per second of a layout over the first steps of these runs: the better of two tries of half a chunk."""
    functions, data = compile_population(what, chosen), place_data(dataset, chosen)
    run, here = what.program(chosen), list(runs[: chosen.block])
    key_data, hyper = member_arrays(chosen, here, what.names)
    steps, most, best = 2, max(2, (run.steps - 1) // 2), 0.0
    tries = 0
    while tries < 2:
        distributed.check_all_processes(check)
        state = functions.init(key_data, hyper)
        state = functions.advance(state, key_data, hyper, data, np.int32(1))
        jax.block_until_ready(state)
        start = time.perf_counter()
        state = functions.advance(state, key_data, hyper, data, np.int32(1 + steps))
        jax.block_until_ready(state)
        seconds = time.perf_counter() - start
        if distributed.max_over_processes(int(seconds > 0.5 * chosen.chunk_seconds or steps >= most)):
            tries, best = tries + 1, max(best, steps * what.batch_size * len(here) / seconds)
        else:
            steps = min(
                most,
                distributed.max_over_processes(
                    max(2 * steps, int(0.7 * chosen.chunk_seconds * steps / max(seconds, 1e-4)))
                ),
            )
    return float(distributed.broadcast_arrays(np.float32(best)))
