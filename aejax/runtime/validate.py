"""Checks of single values that say field, value and fix. NumPy's numbers are numbers; True and "3" are not."""

from __future__ import annotations

import math
import numbers
from collections.abc import Sequence

import numpy as np

from aejax.runtime.errors import ConfigError

MAX_SEED = 2**32 - 1
"""JAX wraps larger seeds around without a word: `key(2**32)` is `key(0)`."""


def text(field: str, value: object) -> str:
    """The value, when it is a text with something in it. Raises ConfigError."""
    if not isinstance(value, str) or not value.strip():
        raise ConfigError(field, repr(value), "give a text")
    return value


def whole_number(field: str, value: object, *, minimum: int, maximum: int | None = None) -> int:
    """The value as an int, when it is a whole number within the bounds. Raises ConfigError."""
    wanted = f"give a whole number {f'of at least {minimum}' if maximum is None else f'from {minimum} to {maximum}'}"
    if isinstance(value, bool | np.bool_) or not isinstance(value, numbers.Integral):
        raise ConfigError(field, f"{value!r} ({type(value).__name__})", wanted)
    found = int(value)
    if found < minimum or (maximum is not None and found > maximum):
        raise ConfigError(field, f"{found}", wanted)
    return found


def whole_numbers(
    field: str, values: object, *, minimum: int, maximum: int | None = None, empty: str | None = "empty"
) -> tuple[int, ...]:
    """The values as a tuple of ints. Raises ConfigError; `empty` says what having none means, None allows it."""
    if isinstance(values, str | bytes) or not isinstance(values, Sequence):
        raise ConfigError(field, f"{values!r} ({type(values).__name__})", f"give a tuple, such as ({minimum + 1},)")
    if not values and empty is not None:
        raise ConfigError(field, empty, "give at least one")
    return tuple(
        whole_number(f"{field}[{i}]", value, minimum=minimum, maximum=maximum) for i, value in enumerate(values)
    )


def number(field: str, value: object, *, positive: bool = False, within: tuple[float, float] | None = None) -> float:
    """The value as a float, when it is a number of at least 0 (above 0) that float32 can hold. Raises ConfigError.

    `within` are the least and the most it may be, where it has bounds of its own.
    """
    wanted = f"give a finite number {'above 0' if positive else 'of at least 0'}"
    if within is not None:
        wanted = f"give a number from {within[0]:g} to {within[1]:g}"
    if isinstance(value, bool | np.bool_) or not isinstance(value, numbers.Real):
        raise ConfigError(field, f"{value!r} ({type(value).__name__})", wanted)
    try:
        found = float(value)
    except OverflowError as error:
        raise ConfigError(field, f"{str(value)[:20]}…", wanted) from error
    largest, smallest = float(np.finfo(np.float32).max), float(np.finfo(np.float32).tiny)
    if not math.isfinite(found) or not 0 <= found <= largest or (positive and found == 0) or 0 < found < smallest:
        raise ConfigError(field, f"{value!r}", f"{wanted}, within float32's range")
    if within is not None and not within[0] <= found <= within[1]:
        raise ConfigError(field, f"{value!r}", wanted)
    return found
