"""The summary of an experiment: verdicts, tables and figures, rebuilt from its stored rows and arrays alone."""

from __future__ import annotations

import csv
import functools
import io
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from aejax.reporting import health_table, time_budget
from aejax.reporting.settings import (
    ArrayLoader,
    Row,
    Setting,
    confidence_half_width,
    count_noun,
    escape,
    format_number,
    group_settings,
    markdown_table,
    unique,
)
from aejax.reporting.verdict import interval, verdict
from aejax.runtime.errors import ResultsError
from aejax.storage import lock, run_folders
from aejax.storage.run_folders import to_json, write_atomic

MOST_SETTINGS = 40
"""Settings of one label in a table."""
MOST_INCOMPLETE = 40
"""Runs in the list of those that did not complete."""
_MACHINE = ("platform", "device_kind", "processor", "cores", "precision")
_SOFTWARE = ("python", "aejax", "jax", "jaxlib", "flax", "optax", "numpy", "git_commit")
_INTERVAL = (
    ", ± half-width of the 95 % Student t interval over initialisation seeds, for one split of the data and one test "
    "set: it does not cover other data"
)
_COLUMNS = (  # field, header, significant digits, meaning
    ("sse_validation", "SSE validation", 4, "squared error summed over inputs, averaged over validation rows"),
    ("sse_test", "SSE test", 4, "squared error summed over inputs, averaged over test rows" + _INTERVAL),
    ("mse_test", "MSE per input", 3, "SSE test divided by the number of inputs"),
    ("r2_test", "R² test", 4, "1 − SSE test / SSE of the mean predictor: 0 for the mean predictor, 1 without error"),
    ("pca_sse_test", "PCA SSE", 4, "SSE test of exact PCA with as many components as codings"),
    ("sse_ratio", "ratio", 3, "SSE test / PCA SSE: below 1 wins against PCA, – where PCA is exact"),
    ("pca_equivalent_dimension", "worth", 3, "number of principal components with the same SSE test"),
    ("principal_angle_max_deg", "angle", 3, "largest principal angle to PCA's subspace in degrees, of the worst seed"),
    ("best_epoch", "best epoch", 4, "epoch whose parameters are kept, best by validation; median over seeds"),
    ("train_seconds", "train s", 3, "seconds of training without compiling, median over seeds"),
)


def rebuild(folder: Path, warn: Callable[[str], None] | None = None) -> list[Path]:
    """Rebuild runs.jsonl, summary and figures of a results folder from its stored runs. Returns the files written.

    Holds the folder's lock meanwhile. Raises ResultsError where there are no runs, or where another call is writing.
    """
    if not run_folders.is_experiment(folder):
        raise ResultsError(str(folder), "no runs there", "give a results folder, for example results/quickstart")
    with lock.hold(folder):
        rows = run_folders.write_index(folder, warn)
        return write(folder, rows, functools.partial(run_folders.read_arrays, folder))


def write(folder: Path, rows: Sequence[Row], load_arrays: ArrayLoader) -> list[Path]:
    """Write `summary.md`, `summary.csv` and the figures of an experiment's folder; returns the paths written.

    The time budget is read from the folder's goodput.jsonl, if there is one. Of rows with the same run_id the last one
    counts. A figure whose arrays are not in this copy stays on disk as it is, and the summary says so. A figure that
    cannot be drawn costs only itself: the summary names the error. Other old figures are deleted.
    """
    settings = group_settings(list({row["run_id"]: row for row in rows}.values()))
    figures = _draw_figures(folder, settings, functools.lru_cache(maxsize=32)(load_arrays))
    title = rows[0]["experiment"] if rows else folder.name
    files = {"summary.csv": _csv(settings).encode()}
    files |= {figure.name: figure.png for figure in figures if figure.png is not None}
    texts = [figure.text for figure in figures if figure.text]
    files["summary.md"] = _markdown(title, settings, texts, folder).encode()
    for name, data in files.items():
        write_atomic(folder / name, data)
    for figure in figures:
        if figure.png is None and not figure.keep:
            (folder / figure.name).unlink(missing_ok=True)
    return [folder / name for name in files]


class _Figure(NamedTuple):
    """A figure: its PNG if it was drawn, its Markdown if the summary mentions it, whether an older file may stay."""

    name: str
    png: bytes | None = None
    text: str = ""
    keep: bool = False


def _draw_figures(folder: Path, settings: Sequence[Setting], load_arrays: ArrayLoader) -> list[_Figure]:
    if not any(setting.completed for setting in settings) and not any(folder.glob("*.png")):
        return []
    from aejax.reporting import figures  # matplotlib is slow to import

    drawn = []
    for name, (_, caption) in figures.FIGURES.items():
        shown = f"![{caption}]({name})\n\n*{caption}*"
        try:
            png, note = figures.draw(name, settings, load_arrays) or (None, "")
            drawn.append(_Figure(name, png, shown + note if png else ""))
        except figures.MissingArraysError as missing:
            exists = (folder / name).exists()
            text = f"{shown} **Kept from an earlier report:**" if exists else f"*{caption}* **Not drawn:**"
            drawn.append(_Figure(name, None, f"{text} the arrays of run `{missing}` are not in this copy.", keep=True))
        except Exception as error:  # a figure that fails costs the figure, never the summary
            reason = escape(f"{type(error).__name__}: {error}"[:300])
            drawn.append(_Figure(name, None, f"*{caption}* `{name}` could not be drawn: {reason}"))
    return drawn


