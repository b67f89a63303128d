"""The sparsity score: its numbers, the stored row, the figure and the committed results."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aejax import variants
from aejax.config.sweep import Sweep
from aejax.evaluation import scores
from aejax.evaluation.scores.sparsity import counts
from aejax.reporting.figures import sparsity as figure_of
from aejax.reporting.settings import group_settings
from aejax.runner import scoring
from aejax.training import train
from fabricated import CURVE, arrays_of, make
from support import small_dataset


def test_counts_of_known_codings():
    z_nk = np.zeros((20, 4), np.float32)
    z_nk[:, 1] = 2.0
    z_nk[:2, 2] = -2.0
    z_nk[3, 3] = 1.0
    numbers, activity_k = counts(z_nk)
    np.testing.assert_allclose(activity_k, [0, 1, 0.1, 0.05])
    assert numbers["l0"] == pytest.approx(23 / 20)
    assert numbers["effective_l0"] == pytest.approx((17 + 2 * 2 + 9 / 5) / 20)
    assert (numbers["dead"], numbers["dense"]) == (0.25, 0.25)
    assert counts(np.zeros((5, 3)))[0] == {"l0": 0.0, "effective_l0": 0.0, "dead": 1.0, "dense": 0.0}


def test_row_holds_the_numbers_of_the_score():
    dataset = small_dataset()
    hyper: dict[str, Any] = {"learning_rate": 0.01, "active": 3.0, "revive": 0.0, "l2": 0.0}
    shape: dict[str, Any] = {"dataset": "digits", "widths": (16,), "epochs": 1, "batch_size": 64}
    sweep = Sweep(**shape, variant=variants.topk, hyper=hyper, scores=(scores.sparsity(),))
    assert (sweep.linear, sweep.name) == (False, "topk shallow")
    fit = train.fit(sweep.build(dataset.x_train.shape[1]), dataset, seed=0, epochs=2, batch_size=18, **hyper)
    scored = scoring.score_run(sweep, 0, hyper, dataset, fit)
    row = scored.row
    arrays = scored.arrays
    assert row["status"] == "completed"
    assert 0 < row["scores"]["l0"] <= 3
    assert arrays["sparsity/activity"].sum() == pytest.approx(row["scores"]["l0"], rel=1e-5)
    assert row["principal_angle_max_deg"] is None


def test_figure_shows_r2_and_l0_of_every_setting_and_the_curve_of_pca():
    def row(label, seed, l0, sse):
        config = {**make()["config"], "scores": [{"name": "sparsity"}], "l0": l0}
        return make(label, seed, sse=sse, config=config, scores={"l0": l0 + seed})

    sparse = [row("a", seed, l0, 24 - l0 - seed) for l0 in (3.0, 9.0) for seed in (0, 1)] + [row("b", 0, 5.0, 6.0)]
    sparse.append(row("c", 0, 4.0, 60.0))  # far below the mean predictor: mentioned, not drawn
    rows = [*sparse, make("plain")]
    best = [setting for setting in group_settings(rows) if setting.best]
    looks: dict[str, tuple[str, str]] = dict.fromkeys("ab", ("red", "o"))
    figure = figure_of.r2_against_l0(best, looks, arrays_of(rows).get)
    assert figure is not None
    (ax,) = [axes for axes in figure.axes if axes.get_title()]
    drawn: list[Any] = ax.containers
    first, second = (np.asarray(container.lines[0].get_xydata()).T for container in drawn)
    np.testing.assert_allclose(first, [[3.5, 9.5], [3.5 / 24, 9.5 / 24]])
    np.testing.assert_allclose(second, [[5.0], [18 / 24]])
    lines = [line for line in ax.lines if line.get_color() == "black"]
    k, r2_k = np.asarray(lines[0].get_xydata()).T
    np.testing.assert_allclose(r2_k, 1 - CURVE[k.astype(int)] / 24)
    dotted = [np.asarray(line.get_xydata()).T.tolist() for line in ax.lines if line.get_linestyle() == ":"]
    assert dotted[-1] == [[5.0, 9.0], [0.75, 0.75]]  # five codings are equivalent to nine components
    assert figure_of.note(best) == " 1 setting is below R² -0.1, and not drawn."
    assert figure_of.r2_against_l0([s for s in best if s.label == "plain"], looks, arrays_of(rows).get) is None


def test_committed_numbers():
    """On MNIST with 1024 codings, PCA needs more components for the R2 of most variants than these use codings."""
    folder = Path(__file__).resolve().parents[1] / "results/sparse"
    rows = [json.loads(line) for line in (folder / "runs.jsonl").read_text().splitlines()]
    assert len(rows) == 28
    assert {row["seed"] for row in rows} == {0, 1}
    pairs: dict[str, dict[str, list[tuple[float, float]]]] = {}  # L0 and equivalent dimension by label and setting
    for row in rows:
        settings = pairs.setdefault(row["label"], {})
        settings.setdefault(str(row["hyper"]), []).append((row["scores"]["l0"], row["pca_equivalent_dimension"]))
    means = {
        label: sorted(
            tuple(round(sum(column) / 2) for column in zip(*seeds, strict=True)) for seeds in settings.values()
        )
        for label, settings in pairs.items()
    }
    assert means["TopK"] == [(10, 33), (30, 61)]
    assert means["BatchTopK"] == [(10, 33), (30, 64)]
    assert means["Matryoshka"] == [(10, 32), (30, 58)]
    assert means["JumpReLU"] == [(18, 49), (33, 68)]
    assert means["gated"] == [(21, 42), (57, 68)]
    assert means["L1"] == [(37, 44), (60, 62)]
    assert means["KL"] == [(1024, 79), (1024, 123)]
    for label in ("TopK", "BatchTopK", "Matryoshka", "JumpReLU"):
        assert all(k > 1.6 * l0 for l0, k in means[label])
    dead = {label: [row["scores"]["dead"] for row in rows if row["label"] == label] for label in means}
    assert max(max(dead[label]) for label in ("TopK", "BatchTopK", "Matryoshka", "JumpReLU")) < 0.14
    assert max(dead["gated"] + dead["L1"]) == 0
