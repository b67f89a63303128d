"""The time budget: what calls of `aejax run` spent their wall time on, and how the runs were executed."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from aejax.reporting.settings import Row, count_noun, format_number, markdown_table, unique
from aejax.storage.run_folders import append_line, to_json

SPENT = {
    "useful": "training steps whose result is stored as a run or as a checkpoint",
    "compile": "compiling",
    "data": "reading data and fitting the reference PCA",
    "saving": "writing runs, checkpoints, tables and figures (those of the last call are not yet included)",
    "lost": "training of runs that failed",
    "other": "everything else",
}
"""The kinds of time in a line of goodput.jsonl, in seconds, and their meanings."""
MOST_PROGRAMS = 12


def read(folder: Path) -> tuple[list[dict[str, Any]], int]:
    """Read an experiment's goodput.jsonl: its calls of `aejax run`, and the number of lines that cannot be read.

    Returns no calls and 0 where there is no such file.
    """
    try:
        text = (folder / "goodput.jsonl").read_text("utf-8", errors="replace")
    except FileNotFoundError:
        return [], 0
    lines = [line for line in text.splitlines() if line.strip()]
    calls = []
    for line in lines:
        try:
            call = json.loads(line)
            times = {name: float(call.get(name) or 0.0) for name in ("wall", *SPENT)}
        except (ValueError, TypeError, AttributeError):
            continue
        if all(map(math.isfinite, times.values())):
            calls.append({"started": "", "device": None, "runs": 0, **call, **times})
    return calls, len(lines) - len(calls)


def add_report(folder: Path, started: str, device: str, seconds: float) -> None:
    """Append a line with the seconds that tables and figures took, after the line of the call itself.

    `paragraphs` ignores such a line where it is the last one: the summary was written before its own time was known,
    and rebuilding it later must give the same text.
    """
    spent = {**dict.fromkeys(SPENT, 0.0), "saving": seconds}
    line = {"started": started, "wall": seconds, **spent, "runs": 0, "device": device, "report": True}
    append_line(folder / "goodput.jsonl", line)


def paragraphs(folder: Path, rows: Sequence[Row]) -> list[str]:
    """Markdown: seconds and shares over all calls, then how the runs were executed. Empty where nothing is recorded."""
    calls, damaged = read(folder)
    if calls and calls[-1].get("report"):
        calls = calls[:-1]
    parts = _time_spent(calls) if calls else []
    if damaged:
        parts.append(f"Not counted: {count_noun(damaged, 'damaged line')} of goodput.jsonl.")
    return parts + _execution(rows)


def _time_spent(calls: Sequence[dict[str, Any]]) -> list[str]:
    wall = sum(call["wall"] for call in calls)
    sums = {name: sum(call[name] for call in calls) for name in SPENT}
    total = sum(sums.values())  # lines of earlier versions may sum to more than their wall time
    devices = ", ".join(unique(str(call["device"]) for call in calls if call["device"]))
    call_count = len(unique(call["started"] or str(number) for number, call in enumerate(calls)))
    trained = sum(int(call["runs"] or 0) for call in calls)
    about = f"{count_noun(call_count, 'call')} of `aejax run`" + f" on {devices}" * bool(devices)
    about += f", {format_number(wall, 3)} s of wall time in all, trained {count_noun(trained, 'run')}."
    rows = []
    for name, meaning in SPENT.items():
        share = f"{sums[name] / total:.1%}" if total > 0 else "–"
        rows.append([name, format_number(sums[name], 3), share, meaning])
    return [about, markdown_table(["kind", "seconds", "share", "meaning"], rows)]


def _execution(rows: Sequence[Row]) -> list[str]:
    """A line for every way in which runs were executed, the way of most runs first."""
    headers = {"how": "how", "width": "vmapped together", "block": "trained together", "devices": "devices"}
    headers |= {"members": "runs in the program", "rates": "measured samples/s"}
    ways: Counter[str] = Counter()
    methods: Counter[str] = Counter()
    for row in rows:
        if row.get("execution"):
            ways[to_json({name: row["execution"].get(name) for name in headers}, sort_keys=True)] += 1
            methods[str(row["execution"].get("how"))] += 1
    if not ways:
        return []
    lines = []
    for text, count in sorted(ways.items(), key=lambda item: (-item[1], item[0]))[:MOST_PROGRAMS]:
        way = json.loads(text)
        rates = ", ".join(f"{how} {rate:,.0f}" for how, rate in (way["rates"] or {}).items() if rate is not None)
        cells = {**way, "rates": rates or None}
        lines.append([str(count), *("–" if cells[name] is None else str(cells[name]) for name in headers)])
    about = "Executed: " + ", ".join(f"{count} by {how}" for how, count in methods.most_common()) + "."
    unknown = len(rows) - sum(methods.values())
    if unknown > 0:
        about += f" Not recorded for {count_noun(unknown, 'run')}."
    if len(ways) > MOST_PROGRAMS:
        about += f" The table shows the {MOST_PROGRAMS} most frequent of {len(ways)} ways:"
    return [about, markdown_table(["runs", *headers.values()], lines)]
