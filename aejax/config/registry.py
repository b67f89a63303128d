"""What a field of a config may hold: functions by name or of one's own, and hyper-parameters."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from aejax import nets, variants
from aejax.config import points
from aejax.datasets.base import Dataset
from aejax.evaluation import scores
from aejax.nets import identity
from aejax.runtime import validate
from aejax.runtime.errors import ConfigError, DataError, suggest
from aejax.training import optimisers, schedules
from aejax.variants import penalties

_ELEMENTWISE = ("celu", "elu", "gelu", "hard_sigmoid", "hard_silu", "hard_tanh", "leaky_relu", "log_sigmoid", "mish")
_ELEMENTWISE += ("relu", "relu6", "selu", "sigmoid", "silu", "soft_sign", "softplus", "squareplus", "tanh")
ACTIVATIONS: dict[str, Callable] = {
    "identity": identity,
    **{name: getattr(jax.nn, name) for name in _ELEMENTWISE if hasattr(jax.nn, name)},
}
# A stored run names its functions, and reading it looks them up here: it never runs code that it brings along.
CHOICES: dict[str, dict[str, Callable]] = {
    "variant": variants.VARIANTS,
    "net": nets.NETS,
    "activation": ACTIVATIONS,
    "coding_activation": ACTIVATIONS,
    "output": {"identity": identity, "sigmoid": jax.nn.sigmoid},
    "error": {"squared_error": penalties.squared_error, "cross_entropy": penalties.cross_entropy},
    "schedule": {name: getattr(schedules, name) for name in ("constant", "linear", "cosine", "warmup_cosine")},
    "optimiser": {name: getattr(optimisers, name) for name in ("adam", "sgd", "nesterov")},
}
CUSTOM_FUNCTION_FIELDS = ("activation", "coding_activation", "schedule")
"""Fields that take a function of one's own. A run is then known by the function's values, too."""
TEXTS = {"precision": ("default", "high", "highest"), "keep": ("best", "last")}
"""Fields that hold one of a few words."""


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
            field, repr(value), f"write the function {value}, not its name" if known else suggest(value, choices)
        )
    if name not in CUSTOM_FUNCTION_FIELDS:
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


def full_batch_steps(value: object, batch_size: int | None) -> int:
    """Steps of a full batch that make an epoch. Raises ConfigError, also where batches are smaller."""
    steps = validate.whole_number("Sweep.full_batch_steps", value, minimum=1, maximum=10_000_000)
    if steps > 1 and batch_size is not None:
        fix = "leave it out, or set batch_size=None"
        raise ConfigError("Sweep.full_batch_steps", f"{steps}, with batches of {batch_size} rows", fix)
    return steps


def from_zero_to_one(data: Dataset) -> None:
    """Raise DataError unless all values are from 0 to 1, as a sigmoid output's are."""
    for split in ("train", "validation", "test"):
        x_nd = getattr(data, f"x_{split}")
        low, high = float(x_nd.min()) / data.unit, float(x_nd.max()) / data.unit
        if low < 0 or high > 1:
            raise DataError(
                data.name,
                f"{split} values from {low:g} to {high:g} with a sigmoid output, which gives 0 to 1",
                "set output=identity, or scale the data into [0, 1] (file:PATH?scale=VALUE divides by VALUE)",
            )


def text(name: str, value: Any) -> None:
    """Raise ConfigError unless the value is one of the words that the field `name` takes."""
    if value not in TEXTS[name]:
        raise ConfigError(f"Sweep.{name}", repr(value), suggest(value, TEXTS[name]))


Hyper = dict[str, float | tuple[float, ...]] | tuple[dict[str, float], ...]
Within = Mapping[str, tuple[float, float]]
CODINGS = "codings"
"""The hyper-parameter that no loss takes: how many codings of the net a run has."""


