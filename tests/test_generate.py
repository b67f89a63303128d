"""`aejax sample`, `interpolate` and `traverse`: decoded rows against a computation by hand, and errors."""

import dataclasses
import json
import shutil
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from aejax import cli, nets, variants
from aejax.datasets import load
from aejax.datasets.images import example_rows
from aejax.evaluation import artifacts, density, scores
from aejax.inference import generate, output, stored_run
from aejax.storage import run_folders
from aejax.variants import Generative
from support import check_refused, rows_of, small_dataset


@pytest.fixture(scope="module")
def run(finished):
    row = next(row for row in rows_of(finished) if row["codings"] == 3)
    return finished / "runs" / row["run_id"]


def run_command(*arguments):
    assert cli.main([str(argument) for argument in arguments]) == 0


def decoded(run, z_nk):
    loaded = stored_run.load(run)
    x_nd = loaded.autoencoder.decode(loaded.params, jnp.asarray(z_nk, jnp.float32))
    return np.asarray(x_nd) * 16  # digits are 0 … 16


def encoded(run, x_nd):
    loaded = stored_run.load(run)
    return np.asarray(loaded.autoencoder.encode(loaded.params, x_nd.astype(np.float32) / 16))


def test_samples_are_decoded_draws_of_the_stored_gaussian(run, tmp_path):
    run_command("sample", run, "--images", 500, "--out", tmp_path / "x.npy")
    x = np.load(tmp_path / "x.npy", allow_pickle=False)
    assert (x.shape, x.dtype) == ((500, 8, 8), np.float32)
    training = decoded(run, encoded(run, load("digits").x_train)).reshape(-1, 64)
    spread = training.std(axis=0).max()
    np.testing.assert_allclose(x.reshape(-1, 64).mean(axis=0), training.mean(axis=0), atol=0.25 * spread)
    np.testing.assert_allclose(x.reshape(-1, 64).std(axis=0), training.std(axis=0), atol=0.2 * spread)
    run_command("sample", run, "--images", 500, "--out", tmp_path / "again.npy")
    run_command("sample", run, "--images", 500, "--seed", 1, "--out", tmp_path / "other.npy")
    assert (tmp_path / "again.npy").read_bytes() == (tmp_path / "x.npy").read_bytes()
    assert (tmp_path / "other.npy").read_bytes() != (tmp_path / "x.npy").read_bytes()


def test_a_stored_mixture_is_the_default_density(run, tmp_path, monkeypatch):
    """Its only component is one point, far from the codings that the Gaussian is fitted to."""
    point_k = np.full(3, 100.0)
    mixture = density.Density(np.ones(1), point_k[None], np.zeros((1, 3, 3)), np.zeros(3))
    stored = run_folders.read_run(run)
    stored = stored._replace(arrays=stored.arrays | mixture.arrays("density/mixture"))
    monkeypatch.setattr(run_folders, "read_run", lambda path: stored)
    run_command("sample", run, "--images", 4, "--out", tmp_path / "x.npy")
    x = np.load(tmp_path / "x.npy", allow_pickle=False).reshape(4, 64)
    np.testing.assert_allclose(x, np.repeat(decoded(run, point_k[None]), 4, axis=0), rtol=1e-4, atol=0.01)


def test_a_table_holds_seven_significant_digits():
    x_nd = np.array([[123456.71, 0.0012345671], [-98.76543, 0.0]])
    assert output.to_csv(x_nd) == b"123456.7,0.001234567\n-98.76543,0\n"


