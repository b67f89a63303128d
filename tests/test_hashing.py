"""Hashing: the noisy loss, the bits and their error, the ramp of the noise, and refused arguments."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.cluster import KMeans

from aejax import nets, variants
from aejax.config import sweep
from aejax.datasets.base import RawData, assemble
from aejax.evaluation import reconstruction
from aejax.runtime.errors import ConfigError
from aejax.training import train
from aejax.variants import penalties

NET = nets.mlp(12, (8, 3), activation=jnp.tanh)
HASHING = variants.hashing(NET)


@pytest.fixture
def x_bd():
    return jnp.asarray(np.random.default_rng(0).uniform(0, 1, (16, 12)), jnp.float32)


def test_without_noise_the_loss_is_that_of_a_plain_autoencoder_with_sigmoid_codings(x_bd):
    plain = variants.plain(nets.mlp(12, (8, 3), activation=jnp.tanh, coding_activation=jax.nn.sigmoid))
    params = NET.init(jax.random.key(0))
    value, metrics = HASHING.loss(params, jax.random.key(1), x_bd, noise=0.0, l2=0.01)
    expected, expected_metrics = plain.loss(params, jax.random.key(1), x_bd, l2=0.01)
    np.testing.assert_allclose(value, expected, rtol=1e-6)
    np.testing.assert_allclose(metrics["error"], expected_metrics["error"], rtol=1e-6)


def test_codings_are_the_signs_of_the_logits_and_binary_error_is_their_error(x_bd):
    params = NET.init(jax.random.key(0))
    z_bk = HASHING.encode(params, x_bd)
    np.testing.assert_array_equal(z_bk, np.asarray(NET.encode(params, x_bd)) > 0)
    assert 0 < float(z_bk.mean()) < 1
    binary = [HASHING.loss(params, jax.random.key(i), x_bd, noise=3.0, l2=0.0)[1]["binary_error"] for i in (0, 1)]
    expected = np.square(np.asarray(HASHING.decode(params, z_bk)) - np.asarray(x_bd)).mean()
    np.testing.assert_allclose(binary, [expected, expected], rtol=1e-6)


@pytest.mark.parametrize("codings", [3, 2])
def test_fuzziness_is_that_of_the_sigmoids_of_all_trained_codings(codings, x_bd):
    """It is the mean of 4 s (1 - s) without noise. Of masked codings, for which s is a half, it says nothing."""
    params = jax.tree.map(lambda leaf: 3 * leaf, NET.init(jax.random.key(0), codings))
    metrics = HASHING.loss(params, jax.random.key(1), x_bd, noise=3.0, l2=0.0)[1]
    s_bk = 1 / (1 + np.exp(-np.asarray(NET.encode(params, x_bd), np.float64)[:, :codings]))
    np.testing.assert_allclose(metrics["fuzziness"], (4 * s_bk * (1 - s_bk)).mean(), rtol=1e-5)


def test_the_mean_of_the_noisy_loss_agrees_with_quadrature():
    """With a linear decoder the expected squared error depends only on mean and variance of each noisy sigmoid."""
    net = nets.mlp(6, (2,))
    noise = 2.0
    hashing = variants.hashing(net)
    params = net.init(jax.random.key(3))
    x_bd = jax.random.normal(jax.random.key(1), (5, 6))
    nodes_s, weights_s = np.polynomial.hermite_e.hermegauss(60)
    weights_s = weights_s / weights_s.sum()
    sigmoid_bks = 1 / (1 + np.exp(-(np.asarray(net.encode(params, x_bd), np.float64)[..., None] + noise * nodes_s)))
    mean_bk = sigmoid_bks @ weights_s
    variance_bk = (sigmoid_bks**2) @ weights_s - mean_bk**2
    layer = {name: np.float64(leaf) for name, leaf in params["decoder"]["layer_0"].items()}
    residual_bd = mean_bk @ layer["kernel"] + layer["bias"] - np.asarray(x_bd)
    expected = (residual_bd**2 + variance_bk @ layer["kernel"] ** 2).mean()
    draws = 20_000
    losses = jax.jit(jax.vmap(lambda key: hashing.loss(params, key, x_bd, noise=noise, l2=0.0)[0]))(
        jax.random.split(jax.random.key(2), draws)
    )
    standard_error = float(jnp.std(losses)) / np.sqrt(draws)
    assert abs(float(losses.mean()) - expected) < 4 * standard_error
    assert standard_error < 0.01 * expected
    silent = hashing.loss(params, jax.random.key(0), x_bd, noise=0.0, l2=0.0)[0]
    assert abs(float(silent) - expected) > 10 * standard_error  # without noise the loss differs


def factors(rows, seed):
    """Rows that are sums of a base and up to two factors, and which factors each row has, (rows, 2)."""
    base, first, second = np.random.default_rng(0).normal(size=(3, 12))
    rng = np.random.default_rng([seed, 1])
    present = rng.integers(0, 2, (rows, 2))
    x_nd = base + present @ np.stack([first, second]) + 0.1 * rng.normal(size=(rows, 12))
    return x_nd.astype(np.float32), present


def test_two_bits_code_two_factors_as_well_as_the_best_four_centres():
    """Two bits have four reconstructions, so no code of two bits has a smaller error than the best four centres."""
    x = {split: factors(rows, i)[0] for i, (split, rows) in enumerate(SPLITS.items())}
    dataset = assemble("factors", RawData(x, dict.fromkeys(x), None, 1.0), 0)
    hashing = variants.hashing(nets.mlp(12, (16, 2), activation=jnp.tanh))
    runs = [(0, {"learning_rate": 0.01, "noise": noise, "l2": 0.0}) for noise in (0.0, 2.0)]
    silent, noisy = train.fit_population(hashing, dataset, runs, epochs=60, batch_size=32, how="vmap").fits
    sse = reconstruction.sse(hashing, noisy.params, dataset.x_test)
    best = KMeans(4, n_init="auto", random_state=0).fit(x["train"])
    by_centres = np.square(x["test"] - best.cluster_centers_[best.predict(x["test"])]).sum(1).mean()
    assert 0.99 * by_centres < sse < 1.1 * by_centres
    assert reconstruction.sse(hashing, silent.params, dataset.x_test) > sse
    codes_n2 = np.asarray(hashing.encode(noisy.params, jnp.asarray(x["test"])))
    truth_n = factors(SPLITS["test"], 2)[1] @ [2, 1]
    assert [len({tuple(code) for code in codes_n2[truth_n == factors_present]}) for factors_present in range(4)] == [
        1
    ] * 4
    assert len({tuple(code) for code in codes_n2}) == 4
    # the noise turns sigmoids into bits, and the epoch with the least binary error is kept
    fuzziness = [fit.history["validation_fuzziness"][-1] for fit in (silent, noisy)]
    assert fuzziness[1] < 0.1 * fuzziness[0]
    assert noisy.best_epoch == noisy.history["validation_binary_error"].argmin()
    assert noisy.best_error == noisy.history["validation_binary_error"].min()


SPLITS = {"train": 256, "validation": 64, "test": 256}


def test_the_noise_rises_over_its_share_of_the_training(x_bd):
    params = NET.init(jax.random.key(0))
    key = jax.random.key(1)

    def error(hashing, noise, **progress):
        return float(hashing.loss(params, key, x_bd, noise=noise, l2=0.0, **progress)[1]["error"])

    half = HASHING  # the noise rises over half of the training
    at_once = variants.hashing(NET, ramp=0.0)
    for progress, share in ((0.0, 0.0), (0.25, 0.5), (0.5, 1.0), (0.9, 1.0)):
        assert error(half, 2.0, progress=progress) == pytest.approx(error(at_once, 2.0 * share), rel=1e-6)
        assert error(at_once, 2.0, progress=progress) == error(at_once, 2.0)
    assert error(half, 2.0) == error(half, 2.0, progress=1.0) != error(half, 2.0, progress=0.1)


def test_invalid_hyper_parameters_and_options_are_refused(refused):
    given = {"dataset": "digits", "epochs": 1, "batch_size": 64, "widths": (4, 2), "variant": variants.hashing}
    hyper = {"learning_rate": 0.01, "l2": 0.0}
    refused(ConfigError, "noise", "missing", call=lambda: sweep.Sweep(**given, hyper=hyper))
    refused(ConfigError, "hyper.noise", "-1", call=lambda: sweep.Sweep(**given, hyper={**hyper, "noise": -1.0}))
    call = lambda: sweep.Sweep(**given, hyper={**hyper, "noise": 1.0}, error=penalties.cross_entropy)  # noqa: E731
    refused(ConfigError, "error", "sigmoid", call=call)
    noisy = {**hyper, "noise": 1.0}
    refused(ConfigError, "ramp", "1.5", call=lambda: sweep.Sweep(**given, hyper=noisy, options={"ramp": 1.5}))
    refused(ConfigError, "ramp", "True", call=lambda: variants.hashing(NET, ramp=True))
