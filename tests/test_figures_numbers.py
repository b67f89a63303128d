"""Numbers that figures show: those of the rows and arrays of their runs."""

import io
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from aejax.evaluation import scores
from aejax.reporting import figures, images
from aejax.reporting.figures import best, denoised, sparsity
from aejax.reporting.settings import group_settings
from fabricated import CURVE, arrays_of, make, population

T_OF_TWO_SEEDS = np.tan(0.475 * np.pi)
"""The quantile of Student's t distribution with one degree of freedom, at 0.975."""


def panels(draw, rows, arrays) -> list[Any]:
    """The panels of a figure of the best settings of these rows."""
    best_settings = [setting for setting in group_settings(rows) if setting.best]
    figure = draw(best_settings, {setting.label: ("red", "o") for setting in best_settings}, arrays.get)
    assert figure is not None
    return figure.axes


def points(container):
    """x and y of an errorbar's points, and the half-widths of its vertical bars."""
    line, _, bars = container.lines
    halves = [(segment[1, 1] - segment[0, 1]) / 2 for segment in bars[-1].get_segments()]
    return (*line.get_data(), np.array(halves))


def test_only_the_best_settings_are_drawn(monkeypatch):
    drawn: list[Any] = []
    monkeypatch.setitem(figures.FIGURES, "features.png", (lambda shown, *_: drawn.extend(shown), "Weights."))
    settings = group_settings(population(2, learning_rate=(0.1, 0.01, 0.001)))
    assert figures.draw("features.png", settings, {}.get) is None
    assert [setting.hyper["learning_rate"] for setting in drawn] == [0.01]


def test_test_errors_are_drawn_beside_those_of_pca_with_as_many_components():
    rows = [make(seed=seed, sse=k + seed, validation=20.0, codings=k) for k in (2, 7) for seed in (0, 1)]
    (ax,) = panels(best.error_against_codings, rows, arrays_of(rows))
    (pca,) = (line for line in ax.lines if line.get_color() == "black")
    k, errors = pca.get_data()
    assert {2, 7} <= set(k)
    np.testing.assert_allclose(errors, CURVE[k])
    codings, means, halves = points(ax.containers[0])
    np.testing.assert_array_equal(codings, [2, 7])
    np.testing.assert_allclose(means, [2.5, 7.5])
    np.testing.assert_allclose(halves, T_OF_TWO_SEEDS * 0.5)  # two values that differ by 1


def test_learning_curves_are_means_over_seeds_after_each_epoch_that_all_have():
    rows = [make(seed=seed) for seed in (0, 1)]
    arrays = arrays_of(rows)
    longer = arrays[rows[0]["run_id"]]
    shorter = arrays[rows[1]["run_id"]]
    for kind in ("train", "validation"):
        shorter[f"history/{kind}_error"] = shorter[f"history/{kind}_error"][:3]
    (ax,) = panels(best.learning_curves, rows, arrays)
    assert [line.get_linestyle() for line in ax.lines] == ["--", "-"]
    for line, shade, kind in zip(ax.lines, ax.collections, ("train", "validation"), strict=True):
        curve_pe = np.stack([run[f"history/{kind}_error"][:3] for run in (longer, shorter)])
        np.testing.assert_array_equal(line.get_xdata(), [1, 2, 3])
        np.testing.assert_allclose(line.get_ydata(), curve_pe.mean(axis=0))
        outline = {tuple(vertex) for vertex in shade.get_paths()[0].vertices.tolist()}
        assert outline == {(e + 1, float(curve_pe[p, e])) for e in range(3) for p in range(2)}


def test_denoised_images_stand_beside_their_own_errors():
    numbers = {"noisy_sse_test": 9.0, "denoised_sse_test": 3.0, "denoised_sse_validation": 2.0}
    numbers |= {"pca_denoised_sse_test": 6.0, "pca_best_denoised_sse_test": 5.0, "pca_best_components": 4}
    numbers |= {"affine_denoised_sse_test": 4.0}
    config = make()["config"] | {"scores": [scores.denoising().config()]}
    row = make(config=config, scores=numbers)
    arrays = arrays_of([row])
    kinds = ("clean", "noisy", "denoised", "pca", "affine")
    images = {f"denoising/{kind}": np.full((5, 12), i / 8) for i, kind in enumerate(kinds)}
    arrays[row["run_id"]] |= images
    lines = panels(denoised.denoised, [row], arrays)
    names = [" ".join(ax.get_ylabel().split()) for ax in lines]
    assert names == [
        "clean",
        "noisy SSE 9.00",
        "stacked SSE 3.00",
        "PCA, 4 components SSE 5.00",
        "best affine map SSE 4.00",
    ]
    assert [float(ax.images[0].get_array()[0, 0]) for ax in lines] == [i / 8 for i in range(len(kinds))]


def sparse_row(l0, sse):
    config = make()["config"] | {"scores": [{"name": "sparsity"}]}
    return make(sse=sse, hyper={"active": l0}, config=config, scores={"l0": l0})


def test_r2_of_every_setting_is_drawn_beside_that_of_pca_with_as_many_components():
    rows = [sparse_row(2.0, 15.0), sparse_row(6.0, 6.0)]
    (ax,) = panels(sparsity.r2_against_l0, rows, arrays_of(rows))
    l0, r2, _ = points(ax.containers[0])
    np.testing.assert_allclose(l0, [2, 6])
    np.testing.assert_allclose(r2, [1 - 15 / 24, 1 - 6 / 24])
    (pca,) = (line for line in ax.lines if line.get_color() == "black")
    k, r2_of_pca = pca.get_data()
    assert {2, 6} <= set(k)
    np.testing.assert_allclose(r2_of_pca, np.asarray(k) / 12)  # each of 12 components explains as much


@pytest.mark.usefixtures("rendered")
@pytest.mark.parametrize(("size", "dots"), [((4.0, 3.0), 120), ((12.0, 10.0), 75)])
def test_a_figure_has_a_small_palette_and_fewer_dots_an_inch_if_it_is_large(size, dots):
    figure = Figure(size)
    figure.add_axes((0, 0, 1, 1)).imshow(np.random.default_rng(0).uniform(size=(9, 9)))
    with Image.open(io.BytesIO(images.render(figure, colours=5))) as picture:
        assert picture.mode == "P"
        assert len(np.unique(np.asarray(picture))) <= 5
        assert picture.info["dpi"] == pytest.approx((dots, dots), abs=0.1)


@pytest.mark.parametrize(("name", "colours"), [("samples.png", figures.GREYS), ("features.png", 256)])
def test_figures_of_many_images_have_fewer_colours(monkeypatch, name, colours):
    asked = []
    monkeypatch.setitem(figures.FIGURES, name, (lambda *_: Figure(), "Something."))
    monkeypatch.setattr(images, "render", lambda figure, colours: asked.append(colours) or b"")
    figures.draw(name, group_settings(population(2, learning_rate=(0.1,))), {}.get)
    assert asked == [colours]
