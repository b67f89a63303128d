"""`--set field=value`: a sweep with some of its fields changed on the command line."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any

from aejax.config import points, registry
from aejax.config.sweep import Sweep
from aejax.runtime.errors import ConfigError, suggest


def override(sweeps: Sequence[Sweep], assignments: Sequence[str]) -> list[Sweep]:
    """The sweeps with every `field=value` and `hyper.name=value` set in each. Lists are comma-separated.

    A hyper-parameter of a sweep that is a list of points is set in every point; those that are then the same count
    once, and with several values each is tried with every point that is left.
    """
    return [dataclasses.replace(sweep, **_changes(sweep, assignments)) for sweep in sweeps]


def _changes(sweep: Sweep, assignments: Sequence[str]) -> dict[str, Any]:
    """All assignments together: one may need another, as cross-entropy needs a sigmoid."""
    known = list(dict.fromkeys([*sweep.points()[0], registry.CODINGS]))
    names, changes, hyper = [f.name for f in dataclasses.fields(sweep)], {}, {}
    for assignment in assignments:
        name, separator, text = assignment.partition("=")
        if not separator or not name:
            raise ConfigError("--set", repr(assignment), "write field=value, for example --set epochs=20")
        if name.startswith("hyper."):
            hyper[name.removeprefix("hyper.")] = _parse(text)
        elif name == "hyper":
            raise ConfigError("--set hyper", repr(text), f"set one of {', '.join(f'hyper.{n}' for n in known)}")
        elif name not in names:
            meant = f"hyper.{name}" if name in known else name
            raise ConfigError(
                f"--set {name}", "unknown field", suggest(meant, [*names, *(f"hyper.{one}" for one in known)])
            )
        elif name in registry.CHOICES:
            if text not in registry.CHOICES[name]:
                raise ConfigError(f"--set {name}", repr(text), suggest(text, registry.CHOICES[name]))
            changes[name] = registry.CHOICES[name][text]
        elif name in ("label", "dataset"):
            changes[name] = text
        else:
            value = _parse(text)
            single = name in ("widths", "seeds", "decoder_widths") and isinstance(value, int)
            changes[name] = (value,) if single else value
    return {**changes, "hyper": _hyper(sweep, hyper)}


def _hyper(sweep: Sweep, changed: Mapping[str, Any]) -> Any:
    if isinstance(sweep.hyper, Mapping):
        return {**sweep.hyper, **changed}
    left = [{name: value for name, value in point.items() if name not in changed} for point in sweep.hyper]
    distinct = {tuple(sorted(point.items())): point for point in left}
    return points.crossed(tuple(distinct.values()), points.grid(**changed)) if changed else sweep.hyper


def _parse(text: str) -> Any:
    """A JSON value, `None`/`True`/`False` as Python spells them, a comma-separated list of these, else the text."""
    python = {"None": None, "True": True, "False": False}
    if text in python:
        return python[text]
    try:
        value = json.loads(text)
    except ValueError:
        parts = [part.strip() for part in text.removeprefix("(").removesuffix(")").removesuffix(",").split(",")]
        return tuple(_parse(part) for part in parts) if len(parts) > 1 and all(parts) else text
    return tuple(value) if isinstance(value, list) else value
