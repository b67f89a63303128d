"""The axes score of a nonlinear decoder, compared with its derivative by hand and with scikit-learn's PCA."""

import jax
import numpy as np
import pytest
from sklearn.decomposition import PCA

from aejax import nets, variants
from aejax.evaluation import scores
from aejax.evaluation.scores.base import TrainedRun
from support import small_dataset

RNG = np.random.default_rng(0)
CODINGS = 3
LAYERS = {
    "layer_0": {"kernel": RNG.normal(size=(CODINGS, 5)), "bias": RNG.normal(size=5)},
    "layer_1": {"kernel": RNG.normal(size=(5, 12)), "bias": RNG.normal(size=12)},
}
"""A decoder with one hidden layer."""


def test_the_decoder_s_derivative_at_zero_is_compared_with_the_principal_directions_of_training_rows():
    dataset = small_dataset()
    autoencoder = variants.plain(nets.mlp(12, (5, CODINGS), activation=jax.nn.elu))
    params = autoencoder.init(jax.random.key(0)) | {"decoder": jax.tree.map(np.float32, LAYERS)}
    trained = TrainedRun(autoencoder, params, {}, dataset, CODINGS, jax.random.key(0))
    numbers, arrays = scores.axes()(trained)
    bias = LAYERS["layer_0"]["bias"]
    slope = np.where(bias > 0, 1.0, np.exp(bias))  # the derivative of elu at codings of zero
    decoder_kd = LAYERS["layer_0"]["kernel"] * slope @ LAYERS["layer_1"]["kernel"]
    directions_kd = np.asarray(PCA(CODINGS).fit(dataset.x_train).components_)
    cosines_kk = np.abs(directions_kd @ decoder_kd.T) / np.linalg.norm(decoder_kd, axis=1)
    np.testing.assert_allclose(arrays["axes/cosines"], cosines_kk, atol=1e-5)
    assert numbers["axis_distance"] == pytest.approx(1 - np.square(cosines_kk.max(axis=1)).mean(), abs=1e-5)
    projected_kd = directions_kd @ np.linalg.pinv(decoder_kd) @ decoder_kd
    assert numbers["subspace_distance"] == pytest.approx(1 - np.square(projected_kd).sum() / CODINGS, abs=1e-5)
