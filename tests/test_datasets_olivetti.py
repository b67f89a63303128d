"""Olivetti faces: the original bytes or an error, splits by person, augmented pictures and patches."""

import numpy as np
import pytest

from aejax import datasets
from aejax.datasets import olivetti
from aejax.runtime.errors import DataError


def read_archive(path):
    """The arrays of an .npz file."""
    with np.load(path, allow_pickle=False) as archive:
        return dict(archive)


def test_every_person_is_in_exactly_one_split(olivetti_path):
    data = datasets.load("olivetti", olivetti_path.parent, seed=3)
    assert datasets.known_shape("olivetti") == data.x_train.shape == (280, 4096)
    assert (len(data.x_validation), len(data.x_test)) == (40, 80)
    assert (data.x_train.dtype, data.unit, data.image_shape) == (np.uint8, 255, (64, 64))
    people = []
    for labels in (data.y_train, data.y_validation, data.y_test):
        assert labels is not None
        people_of_split, counts = np.unique(labels, return_counts=True)
        assert (counts == 10).all()
        people += people_of_split.tolist()
    assert sorted(people) == list(range(40))
    images = read_archive(olivetti_path)["images"].reshape(400, -1)
    all_rows = np.concatenate([data.x_train, data.x_validation, data.x_test])
    np.testing.assert_array_equal(np.sort(all_rows.view("V4096").ravel()), np.sort(images.view("V4096").ravel()))


def test_the_seed_decides_which_people_are_in_which_split(olivetti_path):
    first, repeated, other = (datasets.load("olivetti", olivetti_path.parent, seed=seed) for seed in (0, 0, 1))
    assert first.fingerprint == repeated.fingerprint != other.fingerprint
    assert first.y_test is not None
    assert other.y_test is not None
    assert set(first.y_test) != set(other.y_test)


def test_mirrored_adds_the_mirror_image_of_every_training_picture_only(olivetti_path):
    plain, mirrored = (datasets.load(name, olivetti_path.parent) for name in ("olivetti", "olivetti_mirrored"))
    assert datasets.known_shape("olivetti_mirrored") == mirrored.x_train.shape
    np.testing.assert_array_equal(mirrored.x_train[:280], plain.x_train)
    flipped = mirrored.x_train[280:].reshape(-1, 64, 64)[:, :, ::-1].reshape(280, -1)
    np.testing.assert_array_equal(flipped, plain.x_train)
    np.testing.assert_array_equal(mirrored.x_test, plain.x_test)
    np.testing.assert_array_equal(mirrored.x_validation, plain.x_validation)


@pytest.mark.parametrize("load", [olivetti.load_raw, olivetti.load_mirrored, olivetti.load_augmented])
def test_every_picture_keeps_the_label_of_its_person(load, monkeypatch):
    """All pixels of these pictures are the number of the person."""
    labels = np.repeat(np.arange(40, dtype=np.uint8), 10)
    images = np.broadcast_to(labels[:, None, None], (400, 64, 64))
    monkeypatch.setattr(olivetti, "_read_file", lambda data_dir: (images, labels))
    raw = load(None, 3)
    for split in ("train", "validation", "test"):
        np.testing.assert_array_equal(raw.x[split].min(axis=1), raw.y[split])
        np.testing.assert_array_equal(raw.x[split].max(axis=1), raw.y[split])


def test_a_missing_file_is_an_error_that_says_how_to_make_it(empty, refused):
    fix = "makes it with scikit-learn"
    refused(DataError, "olivetti", "olivetti_faces.npz", empty / "tfds", fix, call=lambda: datasets.load("olivetti"))


@pytest.mark.parametrize("place", [".", "olivetti", "downloads/manual"])
def test_the_file_is_found_in_every_download_folder(place, empty, olivetti_path):
    folder = empty / "tfds" / place
    folder.mkdir(parents=True)
    (folder / olivetti.FILE).write_bytes(olivetti_path.read_bytes())
    assert len(datasets.load("olivetti").x_test) == 80


def test_arrays_that_are_not_original_are_refused(empty, olivetti_path, refused):
    path = empty / olivetti.FILE
    arrays = read_archive(olivetti_path)
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


def test_make_writes_the_file_from_the_pictures_of_scikit_learn(empty, olivetti_path, monkeypatch, refused):
    """scikit-learn divides the pictures by their highest byte."""
    original = read_archive(olivetti_path)
    scaled = original["images"].astype(np.float32) / original["images"].max()
    faces = {"images": scaled, "target": original["labels"].astype(np.int64)}
    monkeypatch.setattr("sklearn.datasets.fetch_olivetti_faces", lambda: faces)
    path = olivetti.make(empty / "made")
    assert path.parent == empty / "made"
    assert len(datasets.load("olivetti", empty / "made").x_train) == 280
    faces["images"] = scaled[:, ::-1]
    refused(DataError, "not the original", call=lambda: olivetti.make(empty / "other"))
    assert not (empty / "other").exists()


