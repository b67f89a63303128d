"""Olivetti: the original bytes or an error, and nobody in two splits."""

import numpy as np
import pytest

from aejax import datasets
from aejax.datasets import olivetti
from aejax.runtime.errors import DataError


def held(path):
    """The arrays of an archive, which is closed again."""
    with np.load(path, allow_pickle=False) as archive:
        return dict(archive)


def test_people_are_split_and_nobody_is_in_two_splits(olivetti_path):
    data = datasets.load("olivetti", olivetti_path.parent, seed=3)
    assert datasets.known_shape("olivetti") == data.x_train.shape == (280, 4096)
    assert (len(data.x_validation), len(data.x_test)) == (40, 80)
    assert (data.x_train.dtype, data.unit, data.image_shape) == (np.uint8, 255, (64, 64))
    people = []
    for labels in (data.y_train, data.y_validation, data.y_test):
        assert labels is not None
        found, counts = np.unique(labels, return_counts=True)
        assert (counts == 10).all()
        people += found.tolist()
    assert sorted(people) == list(range(40))
    images = held(olivetti_path)["images"].reshape(400, -1)
    every = np.concatenate([data.x_train, data.x_validation, data.x_test])
    np.testing.assert_array_equal(np.sort(every.view("V4096").ravel()), np.sort(images.view("V4096").ravel()))


def test_the_seed_decides_who_is_where(olivetti_path):
    one, again, other = (datasets.load("olivetti", olivetti_path.parent, seed=seed) for seed in (0, 0, 1))
    assert one.fingerprint == again.fingerprint != other.fingerprint
    assert one.y_test is not None
    assert other.y_test is not None
    assert set(one.y_test) != set(other.y_test)


def test_mirrored_has_every_training_face_twice_and_no_other(olivetti_path):
    plain, mirrored = (datasets.load(name, olivetti_path.parent) for name in ("olivetti", "olivetti_mirrored"))
    assert datasets.known_shape("olivetti_mirrored") == mirrored.x_train.shape
    np.testing.assert_array_equal(mirrored.x_train[:280], plain.x_train)
    flipped = mirrored.x_train[280:].reshape(-1, 64, 64)[:, :, ::-1].reshape(280, -1)
    np.testing.assert_array_equal(flipped, plain.x_train)
    np.testing.assert_array_equal(mirrored.x_test, plain.x_test)
    np.testing.assert_array_equal(mirrored.x_validation, plain.x_validation)


def test_where_it_is_not_the_fix_is_said(empty, refused):
    fix = "makes it with scikit-learn"
    refused(DataError, "olivetti", "olivetti_faces.npz", empty / "tfds", fix, call=lambda: datasets.load("olivetti"))


@pytest.mark.parametrize("place", [".", "olivetti", "downloads/manual"])
def test_it_is_found_in_the_folders_of_manual_downloads(place, empty, olivetti_path):
    folder = empty / "tfds" / place
    folder.mkdir(parents=True)
    (folder / olivetti.FILE).write_bytes(olivetti_path.read_bytes())
    assert len(datasets.load("olivetti").x_test) == 80


def test_what_is_not_the_original_is_refused(empty, olivetti_path, refused):
    path = empty / olivetti.FILE
    arrays = held(olivetti_path)
    images = arrays["images"].copy()
    images[7, 3, 3] ^= 1
    np.savez_compressed(path, images=images, labels=arrays["labels"])
    refused(DataError, path, "images are not the original", call=lambda: datasets.load("olivetti", empty))
    np.savez_compressed(path, images=arrays["images"], labels=arrays["labels"][::-1])
    refused(DataError, path, "labels are not the original", call=lambda: datasets.load("olivetti", empty))
    np.savez_compressed(path, images=arrays["images"])
    refused(DataError, path, "found nothing", call=lambda: datasets.load("olivetti", empty))
    path.write_bytes(olivetti_path.read_bytes()[:5000])
    refused(DataError, path, "put the original there", call=lambda: datasets.load("olivetti", empty))
    path.write_text("<html>not found</html>")
    refused(DataError, path, "HTML", call=lambda: datasets.load("olivetti", empty))


def test_it_is_made_from_what_scikit_learn_gives(empty, olivetti_path, monkeypatch, refused):
    """scikit-learn gives floats that are scaled to 0..1 by the lowest and highest value."""
    original = held(olivetti_path)
    scaled = original["images"].astype(np.float32) / original["images"].max()
    given = {"images": scaled, "target": original["labels"].astype(np.int64)}
    monkeypatch.setattr("sklearn.datasets.fetch_olivetti_faces", lambda: given)
    path = olivetti.make(empty / "made")
    assert path.parent == empty / "made"
    assert len(datasets.load("olivetti", empty / "made").x_train) == 280
    given["images"] = scaled[:, ::-1]
    refused(DataError, "not the original", call=lambda: olivetti.make(empty / "other"))
    assert not (empty / "other").exists()


