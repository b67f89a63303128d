"""The Olivetti faces: forty people, ten pictures each, split by person, so that test people were never seen.

AT&T Laboratories Cambridge, 1992–1994; Samaria and Harter 1994. Read from olivetti_faces.npz, whose arrays are verified
at every load; `make` writes that file with scikit-learn.
"""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import Any

import numpy as np

from aejax.datasets import files, tfds_source
from aejax.datasets.base import SHARES, Raw
from aejax.runtime.errors import DataError, MachineError

FILE = "olivetti_faces.npz"
PEOPLE, EACH, SIDE = 40, 10, 64
SHIFT = 2
"""Pixels by which a face of `augmented` is moved at most, in each direction."""
HIGHEST = 242
"""Brightest byte of the pictures: scikit-learn divides by it."""
DIGESTS = {
    "images": "a3f75007cc103363b61a63e06bec8ea4846407682ef6e7c9ae1eb9c1bd0e8a00",
    "labels": "2be463dfffb2fd54a24b159096fcda94b081231af18675570e89f8482dd2ea8d",
}
"""SHA-256 of the arrays' bytes: images (400, 64, 64) and labels (400,), uint8, ten of each person in order."""
_TEST, _VALIDATION = (round(SHARES[split] * PEOPLE) for split in ("test", "validation"))
SHAPE = ((PEOPLE - _TEST - _VALIDATION) * EACH, SIDE * SIDE)
"""(training rows, inputs)."""
AUGMENTED_SHAPE = (2 * (2 * SHIFT + 1) ** 2 * SHAPE[0], SHAPE[1] // 4)
PATCHES, PATCH_SIDE = 200, 25
"""Patches of each picture, and their pixels across."""
PATCH_SHAPE = (PATCHES * SHAPE[0], PATCH_SIDE**2)
_ANGLES, _STEPS = (-90.0, 90.0), (1.4, 1.8)  # degrees; picture pixels from one pixel of a patch to the next
_MAKE = "python -c \"from aejax.datasets import olivetti; olivetti.make('{}')\" makes it with scikit-learn's download"


def raw(data_dir: str | Path | None, seed: int, mirrored: bool = False) -> Raw:
    """Pictures of 28 people to train on, of 4 to validate and of 8 to test, which people by `seed`; labels 0..39 are
    the people. `mirrored` adds the mirror image of every training picture.

    olivetti_faces.npz is looked for under data_dir, $TFDS_DATA_DIR and ~/tensorflow_datasets: in that folder, its
    olivetti/ or its downloads/manual/. Raises DataError where it is not there or not the original.
    """
    images, labels = read(_find(data_dir))
    order = np.random.default_rng(seed).permutation(PEOPLE)
    people = {"test": order[:_TEST], "validation": order[_TEST : _TEST + _VALIDATION]}
    people["train"] = order[_TEST + _VALIDATION :]
    chosen = {split: np.flatnonzero(np.isin(labels, people[split])) for split in ("train", "validation", "test")}
    x, y = {split: images[rows] for split, rows in chosen.items()}, {s: labels[rows] for s, rows in chosen.items()}
    if mirrored:
        x["train"], y["train"] = np.concatenate([x["train"], x["train"][:, :, ::-1]]), np.tile(y["train"], 2)
    flat = {split: pictures.reshape(len(pictures), -1) for split, pictures in x.items()}
    return Raw(flat, dict(y), (SIDE, SIDE), 255.0)


def augmented(data_dir: str | Path | None, seed: int) -> Raw:
    """The same people at half the size, 32x32 means of four pixels; every training face and its mirror image moved by
    -SHIFT … SHIFT pixels down and right, edges repeated: 50 pictures of each. Validation and test stay as they are.
    """
    found = raw(data_dir, seed)
    x = {split: _halved(pictures.reshape(-1, SIDE, SIDE)) for split, pictures in found.x.items()}
    both = np.concatenate([x["train"], x["train"][:, :, ::-1]])
    padded = np.pad(both, ((0, 0), (SHIFT, SHIFT), (SHIFT, SHIFT)), mode="edge")
    side, steps = SIDE // 2, range(2 * SHIFT + 1)
    x["train"] = np.concatenate([padded[:, i : i + side, j : j + side] for i in steps for j in steps])
    people = found.y["train"]
    assert people is not None
    y = {**found.y, "train": np.tile(people, 2 * len(steps) ** 2)}
    return Raw({split: pictures.reshape(len(pictures), -1) for split, pictures in x.items()}, y, (side, side), 255.0)


def patches(data_dir: str | Path | None, seed: int) -> Raw:
    """The same people in 25x25 patches around the middle of the face: PATCHES of every picture, of test and validation
    as well, each turned by -90 to 90 degrees and 1.4 to 1.8 picture pixels a step, drawn once for all seeds.

    After Hinton and Salakhutdinov 2006, whose 165 600 patches were turned and scaled like this; theirs were also
    scaled to one brightness. Bilinear between pixels.
    """
    from scipy.ndimage import map_coordinates  # a slow import

    found = raw(data_dir, seed)
    at = np.arange(PATCH_SIDE) - (PATCH_SIDE - 1) / 2
    down, right = np.meshgrid(at, at, indexing="ij")
    middle = (SIDE - 1) / 2

    def cut(picture: np.ndarray) -> np.ndarray:
        """Its patches, (PATCHES, inputs); which ones depends on the picture alone."""
        rng = np.random.default_rng(np.frombuffer(hashlib.sha256(picture.tobytes()).digest(), np.uint32))
        angle, step = np.deg2rad(rng.uniform(*_ANGLES, (PATCHES, 1, 1))), rng.uniform(*_STEPS, (PATCHES, 1, 1))
        cosine, sine = step * np.cos(angle), step * np.sin(angle)
        places = np.stack([cosine * down - sine * right, sine * down + cosine * right]) + middle
        values = map_coordinates(picture.reshape(SIDE, SIDE).astype(np.float64), places, order=1, mode="nearest")
        return np.rint(values).astype(np.uint8).reshape(PATCHES, -1)

    x = {split: np.concatenate([cut(picture) for picture in pictures]) for split, pictures in found.x.items()}
    y = {split: None if people is None else np.repeat(people, PATCHES) for split, people in found.y.items()}
    return Raw(x, y, (PATCH_SIDE, PATCH_SIDE), 255.0)


def _halved(images: np.ndarray) -> np.ndarray:
    """Means of 2x2 pixels, rounded."""
    n, height, width = images.shape
    means = images.reshape(n, height // 2, 2, width // 2, 2).mean(axis=(2, 4), dtype=np.float64)
    return np.rint(means).astype(np.uint8)


def _find(data_dir: str | Path | None) -> Path:
    roots = tfds_source.roots(data_dir)
    for root in roots:
        for folder in (root, root / "olivetti", root / "downloads" / "manual"):
            if (folder / FILE).is_file():
                return folder / FILE
    fix = f"put {FILE} into one of them: {_MAKE.format(roots[0])}"
    raise DataError("olivetti", f"{FILE} is not in {', '.join(map(str, roots))}", fix)


def read(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Images (400, 64, 64) and labels (400,), uint8. Raises DataError unless they are the originals."""
    fix = f"remove it, and put the original there: {_MAKE.format(path.parent)}"
    try:
        content = files.read(path)
    except DataError as error:
        raise DataError(error.field, error.found, fix) from error
    held = {"images": content.x["train"], "labels": content.y["train"]}
    for name, expected in DIGESTS.items():
        array = held[name]
        found = "nothing" if array is None else hashlib.sha256(np.ascontiguousarray(array).data).hexdigest()
        if found != expected:
            raise DataError(str(path), f"{name} are not the original: expected SHA-256 {expected}, found {found}", fix)
    labels = held["labels"]
    assert labels is not None
    return held["images"].reshape(-1, SIDE, SIDE), labels.ravel()


def make(folder: str | Path) -> Path:
    """Write olivetti_faces.npz into a folder, from what scikit-learn's `fetch_olivetti_faces` downloads and scales.

    Raises DataError where that is not the original, MachineError where it cannot be had or written.
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
