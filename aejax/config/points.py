"""Points: the hyper-parameter settings of a sweep, as grids, pairs, lists and random draws.

A point is a dict from name to number; `Sweep(hyper=…)` takes a tuple of them, made by hand or by these pure functions.
Numbers are Python's own, and exact in JSON. A run is known by them as they stand, and trained with the nearest float32.
"""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from aejax.runtime import validate
from aejax.runtime.errors import ConfigError

Point = dict[str, float]
Points = tuple[Point, ...]
Value = float | Sequence[float] | np.ndarray


@dataclass(frozen=True)
class Distribution:
    """`draw(generator) -> number`, one at a time, so that more draws begin with the same ones. For `draws` alone."""

    text: str
    draw: Callable[[np.random.Generator], float]

    def __repr__(self) -> str:
        return self.text


def grid(**values: Value) -> Points:
    """All combinations; the last name varies fastest."""
    lists = [_plain((value,)) if (found := several(value)) is None else found for value in values.values()]
    return tuple(dict(zip(values, combination, strict=True)) for combination in itertools.product(*lists))


def zipped(**values: Value) -> Points:
    """The firsts of all, the seconds, … ; a plain number goes with each. Raises ConfigError on unequal lengths."""
    lists = {name: found for name, value in values.items() if (found := several(value)) is not None}
    lengths = {name: len(found) for name, found in lists.items()}
    if not lengths:
        return grid(**values)
    first, *others = lengths
    for name in others:
        if lengths[name] != lengths[first]:
            raise ConfigError(
                f"zipped.{name}", f"{lengths[name]} values, {first} has {lengths[first]}", "give as many, or use grid"
            )
    columns = [lists[name] if name in lists else _plain((values[name],)) * lengths[first] for name in values]
    return tuple(dict(zip(values, numbers, strict=True)) for numbers in zip(*columns, strict=True))


def crossed(*lists: Sequence[Point]) -> Points:
    """Every point of the first with every point of the second, … . Raises ConfigError where two set the same name."""
    names = [set().union(*points) for points in lists]
    for i, mine in enumerate(names):
        for j in range(i):
            for name in sorted(mine & names[j]):
                raise ConfigError(f"crossed[{i}].{name}", f"set by crossed[{j}], too", "set each name in one of them")
    together = itertools.product(*lists)
    return tuple({name: value for point in points for name, value in point.items()} for points in together)


def draws(count: int, seed: int = 0, **values: float | Distribution) -> Points:
    """`count` random points; a plain number is the same in all.

    Each name has a random stream of its own, from `seed` and the name alone: another name changes no other's numbers,
    and more draws begin with the same ones. Draws from an interval are rounded to nine significant digits: finer than
    float32, and the same on every machine. Raises ConfigError on a count, seed or value that cannot be.
    """
    count = validate.whole_number("draws.count", count, minimum=1)
    seed = validate.whole_number("draws.seed", seed, minimum=0, maximum=validate.MAX_SEED)
    if not values:
        raise ConfigError("draws", "nothing to draw", "name a hyper-parameter: l2=points.uniform(0, 0.001)")
    columns: dict[str, list[float]] = {}
    for name, value in values.items():
        if isinstance(value, Distribution):
            word = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8])
            generator = np.random.Generator(np.random.PCG64([seed, word]))  # its bits are the same in every NumPy
            columns[name] = [value.draw(generator) for _ in range(count)]
        elif (listed := several(value)) is not None:
            raise ConfigError(f"draws.{name}", f"{value!r}", f"write points.choice{listed}, or cross it with a grid")
        else:
            columns[name] = list(_plain((value,))) * count
    return tuple(dict(zip(columns, numbers, strict=True)) for numbers in zip(*columns.values(), strict=True))


def uniform(low: float, high: float) -> Distribution:
    """Numbers between the two, each as likely. Raises ConfigError unless low < high."""
    low, high = _interval("uniform", low, high)
    return Distribution(
        f"uniform({low:g}, {high:g})", lambda generator: _rounded(generator.uniform(low, high), low, high)
    )


def log_uniform(low: float, high: float) -> Distribution:
    """Numbers between the two, each order of magnitude as likely. Raises ConfigError unless 0 < low < high."""
    low, high = _interval("log_uniform", low, high)
    if low <= 0:
        raise ConfigError("log_uniform.low", f"{low:g}", "give a number above 0")
    first, last = math.log(low), math.log(high)
    return Distribution(
        f"log_uniform({low:g}, {high:g})",
        lambda generator: _rounded(math.exp(generator.uniform(first, last)), low, high),
    )


def choice(*values: float) -> Distribution:
    """One of the numbers, each as likely. Raises ConfigError when there are none."""
    if not values:
        raise ConfigError("choice", "empty", "give at least one number")
    numbers = _plain(values)
    return Distribution(f"choice{numbers}", lambda generator: numbers[int(generator.integers(len(numbers)))])


def several(value: object) -> tuple[float, ...] | None:
    """A tuple, list, range or one-dimensional array as a tuple of Python's numbers; None where it is none of these."""
    if isinstance(value, np.ndarray) and value.ndim == 1:
        return tuple(value.tolist())
    return _plain(value) if isinstance(value, tuple | list | range) else None


def _interval(name: str, low: float, high: float) -> tuple[float, float]:
    low, high = validate.number(f"{name}.low", low), validate.number(f"{name}.high", high)
    if low >= high:
        raise ConfigError(f"{name}.high", f"{high:g}, low is {low:g}", "give a larger number")
    return low, high


def _rounded(number: float, low: float, high: float) -> float:
    """Without the last digits of `exp`: they differ between machines, and a run is known by its numbers."""
    return min(max(float(f"{number:.9g}"), low), high)


def _plain(values: Iterable[Any]) -> tuple[Any, ...]:
    return tuple(value.item() if isinstance(value, np.generic) else value for value in values)
