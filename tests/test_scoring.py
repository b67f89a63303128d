"""The errors in a run's row, by NumPy and scikit-learn: which rows they are of, and which PCA they are held against."""

from typing import Any

import numpy as np
import pytest
from sklearn.decomposition import PCA

from aejax.config.sweep import Sweep
from aejax.runner import scoring
from aejax.training import train
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
