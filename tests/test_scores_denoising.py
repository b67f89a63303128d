"""The denoising score: its baselines are compared with other derivations, its numbers with their definitions."""

import dataclasses
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aejax import nets, variants
from aejax.config.sweep import Sweep
from aejax.evaluation import pca, scores
from aejax.evaluation.scores.base import TrainedRun
from aejax.evaluation.scores.denoising import best_affine_map, pca_curve
from aejax.reporting.figures import denoised as figure_module
from aejax.reporting.figures import draw
from aejax.reporting.settings import group_settings
from aejax.runtime.errors import ConfigError
from aejax.variants.denoising import corrupt
from fabricated import arrays_of, make
from support import small_dataset

INPUTS = 12
KEY = jax.random.key(3)
NOISES = [("gaussian", 0.3, {}), ("masking", 0.4, {}), ("salt_and_pepper", 0.3, {"pepper": -0.5, "salt": 1.5})]


def trained(params_of=lambda net: net.init(jax.random.key(0)), codings=3, dataset=None):
    dataset = dataset or small_dataset(rows=600)
    net = nets.mlp(INPUTS, (codings,), precision="highest")
    return TrainedRun(variants.plain(net), params_of(net), {}, dataset, codings, KEY)


def measured(score, run) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    return score(run)


def pca_parameters(reference, k):
    """Parameters of the linear autoencoder that equals PCA with k components."""
    components_kd = jnp.asarray(reference.params.components_kd[:k], jnp.float32)
    mean_d = jnp.asarray(reference.params.mean_d, jnp.float32)
    encoder = {"kernel": components_kd.T, "bias": -components_kd @ mean_d}
    return {"encoder": {"layer_0": encoder}, "decoder": {"layer_0": {"kernel": components_kd, "bias": mean_d}}}


@pytest.mark.parametrize(("noise", "level", "ends"), NOISES)
def test_pca_curve_is_the_error_of_decoding_the_codings_of_noisy_rows(noise, level, ends):
    dataset = small_dataset()
    params = pca.fit(dataset.x_train, unit=dataset.unit)
    clean_nd = dataset.floats(dataset.x_test)
    noisy_nd = np.asarray(corrupt(KEY, jnp.asarray(clean_nd), level, noise, **ends))
    curve = pca_curve(params, clean_nd, noisy_nd)
    assert curve.shape == (INPUTS + 1,)
    for k in (0, 1, 5, INPUTS):
        first = params._replace(components_kd=params.components_kd[:k])
        decoded_nd = np.asarray(pca.decode(first, pca.encode(first, jnp.asarray(noisy_nd))))
        assert curve[k] == pytest.approx(np.square(decoded_nd - clean_nd).sum(), rel=1e-5)
    assert curve[INPUTS] == pytest.approx(
        np.square(noisy_nd - clean_nd).sum(), rel=1e-6
    )  # all components remove no noise


@pytest.mark.parametrize(("noise", "level", "ends"), NOISES)
def test_best_affine_map_is_the_regression_of_clean_on_noisy_rows(noise, level, ends):
    """Compared with least squares on 400 noisy copies of every row that PCA was fitted on."""
    dataset = small_dataset()
    copies = 400
    rows_nd = np.concatenate([dataset.x_train, dataset.x_validation])
    clean_nd = np.tile(dataset.floats(rows_nd), (copies, 1)).astype(np.float64)
    noisy_nd = np.asarray(corrupt(KEY, jnp.asarray(clean_nd, jnp.float32), level, noise, **ends), np.float64)
    with_ones_nd = np.column_stack([noisy_nd, np.ones(len(noisy_nd))])
    fitted = np.linalg.lstsq(with_ones_nd, clean_nd, rcond=None)[0]
    least = np.square(with_ones_nd @ fitted - clean_nd).sum(axis=1).mean()
    denoise = best_affine_map(pca.fit(rows_nd, unit=dataset.unit), noise, level, **ends)
    error = np.square(denoise(noisy_nd) - clean_nd).sum(axis=1).mean()
    assert least <= error < 1.005 * least
    np.testing.assert_allclose(denoise(noisy_nd[:50]), with_ones_nd[:50] @ fitted, atol=0.05)


