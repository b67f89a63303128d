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

from aejax.datasets import files, interpret, tfds_source
from aejax.datasets.base import SPLITS, RawData, split_sizes
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
SHAPE = (split_sizes(PEOPLE)["train"] * PICTURES_PER_PERSON, SIDE * SIDE)
"""(training rows, inputs)."""
MIRRORED_SHAPE = (2 * SHAPE[0], SHAPE[1])
"""(training rows, inputs) of `load_mirrored`."""
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
_RECIPE = "python -c \"from aejax.datasets import olivetti; olivetti.make('{}')\" makes it with scikit-learn's download"


def load_raw(data_dir: str | Path | None, seed: int) -> RawData:
    """Pictures of 28 people for training, of 4 for validation and of 8 for the test, drawn with `seed`.

    The labels 0 to 39 number the people.

    olivetti_faces.npz is searched for in data_dir, $TFDS_DATA_DIR and ~/tensorflow_datasets, and in their sub-folders
    olivetti/ and downloads/manual/. Raises DataError if it is not there or not the original.
    """
    return interpret.interpret("olivetti", *_read_splits(data_dir, seed))


def load_mirrored(data_dir: str | Path | None, seed: int) -> RawData:
    """The split of `load_raw` with the mirror image of every training picture."""
    x, y = _read_splits(data_dir, seed)
    x["train"] = _with_mirrored(x["train"])
    y["train"] = np.tile(y["train"], 2)
    return interpret.interpret("olivetti_mirrored", x, y)


