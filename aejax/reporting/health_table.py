"""The diagnostics of codings in the summary: a table of the best settings, and a line for every warning."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from aejax.reporting.settings import Setting, count_noun, escape, format_number, markdown_table

_ACTIVE = (
    "codings that tell rows apart: variance above 1 % of the codings' mean variance, or above .01 where codings have a "
    "prior"
)
_RANK = (
    "exponential of the entropy of the normalised eigenvalues of the codings' covariance: the number of codings when "
    "all directions vary equally, 1 when only one direction varies"
)
NUMBERS = {
    "active_units": ("active", _ACTIVE),
    "dead_units": ("dead", "codings with the same value for every test row"),
    "effective_rank": ("effective rank", _RANK),
    "pca_effective_rank": ("PCA's", "effective rank of as many PCA codings"),
    "share_nonzero": ("nonzero", "share of codings that are not exactly zero"),
}
"""Header and meaning of every diagnostic that a table shows."""
MOST_WARNINGS = 20


def has_diagnostics(settings: Sequence[Setting]) -> bool:
    """Whether any completed run has diagnostics. Rows of earlier versions have none."""
    return any(row.get("health") for setting in settings for row in setting.completed)


def paragraphs(settings: Sequence[Setting]) -> list[str]:
    """Markdown: warnings, then means over completed seeds for the settings that are best by validation."""
    if not has_diagnostics(settings):
        return []
    warning_list = "\n".join(f"* **Warning**: {escape(text)}" for text in warnings(settings)) or "No warnings."
    headers = ["label", "dataset", "codings", *(header for header, _ in NUMBERS.values())]
    rows = []
    for setting in settings:
        if setting.best and has_diagnostics([setting]):
            numbers = [format_number(setting.over_seeds(f"health.{name}"), 3) for name in NUMBERS]
            rows.append([escape(setting.label), escape(setting.dataset), str(setting.codings), *numbers])
    meanings = "; ".join(f"{header}: {meaning}" for header, meaning in NUMBERS.values())
    return ["## Health", warning_list, markdown_table(headers, rows), f"*Measured on test codings. {meanings}.*"]


def warnings(settings: Sequence[Setting]) -> list[str]:
    """One line for each label, number of codings and kind of warning, with the number of runs that have it."""
    runs: Counter[tuple[str, int]] = Counter()
    texts: dict[tuple[str, int, str], list[str]] = {}
    for setting in settings:
        for row in setting.completed:
            runs[setting.label, setting.codings] += 1
            for text in (row.get("health") or {}).get("warnings", ()):
                kind = text.split(":")[0].split("(")[0].lstrip("0123456789 ")
                texts.setdefault((setting.label, setting.codings, kind), []).append(text)
    lines = []
    for (label, codings, _), alike in texts.items():
        subject = f"{label}, {count_noun(codings, 'coding')}, {len(alike)} of {runs[label, codings]} runs"
        lines.append(f"{subject}: {alike[0]}" if len(alike) == 1 else f"{subject}, for example: {alike[0]}")
    left_out = len(lines) - MOST_WARNINGS
    return [*lines[:MOST_WARNINGS], *([f"And {left_out} more such lines."] if left_out > 0 else [])]
