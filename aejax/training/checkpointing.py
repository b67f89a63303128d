"""The state of a block in training as arrays by name, for whoever keeps it, and back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

import jax
import numpy as np

from aejax.runtime import distributed
from aejax.runtime.errors import ResultsError
from aejax.training.fit_program import FitState
from aejax.training.population import Layout


class Checkpointer(Protocol):
    """Keeps the state of a block in training somewhere safe. Arrays are by name; `seconds` is training time so far."""

    def load(self) -> tuple[dict[str, np.ndarray], float] | None:
        """What was kept last, with its seconds, or None."""
        ...

    def due(self, unsaved_seconds: float) -> bool:
        """Whether it is time to save; called after every chunk."""
        ...

    def save(self, step: int, arrays: Callable[[], dict[str, np.ndarray]], seconds: float) -> None:
        """Keep this; `arrays` fetches it from the devices, which every process takes part in."""
        ...


def state_arrays(state: FitState, key_data: jax.Array, hyper: Mapping[str, jax.Array]) -> dict[str, np.ndarray]:
    """All there is to a block in training, as arrays by name."""
    tree = {"state": state, "key_data": key_data, "hyper": dict(hyper)}
    leaves = jax.tree_util.tree_leaves_with_path(distributed.gather_to_host(tree))
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}


def restore(
    state: FitState,
    key_data: jax.Array,
    hyper: Mapping[str, jax.Array],
    kept: tuple[dict[str, np.ndarray], float] | None,
    layout: Layout,
) -> tuple[FitState, float]:
    """The state that was kept, in place of a fresh one. Raises ResultsError where it is not of the same block."""
    wanted = state_arrays(state, key_data, hyper)
    held, seconds = kept if kept is not None else (wanted, 0.0)
    for name, array in wanted.items():
        if name not in held or (held[name].shape, held[name].dtype) != (array.shape, array.dtype):
            found = "missing" if name not in held else f"{held[name].dtype} {held[name].shape}"
            raise ResultsError(f"saved state, {name}", f"{found}, expected {array.dtype} {array.shape}", _FRESH)
        if not name.startswith("state/") and not np.array_equal(held[name], array):
            raise ResultsError(f"saved state, {name}", "other runs than asked for", _FRESH)
    if len(held) > len(wanted):
        raise ResultsError(f"saved state, {min(set(held) - set(wanted))}", "not part of this training", _FRESH)
    held = distributed.broadcast_arrays({name: held[name] for name in wanted})
    paths, structure = jax.tree_util.tree_flatten_with_path(state)
    over = layout.sharding("members") if layout.how != "data" else layout.sharding()
    names = (f"state/{jax.tree_util.keystr(path, simple=True, separator='/')}" for path, _ in paths)
    restored = jax.tree_util.tree_unflatten(
        structure, [distributed.place_on_devices(held[name], over) for name in names]
    )
    return restored, seconds


_FRESH = "delete that state's folder to train anew"
