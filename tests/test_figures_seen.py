"""Figures that show what codings mean: samples, interpolations, traversals, activations, spectra."""

import numpy as np
import pytest

from aejax.reporting.figures import best, generated, latents
from aejax.reporting.settings import group_settings
from fabricated import CURVE, arrays_of, blank, make, write

IMAGES = {"samples.png", "interpolations.png", "traversals.png", "activating.png"}
ALL = IMAGES | {"activations.png", "spectrum.png"}
HEALTH = {"codings": 7, "active_units": 6, "dead_units": 1, "effective_rank": 4.5, "pca_effective_rank": 6.0}
HEALTH |= {"share_nonzero": 0.25, "warnings": []}


def codings_arrays(rows, densities=("gaussian",)):
    """The arrays of runs by run_id, named as the runner stores them, with images of noise."""
    arrays_by_run = arrays_of(rows)
    for row in rows:
        rng = np.random.default_rng(row["seed"])
        d = row["data"]["inputs"]
        k = row["codings"]

        def images(*shape, rng=rng, d=d):
            return rng.integers(0, 256, (*shape, d), np.uint8)

        arrays = arrays_by_run[row["run_id"]]
        arrays |= {"codings/spectrum": np.linspace(3, 0, k), "activations/units": np.arange(k)}
        arrays |= {"activations/counts": rng.integers(0, 9, (k, 40)) + 1}
        arrays |= {"activations/edges": np.tile(np.linspace(-1, 2, 41), (k, 1))}
        arrays |= {"interpolations/images": images(4, 8), "interpolations/ends": images(4, 2)}
        for name in ("traversals", "activating"):
            arrays |= {f"{name}/images": images(k, 7), f"{name}/units": np.arange(k)}
        arrays["samples/test_distance"] = np.full(60, 0.5)
        for density in densities:
            arrays |= {f"samples/{density}/{name}": images(60) for name in ("images", "nearest")}
            arrays[f"samples/{density}/distance"] = np.full(60, 0.25)
    return arrays_by_run


def drawn(draw, rows, arrays):
    best_settings = [setting for setting in group_settings(rows) if setting.best]
    return draw(best_settings, {setting.label: ("#0072B2", "o") for setting in best_settings}, arrays.get)


@pytest.mark.slow
@pytest.mark.usefixtures("rendered")
@pytest.mark.parametrize("shape", [[4, 3], [2, 2, 3], None])
def test_all_are_drawn_where_the_rows_are_images(tmp_path, shape):
    data = make()["data"] | {"image_shape": shape}
    rows = [make(label, codings=7, data=data, health=HEALTH) for label in ("a", "_b $x$ | c", "third")]
    text, written = write(tmp_path, rows, codings_arrays(rows, ("gaussian", "mixture")))
    assert written & ALL == (ALL if shape else ALL - IMAGES)
    for name in written & ALL:
        assert not blank(tmp_path / name), name
        assert f"]({name})" in text


def test_samples_stand_beside_their_nearest_training_rows_with_distances():
    rows = [make(health=HEALTH)]
    arrays_by_run = codings_arrays(rows, ("prior", "mixture"))
    figure = drawn(generated.samples, rows, arrays_by_run)
    assert figure is not None
    assert len(figure.axes) == 4
    titles = [ax.get_title(loc="left") for ax in figure.axes]
    assert "60 samples of its prior" in titles[0]
    assert "60 samples of a Gaussian mixture" in titles[2]
    assert all("0.250 away; test rows 0.500" in title for title in titles[1::2])
    arrays = arrays_by_run[rows[0]["run_id"]]
    for ax, name in zip(
        figure.axes, ("prior/images", "prior/nearest", "mixture/images", "mixture/nearest"), strict=True
    ):
        image = np.asarray(ax.images[0].get_array())
        assert image.shape == (6 * 5 - 1, 10 * 4 - 1)  # ten images of 4 x 3 in a line, gaps of one
        first = arrays[f"samples/{name}"][0].reshape(4, 3) / 255
        np.testing.assert_allclose(image[:4, :3], first)


