"""Which layout a population gets: the one asked for, or the fastest that was measured, as large as memory allows."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np

from aejax.datasets import Dataset
from aejax.runtime import distributed, hardware
from aejax.runtime.errors import MachineError
from aejax.training.layout import Layout, Runs, make_layout, member_arrays, place_data
from aejax.training.loop import ProgramSpec
from aejax.training.population import compile_population

SHARE_OF_FREE_MEMORY = 0.8
MAX_STATE_BYTES = 64 * 2**20
"""Bytes of the states that a device takes in turn: with more, moving them in and out of a chunk costs visible time."""
MIN_SECONDS_TO_MEASURE = 60.0
"""Seconds of training below which layouts are not compared: compiling the others would cost more than it gains."""
MIN_SPEEDUP = 1.1
"""How much faster than the first candidate another layout has to be: bits should not depend on noise."""
MODERATE_WIDTH = 8
"""Width of the vmap that is tried besides the widest."""
LARGE_BATCH = 256
"""Rows a device from which sharing out the batches of a single run is tried."""


class LayoutChoice(NamedTuple):
    """A layout and how it was chosen.

    `rates` are the samples per second of every layout that was measured, None where none was. `member_bytes` is the
    memory of a member. `asked` is what was asked for, None where later runs of the program should not reuse the layout.
    """

    layout: Layout
    rates: dict[str, float] | None
    member_bytes: int | None
    asked: str | None = None


def choose_layout(
    spec: ProgramSpec,
    dataset: Dataset,
    runs: Runs,
    *,
    how: str = "auto",
    width: int | None = None,
    total_members: int | None = None,
    check_interrupt: Callable[[], None] = lambda: None,
) -> LayoutChoice:
    """The layout for these runs: the one asked for, or with "auto" the fastest where measuring is worth the time.

    The first candidate is taken unless another is MIN_SPEEDUP times as fast; on a CPU its fits equal those trained
    alone bit for bit. A layout that does not fit into 80 % of the free memory is made smaller, and further blocks take
    the other runs. `total_members` counts the members of a sweep of which these runs are left: the width of a vmap, on
    which its bits depend, follows from all of them. `check_interrupt` is called where nothing is running on a device.

    Raises ConfigError on an unknown `how`, MachineError where no member fits, or a width that was asked for does not.
    """
    if how != "auto" or width is not None:
        how = "vmap" if how == "auto" else how
        all_members = max(total_members or 0, len(runs))
        default_width = math.ceil(all_members / len(jax.devices())) if how == "vmap" else None
        layout = make_layout(how, len(runs), width=width or default_width, most=_max_groups(spec))
        return _fit_into_memory(spec, layout, check_interrupt, fixed_width=width is not None)
    first, *others = _candidates(spec, len(runs))
    choice = _fit_into_memory(spec, first, check_interrupt)
    if not others:
        return choice
    rate = _measure_rate(spec, dataset, runs, choice.layout, check_interrupt)
    if len(runs) * spec.batch_size * spec.program().steps / rate < MIN_SECONDS_TO_MEASURE:
        return choice
    rates = {choice: rate}
    for layout in others:
        candidate = _fit_into_memory(spec, layout, check_interrupt)
        if candidate.layout not in [measured.layout for measured in rates]:
            rates[candidate] = _measure_rate(spec, dataset, runs, candidate.layout, check_interrupt)
    fastest = max(rates, key=lambda candidate: rates[candidate])
    if rates[fastest] >= MIN_SPEEDUP * rate:
        choice = fastest
    return choice._replace(rates={_name(measured.layout): round(value, 1) for measured, value in rates.items()})


def _name(layout: Layout) -> str:
    return f"{layout.how} {layout.width}" if layout.width > 1 else layout.how


def _candidates(spec: ProgramSpec, members: int) -> list[Layout]:
    """The layouts to compare. The first is taken unmeasured: on a processor the map, which suits its caches."""
    devices = len(jax.devices())
    if members == 1:
        share_batches = devices > 1 and spec.batch_size >= LARGE_BATCH * devices
        return [make_layout("loop", 1), *([make_layout("data", 1)] if share_batches else [])]
    moderate_width = min(MODERATE_WIDTH, math.ceil(members / devices))
    layouts = [make_layout("vmap", members), make_layout("vmap", members, width=moderate_width)]
    place_of_map = 0 if jax.devices()[0].platform == "cpu" else 2
    layouts.insert(place_of_map, make_layout("map", members, most=_max_groups(spec)))
    return list(dict.fromkeys([*layouts, make_layout("loop", members)]))


def _max_groups(spec: ProgramSpec) -> int:
    """How many members' states a device takes in turn within one block."""
    hyper = dict.fromkeys(spec.names, jax.ShapeDtypeStruct((), np.float32))
    state = jax.eval_shape(spec.program().init, jax.random.key(0), hyper)
    state_bytes = sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(state))
    return max(1, MAX_STATE_BYTES // state_bytes)


def _fit_into_memory(
    spec: ProgramSpec, layout: Layout, check_interrupt: Callable[[], None], fixed_width: bool = False
) -> LayoutChoice:
    """The layout, or the largest smaller one whose program fits into the free memory. A width asked for stays."""
    while True:
        distributed.check_all_processes(check_interrupt)
        compiled = compile_population(spec, layout)
        free = distributed.min_bytes_over_processes(hardware.free_bytes(layout.devices))
        members_bytes = compiled.device_bytes - compiled.data_bytes
        member_bytes = math.ceil(members_bytes * layout.devices / layout.block)
        if compiled.device_bytes <= SHARE_OF_FREE_MEMORY * free:
            return LayoutChoice(layout, None, member_bytes)
        room = SHARE_OF_FREE_MEMORY * free - compiled.data_bytes
        members_that_fit = max(0, int(layout.block * room / members_bytes))
        smallest = fixed_width and layout.width > 1 and layout.groups <= layout.devices
        if smallest or layout.how == "data" or layout.block == 1:
            if members_that_fit:
                fix = f"at most {members_that_fit} members fit: use a smaller width, batch_size or net"
            else:
                fix = "use a smaller net or batch_size, or a device with more memory"
            needed = f"{compiled.device_bytes} bytes needed a device for {layout.block} members, {free} free"
            raise MachineError("memory", needed, fix)
        layout = _smaller(layout, max(1, min(members_that_fit, layout.block - 1)))


def _smaller(layout: Layout, members: int) -> Layout:
    """A layout of fewer members, as near to `members` as whole groups on every device allow."""
    how, width, groups, devices = layout
    if groups > devices:
        return Layout(how, width, max(devices, members // width // devices * devices), devices)
    if width > 1:
        width = max(1, members // groups)
        return Layout("vmap" if width > 1 else "map", width, groups, devices)
    return make_layout("loop", 1, devices=1)


def _measure_rate(
    spec: ProgramSpec, dataset: Dataset, runs: Runs, layout: Layout, check_interrupt: Callable[[], None]
) -> float:
    """Samples per second of a layout in the first steps of these runs: the better of two tries of half a chunk."""
    compiled = compile_population(spec, layout)
    data = place_data(dataset, layout)
    block_runs = list(runs[: layout.block])
    key_data, hyper = member_arrays(layout, block_runs, spec.names)
    max_steps = max(2, (spec.program(layout).steps - 1) // 2)
    steps = 2
    tries = 0
    best_rate = 0.0
    while tries < 2:
        distributed.check_all_processes(check_interrupt)
        state = compiled.init(key_data, hyper)
        state = compiled.advance(state, key_data, hyper, data, np.int32(1))
        jax.block_until_ready(state)
        start = time.perf_counter()
        state = compiled.advance(state, key_data, hyper, data, np.int32(1 + steps))
        jax.block_until_ready(state)
        seconds = time.perf_counter() - start
        long_enough = seconds > 0.5 * layout.chunk_seconds or steps >= max_steps
        if distributed.max_over_processes(int(long_enough)):
            tries += 1
            best_rate = max(best_rate, steps * spec.batch_size * len(block_runs) / seconds)
        else:
            wanted = max(2 * steps, int(0.7 * layout.chunk_seconds * steps / max(seconds, 1e-4)))
            steps = min(max_steps, distributed.max_over_processes(wanted))
    return float(distributed.broadcast_arrays(np.float32(best_rate)))
