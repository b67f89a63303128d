"""Sentences of the READMEs and of the experiments' docstrings, with their numbers left open, and the committed rows.

A claim is a sentence with replacement fields and the runs or records that fill them: `{ours.sse_test:.2f}` is the mean
over the seeds of the runs `ours`, `{ours.low.sse_test:.2f}` the lowest, `{ours.seeds}` how many seeds there are. No
number of a result is typed here. Rows are read as plain JSON: no code of aejax is needed to say what a row says.
"""

from __future__ import annotations

import functools
import json
import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import scipy.stats

CHECKOUT = Path(__file__).resolve().parents[1]
RESULTS = CHECKOUT / "results"
EXPERIMENTS = sorted(path.stem for path in (CHECKOUT / "experiments").glob("*.py"))
Row = dict[str, Any]


@functools.cache
def rows_of(folder: str) -> tuple[Row, ...]:
    """All rows of a results folder."""
    return tuple(json.loads(line) for line in (RESULTS / folder / "runs.jsonl").read_text().splitlines())


@functools.cache
def record(path: str) -> Any:
    """A record under results/."""
    return json.loads((RESULTS / path).read_text())


def number_of(row: Row, name: str) -> float:
    """The number of that name, wherever in the row it stands."""
    places = (row, row.get("scores") or {}, row["hyper"], row["health"], row["data"], row.get("score_seconds") or {})
    numbers = [place[name] for place in places if name in place and not isinstance(place[name], dict)]
    if not numbers:
        raise AttributeError(name)
    return numbers[0]


SETTINGS = {"codings", "epochs", "steps", "label", "learning_rate", "l2", "active", "level", "noise", "contraction"}
SETTINGS |= {"pca_sse_test", "test_rows", "samples"}
"""What a run was asked for, and what does not depend on its seed."""


