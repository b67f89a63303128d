"""Figures: each is drawn, kept, deleted or reported as failed, independently of the others."""

import itertools
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aejax.reporting import figures
from aejax.reporting.figures import best as best_figures
from aejax.reporting.figures import drawing, swept
from aejax.reporting.settings import group_settings
from fabricated import FIGURES, SWEPT, arrays_of, blank, falling, make, population, write


@pytest.mark.slow
@pytest.mark.usefixtures("rendered")
@pytest.mark.parametrize(("shape", "epochs"), [([4, 3], 300), ([4, 3, 1], 2), ([2, 2, 3], 1), (None, 1)])
def test_figures(tmp_path, shape, epochs):
    data = make()["data"] | {"image_shape": shape}
    rows = [make(label, seed, codings=k, data=data) for label in ("a", "_b $x$ | c") for k in (2, 7) for seed in (0, 1)]
    text, written = write(tmp_path, rows, arrays_of(rows, epochs=epochs, labelled=shape is None))
    assert written - {"summary.md", "summary.csv"} == (
        FIGURES if shape else FIGURES - {"features.png", "reconstructions.png"}
    )
    for name in written & FIGURES:
        assert not blank(tmp_path / name), name
        assert f"]({name})" in text
    assert "\\_b \\$x\\$ \\| c" in text


def test_figures_without_arrays_are_kept(tmp_path):
    rows = [make(seed=0, codings=2), make("tied", seed=1, codings=2)]
    assert "Not drawn" in write(tmp_path, rows, {})[0]
    (tmp_path / "features.png").write_bytes(b"an old figure")
    some = arrays_of(rows[:1])  # PCA's curve is there: it is the same for every run
    text, written = write(tmp_path, rows, some)
    assert written == {"summary.md", "summary.csv", "error_against_codings.png"}
    assert (tmp_path / "features.png").read_bytes() == b"an old figure"
    assert f"**Kept from an earlier report:** the arrays of run `{rows[1]['run_id']}` are not in this copy." in text
    assert text.count("**Not drawn:**") == 3


def test_a_figure_that_fails_costs_no_other(tmp_path, monkeypatch):
    def broken(*_):
        raise ValueError("no\nroom | here")

    monkeypatch.setitem(figures.FIGURES, "features.png", (broken, "Weights."))
    (tmp_path / "features.png").write_bytes(b"of other runs")
    text, written = write(tmp_path, [make(codings=2)])
    assert written & FIGURES == FIGURES - {"features.png"}
    assert "*Weights.* `features.png` could not be drawn: ValueError: no room \\| here\n" in text
    assert not (tmp_path / "features.png").exists()


@pytest.mark.parametrize("status", ["completed", "failed"])
def test_old_figures_that_these_rows_cannot_have_are_deleted(tmp_path, status):
    for name in FIGURES | {"mine.png"}:
        (tmp_path / name).write_bytes(b"old")
    data = make()["data"] | {"image_shape": None}
    _, written = write(tmp_path, [make(status=status, data=data)])
    assert {path.name for path in tmp_path.iterdir()} == written | {"mine.png"}
    assert len(written & FIGURES) == (3 if status == "completed" else 0)


@pytest.mark.slow
def test_matplotlib_is_imported_late_and_without_pyplot(tmp_path):
    rows = [make(codings=2)]
    program = """
import json, pathlib, sys
from aejax.reporting import summary
assert not any(name.startswith("matplotlib") for name in sys.modules)
sys.path.insert(0, sys.argv[3])
from fabricated import arrays_of
import matplotlib
before = matplotlib.rcParams.copy()
rows = json.loads(sys.argv[2])
summary.write(pathlib.Path(sys.argv[1]), rows, arrays_of(rows).get)
assert "matplotlib.figure" in sys.modules
assert "matplotlib.pyplot" not in sys.modules
assert matplotlib.rcParams.copy() == before
"""
    arguments = [str(tmp_path), json.dumps(rows), str(Path(__file__).parent)]
    done = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def axes_of(draw, rows) -> tuple[Any, list[Any]]:
    """The best settings of the rows, and the panels of a figure of them."""
    best = [setting for setting in group_settings(rows) if setting.best]
    figure = draw(best, {}, falling(rows).get)
    return best, [ax for ax in figure.axes if ax.get_title()]


