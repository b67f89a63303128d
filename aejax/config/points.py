"""Points: the hyper-parameter settings of a sweep, as grids, pairs, lists and random draws.

A point is a dict from hyper-parameter to number. `Sweep(hyper=…)` accepts a tuple of points, written by hand or made by
the functions of this module. The numbers are Python numbers, which JSON stores exactly. A run id depends on them as
given; training uses the nearest float32.
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
    """A distribution for `draws`: `draw(generator)` returns one number.

    `draws` calls it once per number, so a larger count extends the same sequence.
    """

    text: str
    draw: Callable[[np.random.Generator], float]

    def __repr__(self) -> str:
        return self.text


def grid(**values: Value) -> Points:
    """All combinations of the values; the last name varies fastest."""
    columns = []
    for value in values.values():
        listed = as_tuple(value)
        columns.append(_python_numbers((value,)) if listed is None else listed)
    return tuple(dict(zip(values, combination, strict=True)) for combination in itertools.product(*columns))


def zipped(**values: Value) -> Points:
    """Point i has the i-th value of each name; a plain number is repeated. Raises ConfigError on unequal lengths."""
    lists = {name: listed for name, value in values.items() if (listed := as_tuple(value)) is not None}
    if not lists:
        return grid(**values)
    first, *others = lists
    count = len(lists[first])
    for name in others:
        if len(lists[name]) != count:
            problem = f"{len(lists[name])} values, {first} has {count}"
            raise ConfigError(f"zipped.{name}", problem, "give as many, or use grid")
    columns = [lists[name] if name in lists else _python_numbers((values[name],)) * count for name in values]
    return tuple(dict(zip(values, numbers, strict=True)) for numbers in zip(*columns, strict=True))


def crossed(*lists: Sequence[Point]) -> Points:
    """Every combination of one point from each list. Raises ConfigError where two lists set the same name."""
    names = [set().union(*points) for points in lists]
    for j, later in enumerate(names):
        for i, earlier in enumerate(names[:j]):
            for name in sorted(later & earlier):
                raise ConfigError(f"crossed[{j}].{name}", f"set by crossed[{i}], too", "set each name in one of them")
    combinations = itertools.product(*lists)
    return tuple({name: value for point in points for name, value in point.items()} for points in combinations)


def draws(count: int, seed: int = 0, **values: float | Distribution) -> Points:
    """`count` random points; a plain number is the same in all of them.

    Each name has its own random stream, which depends on `seed` and the name only: adding a name does not change the
    numbers of the others, and a larger count extends the same sequence. Draws from an interval are rounded to nine
    significant digits: that is finer than float32 and gives the same numbers on every machine. Raises ConfigError for
    a bad count, seed or value.
    """
    count = validate.whole_number("draws.count", count, minimum=1)
    seed = validate.whole_number("draws.seed", seed, minimum=0, maximum=validate.MAX_SEED)
    if not values:
        raise ConfigError("draws", "nothing to draw", "name a hyper-parameter: l2=points.uniform(0, 0.001)")
    columns: dict[str, list[float]] = {}
    for name, value in values.items():
        if isinstance(value, Distribution):
            name_hash = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8])
            # Generator(PCG64(...)) gives the same bits in every NumPy version.
            generator = np.random.Generator(np.random.PCG64([seed, name_hash]))
            columns[name] = [value.draw(generator) for _ in range(count)]
        elif (listed := as_tuple(value)) is not None:
            raise ConfigError(f"draws.{name}", f"{value!r}", f"write points.choice{listed}, or cross it with a grid")
        else:
            columns[name] = list(_python_numbers((value,))) * count
    return tuple(dict(zip(columns, numbers, strict=True)) for numbers in zip(*columns.values(), strict=True))


def uniform(low: float, high: float) -> Distribution:
    """The uniform distribution on [low, high]. Raises ConfigError unless low < high."""
    low, high = _interval("uniform", low, high)

    def draw(generator: np.random.Generator) -> float:
        return _rounded(generator.uniform(low, high), low, high)

    return Distribution(f"uniform({low:g}, {high:g})", draw)


def log_uniform(low: float, high: float) -> Distribution:
    """The distribution on [low, high] with a uniform logarithm. Raises ConfigError unless 0 < low < high."""
    low, high = _interval("log_uniform", low, high)
    if low <= 0:
        raise ConfigError("log_uniform.low", f"{low:g}", "give a number above 0")

    def draw(generator: np.random.Generator) -> float:
        return _rounded(math.exp(generator.uniform(math.log(low), math.log(high))), low, high)

    return Distribution(f"log_uniform({low:g}, {high:g})", draw)


def choice(*values: float) -> Distribution:
    """The uniform distribution on the given numbers. Raises ConfigError when there are none."""
    if not values:
        raise ConfigError("choice", "empty", "give at least one number")
    numbers = _python_numbers(values)

    def draw(generator: np.random.Generator) -> float:
        return numbers[int(generator.integers(len(numbers)))]

    return Distribution(f"choice{numbers}", draw)


def as_tuple(value: Any) -> tuple[float, ...] | None:
    """A tuple, list, range or one-dimensional array as a tuple of Python numbers; None for anything else."""
    is_list = isinstance(value, tuple | list | range) or (isinstance(value, np.ndarray) and value.ndim == 1)
    return _python_numbers(value) if is_list else None


def _interval(name: str, low: float, high: float) -> tuple[float, float]:
    low = validate.number(f"{name}.low", low)
    high = validate.number(f"{name}.high", high)
    if low >= high:
        raise ConfigError(f"{name}.high", f"{high:g}, low is {low:g}", "give a larger number")
    return low, high


def _rounded(number: float, low: float, high: float) -> float:
    """The number to nine digits, within the interval. The last digits of `exp` differ between machines."""
    return min(max(float(f"{number:.9g}"), low), high)


def _python_numbers(values: Iterable[Any]) -> tuple[Any, ...]:
    return tuple(value.item() if isinstance(value, np.generic) else value for value in values)
