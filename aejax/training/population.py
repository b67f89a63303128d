"""Many fits in one compiled program: how a block of members is compiled, and what it needs."""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import PartitionSpec

from aejax.datasets import Dataset
from aejax.nets import Params
from aejax.runtime import distributed, hardware
from aejax.training.layout import Data, Layout, mesh
from aejax.training.loop import CompiledPopulation, FitState, Hyper, Optimiser, ProgramSpec
from aejax.training.schedules import Schedule, constant
from aejax.variants import Autoencoder

MAX_MEMORY_MAP_USAGE = 0.5
"""Share of a process's memory mappings at which compiled programs are cleared. The other half is for the programs that
scores and references compile until the next look."""
MIN_PROGRAMS_TO_CLEAR = 8
"""Fewer compiled populations than these are not cleared: where other things hold the mappings, it would not help."""


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
    """The spec of training on this dataset. `batch_size=None` is the full batch."""
    x_train = dataset.x_train
    x_validation = dataset.x_validation
    return ProgramSpec(
        autoencoder=autoencoder,
        names=tuple(names),
        epochs=int(epochs),
        batch_size=len(x_train) if batch_size is None else int(batch_size),
        train=(x_train.shape, str(x_train.dtype)),
        validation=(x_validation.shape, str(x_validation.dtype)),
        unit=dataset.unit,
        schedule=schedule,
        optimiser=optimiser,
        full_batch_steps=full_batch_steps,
    )


@functools.lru_cache(maxsize=64)
def compile_population(spec: ProgramSpec, layout: Layout) -> CompiledPopulation:
    """Compile a spec for a layout. Cached: a second block, or a second population, compiles nothing.

    Where a process of the job holds MAX_MEMORY_MAP_USAGE of its mappings, all programs are cleared first. All processes
    call this together.
    """
    if compile_population.cache_info().currsize >= MIN_PROGRAMS_TO_CLEAR:
        usage = distributed.max_over_processes(round(1000 * hardware.memory_map_usage()))
        if usage >= 1000 * MAX_MEMORY_MAP_USAGE:
            clear_compiled_programs()
    start = time.perf_counter()
    program = spec.program(layout)

    def init_member(key_data: jax.Array, hyper: Hyper) -> FitState:
        return program.init(jax.random.wrap_key_data(key_data), hyper)

    def advance_member(
        state: FitState, key_data: jax.Array, hyper: Hyper, data: Data, until: jax.Array, step: jax.Array
    ) -> FitState:
        return program.advance(state._replace(step=step), jax.random.wrap_key_data(key_data), data, hyper, until)

    def advance_block(state: FitState, key_data: jax.Array, hyper: Hyper, data: Data, until: jax.Array) -> FitState:
        # All members are at the same step, so it is passed once. With a step for each member, vmap would turn every
        # condition into both branches and a selection.
        return _over_members(advance_member, layout, 3)(state, key_data, hyper, data, until, state.step[0, 0])

    member_sharding = layout.member_sharding
    replicated = layout.sharding()
    shape = (layout.groups, layout.width)
    key_shape = jax.random.key_data(jax.random.key(0)).shape
    key_data = jax.ShapeDtypeStruct((*shape, *key_shape), jnp.uint32, sharding=member_sharding)
    hyper = {name: jax.ShapeDtypeStruct(shape, jnp.float32, sharding=member_sharding) for name in spec.names}
    data = Data(*(jax.ShapeDtypeStruct(*rows, sharding=replicated) for rows in (spec.train, spec.validation)))  # pyright: ignore[reportArgumentType]
    until = jax.ShapeDtypeStruct((), jnp.int32, sharding=replicated)
    init = _jit(_over_members(init_member, layout, 2), layout, "mm").lower(key_data, hyper).compile()
    state = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=member_sharding),
        jax.eval_shape(_over_members(init_member, layout._replace(devices=1), 2), key_data, hyper),
    )
    advance = _jit(advance_block, layout, "mmm--", donate_argnums=0)
    advance = advance.lower(state, key_data, hyper, data, until).compile()
    return CompiledPopulation(
        spec=spec,
        layout=layout,
        init=init,
        init_from=functools.partial(_init_from, spec, layout),
        advance=advance,
        seconds=time.perf_counter() - start,
        device_bytes=_device_bytes(advance),
        data_bytes=sum(math.prod(shape) * np.dtype(dtype).itemsize for shape, dtype in (spec.train, spec.validation)),
    )