def _markdown(experiment: str, settings: Sequence[Setting], figures: Sequence[str], folder: Path) -> str:
    rows = [row for setting in settings for row in setting.runs]
    incomplete = [row for row in rows if row["status"] != "completed"]
    completed = len(rows) - len(incomplete)
    counts = f"{count_noun(len(rows), 'run')} in {count_noun(len(settings), 'setting')}, {completed} completed."
    parts = [f"# {escape(experiment)}: compared with PCA", counts]
    if not completed:
        parts.append("**No run completed: there is nothing to compare.**")
    parts += [verdict(settings, label) for label in unique(setting.label for setting in settings)]
    for dataset in unique(setting.dataset for setting in settings):
        parts += [f"## {escape(dataset)}", *_table([setting for setting in settings if setting.dataset == dataset])]
    if completed:
        parts.append("The tables show means over completed seeds unless said otherwise:")
        meanings = [f"* {header}: {meaning}" for _, header, _, meaning in _COLUMNS]
        meanings += [f"* {header}: {meaning}" for _, header, meaning in _score_columns(settings)]
        parts.append("\n".join(meanings))
    parts += health_table.paragraphs(settings)
    if incomplete:
        parts += ["## Runs that did not complete", *_incomplete_runs(incomplete)]
    if figures:
        parts += ["## Figures", *figures]
    time = time_budget.paragraphs(folder, rows)
    if time:
        parts += ["## Where the time went", *time]
    if rows:
        parts += ["## Provenance", _provenance(rows)]
    return "\n\n".join(parts) + "\n"


def _incomplete_runs(rows: Sequence[Row]) -> list[str]:
    """A list of the first runs that did not complete, and how many more there are."""
    lines = []
    for row in rows[:MOST_INCOMPLETE]:
        run = f"`{row['run_id']}` ({escape(row['label'])}, {count_noun(row['codings'], 'coding')}, seed {row['seed']})"
        step = row.get("bad_step")
        status = row["status"] + ("" if step is None else f" at step {step}")
        lines.append(f"* {run}: {status}: {escape(row['reason'] or 'no reason recorded')}")
    left_out = Counter(row["status"] for row in rows[MOST_INCOMPLETE:])
    more = " and ".join(f"{count} more {status}" for status, count in left_out.items())
    return ["\n".join(lines), *([f"And {more}: they are in runs.jsonl."] if more else [])]


def _select_for_table(settings: Sequence[Setting]) -> tuple[list[Setting], str]:
    """The settings for a table, and a note on those left out: a label with too many keeps the best by validation.

    Settings are ranked among those with as many codings, so that every number of codings keeps its best setting.
    """
    left_out: set[Setting] = set()
    note = ""
    for label in unique(setting.label for setting in settings):
        of_label = [setting for setting in settings if setting.label == label]
        if len(of_label) <= MOST_SETTINGS:
            continue
        rank: dict[Setting, int] = {}
        for group in {id(setting.group): setting.group for setting in of_label}.values():
            rank |= {setting: i for i, setting in enumerate(sorted(group, key=lambda setting: setting.validation))}
        last = sorted(of_label, key=lambda setting: rank[setting])[MOST_SETTINGS:]
        left_out.update(last)
        without_runs = sum(not setting.completed for setting in last)
        note += f" {len(last)} more settings of {escape(label)} are in summary.csv: those with higher validation errors"
        note += f", {without_runs} of them with no completed run." if without_runs else "."
    return [setting for setting in settings if setting not in left_out], note


