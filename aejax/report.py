"""Results to a summary: verdicts, tables and figures, rebuilt from the rows and arrays of an experiment alone."""

from __future__ import annotations

import csv
import functools
import io
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

from aejax import goodput, panel
from aejax.results import to_json, write_atomic
from aejax.settings import Arrays, Row, Setting, confidence, exact, number, settings, unique

MOST_SETTINGS, MOST_LOST = 40, 40  # of a label, in a table; runs that did not complete, in their list
MATCH = 1e-3  # all seeds within this relative distance of PCA's error: neither a win nor a loss
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
_AGAIN = {False: "It ", True: ""}  # how a further sentence on a label starts; True: where PCA is exact
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
    found = settings(list({row["run_id"]: row for row in rows}.values()))
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
    from aejax import figures  # matplotlib is slow to import

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
            reason = _escape(f"{type(error).__name__}: {error}"[:300])
            picture = _Picture(name, None, f"*{caption}* `{name}` could not be drawn: {reason}")
        pictures.append(picture)
    return pictures


def _markdown(experiment: str, found: Sequence[Setting], pictures: Sequence[str], folder: Path) -> str:
    runs = [row for setting in found for row in setting.runs]
    lost = [row for row in runs if row["status"] != "completed"]
    count = f"{_count(len(runs), 'run')} in {_count(len(found), 'setting')}, {len(runs) - len(lost)} completed."
    parts = [f"# {_escape(experiment)}: held against PCA", count]
    parts += ["**No run completed: there is nothing to compare.**"] * (len(lost) == len(runs))
    parts += [_verdict(found, label) for label in unique(s.label for s in found)]
    for dataset in unique(s.dataset for s in found):
        parts += [f"## {_escape(dataset)}", *_table([s for s in found if s.dataset == dataset])]
    if len(lost) < len(runs):
        parts += ["In the tables, as means over completed seeds unless said otherwise:"]
        meanings = [(header, meaning) for _, header, _, meaning in _COLUMNS]
        meanings += [(header, meaning) for _, header, meaning in _measured(found)]
        parts += ["\n".join(f"* {header}: {meaning}" for header, meaning in meanings)]
    parts += panel.paragraphs(found, _escape)
    parts += ["## Runs that did not complete", *_lost(lost)] * bool(lost)
    parts += ["## Figures", *pictures] * bool(pictures)
    time = goodput.paragraphs(folder, runs)
    parts += ["## Where the time went", *time] * bool(time) + ["## Provenance", _provenance(runs)] * bool(runs)
    return "\n\n".join(parts) + "\n"


def _lost(rows: Sequence[Row]) -> list[str]:
    lines = []
    for row in rows[:MOST_LOST]:
        who = f"`{row['run_id']}` ({_escape(row['label'])}, {_count(row['codings'], 'coding')}, seed {row['seed']})"
        step = row.get("bad_step")
        status = row["status"] + ("" if step is None else f" at step {step}")
        lines.append(f"* {who}: {status}: {_escape(row['reason'] or 'no reason recorded')}")
    rest = Counter(row["status"] for row in rows[MOST_LOST:])
    more = " and ".join(f"{count} more {status}" for status, count in rest.items())
    return ["\n".join(lines), *([f"And {more}: they are in runs.jsonl."] if more else [])]


def _verdict(found: Sequence[Setting], label: str) -> str:
    """One paragraph on a label, from its best setting by validation at each number of codings."""
    sentences = []
    for dataset in unique(s.dataset for s in found if s.label == label):
        best = [s for s in found if s.best and (s.label, s.dataset) == (label, dataset)]
        subject = f"On {_escape(dataset)}" if sentences else f"**{_escape(label)}** on {_escape(dataset)}"
        start = {False: f"{subject} it " if sentences else f"{subject} ", True: f"{subject}: "}  # True: PCA is exact
        if not best:
            sentences.append(f"{start[False]}has no completed run.")
        if len(best) > 3:
            at = {o: ", ".join(str(s.codings) for s in best if _outcome(s) == o) for o in map(_outcome, best)}
            outcomes = "; ".join(f"{outcome} at {codings} codings" for outcome, codings in at.items())
            sentences.append(f"{start[best[0].pca_exact]}{outcomes}.")
            start, best = _AGAIN, [best[0], best[-1]]  # the evidence for the fewest and the most codings
        for setting in best:
            at, between = _count(setting.codings, "coding"), ";" if setting.pca_exact else ":"
            sentence = f"{start[setting.pca_exact]}{_outcome(setting)} at {at}{between} {_evidence(setting)}."
            sentences.append(sentence[0].upper() + sentence[1:])
            start = _AGAIN
    return " ".join(sentences)


