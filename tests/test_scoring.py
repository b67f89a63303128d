"""A run's row: which rows its errors are of, which PCA they are held against, which epoch and which draws it is of."""

from typing import Any

import jax
import numpy as np
import pytest
from sklearn.decomposition import PCA

from aejax import variants
from aejax.config.sweep import Sweep
from aejax.evaluation.scores import Score
from aejax.runner import scoring
from aejax.training import train
from aejax.training.loop import Fit
from support import small_dataset

DATASET = small_dataset(rows=50)
HYPER: dict[str, Any] = {"learning_rate": 0.01, "l2": 0.0}
SETTINGS: dict[str, Any] = {"epochs": 2, "batch_size": 10}


@pytest.mark.parametrize("codings", [4, 2])
def test_errors_are_those_of_their_split_and_pca_has_as_many_components_as_the_run_has_codings(codings):
    sweep = Sweep(dataset="digits", widths=(8, 4), hyper=HYPER, **SETTINGS)
    hyper = HYPER if codings == 4 else {**HYPER, "codings": codings}
    autoencoder = sweep.build(DATASET.inputs)
    fit = train.fit_population(autoencoder, DATASET, [(0, hyper)], **SETTINGS, how="loop").fits[0]
    scored = scoring.score_run(sweep, 0, hyper, DATASET, fit)
    row = scored.row
    params = scored.params
    small = Sweep(dataset="digits", widths=(8, codings), hyper=HYPER, **SETTINGS).build(DATASET.inputs)
    rows = {split: getattr(DATASET, f"x_{split}") / 255.0 for split in ("train", "validation", "test")}
    for split in ("validation", "test"):
        decoded_nd = small.decode(params, small.encode(params, rows[split].astype(np.float32)))
        expected = np.square(np.asarray(decoded_nd) - rows[split]).sum(axis=1).mean()
        assert row[f"sse_{split}"] == pytest.approx(expected, rel=1e-5), split
    pca = PCA(codings).fit(np.concatenate([rows["train"], rows["validation"]]))
    pca_sse = np.square(pca.inverse_transform(pca.transform(rows["test"])) - rows["test"]).sum(axis=1).mean()
    assert row["pca_sse_test"] == pytest.approx(pca_sse, rel=1e-6)
    assert row["sse_ratio"] == pytest.approx(row["sse_test"] / pca_sse, rel=1e-6)
    assert row["mse_test"] == pytest.approx(row["sse_test"] / 12, rel=1e-6)
    mean_sse = np.square(rows["test"] - pca.mean_).sum(axis=1).mean()
    assert row["r2_test"] == pytest.approx(1 - row["sse_test"] / mean_sse, rel=1e-5)


def made_fit(autoencoder, **series):
    """A fit of three epochs that was not trained. The second one was the best by these series of validation metrics."""
    params = jax.jit(autoencoder.init)(jax.random.key(0))
    history = {f"validation_{name}": np.asarray(values, np.float32) for name, values in series.items()}
    best = float(min(series[autoencoder.criterion]))
    return Fit(params, params, 1, best, history, "completed", None, compile_seconds=1.0, train_seconds=1.0)


VARIATIONAL: dict[str, Any] = {"learning_rate": 0.01, "l2": 0.0, "beta": 1.0, "warmup": 0.0, "free_bits": 0.0}
VARIATIONAL |= {"sigma": 1.0}


@pytest.mark.parametrize(("keep", "epoch", "criterion"), [("best", 2, 1.5), ("last", 3, 2.5)])
def test_the_criterion_of_a_row_is_that_of_the_epoch_whose_parameters_are_kept(keep, epoch, criterion):
    settings: dict[str, Any] = {"widths": (3,), "hyper": VARIATIONAL, "variant": variants.variational, "keep": keep}
    sweep = Sweep(dataset="digits", **settings, **SETTINGS)
    fit = made_fit(sweep.build(DATASET.inputs), error=(0.3, 0.2, 0.1), nelbo=(3.5, 1.5, 2.5))
    row = scoring.score_run(sweep, 0, VARIATIONAL, DATASET, fit).row
    assert row["best_epoch"] == epoch
    assert (row["criterion"], row["criterion_validation"]) == ("nelbo", criterion)


@pytest.mark.parametrize(
    ("variant", "hyper", "active"), [(variants.plain, HYPER, 3), (variants.variational, VARIATIONAL, 0)]
)
def test_codings_that_barely_vary_are_active_only_where_they_have_no_prior(variant, hyper, active):
    """Below a variance of .01 a coding with a standard normal prior is not active (Burda et al. 2015)."""
    sweep = Sweep(dataset="digits", widths=(3,), hyper=hyper, variant=variant, **SETTINGS)
    fit = made_fit(sweep.build(DATASET.inputs), error=(0.3, 0.2, 0.3), nelbo=(3.5, 1.5, 2.5))
    encoder = fit.params["encoder"]["layer_0"]
    encoder["kernel"] = 0.01 * encoder["kernel"]
    assert np.var(DATASET.x_test / 255.0 @ encoder["kernel"], axis=0).max() < 0.01
    assert scoring.score_run(sweep, 0, hyper, DATASET, fit).row["health"]["active_units"] == active


@pytest.mark.parametrize("seed", [0, 5])
def test_a_score_draws_with_the_key_of_its_runs_seed(seed):
    noted = Score("noted", (), lambda trained: ({}, {"score/key": np.asarray(jax.random.key_data(trained.key))}))
    sweep = Sweep(dataset="digits", widths=(3,), hyper=HYPER, scores=(noted,), **SETTINGS)
    fit = made_fit(sweep.build(DATASET.inputs), error=(0.3, 0.2, 0.3))
    key = scoring.score_run(sweep, seed, HYPER, DATASET, fit).arrays["score/key"]
    np.testing.assert_array_equal(key, jax.random.key_data(jax.random.key(seed)))
