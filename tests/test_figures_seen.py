"""Figures of what codings do: samples, interpolations, traversals, activations, spectra."""

import numpy as np
import pytest

from aejax.reporting.figures import best, generated, latents
from aejax.reporting.settings import group_settings
from fabricated import CURVE, arrays_of, blank, make, write

IMAGES = {"samples.png", "interpolations.png", "traversals.png", "activating.png"}
SEEN = IMAGES | {"activations.png", "spectrum.png"}
PANEL = {"codings": 7, "active_units": 6, "dead_units": 1, "effective_rank": 4.5, "pca_effective_rank": 6.0}
PANEL |= {"share_nonzero": 0.25, "warnings": []}


def seen_of(rows, kinds=("gaussian",)):
    """Arrays of runs as rows.score stores them, of images of noise."""
    held = arrays_of(rows)
    for row in rows:
        rng, d, k = np.random.default_rng(row["seed"]), row["data"]["inputs"], row["codings"]

        def images(*shape, rng=rng, d=d):
            return rng.integers(0, 256, (*shape, d), np.uint8)

        arrays = held[row["run_id"]]
        arrays |= {"codings/spectrum": np.linspace(3, 0, k), "activations/units": np.arange(k)}
        arrays |= {"activations/counts": rng.integers(0, 9, (k, 40)) + 1}
        arrays |= {"activations/edges": np.tile(np.linspace(-1, 2, 41), (k, 1))}
        arrays |= {"interpolations/images": images(4, 8), "interpolations/ends": images(4, 2)}
        for name in ("traversals", "activating"):
            arrays |= {f"{name}/images": images(k, 7), f"{name}/units": np.arange(k)}
        arrays["samples/test_distance"] = np.full(60, 0.5)
        for kind in kinds:
            arrays |= {f"samples/{kind}/{name}": images(60) for name in ("images", "nearest")}
            arrays[f"samples/{kind}/distance"] = np.full(60, 0.25)
    return held


def drawn(draw, rows, held):
    chosen = [setting for setting in group_settings(rows) if setting.best]
    return draw(chosen, {setting.label: ("#0072B2", "o") for setting in chosen}, held.get)


@pytest.mark.parametrize("shape", [[4, 3], [2, 2, 3], None])
def test_all_are_drawn_where_the_rows_are_images(tmp_path, shape):
    data = make()["data"] | {"image_shape": shape}
    rows = [make(label, codings=7, data=data, health=PANEL) for label in ("a", "_b $x$ | c", "third")]
    text, written = write(tmp_path, rows, seen_of(rows, ("gaussian", "mixture")))
    assert written & SEEN == (SEEN if shape else SEEN - IMAGES)
    for name in written & SEEN:
        assert not blank(tmp_path / name), name
        assert f"]({name})" in text


def test_samples_stand_beside_their_nearest_training_rows_with_distances():
    rows = [make(health=PANEL)]
    held = seen_of(rows, ("prior", "mixture"))
    figure = drawn(generated.samples, rows, held)
    assert figure is not None
    assert len(figure.axes) == 4
    titles = [ax.get_title(loc="left") for ax in figure.axes]
    assert "60 samples of its prior" in titles[0]
    assert "60 samples of a Gaussian mixture" in titles[2]
    assert all("0.250 away; test rows 0.500" in title for title in titles[1::2])
    arrays = held[rows[0]["run_id"]]
    for ax, name in zip(
        figure.axes, ("prior/images", "prior/nearest", "mixture/images", "mixture/nearest"), strict=True
    ):
        image = np.asarray(ax.images[0].get_array())
        assert image.shape == (6 * 5 - 1, 10 * 4 - 1)  # ten images of 4 x 3 in a line, gaps of one
        first = arrays[f"samples/{name}"][0].reshape(4, 3) / 255
        np.testing.assert_allclose(image[:4, :3], first)