def hyper(given: object, allowed: tuple[str, ...], widest: int, ranges: variants.Ranges = ()) -> Hyper:
    """Hyper-parameters as checked numbers: a mapping to numbers or tuples of them (a grid), or a tuple of points.

    Besides what the loss takes there may be `codings`, whole numbers from 1 to `widest`. `ranges` are those of the
    variant. Raises ConfigError on a name or number that cannot be.
    """
    within = {name: (least, most) for name, least, most in ranges} | {CODINGS: (1, widest)}
    if isinstance(given, Mapping):
        return _grid(given, allowed, within)
    if isinstance(given, str) or not isinstance(given, Sequence):
        fix = "give a dict of numbers, or a tuple of such dicts"
        raise ConfigError("Sweep.hyper", f"{given!r} ({type(given).__name__})", fix)
    if not given:
        raise ConfigError("Sweep.hyper", "empty: a sweep of zero runs", "give at least one point")
    checked: list[dict[str, float]] = []
    for i, point in enumerate(given):
        field = f"Sweep.hyper[{i}]"
        if not isinstance(point, Mapping):
            raise ConfigError(field, f"{point!r} ({type(point).__name__})", "give a dict of numbers")
        _check_names(point, allowed, field)
        if checked and (CODINGS in point) != (CODINGS in checked[0]):
            found = "not in the points before" if CODINGS in point else "missing"
            raise ConfigError(f"{field}.{CODINGS}", found, "give it in every point or in none")
        checked.append({name: _number(f"{field}.{name}", name, value, within) for name, value in point.items()})
    seen: dict[tuple, int] = {}
    for i, point in enumerate(checked):
        twin = seen.setdefault(tuple(sorted(point.items())), i)
        if twin != i:
            raise ConfigError(f"Sweep.hyper[{i}]", f"the same point as Sweep.hyper[{twin}]", "remove one of them")
    return tuple(checked)


def options(given: object, allowed: tuple[str, ...]) -> dict[str, Any]:
    """Options of a variant or a net as JSON values, lists as tuples. Raises ConfigError on one that cannot be."""
    if not isinstance(given, Mapping):
        raise ConfigError("Sweep.options", f"{given!r} ({type(given).__name__})", "give a dict of options by name")
    checked = {}
    for name, value in given.items():
        if name not in allowed:
            fix = suggest(str(name), allowed) if allowed else "leave options out: this variant on this net has none"
            raise ConfigError(f"Sweep.options.{name}", "unknown option", fix)
        value = tuple(value) if isinstance(value, list) else value
        for one in value if isinstance(value, tuple) else (value,):
            finite = not isinstance(one, float) or np.isfinite(one)
            if not (isinstance(one, bool | int | float | str | None) and finite):
                raise ConfigError(f"Sweep.options.{name}", repr(value), "give a number, a text, or a tuple of these")
        checked[name] = value
    return dict(sorted(checked.items()))


def measures(given: object) -> tuple[scores.Score, ...]:
    """Scores, each once, as a tuple. Raises ConfigError."""
    several: tuple[Any, ...] = tuple(given) if isinstance(given, tuple | list) else (given,)
    for i, one in enumerate(several):
        if not isinstance(one, scores.Score):
            fix = f"make it with one of {', '.join(f'scores.{name}()' for name in scores.SCORES) or 'aejax.scores'}"
            raise ConfigError(f"Sweep.scores[{i}]", repr(one), fix)
        if one in several[:i]:
            raise ConfigError(f"Sweep.scores[{i}]", f"{one.name} twice", "remove one of them")
        for other in several[:i]:
            for name in (field for field, *_ in one.headers if field in [taken for taken, *_ in other.headers]):
                fix = "ask for one of them, and for the other in a sweep of its own"
                raise ConfigError(f"Sweep.scores[{i}]", f"{one.name} and {other.name} both give {name}", fix)
    return several


def _grid(given: Mapping, allowed: tuple[str, ...], within: Within) -> dict[str, float | tuple[float, ...]]:
    _check_names(given, allowed, "Sweep.hyper")
    checked: dict[str, float | tuple[float, ...]] = {}
    for name, value in given.items():
        field, several = f"Sweep.hyper.{name}", points.several(value)
        values = (value,) if several is None else several
        if not values:
            raise ConfigError(field, "empty: a sweep of zero runs", "give at least one number")
        found = tuple(_number(field, name, one, within) for one in values)
        checked[name] = found[0] if several is None else found
    return checked


def _check_names(given: Mapping, of_the_loss: tuple[str, ...], field: str) -> None:
    needed = ("learning_rate", *of_the_loss)
    for name in given:
        if name not in (*needed, CODINGS):
            raise ConfigError(f"{field}.{name}", "unknown hyper-parameter", suggest(name, (*needed, CODINGS)))
    variants.check_hyper([name for name in given if name != CODINGS], needed, field)


def _number(field: str, name: str, value: object, within: Within) -> float:
    if name == CODINGS:
        return validate.whole_number(field, value, minimum=1, maximum=int(within[CODINGS][1]))
    found = validate.number(field, value, positive=name == "learning_rate", within=within.get(name))
    return found + 0.0  # -0.0 is the same run as 0.0
