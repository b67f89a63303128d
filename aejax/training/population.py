"""Many fits in one compiled program: how its members lie on devices, and what it needs.

Members are cut into groups of `width`. A group is one vmap; the groups of a device are taken one after another by a
`lax.map`, so that the bits of a member depend neither on its neighbours nor on how many groups there are. A width of 1
is not vmapped at all, and gives the bits of a fit alone, on any number of devices of one kind.
"""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from aejax.datasets.base import Dataset
from aejax.runtime import distributed, hardware
from aejax.runtime.errors import ConfigError, suggest
from aejax.training.fit_program import Data, FitProgram, FitState, Optimiser, fit_program
from aejax.training.schedules import Schedule, constant
from aejax.variants import Autoencoder

Runs = Sequence[tuple[int, Mapping[str, float]]]
"""(seed, hyper-parameters) of each member."""
LAYOUT_KINDS = ("auto", "vmap", "map", "loop", "data")
MAX_MEMORY_MAP_USAGE = 0.5
"""Share of a process's memory mappings from which compiled programs are forgotten: the other half is for those that
scores and references compile until the next look."""
MIN_PROGRAMS_TO_CLEAR = 8
"""Programs of populations below which none is forgotten: where other things hold the mappings, it would not help."""


class Layout(NamedTuple):
    """How the members of one program lie on devices.

    `how` is "vmap", "map" (a width of 1), "loop" (one member a program call) or "data" (one member, every batch shared
    out over the devices). A block is the `width * groups` members that are trained together.
    """

    how: str
    width: int
    groups: int
    devices: int

    @property
    def block(self) -> int:
        """Members trained together."""
        return self.width * self.groups

    @property
    def chunk_seconds(self) -> float:
        """Seconds a chunk should take: every member's part of one begins by shuffling its epoch anew."""
        return min(4.0, float(max(1, self.groups // self.devices)))

    def sharding(self, *axes: str) -> NamedSharding | None:
        """Placement with these mesh axes; None on a single device of a single process."""
        if self.devices == 1 and not distributed.is_distributed():
            return None
        return NamedSharding(_mesh(self.devices), PartitionSpec(*axes))


class ProgramSpec(NamedTuple):
    """All that is static about a population: equal tasks compile once. `names` are its hyper-parameters."""

    autoencoder: Autoencoder
    names: tuple[str, ...]
    epochs: int
    batch_size: int
    train: tuple[tuple[int, int], str]
    validation: tuple[tuple[int, int], str]
    unit: float
    schedule: Schedule
    optimiser: Optimiser
    full_batch_steps: int

    @property
    def rows(self) -> int:
        """Training rows."""
        return self.train[0][0]

    def program(self, layout: Layout | None = None) -> FitProgram:
        """The functions of one member."""
        rows_over = layout.sharding("members") if layout is not None and layout.how == "data" else None
        return fit_program(
            self.autoencoder,
            rows=self.rows,
            batch_size=self.batch_size,
            epochs=self.epochs,
            unit=self.unit,
            schedule=self.schedule,
            optimiser=self.optimiser,
            full_batch_steps=self.full_batch_steps,
            rows_over=rows_over,
        )


class CompiledPopulation(NamedTuple):
    """`init(key_data, hyper) -> state`, `advance(state, key_data, data, hyper, until) -> state` of a whole block.

    Every array of the block starts with (groups, width). `seconds` is what compiling took, `device_bytes` what a
    device holds at most while it advances, and `data_bytes` how much of that is the dataset.
    """

    init: Callable[..., FitState]
    advance: Callable[..., FitState]
    seconds: float
    device_bytes: int
    data_bytes: int


def program_spec(
    autoencoder: Autoencoder,
    dataset: Dataset,
    names: Sequence[str],
    *,
    epochs: int,
    batch_size: int | None,
    schedule: Schedule = constant,
    optimiser: Optimiser = optax.adam,
    full_batch_steps: int = 1,
) -> ProgramSpec:
    """The task of training on this dataset; `batch_size=None` is the full batch."""
    x_train, x_validation = dataset.x_train, dataset.x_validation
    return ProgramSpec(
        autoencoder,
        tuple(names),
        int(epochs),
        len(x_train) if batch_size is None else int(batch_size),
        (x_train.shape, str(x_train.dtype)),
        (x_validation.shape, str(x_validation.dtype)),
        dataset.unit,
        schedule,
        optimiser,
        full_batch_steps,
    )


def make_layout(
    how: str, members: int, *, width: int | None = None, devices: int | None = None, most: int | None = None
) -> Layout:
    """The layout of so many members, over all devices unless fewer are named. Raises ConfigError.

    With more than `most` groups a device the members are cut into several blocks, as even as they can be: a last block
    is padded to the size of the others.
    """
    if how not in LAYOUT_KINDS[1:]:
        raise ConfigError("how", repr(how), suggest(how, LAYOUT_KINDS))
    devices = len(jax.devices()) if devices is None else devices
    if how == "loop" and not distributed.is_distributed():
        return Layout(how, 1, 1, 1)
    if how == "data":
        return Layout(how, 1, 1, devices)
    if how == "vmap":
        width = width or math.ceil(members / devices)
    else:
        width = 1
    groups = math.ceil(members / width)
    # vmapped members have other bits on one device than on several: how many are left must not decide that
    used = devices if distributed.is_distributed() or width > 1 else min(devices, groups)
    if most is not None and groups > most * used:
        blocks = math.ceil(groups / (most * used))
        sizes = (math.ceil(groups / count / used) * used for count in range(blocks, 2 * blocks))
        groups = min(sizes, key=lambda size: -groups % size)
    return Layout("vmap" if width > 1 else "map", width, math.ceil(groups / used) * used, used)


def place_data(dataset: Dataset, chosen: Layout) -> Data:
    """The training and validation rows on every device of a layout, in the dtype they were loaded in."""
    sharding = chosen.sharding()
    return Data(
        distributed.place_on_devices(dataset.x_train, sharding),
        distributed.place_on_devices(dataset.x_validation, sharding),
    )


def member_arrays(chosen: Layout, runs: Runs, names: Sequence[str]) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Key data (groups, width, words) and hyper-parameters (groups, width) of a block, padded with its first run."""
    padded = [*runs, *[runs[0]] * (chosen.block - len(runs))]
    shape, sharding = (chosen.groups, chosen.width), _over_members(chosen)
    keys = np.stack([np.asarray(jax.random.key_data(jax.random.key(seed))) for seed, _ in padded])
    hyper = {name: np.asarray([point[name] for _, point in padded], np.float32).reshape(shape) for name in names}
    key_data = distributed.place_on_devices(keys.reshape(*shape, *keys.shape[1:]), sharding)
    return key_data, {name: distributed.place_on_devices(values, sharding) for name, values in hyper.items()}


@functools.lru_cache(maxsize=64)
def compile_population(what: ProgramSpec, chosen: Layout) -> CompiledPopulation:
    """Compile a task for a layout. Cached: a second block, or a second population, compiles nothing.

    Where a process of the job holds MOST_MAPPINGS, all programs are forgotten first. All processes call this together.
    """
    many = compile_population.cache_info().currsize >= MIN_PROGRAMS_TO_CLEAR
    if (
        many
        and distributed.max_over_processes(round(1000 * hardware.memory_map_usage())) >= 1000 * MAX_MEMORY_MAP_USAGE
    ):
        clear_compiled_programs()
    start = time.perf_counter()
    run = what.program(chosen)

    def begin(key_data: jax.Array, hyper: dict[str, jax.Array]) -> FitState:
        return run.init(jax.random.wrap_key_data(key_data), hyper)

    def go_on(
        state: FitState, key_data: jax.Array, hyper: dict[str, jax.Array], data: Data, until: jax.Array, step: jax.Array
    ):
        state = state._replace(step=step)
        return run.advance(state, jax.random.wrap_key_data(key_data), data, hyper, until)

    def advance_all(state: FitState, key_data: jax.Array, hyper: dict[str, jax.Array], data: Data, until: jax.Array):
        # all members are at the same step; as one number for all of them it keeps a vmapped loop a loop, and a
        # condition a condition, where one each would compute both branches and select
        return _block(go_on, chosen, 3)(state, key_data, hyper, data, until, state.step[0, 0])

    over, same, shape = _over_members(chosen), chosen.sharding(), (chosen.groups, chosen.width)
    key_data = jax.ShapeDtypeStruct((*shape, *jax.random.key_data(jax.random.key(0)).shape), jnp.uint32, sharding=over)
    hyper = {name: jax.ShapeDtypeStruct(shape, jnp.float32, sharding=over) for name in what.names}
    data = Data(*(jax.ShapeDtypeStruct(*aval, sharding=same) for aval in (what.train, what.validation)))  # pyright: ignore[reportArgumentType]
    until = jax.ShapeDtypeStruct((), jnp.int32, sharding=same)
    init = _jit(_block(begin, chosen, 2), chosen, "pp").lower(key_data, hyper).compile()
    state = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=over),
        jax.eval_shape(_block(begin, chosen._replace(devices=1), 2), key_data, hyper),
    )
    advance = _jit(advance_all, chosen, "ppp--", donate_argnums=0)
    advance = advance.lower(state, key_data, hyper, data, until).compile()
    data_bytes = sum(math.prod(shape) * np.dtype(dtype).itemsize for shape, dtype in (what.train, what.validation))
    return CompiledPopulation(init, advance, time.perf_counter() - start, _device_bytes(advance), data_bytes)


def clear_compiled_programs() -> None:
    """Let go of every compiled program of this process, those of JAX's caches and so of the user's own functions
    among them: what is used again is compiled again.
    """
    compile_population.cache_clear()
    _beginning.cache_clear()
    jax.clear_caches()


def init_from_params(
    what: ProgramSpec, chosen: Layout, key_data: jax.Array, hyper: dict[str, jax.Array], each: list[Any]
) -> FitState:
    """The state of a block before its first step, its members beginning with parameters of their own, padded too."""
    padded = [*each, *[each[0]] * (chosen.block - len(each))]
    shape, sharding = (chosen.groups, chosen.width), _over_members(chosen)

    def place(*leaves: Any) -> Any:
        stacked = np.stack([np.asarray(leaf) for leaf in leaves])
        return distributed.place_on_devices(stacked.reshape(*shape, *stacked.shape[1:]), sharding)

    return _beginning(what, chosen)(key_data, hyper, jax.tree.map(place, *padded))


@functools.lru_cache(maxsize=64)
def _beginning(what: ProgramSpec, chosen: Layout) -> Callable[..., FitState]:
    run = what.program(chosen)

    def begin(key_data: jax.Array, hyper: dict[str, jax.Array], params: Any) -> FitState:
        return run.init(jax.random.wrap_key_data(key_data), hyper, params)

    return _jit(_block(begin, chosen, 3), chosen, "ppp")


@functools.lru_cache(maxsize=8)
def _mesh(devices: int) -> Mesh:
    return Mesh(np.array(jax.devices()[:devices]), ("members",))


def _over_members(chosen: Layout) -> NamedSharding | None:
    return chosen.sharding() if chosen.how == "data" else chosen.sharding("members")


def _block(function: Callable[..., Any], chosen: Layout, of_members: int) -> Callable[..., Any]:
    """The function of one member for the groups of one device; its first `of_members` arguments are members' own."""

    def group(own: tuple, rest: tuple) -> Any:
        if chosen.width > 1:
            return jax.vmap(lambda *own: function(*own, *rest))(*own)
        alone = jax.tree.map(lambda leaf: leaf[0], own)
        return jax.tree.map(lambda leaf: leaf[None], function(*alone, *rest))

    def block(*arguments: Any) -> Any:
        own, rest = arguments[:of_members], arguments[of_members:]
        if len(jax.tree.leaves(own)[0]) == 1:  # nothing to map over
            return jax.tree.map(lambda leaf: leaf[None], group(jax.tree.map(lambda leaf: leaf[0], own), rest))
        return jax.lax.map(lambda own: group(own, rest), own)

    return block


def _jit(block: Callable[..., Any], chosen: Layout, kinds: str, **options: Any) -> Any:
    """Compiled over the layout's devices; `kinds` has a p for every argument that has an axis of members."""
    if chosen.sharding() is None:
        return jax.jit(block, **options)
    if chosen.how == "data":
        return jax.jit(block, out_shardings=chosen.sharding(), **options)
    specs = tuple(PartitionSpec("members") if kind == "p" else PartitionSpec() for kind in kinds)
    # no member knows of another: there is nothing to check about what varies over devices
    shared = jax.shard_map(
        block, mesh=_mesh(chosen.devices), in_specs=specs, out_specs=PartitionSpec("members"), check_vma=False
    )
    return jax.jit(shared, **options)


def _device_bytes(advance: Any) -> int:
    """What XLA says a device needs for this program: arguments, results and temporaries, less what they share."""
    found = advance.memory_analysis()
    if found is None:  # a backend that does not say
        return 0
    held = found.argument_size_in_bytes + found.output_size_in_bytes - found.alias_size_in_bytes
    return int(held + found.temp_size_in_bytes)