@pytest.mark.parametrize(("noise", "level", "ends"), NOISES)
def test_best_affine_map_of_a_rank_is_reduced_rank_regression(noise, level, ends):
    """Compared with a singular value decomposition of the least-squares fit on 400 noisy copies of every row."""
    dataset = small_dataset()
    copies = 400
    clean_nd = np.tile(dataset.floats(dataset.x_train), (copies, 1)).astype(np.float64)
    noisy_nd = np.asarray(corrupt(KEY, jnp.asarray(clean_nd, jnp.float32), level, noise, **ends), np.float64)
    params = pca.fit(dataset.x_train, unit=dataset.unit)
    mean_d = clean_nd.mean(axis=0)
    centred_nd = noisy_nd - noisy_nd.mean(axis=0)
    fitted_nd = centred_nd @ np.linalg.lstsq(centred_nd, clean_nd - mean_d, rcond=None)[0]
    directions_dd = np.linalg.svd(fitted_nd, full_matrices=False)[2]
    errors = []
    for rank in (1, 4, INPUTS):
        first_rd = directions_dd[:rank]
        least = np.square(fitted_nd @ first_rd.T @ first_rd + mean_d - clean_nd).sum(axis=1).mean()
        denoised_nd = best_affine_map(params, noise, level, **ends, rank=rank)(noisy_nd)
        assert np.linalg.matrix_rank(denoised_nd[:100] - denoised_nd[:100].mean(axis=0), tol=1e-9) == rank
        errors.append(np.square(denoised_nd - clean_nd).sum(axis=1).mean())
        assert least <= errors[-1] < 1.005 * least
    assert errors == sorted(errors, reverse=True)
    whole_nd = best_affine_map(params, noise, level, **ends)(noisy_nd)
    np.testing.assert_allclose(best_affine_map(params, noise, level, **ends, rank=99)(noisy_nd), whole_nd)


def test_best_affine_map_for_gaussian_noise_shrinks_every_component():
    dataset = small_dataset()
    level = 0.3
    params = pca.fit(dataset.x_train, unit=dataset.unit)
    variances_k = params.variances_k * (params.rows - 1) / params.rows
    shrunk_k = variances_k / (variances_k + level**2)
    x_nd = dataset.floats(dataset.x_test).astype(np.float64)
    wanted = params.mean_d + (x_nd - params.mean_d) @ (params.components_kd.T * shrunk_k) @ params.components_kd
    np.testing.assert_allclose(best_affine_map(params, "gaussian", level)(x_nd), wanted, atol=1e-9)
    shrunk_k[3:] = 0  # rank 3 keeps the leading components
    wanted = params.mean_d + (x_nd - params.mean_d) @ (params.components_kd.T * shrunk_k) @ params.components_kd
    np.testing.assert_allclose(best_affine_map(params, "gaussian", level, rank=3)(x_nd), wanted, atol=1e-9)


def test_best_affine_map_of_rank_one_keeps_what_can_be_restored():
    """Masking hides a wide column far from zero, whose values vary more than those of a narrow one around zero.

    With independent columns of mean m and variance v the map multiplies each by b = a v / (a^2 v + D), where the share
    a of values is kept and D = a (1 - a) (m^2 + v). It restores the variance a b v.
    """
    rng = np.random.default_rng(0)
    white_n2 = np.sqrt(200) * np.linalg.qr(rng.normal(size=(200, 3)) * [0, 1, 1] + [1, 0, 0])[0][:, 1:]
    mean_2 = np.array([20.0, 0.0])
    variance_2 = np.array([4.0, 1.0])
    x_n2 = white_n2 * np.sqrt(variance_2) + mean_2
    kept = 0.7
    factor_2 = kept * variance_2 / (kept**2 * variance_2 + kept * (1 - kept) * (mean_2**2 + variance_2))
    restored_2 = kept * factor_2 * variance_2
    assert restored_2[0] < restored_2[1]
    wanted_n2 = mean_2 + (x_n2 - kept * mean_2) * factor_2 * [0, 1]
    denoise = best_affine_map(pca.fit(x_n2), "masking", 1 - kept, rank=1)
    np.testing.assert_allclose(denoise(x_n2), wanted_n2, atol=1e-6)


def test_best_affine_map_of_constant_columns_and_without_noise():
    data = np.zeros((50, 6), np.float32)
    data[:, :3] = np.random.default_rng(0).uniform(size=(50, 3))
    params = pca.fit(data)
    for noise in variants.NOISES:
        for level in (0.0, 0.5, 1.0):
            assert np.isfinite(best_affine_map(params, noise, level)(data)).all()
        np.testing.assert_allclose(best_affine_map(params, noise, 0.0)(data), data, atol=1e-7)