def _read_splits(data_dir: str | Path | None, seed: int) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Pictures (n, 64, 64) and labels (n,) per split, uint8. See `load_raw`."""
    images, labels = _read_file(data_dir)
    order = np.random.default_rng(seed).permutation(PEOPLE)
    sizes = split_sizes(PEOPLE)
    test, validation, train = np.split(order, np.cumsum([sizes["test"], sizes["validation"]]))
    people = {"train": train, "validation": validation, "test": test}
    rows = {split: np.isin(labels, people[split]) for split in SPLITS}
    return {split: images[rows[split]] for split in SPLITS}, {split: labels[rows[split]] for split in SPLITS}


def _with_mirrored(images: np.ndarray) -> np.ndarray:
    """Images (n, height, width), followed by their mirror images: (2 n, height, width)."""
    return np.concatenate([images, images[:, :, ::-1]])


def load_augmented(data_dir: str | Path | None, seed: int) -> RawData:
    """The split of `load_raw` at half the size: 32x32 means of four pixels, with 50 versions of every training picture.

    These are the picture and its mirror image, shifted by -SHIFT to SHIFT pixels down and right. Pixels at the edge are
    repeated.
    """
    x, y = _read_splits(data_dir, seed)
    side = SIDE // 2
    for split, images in x.items():
        means = images.reshape(-1, side, 2, side, 2).mean(axis=(2, 4), dtype=np.float64)
        x[split] = np.rint(means).astype(np.uint8)
    padded = np.pad(_with_mirrored(x["train"]), ((0, 0), (SHIFT, SHIFT), (SHIFT, SHIFT)), mode="edge")
    offsets = range(2 * SHIFT + 1)
    x["train"] = np.concatenate([padded[:, i : i + side, j : j + side] for i in offsets for j in offsets])
    y["train"] = np.tile(y["train"], 2 * len(offsets) ** 2)
    return interpret.interpret("olivetti_augmented", x, y)


def load_patches(data_dir: str | Path | None, seed: int) -> RawData:
    """The split of `load_raw` with PATCHES patches of every picture in place of the picture, in all splits.

    A patch has 25x25 pixels around the middle of the face. It is rotated by -90 to 90 degrees, and 1.4 to 1.8 pixels of
    the picture lie between neighbouring pixels of the patch; values are interpolated bilinearly. The patches of a
    picture do not depend on `seed`.

    Hinton and Salakhutdinov 2006 rotated and scaled their 165 600 patches in this way. They also scaled them to one
    brightness.
    """
    from scipy.ndimage import map_coordinates  # a slow import

    x, y = _read_splits(data_dir, seed)
    down, right = np.mgrid[:PATCH_SIDE, :PATCH_SIDE] - (PATCH_SIDE - 1) / 2
    middle = (SIDE - 1) / 2

    def cut_patches(picture: np.ndarray) -> np.ndarray:
        """The patches of a picture, (PATCHES, 25, 25). Rotations and scales are drawn with a hash of the picture."""
        rng = np.random.default_rng(np.frombuffer(hashlib.sha256(picture.tobytes()).digest(), np.uint32))
        angle = np.deg2rad(rng.uniform(*_ANGLES, (PATCHES, 1, 1)))
        step = rng.uniform(*_STEPS, (PATCHES, 1, 1))
        cosine = step * np.cos(angle)
        sine = step * np.sin(angle)
        coordinates = np.stack([cosine * down - sine * right, sine * down + cosine * right]) + middle
        values = map_coordinates(picture.astype(np.float64), coordinates, order=1, mode="nearest")
        return np.rint(values).astype(np.uint8)

    patches = {split: np.concatenate([cut_patches(picture) for picture in x[split]]) for split in SPLITS}
    return interpret.interpret("olivetti_patches", patches, {split: np.repeat(y[split], PATCHES) for split in SPLITS})


def _read_file(data_dir: str | Path | None) -> tuple[np.ndarray, np.ndarray]:
    """Images (400, 64, 64) and labels (400,), uint8. Raises DataError if they are in no folder or not the originals."""
    paths = [folder / FILE for folder in tfds_source.download_folders(data_dir, "olivetti")]
    path = next((path for path in paths if path.is_file()), None)
    if path is None:
        roots = tfds_source.roots(data_dir)
        fix = f"put {FILE} into one of them: {_RECIPE.format(roots[0])}"
        raise DataError("olivetti", f"{FILE} is not in {', '.join(map(str, roots))}", fix)
    fix = f"remove it, and put the original there: {_RECIPE.format(path.parent)}"
    try:
        content = files.read(path)
    except DataError as error:
        raise DataError(error.field, error.problem, fix) from error
    images = content.x["train"]
    labels: Any = content.y["train"]  # None is refused below, too
    for name, array in (("images", images), ("labels", labels)):
        digest = "nothing" if array is None else hashlib.sha256(array.tobytes()).hexdigest()
        if digest != DIGESTS[name]:
            problem = f"{name} are not the original: expected SHA-256 {DIGESTS[name]}, found {digest}"
            raise DataError(str(path), problem, fix)
    return images.reshape(-1, SIDE, SIDE), labels.ravel()


def make(folder: str | Path) -> Path:
    """Write olivetti_faces.npz into a folder, using scikit-learn's `fetch_olivetti_faces`; return its path.

    Raises DataError if scikit-learn gives other pictures, MachineError if they cannot be downloaded or written.
    """
    from sklearn.datasets import fetch_olivetti_faces

    path = Path(folder).expanduser() / FILE
    try:
        faces: Any = fetch_olivetti_faces()
        images = np.rint(np.asarray(faces["images"], np.float64) * HIGHEST).astype(np.uint8)
        labels = np.asarray(faces["target"]).astype(np.uint8)
        for name, array in (("images", images), ("labels", labels)):
            if hashlib.sha256(array.tobytes()).hexdigest() != DIGESTS[name]:
                raise DataError("olivetti", f"{name} from scikit-learn are not the original", "report it")
        archive = io.BytesIO()
        np.savez_compressed(archive, images=images, labels=labels)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(archive.getvalue())
    except OSError as error:
        problem = f"could not be downloaded or written ({error})"
        raise MachineError(str(path), problem, "check the network and the folder") from error
    return path