def test_lines_of_interpolations_start_and_end_with_the_rows_themselves():
    rows = [make(health=HEALTH)]
    arrays_by_run = codings_arrays(rows)
    figure = drawn(generated.interpolations, rows, arrays_by_run)
    assert figure is not None
    image = np.asarray(figure.axes[0].images[0].get_array())
    ends = arrays_by_run[rows[0]["run_id"]]["interpolations/ends"] / 255
    np.testing.assert_allclose(image[5:9, :3], ends[1, 0].reshape(4, 3))
    np.testing.assert_allclose(image[5:9, 9 * 4 :], ends[1, 1].reshape(4, 3))


def test_traversals_name_their_steps_by_quantiles_or_by_the_priors_deviations():
    rows = [make(health=HEALTH)]
    for kind, first in (("gaussian", "1%"), ("prior", "-3 sd")):
        figure = drawn(generated.traversals, rows, codings_arrays(rows, (kind,)))
        assert figure is not None
        (ax,) = figure.axes
        assert next(tick.get_text() for tick in ax.get_xticklabels()) == first
        assert [tick.get_text() for tick in ax.get_yticklabels()] == [f"coding {i}" for i in range(7)]


def test_spectra_are_shares_beside_those_of_pca():
    rows = [make(health=HEALTH)]
    figure = drawn(latents.spectrum, rows, codings_arrays(rows))
    assert figure is not None
    pca, ours = (np.asarray(line.get_ydata()) for line in figure.axes[0].lines)
    np.testing.assert_allclose(pca, np.full(7, 1 / 7))  # PCA's error falls by 2 a component
    assert CURVE[0] - CURVE[1] == 2
    np.testing.assert_allclose(ours, (np.linspace(3, 0, 7) / 10.5)[:-1])  # a direction of no variance is not drawn
    assert "effective rank 4.50, PCA's 6.00" in figure.axes[0].get_title()


@pytest.mark.slow
def test_the_caption_says_how_many_of_too_many_labels_are_drawn(tmp_path):
    rows = [make(f"label {i}", health=HEALTH) for i in range(10)]
    text, _ = write(tmp_path, rows, codings_arrays(rows))
    assert text.count("Only the first 8 labels are drawn.") == 6


@pytest.mark.slow
def test_the_first_of_several_splits_of_a_dataset_is_drawn_and_the_caption_says_so(tmp_path):
    facts = make()["provenance"]
    splits = [facts | {"dataset_fingerprint": fingerprint} for fingerprint in ("a" * 16, "b" * 16)]
    rows = [make(label, health=HEALTH, provenance=split) for label in ("one", "other") for split in splits]
    figure = drawn(generated.samples, rows, codings_arrays(rows))
    assert figure is not None
    titles = [ax.get_title(loc="left") or ax.get_title() for ax in figure.axes[::2]]
    assert ["aaaa" in title and "bbbb" not in title for title in titles] == [True, True]
    text, _ = write(tmp_path, rows, codings_arrays(rows))
    assert text.count("Of data split in several ways the first split is drawn.") == 7
    text, _ = write(tmp_path, rows[::2], codings_arrays(rows[::2]))
    assert "split in several ways" not in text


def test_figures_are_kept_without_arrays_and_deleted_without_diagnostics(tmp_path):
    (tmp_path / "samples.png").write_bytes(b"an old figure")
    text, written = write(tmp_path, [make(health=HEALTH)], {})
    assert not written & ALL
    assert (tmp_path / "samples.png").read_bytes() == b"an old figure"
    assert text.count("are not in this copy") == 5 + 6
    text, _ = write(tmp_path, [make()], {})
    assert not (tmp_path / "samples.png").exists()
    assert text.count("are not in this copy") == 5


def test_features_are_weights_times_the_inputs_deviation_where_it_is_stored():
    rows = [make(health=HEALTH)]
    arrays_by_run = codings_arrays(rows)
    arrays = arrays_by_run[rows[0]["run_id"]]
    first_d = arrays["features"][0].copy()
    for deviation_d, scaled in ((None, False), (np.linspace(0, 2, len(first_d)), True)):
        if deviation_d is not None:
            arrays["features/deviation"] = deviation_d
        figure = drawn(best.features, rows, arrays_by_run)
        assert figure is not None
        image = figure.axes[0].images[0].get_array()
        wanted_d = first_d if deviation_d is None else first_d * deviation_d
        np.testing.assert_allclose(np.asarray(image)[:4, :3], wanted_d.reshape(4, 3), rtol=1e-6)
        assert ("s.d." in figure.axes[0].get_title(loc="left")) is scaled