def test_an_autoencoder_that_equals_pca_has_the_numbers_of_pca():
    run = trained()
    numbers, arrays = measured(
        scores.denoising(level=0.3), dataclasses.replace(run, params=pca_parameters(run.reference, 3))
    )
    assert numbers["denoised_sse_test"] == pytest.approx(numbers["pca_denoised_sse_test"], rel=1e-4)
    assert numbers["noisy_sse_test"] == pytest.approx(INPUTS * 0.3**2, rel=0.05)
    best = numbers["pca_best_components"]
    again, _ = measured(
        scores.denoising(level=0.3), trained(lambda net: pca_parameters(run.reference, best), codings=best)
    )
    assert again["denoised_sse_test"] == pytest.approx(numbers["pca_best_denoised_sse_test"], rel=1e-4)
    assert again["denoised_ratio"] == pytest.approx(1.0, rel=1e-4)
    validation = [
        measured(scores.denoising(level=0.3), trained(lambda net, k=k: pca_parameters(run.reference, k), codings=k))[0]
        for k in (best - 1, best, best + 1)
    ]
    errors = [result["denoised_sse_validation"] for result in validation]
    assert min(errors) == errors[1]  # k is chosen by this error
    assert numbers["affine_denoised_sse_test"] < numbers["pca_best_denoised_sse_test"]
    rank_error = numbers["affine_rank_denoised_sse_test"]
    assert numbers["affine_denoised_sse_test"] < rank_error < numbers["pca_denoised_sse_test"]
    assert {name: array.shape for name, array in arrays.items()} == {
        f"denoising/{kind}": (10, INPUTS) for kind in ("clean", "noisy", "denoised", "pca", "affine")
    }
    np.testing.assert_allclose(arrays["denoising/clean"], run.dataset.floats(run.dataset.x_test[:10]))


def test_noise_is_the_same_for_every_seed_and_repetitions_are_averaged():
    first, second = (
        measured(scores.denoising(level=0.3), dataclasses.replace(trained(), key=jax.random.key(s)))[0] for s in (0, 1)
    )
    assert first == second
    many = measured(scores.denoising(level=0.3, repetitions=20), trained())[0]
    assert many["noisy_sse_test"] == pytest.approx(INPUTS * 0.3**2, rel=0.02)
    assert many["noisy_sse_test"] != first["noisy_sse_test"]


def test_every_row_and_repetition_has_noise_of_its_own(monkeypatch):
    """Clean validation and test rows are zero here, so that noisy rows are the noise."""
    monkeypatch.setattr(sys.modules[best_affine_map.__module__], "BLOCK_ROWS", 10)
    zeros_nd = np.zeros((25, INPUTS), np.float32)
    x_train = np.random.default_rng(0).normal(size=(40, INPUTS)).astype(np.float32)
    labels = dict.fromkeys(("y_train", "y_validation", "y_test"))
    rows = {"x_train": x_train, "x_validation": zeros_nd, "x_test": zeros_nd}
    dataset = small_dataset().replace(name="zeros", **rows, **labels, unit=1.0)
    seen = []
    reconstruct = TrainedRun.reconstruct

    def recorded(self, x_nd):
        seen.append(x_nd)
        return reconstruct(self, x_nd)

    monkeypatch.setattr(TrainedRun, "reconstruct", recorded)
    scores.denoising(level=0.3, repetitions=4)(trained(dataset=dataset))
    drawn_nd = np.concatenate(seen)
    assert len(drawn_nd) == 2 * 4 * 25 + 10  # both splits, and the examples
    assert len(np.unique(drawn_nd, axis=0)) == len(drawn_nd)
    assert drawn_nd.std() == pytest.approx(0.3, rel=0.1)


def test_the_number_of_components_is_chosen_on_validation_rows():
    """A component is worth its noise where the mean square of its codings is above the variance of the noise.

    The validation rows vary along two columns only, the test rows along all of them.
    """
    rng = np.random.default_rng(0)
    deviations_d = np.array([4.0, 3.5, 3.0, 2.5, 2.0, 1.5])

    def draw(factor_d):
        return (rng.normal(size=(300, 6)) * deviations_d * factor_d).astype(np.float32)

    two_d = np.array([1.0, 1.0, 0.0, 0.0, 0.0, 0.0])
    rows = {"x_train": draw(1.0), "x_validation": draw(two_d), "x_test": draw(1.0)}
    labels = dict.fromkeys(("y_train", "y_validation", "y_test"))
    dataset = small_dataset().replace(name="axes", **rows, **labels, unit=1.0)
    autoencoder = variants.plain(nets.mlp(6, (3,)))
    run = TrainedRun(autoencoder, autoencoder.init(jax.random.key(0)), {}, dataset, 3, KEY)
    numbers, _ = measured(scores.denoising(level=0.8), run)
    assert numbers["pca_best_components"] == 2
    left_out = np.square(rows["x_test"][:, 2:].astype(np.float64)).sum(axis=1).mean()
    assert numbers["pca_best_denoised_sse_test"] == pytest.approx(left_out + 2 * 0.8**2, rel=0.05)


