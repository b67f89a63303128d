"""The linear autoencoder on MNIST ends at PCA's error."""

import pytest

from aejax import datasets, nets, variants
from aejax.evaluation import reconstruction
from aejax.training import schedules, train

pytestmark = [pytest.mark.slow, pytest.mark.optimised]


def test_a_linear_autoencoder_finds_pca_on_mnist(mnist_dir):
    dataset = datasets.load("mnist", mnist_dir)
    linear = variants.plain(nets.mlp(784, (30,)))
    settings = {"epochs": 15, "batch_size": 200, "schedule": schedules.warmup_cosine, "learning_rate": 0.01, "l2": 0.0}
    fit = train.fit(linear, dataset, seed=0, **settings)
    row = reconstruction.score(linear, fit.params, dataset, linear=True)
    assert row["pca_sse_test"] == pytest.approx(13.8663, abs=5e-5)
    assert row["sse_ratio"] == pytest.approx(1, abs=0.01)
