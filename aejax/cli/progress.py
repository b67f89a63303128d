"""What a person sees while an experiment runs: a bar and a line per finished run, on standard error."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from aejax.cli import listing
from aejax.reporting import health_table, settings, tensorboard
from aejax.reporting.settings import counted
from aejax.runner import run_experiment
from aejax.runner.events import RunListener
from aejax.training import train


class TerminalProgress(RunListener):
    """Draws progress; where the output is not a terminal, prints plain lines instead."""

    def __init__(self, check: Callable[[], None] = lambda: None, quiet: bool = False) -> None:
        self.check = check
        self.warned: set[str] = set()
        self.console = Console(stderr=True, highlight=False, quiet=quiet)
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
        self.live: tensorboard.Live | None = None

    def __enter__(self) -> TerminalProgress:
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

    def block(self, name: str) -> Callable[[train.Progress], None] | None:
        """A bar for the block's epochs."""
        if self.total is None:
            return None
        self._clear()
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

    def curves(self, run_ids: Sequence[str]) -> Callable[[int, dict[str, np.ndarray]], None] | None:
        """Passes them on to TensorBoard, where that is asked for."""
        live = self.live
        if live is None:
            return None

        def draw(first_epoch: int, lines: dict[str, np.ndarray]) -> None:
            for i, run_id in enumerate(run_ids):
                live.epochs(run_id, first_epoch, {name: line[i] for name, line in lines.items()})

        return draw

    def _clear(self) -> None:
        if self.current is not None:
            self.progress.remove_task(self.current)
            self.current = None

    def done(self, row: dict[str, Any], stored: bool) -> None:
        """The run's line."""
        if self.total is not None:
            self.progress.advance(self.total)
            self._clear()
        if not stored:
            self.console.print(*run_experiment.summary_lines([row]), soft_wrap=True)

    def summarise(self, outcome: run_experiment.Outcome) -> None:
        """A table of this call's settings, means over seeds, and where everything was written."""
        console = Console(highlight=False, markup=False)
        table = Table(title=f"{outcome.folder.name}: error on test, mean over seeds")
        for name in ("", "codings", "SSE", "PCA", "ratio", "worth", "wins"):
            table.add_column(name, justify="right" if name else "left", no_wrap=bool(name), overflow="fold")
        rows = [r for r in outcome.rows if r["run_id"] in outcome.run_ids and r["status"] == "completed"]
        found = settings.group_settings(rows)
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
        for warning in health_table.warnings(found):
            console.print(f"warning: {warning}", soft_wrap=True)
        console.print(
            f"{len(outcome.trained)} trained, {len(outcome.run_ids) - len(outcome.trained)} were stored already"
        )
        console.print(f"{outcome.folder / 'summary.md'}", soft_wrap=True)


def show_plan(plan: run_experiment.Plan) -> None:
    """What a call would do: a line for every program, and what all of them need."""
    print(f"{plan.experiment}: what would be trained on {plan.device}")
    headers = ["", "codings", "parameters", "members", "stored", "to train", "steps", "memory"]
    several, lines = len({job["dataset"] for job in plan.jobs}) > 1, []
    for job in plan.jobs:
        codings = dict.fromkeys((job["codings"][0], job["codings"][-1]))
        label = f"{job['label']}, {job['dataset']}" if several else job["label"]
        numbers = [str(job[name]) for name in ("parameters", "members", "stored", "missing", "steps")]
        lines.append([label, "–".join(map(str, codings)), *numbers, _size(job["bytes"])])
    listing.print_table(headers, lines)
    programs = [job for job in plan.jobs if job["missing"]]
    print(
        f"{counted(len(programs), 'program')} to compile, "
        f"{counted(sum(job['missing'] for job in programs), 'run')} to train, "
        f"{sum(job['stored'] for job in plan.jobs)} stored already; at most about "
        f"{_size(max((job['bytes'] for job in programs), default=0))} of memory at a time "
        "(an estimate; what does not fit is trained in blocks)"
    )


def _size(count: int) -> str:
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.0f} MiB"
