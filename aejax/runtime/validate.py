"""Checks of single values. Each returns the value, or raises an error that names the field, the value and the fix.

NumPy numbers count as numbers; booleans and texts such as "3" do not.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Sequence

import numpy as np

from aejax.runtime.errors import ConfigError

MAX_SEED = 2**32 - 1
"""The largest seed. JAX silently wraps larger ones around: `key(2**32)` equals `key(0)`."""


def text(field: str, value: object) -> str:
    """The value if it is a text that is not blank. Raises ConfigError."""
    if not isinstance(value, str) or not value.strip():
        raise ConfigError(field, repr(value), "give a text")
    return value


def whole_number(field: str, value: object, *, minimum: int, maximum: int | None = None) -> int:
    """The value as an int if it is a whole number within the bounds. Raises ConfigError."""
    fix = f"give a whole number {f'of at least {minimum}' if maximum is None else f'from {minimum} to {maximum}'}"
    if isinstance(value, bool | np.bool_) or not isinstance(value, numbers.Integral):
        raise ConfigError(field, f"{value!r} ({type(value).__name__})", fix)
    integer = int(value)
    if integer < minimum or (maximum is not None and integer > maximum):
        raise ConfigError(field, f"{integer}", fix)
    return integer


def whole_numbers(
    field: str, values: object, *, minimum: int, maximum: int | None = None, empty: str | None = "empty"
) -> tuple[int, ...]:
    """The values as a tuple of ints. Raises ConfigError.

    `empty` is the problem that the error states for an empty sequence; None allows an empty sequence.
    """
    if isinstance(values, str | bytes) or not isinstance(values, Sequence):
        raise ConfigError(field, f"{values!r} ({type(values).__name__})", f"give a tuple, such as ({minimum + 1},)")
    if not values and empty is not None:
        raise ConfigError(field, empty, "give at least one")
    return tuple(
        whole_number(f"{field}[{i}]", value, minimum=minimum, maximum=maximum) for i, value in enumerate(values)
    )


def number(field: str, value: object, *, positive: bool = False, within: tuple[float, float] | None = None) -> float:
    """The value as a float if it is at least 0 (above 0 if `positive`) and float32 can hold it. Raises ConfigError.

    `within` is an optional minimum and maximum.
    """
    fix = f"give a finite number {'above 0' if positive else 'of at least 0'}"
    if within is not None:
        fix = f"give a number from {within[0]:g} to {within[1]:g}"
    if isinstance(value, bool | np.bool_) or not isinstance(value, numbers.Real):
        raise ConfigError(field, f"{value!r} ({type(value).__name__})", fix)
    try:
        real = float(value)
    except OverflowError as error:
        raise ConfigError(field, f"{str(value)[:20]}…", fix) from error
    largest = float(np.finfo(np.float32).max)
    smallest = float(np.finfo(np.float32).tiny)
    if not math.isfinite(real) or not 0 <= real <= largest or (positive and real == 0) or 0 < real < smallest:
        raise ConfigError(field, f"{value!r}", f"{fix}, within float32's range")
    if within is not None and not within[0] <= real <= within[1]:
        raise ConfigError(field, f"{value!r}", fix)
    return real
