"""The health panel: its numbers for codings where they are known, its warnings, and its section of the report."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.decomposition import PCA

from aejax import variants
from aejax.cli import progress
from aejax.config.sweep import Sweep
from aejax.evaluation import diagnostics, pca
from aejax.reporting import health_table
from aejax.reporting.settings import group_settings
from aejax.runner import run_experiment, scoring
from aejax.training import train
from fabricated import make, write
from support import small_dataset

RNG = np.random.default_rng(0)
CURVE = np.linspace(8.0, 0.0, 9)  # PCA's errors for eight directions of variance 1


def test_effective_rank_of_pca_codings_of_white_data_is_their_number():
    x_nd = np.linalg.qr(RNG.normal(size=(400, 8)) - 0.1)[0] * 20  # orthogonal columns that are not centred
    x_nd -= x_nd.mean(axis=0)
    x_nd = np.linalg.qr(x_nd)[0] * 20  # exactly white
    params = pca.truncate(pca.fit(x_nd), 5)
    z_nk = (x_nd - params.mean_d) @ params.components_kd.T
    panel = diagnostics.examine(z_nk, pca.error_curve(pca.fit(x_nd), x_nd), 3.0)
    assert panel["effective_rank"] == pytest.approx(5, rel=1e-9)
    assert panel["pca_effective_rank"] == pytest.approx(5, rel=1e-9)
    assert (panel["active_units"], panel["dead_units"], panel["share_nonzero"]) == (5, 0, 1.0)
    assert panel["warnings"] == []


def test_effective_rank_of_two_eigenvalues_is_the_exponential_of_their_entropy():
    for a in (0.5, 0.9, 0.999):
        wanted = math.exp(-a * math.log(a) - (1 - a) * math.log(1 - a))
        assert diagnostics.effective_rank(np.array([a, 1 - a]) * 7) == pytest.approx(wanted)
    assert diagnostics.effective_rank(np.zeros(4)) == 0
    z_nk = RNG.normal(size=(300, 6)) @ RNG.normal(size=(6, 6))
    np.testing.assert_allclose(diagnostics.spectrum(z_nk), np.linalg.svd(z_nk - z_nk.mean(0))[1] ** 2 / 300, rtol=1e-9)


def test_effective_rank_does_not_depend_on_rotation_and_scale():
    z_nk = RNG.normal(size=(200, 4)) * np.array([1, 2, 3, 4])
    rotated = z_nk @ np.linalg.qr(RNG.normal(size=(4, 4)))[0] * 1e-3 + 5
    ranks = [diagnostics.effective_rank(diagnostics.spectrum(z)) for z in (z_nk, rotated)]
    assert ranks[0] == pytest.approx(ranks[1])
    assert 1 < ranks[0] < 4


def test_spectrum_of_more_codings_than_rows_and_of_very_many_codings():
    few = RNG.normal(size=(20, 50))
    assert len(diagnostics.spectrum(few)) == 20
    np.testing.assert_allclose(diagnostics.spectrum(few).sum(), few.var(axis=0).sum())
    many = np.repeat(RNG.normal(size=(1030, 3)), 500, axis=1)
    assert diagnostics.effective_rank(diagnostics.spectrum(many)) == pytest.approx(3, rel=0.05)


def test_constant_codings_give_a_collapse_warning():
    for value in (0.0, 0.731, -1e6):
        panel = diagnostics.examine(np.full((50, 3), value, np.float32), CURVE, 8.0)
        assert (panel["dead_units"], panel["active_units"], panel["effective_rank"]) == (3, 0, 0.0)
        assert panel["warnings"][0] == "Collapsed: every test row has the same codings."
        assert panel["warnings"][1] == "Reconstructs test rows no better than their mean does (R² 0.000)."


def test_codings_along_one_direction_give_a_collapse_warning_unless_pca_has_one_too():
    z_nk = (RNG.normal(size=(90, 1)) * np.array([[1.0, 2, -3]])).astype(np.float32)
    (warning,) = diagnostics.examine(z_nk, CURVE, 4.0)["warnings"]
    assert warning == "Collapsed: the 3 codings vary along one direction only (effective rank 1.00, PCA's is 3.00)."
    assert diagnostics.examine(z_nk, np.array([8.0, 0, 0, 0]), 0.1)["warnings"] == []
    assert diagnostics.examine(z_nk[:, :1], CURVE, 4.0)["warnings"] == []


def test_dead_and_active_units_are_counted():
    z_nk = RNG.normal(size=(80, 6)).astype(np.float32)
    z_nk[:, 1] = 0.0
    z_nk[:, 4] = 3.25
    z_nk[:, 5] *= 0.01  # varies too little to be active
    z_nk[:40, 0] = 0.0
    panel = diagnostics.examine(z_nk, CURVE, 4.0)
    assert (panel["dead_units"], panel["active_units"]) == (2, 3)
    assert panel["share_nonzero"] == pytest.approx(1 - (80 + 40) / 480)
    assert panel["warnings"] == []
    z_nk[:, 2:4] = 0.0
    z_nk[:, 5] *= 100
    assert diagnostics.examine(z_nk, CURVE, 4.0)["warnings"] == [
        "4 of 6 codings are dead: the same for every test row."
    ]


@pytest.mark.parametrize(("dead", "codings", "warns"), [(2, 4, False), (2, 5, False), (3, 5, True)])
def test_dead_codings_give_a_warning_where_they_are_more_than_half(dead, codings, warns):
    z_nk = RNG.normal(size=(80, codings)).astype(np.float32)
    z_nk[:, :dead] = 1.0
    assert bool(diagnostics.examine(z_nk, CURVE, 4.0)["warnings"]) is warns


def test_a_small_coding_that_varies_is_not_dead_beside_a_large_one():
    """Dead means the same for every row, up to rounding of that coding's own size."""
    z_nk = RNG.normal(size=(80, 2)).astype(np.float32) * np.array([1e9, 1e-3], np.float32)
    assert diagnostics.examine(z_nk, CURVE, 4.0)["dead_units"] == 0