def test_a_picture_has_a_tile_for_every_sample(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run_command("sample", run, "--images", 7)
    run_command("sample", run, "--images", 7, "--out", "x.npy")
    x = np.clip(np.load("x.npy", allow_pickle=False) / 16, 0, 1)
    with Image.open("samples.png") as opened:
        picture = np.asarray(opened)
    assert picture.dtype == np.uint8
    scale = 64 // 8
    gap = 1
    for i in range(7):  # three columns: the square root of 7 / 0.6
        top = (i // 3) * (8 + gap) * scale
        left = (i % 3) * (8 + gap) * scale
        tile = picture[top : top + 8 * scale : scale, left : left + 8 * scale : scale]
        np.testing.assert_allclose(tile / 255, x[i], atol=0.003)


def test_interpolations_start_and_end_at_reconstructions_of_the_rows(run, tmp_path):
    run_command("interpolate", run, 3, 11, 200, 4, "--steps", 5, "--out", tmp_path / "x.npy")
    x = np.load(tmp_path / "x.npy", allow_pickle=False).reshape(2, 5, 64)
    z_nk = encoded(run, load("digits").x_test[[3, 11, 200, 4]])
    np.testing.assert_allclose(x[:, [0, -1]].reshape(4, 64), decoded(run, z_nk), atol=1e-3)
    np.testing.assert_allclose(x[0, 2], decoded(run, z_nk[:2].mean(axis=0, keepdims=True))[0], atol=1e-3)


def test_rows_whose_codings_are_not_stored_are_encoded_from_the_data(run, tmp_path, monkeypatch):
    stored = run_folders.read_run(run)
    few = stored._replace(arrays={**stored.arrays, "codings/first": stored.arrays["codings/first"][:4]})
    run_command("interpolate", run, 3, 200, "--out", tmp_path / "x.npy")
    monkeypatch.setattr(run_folders, "read_run", lambda path: few)
    run_command("interpolate", run, 3, 200, "--out", tmp_path / "y.npy")
    x, y = (np.load(tmp_path / name, allow_pickle=False) for name in ("x.npy", "y.npy"))
    np.testing.assert_allclose(x, y, atol=1e-4)


def test_rows_that_are_not_stored_come_from_the_split_of_the_runs_data_seed(run, tmp_path, monkeypatch):
    stored = run_folders.read_run(run)
    config = stored.row["config"] | {"data_seed": 3}
    arrays = {**stored.arrays, "codings/first": stored.arrays["codings/first"][:4]}
    other = stored._replace(row={**stored.row, "config": config}, arrays=arrays)
    monkeypatch.setattr(run_folders, "read_run", lambda path: other)
    run_command("interpolate", run, 200, 3, "--steps", 2, "--out", tmp_path / "x.npy")
    x = np.load(tmp_path / "x.npy", allow_pickle=False).reshape(2, 64)
    z_nk = encoded(run, load("digits", seed=3).x_test[[200, 3]])
    np.testing.assert_allclose(x, decoded(run, z_nk), atol=1e-3)


def test_an_arc_keeps_the_norm_and_a_line_is_straight():
    ends = np.array([[2.0, 0, 0], [0, 2.0, 0]])
    arc = artifacts.interpolate(ends, 5, spherical=True)
    line = artifacts.interpolate(ends, 5)
    np.testing.assert_allclose(np.linalg.norm(arc, axis=1), 2, rtol=1e-6)
    angles = np.degrees(np.arctan2(arc[:, 1], arc[:, 0]))
    np.testing.assert_allclose(angles, [0, 22.5, 45, 67.5, 90], atol=1e-4)
    np.testing.assert_allclose(line[2], [1, 1, 0])
    for degenerate in (np.zeros((2, 3)), np.array([[1.0, 0, 0], [3.0, 0, 0]]), np.array([[1.0, 0, 0], [-1.0, 0, 0]])):
        np.testing.assert_allclose(artifacts.interpolate(degenerate, 4, True), artifacts.interpolate(degenerate, 4))
    np.testing.assert_allclose(np.linalg.norm(artifacts.interpolate(ends * [[1], [3]], 3, True), axis=1), [2, 4, 6])


def test_a_traversal_moves_one_coding_over_its_quantiles(run, tmp_path):
    run_command("traverse", run, "--out", tmp_path / "x.npy")
    z_nk = encoded(run, load("digits").x_train)
    levels = len(artifacts.TRAVERSAL_QUANTILES)
    x = np.load(tmp_path / "x.npy", allow_pickle=False).reshape(3, levels, 64)
    for i in range(3):
        z = np.repeat(z_nk.mean(axis=0, keepdims=True), levels, axis=0)
        z[:, i] = np.quantile(z_nk[:, i], artifacts.TRAVERSAL_QUANTILES)
        np.testing.assert_allclose(x[i], decoded(run, z), atol=0.01)
    run_command("traverse", run, "--codings", 2, "--row", 9, "--out", tmp_path / "y.npy")
    y = np.load(tmp_path / "y.npy", allow_pickle=False).reshape(levels, 64)
    base = encoded(run, load("digits").x_test[9:10]).copy()
    base[0, 2] = np.quantile(z_nk[:, 2], 0.5)
    np.testing.assert_allclose(y[3], decoded(run, base)[0], atol=0.01)


def test_of_many_codings_those_with_the_largest_spread_are_traversed(run, tmp_path, monkeypatch):
    monkeypatch.setattr(generate, "MAX_TRAVERSED", 2)
    low, high = np.quantile(encoded(run, load("digits").x_train), [0.01, 0.99], axis=0)
    widest = sorted(np.argsort(high - low)[1:].tolist())
    run_command("traverse", run, "--out", tmp_path / "x.npy")
    run_command("traverse", run, "--codings", *widest, "--out", tmp_path / "y.npy")
    assert (tmp_path / "x.npy").read_bytes() == (tmp_path / "y.npy").read_bytes()


def test_samples_and_traversals_read_no_dataset(run, tmp_path, monkeypatch):
    monkeypatch.setattr("aejax.datasets.load", None)  # would fail if it were called
    run_command("sample", run, "--out", tmp_path / "s.png")
    run_command("traverse", run, "--out", tmp_path / "t.png")
    run_command("interpolate", run, "--out", tmp_path / "i.png")  # the first test rows' codings are stored
    for name in "sti":
        with Image.open(tmp_path / f"{name}.png") as picture:
            assert picture.size[0] > 100


def variational(loaded):
    """The same run with a prior; a sample of its likelihood is the decoder's output plus 1."""
    unused: Any = None

    def sample(params, key, z_bk):
        return loaded.autoencoder.decode(params, z_bk) + 1

    generative = Generative(sample, unused, unused, unused, False)
    return dataclasses.replace(loaded, autoencoder=loaded.autoencoder._replace(generative=generative))


def test_a_prior_is_standard_normal_and_noise_samples_the_likelihood(run, tmp_path, monkeypatch):
    loaded = variational(stored_run.load(run))
    monkeypatch.setattr(stored_run, "load", lambda path: loaded)
    run_command("sample", run, "--images", 4000, "--out", tmp_path / "x.npy")
    run_command("sample", run, "--images", 4000, "--density", "prior", "--noise", "--out", tmp_path / "y.npy")
    x, y = (np.load(tmp_path / name, allow_pickle=False).reshape(-1, 64) for name in ("x.npy", "y.npy"))
    np.testing.assert_allclose(y, x + 16, atol=1e-2)
    kernel = loaded.params["decoder"]["layer_0"]["kernel"]  # a linear decoder: the covariance of samples is K'K
    np.testing.assert_allclose(np.cov(x.T / 16), kernel.T @ kernel, atol=0.12 * np.abs(kernel.T @ kernel).max())
    run_command("traverse", run, "--codings", 1, "--out", tmp_path / "t.npy")
    t = np.load(tmp_path / "t.npy", allow_pickle=False).reshape(-1, 64) / 16
    bias = loaded.params["decoder"]["layer_0"]["bias"]
    np.testing.assert_allclose(t, np.outer(artifacts.TRAVERSAL_DEVIATIONS, kernel[1]) + bias, atol=1e-3)


def test_noise_is_independent_of_the_codings(run, tmp_path, monkeypatch):
    """A likelihood that draws normal noise with its key must not draw the codings once more."""
    loaded = variational(stored_run.load(run))
    draws: list[Any] = []

    def sample(params, key, z_nk):
        draws.append((jax.random.normal(key, z_nk.shape).ravel(), z_nk.ravel()))
        return loaded.autoencoder.decode(params, z_nk)

    generative = loaded.autoencoder.generative
    assert generative is not None
    autoencoder = loaded.autoencoder._replace(generative=generative._replace(sample=sample))
    noisy = dataclasses.replace(loaded, autoencoder=autoencoder)
    monkeypatch.setattr(stored_run, "load", lambda path: noisy)
    run_command("sample", run, "--images", 4000, "--density", "prior", "--noise", "--out", tmp_path / "x.npy")
    (draw,) = draws
    assert abs(np.corrcoef(draw)[0, 1]) < 0.05


def test_wrong_options_get_a_one_line_error(run, tmp_path, capsys):
    out = ("--out", tmp_path / "x.npy")
    check_refused(capsys, ["sample", run, "--density", "prior", *out], 2, "--density", "prior", "gaussian")
    check_refused(capsys, ["sample", run, "--density", "mixture", *out], 2, "scores=[scores.density()]")
    check_refused(capsys, ["sample", run, "--density", "mixtrue", *out], 2, "did you mean mixture?")
    check_refused(capsys, ["sample", run, "--images", 0, *out], 2, "--images", "0")
    check_refused(capsys, ["sample", run, "--seed", -1, *out], 2, "--seed", "-1")
    check_refused(capsys, ["sample", run, "--noise", *out], 2, "--noise", "gaussian")
    check_refused(capsys, ["sample", run, "--out", tmp_path / "x.csv"], 2, "x.csv", ".npy or .png")
    check_refused(capsys, ["sample", run, "--out", tmp_path / "no/x.npy"], 5, "no such folder")
    check_refused(capsys, ["sample", tmp_path, *out], 4, "no manifest.json")
    check_refused(capsys, ["interpolate", run, 1, 2, 3, *out], 2, "3 rows", "even")
    check_refused(capsys, ["interpolate", run, 1, 99999, *out], 2, "99999", "358")
    check_refused(capsys, ["interpolate", run, 1, 2, "--steps", 1, *out], 2, "--steps")
    check_refused(capsys, ["traverse", run, "--codings", 3, *out], 2, "--codings", "from 0 to 2")
    check_refused(capsys, ["traverse", run, "--row", 359, *out], 2, "--row", "359")
    assert not (tmp_path / "x.npy").exists()


def test_a_run_without_the_needed_arrays_is_refused(run, tmp_path, capsys, monkeypatch):
    stored = run_folders.read_run(run)
    old = stored._replace(arrays={name: stored.arrays[name] for name in ("scaling/offset", "scaling/scale")})
    monkeypatch.setattr(run_folders, "read_run", lambda path: old)
    out = ("--out", tmp_path / "x.npy")
    check_refused(capsys, ["sample", run, *out], 2, "no density", "--again")
    check_refused(capsys, ["traverse", run, *out], 2, "codings/quantiles", "--again")


@pytest.mark.slow
def test_rows_that_are_not_images_give_a_table_in_raw_units(tmp_path, capsys):
    rng = np.random.default_rng(0)
    table = rng.normal(size=(90, 2)) @ rng.normal(size=(2, 5)) * 40 + 1000 + rng.normal(size=(90, 5))
    np.savetxt(tmp_path / "table.csv", table, delimiter=",")
    (tmp_path / "table.py").write_text(
        "from aejax import Sweep, scores\n"
        f"SWEEPS = [Sweep(dataset='file:{tmp_path / 'table.csv'}', widths=(2,), epochs=400, batch_size=None,\n"
        "    hyper={'learning_rate': 0.05, 'l2': 0.0}, scores=(scores.density(components=2),))]\n"
    )
    run_command("run", tmp_path / "table.py", "--results", tmp_path / "results")
    (row,) = rows_of(tmp_path / "results/table")
    run = tmp_path / "results/table/runs" / row["run_id"]
    run_command("sample", run, "--images", 400, "--out", tmp_path / "x.csv")
    x = np.loadtxt(tmp_path / "x.csv", delimiter=",")
    assert x.shape == (400, 5)
    np.testing.assert_allclose(x.mean(axis=0), table.mean(axis=0), atol=0.4 * table.std(axis=0).max())
    capsys.readouterr()
    check_refused(capsys, ["sample", run, "--out", tmp_path / "x.png"], 2, "no images", ".csv")
    mixture = density.from_arrays(run_folders.read_run(run).arrays, "density/mixture")
    assert mixture is not None
    assert mixture.means_ck.shape == (2, 2)
    assert not [name for name in run_folders.read_run(run).arrays if name.startswith(("samples/", "traversals/"))]
    text = (tmp_path / "results/table/summary.md").read_text()
    assert "spectrum.png" in text
    assert "samples.png" not in text
    assert "log q(z), mixture" in text


def test_arrays_of_the_figures_match_rows_and_codings(finished):
    row = next(row for row in rows_of(finished) if row["codings"] == 3)
    run = finished / "runs" / row["run_id"]
    dataset = load("digits")
    arrays = run_folders.read_run(run).arrays
    z_nk = encoded(run, dataset.x_test)
    np.testing.assert_allclose(arrays["codings/first"], z_nk[: len(arrays["codings/first"])], atol=1e-5)
    for i, images in zip(arrays["activating/units"], arrays["activating/images"], strict=True):
        most = np.argsort(-z_nk[:, i], kind="stable")[: len(images)]
        assert z_nk[most, i].min() >= np.sort(z_nk[:, i])[-len(images)] - 1e-5
        np.testing.assert_allclose(images / 255 * 16, dataset.x_test[most], atol=0.05)
    samples, nearest = (arrays[f"samples/gaussian/{name}"] / 255 for name in ("images", "nearest"))
    train = dataset.x_train / 16
    np.testing.assert_allclose(arrays["features/deviation"], train.std(axis=0), rtol=1e-3, atol=1e-6)
    assert samples.shape == nearest.shape == (60, 64)
    loaded = stored_run.load(run)
    key = jax.random.split(jax.random.key(row["seed"]), 3)[1]
    fitted = density.from_arrays(arrays, "density/gaussian")
    assert fitted is not None
    drawn = np.asarray(loaded.autoencoder.decode(loaded.params, density.sample(fitted, key, 60)))
    np.testing.assert_allclose(samples, np.clip(drawn, 0, 1), atol=0.003)
    distance_mn = np.linalg.norm(drawn[:, None] - train[None], axis=2)
    np.testing.assert_allclose(arrays["samples/gaussian/distance"], distance_mn.min(axis=1), rtol=1e-4)
    np.testing.assert_allclose(nearest, train[distance_mn.argmin(axis=1)], atol=0.003)
    ends = arrays["interpolations/ends"].reshape(-1, 64) / 255
    assert ((np.abs(ends[:, None] - dataset.x_test[None] / 16).max(axis=2) < 0.003).any(axis=1)).all()
    size = sum(array.nbytes for array in arrays.values())
    assert size < 300_000


@pytest.mark.parametrize("classes", [1, 3, 36])
def test_examples_cover_every_class_and_are_then_the_first_rows(classes):
    data = small_dataset()
    labels = np.arange(36) // (36 // classes)
    rows = example_rows(dataclasses.replace(data, y_test=labels))
    assert len(set(rows)) == 10
    assert set(labels[rows]) >= set(range(min(classes, 10)))
    np.testing.assert_array_equal(example_rows(data), range(10))


@pytest.mark.parametrize("count", [1, 2, 36])
def test_interpolations_exist_for_few_test_rows_and_one_class(count):
    """A single class once gave a single example, and so no pair to interpolate between."""
    data = small_dataset()
    data = dataclasses.replace(data, x_test=data.x_test[:count], y_test=np.zeros(count, int), image_shape=(4, 3))
    autoencoder = variants.plain(nets.mlp(12, (3,)))
    params = autoencoder.init(jax.random.key(0))
    trained = scores.TrainedRun(autoencoder, params, {}, data, 3, jax.random.key(0))
    images = artifacts.collect(trained, {})["interpolations/images"]
    assert images.shape == (max(1, min(8, count) // 2), artifacts.INTERPOLATION_STEPS, 12)


def test_nearest_finds_a_copied_row():
    dataset = load("digits")
    which, distance = artifacts.nearest(dataset, dataset.floats(dataset.x_train[[5, 700, 1200]]))
    np.testing.assert_allclose(distance, 0, atol=1e-6)
    np.testing.assert_array_equal(dataset.x_train[which], dataset.x_train[[5, 700, 1200]])


def test_report_works_on_rows_without_health(finished, tmp_path):
    """Older rows lack the field `health`: their report has fewer figures and no message about them."""
    shutil.copytree(finished, tmp_path / "tiny")
    shutil.rmtree(tmp_path / "tiny/runs")
    lines = [json.loads(line) for line in (tmp_path / "tiny/runs.jsonl").read_text().splitlines()]
    for line in lines:
        del line["sha256"]  # the hash of the unchanged line
    old = [{name: value for name, value in line.items() if name != "health"} for line in lines]
    for name, kept in (("old", old), ("new", lines)):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "runs.jsonl").write_text("".join(json.dumps(line) + "\n" for line in kept))
        run_command("report", folder)
        text = (folder / "summary.md").read_text()
        assert ("samples.png" in text or "New images" in text) == (name == "new")
        assert text.count("**Not drawn:**") == (11 if name == "new" else 5)