def clear_compiled_programs() -> None:
    """Clear all JAX compilation caches, including those of the caller's jitted functions."""
    compile_population.cache_clear()
    _compile_init_from.cache_clear()
    jax.clear_caches()


def _init_from(
    spec: ProgramSpec, layout: Layout, key_data: jax.Array, hyper: Hyper, members_params: Sequence[Params]
) -> FitState:
    """The state of a block before its first step, from parameters of each member; padded with the first ones."""
    padded = [*members_params, *[members_params[0]] * (layout.block - len(members_params))]
    shape = (layout.groups, layout.width)

    def place(*leaves: Any) -> Any:
        stacked = np.stack([np.asarray(leaf) for leaf in leaves])
        return distributed.place_on_devices(stacked.reshape(*shape, *stacked.shape[1:]), layout.member_sharding)

    return _compile_init_from(spec, layout)(key_data, hyper, jax.tree.map(place, *padded))


@functools.lru_cache(maxsize=64)
def _compile_init_from(spec: ProgramSpec, layout: Layout) -> Callable[..., FitState]:
    program = spec.program(layout)

    def init_member(key_data: jax.Array, hyper: Hyper, params: Params) -> FitState:
        return program.init(jax.random.wrap_key_data(key_data), hyper, params)

    return _jit(_over_members(init_member, layout, 3), layout, "mmm")


def _over_members(function: Callable[..., Any], layout: Layout, member_arguments: int) -> Callable[..., Any]:
    """The function of one member for all groups of one device: a map over groups of a vmap over their members.

    The first `member_arguments` arguments have a value for each member; all members share the others.
    """

    def group(members: tuple, shared: tuple) -> Any:
        if layout.width > 1:
            return jax.vmap(lambda *member: function(*member, *shared))(*members)
        member = jax.tree.map(lambda leaf: leaf[0], members)
        return jax.tree.map(lambda leaf: leaf[None], function(*member, *shared))

    def block(*arguments: Any) -> Any:
        groups = arguments[:member_arguments]
        shared = arguments[member_arguments:]
        if len(jax.tree.leaves(groups)[0]) == 1:  # one group: nothing to map over
            return jax.tree.map(lambda leaf: leaf[None], group(jax.tree.map(lambda leaf: leaf[0], groups), shared))
        return jax.lax.map(lambda members: group(members, shared), groups)

    return block


def _jit(block: Callable[..., Any], layout: Layout, kinds: str, **options: Any) -> Any:
    """Compiled over the layout's devices. `kinds` has an m for every argument that has an axis of members."""
    if layout.sharding() is None:
        return jax.jit(block, **options)
    if layout.how == "data":
        return jax.jit(block, out_shardings=layout.sharding(), **options)
    specs = tuple(PartitionSpec("members") if kind == "m" else PartitionSpec() for kind in kinds)
    # no member depends on another: there is nothing to check about what varies over devices
    sharded = jax.shard_map(
        block, mesh=mesh(layout.devices), in_specs=specs, out_specs=PartitionSpec("members"), check_vma=False
    )
    return jax.jit(sharded, **options)


def _device_bytes(advance: Any) -> int:
    """The bytes that a device needs for this program by XLA's analysis: arguments, results and temporaries, less what
    they share. 0 on a backend without the analysis.
    """
    analysis = advance.memory_analysis()
    if analysis is None:
        return 0
    held = analysis.argument_size_in_bytes + analysis.output_size_in_bytes - analysis.alias_size_in_bytes
    return int(held + analysis.temp_size_in_bytes)