def test_active_threshold_is_absolute_with_a_prior():
    z_nk = RNG.normal(size=(500, 3)) * np.array([0.2, 0.05, 1.0])  # variances .04, .0025, 1
    assert diagnostics.examine(z_nk, CURVE, 4.0, prior=True)["active_units"] == 2
    stuck = diagnostics.examine(z_nk * 0.01, CURVE, 7.99, prior=True)
    assert stuck["active_units"] == 0
    assert [text.split(":")[0].split(" no ")[0] for text in stuck["warnings"]] == [
        "Collapsed",
        "Reconstructs test rows",
    ]
    assert diagnostics.examine(z_nk * 0.01, CURVE, 4.0)["active_units"] == 2  # without a prior the scale has no meaning


def test_an_error_as_high_as_that_of_pca_gives_no_warning():
    curve = np.linspace(784.0, 0.0, 785)  # white: one component explains a 784th
    assert diagnostics.examine(RNG.normal(size=(40, 1)), curve, 783.0)["warnings"] == []


def test_codings_that_are_not_finite_give_a_warning():
    z_nk = RNG.normal(size=(40, 2))
    z_nk[3, 1] = np.inf
    panel = diagnostics.examine(z_nk, CURVE, 4.0)
    assert panel["effective_rank"] is None
    assert panel["warnings"] == ["Codings of some test rows are not finite."]


def test_every_completed_run_has_a_panel():
    dataset = small_dataset()
    hyper = {"learning_rate": 0.01, "l2": 0.0}
    sweep = Sweep(dataset="digits", widths=(4, 3), epochs=1, batch_size=64, hyper=hyper)
    fit = train.fit(sweep.build(12), dataset, seed=0, epochs=1, batch_size=18, learning_rate=0.01, l2=0.0)
    scored = scoring.score_run(sweep, 0, hyper, dataset, fit)
    row = scored.row
    arrays = scored.arrays
    assert row["status"] == "completed"
    assert row["health"]["codings"] == 3
    assert 1 <= row["health"]["effective_rank"] <= 3
    assert diagnostics.effective_rank(arrays["codings/spectrum"]) == row["health"]["effective_rank"]
    np.testing.assert_allclose(arrays["activations/counts"].sum(axis=1), len(dataset.x_test))
    assert arrays["codings/test"].shape == (len(dataset.x_test), 2)
    dead = fit._replace(params={**fit.params, "encoder": {n: _zero(v) for n, v in fit.params["encoder"].items()}})
    row = scoring.score_run(sweep, 0, hyper, dataset, dead).row
    assert row["status"] == "completed"
    assert "Collapsed: every test row has the same codings." in row["health"]["warnings"]


