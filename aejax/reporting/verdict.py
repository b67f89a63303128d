"""Verdicts: in words, whether a label's best settings win against PCA, in squared error and by their own scores."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from aejax.evaluation.scores import Comparison
from aejax.reporting.markdown import counted, escape
from aejax.reporting.settings import Setting, confidence, format_number, is_exact, unique

MATCH = 1e-3  # all seeds within this relative distance of PCA's number: neither a win nor a loss
_AGAIN = {False: "It ", True: ""}  # how a further sentence on a label starts; True: where PCA is exact


def verdict(found: Sequence[Setting], label: str) -> str:
    """One paragraph on a label, from its best setting by validation at each number of codings.

    What its scores hold against PCA comes first: there the squared error is not the whole question.
    """
    sentences = []
    for dataset in unique(s.dataset for s in found if s.label == label):
        best = [s for s in found if s.best and (s.label, s.dataset) == (label, dataset)]
        subject = f"On {escape(dataset)}" if sentences else f"**{escape(label)}** on {escape(dataset)}"
        start = {False: f"{subject} it " if sentences else f"{subject} ", True: f"{subject}: "}  # True: PCA is exact
        plain = ""  # what the comparison of squared errors is, after one by a score
        if not best:
            sentences.append(f"{start[False]}has no completed run.")
        for setting in [best[0], best[-1]] if len(best) > 3 else best:
            at = f" at {counted(setting.codings, 'coding')}" * (len(best) > 1)
            said = [(_by_a_score(setting, one, at), one.otherwise) for one in setting.against]
            for text, otherwise in ((text, otherwise) for text, otherwise in said if text):
                sentences.append(f"{start[False]}{text}.")
                start = _AGAIN
                plain = otherwise
        if plain:
            start = {False: f"{plain} it ", True: f"{plain}: "}
        if len(best) > 3:
            at = {o: ", ".join(str(s.codings) for s in best if outcome(s) == o) for o in map(outcome, best)}
            outcomes = "; ".join(f"{one} at {codings} codings" for one, codings in at.items())
            sentences.append(f"{start[best[0].pca_exact]}{outcomes}.")
            start, best = _AGAIN, [best[0], best[-1]]  # the evidence for the fewest and the most codings
        for setting in best:
            at, between = counted(setting.codings, "coding"), ";" if setting.pca_exact else ":"
            sentence = f"{start[setting.pca_exact]}{outcome(setting)} at {at}{between} {_evidence(setting)}."
            sentences.append(sentence[0].upper() + sentence[1:])
            start = _AGAIN
    return " ".join(sentences)


def outcome(setting: Setting) -> str:
    """Whether it wins against PCA with as many components as codings, by squared error on test."""
    ours, pca = setting.values("sse_test"), setting.values("pca_sse_test")[0]
    if setting.pca_exact:
        return "both are exact" if all(is_exact(row, "sse_test") for row in setting.completed) else "PCA is exact"
    return _outcome([(value, pca) for value in ours], setting.wins, "PCA")


def interval(setting: Setting) -> str:
    """Mean squared error on test and, of several seeds, the half-width of its interval."""
    return _interval(setting.values("sse_test"))


def _interval(values: Sequence[float]) -> str:
    half = confidence(values)
    return format_number(fmean(values) if values else None) + ("" if half is None else f" ± {format_number(half, 2)}")


def _outcome(pairs: Sequence[tuple[float, float]], wins: int, rival: str) -> str:
    """In words, from every seed's number beside the rival's."""
    if all(abs(ours - theirs) <= MATCH * abs(theirs) for ours, theirs in pairs):
        return f"matches {rival} to {MATCH:.1%}"
    if 0 < wins < len(pairs):
        return f"is undecided against {rival}"
    text = f"wins against {rival}" if wins else f"loses to {rival}"
    gaps = [ours - theirs for ours, theirs in pairs]
    inside = abs(fmean(gaps)) <= (confidence(gaps) or 0.0)
    return f"{text} in every completed seed, yet within the 95 % interval," if inside else text


def _wins(seeds: int, wins: int, lost: int) -> str:
    text = f"{wins} of {counted(seeds, 'seed')}" + (" wins" if 1 in (wins, seeds) else " win")
    return text + f", {lost} did not complete" * bool(lost)


def _evidence(setting: Setting) -> str:
    seeds, worth = len(setting.runs), setting.over_seeds("pca_equivalent_dimension")
    lost = seeds - len(setting.completed)
    if setting.pca_exact:
        text = f"ours is {interval(setting)}" + f", {lost} of {counted(seeds, 'seed')} did not complete" * bool(lost)
    else:
        text = f"SSE {interval(setting)} against {format_number(setting.over_seeds('pca_sse_test'))}"
        text += f" (ratio {format_number(setting.over_seeds('sse_ratio'), 3)}), {_wins(seeds, setting.wins, lost)}"
    text += "" if worth is None else f"; it is worth {counted(worth, 'component')}"
    return text + f" (best of {len(setting.rivals)} settings by validation)" * (len(setting.rivals) > 1)


def _by_a_score(setting: Setting, one: Comparison, at: str) -> str:
    """What a score's own comparison says, of the setting or, where it is a curve, of all with the label and codings."""
    several = [(s, s.pairs(one)) for s in (setting.rivals if one.curve else [setting])]
    several = sorted((pair for pair in several if pair[1]), key=lambda pair: fmean(ours for ours, _ in pair[1]))
    if not several:
        return ""
    sign = -1 if one.higher else 1
    outcomes, texts, won = [], [], []
    for s, pairs in several:
        wins = sum(sign * ours < sign * theirs for ours, theirs in pairs)
        outcomes.append(_outcome(pairs, wins, one.rival))
        won.append(wins == len(pairs) and not outcomes[-1].startswith("matches"))
        ours, theirs = ([pair[i] for pair in pairs] for i in (0, 1))
        text = one.words.format(ours=_interval(ours), theirs=format_number(fmean(theirs)))
        if one.nats:
            text += f" (difference {format_number(fmean(ours) - fmean(theirs), 2)})"
        elif all(value > 0 for value in theirs):
            text += f" (ratio {format_number(fmean(ours) / fmean(theirs), 3)})"
        without = len(s.completed) - len(pairs)
        text += f", {_wins(len(s.runs) - without, wins, len(s.runs) - len(s.completed))}"
        texts.append(text + f" ({without} of {len(s.runs)} have no such number)" * bool(without))
    if len(set(outcomes)) == 1:
        said = outcomes[0]
    elif all(won):
        said = f"wins against {one.rival} at every setting, at some within the 95 % interval,"
    elif any(won):
        said = f"is at some of its settings better than {one.rival}"
    else:
        said = f"is at none of its settings better than {one.rival} in every seed"
    said = said if at else said.removesuffix(",")
    return f"{said}{at}: {'; '.join(texts)}"
