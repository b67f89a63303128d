"""What a person sees while an experiment runs: a bar and a line per finished run, on standard error."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from aejax import runner, train


class TerminalWatcher(runner.Watcher):
    """Draws progress; where the output is not a terminal, prints plain lines instead."""

    def __init__(self, check: Callable[[], None] = lambda: None) -> None:
        self.check = check
        self.warned: set[str] = set()
        self.console = Console(stderr=True, highlight=False)
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[note]}"),
            console=self.console,
            transient=True,
        )
        self.total = self.current = None

    def __enter__(self) -> TerminalWatcher:
        return self

    def __exit__(self, *_: object) -> None:
        if self.total is not None:
            self.progress.stop()

    def start(self, runs: int, device: str) -> None:
        """Say how much there is to do and on what."""
        self.console.print(f"{runs} runs on {device}")
        if self.console.is_terminal:
            self.progress.start()
            self.total = self.progress.add_task("runs", total=runs, note="")

    def run(self, number: int, name: str) -> Callable[[train.Progress], None] | None:
        """A bar for the run's epochs."""
        if self.total is None:
            return None
        self.current = task = self.progress.add_task(f"  {name}", total=None, note="compiling")

        def report(progress: train.Progress) -> None:
            note = f"best validation error {progress.best_error:.4g}" if progress.epoch else ""
            done = progress.step * progress.epochs // progress.steps
            self.progress.update(task, total=progress.epochs, completed=done, note=note)

        return report

    def warn(self, text: str) -> None:
        """The warning, once."""
        if text not in self.warned:
            self.warned.add(text)
            self.console.print(f"aejax: warning: {text}", soft_wrap=True)

    def done(self, number: int, row: dict[str, Any], stored: bool) -> None:
        """The run's line."""
        if self.total is not None:
            self.progress.advance(self.total)
            if self.current is not None:
                self.progress.remove_task(self.current)
                self.current = None
        if not stored:
            self.console.print(*runner.summary_lines([row]), soft_wrap=True)

    def summarise(self, outcome: runner.Outcome) -> None:
        """A table of this call's settings, means over seeds, and where everything was written."""
        console = Console(highlight=False)
        table = Table(title=f"{outcome.folder.name}: error on test, mean over seeds")
        for name in ("", "codings", "SSE", "PCA", "ratio", "worth", "wins"):
            table.add_column(name, justify="left" if not name else "right", no_wrap=True)
        groups: dict[tuple, list[dict[str, Any]]] = {}
        for row in outcome.rows:
            if row["run_id"] in outcome.run_ids and row["status"] == "completed":
                hyper = tuple(sorted(row["hyper"].items()))
                groups.setdefault((row["dataset"], row["label"], row["codings"], hyper), []).append(row)
        several = {key[:3] for key in groups if sum(other[:3] == key[:3] for other in groups) > 1}
        several_datasets = len({dataset for dataset, *_ in groups}) > 1
        for (dataset, label, codings, hyper), rows in groups.items():
            setting = (
                ", ".join(f"{name} {value:g}" for name, value in hyper) if (dataset, label, codings) in several else ""
            )
            mean = {
                name: sum(row[name] for row in rows) / len(rows)
                for name in ("sse_test", "pca_sse_test", "pca_equivalent_dimension")
            }
            wins = sum(row["sse_test"] < row["pca_sse_test"] for row in rows)
            table.add_row(
                " ".join(part for part in (dataset if several_datasets else "", label, setting) if part),
                str(codings),
                f"{mean['sse_test']:.4f}",
                f"{mean['pca_sse_test']:.4f}",
                f"{mean['sse_test'] / mean['pca_sse_test']:.3f}" if mean["pca_sse_test"] else "",
                f"{mean['pca_equivalent_dimension']:.1f}",
                f"{wins} of {len(rows)}",
            )
        if groups:
            console.print(table)
            meaning = (
                "SSE: squared error summed over inputs, mean over test rows. PCA: the same for as many components.",
                "worth: how many components give our error. wins: seeds below PCA, of all that completed.",
            )
            console.print(*meaning, sep="\n", soft_wrap=True)
        console.print(
            f"{len(outcome.trained)} trained, {len(outcome.run_ids) - len(outcome.trained)} were stored already"
        )
        console.print(f"{outcome.folder / 'summary.md'}", soft_wrap=True)
