"""Brightness of the images that figures show, whatever the scaling of their dataset."""

import numpy as np
import pytest

from aejax.datasets import base, images

SPLITS = ("train", "validation", "test")
SCALED = {
    "standardised": {"scale": None},
    "centred": {"scale": 255.0, "centred": True},
    "in another unit": {"scale": 10.0},
    "bytes in another unit": {"scale": 100.0},
}
"""Ways to scale grey values after which they are not in [0, 1]."""


def raw_images():
    """Grey values of 2x2 images per split, float64. The training rows reach from 20 to 220; columns differ in range."""
    rng = np.random.default_rng(0)
    x = {split: rng.integers(30, 60, (8, 4)) + np.array([0.0, 20.0, 100.0, 150.0]) for split in SPLITS}
    x["train"][0, 0] = 20
    x["train"][0, 3] = 220
    return x


def dataset_of(x, image_shape=(2, 2), **scaling):
    return base.assemble("t", base.RawData(x, dict.fromkeys(x), image_shape, **scaling), seed=0)


@pytest.mark.parametrize("name", SCALED)
def test_the_lowest_raw_value_is_black_and_the_highest_is_white(name):
    x = raw_images()
    expected = (x["test"] - 20) / 200
    if "bytes" in name:
        x = {split: x_nd.astype(np.uint8) for split, x_nd in x.items()}
    data = dataset_of(x, **SCALED[name])
    scaled = data.floats(data.x_test)
    shown = images.brightness(data, scaled)
    np.testing.assert_allclose(shown, expected, atol=1e-5)
    assert shown.dtype == np.float32
    pixels = images.as_bytes(data, scaled)
    assert np.abs(pixels - expected * 255).max() <= 0.51


@pytest.mark.parametrize(("lowest", "highest"), [(20, 220), (0, 220), (20, 255)])
def test_images_between_zero_and_one_keep_their_values(lowest, highest):
    x = {split: x_nd.astype(np.uint8) for split, x_nd in raw_images().items()}
    x["train"][0, 0] = lowest
    x["train"][0, 3] = highest
    data = dataset_of(x, scale=255.0)
    shown = images.brightness(data, data.floats(data.x_test))
    np.testing.assert_allclose(shown, x["test"] / 255, rtol=1e-6)
    np.testing.assert_array_equal(images.as_bytes(data, data.floats(data.x_test)), x["test"])


def test_rows_that_are_no_images_keep_their_values():
    data = dataset_of(raw_images(), image_shape=None, scale=None)
    np.testing.assert_array_equal(images.brightness(data, data.x_test), data.x_test)


def test_values_outside_the_range_are_black_or_white():
    data = dataset_of(raw_images(), scale=255.0)
    rows = np.array([[-0.5, 0, 1, 1.5], [np.nan, np.inf, -np.inf, 0.5]], np.float32)
    np.testing.assert_array_equal(images.as_bytes(data, rows), [[0, 0, 255, 255], [0, 255, 0, 128]])
