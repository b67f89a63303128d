"""`--set field=value`: change fields of sweeps from the command line."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any

from aejax.config import points, registry
from aejax.config.sweep import Sweep
from aejax.config.validate_sweep import CODINGS
from aejax.runtime.errors import ConfigError, suggest


def override(sweeps: Sequence[Sweep], assignments: Sequence[str]) -> list[Sweep]:
    """The sweeps with every `field=value` and `hyper.name=value` applied to each; a list is comma-separated.

    Where `hyper` is a list of points, an assigned hyper-parameter replaces its value in every point, and points that
    become equal count once. Several assigned values are combined with every remaining point. Raises ConfigError for
    an unknown field or a bad value.
    """
    return [dataclasses.replace(sweep, **_changes(sweep, assignments)) for sweep in sweeps]


def _changes(sweep: Sweep, assignments: Sequence[str]) -> dict[str, Any]:
    """The changed fields of all assignments. They are applied together: cross-entropy, say, needs a sigmoid output."""
    hyper_names = [f"hyper.{name}" for name in dict.fromkeys([*sweep.points()[0], CODINGS])]
    field_names = [field.name for field in dataclasses.fields(sweep)]
    fields: dict[str, Any] = {}
    hyper: dict[str, Any] = {}
    for assignment in assignments:
        name, separator, text = assignment.partition("=")
        if not separator or not name:
            raise ConfigError("--set", repr(assignment), "write field=value, for example --set epochs=20")
        if name.startswith("hyper."):
            hyper[name.removeprefix("hyper.")] = _parse(text)
        elif name == "hyper":
            raise ConfigError("--set hyper", repr(text), f"set one of {', '.join(hyper_names)}")
        elif name not in field_names:
            wanted = f"hyper.{name}" if f"hyper.{name}" in hyper_names else name
            raise ConfigError(f"--set {name}", "unknown field", suggest(wanted, [*field_names, *hyper_names]))
        elif name in registry.CHOICES:
            if text not in registry.CHOICES[name]:
                raise ConfigError(f"--set {name}", repr(text), suggest(text, registry.CHOICES[name]))
            fields[name] = registry.CHOICES[name][text]
        elif name in ("label", "dataset"):
            fields[name] = text
        else:
            value = _parse(text)
            single = name in ("widths", "seeds", "decoder_widths") and isinstance(value, int)
            fields[name] = (value,) if single else value
    return {**fields, "hyper": _changed_hyper(sweep, hyper)}


def _changed_hyper(sweep: Sweep, changed: Mapping[str, Any]) -> Any:
    """The sweep's hyper-parameters with the changed ones applied."""
    if isinstance(sweep.hyper, Mapping):
        return {**sweep.hyper, **changed}
    if not changed:
        return sweep.hyper
    unchanged = [{name: value for name, value in point.items() if name not in changed} for point in sweep.hyper]
    distinct = {tuple(sorted(point.items())): point for point in unchanged}
    return points.crossed(tuple(distinct.values()), points.grid(**changed))


def _parse(text: str) -> Any:
    """A JSON value; `None`, `True` or `False`; a comma-separated list of these; or else the text itself."""
    python_words = {"None": None, "True": True, "False": False}
    if text in python_words:
        return python_words[text]
    try:
        value = json.loads(text)
    except ValueError:
        parts = [part.strip() for part in text.removeprefix("(").removesuffix(")").removesuffix(",").split(",")]
        return tuple(_parse(part) for part in parts) if len(parts) > 1 and all(parts) else text
    return tuple(value) if isinstance(value, list) else value
