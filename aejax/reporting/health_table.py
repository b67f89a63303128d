"""The health panel in words: a table of the best settings, and a line for everything that is ill."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from aejax.reporting.markdown import escape
from aejax.reporting.settings import Setting, format_number

_ACTIVE = (
    "codings that tell rows apart: variance above 1 % of the mean coding's, or above .01 where codings have a prior"
)
_RANK = (
    "exponential of the entropy of the normalised eigenvalues of the codings' covariance: as many as the codings when "
    "all directions vary alike, 1 when only one does"
)
NUMBERS = {
    "active_units": ("active", _ACTIVE),
    "dead_units": ("dead", "codings with the same value for every test row"),
    "effective_rank": ("effective rank", _RANK),
    "pca_effective_rank": ("PCA's", "the same of as many PCA codings"),
    "share_nonzero": ("nonzero", "share of codings that are not exactly zero"),
}
"""Header and meaning of every number of the panel that a table shows."""
MOST_WARNINGS = 20


def has_diagnostics(found: Sequence[Setting]) -> bool:
    """Whether any run has a panel: those of earlier versions have none."""
    return any(row.get("health") for s in found for row in s.completed)


def paragraphs(found: Sequence[Setting]) -> list[str]:
    """Markdown: warnings, then means over completed seeds of the settings that are best by validation."""
    if not has_diagnostics(found):
        return []
    said = warnings(found)
    lines = ["\n".join(f"* **Warning**: {escape(text)}" for text in said)] if said else ["No warnings."]
    header = ["label", "dataset", "codings", *(header for header, _ in NUMBERS.values())]
    rows = [header, ["---"] * len(header)]
    for s in found:
        if s.best and has_diagnostics([s]):
            numbers = [format_number(s.over_seeds(f"health.{name}"), 3) for name in NUMBERS]
            rows.append([escape(s.label), escape(s.dataset), str(s.codings), *numbers])
    lines.append("\n".join("| " + " | ".join(row) + " |" for row in rows))
    lines.append("*Of test codings. " + "; ".join(f"{head}: {meaning}" for head, meaning in NUMBERS.values()) + ".*")
    return ["## Health", *lines]


def warnings(found: Sequence[Setting]) -> list[str]:
    """A line for every label, number of codings and thing that is wrong with some of its completed runs."""
    counts: Counter[tuple[str, int, str]] = Counter()
    runs: Counter[tuple[str, int]] = Counter()
    examples: dict[tuple[str, int, str], str] = {}
    for s in found:
        for row in s.completed:
            runs[s.label, s.codings] += 1
            for text in (row.get("health") or {}).get("warnings", ()):
                key = (s.label, s.codings, text.split(":")[0].split("(")[0].lstrip("0123456789 "))
                counts[key] += 1
                examples.setdefault(key, text)
    lines = []
    for key, count in counts.items():
        label, codings, _ = key
        who = f"{label}, {codings} coding{'s' * (codings != 1)}, {count} of {runs[label, codings]} runs"
        lines.append(f"{who}: {examples[key]}" if count == 1 else f"{who}, for example: {examples[key]}")
    rest = len(lines) - MOST_WARNINGS
    return [*lines[:MOST_WARNINGS], *([f"And {rest} more such lines."] if rest > 0 else [])]
