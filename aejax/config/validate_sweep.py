"""Checks of a `Sweep`'s values. Every error names the field, the value and the fix."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from aejax import nets, variants
from aejax.config import points, registry
from aejax.evaluation.scores import SCORES, Score
from aejax.runtime import validate
from aejax.runtime.errors import ConfigError, suggest
from aejax.training import greedy

Hyper = dict[str, float | tuple[float, ...]] | tuple[dict[str, float], ...]
"""Checked hyper-parameters: a grid of numbers and tuples of numbers, or a tuple of points."""
Bounds = Mapping[str, tuple[float, float]]
"""Smallest and largest allowed value by hyper-parameter."""
NO_RUNS = "empty: a sweep of zero runs"
CODINGS = "codings"
"""The hyper-parameter that says how many codings a run trains. Like `learning_rate` it is no argument of the loss."""


def check_function(field: str, value: Any) -> None:
    """Raise ConfigError unless the value is a function that this field accepts.

    A user's function is called once: a schedule must give a finite number, an activation must be elementwise.
    """
    path = f"Sweep.{field}"
    choices = registry.CHOICES[field]
    if any(value is choice for choice in choices.values()):
        return
    if not callable(value):
        is_name = isinstance(value, str) and value in choices
        fix = f"write the function {value}, not its name" if is_name else suggest(value, choices)
        raise ConfigError(path, repr(value), fix)
    name = getattr(value, "__name__", repr(value))
    if field not in registry.CUSTOM_FUNCTION_FIELDS:
        raise ConfigError(path, name, f"allowed: {', '.join(choices)}")
    function: Callable[..., Any] = value
    shape = (2, 3)
    fix = "give an elementwise function of an array, such as jax.nn.relu"
    if field == "schedule":
        shape = ()
        fix = "give a function of the number of steps: lambda n: optax.cosine_decay_schedule(1.0, n)"
    try:
        result = np.asarray(function(1_000)(0) if field == "schedule" else function(jnp.zeros(shape)))
        usable = result.shape == shape and bool(np.isfinite(result).all())
        registry.function_digest(field, function)
    except Exception as error:
        result = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        usable = False
    if not usable:
        raise ConfigError(path, f"{name} gives {result}", fix)


def check_pretraining(sweep: Any, autoencoder: variants.Autoencoder) -> None:
    """Raise ConfigError where a `Sweep` asks for a pretraining that its net does not allow.

    Greedy pretraining needs dense encoder layers and a decoder that mirrors them. `autoencoder` is built by the sweep.
    """
    path = "Sweep.pretraining"
    pretraining: Any = sweep.pretraining
    if pretraining is None:
        return
    if not isinstance(pretraining, greedy.Greedy):
        raise ConfigError(path, repr(pretraining), "give greedy.Greedy(epochs=…, learning_rate=…), or leave it out")
    mirrored = sweep.decoder_widths in (None, sweep.widths[-2::-1])
    if sweep.net is not nets.mlp or not mirrored or len(sweep.widths) < 2:
        problem = "set, but the net is not a stack of two or more dense layers and their mirror"
        raise ConfigError(path, problem, "set net to mlp, give two widths or more, and leave decoder_widths out")
    built: list[Any] = [autoencoder, greedy.stack_of(sweep, sweep.codings + 1).net()]
    shapes, dense_shapes = [jax.tree.map(lambda leaf: leaf.shape, nets.parameter_shapes(net)) for net in built]
    for part in ("encoder", "decoder"):
        if autoencoder.activates_codings or shapes.get(part) != dense_shapes[part]:
            problem = f"set, but the {part} of this variant is not a plain stack of dense layers"
            raise ConfigError(path, problem, "leave it out, or use the variant plain")


def hyper(value: object, loss_names: tuple[str, ...], most_codings: int, ranges: variants.Ranges = ()) -> Hyper:
    """The checked hyper-parameters: a grid (a dict of numbers or tuples of them), or a tuple of points.

    Allowed names are `learning_rate`, `loss_names` (the hyper-parameters of the loss) and `codings`, a whole number
    from 1 to `most_codings`. `ranges` are the variant's bounds. Raises ConfigError for an unknown or missing name, a
    number that is out of range, and a repeated point.
    """
    bounds = {name: (least, most) for name, least, most in ranges} | {CODINGS: (1, most_codings)}
    if isinstance(value, Mapping):
        return _grid(value, loss_names, bounds)
    if isinstance(value, str) or not isinstance(value, Sequence):
        fix = "give a dict of numbers, or a tuple of such dicts"
        raise ConfigError("Sweep.hyper", f"{value!r} ({type(value).__name__})", fix)
    if not value:
        raise ConfigError("Sweep.hyper", NO_RUNS, "give at least one point")
    checked: list[dict[str, float]] = []
    for i, point in enumerate(value):
        path = f"Sweep.hyper[{i}]"
        if not isinstance(point, Mapping):
            raise ConfigError(path, f"{point!r} ({type(point).__name__})", "give a dict of numbers")
        _check_names(point, loss_names, path)
        if checked and (CODINGS in point) != (CODINGS in checked[0]):
            problem = "not in the points before" if CODINGS in point else "missing"
            raise ConfigError(f"{path}.{CODINGS}", problem, "give it in every point or in none")
        checked.append({name: _number(f"{path}.{name}", name, number, bounds) for name, number in point.items()})
    first_index: dict[tuple, int] = {}
    for i, point in enumerate(checked):
        first = first_index.setdefault(tuple(sorted(point.items())), i)
        if first != i:
            raise ConfigError(f"Sweep.hyper[{i}]", f"the same point as Sweep.hyper[{first}]", "remove one of them")
    return tuple(checked)


def options(value: object, allowed: tuple[str, ...]) -> dict[str, Any]:
    """The checked options of a variant and a net as JSON values, lists as tuples, sorted by name. Raises ConfigError.

    `allowed` are the option names of the variant and the net.
    """
    if not isinstance(value, Mapping):
        raise ConfigError("Sweep.options", f"{value!r} ({type(value).__name__})", "give a dict of options by name")
    checked = {}
    for name, option in value.items():
        if name not in allowed:
            fix = suggest(str(name), allowed) if allowed else "leave options out: this variant on this net has none"
            raise ConfigError(f"Sweep.options.{name}", "unknown option", fix)
        option = tuple(option) if isinstance(option, list) else option
        for item in option if isinstance(option, tuple) else (option,):
            if not isinstance(item, int | float | str | None) or (isinstance(item, float) and not np.isfinite(item)):
                raise ConfigError(f"Sweep.options.{name}", repr(option), "give a number, a text, or a tuple of these")
        checked[name] = option
    return dict(sorted(checked.items()))


def scores(value: object) -> tuple[Score, ...]:
    """The checked scores as a tuple.

    Raises ConfigError for a value that is not a score, a repeated score, and two scores that give the same number.
    """
    checked: tuple[Any, ...] = tuple(value) if isinstance(value, tuple | list) else (value,)
    for i, score in enumerate(checked):
        path = f"Sweep.scores[{i}]"
        if not isinstance(score, Score):
            fix = f"make it with one of {', '.join(f'scores.{name}()' for name in SCORES) or 'aejax.scores'}"
            raise ConfigError(path, repr(score), fix)
        if score in checked[:i]:
            raise ConfigError(path, f"{score.name} twice", "remove one of them")
        for other in checked[:i]:
            other_numbers = [number for number, *_ in other.headers]
            for number, *_ in score.headers:
                if number in other_numbers:
                    problem = f"{score.name} and {other.name} both give {number}"
                    raise ConfigError(path, problem, "keep one of them, and put the other into a second sweep")
    return checked


def _grid(value: Mapping, loss_names: tuple[str, ...], bounds: Bounds) -> dict[str, float | tuple[float, ...]]:
    _check_names(value, loss_names, "Sweep.hyper")
    checked: dict[str, float | tuple[float, ...]] = {}
    for name, entry in value.items():
        path = f"Sweep.hyper.{name}"
        listed = points.as_tuple(entry)
        if listed is None:
            checked[name] = _number(path, name, entry, bounds)
        elif listed:
            checked[name] = tuple(_number(path, name, number, bounds) for number in listed)
        else:
            raise ConfigError(path, NO_RUNS, "give at least one number")
    return checked


def _check_names(given: Mapping, loss_names: tuple[str, ...], path: str) -> None:
    required = ("learning_rate", *loss_names)
    allowed = (*required, CODINGS)
    for name in given:
        if name not in allowed:
            raise ConfigError(f"{path}.{name}", "unknown hyper-parameter", suggest(name, allowed))
    variants.check_hyper([name for name in given if name != CODINGS], required, path)


def _number(path: str, name: str, value: object, bounds: Bounds) -> float:
    if name == CODINGS:
        return validate.whole_number(path, value, minimum=1, maximum=int(bounds[CODINGS][1]))
    number = validate.number(path, value, positive=name == "learning_rate", within=bounds.get(name))
    return number + 0.0  # turns -0.0 into 0.0: both give the same run