def visible_labels(ax):
    """The texts of the major ticks within the x axis."""
    low, high = ax.get_xlim()
    ticks = zip(ax.get_xticks(), ax.get_xticklabels(), strict=True)
    return [label.get_text() for tick, label in ticks if low <= tick <= high]


def errors(ax):
    """x, mean and half-width by split, as drawn."""
    drawn = {}
    for name, container in zip(("validation", "test"), ax.containers, strict=True):
        line, _, (bars,) = container.lines
        heights = [segment[1, 1] - segment[0, 1] if len(segment) else 0.0 for segment in bars.get_segments()]
        drawn[name] = (*line.get_data(), np.array(heights) / 2)
    return drawn


def diverge_at(*rates_and_seeds):
    """The `diverged` argument of `population`: these (learning rate, seed) diverge."""
    return lambda hyper, seed: (hyper["learning_rate"], seed) in rates_and_seeds


def test_error_against_a_swept_hyper_parameter_shows_the_numbers_of_the_rows():
    rates = (0.0001, 0.001, 0.01, 0.1)
    rows = population(3, learning_rate=rates, diverged=diverge_at((0.1, 0), (0.1, 1), (0.1, 2), (0.001, 1)))
    _, (ax,) = axes_of(swept.swept, rows)
    drawn = errors(ax)
    x, means, half = drawn["test"]
    assert x == pytest.approx([0.0001, 0.001, 0.01])
    assert ax.get_xscale() == "log"
    assert means == pytest.approx([6 + 4.01, 6 + 1.01, 6 + 0.01])  # seeds add 0, 0.01, 0.02; of 0.001 two are left
    # the t quantile has a closed form for 2 degrees of freedom, and for 1 it is tan(0.475 pi)
    two = 0.95 / np.sqrt(2 * 0.975 * 0.025)
    assert half == pytest.approx([two * 0.01 / 3**0.5, np.tan(0.475 * np.pi) * 0.01, two * 0.01 / 3**0.5], rel=1e-6)
    assert drawn["validation"][1] == pytest.approx(means + 1)
    assert [line.get_ydata()[0] for line in ax.lines if line.get_color() == "black"] == [10.0]  # PCA
    (star,) = (line for line in ax.lines if line.get_marker() == "*")
    assert (star.get_xdata()[0], star.get_ydata()[0]) == pytest.approx((0.01, 7.01))
    (crosses,) = (line for line in ax.lines if line.get_marker() == "x")
    assert crosses.get_xdata() == pytest.approx([0.001, 0.1])
    assert [text.get_text() for text in ax.texts] == ["1 of 3", "3 of 3"]
    assert visible_labels(ax) == ["0.0001", "0.001", "0.01", "0.1"]


def test_failed_runs_are_counted_beside_diverged_ones():
    rows = population(3, learning_rate=(0.01, 0.1), diverged=diverge_at((0.1, 0), (0.1, 1)))
    next(row for row in rows if row["status"] == "diverged")["status"] = "failed"
    _, (ax,) = axes_of(swept.swept, rows)
    assert [text.get_text() for text in ax.texts] == ["2 of 3"]


def test_the_star_stands_at_the_error_even_if_another_criterion_chose_the_setting():
    rows = population(2, learning_rate=(0.1, 0.01))
    for row in rows:  # the criterion prefers the setting with the larger error
        row |= {"criterion": "bits", "criterion_validation": 0.02 - 0.1 * row["hyper"]["learning_rate"]}
    _, (ax,) = axes_of(swept.swept, rows)
    (star,) = (line for line in ax.lines if line.get_marker() == "*")
    larger = np.mean([row["sse_validation"] for row in rows if row["hyper"]["learning_rate"] == 0.1])
    assert (star.get_xdata()[0], star.get_ydata()[0]) == pytest.approx((0.1, larger))


