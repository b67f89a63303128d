"""Errors a person can act on: one line naming the field, what was found, and what to do."""

import difflib
from collections.abc import Iterable


class AejaxError(Exception):
    """`field: found; fix` on one line. `exit_code` is what the command line ends with."""

    exit_code = 1

    def __init__(self, field: str, found: str, fix: str):
        self.field, self.found, self.fix = field, found, fix
        super().__init__(f"{field}: {found}; {fix}")


class ConfigError(AejaxError, ValueError):
    """A config or a command that cannot be run as written. Nothing was computed or written."""

    exit_code = 2


class DataError(AejaxError, ValueError):
    """Data that cannot be used as it is. Nothing was computed or written."""

    exit_code = 2


class ResultsError(AejaxError, OSError):
    """A results folder that is in use, damaged, or not ours."""

    exit_code = 4


class MachineError(AejaxError, OSError):
    """The machine lacks what was asked for: a platform, disk space, a permission, memory."""

    exit_code = 5


def suggest(name: object, allowed: Iterable[str]) -> str:
    """The fix for a name that is not allowed: the nearest that is, else all of them."""
    names = list(allowed)
    near = difflib.get_close_matches(str(name), names, 1, cutoff=0.5)
    return f"did you mean {near[0]}?" if near else f"allowed: {', '.join(names)}"
