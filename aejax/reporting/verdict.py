"""Verdicts in words: whether a label's best settings win against PCA, in squared error and by their own scores."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from aejax.evaluation.scores import Comparison
from aejax.reporting.settings import Setting, confidence_half_width, count_noun, escape, format_number, is_exact, unique

MATCH = 1e-3
"""Relative distance to PCA's number within which all seeds must lie to match it: neither a win nor a loss."""


def verdict(settings: Sequence[Setting], label: str) -> str:
    """One paragraph on a label, from its best setting by validation at each number of codings.

    Comparisons by its scores come first, because there the squared error is not the whole question.
    """
    sentences: list[str] = []
    for dataset in unique(setting.dataset for setting in settings if setting.label == label):
        best = [s for s in settings if (s.label, s.dataset) == (label, dataset) and s.best]
        subject = f"On {escape(dataset)}" if sentences else f"**{escape(label)}** on {escape(dataset)}"
        sentences += _sentences(best, subject, f"{subject} it " if sentences else f"{subject} ")
    return " ".join(sentences)


def _sentences(best: Sequence[Setting], subject: str, start: str) -> list[str]:
    """The sentences on one dataset. The first one starts with `start`, or with `subject:` where PCA is exact.

    With more than three numbers of codings, the fewest and the most codings stand for all of them as evidence.
    """
    if not best:
        return [f"{start}has no completed run."]
    evidence = [best[0], best[-1]] if len(best) > 3 else list(best)
    sentences = []
    openings = {False: start, True: f"{subject}: "}  # by whether PCA is exact
    later_openings = {False: "It ", True: ""}
    lead_in = ""  # introduces the comparison of squared errors after a comparison by a score
    for setting in evidence:
        at = f" at {count_noun(setting.codings, 'coding')}" * (len(best) > 1)
        for comparison in setting.comparisons:
            text = _compare_by_score(setting, comparison, at)
            if text:
                sentences.append(f"{openings[False]}{text}.")
                openings = later_openings
                lead_in = comparison.sse_introduction
    if lead_in:
        openings = {False: f"{lead_in} it ", True: f"{lead_in}: "}
    if len(best) > 3:
        codings: dict[str, list[str]] = {}
        for setting in best:
            codings.setdefault(outcome(setting), []).append(str(setting.codings))
        outcomes = "; ".join(f"{text} at {', '.join(numbers)} codings" for text, numbers in codings.items())
        sentences.append(f"{openings[best[0].pca_exact]}{outcomes}.")
        openings = later_openings
    for setting in evidence:
        separator = ";" if setting.pca_exact else ":"
        at = count_noun(setting.codings, "coding")
        sentence = f"{openings[setting.pca_exact]}{outcome(setting)} at {at}{separator} {_evidence(setting)}."
        sentences.append(sentence[0].upper() + sentence[1:])
        openings = later_openings
    return sentences


def outcome(setting: Setting) -> str:
    """Whether a setting wins against PCA with as many components as codings, by squared error on test."""
    pca = setting.values("pca_sse_test")[0]
    if setting.pca_exact:
        return "both are exact" if all(is_exact(row, "sse_test") for row in setting.completed) else "PCA is exact"
    return _outcome([(value, pca) for value in setting.values("sse_test")], setting.wins, "PCA")


def interval(values: Sequence[float]) -> str:
    """The mean of the values of all seeds and, with several seeds, the half-width of its interval."""
    half = confidence_half_width(values)
    return format_number(fmean(values) if values else None) + ("" if half is None else f" ± {format_number(half, 2)}")


def _outcome(pairs: Sequence[tuple[float, float]], wins: int, rival: str) -> str:
    """The outcome in words, from (ours, theirs) of every seed and the number of seeds that win."""
    if all(abs(ours - theirs) <= MATCH * abs(theirs) for ours, theirs in pairs):
        return f"matches {rival} to {MATCH:.1%}"
    if 0 < wins < len(pairs):
        return f"is undecided against {rival}"
    text = f"wins against {rival}" if wins else f"loses to {rival}"
    gaps = [ours - theirs for ours, theirs in pairs]
    if abs(fmean(gaps)) <= (confidence_half_width(gaps) or 0.0):
        text += " in every completed seed, yet within the 95 % interval,"
    return text


def _wins(seeds: int, wins: int, incomplete: int) -> str:
    text = f"{wins} of {count_noun(seeds, 'seed')}" + (" wins" if 1 in (wins, seeds) else " win")
    return text + f", {incomplete} did not complete" * bool(incomplete)


def _evidence(setting: Setting) -> str:
    seeds = len(setting.runs)
    incomplete = seeds - len(setting.completed)
    if setting.pca_exact:
        text = f"the autoencoder's SSE is {interval(setting.values('sse_test'))}"
        text += f", {incomplete} of {count_noun(seeds, 'seed')} did not complete" * bool(incomplete)
    else:
        text = f"SSE {interval(setting.values('sse_test'))} against {format_number(setting.over_seeds('pca_sse_test'))}"
        text += f" (ratio {format_number(setting.over_seeds('sse_ratio'), 3)})"
        text += f", {_wins(seeds, setting.wins, incomplete)}"
    components = setting.over_seeds("pca_equivalent_dimension")
    if components is not None:
        text += f"; it is worth {count_noun(components, 'component')}"
    return text + f" (best of {len(setting.rivals)} settings by validation)" * (len(setting.rivals) > 1)


def _compare_by_score(setting: Setting, comparison: Comparison, at: str) -> str:
    """A score's comparison in words, empty where no seed has its numbers.

    It covers the setting or, where the comparison is a curve, all settings with its label and codings.
    """
    rivals = setting.rivals if comparison.all_settings else [setting]
    compared = [(rival, rival.pairs(comparison)) for rival in rivals]
    compared = sorted((item for item in compared if item[1]), key=lambda item: fmean(ours for ours, _ in item[1]))
    if not compared:
        return ""
    outcomes = []
    texts = []
    won = []
    for rival, pairs in compared:
        wins = sum(ours > theirs if comparison.higher_is_better else ours < theirs for ours, theirs in pairs)
        outcomes.append(_outcome(pairs, wins, comparison.baseline))
        won.append(wins == len(pairs) and not outcomes[-1].startswith("matches"))
        ours, theirs = zip(*pairs, strict=True)
        text = comparison.sentence.format(ours=interval(ours), theirs=format_number(fmean(theirs)))
        if comparison.in_nats:
            text += f" (difference {format_number(fmean(ours) - fmean(theirs), 2)})"
        elif all(value > 0 for value in theirs):
            text += f" (ratio {format_number(fmean(ours) / fmean(theirs), 3)})"
        without = len(rival.completed) - len(pairs)
        text += f", {_wins(len(rival.runs) - without, wins, len(rival.runs) - len(rival.completed))}"
        texts.append(text + f" ({without} of {len(rival.runs)} have no such number)" * bool(without))
    if len(set(outcomes)) == 1:
        summary = outcomes[0]
    elif all(won):
        summary = f"wins against {comparison.baseline} at every setting, at some within the 95 % interval,"
    elif any(won):
        summary = f"is at some of its settings better than {comparison.baseline}"
    else:
        summary = f"is at none of its settings better than {comparison.baseline} in every seed"
    if not at:
        summary = summary.removesuffix(",")
    return f"{summary}{at}: {'; '.join(texts)}"
