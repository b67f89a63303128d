"""Denoising: each noise, and the expected loss, which is known for affine nets."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aejax import nets, variants
from aejax.config.sweep import Sweep
from aejax.runtime.errors import ConfigError
from aejax.training import train
from aejax.variants.denoising import corrupt
from support import small_dataset

INPUTS = 12
KEY = jax.random.key(3)
SWEEP = {"dataset": "digits", "widths": (4, 3), "epochs": 1, "batch_size": 64, "variant": variants.denoising}


def hyper(level):
    return {"learning_rate": 0.01, "level": level, "l2": 0.0}


@pytest.fixture
def x_bd():
    return jnp.asarray(np.random.default_rng(0).uniform(0.1, 0.9, (400, 50)), jnp.float32)


def test_gaussian_noise_has_the_given_standard_deviation_and_is_not_clipped(x_bd):
    noise_bd = np.asarray(corrupt(KEY, x_bd, 0.5, "gaussian") - x_bd)
    assert noise_bd.mean() == pytest.approx(0, abs=4 * 0.5 / np.sqrt(noise_bd.size))
    assert noise_bd.std() == pytest.approx(0.5, rel=4 / np.sqrt(2 * noise_bd.size))
    assert np.abs(np.corrcoef(noise_bd[:, 0], noise_bd[:, 1])[0, 1]) < 0.2
    assert float(corrupt(KEY, x_bd, 0.5, "gaussian").min()) < 0


def test_masking_sets_values_to_zero_and_does_not_change_the_others(x_bd):
    noisy_bd = np.asarray(corrupt(KEY, x_bd, 0.3, "masking"))
    masked = noisy_bd == 0
    assert masked.mean() == pytest.approx(0.3, abs=4 * np.sqrt(0.21 / masked.size))
    np.testing.assert_array_equal(noisy_bd[~masked], np.asarray(x_bd)[~masked])


def test_salt_and_pepper_occur_equally_often(x_bd):
    noisy_bd = np.asarray(corrupt(KEY, x_bd, 0.4, "salt_and_pepper", pepper=-2.0, salt=3.0))
    pepper = noisy_bd == -2
    salt = noisy_bd == 3
    for hit in (pepper, salt):
        assert hit.mean() == pytest.approx(0.2, abs=4 * np.sqrt(0.16 / hit.size))
    rest = ~(pepper | salt)
    np.testing.assert_array_equal(noisy_bd[rest], np.asarray(x_bd)[rest])
    default = corrupt(KEY, x_bd, 0.4, "salt_and_pepper")
    assert set(np.unique(np.where(rest, np.nan, default)[~rest])) == {0.0, 1.0}


@pytest.mark.parametrize("noise", variants.NOISES)
def test_level_0_is_the_plain_loss_and_level_1_changes_every_value(noise, x_bd):
    net = nets.mlp(50, (6, 3))
    params = net.init(jax.random.key(0))
    value, metrics = variants.denoising(net, noise=noise).loss(params, KEY, x_bd, level=0.0, l2=0.1)
    plain_value, plain_metrics = variants.plain(net).loss(params, KEY, x_bd, l2=0.1)
    assert float(value) == pytest.approx(float(plain_value))
    assert float(metrics["error"]) == pytest.approx(float(plain_metrics["error"]))
    np.testing.assert_array_equal(corrupt(KEY, x_bd, 0.0, noise), x_bd)
    assert not np.any(corrupt(KEY, x_bd, 1.0, noise) == x_bd)


def test_an_affine_nets_expected_loss_under_gaussian_noise_has_its_closed_form():
    """For the map x -> A x + b, E|A (x + s e) + b - x|^2 = |A x + b - x|^2 + s^2 |A|_F^2, a ridge penalty."""
    net = nets.mlp(INPUTS, (3,), precision="highest")
    autoencoder = variants.denoising(net)
    level = 0.5
    draws = 6000
    params = net.init(jax.random.key(1))
    params["decoder"]["layer_0"]["bias"] = jnp.linspace(-1, 1, INPUTS)
    x_bd = jnp.asarray(np.random.default_rng(0).uniform(0, 1, (16, INPUTS)), jnp.float32)
    loss = jax.jit(lambda key: autoencoder.loss(params, key, x_bd, level=level, l2=0.0)[0])
    values = np.asarray(jax.lax.map(loss, jax.random.split(KEY, draws)), np.float64)

    kernels = (np.asarray(params[part]["layer_0"]["kernel"], np.float64) for part in ("encoder", "decoder"))
    map_dd = np.matmul(*kernels)
    clean = np.asarray(x_bd, np.float64) @ map_dd + np.linspace(-1, 1, INPUTS) - np.asarray(x_bd)
    closed = (np.square(clean).sum(axis=1).mean() + level**2 * np.square(map_dd).sum()) / INPUTS
    error = values.std() / np.sqrt(draws)
    assert values.mean() == pytest.approx(closed, abs=4 * error)
    assert 3 * error < 0.01 * closed


def test_training_removes_noise_and_every_key_draws_other_noise():
    dataset = small_dataset(rows=360)
    net = nets.mlp(INPUTS, (24, 16), activation=jax.nn.gelu)
    runs = [(0, {"learning_rate": 0.005, "level": 0.3, "l2": 0.0})]
    (fit,) = train.fit_population(variants.denoising(net), dataset, runs, epochs=40, batch_size=36, how="loop").fits
    assert fit.history["validation_error"][-1] < 0.5 * 0.3**2  # copying the input gives an error of 0.3^2
    losses = variants.denoising(net).loss
    a, b = (losses(fit.params, jax.random.key(k), dataset.floats(dataset.x_test), level=0.3, l2=0.0)[0] for k in (0, 1))
    assert float(a) != float(b)


def test_invalid_levels_and_options_are_refused(refused):
    masking = {**SWEEP, "options": {"noise": "masking"}}
    refused(ConfigError, "Sweep.hyper.level", "1.5", "0 to 1", call=lambda: Sweep(**masking, hyper=hyper(1.5)))
    refused(ConfigError, "Sweep.hyper.level", "-0.1", call=lambda: Sweep(**SWEEP, hyper=hyper(-0.1)))
    refused(ConfigError, "Sweep.hyper.level", "2.0", call=lambda: Sweep(**masking, hyper=hyper((0.5, 2.0))))
    assert Sweep(**SWEEP, hyper=hyper(1.5)).points()[0]["level"] == 1.5  # a standard deviation has no upper bound
    for options, field, message in (
        ({"noise": "gausian"}, "noise", "did you mean gaussian?"),
        ({"noise": "masking", "salt": 2.0}, "noise", "salt_and_pepper"),
        ({"noise": "salt_and_pepper", "pepper": 1.0}, "pepper", "below"),
        ({"noise": "salt_and_pepper", "salt": "white"}, "salt", "number"),
    ):
        refused(ConfigError, field, message, call=lambda o=options: Sweep(**SWEEP, hyper=hyper(0.5), options=o))
    autoencoder = variants.denoising(nets.mlp(INPUTS, (3,)), noise="masking")
    runs = [(0, hyper(1.5))]
    with pytest.raises(ConfigError, match=r"level: 1\.5; give a number from 0 to 1"):
        train.fit_population(autoencoder, small_dataset(), runs, epochs=1, batch_size=16)
