"""What a field of a config may hold: functions by name or of one's own, and hyper-parameters."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from aejax import checks, penalties, schedules, variants
from aejax.errors import ConfigError, nearest
from aejax.nets import identity

_ELEMENTWISE = ("celu", "elu", "gelu", "hard_sigmoid", "hard_silu", "hard_tanh", "leaky_relu", "log_sigmoid", "mish")
_ELEMENTWISE += ("relu", "relu6", "selu", "sigmoid", "silu", "soft_sign", "softplus", "squareplus", "tanh")
ACTIVATIONS: dict[str, Callable] = {
    "identity": identity,
    **{name: getattr(jax.nn, name) for name in _ELEMENTWISE if hasattr(jax.nn, name)},
}
# A stored run names its functions, and reading it looks them up here: it never runs code that it brings along.
CHOICES: dict[str, dict[str, Callable]] = {
    "variant": {"plain": variants.plain},
    "activation": ACTIVATIONS,
    "coding_activation": ACTIVATIONS,
    "output": {"identity": identity, "sigmoid": jax.nn.sigmoid},
    "error": {"squared_error": penalties.squared_error, "cross_entropy": penalties.cross_entropy},
    "schedule": {name: getattr(schedules, name) for name in ("constant", "linear", "cosine", "warmup_cosine")},
}
OWN = ("activation", "coding_activation", "schedule")
"""Fields that take a function of one's own. A run is then known by the function's values, too."""
PRECISIONS = ("default", "high", "highest")


def function_name(name: str, function: Callable) -> str:
    """The name under which a config stores a function."""
    for known, candidate in CHOICES[name].items():
        if candidate is function:
            return known
    return f"{getattr(function, '__module__', '?')}.{getattr(function, '__qualname__', type(function).__name__)}"


def digest(name: str, function: Callable) -> str | None:
    """For a function of one's own a hash of its values, so that another function of the same name is another run.

    None for a function aejax knows. A schedule is asked for all of 1 000 and of 10 000 steps, an activation for 4 001
    values from -20 to 20.
    """
    if any(function is known for known in CHOICES[name].values()):
        return None
    if name == "schedule":
        parts = [jax.vmap(function(steps))(jnp.arange(steps)) for steps in (1_000, 10_000)]
    else:
        parts = [function(jnp.linspace(-20.0, 20.0, 4_001))]
    return hashlib.sha256(b"".join(np.asarray(part, np.float32).tobytes() for part in parts)).hexdigest()[:16]


def function(name: str, value: Any) -> None:
    """Raise ConfigError unless the value is a function that the field `name` takes."""
    field, choices = f"Sweep.{name}", CHOICES[name]
    if any(value is choice for choice in choices.values()):
        return
    if not callable(value):
        known = isinstance(value, str) and value in choices
        raise ConfigError(
            field, repr(value), f"write the function {value}, not its name" if known else nearest(value, choices)
        )
    if name not in OWN:
        raise ConfigError(field, getattr(value, "__name__", repr(value)), f"allowed: {', '.join(choices)}")
    if name == "schedule":
        wanted, shape = "give a function of the number of steps: lambda n: optax.cosine_decay_schedule(1.0, n)", ()
    else:
        wanted, shape = "give an elementwise function of an array, such as jax.nn.relu", (2, 3)
    call: Callable[..., Any] = value
    try:
        found = np.asarray(call(1_000)(0) if name == "schedule" else call(jnp.zeros(shape)))
        good = found.shape == shape and bool(np.isfinite(found).all())
        digest(name, value)
    except Exception as error:
        found, good = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}", False
    if not good:
        raise ConfigError(field, f"{getattr(value, '__name__', repr(value))} gives {found}", wanted)


def hyper(given: object, allowed: tuple[str, ...]) -> dict[str, float | tuple[float, ...]]:
    """Hyper-parameters as floats or tuples of floats. Raises ConfigError on a name or number that cannot be."""
    if not isinstance(given, Mapping):
        raise ConfigError("Sweep.hyper", f"{given!r} ({type(given).__name__})", "give a dict of numbers")
    variants.check_hyper(given, ("learning_rate", *allowed), "Sweep.hyper")
    checked: dict[str, float | tuple[float, ...]] = {}
    for name, value in given.items():
        field, several = f"Sweep.hyper.{name}", isinstance(value, tuple | list)
        values = tuple(value) if several else (value,)
        if not values:
            raise ConfigError(field, "empty: a sweep of zero runs", "give at least one number")
        found = tuple(checks.number(field, one, positive=name == "learning_rate") for one in values)
        checked[name] = found if several else found[0]
    return checked