def _outcome(setting: Setting) -> str:
    ours, pca = setting.values("sse_test"), setting.values("pca_sse_test")[0]
    if setting.pca_exact:
        return "both are exact" if all(exact(row, "sse_test") for row in setting.completed) else "PCA is exact"
    if all(abs(value - pca) <= MATCH * pca for value in ours):
        return f"matches PCA to {MATCH:.1%}"
    if 0 < setting.wins < len(ours):
        return "is undecided against PCA"
    outcome = "wins against PCA" if setting.wins else "loses to PCA"
    inside = abs(fmean(ours) - pca) <= (confidence(ours) or 0.0)
    return f"{outcome} in every completed seed, yet within the 95 % interval," if inside else outcome


def _evidence(setting: Setting) -> str:
    seeds, worth = len(setting.runs), setting.over_seeds("pca_equivalent_dimension")
    lost, all_seeds = seeds - len(setting.completed), _count(seeds, "seed")
    if setting.pca_exact:
        text = f"ours is {_interval(setting)}" + f", {lost} of {all_seeds} did not complete" * bool(lost)
    else:
        text = f"SSE {_interval(setting)} against {number(setting.over_seeds('pca_sse_test'))}"
        text += f" (ratio {number(setting.over_seeds('sse_ratio'), 3)}), {setting.wins} of {all_seeds}"
        text += (" wins" if 1 in (setting.wins, seeds) else " win") + f", {lost} did not complete" * bool(lost)
    text += "" if worth is None else f"; it is worth {_count(worth, 'component')}"
    return text + f" (best of {len(setting.rivals)} settings by validation)" * (len(setting.rivals) > 1)


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
            f" {len(rest)} more settings of {_escape(label)} are in summary.csv: those with higher validation errors"
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
        f"their mean row scores SSE {number(data['mean_sse_test'])} on test."
    )
    options = {name: [s.options.get(name, "–") for s in found] for name in names}
    shared = [f"{name} = {texts[0]}" for name, texts in options.items() if len(set(texts)) == 1 and texts[0] != "null"]
    every, (found, left_out) = found, _listed(found)
    varying = [name for name, texts in options.items() if len(set(texts)) > 1]
    columns = {
        "label": [_escape(s.label) + " ★" * (s.best and len(s.rivals) > 1) for s in found],
        "widths": ["-".join(map(str, s.widths)) for s in found],
        "codings": [str(s.codings) for s in found],
        **{name: [_escape(s.options.get(name, "–")) for s in found] for name in varying},
        "seeds": [f"{len(s.completed)}/{len(s.runs)}" for s in found],
        **{header: [number(s.over_seeds(field), digits) for s in found] for field, header, digits, _ in _COLUMNS},
        **{header: [number(s.over_seeds(field), 4) for s in found] for field, header, _ in _measured(found)},
        "SSE test": [_interval(s) for s in found],
        "best epoch": [_best_epoch(s) for s in found],
    }
    columns = {header: cells for header, cells in columns.items() if set(cells) != {"–"}}
    lines = [[_escape(header) for header in columns], ["---"] * len(columns), *zip(*columns.values(), strict=True)]
    table = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    caption = "seeds: completed/run. ★: best by validation (not by test) of the settings with this label and codings."
    caption += left_out
    for setting in (s for s in every if s.best):
        few, most = len(setting.completed), max(len(rival.completed) for rival in setting.rivals)
        who = f"{_escape(setting.label)} at {_count(setting.codings, 'coding')}"
        caption += f" The ★ of {who} has {_count(few, 'completed seed')}, a rival {most}." * (few < most)
    return [about, f"The same in every setting: {_escape(', '.join(shared))}.", table, f"*{caption}*"]


def _measured(found: Sequence[Setting]) -> list[tuple[str, str, str]]:
    """Field, header and meaning of what the scores of these settings measured, and of the variants' own criteria."""
    columns = {f"scores.{field}": (header, meaning) for s in found for field, header, meaning in s.headers}
    own = unique(row["criterion"] for s in found for row in s.completed if "criterion" in row)
    if own:
        meaning = f"{' or '.join(own)}, mean over validation: what epochs and settings of such a variant are chosen by"
        columns["criterion_validation"] = ("criterion validation", meaning)
    return [(field, *words) for field, words in columns.items()]


def _interval(setting: Setting) -> str:
    half = confidence(setting.values("sse_test"))
    return number(setting.over_seeds("sse_test")) + ("" if half is None else f" ± {number(half, 2)}")


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
    return "\n".join(f"* {name}: {_escape(', '.join(values))}" for name, values in facts.items())


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
            **{f"health.{name}": s.over_seeds(f"health.{name}") for name in panel.NUMBERS if panel.known(found)},
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


def _count(count: float, noun: str) -> str:
    text = str(count) if isinstance(count, int) else number(count, 3)
    return f"{text} {noun}" + "s" * (text != "1")


def _escape(text: str) -> str:
    """Text that Markdown shows as it is, also in a table cell: one line, special characters escaped."""
    return re.sub(r"([\\`*|<>\[\]&$~]|(?<!\w)_|_(?!\w))", r"\\\1", " ".join(str(text).split()))