def _table(settings: Sequence[Setting]) -> list[str]:
    """The paragraphs of one dataset: its size, the options that all settings share, the table, its caption."""
    names = unique(name for setting in settings for name in setting.options)
    options = {name: [setting.options.get(name, "–") for setting in settings] for name in names}
    shared = [f"{name} = {texts[0]}" for name, texts in options.items() if len(set(texts)) == 1 and texts[0] != "null"]
    varying = [name for name, texts in options.items() if len(set(texts)) > 1]
    selected, note = _select_for_table(settings)
    columns = {
        "label": [escape(setting.label) + " ★" * (setting.best and len(setting.rivals) > 1) for setting in selected],
        "widths": ["-".join(map(str, setting.widths)) for setting in selected],
        "codings": [str(setting.codings) for setting in selected],
    }
    for name in varying:
        columns[name] = [escape(setting.options.get(name, "–")) for setting in selected]
    columns["seeds"] = [f"{len(setting.completed)}/{len(setting.runs)}" for setting in selected]
    for field, header, digits, _ in _COLUMNS:
        columns[header] = [format_number(setting.over_seeds(field), digits) for setting in selected]
    for field, header, _ in _score_columns(selected):
        columns[header] = [format_number(setting.over_seeds(field)) for setting in selected]
    columns["SSE test"] = [interval(setting.values("sse_test")) for setting in selected]
    columns["best epoch"] = [_best_epoch(setting) for setting in selected]
    columns = {header: cells for header, cells in columns.items() if set(cells) != {"–"}}
    table = markdown_table([escape(header) for header in columns], list(zip(*columns.values(), strict=True)))
    caption = "seeds: completed/run. ★: best by validation (not by test) of the settings with this label and codings."
    caption += note
    for setting in settings:
        if setting.best:
            seeds = len(setting.completed)
            most = max(len(rival.completed) for rival in setting.rivals)
            subject = f"{escape(setting.label)} at {count_noun(setting.codings, 'coding')}"
            if seeds < most:
                caption += f" The ★ of {subject} has {count_noun(seeds, 'completed seed')}, a rival {most}."
    options_text = f"The same in every setting: {escape(', '.join(shared))}."
    return [_data_description(settings[0].runs[0]["data"]), options_text, table, f"*{caption}*"]


def _data_description(data: Row) -> str:
    shape = " × ".join(map(str, data["image_shape"] or ["no image"]))
    return (
        f"{data['train_rows']} training, {data['validation_rows']} validation and {data['test_rows']} test rows of "
        f"{data['inputs']} inputs ({shape}), {data['constant_columns']} of them constant, divided by {data['unit']:g}. "
        f"PCA is fitted on {data['pca_rows']} rows, training and validation together, and has rank {data['pca_rank']}; "
        f"the mean of these rows has SSE {format_number(data['mean_sse_test'])} on test."
    )


def _score_columns(settings: Sequence[Setting]) -> list[tuple[str, str, str]]:
    """Field, header and meaning of the numbers that the settings' scores measured, and of the variants' criteria."""
    headers = unique(header for setting in settings for header in setting.headers)
    columns = {f"scores.{field}": (header, meaning) for field, header, meaning in headers}
    criteria = unique(row["criterion"] for setting in settings for row in setting.completed if "criterion" in row)
    if criteria:
        meaning = f"{' or '.join(criteria)}, mean over validation rows: chooses such a variant's epochs and settings"
        columns["criterion_validation"] = ("criterion validation", meaning)
    return [(field, header, meaning) for field, (header, meaning) in columns.items()]


def _best_epoch(setting: Setting) -> str:
    epoch = setting.over_seeds("best_epoch")
    return "–" if epoch is None else f"{epoch:g} of {setting.runs[0]['epochs']}"


def _provenance(rows: Sequence[Row]) -> str:
    dates = sorted(row["provenance"]["created"][:10] for row in rows)
    facts = {name: unique(str(row["provenance"][name]) for row in rows) for name in (*_MACHINE, *_SOFTWARE)}
    data = unique(f"{row['dataset']} {row['provenance']['dataset_fingerprint'][:12]}" for row in rows)
    facts["dataset_fingerprint"] = data
    facts["created"] = unique([dates[0], dates[-1]])
    facts["seeds"] = [str(seed) for seed in sorted({row["seed"] for row in rows})]
    return "\n".join(f"* {name}: {escape(', '.join(values))}" for name, values in facts.items())


def _csv(settings: Sequence[Setting]) -> str:
    """CSV with one line for each setting, and every number in full."""
    hypers = sorted({name for setting in settings for name in setting.hyper})
    rows = [row for setting in settings for row in setting.completed]
    metrics = [field for field, *_ in _COLUMNS]
    metrics += unique(f"scores.{name}" for row in rows for name in row.get("scores", {}))
    metrics += ["criterion_validation"] * any("criterion" in row for row in rows)
    metrics += [f"health.{name}" for name in health_table.NUMBERS] if health_table.has_diagnostics(settings) else []
    lines = [
        {
            "dataset": setting.dataset,
            **{name: setting.runs[0][name] for name in ("label", "variant", "tied", "codings")},
            "widths": "-".join(map(str, setting.widths)),
            **{f"hyper.{name}": setting.hyper.get(name) for name in hypers},
            "seeds": " ".join(str(row["seed"]) for row in setting.runs),
            "seeds_total": len(setting.runs),
            "seeds_completed": len(setting.completed),
            "seeds_winning": setting.wins,
            "best_by_validation": setting.best,
            **{name: setting.over_seeds(name) for name in metrics},
            "sse_test_ci95": confidence_half_width(setting.values("sse_test")),
            "config": to_json(setting.config, sort_keys=True),
        }
        for setting in settings
    ]
    text = io.StringIO()
    writer = csv.DictWriter(text, list(lines[0]) if lines else ["dataset", "label"], lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue()