class Runs:
    """The runs of one setting, one for every seed. An attribute is the mean over them."""

    def __init__(self, rows: Iterable[Row], pick: Callable[[Iterable[float]], float] = statistics.fmean):
        self._rows = tuple(rows)
        self._pick = pick
        assert self._rows, "no such runs"
        assert all(row["status"] == "completed" for row in self._rows)
        self.n = len({row["seed"] for row in self._rows})
        assert self.n == len(self._rows), "runs of more than one setting"
        self.seeds = f"{self.n} seed" + "s" * (self.n > 1)
        self.wins = sum(row["sse_ratio"] < 1 for row in self._rows)
        self.ns = {self.n}

    def each(self, name: str) -> list[float]:
        """The number of every seed."""
        return [number_of(row, name) for row in self._rows]

    @property
    def low(self) -> Runs:
        """The same, with the lowest in place of the mean."""
        return Runs(self._rows, min)

    @property
    def high(self) -> Runs:
        """The same, with the highest in place of the mean."""
        return Runs(self._rows, max)

    @property
    def half_width(self) -> float:
        """Half the width of the 95 % Student t interval of the test error."""
        errors = self.each("sse_test")
        return float(scipy.stats.t.ppf(0.975, self.n - 1) * statistics.stdev(errors) / self.n**0.5)

    @property
    def worth(self) -> float:
        """Principal components with the same error."""
        return self._pick(self.each("pca_equivalent_dimension"))

    @property
    def components(self) -> int:
        """The fewest principal components with no more error, of every seed the same or picked."""
        return int(self._pick([-(-value // 1) for value in self.each("pca_equivalent_dimension")]))

    @property
    def steps(self) -> int:
        """Steps of training in full batches."""
        return self._rows[0]["config"]["epochs"] * self._rows[0]["config"]["full_batch_steps"]

    @property
    def samples(self) -> int:
        """Importance samples of every test row."""
        (count,) = {one["samples"] for one in self._rows[0]["config"]["scores"]}
        return count

    def __getattr__(self, name: str) -> float:
        if name.startswith("__"):
            raise AttributeError(name)
        return self._pick(self.each(name))


class Number(float):
    """A number computed from runs, and their numbers of seeds."""

    ns: set[int]


def number(value: float, *runs: Runs) -> Number:
    """A number that was computed from these runs."""
    result = Number(value)
    result.ns = {one.n for one in runs}
    return result


def runs(folder: str, data_seed: int = 0, **wanted: object) -> Runs:
    """The runs of that folder whose rows or hyper-parameters have these values; `kind` stands for the label."""
    matching = [row for row in rows_of(folder) if row["config"]["data_seed"] == data_seed]
    for name, value in wanted.items():
        matching = [row for row in matching if row.get(name, row["hyper"].get(name)) == value]
    return Runs(matching)


class Calls:
    """What the calls of `aejax run` that made a folder spent their time on: seconds, and shares in per cent."""

    def __init__(self, folder: str):
        lines = map(json.loads, (RESULTS / folder / "goodput.jsonl").read_text().splitlines())
        calls = [line for line in lines if not line.get("report")]
        self.wall = sum(one["wall"] for one in calls)
        self.runs = sum(one["runs"] for one in calls)
        self.compiling = sum(one["compile"] for one in calls)
        for name in ("useful", "compile", "data", "saving", "lost", "other"):
            setattr(self, f"{name}_share", 100 * sum(one[name] for one in calls) / self.wall)


def machine_of(provenance: Mapping[str, Any]) -> str:
    """The kind of machine, in words."""
    if provenance["platform"] == "gpu":
        return f"one {provenance['device_kind']}"
    kind = provenance["processor"].replace("(R)", "").removesuffix(" Processor")
    return f"{provenance['cores']} CPU cores ({kind})"


def machine(folder: str) -> str:
    """The kind of machine that all runs of a folder were trained on, in words."""
    (kind,) = {machine_of(row["provenance"]) for row in rows_of(folder)}
    return kind


def seeds_of(folder: str) -> str:
    """How many seeds the settings of a folder have: one number, or the least and the most."""
    by_setting: dict[str, set[int]] = {}
    for row in rows_of(folder):
        setting = json.dumps([row["config"], row["hyper"]], sort_keys=True)
        by_setting.setdefault(setting, set()).add(row["seed"])
    least, most = (pick(map(len, by_setting.values())) for pick in (min, max))
    return str(least) if least == most else f"{least} to {most}"


def spaced(value: float, digits: int = 3) -> str:
    """A large number, rounded to so many digits, with spaces between thousands."""
    return f"{float(f'{value:.{digits}g}'):,.0f}".replace(",", " ")


class Published(NamedTuple):
    """Numbers that others published."""

    deep: str = "3.00"  # Hinton & Salakhutdinov 2006, MNIST, 784-1000-500-250-30, squared error on test
    faces: str = "0.933"  # Hinton & Salakhutdinov 2006, Olivetti patches, 126 beside 135 of PCA-30
    variational: str = "86.76"  # Burda et al. 2015, table 1, one layer, k = 1: nats on binarised MNIST
    passes: str = "3280"  # Burda et al. 2015, section 5: 3^0 + … + 3^7 passes over the data
    pretrained: str = "0.9401"  # the chapter's notebook, one run with 20 000 labels
    scratch: str = "0.9494"  # the same without pretraining


class Claim(NamedTuple):
    """A sentence with replacement fields, and the runs and records that fill them."""

    text: str
    values: Mapping[str, Any]

    @property
    def filled(self) -> str:
        """The sentence as the rows have it."""
        return self.text.format_map(self.values)


GROUPS: dict[str, Callable[[], dict[str, Any]]] = {}
SAID: dict[str, list[str]] = {}
"""By experiment or record: the runs and records, and the sentences about them."""


def about(name: str, *sentences: str) -> Callable[[Callable[[], dict[str, Any]]], Callable[[], dict[str, Any]]]:
    """These sentences are about the runs that the decorated function gives."""

    def keep(groups: Callable[[], dict[str, Any]]) -> Callable[[], dict[str, Any]]:
        GROUPS[name] = groups
        SAID[name] = list(sentences)
        return groups

    return keep


@about(
    "quickstart",
    "The linear nets do not beat PCA. Their SSE is {l2.sse_ratio:.3f}, {l4.sse_ratio:.3f}, {l8.sse_ratio:.3f} and "
    "{l16.sse_ratio:.3f} times PCA's at 2, 4, 8 and 16 codings; {l2.wins} of {l2.seeds} wins at 2 codings, and "
    "{more_wins} of {l4.seeds} at more.",
    "The stacked nets win with {s2.wins} of {s2.seeds} at every number of codings. Their SSE is {s2.sse_ratio:.3f}, "
    "{s4.sse_ratio:.3f}, {s8.sse_ratio:.3f} and {s16.sse_ratio:.3f} times PCA's.",
    "The tied stacked nets win with {t2.wins} of {t2.seeds} at every number of codings. Their SSE is "
    "{t2.sse_ratio:.3f}, {t4.sse_ratio:.3f}, {t8.sse_ratio:.3f} and {t16.sse_ratio:.3f} times PCA's.",
    "With a stacked net, 2 codings are worth {s2.worth:.1f} principal components, 4 are worth {s4.worth:.1f}, 8 are "
    "worth {s8.worth:.1f} and 16 are worth {s16.worth:.1f} ({s2.seeds}).",
)
def _quickstart() -> dict[str, Any]:
    kinds = {"l": "linear", "s": "stacked", "t": "tied stacked"}
    values: dict[str, Any] = {
        f"{short}{k}": runs("quickstart", label=label, codings=k)
        for short, label in kinds.items()
        for k in (2, 4, 8, 16)
    }
    assert len({values[f"{short}{k}"].wins for short in "st" for k in (2, 4, 8, 16)}) == 1
    (wins,) = {values[f"l{k}"].wins for k in (4, 8, 16)}
    return {**values, "more_wins": wins}


@about(
    "linear_pca",
    "Yes. The SSE on test is within {gap:.3f} % of PCA-2's {one.pca_sse_test:.4f} in all {one.seeds}.",
    "The largest principal angle between the decoder's plane and PCA's is {one.low.principal_angle_max_deg:.2f} to "
    "{one.high.principal_angle_max_deg:.2f} degrees ({one.seeds}).",
    "It is PCA's plane, not PCA's codings: in {collapsed} of {one.seeds} the two codings vary along nearly one "
    "direction, and the health panel warns of it.",
)
def _linear_pca() -> dict[str, Any]:
    one = runs("linear_pca")
    collapsed = sum(bool(row["health"]["warnings"]) for row in rows_of("linear_pca"))
    return {
        "one": one,
        "gap": number(100 * max(abs(ratio - 1) for ratio in one.each("sse_ratio")), one),
        "collapsed": collapsed,
    }


@about(
    "linear_mnist",
    "Nearly. The SSE on test is {one.sse_test:.4f}, PCA-30's is {one.pca_sse_test:.4f}; {one.wins} of {one.seeds} are "
    "below PCA.",
    "The error is PCA's before the subspace is: the largest principal angle is still "
    "{one.high.principal_angle_max_deg:.1f} degrees in the worst of {one.seeds}.",
)
def _linear_mnist() -> dict[str, Any]:
    return {"one": runs("linear_mnist")}


@about(
    "stacked",
    "With the chapter's settings it loses: SSE {chapter.sse_test:.1f}, PCA-150 {chapter.pca_sse_test:.3f} "
    "({chapter.seeds}). Its 150 codings are worth {chapter.worth:.1f} components.",
    "With the L2 of the chapter's notebook, {notebook.l2:g}, it loses as well: SSE {notebook.sse_test:.2f}, MSE per "
    "pixel {notebook.mse_test:.4f}, worth {notebook.worth:.1f} components ({notebook.seeds}).",
    "With other settings it wins: SSE {better.sse_test:.3f} at 150 codings (PCA-150 {better.pca_sse_test:.3f}), and "
    "{few.sse_test:.3f} at 30 codings (PCA-30 {few.pca_sse_test:.2f}; {few.seeds} each).",
    "The winning settings train for {better.epochs:.0f} epochs, the chapter's for {chapter.epochs:.0f}: "
    "{better.train_seconds:.0f} s and {chapter.train_seconds:.0f} s a run ({better.seeds}).",
)
def _stacked() -> dict[str, Any]:
    return {
        "chapter": runs("stacked", label="stacked, as in the chapter"),
        "notebook": runs("stacked", label="stacked, as in its notebook"),
        "better": runs("stacked", label="stacked", codings=150),
        "few": runs("stacked", label="stacked", codings=30),
    }


@about(
    "tied",
    "With the chapter's settings it loses: SSE {chapter.sse_test:.1f}, PCA-150 {chapter.pca_sse_test:.3f} "
    "({chapter.seeds}). Its 150 codings are worth {chapter.worth:.1f} components.",
    "With the L2 of the chapter's notebook, {notebook.l2:g}, it loses as well: SSE {notebook.sse_test:.1f}, worth "
    "{notebook.worth:.1f} components ({notebook.seeds}).",
    "With other settings, and half the kernels of an untied net, it wins: SSE {better.sse_test:.2f} at 150 codings, "
    "{better.low.sse_test:.2f} to {better.high.sse_test:.2f} over the seeds (PCA-150 {better.pca_sse_test:.3f}), and "
    "{few.sse_test:.3f} at 30 codings (PCA-30 {few.pca_sse_test:.2f}; {few.seeds} each).",
    "The winning settings train for {better.epochs:.0f} epochs, the chapter's for {chapter.epochs:.0f}: "
    "{better.train_seconds:.0f} s and {chapter.train_seconds:.0f} s a run ({better.seeds}).",
)
def _tied() -> dict[str, Any]:
    return {
        "chapter": runs("tied", label="tied, as in the chapter"),
        "notebook": runs("tied", label="tied, as in its notebook"),
        "better": runs("tied", label="tied", codings=150),
        "few": runs("tied", label="tied", codings=30),
    }


@about(
    "population",
    "Every learning rate loses to PCA-150 (SSE {best.pca_sse_test:.3f}): {wins} of the {members} runs win.",
    "Validation chooses {best.learning_rate:g}: SSE {best.sse_test:.3f} ± {best.half_width:.3f} ({best.seeds}), worth "
    "{best.worth:.1f} components with 150 codings.",
    "From {best.learning_rate:g} to {wide.learning_rate:g} the SSE stays between {best.sse_test:.2f} and "
    "{middle.sse_test:.2f}. It is {slow.sse_test:.2f} at {slow.learning_rate:g}, {fast.sse_test:.2f} at "
    "{fast.learning_rate:g}, and {last.sse_test:.1f} ± {last.half_width:.1f} at {last.learning_rate:g} ({last.seeds} "
    "each).",
    "The {members} members took {time.wall:.0f} s, of which {time.useful_share:.0f} % were training steps, "
    "{time.compile_share:.0f} % compiling and {time.saving_share:.1f} % saving.",
)
def _population() -> dict[str, Any]:
    rates = sorted({row["hyper"]["learning_rate"] for row in rows_of("population")})
    by_rate = {rate: runs("population", learning_rate=rate) for rate in rates}
    best = min(by_rate.values(), key=lambda one: one.sse_validation)
    flat = [by_rate[rate] for rate in rates if best.learning_rate <= rate <= 0.005]
    return {
        **{"best": best, "wide": by_rate[0.005], "slow": by_rate[0.0003], "fast": by_rate[0.01], "last": by_rate[0.02]},
        "middle": max(flat, key=lambda one: one.sse_test),
        "members": len(rows_of("population")),
        "wins": sum(row["sse_ratio"] < 1 for row in rows_of("population")),
        "time": Calls("population"),
    }


@about(
    "codings",
    "Yes. At each of {count} numbers of codings from {least} to {most}, the learning rate that validation chooses has "
    "an SSE within {gap:.2f} % of PCA's ({one.seeds}).",
    "No single rate does: the worst SSE is {slow:.1f} % above PCA's at the rate {rates[0]:g}, {middle:.1f} % at "
    "{rates[1]:g} and {fast:.0f} % at {rates[2]:g} ({one.seeds}).",
)
def _codings() -> dict[str, Any]:
    rows = rows_of("codings")
    one = runs("codings", codings=64, learning_rate=0.02)
    assert {row["seed"] for row in rows} == {0}
    numbers = sorted({row["codings"] for row in rows})
    rates = sorted({row["hyper"]["learning_rate"] for row in rows})
    chosen = [min((row for row in rows if row["codings"] == k), key=lambda row: row["sse_validation"]) for k in numbers]
    worst = [100 * (max(row["sse_ratio"] for row in rows if row["hyper"]["learning_rate"] == r) - 1) for r in rates]
    return {
        **{"count": len(numbers), "least": numbers[0], "most": numbers[-1], "rates": rates},
        "gap": number(100 * max(abs(row["sse_ratio"] - 1) for row in chosen), one),
        **{name: number(value, one) for name, value in zip(("slow", "middle", "fast"), worst, strict=True)},
        "one": one,
    }


@about(
    "deep",
    "Far below: SSE {plain.sse_test:.3f} without a penalty, {some.sse_test:.3f} with an L2 of {some.l2:g} and "
    "{best.sse_test:.3f} with {best.l2:g}, where PCA-30 has {best.pca_sse_test:.2f} ({best.seeds} each). Validation "
    "chooses {best.l2:g}.",
    "Hinton and Salakhutdinov (2006) published {published.deep} with pretraining. Both seeds are below it with "
    "{best.l2:g} ({best.low.sse_test:.3f} and {best.high.sse_test:.3f}; {best.seeds}), and above it without a penalty.",
    "A run trained for {plain.train_seconds:.0f} s without a penalty, and for {some.low.train_seconds:.0f} to "
    "{best.high.train_seconds:.0f} s with one ({best.seeds} each).",
)
def _deep() -> dict[str, Any]:
    some, best = (runs("deep", label="deep, L2", l2=l2) for l2 in (3e-7, 7e-7))
    plain = runs("deep", label="deep")
    assert best.sse_validation < some.sse_validation < plain.sse_validation
    assert best.high.sse_test < float(Published().deep) < plain.low.sse_test
    return {"plain": plain, "some": some, "best": best, "published": Published()}


@about(
    "ordered",
    "Two do. After {nested.steps} steps the axis distance is at most {nested.high.axis_distance:.1e} with nested "
    "dropout and {rotated.high.axis_distance:.1e} with the rotation augmented gradient ({nested.seeds} each).",
    "Nonuniform L2 does not get there: its axis distance is {nonuniform.axis_distance:.3f} after {nonuniform.steps} "
    "steps ({nonuniform.seeds}). Nested dropout with one drawn prefix a row, in batches, ends at "
    "{sampled.axis_distance:.2f} ({sampled.seeds}).",
    "Plain, tied and uniform L2 stay at {plain.axis_distance:.2f}, {tied.axis_distance:.2f} and "
    "{uniform.axis_distance:.2f} ({plain.seeds} each): they find the subspace, not the axes.",
    "The subspace distance is at most {plain.high.subspace_distance:.0e} with plain, {others:.0e} with the others in "
    "full batches ({plain.seeds} each; nonuniform L2 {nonuniform.seeds}), and {sampled.subspace_distance:.2f} with "
    "drawn prefixes ({sampled.seeds}).",
)
def _ordered() -> dict[str, Any]:
    labels = {
        **{"plain": "plain", "tied": "tied", "uniform": "uniform L2", "nonuniform": "nonuniform L2"},
        **{"nested": "nested dropout", "sampled": "nested dropout, sampled prefixes", "rotated": "rotation-augmented"},
    }
    values = {name: runs("ordered", label=label) for name, label in labels.items()}
    assert {values["rotated"].steps, values["plain"].steps} == {values["nested"].steps}
    others = [values[name] for name in ("tied", "uniform", "nonuniform", "nested", "rotated")]
    return {**values, "others": number(max(one.high.subspace_distance for one in others), *others)}


@about(
    "denoising",
    "Yes. Gaussian noise of {gaussian.level:g}: SSE {gaussian.denoised_sse_test:.1f} against the clean test images. "
    "PCA with its best number of components ({gaussian.pca_best_components:.0f}) has "
    "{gaussian.pca_best_denoised_sse_test:.1f}, the best affine map {gaussian.affine_denoised_sse_test:.1f} "
    "({gaussian.seeds}).",
    "Masking half of the pixels: {masking.denoised_sse_test:.1f}, PCA {masking.pca_best_denoised_sse_test:.1f} (with "
    "{masking.pca_best_components:.0f} components), best affine map {masking.affine_denoised_sse_test:.1f} "
    "({masking.seeds}).",
    "Salt and pepper on a quarter of them: {pepper.denoised_sse_test:.1f}, PCA "
    "{pepper.pca_best_denoised_sse_test:.1f} (with {pepper.pca_best_components:.0f}), best affine map "
    "{pepper.affine_denoised_sse_test:.1f} ({pepper.seeds}). Every seed wins against both, at all three kinds of "
    "noise.",
    "The same net trained without noise loses: SSE {plain.denoised_sse_test:.1f} at the Gaussian noise, PCA with as "
    "many components {plain.pca_denoised_sse_test:.1f} ({plain.seeds}).",
    "The linear nets have {lg.denoised_sse_test:.2f} at the Gaussian and {lm.denoised_sse_test:.2f} at the masking "
    "noise; the best affine maps of rank 100 have {lg.affine_rank_denoised_sse_test:.2f} and "
    "{lm.affine_rank_denoised_sse_test:.2f} ({lg.seeds}).",
    "Clean images cost the denoising nets more than PCA-100's {plain.pca_sse_test:.2f}: {gaussian.sse_test:.1f} "
    "(Gaussian), {masking.sse_test:.1f} (masking) and {pepper.sse_test:.1f} (salt and pepper; {pepper.seeds} each).",
)
def _denoising() -> dict[str, Any]:
    labels = {
        **{"gaussian": "denoising, gaussian", "masking": "denoising, masking", "pepper": "denoising, salt and pepper"},
        **{"plain": "plain", "lg": "linear, gaussian marginalised", "lm": "linear, masking marginalised"},
    }
    values = {name: runs("denoising", label=label) for name, label in labels.items()}
    for name in ("gaussian", "masking", "pepper"):
        one = values[name]
        best = min(one.affine_denoised_sse_test, one.pca_best_denoised_sse_test)
        assert one.high.denoised_sse_test < best
    return values


@about(
    "sparse",
    "30 active codings of 1024 are worth {topk30.worth:.1f} (TopK), {batch30.worth:.1f} (BatchTopK) and "
    "{matryoshka30.worth:.1f} (Matryoshka) principal components; 10 are worth {topk10.worth:.1f}, {batch10.worth:.1f} "
    "and {matryoshka10.worth:.1f} ({topk30.seeds}).",
    "JumpReLU's {jump1.l0:.0f} active codings are worth {jump1.worth:.1f}, its {jump3.l0:.0f} are worth "
    "{jump3.worth:.1f} ({jump1.seeds}).",
    "L1 shrinks what it keeps: its {l1b.l0:.0f} are worth {l1b.worth:.1f}, its {l1a.l0:.0f} only {l1a.worth:.1f}. "
    "Gated, {gatedb.l0:.0f} are worth {gatedb.worth:.1f} and {gateda.l0:.0f} are worth {gateda.worth:.1f} "
    "({gateda.seeds}).",
    "KL's codings are small but never zero: L0 is {kl5.l0:.0f}, worth {kl5.worth:.1f} and {kl6.worth:.1f} components "
    "({kl5.seeds}).",
    "Dead units are revived during training, except KL's. At the end none is dead with L1, gated and KL, and at most "
    "{dead:.0f} % in any run of the others ({topk30.seeds}).",
    "Few of JumpReLU's units vary much: {jump1.active_units:.0f} and {jump3.active_units:.0f} of 1024 on average "
    "({jump1.seeds}).",
    "New digits are drawn from a mixture of Gaussians. It is a bad density of some codings: the mean log-likelihood "
    "of JumpReLU's test codings is {jump1_likelihood} and {jump3_likelihood}, of L1's "
    "{l1a.mixture_log_likelihood:.0f} and {l1b.mixture_log_likelihood:.0f} ({l1a.seeds}).",
)
def _sparse() -> dict[str, Any]:
    values: dict[str, Any] = {
        f"{name}{active}": runs("sparse", label=label, active=active)
        for name, label in (("topk", "TopK"), ("batch", "BatchTopK"), ("matryoshka", "Matryoshka"))
        for active in (10, 30)
    }
    jump = [row for row in rows_of("sparse") if row["label"] == "JumpReLU"]
    for i in (1, 3):
        values[f"jump{i}"] = Runs(row for row in jump if row["hyper"]["l0"] == float(f"{i}e-4"))
    values |= {"l1a": runs("sparse", label="L1", l1=0.0006), "l1b": runs("sparse", label="L1", l1=0.001)}
    values |= {"gateda": runs("sparse", label="gated", l1=0.0015), "gatedb": runs("sparse", label="gated", l1=0.003)}
    values |= {"kl5": runs("sparse", label="KL", sparsity=3e-5), "kl6": runs("sparse", label="KL", sparsity=3e-6)}
    dead = {row["label"]: 0.0 for row in rows_of("sparse")}
    for row in rows_of("sparse"):
        dead[row["label"]] = max(dead[row["label"]], row["scores"]["dead"])
    assert dead["L1"] == dead["gated"] == dead["KL"] == 0
    return {
        **values,
        "dead": number(100 * max(dead.values()), values["topk30"]),
        **{f"jump{i}_likelihood": spaced(values[f"jump{i}"].mixture_log_likelihood) for i in (1, 3)},
    }


@about(
    "contractive",
    "One layer, 100 codings: from no penalty over {c4.contraction:g} and {c34.contraction:g} to {c3.contraction:g} "
    "the Jacobian's norm falls from {c0.jacobian_norm:.1f} over {c4.jacobian_norm:.1f} and {c34.jacobian_norm:.1f} to "
    "{c3.jacobian_norm:.1f}, the sensitivity from {c0.coding_sensitivity:.3f} over {c4.coding_sensitivity:.3f} and "
    "{c34.coding_sensitivity:.3f} to {c3.coding_sensitivity:.3f} ({c3.seeds}).",
    "That costs error: the SSE rises from {c0.sse_test:.1f} over {c4.sse_test:.1f} and {c34.sse_test:.1f} to "
    "{c3.sse_test:.1f} ({c3.seeds}). PCA-100 has {c0.pca_sse_test:.1f} and a sensitivity of "
    "{c0.pca_coding_sensitivity:.3f}.",
    "It is no win over PCA with no more error. For the SSE of {c3.low.sse_test:.1f} to {c3.high.sse_test:.1f} at "
    "{c3.contraction:g}, PCA needs {c3.low.components} to {c3.high.components} components, and their sensitivity is "
    "{c3.low.equal_pca_coding_sensitivity:.4f} to {c3.high.equal_pca_coding_sensitivity:.4f}, below the net's "
    "{c3.low.coding_sensitivity:.4f} to {c3.high.coding_sensitivity:.4f} ({c3.seeds}).",
    "A weight of {c2.contraction:g} leaves little more than the mean: SSE {c2.low.sse_test:.1f} to "
    "{c2.high.sse_test:.1f}, where the mean has {c2.mean_sse_test:.1f} ({c2.seeds}). {without} of these {c2.seeds} "
    "are worse than the mean, so that no PCA is to be compared with.",
    "Two layers, 16 codings: the sensitivity falls from {d0.coding_sensitivity:.3f} to {d3.coding_sensitivity:.3f}, "
    "and the SSE goes from {d0.sse_test:.1f} to {d3.sse_test:.1f}. PCA-16 beats it in both, with "
    "{d0.pca_coding_sensitivity:.3f} and {d0.pca_sse_test:.1f} ({d3.seeds}).",
)
def _contractive() -> dict[str, Any]:
    values = {"c0": runs("contractive", label="no penalty"), "d0": runs("contractive", label="no penalty, two layers")}
    one = {"c4": 1e-4, "c34": 3e-4, "c3": 1e-3, "c2": 1e-2}
    values |= {name: runs("contractive", label="contractive", contraction=weight) for name, weight in one.items()}
    values["d3"] = runs("contractive", label="contractive, two layers", contraction=1e-3)
    lacking = [row for row in rows_of("contractive") if row["scores"]["equal_pca_coding_sensitivity"] is None]
    assert {row["hyper"]["contraction"] for row in lacking} == {1e-2}
    assert all(row["sse_test"] > row["data"]["mean_sse_test"] for row in lacking)
    d3 = values["d3"]
    assert d3.low.coding_sensitivity > d3.pca_coding_sensitivity
    assert values["d0"].low.sse_test > values["d0"].pca_sse_test
    return {**values, "without": len(lacking)}


@about(
    "variational",
    "The first net reaches an NLL of {main.nll_test:.1f} nats after {main.epochs:.0f} epochs ({main.samples} samples, "
    "{main.seeds}). Its bound is {main.nelbo_test:.1f}, and {main.active_units:.0f} of 50 codings are active. Burda "
    "et al. (2015) published {published.variational} after {published.passes} passes.",
    "Its SSE is {main.sse_test:.2f}, PCA-50's {main.pca_sse_test:.2f} ({main.seeds}).",
    "After {short.epochs:.0f} epochs the NLL is {short.nll_test:.1f}, {warm.nll_test:.1f} where the weight of the KL "
    "rises, {free.nll_test:.1f} with free nats and {weighted.nll_test:.1f} with the importance-weighted bound "
    "({weighted.seeds} each). The importance-weighted bound takes {times:.1f} times the training time.",
    "After {short.epochs:.0f} epochs the SSE is {short.sse_test:.2f}, {warm.sse_test:.2f} where the weight of the KL "
    "rises, {free.sse_test:.2f} with free nats and {weighted.sse_test:.2f} with the importance-weighted bound "
    "({weighted.seeds} each): two of the four lose to PCA-50.",
    "The linear nets lose to probabilistic PCA, whose exact NLL is {learned.ppca_nll_test:.1f} and which also saw the "
    "validation rows: {learned.exact_nll_test:.1f} with a learned variance ({learned.seeds}), "
    "{optimal.exact_nll_test:.1f} with the optimal one ({optimal.seeds}) and {fixed.exact_nll_test:.1f} with a fixed "
    "one ({fixed.seeds}).",
    "With the learned and the optimal variance the importance samples are within {gap:.2f} nats of the exact NLL "
    "({learned.seeds} and {optimal.seeds}). With the fixed one they miss it by {missed:.1f} nats: {fixed.samples} "
    "samples count as {fixed.effective_samples:.0f} ({fixed.seeds}).",
    "The linear nets' SSE is {learned.sse_test:.2f} with a learned variance ({learned.seeds}), {optimal.sse_test:.2f} "
    "with the optimal one ({optimal.seeds}) and {fixed.sse_test:.2f} with a fixed one ({fixed.seeds}); all lose to "
    "PCA-50, which has {main.pca_sse_test:.2f}.",
    "Sampling the likelihood of the {rows} test images took {main.likelihood:.0f} s for the first net, after "
    "{main.train_seconds:.0f} s of training ({main.seeds}).",
)
def _variational() -> dict[str, Any]:
    labels = {
        **{"main": "variational", "short": "variational, 15 epochs", "warm": "variational, 15 epochs, warm-up"},
        **{"free": "variational, 15 epochs, free bits", "weighted": "importance-weighted, 15 epochs"},
        **{"learned": "linear variational", "optimal": "linear variational, optimal variance"},
        "fixed": "linear variational, fixed variance",
    }
    values: dict[str, Any] = {name: runs("variational", label=label) for name, label in labels.items()}
    both = [*rows_of("variational")]
    near = [row["scores"] for row in both if row["label"] in (labels["learned"], labels["optimal"])]
    short = values["short"]
    weighted = values["weighted"]
    fixed = values["fixed"]
    assert sum(values[name].sse_ratio > 1 for name in ("short", "warm", "free", "weighted")) == 2
    assert all(values[name].low.sse_ratio > 1 for name in ("learned", "optimal", "fixed"))
    assert all(one["exact_nll_test"] > one["ppca_nll_test"] for one in near)
    return {
        **values,
        "times": number(weighted.train_seconds / short.train_seconds, short, weighted),
        "gap": max(abs(one["nll_test"] - one["exact_nll_test"]) for one in near),
        "missed": number(fixed.nll_test - fixed.exact_nll_test, fixed),
        "rows": spaced(values["main"].test_rows, 5),
        "published": Published(),
    }


@about(
    "faces",
    "Yes, on each of three splits of the people. On turned and scaled patches the SSE is {p0.sse_ratio:.3f}, "
    "{p1.sse_ratio:.3f} and {p2.sse_ratio:.3f} of PCA-30's ({p0.seeds} a split). Hinton and Salakhutdinov (2006) "
    "published {published.faces}, with pretraining and four layers.",
    "That is with an L2 of {p0.l2:g}, which validation chooses on each split. A quarter of it gives {little_low:.3f} "
    "to {little_high:.3f}, four times as much {much_low:.3f} to {much_high:.3f} ({p0.seeds} a split).",
    "On the whole faces the SSE is {w0.sse_ratio:.3f}, {w1.sse_ratio:.3f} and {w2.sse_ratio:.3f} of PCA-30's "
    "({w0.seeds} a split).",
    "The variational autoencoder, whose faces can be drawn from its prior, loses: {vae.sse_ratio:.2f} of PCA-30's SSE "
    "({vae.seeds}, one split).",
)
def _faces() -> dict[str, Any]:
    splits = (0, 1, 2)
    by_l2 = {l2: [runs("faces", split, label="patches", l2=l2) for split in splits] for l2 in (1e-6, 4e-6, 1.6e-5)}
    for split in splits:
        assert min(by_l2, key=lambda l2: by_l2[l2][split].sse_validation) == 4e-6
    little, patches, much = by_l2.values()
    wide = [runs("faces", split, label="wide, mixture-sampled") for split in splits]
    values: dict[str, Any] = {f"p{split}": patches[split] for split in splits}
    values |= {f"w{split}": wide[split] for split in splits}
    for name, group in (("little", little), ("much", much)):
        for end, pick in (("low", min), ("high", max)):
            values[f"{name}_{end}"] = number(pick(one.sse_ratio for one in group), *group)
    return {**values, "vae": runs("faces", label="variational"), "published": Published()}


@about(
    "greedy",
    "No. At equal epochs the SSE is {once.sse_test:.1f} all at once, {separate.sse_test:.1f} after separate phases "
    "and {inner.sse_test:.1f} after inner ones ({once.seeds} each). Seeds differ by as much: {once.low.sse_test:.1f} "
    "to {once.high.sse_test:.1f} all at once.",
    "The phases alone leave {separate0.sse_test:.1f} and {inner0.sse_test:.1f}, which loses to PCA-16's "
    "{once.pca_sse_test:.1f} ({inner0.seeds} each).",
    "ELU units reach {elu.sse_test:.1f} all at once ({elu.seeds}): the activation matters more than the order.",
)
def _greedy() -> dict[str, Any]:
    values = {"once": runs("greedy", label="sigmoid at once"), "elu": runs("greedy", label="ELU at once")}
    for way in ("separate", "inner"):
        values[way] = runs("greedy", label=f"sigmoid {way}", learning_rate=0.002)
        values[f"{way}0"] = runs("greedy", label=f"sigmoid {way}", learning_rate=1e-9)
    return values


@about(
    "pretraining",
    "Denoising pretraining helps where labels are few, on every seed. Fine-tuned accuracy is "
    "{d.accuracy_1000_finetuned:.3f} with 1000 labels, {d.accuracy_1000_scratch:.3f} from scratch; with 100 labels "
    "{d.accuracy_100_finetuned:.3f} and {d.accuracy_100_scratch:.3f} ({d.seeds}).",
    "With 20000 labels it hardly helps: {d.accuracy_20000_finetuned:.3f} and {d.accuracy_20000_scratch:.3f} "
    "({d.seeds}). The chapter's notebook has {published.pretrained} with and {published.scratch} without pretraining, "
    "in one run.",
    "Plain pretraining changes the accuracy by {p100:+.3f}, {p1000:+.3f} and {p20000:+.3f} with 100, 1000 and 20000 "
    "labels ({p.seeds}): no gain beyond what seeds differ by.",
    "A frozen encoder with a softmax layer has {d.accuracy_100_frozen:.3f} with 100 labels if it denoises, which is "
    "more than fine-tuned. With 20000 labels frozen encoders lose: {d.accuracy_20000_frozen:.3f} (denoising) and "
    "{p.accuracy_20000_frozen:.3f} (plain; {p.seeds} each).",
    "As features of logistic regression with 100, 1000 and 20000 labels, codings of the denoising net have "
    "{d.accuracy_100_logistic_codings:.3f}, {d.accuracy_1000_logistic_codings:.3f} and "
    "{d.accuracy_20000_logistic_codings:.3f}, those of the plain one {p.accuracy_100_logistic_codings:.3f}, "
    "{p.accuracy_1000_logistic_codings:.3f} and {p.accuracy_20000_logistic_codings:.3f}, and 150 principal components "
    "{p.accuracy_100_logistic_pca:.3f}, {p.accuracy_1000_logistic_pca:.3f} and {p.accuracy_20000_logistic_pca:.3f} "
    "({p.seeds} each). Plain codings lose to PCA.",
    "Three nearest neighbours on components have {d.accuracy_1000_neighbours_pca:.3f} with 1000 labels ({d.seeds}), "
    "more than training from scratch.",
    "The denoising encoder is a poor autoencoder of clean images: SSE {d.sse_test:.1f}, the plain one "
    "{p.sse_test:.2f}, PCA-150 {p.pca_sse_test:.2f} ({p.seeds} each).",
)
def _pretraining() -> dict[str, Any]:
    d, p = (runs("pretraining", label=label) for label in ("denoising", "plain"))
    values: dict[str, Any] = {"d": d, "p": p, "published": Published()}
    for n in (100, 1000, 20000):
        tuned, scratch = (getattr(p, f"accuracy_{n}_{way}") for way in ("finetuned", "scratch"))
        values[f"p{n}"] = number(tuned - scratch, p)
    for n in (100, 1000):
        pairs = zip(d.each(f"accuracy_{n}_finetuned"), d.each(f"accuracy_{n}_scratch"), strict=True)
        assert all(tuned > scratch for tuned, scratch in pairs)
    return values


@about(
    "conv",
    "On the small digits the kind of net matters little. At 10 codings the SSE is {conv.sse_test:.2f} convolutional, "
    "{dense.sse_test:.2f} dense, {tied_conv.sse_test:.2f} tied convolutional and {tied_dense.sse_test:.2f} tied "
    "dense, where PCA-10 has {conv.pca_sse_test:.2f} ({conv.seeds} each).",
    "The convolutional net trains {digits:.0f} times as long as the dense one there: {conv.train_seconds:.1f} s and "
    "{dense.train_seconds:.2f} s a run ({conv.seeds} each).",
    "On MNIST at 30 codings, after {m_conv.epochs:.0f} epochs, the SSE is {m_conv.sse_test:.2f} convolutional, "
    "{m_tied.sse_test:.2f} tied convolutional and {m_dense.sse_test:.2f} dense, where PCA-30 has "
    "{m_conv.pca_sse_test:.2f} ({m_conv.seeds} each).",
    "That is not at equal cost: training took {m_conv.train_seconds:.0f} s, {m_tied.train_seconds:.0f} s and "
    "{m_dense.train_seconds:.0f} s. The dense net after {m_long.epochs:.0f} epochs has {m_long.sse_test:.2f} in "
    "{m_long.train_seconds:.0f} s ({m_long.seeds} each): on a CPU, convolutions lose at equal time there.",
)
def _conv() -> dict[str, Any]:
    labels = {"conv": "convolutional", "dense": "dense", "tied_conv": "tied convolutional", "tied_dense": "tied dense"}
    values: dict[str, Any] = {}
    for name, label in labels.items():
        fast, slow = (runs("conv", dataset="digits", label=label, learning_rate=rate) for rate in (0.01, 0.003))
        assert fast.sse_validation < slow.sse_validation
        values[name] = fast
    values["digits"] = number(
        values["conv"].train_seconds / values["dense"].train_seconds, values["conv"], values["dense"]
    )
    on_mnist = {"m_conv": "convolutional", "m_tied": "tied convolutional", "m_dense": "dense"}
    on_mnist["m_long"] = "dense, for as long"
    values |= {name: runs("conv", dataset="mnist", label=label) for name, label in on_mnist.items()}
    assert values["m_long"].sse_test < min(values["m_conv"].sse_test, values["m_tied"].sse_test)
    assert values["m_long"].train_seconds < min(values["m_conv"].train_seconds, values["m_tied"].train_seconds)
    return values


@about(
    "recurrent",
    "Yes, at a price. On the small digits at 10 codings the SSE is {ours.sse_test:.2f}, that of a dense net "
    "{dense.sse_test:.2f}, PCA-10's {ours.pca_sse_test:.2f} ({ours.seeds} each). The recurrent net trains "
    "{small_times:.0f} times as long: {ours.train_seconds:.1f} s and {dense.train_seconds:.2f} s a run.",
    "On MNIST at 30 codings the SSE is {m_ours.sse_test:.2f}, that of a dense net {m_dense.sse_test:.2f}, PCA-30's "
    "{m_ours.pca_sse_test:.2f} ({m_ours.seeds} each). The recurrent net trains {times:.0f} times as long: "
    "{m_ours.train_seconds:.0f} s and {m_dense.train_seconds:.1f} s for as many epochs.",
    "On MNIST it is no win at equal time: in `conv.py` a wider dense net, 784-300-30, reaches {long.sse_test:.2f} in "
    "{long.train_seconds:.0f} s ({long.seeds}). On the small digits a wider dense net comes close there: 64-100-10 has "
    "{wide.sse_test:.2f} in {wide.train_seconds:.2f} s ({wide.seeds}).",
)
def _recurrent() -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name, label in (("ours", "recurrent"), ("dense", "dense")):
        fast, slow = (runs("recurrent", dataset="digits", label=label, learning_rate=rate) for rate in (0.01, 0.003))
        assert fast.sse_validation < slow.sse_validation
        values[name] = fast
        values[f"m_{name}"] = runs("recurrent", dataset="mnist", label=label)
    for name, (one, other) in {"small_times": ("ours", "dense"), "times": ("m_ours", "m_dense")}.items():
        values[name] = number(values[one].train_seconds / values[other].train_seconds, values[one], values[other])
    long = runs("conv", dataset="mnist", label="dense, for as long")
    assert long.train_seconds < values["m_ours"].train_seconds
    assert long.sse_test < values["m_ours"].sse_test
    wide = runs("conv", dataset="digits", label="dense", learning_rate=0.01)
    return {**values, "long": long, "wide": wide}


@about(
    "hashing",
    "Better than signs of components, worse than ITQ. On the small digits in 16 bits the mean average precision is "
    "{noisy.mean_average_precision:.2f} with noise {noisy.noise:.0f} and {silent.mean_average_precision:.2f} without, "
    "signs of components have {noisy.mean_average_precision_pca_signs:.2f}, ITQ "
    "{noisy.mean_average_precision_itq:.2f} ({noisy.seeds}).",
    "Distances without bits stay ahead there: {reals.mean_average_precision:.2f} of real codings, "
    "{noisy.mean_average_precision_raw:.2f} of pixels and {noisy.mean_average_precision_pca:.2f} of 16 components "
    "({reals.seeds}).",
    "Noise takes the SSE of the bits from {silent.sse_test:.1f} to {noisy.sse_test:.1f}, worth {noisy.worth:.1f} real "
    "components ({noisy.seeds}).",
    "On MNIST in 32 bits the order is the same: {m_noisy.mean_average_precision:.2f} with noise, "
    "{m_silent.mean_average_precision:.2f} without, signs {m_noisy.mean_average_precision_pca_signs:.2f}, ITQ "
    "{m_noisy.mean_average_precision_itq:.2f}; components have {m_noisy.mean_average_precision_pca:.2f}, pixels "
    "{m_noisy.mean_average_precision_raw:.2f} and real codings {m_reals.mean_average_precision:.2f} ({m_reals.seeds}).",
)
def _hashing() -> dict[str, Any]:
    values = {}
    for prefix, dataset in (("", "digits"), ("m_", "mnist")):
        values[f"{prefix}noisy"] = runs("hashing", dataset=dataset, label="bits", noise=4.0)
        values[f"{prefix}silent"] = runs("hashing", dataset=dataset, label="bits", noise=0.0)
        values[f"{prefix}reals"] = runs("hashing", dataset=dataset, label="real codings")
    return values


@about(
    "speed",
    "One warm epoch of 784-300-150-300-784 (batch 150, 55000 rows) on {cpu}, medians of {one[rounds]} alternating "
    "rounds in one process: aejax {one[seconds][aejax]:.2f} s, PyTorch's eager loop {one[seconds][torch eager]:.2f} "
    "s, `torch.compile` {one[seconds][torch.compile]:.2f} s. aejax is {one[times_as_fast_as][torch eager]:.1f} and "
    "{one[times_as_fast_as][torch.compile]:.1f} times as fast ([record](speed/speed.json)).",
    "A population of {many[members]} such nets, an epoch each, on {cpu_many}, medians of {many[rounds]} alternating "
    "rounds: {mapped} samples/s mapped, {vmapped} vmapped, {alone} one after another with `fit`, {eager} with "
    "PyTorch's eager loop and {compiled} with `torch.compile`. Mapped is "
    "{many[times_as_fast_as][fit, one after another]:.2f}, {many[times_as_fast_as][torch eager]:.2f} and "
    "{many[times_as_fast_as][torch.compile]:.2f} times as fast as the last three ([record](speed/populations.json)).",
    "Compiling takes {seconds[population, map]:.1f} s for {many[members]} members, "
    "{seconds[population, map, 16 members]:.1f} s for {n16} and {seconds[population, map, 64 members]:.1f} s for "
    "{n64} ([record](speed/populations.json)).",
    "{difference[members_of_equal_bits]} of {difference[members]} vmapped members have the bits of the fit alone "
    "after {difference[steps]} steps. Their parameters differ by a relative "
    "{difference[relative_difference_of_parameters][median]:.2g} in the median and by up to "
    "{difference[relative_difference_of_parameters][largest]:.2g}; their mean validation errors are "
    "{difference[mean_validation_error][vmapped]:.7f} and {difference[mean_validation_error][alone]:.7f} "
    "([record](speed/vmap_difference.json)).",
    "Before the {members} members of `population.py` were trained, layouts were measured: {rate_map} samples/s "
    "mapped, {rate_loop} in a loop, {rate_some} and {rate_most} vmapped by {some} and {most} "
    "([rows](population/runs.jsonl)).",
)
def _speed() -> dict[str, Any]:
    one, many, difference = (record(f"speed/{name}.json") for name in ("speed", "populations", "vmap_difference"))
    rates = many["samples_per_second"]
    seconds = many["compile_seconds"]
    assert many["fastest_population"] == "population, map"
    (measured,) = {json.dumps(row["execution"]["rates"]) for row in rows_of("population")}
    rates_of_layouts = json.loads(measured)
    some, most = sorted(
        (name for name in rates_of_layouts if name.startswith("vmap ")), key=lambda name: int(name.split()[1])
    )
    return {
        **{"one": one, "many": many, "difference": difference, "seconds": seconds, "n16": 16, "n64": 64},
        **{"cpu": machine_of(one["provenance"]), "cpu_many": machine_of(many["provenance"])},
        **{"mapped": spaced(rates["population, map"]), "vmapped": spaced(rates["population, vmap"])},
        **{"alone": spaced(rates["fit, one after another"]), "eager": spaced(rates["torch eager"])},
        **{"compiled": spaced(rates["torch.compile"]), "members": len(rows_of("population"))},
        **{"rate_map": spaced(rates_of_layouts["map"]), "rate_loop": spaced(rates_of_layouts["loop"])},
        **{"rate_some": spaced(rates_of_layouts[some]), "rate_most": spaced(rates_of_layouts[most])},
        **{"some": some.split()[1], "most": most.split()[1]},
    }


FIRST_NETS = ("h200/variational", "variational")


@about(
    "h200",
    "On {gpu} with jax {many[provenance][jax]} and PyTorch {torch}, {many[members][population, vmap]} such nets "
    "vmapped take {vmapped} samples/s; {alone} one after another with `fit`, {eager} with PyTorch's eager loop, "
    "{compiled} with `torch.compile`. Vmapped is {many[times_as_fast_as][fit, one after another]:.1f}, "
    "{many[times_as_fast_as][torch eager]:.0f} and {many[times_as_fast_as][torch.compile]:.0f} times as fast "
    "([record](h200/populations.json)).",
    "One large net, 4096-4096-1024-4096-4096 with batch 8192, trains at {full[training]:.1f} TFLOP/s in float32, "
    "{tf[training]:.0f} in TF32 and {bf[training]:.0f} in bfloat16. That is {shares[0]:.0f}, {shares[1]:.0f} and "
    "{shares[2]:.0f} % of what products of 8192 matrices reach at the same precision "
    "([record](h200/share_of_peak.json)).",
    "An earlier `variational.py` ({calls.runs} runs) took {calls.wall:.0f} s on {gpu}, of which {calls.compiling:.0f} "
    "s were compiling. Its first net trained for {main.train_seconds:.1f} s and ended at an NLL of "
    "{main.nll_test:.2f}; on {cpu} the same net trains for {on_cpu.train_seconds:.0f} s and ends at "
    "{on_cpu.nll_test:.2f} ({main.seeds} each; [rows](h200/variational/runs.jsonl)).",
    "Small nets gain nothing: {quick.runs} of the {all_quick} runs of `quickstart.py` took {quick.wall:.0f} s on "
    "{gpu}, all {all_quick} took {quick_cpu.wall:.0f} s on {cpu} ([rows](h200/quickstart/runs.jsonl)).",
)
def _h200() -> dict[str, Any]:
    many = record("h200/populations.json")
    peak = record("h200/share_of_peak.json")
    rates = many["samples_per_second"]
    kinds = peak["precisions"]
    assert machine_of(many["provenance"]) == machine_of(peak["provenance"]) == machine("h200/variational")
    assert machine("quickstart") == machine("variational")
    (there,), (here,) = ([row for row in rows_of(at) if row["label"] == "variational"] for at in FIRST_NETS)
    assert there["run_id"] == here["run_id"]
    return {
        **{"gpu": machine_of(many["provenance"]), "cpu": machine("variational"), "many": many},
        **{"torch": many["torch"].split("+")[0], "vmapped": spaced(rates["population, vmap"], 4)},
        **{"alone": spaced(rates["fit, one after another"]), "eager": spaced(rates["torch eager"])},
        **{"compiled": spaced(rates["torch.compile"]), "full": kinds["float32"]},
        **{"tf": kinds["tensorfloat32"], "bf": kinds["bfloat16"]},
        "shares": [100 * kinds[name]["share"] for name in ("float32", "tensorfloat32", "bfloat16")],
        **{"calls": Calls("h200/variational"), "main": runs("h200/variational", label="variational")},
        **{"on_cpu": runs("variational", label="variational"), "quick": Calls("h200/quickstart")},
        **{"all_quick": len(rows_of("quickstart")), "quick_cpu": Calls("quickstart")},
    }


@about(
    "kills",
    "A script killed a sweep {one[kills]} times with SIGKILL: {one[phases][training]} times in training, "
    "{one[phases][compiling the first]} times while compiling and {one[phases][between programs]} times between "
    "programs. It went through {one[sweeps]} sweeps of {one[runs_each]} runs. Runs lost: {one[lost]}. Stored runs "
    "trained again: {one[stored_runs_trained_again]}. Every row and every parameter ended as in a sweep that was not "
    "killed ([record](kills/kills.json)).",
)
def _kills() -> dict[str, Any]:
    return {"one": record("kills/kills.json")}


@about(
    "neighbours",
    "Three nearest neighbours on MNIST, all 60000 training images, no training: accuracy {one[pca_10]:.4f} on 10 "
    "principal components, {one[pca_30]:.4f} on 30, {one[pca_50]:.4f} on 50 and {one[pixels]:.4f} on the pixels "
    "([record](neighbours/neighbours.json)).",
)
def _neighbours() -> dict[str, Any]:
    return {"one": record("neighbours/neighbours.json")}


@about(
    "root",
    "It trains {time.runs} autoencoders on handwritten digits that come with scikit-learn, as three populations, in "
    "{time.wall:.0f} s on {machine}.",
    "Every number in the table is the mean over {s2.seeds}.",
    "Two learned codings are worth {s2.worth:.1f} principal components ({s2.seeds}).",
    "The chapter's stacked net loses to PCA-150: SSE {chapter.sse_test:.1f}, PCA {chapter.pca_sse_test:.3f} "
    "({chapter.seeds}). With other settings it wins: {better.sse_test:.3f} ({better.seeds}).",
    "On {cpu} a warm epoch of the chapter's stacked net takes {one[seconds][aejax]:.2f} s; PyTorch's eager loop takes "
    "{one[seconds][torch eager]:.2f} s and `torch.compile` {one[seconds][torch.compile]:.2f} s ([record](speed.json)).",
    "On {gpu}, {many[members][population, vmap]} such nets trained together are {fit:.1f} times as fast as one after "
    "another, and {eager:.0f} times as fast as PyTorch's eager loop ([record](populations.json)).",
)
def _root() -> dict[str, Any]:
    one = record("speed/speed.json")
    many = record("h200/populations.json")
    return {
        **{"time": Calls("quickstart"), "machine": machine("quickstart"), "one": one, "many": many},
        **{"s2": runs("quickstart", label="stacked", codings=2), **_stacked()},
        **{"cpu": machine_of(one["provenance"]), "gpu": machine_of(many["provenance"])},
        **{"fit": many["times_as_fast_as"]["fit, one after another"], "eager": many["times_as_fast_as"]["torch eager"]},
    }


COST = "*{time.runs} runs took {time.wall:.0f} s on {machine}. [Summary](../results/{name}/summary.md).*"
MADE = (
    "| [{name}]({name}/summary.md) | `aejax run experiments/{name}.py{data}` | {time.runs} | {seeds} | "
    "{time.wall:.0f} | {machine} |"
)


def of_every_experiment() -> Iterator[Claim]:
    """What an experiment's committed results cost, for its section and for the table of results."""
    for name in EXPERIMENTS:
        needs = any(row["dataset"].startswith(("mnist", "olivetti")) for row in rows_of(name))
        values = {"name": name, "time": Calls(name), "machine": machine(name), "data": " --data-dir DIR" * needs}
        values["seeds"] = seeds_of(name)
        yield Claim(COST, values)
        yield Claim(MADE, values)


@functools.cache
def claims() -> tuple[Claim, ...]:
    """All of them."""
    values = [Claim(text, groups()) for name, groups in GROUPS.items() for text in SAID[name]]
    return (*values, *of_every_experiment())
