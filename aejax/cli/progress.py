"""Progress of an experiment on the terminal, the closing table, and the plan of `--dry-run`.

While runs are trained there are a progress bar and a line per finished run, on standard error.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from aejax.cli.tables import print_table
from aejax.reporting import health_table, settings, tensorboard
from aejax.reporting.settings import count_noun
from aejax.runner import run_experiment
from aejax.runner.events import RunListener
from aejax.training import loop

LEGEND = """SSE: squared error summed over inputs, mean over test rows. PCA: the same for as many components.
worth: how many components give our error. wins: seeds below PCA, of all that completed."""


class TerminalProgress(RunListener):
    """Draws progress on a terminal, and prints plain lines where standard error is not a terminal.

    `check_interrupt` is called between chunks and may raise Interrupted. With `quiet` nothing is printed. Set `live`
    to write TensorBoard events while runs are trained.
    """

    def __init__(self, check_interrupt: Callable[[], None] = lambda: None, quiet: bool = False) -> None:
        self.check_interrupt = check_interrupt
        self.warned: set[str] = set()
        self.console = Console(stderr=True, highlight=False, quiet=quiet)
        columns = (TextColumn("{task.description}"), BarColumn(bar_width=30), MofNCompleteColumn(), TimeElapsedColumn())
        note = TextColumn("{task.fields[note]}")
        self.progress = Progress(*columns, note, console=self.console, transient=True)
        self.runs_task = None
        self.block_task = None
        self.live: tensorboard.Live | None = None

    def __enter__(self) -> TerminalProgress:
        return self

    def __exit__(self, *_: object) -> None:
        if self.runs_task is not None:
            self.progress.stop()

    def start(self, runs: int, device: str) -> None:
        """Print the number of runs and the device, and start the bar of runs."""
        self.console.print(f"{runs} runs on {device}")
        if self.console.is_terminal:
            self.progress.start()
            self.runs_task = self.progress.add_task("runs", total=runs, note="")

    def block(self, name: str) -> Callable[[loop.Progress], None] | None:
        """Start a bar for the epochs of a block of runs; returns the callback that moves it."""
        if self.runs_task is None:
            return None
        self._remove_block_bar()
        self.block_task = task = self.progress.add_task(f"  {name}", total=None, note="compiling")

        def report(progress: loop.Progress) -> None:
            note = f"best validation error {progress.best_error:.4g}" if progress.epoch else ""
            done = progress.step * progress.epochs // progress.steps
            self.progress.update(task, total=progress.epochs, completed=done, note=note)

        return report

    def warn(self, text: str) -> None:
        """Print a warning; a repeated warning is printed once."""
        if text not in self.warned:
            self.warned.add(text)
            self.console.print(f"aejax: warning: {text}", soft_wrap=True)

    def curves(self, run_ids: Sequence[str]) -> Callable[[int, dict[str, np.ndarray]], None] | None:
        """The callback that writes the curves of these runs to TensorBoard; None without `live`."""
        live = self.live
        if live is None:
            return None

        def write(first_epoch: int, curves: dict[str, np.ndarray]) -> None:
            for i, run_id in enumerate(run_ids):
                live.append(run_id, first_epoch, {name: curve[i] for name, curve in curves.items()})

        return write

    def done(self, row: dict[str, Any], stored: bool) -> None:
        """Advance the bar of runs, and print a line for a run that was trained now."""
        if self.runs_task is not None:
            self.progress.advance(self.runs_task)
            self._remove_block_bar()
        if not stored:
            self.console.print(summary_line(row), soft_wrap=True)

    def _remove_block_bar(self) -> None:
        if self.block_task is not None:
            self.progress.remove_task(self.block_task)
            self.block_task = None

    def summarise(self, outcome: run_experiment.Outcome) -> None:
        """Print a table of this call's settings, means over seeds, and where the results were written."""
        console = Console(highlight=False, markup=False)
        table = Table(title=f"{outcome.folder.name}: error on test, mean over seeds")
        for name in ("", "codings", "SSE", "PCA", "ratio", "worth", "wins"):
            table.add_column(name, justify="right" if name else "left", no_wrap=bool(name), overflow="fold")
        rows = [row for row in outcome.rows if row["run_id"] in outcome.run_ids and row["status"] == "completed"]
        groups = settings.group_settings(rows)
        several_datasets = len({setting.dataset for setting in groups}) > 1
        for setting in groups:
            distinct = ", ".join(f"{name} {value}" for name, value in setting.varying_options.items())
            parts = [setting.dataset if several_datasets else "", setting.label, distinct]
            name = " ".join(part for part in parts if part)
            errors = [f"{setting.over_seeds(metric):.4f}" for metric in ("sse_test", "pca_sse_test")]
            ratio = setting.over_seeds("sse_ratio")
            ratio_text = "" if ratio is None else f"{ratio:.3f}"
            worth = f"{setting.over_seeds('pca_equivalent_dimension'):.1f}"
            wins = f"{setting.wins} of {len(setting.runs)}"
            table.add_row(name, str(setting.codings), *errors, ratio_text, worth, wins)
        if groups:
            console.print(table)
            console.print(LEGEND, soft_wrap=True)
        for warning in health_table.warnings(groups):
            console.print(f"warning: {warning}", soft_wrap=True)
        stored = len(outcome.run_ids) - len(outcome.trained)
        console.print(f"{len(outcome.trained)} trained, {stored} were stored already")
        console.print(f"{outcome.folder / 'summary.md'}", soft_wrap=True)


def summary_line(row: dict[str, Any]) -> str:
    """One line on a finished run: its error beside PCA's, or why it did not complete."""
    name = f"{row['label']} {row['codings']}, seed {row['seed']}"
    if row["status"] != "completed":
        return f"{name}: {row['status']}: {row['reason']}"
    verdict = "beats" if row["sse_test"] < row["pca_sse_test"] else "loses to"
    if row["sse_ratio"] is None:
        verdict = "beside an exact"
    comparison = f"SSE {row['sse_test']:.4f} {verdict} PCA {row['pca_sse_test']:.4f}"
    worth = f"worth {row['pca_equivalent_dimension']:.1f} components"
    return f"{name}: {comparison}, {worth}, {row['train_seconds']:.1f} s"


def show_plan(plan: run_experiment.Plan) -> None:
    """Print what a call would train: a line for every program, and what all of them need."""
    print(f"{plan.experiment}: what would be trained on {plan.device}")
    headers = ["", "codings", "parameters", "members", "stored", "to train", "steps", "memory"]
    several_datasets = len({job["dataset"] for job in plan.jobs}) > 1
    lines = []
    for job in plan.jobs:
        codings = dict.fromkeys((job["codings"][0], job["codings"][-1]))
        label = f"{job['label']}, {job['dataset']}" if several_datasets else job["label"]
        counts = [str(job[name]) for name in ("parameters", "members", "stored", "missing", "steps")]
        lines.append([label, "–".join(map(str, codings)), *counts, _size(job["bytes"])])
    print_table(headers, lines)
    programs = [job for job in plan.jobs if job["missing"]]
    runs = count_noun(sum(job["missing"] for job in programs), "run")
    stored = sum(job["stored"] for job in plan.jobs)
    memory = _size(max((job["bytes"] for job in programs), default=0))
    counts = f"{count_noun(len(programs), 'program')} to compile, {runs} to train, {stored} stored already"
    print(f"{counts}; at most about {memory} of memory at a time (an estimate; what does not fit is trained in blocks)")


def _size(count: int) -> str:
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.0f} MiB"