def test_a_diverged_run_is_never_chosen_however_low_its_error():
    bad = make(hyper={"learning_rate": 9.0}, status="diverged", sse_validation=0.0, sse_test=0.0)
    rows = [*population(2, learning_rate=(0.1, 0.01)), bad]
    _, (ax,) = axes_of(swept.swept, rows)
    (star,) = (line for line in ax.lines if line.get_marker() == "*")
    assert star.get_xdata()[0] == pytest.approx(0.01)
    assert errors(ax)["test"][0] == pytest.approx([0.01, 0.1])


def test_zero_stands_apart_on_a_logarithmic_axis_and_a_narrow_range_is_linear():
    rows = population(1, learning_rate=(0.01, 0.02, 0.04), l2=(0.0, 0.0001, 0.01))
    _, (rate, l2) = axes_of(swept.swept, rows)
    assert errors(rate)["test"][0] == pytest.approx([0.01, 0.02, 0.04])
    assert visible_labels(rate) == ["0.01", "0.02", "0.04"]
    x = errors(l2)["test"][0]
    assert x == pytest.approx([0, 0.0001, 0.01])
    places = l2.transData.transform([(value, 6.0) for value in x])[:, 0]
    decade = (places[2] - places[1]) / 2
    assert places[1] - places[0] > 0.4 * decade
    assert visible_labels(l2) == ["0", "0.0001", "0.001", "0.01"]


def test_where_another_hyper_parameter_varies_its_best_value_by_validation_is_drawn(tmp_path):
    def sse(hyper, seed):  # validation, which is 1 more than test here, is changed below
        return 5.0 + hyper["l2"] if hyper["learning_rate"] == 0.1 else 7.0 - hyper["l2"]

    rows = population(2, learning_rate=(0.1, 0.01), l2=(0.0, 0.1), sse=sse)
    _, (ax, _) = axes_of(swept.swept, rows)
    assert errors(ax)["test"][1] == pytest.approx([6.9, 5.0])
    for row in rows:
        row["sse_validation"] = 9.0 + row["hyper"]["l2"]
    _, (ax, _) = axes_of(swept.swept, rows)
    assert errors(ax)["test"][1] == pytest.approx([7.0, 5.0])
    text, written = write(tmp_path, rows)
    assert written >= SWEPT
    assert text.count("differ in something else, the best of them by validation is drawn.") == 2


def test_a_huge_error_does_not_flatten_the_others():
    rows = population(
        1, learning_rate=(0.1, 0.01, 0.001), sse=lambda hyper, seed: 1e9 if hyper["learning_rate"] == 0.1 else 8.0
    )
    _, (ax,) = axes_of(swept.swept, rows)
    assert ax.get_ylim()[1] < 20
    assert np.isnan(errors(ax)["test"][1][2])
    assert "1.0e+09" in [text.get_text() for text in ax.texts]


def test_an_exact_pca_is_noted_and_not_drawn():
    _, (ax,) = axes_of(swept.swept, population(1, learning_rate=(0.1, 0.01), codings=(12,)))
    assert "PCA is exact" in ax.get_title()
    assert not [line for line in ax.lines if line.get_color() == "black" and len(line.get_xdata()) == 2]


def test_curves_of_a_population_are_those_of_its_rows():
    rows = population(2, learning_rate=(0.1, 0.01, 0.001), diverged=diverge_at((0.1, 0), (0.1, 1), (0.001, 1)))
    held = falling(rows)
    _, (ax,) = axes_of(swept.swept_curves, rows)
    curves = [line.get_ydata() for line in ax.lines if line.get_linestyle() == "-" and len(line.get_xdata()) == 20]
    for curve, rate in zip(curves, (0.001, 0.01), strict=True):
        runs = [r for r in rows if r["hyper"]["learning_rate"] == rate and r["status"] == "completed"]
        wanted = np.mean([held[r["run_id"]]["history/validation_error"] for r in runs], axis=0)
        assert curve == pytest.approx(wanted)
    assert len([line for line in ax.lines if line.get_marker() == "x"]) == 3
    names = [text.get_text() for text in ax.get_legend().get_texts()]
    assert names == ["0.001 (1 of 2 lost)", "0.01 ★", "0.1 (2 of 2 lost)"]