def test_lines_of_interpolations_end_in_the_rows_themselves():
    rows = [make(health=PANEL)]
    held = seen_of(rows)
    figure = drawn(generated.interpolations, rows, held)
    assert figure is not None
    image = np.asarray(figure.axes[0].images[0].get_array())
    ends = held[rows[0]["run_id"]]["interpolations/ends"] / 255
    np.testing.assert_allclose(image[5:9, :3], ends[1, 0].reshape(4, 3))
    np.testing.assert_allclose(image[5:9, 9 * 4 :], ends[1, 1].reshape(4, 3))


def test_traversals_name_their_steps_by_quantiles_or_by_the_priors_deviations():
    rows = [make(health=PANEL)]
    for kind, first in (("gaussian", "1%"), ("prior", "-3 sd")):
        figure = drawn(generated.traversals, rows, seen_of(rows, (kind,)))
        assert figure is not None
        (ax,) = figure.axes
        assert next(tick.get_text() for tick in ax.get_xticklabels()) == first
        assert [tick.get_text() for tick in ax.get_yticklabels()] == [f"coding {i}" for i in range(7)]


def test_spectra_are_shares_beside_those_of_pca():
    rows = [make(health=PANEL)]
    figure = drawn(latents.spectrum, rows, seen_of(rows))
    assert figure is not None
    pca, ours = (np.asarray(line.get_ydata()) for line in figure.axes[0].lines)
    np.testing.assert_allclose(pca, np.full(7, 1 / 7))  # PCA's error falls by 2 a component
    assert CURVE[0] - CURVE[1] == 2
    np.testing.assert_allclose(ours, (np.linspace(3, 0, 7) / 10.5)[:-1])  # a direction of no variance is not drawn


def test_only_so_many_labels_are_drawn_and_the_caption_says_so(tmp_path):
    rows = [make(f"label {i}", health=PANEL) for i in range(10)]
    text, _ = write(tmp_path, rows, seen_of(rows))
    assert text.count("Only the first 8 labels are drawn.") == 6


def test_of_a_dataset_split_in_several_ways_the_first_is_drawn_and_the_caption_says_so(tmp_path):
    facts = make()["provenance"]
    splits = [facts | {"dataset_fingerprint": fingerprint} for fingerprint in ("a" * 16, "b" * 16)]
    rows = [make(label, health=PANEL, provenance=one) for label in ("one", "other") for one in splits]
    figure = drawn(generated.samples, rows, seen_of(rows))
    assert figure is not None
    titles = [ax.get_title(loc="left") or ax.get_title() for ax in figure.axes[::2]]
    assert ["aaaa" in title and "bbbb" not in title for title in titles] == [True, True]
    text, _ = write(tmp_path, rows, seen_of(rows))
    assert text.count("Of data split in several ways the first split is drawn.") == 7
    text, _ = write(tmp_path, rows[::2], seen_of(rows[::2]))
    assert "split in several ways" not in text


def test_without_arrays_they_stay_as_they_are_and_without_a_panel_there_are_none(tmp_path):
    (tmp_path / "samples.png").write_bytes(b"drawn long ago")
    text, written = write(tmp_path, [make(health=PANEL)], {})
    assert not written & SEEN
    assert (tmp_path / "samples.png").read_bytes() == b"drawn long ago"
    assert text.count("are not in this copy") == 5 + 6
    text, _ = write(tmp_path, [make()], {})
    assert not (tmp_path / "samples.png").exists()
    assert text.count("are not in this copy") == 5


def test_features_are_weights_times_their_inputs_deviation_or_of_older_runs_the_weights_alone():
    rows = [make(health=PANEL)]
    held = seen_of(rows)
    arrays = held[rows[0]["run_id"]]
    first_d = arrays["features"][0].copy()
    for deviation_d, says in ((None, False), (np.linspace(0, 2, len(first_d)), True)):
        if deviation_d is not None:
            arrays["features/deviation"] = deviation_d
        figure = drawn(best.features, rows, held)
        assert figure is not None
        image, wanted_d = (
            figure.axes[0].images[0].get_array(),
            first_d if deviation_d is None else first_d * deviation_d,
        )
        np.testing.assert_allclose(np.asarray(image)[:4, :3], wanted_d.reshape(4, 3), rtol=1e-6)
        assert ("s.d." in figure.axes[0].get_title(loc="left")) is says
