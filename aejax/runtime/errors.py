"""Errors that a user can act on: one line that names the field, the problem and the fix."""

import difflib
from collections.abc import Iterable


class AejaxError(Exception):
    """An error whose message is one line, `field: problem; fix`. The command line exits with `exit_code`."""

    exit_code = 1

    def __init__(self, field: str, problem: str, fix: str):
        self.field = field
        self.problem = problem
        self.fix = fix
        super().__init__(f"{field}: {problem}; {fix}")


class ConfigError(AejaxError, ValueError):
    """The config or the command is not valid. Nothing was computed or written."""

    exit_code = 2


class DataError(AejaxError, ValueError):
    """The data is not usable. Nothing was computed or written."""

    exit_code = 2


class ResultsError(AejaxError, OSError):
    """The results folder is in use, is damaged, or was not written by aejax."""

    exit_code = 4


class MachineError(AejaxError, OSError):
    """The machine lacks something that is needed: a platform, disk space, a permission or memory."""

    exit_code = 5


def one_line(error: object, length: int = 200) -> str:
    """The beginning of an error's text, on one line."""
    return " ".join(str(error).split())[:length]


def reason_of(error: BaseException) -> str:
    """The kind of an error and the beginning of its text, as rows of failed runs give it."""
    return f"{type(error).__name__}: {one_line(error, 500)}"


def suggest(name: object, allowed: Iterable[str]) -> str:
    """The fix for a name that is not allowed: the nearest allowed name, or all allowed names if none is near."""
    names = list(allowed)
    near = difflib.get_close_matches(str(name), names, 1, cutoff=0.5)
    return f"did you mean {near[0]}?" if near else f"allowed: {', '.join(names)}"
