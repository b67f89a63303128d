"""The Olivetti faces: ten pictures each of forty people. Splits are by person, so test people never occur in training.

AT&T Laboratories Cambridge, 1992–1994; Samaria and Harter 1994. The pictures are read from olivetti_faces.npz, and its
arrays are verified every time. `make` writes that file with scikit-learn.
"""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import Any

import numpy as np

from aejax.datasets import files, tfds_source
from aejax.datasets.base import SHARES, SPLITS, RawData
from aejax.runtime.errors import DataError, MachineError

FILE = "olivetti_faces.npz"
PEOPLE = 40
PICTURES_PER_PERSON = 10
SIDE = 64
"""Height and width of a picture in pixels."""
SHIFT = 2
"""Largest shift of a face in `load_augmented`, in pixels and in each direction."""
HIGHEST = 242
"""The largest byte of all pictures. scikit-learn divides by it."""
DIGESTS = {
    "images": "a3f75007cc103363b61a63e06bec8ea4846407682ef6e7c9ae1eb9c1bd0e8a00",
    "labels": "2be463dfffb2fd54a24b159096fcda94b081231af18675570e89f8482dd2ea8d",
}
"""SHA-256 of the bytes of the original arrays: images (400, 64, 64) and labels (400,), uint8, sorted by person."""
_TEST_PEOPLE = round(SHARES["test"] * PEOPLE)
_VALIDATION_PEOPLE = round(SHARES["validation"] * PEOPLE)
SHAPE = ((PEOPLE - _TEST_PEOPLE - _VALIDATION_PEOPLE) * PICTURES_PER_PERSON, SIDE * SIDE)
"""(training rows, inputs)."""
AUGMENTED_SHAPE = (2 * (2 * SHIFT + 1) ** 2 * SHAPE[0], SHAPE[1] // 4)
"""(training rows, inputs) of `load_augmented`."""
PATCHES = 200
"""Patches per picture."""
PATCH_SIDE = 25
"""Height and width of a patch in pixels."""
PATCH_SHAPE = (PATCHES * SHAPE[0], PATCH_SIDE**2)
"""(training rows, inputs) of `load_patches`."""
_ANGLES = (-90.0, 90.0)  # range of rotations in degrees
_STEPS = (1.4, 1.8)  # range of distances between neighbouring pixels of a patch, in pixels of the picture
_HOW_TO_MAKE = (
    "python -c \"from aejax.datasets import olivetti; olivetti.make('{}')\" makes it with scikit-learn's download"
)


def load_raw(data_dir: str | Path | None, seed: int, mirrored: bool = False) -> RawData:
    """Pictures of 28 people for training, of 4 for validation and of 8 for the test, drawn with `seed`.

    The labels 0 to 39 number the people. `mirrored` adds the mirror image of every training picture.

    olivetti_faces.npz is searched for in data_dir, $TFDS_DATA_DIR and ~/tensorflow_datasets, and in their sub-folders
    olivetti/ and downloads/manual/. Raises DataError if it is not there or not the original.
    """
    images, labels = read(_find_file(data_dir))
    order = np.random.default_rng(seed).permutation(PEOPLE)
    test, validation, train = np.split(order, [_TEST_PEOPLE, _TEST_PEOPLE + _VALIDATION_PEOPLE])
    x: dict[str, np.ndarray] = {}
    y: dict[str, np.ndarray | None] = {}
    for split, people in zip(SPLITS, (train, validation, test), strict=True):
        rows = np.flatnonzero(np.isin(labels, people))
        pictures = images[rows]
        y[split] = labels[rows]
        if mirrored and split == "train":
            pictures = np.concatenate([pictures, pictures[:, :, ::-1]])
            y[split] = np.tile(labels[rows], 2)
        x[split] = pictures.reshape(len(pictures), -1)
    return RawData(x, y, (SIDE, SIDE), 255.0)


def load_augmented(data_dir: str | Path | None, seed: int) -> RawData:
    """The split of `load_raw` at half the size: 32x32 means of four pixels, with 50 versions of every training picture.

    These are the picture and its mirror image, shifted by -SHIFT to SHIFT pixels down and right. Pixels at the edge are
    repeated.
    """
    raw = load_raw(data_dir, seed)
    x = {split: _halve(pictures.reshape(-1, SIDE, SIDE)) for split, pictures in raw.x.items()}
    with_mirrored = np.concatenate([x["train"], x["train"][:, :, ::-1]])
    padded = np.pad(with_mirrored, ((0, 0), (SHIFT, SHIFT), (SHIFT, SHIFT)), mode="edge")
    side = SIDE // 2
    offsets = range(2 * SHIFT + 1)
    x["train"] = np.concatenate([padded[:, i : i + side, j : j + side] for i in offsets for j in offsets])
    labels = raw.y["train"]
    assert labels is not None
    y = {**raw.y, "train": np.tile(labels, 2 * len(offsets) ** 2)}
    return RawData(
        {split: pictures.reshape(len(pictures), -1) for split, pictures in x.items()}, y, (side, side), 255.0
    )


def load_patches(data_dir: str | Path | None, seed: int) -> RawData:
    """The split of `load_raw` with PATCHES patches of every picture in place of the picture, in all splits.

    A patch has 25x25 pixels around the middle of the face. It is rotated by -90 to 90 degrees, and 1.4 to 1.8 pixels of
    the picture lie between neighbouring pixels of the patch; values are interpolated bilinearly. The patches of a
    picture do not depend on `seed`.

    Hinton and Salakhutdinov 2006 rotated and scaled their 165 600 patches in this way. They also scaled them to one
    brightness.
    """
    from scipy.ndimage import map_coordinates  # a slow import

    raw = load_raw(data_dir, seed)
    offsets = np.arange(PATCH_SIDE) - (PATCH_SIDE - 1) / 2
    down, right = np.meshgrid(offsets, offsets, indexing="ij")
    middle = (SIDE - 1) / 2

    def cut_patches(picture: np.ndarray) -> np.ndarray:
        """The patches of a picture, (PATCHES, inputs). Rotations and scales are drawn with a hash of the picture."""
        rng = np.random.default_rng(np.frombuffer(hashlib.sha256(picture.tobytes()).digest(), np.uint32))
        angle = np.deg2rad(rng.uniform(*_ANGLES, (PATCHES, 1, 1)))
        step = rng.uniform(*_STEPS, (PATCHES, 1, 1))
        cosine = step * np.cos(angle)
        sine = step * np.sin(angle)
        coordinates = np.stack([cosine * down - sine * right, sine * down + cosine * right]) + middle
        values = map_coordinates(picture.reshape(SIDE, SIDE).astype(np.float64), coordinates, order=1, mode="nearest")
        return np.rint(values).astype(np.uint8).reshape(PATCHES, -1)

    x = {split: np.concatenate([cut_patches(picture) for picture in pictures]) for split, pictures in raw.x.items()}
    y = {split: None if labels is None else np.repeat(labels, PATCHES) for split, labels in raw.y.items()}
    return RawData(x, y, (PATCH_SIDE, PATCH_SIDE), 255.0)


def _halve(images: np.ndarray) -> np.ndarray:
    """Images of half the height and width, uint8: means of 2x2 pixels, rounded."""
    n, height, width = images.shape
    means = images.reshape(n, height // 2, 2, width // 2, 2).mean(axis=(2, 4), dtype=np.float64)
    return np.rint(means).astype(np.uint8)


def _find_file(data_dir: str | Path | None) -> Path:
    """The path of olivetti_faces.npz. Raises DataError if it is in none of the folders."""
    for folder in tfds_source.download_folders(data_dir, "olivetti"):
        if (folder / FILE).is_file():
            return folder / FILE
    roots = tfds_source.roots(data_dir)
    fix = f"put {FILE} into one of them: {_HOW_TO_MAKE.format(roots[0])}"
    raise DataError("olivetti", f"{FILE} is not in {', '.join(map(str, roots))}", fix)


def read(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Images (400, 64, 64) and labels (400,), uint8. Raises DataError unless they are the originals."""
    fix = f"remove it, and put the original there: {_HOW_TO_MAKE.format(path.parent)}"
    try:
        content = files.read(path)
    except DataError as error:
        raise DataError(error.field, error.problem, fix) from error
    images = content.x["train"]
    labels = content.y["train"]
    for name, array in (("images", images), ("labels", labels)):
        digest = "nothing" if array is None else hashlib.sha256(np.ascontiguousarray(array).data).hexdigest()
        if digest != DIGESTS[name]:
            found = f"{name} are not the original: expected SHA-256 {DIGESTS[name]}, found {digest}"
            raise DataError(str(path), found, fix)
    assert labels is not None
    return images.reshape(-1, SIDE, SIDE), labels.ravel()


def make(folder: str | Path) -> Path:
    """Write olivetti_faces.npz into a folder, using scikit-learn's `fetch_olivetti_faces`; return its path.

    Raises DataError if scikit-learn gives other pictures, MachineError if they cannot be downloaded or written.
    """
    from sklearn.datasets import fetch_olivetti_faces

    path = Path(folder).expanduser() / FILE
    try:
        faces: Any = fetch_olivetti_faces()
        arrays = {
            "images": np.rint(np.asarray(faces["images"], np.float64) * HIGHEST).astype(np.uint8),
            "labels": np.asarray(faces["target"]).astype(np.uint8),
        }
        for name, array in arrays.items():
            if hashlib.sha256(array.tobytes()).hexdigest() != DIGESTS[name]:
                raise DataError("olivetti", f"{name} from scikit-learn are not the original", "report it")
        buffer = io.BytesIO()
        np.savez_compressed(buffer, images=arrays["images"], labels=arrays["labels"])
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(buffer.getvalue())
    except OSError as error:
        found = f"could not be downloaded or written ({error})"
        raise MachineError(str(path), found, "check the network and the folder") from error
    return path
