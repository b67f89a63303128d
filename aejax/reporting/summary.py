"""Results to a summary: verdicts, tables and figures, rebuilt from the rows and arrays of an experiment alone."""

from __future__ import annotations

import csv
import functools
import io
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from aejax.reporting import health_table, time_budget
from aejax.reporting.markdown import counted, escape
from aejax.reporting.settings import Arrays, Row, Setting, confidence, format_number, group_settings, unique
from aejax.reporting.verdict import interval, verdict
from aejax.runtime.errors import ResultsError
from aejax.storage import lock, run_folders
from aejax.storage.run_folders import to_json, write_atomic

MOST_SETTINGS, MOST_LOST = 40, 40  # of a label, in a table; runs that did not complete, in their list
_PROVENANCE = (
    "platform",
    "device_kind",
    "processor",
    "cores",
    "precision",
    "python",
    "aejax",
    "jax",
    "jaxlib",
    "flax",
    "optax",
    "numpy",
)
_INTERVAL = (
    ", ± half-width of the 95 % Student t interval over initialisation seeds, on one split of the data and one test "
    "set: it says nothing of other data"
)
_COLUMNS = (  # field, header, significant digits, meaning
    ("sse_validation", "SSE validation", 4, "squared error summed over inputs, averaged over validation rows"),
    ("sse_test", "SSE test", 4, "the same on test rows" + _INTERVAL),
    ("mse_test", "MSE per input", 3, "SSE test divided by the number of inputs"),
    ("r2_test", "R² test", 4, "1 − SSE test / SSE of the mean predictor: the mean scores 0, no error at all 1"),
    ("pca_sse_test", "PCA SSE", 4, "SSE test of exact PCA with as many components as codings"),
    ("sse_ratio", "ratio", 3, "SSE test / PCA SSE: below 1 wins against PCA, – where PCA is exact"),
    ("pca_equivalent_dimension", "worth", 3, "number of principal components with the same SSE test"),
    ("principal_angle_max_deg", "angle", 3, "degrees; largest principal angle to PCA's subspace, the worst seed's"),
    (
        "best_epoch",
        "best epoch",
        4,
        "the epoch best by validation, whose parameters are kept, of those trained; median over seeds",
    ),
    ("train_seconds", "train s", 3, "seconds of training without compiling, median over seeds"),
)


def write(folder: Path, rows: Sequence[Row], arrays: Arrays) -> list[Path]:
    """Rebuild `summary.md`, `summary.csv` and the figures of an experiment's folder; returns the paths written.

    Where the time went is read from the folder's goodput.jsonl, if there is one.

    `arrays(run_id)` gives a run's arrays, or None where they are not in this copy: figures that need them stay as they
    are on disk, and the summary says so, as it does of a figure that fails. Other old figures are deleted. Of rows
    with the same run_id the last one counts.
    """
    found = group_settings(list({row["run_id"]: row for row in rows}.values()))
    pictures = _pictures(folder, found, functools.lru_cache(maxsize=32)(arrays))
    title, words = rows[0]["experiment"] if rows else folder.name, [one.words for one in pictures if one.words]
    files = {"summary.csv": _csv(found)} | {one.name: one.png for one in pictures if one.png is not None}
    files["summary.md"] = _markdown(title, found, words, folder)
    for name, data in files.items():
        write_atomic(folder / name, data.encode() if isinstance(data, str) else data)
    for one in pictures:
        if one.png is None and not one.keep:
            (folder / one.name).unlink(missing_ok=True)
    return [folder / name for name in files]


class _Picture(NamedTuple):
    """A figure: its PNG if it was drawn, its Markdown if it is spoken of, whether an older file of it may stay."""

    name: str
    png: bytes | None = None
    words: str = ""
    keep: bool = False


def _pictures(folder: Path, found: Sequence[Setting], arrays: Arrays) -> list[_Picture]:
    if not any(setting.completed for setting in found) and not any(folder.glob("*.png")):
        return []
    from aejax.reporting import figures  # matplotlib is slow to import

    pictures = []
    for name, (_, caption) in figures.FIGURES.items():
        shown = f"![{caption}]({name})\n\n*{caption}*"
        try:
            png, left_out = figures.draw(name, found, arrays) or (None, "")
            picture = _Picture(name, png, shown + left_out if png else "")
        except figures.MissingArraysError as missing:
            old = (folder / name).exists()
            words = f"{shown} **Kept from an earlier report:**" if old else f"*{caption}* **Not drawn:**"
            picture = _Picture(name, None, f"{words} the arrays of run `{missing}` are not in this copy.", keep=True)
        except Exception as error:  # one figure never costs the summary
            reason = escape(f"{type(error).__name__}: {error}"[:300])
            picture = _Picture(name, None, f"*{caption}* `{name}` could not be drawn: {reason}")
        pictures.append(picture)
    return pictures


