"""What a person sees while an experiment runs: a bar and a line per finished run, on standard error."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from aejax import runner, settings, train


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
        console = Console(highlight=False, markup=False)
        table = Table(title=f"{outcome.folder.name}: error on test, mean over seeds")
        for name in ("", "codings", "SSE", "PCA", "ratio", "worth", "wins"):
            table.add_column(name, justify="right" if name else "left", no_wrap=bool(name), overflow="fold")
        rows = [r for r in outcome.rows if r["run_id"] in outcome.run_ids and r["status"] == "completed"]
        found = settings.settings(rows)
        several_datasets = len({setting.dataset for setting in found}) > 1
        for setting in found:
            what = ", ".join(f"{name} {value}" for name, value in setting.distinct.items())
            ratio = setting.over_seeds("sse_ratio")
            table.add_row(
                " ".join(part for part in (setting.dataset if several_datasets else "", setting.label, what) if part),
                str(setting.codings),
                f"{setting.over_seeds('sse_test'):.4f}",
                f"{setting.over_seeds('pca_sse_test'):.4f}",
                "" if ratio is None else f"{ratio:.3f}",
                f"{setting.over_seeds('pca_equivalent_dimension'):.1f}",
                f"{setting.wins} of {len(setting.runs)}",
            )
        if found:
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
