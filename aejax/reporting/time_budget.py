"""Where the time went: what calls of `aejax run` spent their wall time on, and how runs were executed, in words."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from aejax.reporting.settings import Row, format_number, unique
from aejax.storage import lock
from aejax.storage.run_folders import append_line, to_json

SPENT = {
    "useful": "training steps whose outcome is stored, or saved to go on from",
    "compile": "compiling",
    "data": "reading data and fitting the reference PCA",
    "saving": "writing runs and states, and tables and figures (not yet those of the last call)",
    "lost": "work of a run that failed, or of a killed call that had not saved it",
    "other": "all else; of a killed call all that is not known",
}
"""What the wall time of a call goes into, as in a line of goodput.jsonl, in seconds."""
MOST_PROGRAMS = 12


def read(folder: Path) -> tuple[list[dict[str, Any]], int]:
    """The calls of `aejax run` in an experiment's goodput.jsonl, and how many of its lines cannot be read.

    Neither where there is no such file.
    """
    try:
        text = (folder / "goodput.jsonl").read_text("utf-8", errors="replace")
    except FileNotFoundError:
        return [], 0
    calls, lines = [], [line for line in text.splitlines() if line.strip()]
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
    """Add the time that tables and figures took to what the call has said of itself, in a line of its own. The summary
    is one of them: so that it can be rebuilt as it was, it leaves out such a line where it is the last one.
    """
    spent = {**dict.fromkeys(SPENT, 0.0), "saving": seconds}
    line = {"started": started, "wall": seconds, **spent, "runs": 0, "device": device, "report": True}
    append_line(folder / "goodput.jsonl", line)


def of_a_killed(before: lock.PreviousHolder | None) -> dict[str, Any] | None:
    """The line of a call that could not write its own: what the lock's holder had said when it was last heard of.

    None where there was none, or where it told of its work itself.
    """
    if before is None or not before.lost_seconds + before.kept_seconds:
        return None
    known = {"useful": before.kept_seconds, "lost": before.lost_seconds}
    try:
        heard = before.heard - datetime.fromisoformat(before.started).timestamp()
    except ValueError:
        heard = 0.0
    wall = max(heard, sum(known.values()))
    spent = {**dict.fromkeys(SPENT, 0.0), **known, "other": wall - sum(known.values())}
    return {"started": before.started, "wall": wall, **spent, "runs": 0, "device": None, "killed": True}


def paragraphs(folder: Path, runs: Sequence[Row]) -> list[str]:
    """Markdown: seconds and shares over all calls, then how the runs were executed. Empty where nothing is recorded."""
    calls, damaged = read(folder)
    if calls and calls[-1].get("report"):
        calls = calls[:-1]
    parts = _spent(calls) if calls else []
    if damaged:
        parts.append(f"Not counted: {damaged} damaged line{'s' * (damaged > 1)} of goodput.jsonl.")
    return parts + _executed(runs)


def _spent(calls: Sequence[dict[str, Any]]) -> list[str]:
    wall = sum(call["wall"] for call in calls)
    sums = {name: sum(call[name] for call in calls) for name in SPENT}
    total = sum(sums.values())  # more than the wall time where work of a killed call was lost
    devices = ", ".join(unique(str(call["device"]) for call in calls if call["device"]))
    count = len(unique(call["started"] or str(number) for number, call in enumerate(calls)))
    about = f"{count} call{'s' * (count > 1)} of `aejax run`" + f" on {devices}" * bool(devices)
    trained = sum(int(call["runs"] or 0) for call in calls)
    about += f", {format_number(wall, 3)} s of wall time in all, trained {trained} run{'s' * (trained != 1)}."
    lines = ["| what | seconds | share | |", "| --- | --- | --- | --- |"]
    for name, meaning in SPENT.items():
        share = f"{sums[name] / total:.1%}" if total > 0 else "–"
        lines.append(f"| {name} | {format_number(sums[name], 3)} | {share} | {meaning} |")
    return [about, "\n".join(lines)]


def _executed(runs: Sequence[Row]) -> list[str]:
    """A line for every way in which runs were executed, those of most runs first."""
    ways: Counter[str] = Counter()
    for row in runs:
        if row.get("execution"):
            known = {
                name: row["execution"].get(name) for name in ("how", "width", "block", "devices", "members", "rates")
            }
            ways[to_json(known, sort_keys=True)] += 1
    if not ways:
        return []
    lines = [
        "| runs | how | vmapped together | trained together | devices | runs in the program | measured samples/s |",
        "|" + " --- |" * 7,
    ]
    for text, count in sorted(ways.items(), key=lambda way: (-way[1], way[0]))[:MOST_PROGRAMS]:
        way = json.loads(text)
        rates = ", ".join(f"{how} {rate:,.0f}" for how, rate in (way["rates"] or {}).items() if rate is not None)
        cells = (count, way["how"], way["width"], way["block"], way["devices"], way["members"], rates or None)
        lines.append("| " + " | ".join("–" if cell is None else str(cell) for cell in cells) + " |")
    totals: Counter[str] = Counter()
    for text, count in ways.items():
        totals[str(json.loads(text)["how"])] += count
    about = "Executed: " + ", ".join(f"{count} by {how}" for how, count in totals.most_common()) + "."
    if (unknown := len(runs) - sum(totals.values())) > 0:
        about += f" Not recorded for {unknown} run{'s' * (unknown > 1)}."
    if len(ways) > MOST_PROGRAMS:
        about += f" Of {len(ways)} ways the {MOST_PROGRAMS} of most runs:"
    return [about, "\n".join(lines)]
