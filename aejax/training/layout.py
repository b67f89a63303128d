"""How the members of a population lie on devices.

Members are cut into groups of `width`. A group is one vmap. The groups of a device are taken one after another by a
`lax.map`, so that the bits of a member depend neither on its neighbours nor on the number of groups. A group of width 1
is not vmapped and has the bits of a fit alone, on any number of devices of one kind.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from aejax.datasets import Dataset
from aejax.runtime import distributed
from aejax.runtime.errors import ConfigError, suggest

Runs = Sequence[tuple[int, Mapping[str, float]]]
"""(seed, hyper-parameters) of each member."""
LAYOUT_KINDS = ("auto", "vmap", "map", "loop", "data")


class Data(NamedTuple):
    """Training and validation rows on the device, (n, d), in the dtype they were loaded in."""

    x_train: jax.Array
    x_validation: jax.Array


class Layout(NamedTuple):
    """How the members of one program lie on devices.

    `how` is "vmap", "map" (a width of 1), "loop" (one member a program call) or "data" (one member, the rows of every
    batch shared out over the devices). A block is the `width * groups` members that are trained together.
    """

    how: str
    width: int
    groups: int
    devices: int

    @property
    def block(self) -> int:
        """Number of members that are trained together."""
        return self.width * self.groups

    @property
    def chunk_seconds(self) -> float:
        """Seconds that a chunk should take. More groups on a device take longer: each shuffles its rows first."""
        return min(4.0, float(max(1, self.groups // self.devices)))

    def sharding(self, *axes: str) -> NamedSharding | None:
        """Placement with these mesh axes, None on a single device of a single process."""
        if self.devices == 1 and not distributed.is_distributed():
            return None
        return NamedSharding(mesh(self.devices), PartitionSpec(*axes))

    @property
    def member_sharding(self) -> NamedSharding | None:
        """Placement of arrays whose first axis is that of groups."""
        return self.sharding() if self.how == "data" else self.sharding("members")


def make_layout(
    how: str, members: int, *, width: int | None = None, devices: int | None = None, most: int | None = None
) -> Layout:
    """The layout of so many members, over all devices unless fewer are named.

    With more than `most` groups a device the members are cut into several blocks of sizes as equal as possible; the
    last block is padded to the size of the others. Raises ConfigError on an unknown `how`.
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
    # Vmapped members have other bits on one device than on several: the number of missing runs must not decide that.
    used = devices if distributed.is_distributed() or width > 1 else min(devices, groups)
    if most is not None and groups > most * used:
        blocks = math.ceil(groups / (most * used))
        sizes = (math.ceil(groups / count / used) * used for count in range(blocks, 2 * blocks))
        groups = min(sizes, key=lambda size: -groups % size)
    return Layout("vmap" if width > 1 else "map", width, math.ceil(groups / used) * used, used)


def place_data(dataset: Dataset, layout: Layout) -> Data:
    """The training and validation rows on every device of a layout, in the dtype they were loaded in."""
    place = functools.partial(distributed.place_on_devices, sharding=layout.sharding())
    return Data(place(dataset.x_train), place(dataset.x_validation))


def member_arrays(layout: Layout, runs: Runs, names: Sequence[str]) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Key data (groups, width, words) and hyper-parameters (groups, width) of a block, padded with its first run."""
    padded = [*runs, *[runs[0]] * (layout.block - len(runs))]
    shape = (layout.groups, layout.width)
    sharding = layout.member_sharding
    keys = np.stack([np.asarray(jax.random.key_data(jax.random.key(seed))) for seed, _ in padded])
    hyper = {name: np.asarray([point[name] for _, point in padded], np.float32).reshape(shape) for name in names}
    key_data = distributed.place_on_devices(keys.reshape(*shape, *keys.shape[1:]), sharding)
    return key_data, {name: distributed.place_on_devices(values, sharding) for name, values in hyper.items()}


@functools.lru_cache(maxsize=8)
def mesh(devices: int) -> Mesh:
    """A mesh of the first so many devices, with the one axis "members"."""
    return Mesh(np.array(jax.devices()[:devices]), ("members",))
