"""Memoisation of the functions that build nets and variants."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any, ParamSpec, TypeVar

MAX_OBJECTS = 256
"""How many objects of one builder are remembered; the one not used for the longest time is forgotten first."""

P = ParamSpec("P")
T = TypeVar("T")


def build_once(build: Callable[P, T]) -> Callable[P, T]:
    """Decorate a builder so that equal arguments give the same object.

    JAX compiles a program once per function object, so a net that is built twice compiles once.

    Arguments are equal whether passed by position, by keyword or by default, and a list equals a tuple of the same
    items. Arguments of different types differ: `1`, `1.0` and `True` are three arguments, so that a value which the
    builder accepted does not hide one which it refuses. The builder runs, and raises its errors, whenever the arguments
    are new or cannot be hashed.
    """
    signature = inspect.signature(build)

    @functools.lru_cache(maxsize=MAX_OBJECTS)
    def remember(_argument_types: Any, *arguments: P.args, **keywords: P.kwargs) -> T:  # types: only for the key
        return build(*arguments, **keywords)

    @functools.wraps(build)
    def build_or_reuse(*arguments: P.args, **keywords: P.kwargs) -> T:
        bound = signature.bind(*arguments, **keywords)
        bound.apply_defaults()
        bound.arguments.update({name: _list_to_tuple(value) for name, value in bound.arguments.items()})
        values = tuple(bound.arguments.values())
        try:
            hash(values)
        except TypeError:
            return build(*bound.args, **bound.kwargs)
        return remember(_types(values), *bound.args, **bound.kwargs)

    return build_or_reuse


def _list_to_tuple(value: Any) -> Any:
    """A list, or another sequence that is not a text, as a tuple of the same items; any other value unchanged."""
    return tuple(value) if isinstance(value, Sequence) and not isinstance(value, str | bytes | tuple) else value


def _types(value: Any) -> Any:
    """The type of a value and, for a tuple, of its items at every depth."""
    return (type(value), *map(_types, value)) if isinstance(value, tuple) else type(value)