def test_augmented_has_every_shift_of_every_training_picture_and_of_its_mirror_image(olivetti_path):
    data = datasets.load("olivetti_augmented", olivetti_path.parent, seed=2)
    plain = datasets.load("olivetti", olivetti_path.parent, seed=2)
    assert datasets.known_shape("olivetti_augmented") == data.x_train.shape == (14000, 1024)
    assert (len(data.x_validation), len(data.x_test), data.image_shape) == (40, 80, (32, 32))
    test = plain.x_test.reshape(80, 64, 64).astype(float)
    means = (test[:, ::2, ::2] + test[:, 1::2, ::2] + test[:, ::2, 1::2] + test[:, 1::2, 1::2]) / 4
    assert np.abs(data.x_test.reshape(80, 32, 32) - means).max() <= 0.5
    train = data.x_train.reshape(25, 2, 280, 32, 32)
    unshifted = train[12]  # the shift in the middle of the 25
    face = unshifted[0, 5]
    np.testing.assert_array_equal(unshifted[1], unshifted[0][:, :, ::-1])
    down_right = train[0, 0, 5]  # the window is shifted up and left
    np.testing.assert_array_equal(down_right[2:, 2:], face[:-2, :-2])
    np.testing.assert_array_equal(down_right[0, 2:], face[0, :-2])
    np.testing.assert_array_equal(train[24, 1, 5][:-2, :-2], unshifted[1][5][2:, 2:])
    assert data.y_train is not None
    assert plain.y_train is not None
    np.testing.assert_array_equal(data.y_train.reshape(50, 280), np.tile(plain.y_train, (50, 1)))


@pytest.mark.slow
def test_patches_are_rotated_and_scaled_parts_of_the_pictures_of_their_split(olivetti_path):
    data = datasets.load("olivetti_patches", olivetti_path.parent, seed=2)
    plain = datasets.load("olivetti", olivetti_path.parent, seed=2)
    assert datasets.known_shape("olivetti_patches") == data.x_train.shape == (56_000, 625)
    assert (len(data.x_validation), len(data.x_test), data.image_shape) == (8_000, 16_000, (25, 25))
    for split in ("train", "validation", "test"):
        people = getattr(plain, f"y_{split}")
        np.testing.assert_array_equal(getattr(data, f"y_{split}"), np.repeat(people, 200))
    picture = plain.x_test[7].reshape(64, 64).astype(float)
    patches = data.x_test.reshape(80, 200, 25, 25)[7].astype(float)
    assert np.abs(patches[:, 12, 12] - picture[31:33, 31:33].mean()).max() <= 0.5  # all rotate about the middle
    # At every angle and scale, values are within the range of the values in the disc around the middle.
    rows, columns = np.mgrid[:64, :64] - 31.5
    disc = picture[np.hypot(rows, columns) <= 1.8 * 12 * np.sqrt(2) + 1.5]
    assert patches.min() >= disc.min() - 0.5
    assert patches.max() <= disc.max() + 0.5
    # The mean over a disc of the patch is, at every angle, the mean over a disc of the picture whose radius is scaled.
    patch_disc = np.hypot(*(np.mgrid[:25, :25] - 12.0)) <= 8
    picture_means = [picture[np.hypot(rows, columns) <= radius].mean() for radius in np.linspace(8 * 1.4, 8 * 1.8, 50)]
    means = patches[:, patch_disc].mean(axis=1)
    assert min(picture_means) - 3 < means.min()
    assert means.max() < max(picture_means) + 3
    assert len(np.unique(patches.reshape(200, -1), axis=0)) == 200
    assert data.y_test is not None
    assert plain.y_test is not None
    # Another seed puts other people into the test split, but the patches of a person are the same.
    other = datasets.load("olivetti_patches", olivetti_path.parent, seed=3)
    assert other.y_train is not None
    person = next(person for person in np.unique(plain.y_test) if person in other.y_train)
    np.testing.assert_array_equal(other.x_train[other.y_train == person], data.x_test[data.y_test == person])


@pytest.mark.slow
def test_a_patch_equals_a_rotation_by_scipy(olivetti_path, monkeypatch):
    """The patch has the pixel size of the picture here.

    The middle of a patch lies between four pixels, so it is compared with a rotation of means of four pixels.
    """
    from scipy.ndimage import rotate

    monkeypatch.setattr(olivetti, "_STEPS", (1.0, 1.0))
    picture = datasets.load("olivetti", olivetti_path.parent).x_test[0].reshape(64, 64).astype(float)
    for angle in (0.0, 90.0, 30.0):
        monkeypatch.setattr(olivetti, "_ANGLES", (angle, angle))
        patch = olivetti.load_patches(olivetti_path.parent, 0).x["test"][0].reshape(25, 25).astype(float)
        means = (picture[:-1, :-1] + picture[1:, :-1] + picture[:-1, 1:] + picture[1:, 1:]) / 4
        rotated = rotate(means, -angle, reshape=False, order=1, mode="nearest")[19:44, 19:44]
        if angle in (0.0, 90.0):
            assert np.abs(patch - rotated).max() <= 0.51
        else:
            assert np.corrcoef(patch.ravel(), rotated.ravel())[0, 1] > 0.99