def test_augmented_has_every_training_face_and_its_mirror_image_moved_every_way(olivetti_path):
    data = datasets.load("olivetti_augmented", olivetti_path.parent, seed=2)
    whole = datasets.load("olivetti", olivetti_path.parent, seed=2)
    assert datasets.known_shape("olivetti_augmented") == data.x_train.shape == (14000, 1024)
    assert (len(data.x_validation), len(data.x_test), data.image_shape) == (40, 80, (32, 32))
    test = whole.x_test.reshape(80, 64, 64).astype(float)
    means = (test[:, ::2, ::2] + test[:, 1::2, ::2] + test[:, ::2, 1::2] + test[:, 1::2, 1::2]) / 4
    assert np.abs(data.x_test.reshape(80, 32, 32) - means).max() <= 0.5
    train = data.x_train.reshape(25, 2, 280, 32, 32)
    face, middle = train[12, 0, 5], train[12]  # the 13th of 25 moves is none at all
    np.testing.assert_array_equal(middle[1], middle[0][:, :, ::-1])
    down_right = train[0, 0, 5]  # the window moved up and left
    np.testing.assert_array_equal(down_right[2:, 2:], face[:-2, :-2])
    np.testing.assert_array_equal(down_right[0, 2:], face[0, :-2])
    np.testing.assert_array_equal(train[24, 1, 5][:-2, :-2], middle[1][5][2:, 2:])
    assert data.y_train is not None
    assert whole.y_train is not None
    np.testing.assert_array_equal(data.y_train.reshape(50, 280), np.tile(whole.y_train, (50, 1)))


def test_patches_are_turned_and_scaled_cuts_of_every_picture_of_their_people(olivetti_path):
    data = datasets.load("olivetti_patches", olivetti_path.parent, seed=2)
    whole = datasets.load("olivetti", olivetti_path.parent, seed=2)
    assert datasets.known_shape("olivetti_patches") == data.x_train.shape == (56_000, 625)
    assert (len(data.x_validation), len(data.x_test), data.image_shape) == (8_000, 16_000, (25, 25))
    for split in ("train", "validation", "test"):
        people = getattr(whole, f"y_{split}")
        np.testing.assert_array_equal(getattr(data, f"y_{split}"), np.repeat(people, 200))
    picture = whole.x_test[7].reshape(64, 64).astype(float)
    found = data.x_test.reshape(80, 200, 25, 25)[7].astype(float)
    assert np.abs(found[:, 12, 12] - picture[31:33, 31:33].mean()).max() <= 0.5  # all turn about the middle
    # Whatever the angle and the scale, no value that the disc around the middle has not.
    rows, columns = np.mgrid[:64, :64] - 31.5
    disc = picture[np.hypot(rows, columns) <= 1.8 * 12 * np.sqrt(2) + 1.5]
    assert found.min() >= disc.min() - 0.5
    assert found.max() <= disc.max() + 0.5
    # The mean over the patch's inner disc is that of the picture's, whatever the angle, within what the scale changes.
    small = np.hypot(*(np.mgrid[:25, :25] - 12.0)) <= 8
    wide = [picture[np.hypot(rows, columns) <= radius].mean() for radius in np.linspace(8 * 1.4, 8 * 1.8, 50)]
    means = found[:, small].mean(axis=1)
    assert min(wide) - 3 < means.min()
    assert means.max() < max(wide) + 3
    assert len(np.unique(found.reshape(200, -1), axis=0)) == 200
    assert data.y_test is not None
    assert whole.y_test is not None
    other = datasets.load("olivetti_patches", olivetti_path.parent, seed=3)  # other people are tested, the patches stay
    assert other.y_train is not None
    person = next(person for person in np.unique(whole.y_test) if person in other.y_train)
    np.testing.assert_array_equal(other.x_train[other.y_train == person], data.x_test[data.y_test == person])


def test_a_patch_is_what_scipys_rotation_gives(olivetti_path, monkeypatch):
    """At one picture pixel a step. Patches lie about the middle of four pixels, so that their means are turned."""
    from scipy.ndimage import rotate

    monkeypatch.setattr(olivetti, "_STEPS", (1.0, 1.0))
    picture = datasets.load("olivetti", olivetti_path.parent).x_test[0].reshape(64, 64).astype(float)
    for angle in (0.0, 90.0, 30.0):
        monkeypatch.setattr(olivetti, "_ANGLES", (angle, angle))
        found = olivetti.load_patches(olivetti_path.parent, 0).x["test"][0].reshape(25, 25).astype(float)
        half = (picture[:-1, :-1] + picture[1:, :-1] + picture[:-1, 1:] + picture[1:, 1:]) / 4
        turned = rotate(half, -angle, reshape=False, order=1, mode="nearest")[19:44, 19:44]
        if angle in (0.0, 90.0):
            assert np.abs(found - turned).max() <= 0.51
        else:
            assert np.corrcoef(found.ravel(), turned.ravel())[0, 1] > 0.99
