"""The command line: commands, progress and listings."""

from aejax.cli.commands import build_parser, main

__all__ = ["build_parser", "main"]