def _markdown(experiment: str, found: Sequence[Setting], pictures: Sequence[str], folder: Path) -> str:
    runs = [row for setting in found for row in setting.runs]
    lost = [row for row in runs if row["status"] != "completed"]
    count = f"{counted(len(runs), 'run')} in {counted(len(found), 'setting')}, {len(runs) - len(lost)} completed."
    parts = [f"# {escape(experiment)}: held against PCA", count]
    parts += ["**No run completed: there is nothing to compare.**"] * (len(lost) == len(runs))
    parts += [verdict(found, label) for label in unique(s.label for s in found)]
    for dataset in unique(s.dataset for s in found):
        parts += [f"## {escape(dataset)}", *_table([s for s in found if s.dataset == dataset])]
    if len(lost) < len(runs):
        parts += ["In the tables, as means over completed seeds unless said otherwise:"]
        meanings = [(header, meaning) for _, header, _, meaning in _COLUMNS]
        meanings += [(header, meaning) for _, header, meaning in _measured(found)]
        parts += ["\n".join(f"* {header}: {meaning}" for header, meaning in meanings)]
    parts += health_table.paragraphs(found)
    parts += ["## Runs that did not complete", *_lost(lost)] * bool(lost)
    parts += ["## Figures", *pictures] * bool(pictures)
    time = time_budget.paragraphs(folder, runs)
    parts += ["## Where the time went", *time] * bool(time) + ["## Provenance", _provenance(runs)] * bool(runs)
    return "\n\n".join(parts) + "\n"


def _lost(rows: Sequence[Row]) -> list[str]:
    lines = []
    for row in rows[:MOST_LOST]:
        who = f"`{row['run_id']}` ({escape(row['label'])}, {counted(row['codings'], 'coding')}, seed {row['seed']})"
        step = row.get("bad_step")
        status = row["status"] + ("" if step is None else f" at step {step}")
        lines.append(f"* {who}: {status}: {escape(row['reason'] or 'no reason recorded')}")
    rest = Counter(row["status"] for row in rows[MOST_LOST:])
    more = " and ".join(f"{count} more {status}" for status, count in rest.items())
    return ["\n".join(lines), *([f"And {more}: they are in runs.jsonl."] if more else [])]


def _listed(found: Sequence[Setting]) -> tuple[list[Setting], str]:
    """The settings to have in a table, the best by validation where a label has too many, and what is left out."""
    kept, words = {id(setting) for setting in found}, ""
    for label in unique(s.label for s in found):
        here = [s for s in found if s.label == label]
        if len(here) <= MOST_SETTINGS:
            continue
        place: dict[int, int] = {}  # within those of as many codings
        for group in {id(s.group): s.group for s in here}.values():
            place |= {id(s): i for i, s in enumerate(sorted(group, key=lambda s: s.validation))}
        rest = sorted(here, key=lambda s: place[id(s)])[MOST_SETTINGS:]
        kept -= {id(s) for s in rest}
        empty = sum(not s.completed for s in rest)
        words += (
            f" {len(rest)} more settings of {escape(label)} are in summary.csv: those with higher validation errors"
        )
        words += f", {empty} of them with no completed run." if empty else "."
    return [s for s in found if id(s) in kept], words


def _table(found: Sequence[Setting]) -> list[str]:
    """One dataset's paragraphs: its size, what its settings share, their table."""
    data, names = found[0].runs[0]["data"], unique(name for s in found for name in s.options)
    shape = " × ".join(map(str, data["image_shape"] or ["no image"]))
    about = (
        f"{data['train_rows']} training, {data['validation_rows']} validation and {data['test_rows']} test rows of "
        f"{data['inputs']} inputs ({shape}), {data['constant_columns']} of them constant, divided by {data['unit']:g}. "
        f"PCA is fitted on {data['pca_rows']} rows, training and validation together, and has rank {data['pca_rank']}; "
        f"their mean row scores SSE {format_number(data['mean_sse_test'])} on test."
    )
    options = {name: [s.options.get(name, "–") for s in found] for name in names}
    shared = [f"{name} = {texts[0]}" for name, texts in options.items() if len(set(texts)) == 1 and texts[0] != "null"]
    every, (found, left_out) = found, _listed(found)
    varying = [name for name, texts in options.items() if len(set(texts)) > 1]
    columns = {
        "label": [escape(s.label) + " ★" * (s.best and len(s.rivals) > 1) for s in found],
        "widths": ["-".join(map(str, s.widths)) for s in found],
        "codings": [str(s.codings) for s in found],
        **{name: [escape(s.options.get(name, "–")) for s in found] for name in varying},
        "seeds": [f"{len(s.completed)}/{len(s.runs)}" for s in found],
        **{
            header: [format_number(s.over_seeds(field), digits) for s in found] for field, header, digits, _ in _COLUMNS
        },
        **{header: [format_number(s.over_seeds(field), 4) for s in found] for field, header, _ in _measured(found)},
        "SSE test": [interval(s) for s in found],
        "best epoch": [_best_epoch(s) for s in found],
    }
    columns = {header: cells for header, cells in columns.items() if set(cells) != {"–"}}
    lines = [[escape(header) for header in columns], ["---"] * len(columns), *zip(*columns.values(), strict=True)]
    table = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    caption = "seeds: completed/run. ★: best by validation (not by test) of the settings with this label and codings."
    caption += left_out
    for setting in (s for s in every if s.best):
        few, most = len(setting.completed), max(len(rival.completed) for rival in setting.rivals)
        who = f"{escape(setting.label)} at {counted(setting.codings, 'coding')}"
        caption += f" The ★ of {who} has {counted(few, 'completed seed')}, a rival {most}." * (few < most)
    return [about, f"The same in every setting: {escape(', '.join(shared))}.", table, f"*{caption}*"]


