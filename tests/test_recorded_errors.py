"""The errors that variants record: that of the decoded codings, and the one that chooses the best epoch."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

from aejax import variants
from aejax.variants.penalties import cross_entropy
from every_variant import EACH, INPUTS, NETS, ON_ANY_NET, ON_DICTIONARIES, VARIANTS, net_of

OUTPUTS: dict[str, dict[str, Any]] = {
    "sigmoid": {"output": jax.nn.sigmoid},
    "probabilities": {"output": jax.nn.sigmoid, "error": cross_entropy},
}
AS_ENCODED = {"level": 0.0, "noise": 0.0, "active": 3.0}
"""Hyper-parameters with which a loss reconstructs from the codings that `encode` returns."""


@pytest.fixture
def x_bd():
    return jnp.asarray(np.random.default_rng(0).uniform(0.05, 0.95, (8, INPUTS)), jnp.float32)


def cross_entropy_by_numpy(probabilities_bd, x_bd):
    return -(x_bd * np.log(probabilities_bd) + (1 - x_bd) * np.log1p(-probabilities_bd)).mean()


@pytest.mark.parametrize("outputs", OUTPUTS)
@pytest.mark.parametrize("name", ON_ANY_NET | ON_DICTIONARIES)
def test_the_recorded_error_is_that_of_the_decoded_codings(name, outputs, x_bd):
    """The squared error of the output, or the cross-entropy of the probabilities, by their definitions."""
    function, options, hyper = (ON_ANY_NET | ON_DICTIONARIES)[name]
    net = NETS[net_of(name)]()
    autoencoder = function(net, **options, **OUTPUTS[outputs])
    params = autoencoder.init(jax.random.key(0))
    z_bk = autoencoder.encode(params, x_bd)
    decoded_bd = scipy.special.expit(np.asarray(net.decode(params, z_bk), np.float64))
    np.testing.assert_allclose(autoencoder.decode(params, z_bk), decoded_bd, rtol=1e-5)
    error_of_codings = np.square(decoded_bd - x_bd).mean()
    if outputs == "probabilities":
        error_of_codings = cross_entropy_by_numpy(decoded_bd, np.asarray(x_bd))

    values = {**hyper, **{key: value for key, value in AS_ENCODED.items() if key in hyper}}
    progress = {"progress": 1.0} if "progress" in variants.keyword_names(autoencoder.loss) else {}
    metrics = autoencoder.loss(params, jax.random.key(1), x_bd, **values, **progress)[1]
    recorded = metrics["binary_error" if name == "hashing" else "error"]
    assert float(recorded) == pytest.approx(float(error_of_codings), rel=1e-5)


CRITERIA = {
    "hashing": "binary_error",
    "nested dropout": "nested_error",
    "nested dropout sampled": "nested_error",
    **dict.fromkeys(
        ("variational", "variational learned", "variational optimal", "variational cross-entropy"), "nelbo"
    ),
    **dict.fromkeys(("importance-weighted", "importance-weighted cross-entropy"), "bound"),
}
"""The criterion of every variant whose best epoch is not that of the least error."""


@pytest.mark.parametrize("name", EACH)
def test_every_variant_chooses_the_best_epoch_by_its_documented_criterion(name):
    autoencoder = VARIANTS[name][0](NETS[net_of(name)]())
    assert autoencoder.criterion == CRITERIA.get(name, "error")
    assert autoencoder.criterion in ("error", *autoencoder.recorded_metrics)