def test_histogram_of_a_sparse_coding_leaves_out_zeros():
    dataset = small_dataset()
    hyper: dict[str, Any] = {"learning_rate": 0.01, "active": 1.0, "revive": 0.0, "l2": 0.0}
    fields = {"variant": variants.topk, "widths": (3,), "activation": jax.nn.relu, "epochs": 1, "batch_size": 64}
    sweep = Sweep(dataset="digits", hyper=hyper, **fields)
    autoencoder = sweep.build(12)
    fit = train.fit(autoencoder, dataset, seed=0, epochs=1, batch_size=18, **hyper)
    arrays = scoring.score_run(sweep, 0, hyper, dataset, fit).arrays
    z_nk = np.asarray(autoencoder.encode(fit.params, jnp.asarray(dataset.floats(dataset.x_test))))
    share_k = (z_nk != 0).mean(axis=0)
    assert (share_k < 0.9).any()
    for unit, counts, active in zip(
        *(arrays[f"activations/{name}"] for name in ("units", "counts", "active")), strict=True
    ):
        assert active == pytest.approx(share_k[unit] if share_k[unit] < 0.9 else 1.0)
        values = (z_nk[:, unit] != 0).sum() if 0 < share_k[unit] < 0.9 else len(z_nk)
        assert counts.sum() == values


def test_map_of_many_codings_shows_the_plane_in_which_they_vary_most():
    dataset = small_dataset()
    hyper: dict[str, Any] = {"learning_rate": 0.01, "l2": 0.0}
    sweep = Sweep(dataset="digits", widths=(5,), epochs=1, batch_size=64, hyper=hyper)
    autoencoder = sweep.build(12)
    fit = train.fit(autoencoder, dataset, seed=0, epochs=1, batch_size=18, **hyper)
    arrays = scoring.score_run(sweep, 0, hyper, dataset, fit).arrays
    z_nk = np.asarray(autoencoder.encode(fit.params, jnp.asarray(dataset.floats(dataset.x_test))), np.float64)
    plane_n2 = PCA(2).fit_transform(z_nk)
    signs_2 = np.sign((plane_n2 * arrays["codings/test"]).sum(axis=0))
    np.testing.assert_allclose(arrays["codings/test"], plane_n2 * signs_2, atol=1e-4)


def _zero(layer):
    return {name: np.zeros_like(value) for name, value in layer.items()}


def make_panel(**changes):
    panel = {"codings": 7, "active_units": 6, "dead_units": 1, "effective_rank": 4.5, "pca_effective_rank": 6.0}
    return {**panel, "share_nonzero": 0.25, "warnings": [], **changes}


def test_summary_has_a_health_section_with_means_and_warnings(tmp_path, capsys):
    collapsed = make_panel(active_units=0, warnings=["Collapsed: every test row has the same codings."])
    rows = [
        make(seed=0, health=make_panel()),
        make(seed=1, health=make_panel(active_units=5)),
        make("b", health=collapsed),
    ]
    text, _ = write(tmp_path, rows, {})
    section = text.split("## Health")[1].split("\n## ")[0]
    assert "| stacked | blobs | 7 | 5.50 | 1.00 | 4.50 | 6.00 | 0.250 |" in section
    assert "* **Warning**: b, 7 codings, 1 of 1 runs: Collapsed: every test row has the same codings." in section
    assert "No warnings." not in section
    assert "health.effective_rank" in (tmp_path / "summary.csv").read_text().splitlines()[0]
    progress.TerminalProgress().summarise(run_experiment.Outcome(tmp_path, rows, [row["run_id"] for row in rows], []))
    assert "warning: b, 7 codings, 1 of 1 runs: Collapsed" in capsys.readouterr().out


def test_warnings_of_one_kind_are_reported_in_one_line():
    rank = "Collapsed: the 7 codings vary along one direction only (effective rank 1.0{}, PCA's is 6.00)."
    settings = group_settings([make(seed=i, health=make_panel(warnings=[rank.format(i)])) for i in range(3)])
    (line,) = health_table.warnings(settings)
    assert line.startswith("stacked, 7 codings, 3 of 3 runs, for example: Collapsed: the 7 codings vary")


def test_the_table_holds_the_setting_that_is_best_on_validation_alone():
    rows = [
        make(sse=8.0, hyper={"learning_rate": 0.1}, health=make_panel(active_units=3)),
        make(sse=9.0, hyper={"learning_rate": 0.2}, health=make_panel(active_units=4)),
    ]
    table = health_table.paragraphs(group_settings(rows))[2]
    assert [line.split("|")[4].strip() for line in table.splitlines()[2:]] == ["3.00"]


def test_warnings_are_counted_out_of_completed_runs():
    """A run that diverged has no diagnostics: it could not have the warning."""
    warning = "Collapsed: every test row has the same codings."
    rows = [make(seed=0, health=make_panel(warnings=[warning])), make(seed=1, status="diverged")]
    assert health_table.warnings(group_settings(rows)) == [f"stacked, 7 codings, 1 of 1 runs: {warning}"]


def test_runs_without_a_panel_have_no_health_section(tmp_path):
    text, _ = write(tmp_path, [make()], {})
    assert "## Health" not in text
    assert "health." not in (tmp_path / "summary.csv").read_text()