def _measured(found: Sequence[Setting]) -> list[tuple[str, str, str]]:
    """Field, header and meaning of what the scores of these settings measured, and of the variants' own criteria."""
    columns = {f"scores.{field}": (header, meaning) for s in found for field, header, meaning in s.headers}
    own = unique(row["criterion"] for s in found for row in s.completed if "criterion" in row)
    if own:
        meaning = f"{' or '.join(own)}, mean over validation: what epochs and settings of such a variant are chosen by"
        columns["criterion_validation"] = ("criterion validation", meaning)
    return [(field, *words) for field, words in columns.items()]


def _best_epoch(setting: Setting) -> str:
    epoch = setting.over_seeds("best_epoch")
    return "–" if epoch is None else f"{epoch:g} of {setting.runs[0]['epochs']}"


def _provenance(runs: Sequence[Row]) -> str:
    dates = sorted(row["provenance"]["created"][:10] for row in runs)
    facts = {name: unique(str(row["provenance"][name]) for row in runs) for name in (*_PROVENANCE, "git_commit")}
    digits = (f"{r['dataset']} {r['provenance']['dataset_fingerprint'][:12]}" for r in runs)
    facts["dataset_fingerprint"] = unique(digits)
    facts["created"] = unique(dates[:1] + dates[-1:])
    facts["seeds"] = [str(seed) for seed in sorted({row["seed"] for row in runs})]
    return "\n".join(f"* {name}: {escape(', '.join(values))}" for name, values in facts.items())


def _csv(found: Sequence[Setting]) -> str:
    """One line a setting, every number in full."""
    hypers = sorted({name for setting in found for name in setting.hyper})
    rows = [row for setting in found for row in setting.completed]
    measured = unique(f"scores.{name}" for row in rows for name in row.get("scores", {}))
    measured += ["criterion_validation"] * any("criterion" in row for row in rows)
    lines = [
        {
            "dataset": s.dataset,
            **{name: s.runs[0][name] for name in ("label", "variant", "tied", "codings")},
            "widths": "-".join(map(str, s.widths)),
            **{f"hyper.{name}": s.hyper.get(name) for name in hypers},
            "seeds": " ".join(str(row["seed"]) for row in s.runs),
            **{"seeds_total": len(s.runs), "seeds_completed": len(s.completed), "seeds_winning": s.wins},
            "best_by_validation": s.best,
            **{field: s.over_seeds(field) for field, *_ in _COLUMNS},
            **{name: s.over_seeds(name) for name in measured},
            **{
                f"health.{name}": s.over_seeds(f"health.{name}")
                for name in health_table.NUMBERS
                if health_table.has_diagnostics(found)
            },
            "sse_test_ci95": confidence(s.values("sse_test")),
            "config": to_json(s.config, sort_keys=True),
        }
        for s in found
    ]
    text = io.StringIO()
    writer = csv.DictWriter(text, list(lines[0]) if lines else ["dataset", "label"], lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue()


def rebuild(folder: Path, warn: Callable[[str], None] | None = None) -> list[Path]:
    """Rebuild runs.jsonl, summary and figures of a results folder from its stored runs. Returns the files written.

    Raises ResultsError where there are none, or another call is writing there.
    """
    if not (folder / "runs.jsonl").is_file() and not (folder / "runs").is_dir():
        raise ResultsError(str(folder), "no runs there", "give a results folder, for example results/quickstart")
    with lock.hold(folder):
        rows = run_folders.write_index(folder, warn)
        return write(folder, rows, lambda run_id: run_folders.read_arrays(folder, run_id))
