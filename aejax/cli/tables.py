"""Tables on standard output: drawn on a terminal, plain text elsewhere."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text


def print_table(headers: Sequence[str], lines: Sequence[Sequence[str]]) -> None:
    """Print a table of text cells.

    A terminal that is wide enough for every number gets a drawn table, whose long columns of words are wrapped. Any
    other output gets plain columns, two spaces or more apart: nothing is coloured, wrapped or cut off.
    """
    console = Console(highlight=False, markup=False, emoji=False)
    columns = [[line[i] for line in (headers, *lines)] for i in range(len(headers))]
    widths = [max(map(len, column)) for column in columns]
    wrapped = [width > 30 and " " in " ".join(column[1:]) for column, width in zip(columns, widths, strict=True)]
    longest_words = [max(map(len, " ".join(column).split())) for column in columns]
    needed = sum(longest_words[i] if wrapped[i] else widths[i] for i in range(len(widths))) + 2 * len(widths) + 1
    if not console.is_terminal or needed > console.width:
        for line in (headers, *lines):
            print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
        return
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), pad_edge=False, collapse_padding=True)
    for column, wrap in zip(columns, wrapped, strict=True):
        numeric = len(column) > 1 and all(cell[:1] in "0123456789-+–" for cell in column[1:])
        table.add_column(column[0], justify="right" if numeric else "left", no_wrap=not wrap)
    for line in lines:
        table.add_row(*(Text(cell) for cell in line))
    console.print(table)
