"""Words as Markdown shows them."""

from __future__ import annotations

import re

from aejax.reporting.settings import format_number


def counted(count: float, noun: str) -> str:
    """So many of something: `1 seed`, `3 seeds`, `30.1 components`."""
    text = str(count) if isinstance(count, int) else format_number(count, 3)
    return f"{text} {noun}" + "s" * (text != "1")


def escape(text: str) -> str:
    """Text that Markdown shows as it is, also in a table cell: one line, special characters escaped."""
    return re.sub(r"([\\`*|<>\[\]&$~]|(?<!\w)_|_(?!\w))", r"\\\1", " ".join(str(text).split()))