def test_settings_are_chosen_by_their_error_on_noisy_validation_rows():
    config = make()["config"] | {"scores": [scores.denoising().config()]}

    def row(rate, validation, test):
        numbers = NUMBERS | {"denoised_sse_validation": validation, "denoised_sse_test": test}
        return make(hyper={"learning_rate": rate}, config=config, scores=numbers)

    rows = [row(0.5, validation=3.0, test=4.0), row(0.25, validation=4.0, test=3.0)]
    (best,) = (setting for setting in group_settings(rows) if setting.best)
    assert best.hyper["learning_rate"] == 0.5


def test_invalid_options_are_refused_and_valid_ones_stored(refused):
    refused(ConfigError, "scores.denoising.noise", "did you mean", call=lambda: scores.denoising("gausian"))
    refused(ConfigError, "scores.denoising.level", "0 to 1", call=lambda: scores.denoising("masking", 1.5))
    refused(ConfigError, "scores.denoising.level", "nan", call=lambda: scores.denoising(level=float("nan")))
    refused(ConfigError, "scores.denoising.repetitions", "0", call=lambda: scores.denoising(repetitions=0))
    refused(ConfigError, "scores.denoising.pepper", "below", call=lambda: scores.denoising("masking", pepper=2.0))
    config = {"dataset": "digits", "widths": (4, 3), "epochs": 1, "batch_size": 64}
    config |= {"hyper": {"learning_rate": 0.01, "l2": 0.0}}
    both = (scores.denoising(), scores.denoising("masking"))
    call = lambda: Sweep(**config, scores=both)  # noqa: E731
    refused(ConfigError, "Sweep.scores[1]", "denoised_sse_test", call=call)
    sweep = Sweep(**config, scores=(scores.denoising("salt_and_pepper", 0.2, salt=2.0),))
    assert scores.from_config(sweep.config()["scores"][0]) == sweep.scores[0]


NUMBERS = {"noisy_sse_test": 9.0, "denoised_sse_test": 3.0, "denoised_sse_validation": 3.0, "denoised_ratio": 0.6}
NUMBERS |= {"pca_denoised_sse_test": 6.0, "pca_best_denoised_sse_test": 5.0, "pca_best_components": 4}
NUMBERS |= {"affine_denoised_sse_test": 4.0}


def noisy_row(label, score, codings=7):
    config = make()["config"] | {"scores": [score.config()]}
    return make(label, codings=codings, config=config, scores=NUMBERS)


def test_figure_has_a_block_for_every_noise_and_a_line_for_every_label():
    masked = scores.denoising("masking", 0.25)
    rows = [noisy_row("a", scores.denoising()), noisy_row("b", scores.denoising()), noisy_row("c", masked), make("d")]
    arrays = arrays_of(rows)
    for run_arrays in arrays.values():
        for kind in ("clean", "noisy", "denoised", "pca", "affine"):
            run_arrays[f"denoising/{kind}"] = run_arrays["examples/original"]
    settings = group_settings(rows)
    assert [figure_module.noise_of(s) for s in settings] == [
        *["gaussian noise, level 0.5"] * 2,
        "masking noise, level 0.25",
        "",
    ]
    figure = figure_module.denoised(settings, {}, arrays.get)
    assert figure is not None
    names = [ax.get_ylabel().splitlines()[0] for ax in figure.axes]
    baselines = ["PCA, 4 components", "best affine map"]
    assert names == ["clean", "noisy", "a", "b", *baselines, "clean", "noisy", "c", *baselines]
    assert [ax.get_title(loc="left") for ax in figure.axes if ax.get_title(loc="left")] == [
        "blobs, gaussian noise, level 0.5",
        "blobs, masking noise, level 0.25",
    ]
    assert "SSE 3" in figure.axes[2].get_ylabel()
    assert draw("denoised.png", settings, arrays.get) is not None
    assert draw("denoised.png", group_settings([make("d")]), arrays.get) is None