@pytest.mark.slow
def test_the_caption_says_how_many_of_too_many_panels_and_values_are_drawn(tmp_path):
    rows = population(1, learning_rate=(0.01, 0.001), codings=tuple(range(1, 12)), l2=(0.0, 0.1))
    text, _ = write(tmp_path, rows, falling(rows))
    assert text.count("Only 12 of the 22 panels are drawn.") == 2
    _, panels = axes_of(swept.swept, rows)
    assert len(panels) == 12
    assert "11 codings" in panels[-1].get_title()
    rows = population(1, learning_rate=tuple(i / 100 for i in range(1, 31)))
    _, (ax,) = axes_of(swept.swept_curves, rows)
    assert len(ax.get_legend().get_texts()) == 10
    assert "0.01 ★" in [text.get_text() for text in ax.get_legend().get_texts()]
    assert "At most 10 values are drawn in a panel" in write(tmp_path, rows, falling(rows))[0]


def test_codings_alone_are_not_a_swept_hyper_parameter(tmp_path):
    rows = population(3, learning_rate=(0.01,), codings=tuple(range(1, 13)))
    _, written = write(tmp_path, rows)
    assert not written & SWEPT


@pytest.mark.parametrize(
    ("lowest", "highest", "count"),
    [(1.234e-5, 1, 8), (1.234e-5, 1, 16), (1.234e-5, 1, 100), (0.0003, 0.02, 8), (0.000211, 0.0205, 9)],
)
def test_labels_of_the_x_axis_do_not_run_into_each_other(lowest, highest, count):
    rates = tuple(float(f"{rate:.4g}") for rate in np.geomspace(lowest, highest, count))
    rows = population(1, learning_rate=rates, l2=(0.0, 0.1))
    best = [setting for setting in group_settings(rows) if setting.best]
    figure = swept.swept(best, {}, {}.get)
    assert figure is not None
    figure.draw_without_rendering()
    ticks = [tick for tick in figure.axes[0].get_xticklabels() if tick.get_text()]
    boxes = sorted((tick.get_window_extent() for tick in ticks), key=lambda box: box.x0)
    assert len(visible_labels(figure.axes[0])) >= 4
    assert all(left.x1 < right.x0 for left, right in itertools.pairwise(boxes))


def test_codings_are_mapped_once_for_each_label(tmp_path):
    """Two codings as they are, more codings in their plane; of several splits of a data set only the first."""
    rows = [make("two", codings=2), make("two", codings=7), make("many", codings=5), make("many", codings=7)]
    other = make("many", codings=7)
    other["provenance"] = other["provenance"] | {"dataset_fingerprint": "f" * 16}
    other["run_id"] = "other"
    rows.append(other)
    best = [setting for setting in group_settings(rows) if setting.best]
    looks = {str(setting.label): ("#0072B2", "o") for setting in best}
    figure = best_figures.codings_2d(best, looks, arrays_of(rows).get)
    assert figure is not None
    titles = [ax.get_title() for ax in figure.axes]
    assert [title.split("\n")[-1] for title in titles] == ["7 codings", "2 codings", "2 components"]
    assert [title.split(",")[0] for title in titles] == ["many", "two", "PCA"]
    assert [ax.get_xlabel() for ax in figure.axes] == ["first direction of codings", "first coding", "first component"]
    text, _ = write(tmp_path, rows)
    assert "beside PCA's; runs chosen by validation.* Of data split in several ways the first split is drawn." in text


def test_a_curve_with_a_gap_has_the_range_of_its_finite_values():
    """A run may complete whose validation error was not finite in one epoch; its curves are drawn none the less."""
    curves = [np.array([[1.0, np.nan, 0.5]]), np.array([[2.0, np.inf]])]
    assert drawing.range_of(curves) == (0.5, 2.0)
    assert drawing.range_of([np.array([np.nan])]) == (1e-30, 1e-30)
    assert drawing.range_of([]) == (1e-30, 1e-30)
