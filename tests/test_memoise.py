"""Builders give the same object for equal arguments, and only for these."""

import inspect
from typing import Any

import pytest

from aejax.runtime import memoise
from aejax.runtime.errors import ConfigError
from aejax.runtime.memoise import build_once


@build_once
def build(size, widths=(1, 2), *, flag: Any = False):
    """A builder that refuses flags other than True and False."""
    if not isinstance(flag, bool):
        raise ConfigError("flag", repr(flag), "give True or False")
    return [size, widths, flag]


def test_position_keyword_default_list_and_tuple_give_the_same_object():
    first = build(3)
    assert build(size=3) is first
    assert build(3, [1, 2]) is first
    assert build(3, widths=(1, 2), flag=False) is first
    assert first == [3, (1, 2), False]


def test_other_values_and_other_types_give_other_objects():
    first = build(1, (1,))
    assert build(2, (1,)) is not first
    assert build(1.0, (1,)) is not first
    assert build(True, (1,)) is not first
    assert build(1, (True,)) is not first
    assert build(1, ((1,),)) is not build(1, ((True,),))


def test_an_accepted_value_does_not_hide_a_refused_one():
    build(5, flag=True)
    with pytest.raises(ConfigError, match="flag: 1"):
        build(5, flag=1)
    with pytest.raises(ConfigError, match="flag: 1"):
        build(5, flag=1)


def test_arguments_that_cannot_be_hashed_reach_the_builder():
    assert build({"a": 1}) is not build({"a": 1})
    with pytest.raises(ConfigError, match="flag"):
        build(5, flag={})
    with pytest.raises(TypeError, match="colour"):
        build(5, colour="red")  # pyright: ignore[reportCallIssue]


def test_the_number_of_remembered_objects_is_bounded():
    first = build("first")
    for size in range(memoise.MAX_OBJECTS - 1):
        build(size)
    assert build("first") is first
    for size in range(memoise.MAX_OBJECTS):
        build(size)
    assert build("first") is not first


def test_the_signature_and_the_docstring_are_those_of_the_builder():
    assert list(inspect.signature(build).parameters) == ["size", "widths", "flag"]
    assert build.__doc__ == "A builder that refuses flags other than True and False."
