"""What a field of a config may hold: the functions it may name, and checks that say field, value and fix."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import jax

from aejax import penalties, schedules, variants
from aejax.errors import ConfigError, nearest
from aejax.nets import identity

ACTIVATIONS: dict[str, Callable] = {
    "identity": identity,
    **{
        name: getattr(jax.nn, name)
        for name in ("elu", "gelu", "leaky_relu", "relu", "selu", "sigmoid", "silu", "softplus", "tanh")
    },
}
# A stored run names its functions; only these can be named, so reading a run never runs code that it brings along.
CHOICES: dict[str, dict[str, Callable]] = {
    "variant": {"plain": variants.plain},
    "activation": ACTIVATIONS,
    "coding_activation": ACTIVATIONS,
    "output": {"identity": identity, "sigmoid": jax.nn.sigmoid},
    "error": {"squared_error": penalties.squared_error, "cross_entropy": penalties.cross_entropy},
    "schedule": {name: getattr(schedules, name) for name in ("constant", "linear", "cosine", "warmup_cosine")},
}
PRECISIONS = ("default", "high", "highest")


def function_name(name: str, function: Callable) -> str:
    """The name under which a config stores a function."""
    for known, candidate in CHOICES[name].items():
        if candidate is function:
            return known
    return f"{getattr(function, '__module__', '?')}.{getattr(function, '__qualname__', repr(function))}"


def text(name: str, value: object) -> None:
    """Raise ConfigError unless the value is a text with something in it."""
    if not isinstance(value, str) or not value:
        raise ConfigError(f"Sweep.{name}", repr(value), "give a text")


def whole_number(name: str, value: object, *, least: int, most: int | None = None) -> None:
    """Raise ConfigError unless the value is an int (not a bool) within the bounds."""
    above = f"at least {least}" if most is None else f"from {least} to {most}"
    if isinstance(value, bool) or not isinstance(value, int):
        raise ConfigError(f"Sweep.{name}", f"{value!r} is a {type(value).__name__}", f"give a whole number {above}")
    if value < least or (most is not None and value > most):
        raise ConfigError(f"Sweep.{name}", f"{value}", f"give a whole number {above}")


def whole_numbers(
    name: str, values: object, *, least: int, most: int | None = None, may_be_empty: bool = False
) -> tuple[int, ...]:
    """The values as a tuple. Raises ConfigError unless each is a whole number within the bounds."""
    if not isinstance(values, tuple | list):
        raise ConfigError(
            f"Sweep.{name}", f"{values!r} is a {type(values).__name__}", f"give a tuple, such as ({least + 1},)"
        )
    if not values and not may_be_empty:
        raise ConfigError(
            f"Sweep.{name}", "empty: a sweep of zero runs" if name == "seeds" else "empty", "give at least one"
        )
    for i, value in enumerate(values):
        whole_number(f"{name}[{i}]", value, least=least, most=most)
    return tuple(values)


def function(name: str, value: object, choices: Mapping[str, Callable]) -> None:
    """Raise ConfigError unless the value is one of the functions; a schedule may be any."""
    if not callable(value):
        hint = f"write the function {value}, not its name" if value in choices else nearest(value, list(choices))
        raise ConfigError(f"Sweep.{name}", repr(value), hint)
    if name == "schedule":
        return  # any function of the number of steps
    if value not in choices.values():
        raise ConfigError(
            f"Sweep.{name}",
            getattr(value, "__name__", repr(value)),
            f"a run must be readable later: {nearest('', list(choices))}",
        )


def hyper(given: object, allowed: tuple[str, ...]) -> dict[str, float | tuple[float, ...]]:
    """Hyper-parameters as floats or tuples of floats. Raises ConfigError on a name or number that cannot be."""
    if not isinstance(given, Mapping):
        raise ConfigError("Sweep.hyper", f"{given!r} is a {type(given).__name__}", "give a dict of numbers")
    variants.check_hyper(given, ("learning_rate", *allowed), "Sweep.hyper")
    checked: dict[str, float | tuple[float, ...]] = {}
    for name, value in given.items():
        values = value if isinstance(value, tuple | list) else (value,)
        if not values:
            raise ConfigError(f"Sweep.hyper.{name}", "empty: a sweep of zero runs", "give at least one number")
        for number in values:
            positive = name == "learning_rate"
            wanted = f"give a finite number {'above 0' if positive else 'of at least 0'}"
            if isinstance(number, bool) or not isinstance(number, int | float):
                raise ConfigError(f"Sweep.hyper.{name}", f"{number!r} is a {type(number).__name__}", wanted)
            if not math.isfinite(number) or number < 0 or (positive and number == 0):
                raise ConfigError(f"Sweep.hyper.{name}", f"{number!r}", wanted)
        numbers = tuple(float(number) for number in values)
        checked[name] = numbers if isinstance(value, tuple | list) else numbers[0]
    return checked
