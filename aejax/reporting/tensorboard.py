"""Runs as TensorBoard events: curves by epoch, hyper-parameters with final numbers, example reconstructions.

    results/<experiment>/tensorboard/<run_id>/events.out.tfevents.run     the finished run, written whole
    results/<experiment>/tensorboard/<run_id>/events.out.tfevents.live    its curves while it trains; then removed

A finished run always gives the same bytes, so that exporting again adds nothing. Needs tensorboardX (the extra
`tensorboard`), for its record of what an event is; the files are written here.
"""

from __future__ import annotations

import contextlib
import importlib
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from aejax.reporting.settings import Arrays, Row
from aejax.runtime.errors import MachineError
from aejax.storage import atomic, run_folders

CURVES = ("train_loss", "train_error", "validation_error")
METRICS = ("sse_test", "pca_sse_test", "sse_ratio", "sse_validation")
FINISHED, LIVE = "events.out.tfevents.run", "events.out.tfevents.live"
_EXAMPLES = ("original", "reconstruction", "pca")


def write(folder: Path, rows: Sequence[Row], arrays: Arrays) -> list[Path]:
    """Export the runs of an experiment's folder; returns the paths written. `arrays(run_id)` gives a run's arrays, or
    None where they are not in this copy: then its hyper-parameters and numbers are written alone.

    Raises MachineError without tensorboardX, or when the disk refuses.
    """
    _module("summary")
    written = []
    for row in rows:
        home = _home(folder, row["run_id"])
        path = home / FINISHED
        time = datetime.fromisoformat(row["provenance"]["created"]).timestamp()
        data = b"".join(_events(row, arrays(row["run_id"]) or {}, time))
        if not path.is_file() or path.read_bytes() != data:
            atomic.write_atomic(path, data)
        (home / LIVE).unlink(missing_ok=True)
        written.append(path)
    return written


class Live:
    """Curves of runs while they train, in the same folders. Raises MachineError without tensorboardX.

    A run that goes on from an earlier state keeps the points before it and writes the others anew.
    """

    def __init__(self, folder: Path):
        _module("summary")
        self.folder = folder
        self._next: dict[str, int] = {}

    def epochs(self, run_id: str, first_epoch: int, values: Mapping[str, np.ndarray]) -> None:
        """Append curves of one run: `values` maps a name to one number an epoch, the first of epoch `first_epoch`.

        Epochs count from 0 here and from 1 in TensorBoard, as in tables. Epochs that were given before are left out.
        """
        path = _home(self.folder, run_id) / LIVE
        if run_id not in self._next:
            atomic.write_atomic(path, b"".join(_kept(path, first_epoch)) or _version(0.0))
            self._next[run_id] = first_epoch
        new = max(0, self._next[run_id] - first_epoch)
        curves = {name: np.asarray(line)[new:] for name, line in values.items()}
        data = b"".join(_scalars(curves, first_epoch + new, datetime.now().timestamp()))
        with atomic.disk_errors_as_one_line(path, len(data)), path.open("ab") as file:
            file.write(data)
        self._next[run_id] = max([self._next[run_id], *(first_epoch + len(line) for line in values.values())])

    def close(self) -> None:
        """Nothing is kept open between calls; what `epochs` was given is in the files."""
        self._next.clear()


def read(path: Path) -> Iterator[Any]:
    """The events of a file, up to the first record that is damaged or cut off."""
    event = _module("proto.event_pb2").Event
    for record in _records(path.read_bytes()):
        yield event.FromString(record)


def _home(folder: Path, run_id: str) -> Path:
    home = folder / "tensorboard" / run_folders.check_name(run_id, "run_id")
    with atomic.disk_errors_as_one_line(home):
        atomic.make_folder(home)
    return home


def _module(name: str) -> Any:
    """A module of tensorboardX, imported when it is first used."""
    try:
        return importlib.import_module(f"tensorboardX.{name}")
    except ImportError as error:
        found = "not installed" if isinstance(error, ModuleNotFoundError) else f"cannot be imported: {error}"
        raise MachineError("tensorboardX", found, "pip install 'aejax[tensorboard]'") from error


def _events(row: Row, arrays: Mapping[str, np.ndarray], time: float) -> Iterator[bytes]:
    """The records of a finished run."""
    summary = _module("summary")
    yield _version(time)
    yield from _scalars({name: arrays[f"history/{name}"] for name in CURVES if f"history/{name}" in arrays}, 0, time)
    numbers = {name: float(row[name]) for name in METRICS if row.get(name) is not None}
    hyper = {**row["hyper"], "codings": row["codings"], "seed": row["seed"], "label": row["label"]}
    for part in summary.hparams(hyper, numbers):
        yield _event(part, 0, time)
    for name, value in numbers.items():
        yield _event(summary.scalar(name, value), 0, time)
    if row["data"]["image_shape"]:
        for name in _EXAMPLES:
            if f"examples/{name}" in arrays:
                image = _side_by_side(arrays[f"examples/{name}"], row["data"]["image_shape"])
                yield _event(summary.image(f"examples/{name}", image, dataformats="HWC"), 0, time)


def _side_by_side(images_md: np.ndarray, image_shape: Sequence[int]) -> np.ndarray:
    """Images (m, d), 0 to 1, beside each other as bytes (H, m W, 3)."""
    height, width, colours = (*image_shape, 1)[:3]
    tiles = np.clip(np.nan_to_num(np.asarray(images_md, np.float64)), 0, 1).reshape(-1, height, width, colours)
    image = np.round(np.concatenate(list(tiles), axis=1) * 255).astype(np.uint8)
    return image if colours == 3 else np.repeat(image[..., :1], 3, axis=2)


def _scalars(curves: Mapping[str, np.ndarray], first_epoch: int, time: float) -> Iterator[bytes]:
    summary = _module("summary")
    for i in range(max(map(len, curves.values()), default=0)):
        for name, line in curves.items():
            if i < len(line):
                yield _event(summary.scalar(name, float(line[i])), first_epoch + i + 1, time)


def _event(summary: Any, step: int, time: float) -> bytes:
    event = _module("proto.event_pb2").Event(wall_time=time, step=step, summary=summary)
    return _record(event.SerializeToString(deterministic=True))


def _version(time: float) -> bytes:
    event = _module("proto.event_pb2").Event(wall_time=time, file_version="brain.Event:2")
    return _record(event.SerializeToString(deterministic=True))


def _record(data: bytes) -> bytes:
    """A TFRecord: length, its checksum, data, its checksum."""
    checksum = _module("record_writer").masked_crc32c
    length = struct.pack("<Q", len(data))
    return length + struct.pack("<I", checksum(length)) + data + struct.pack("<I", checksum(data))


def _records(data: bytes) -> Iterator[bytes]:
    checksum, start = _module("record_writer").masked_crc32c, 0
    while start + 16 <= len(data):
        length = data[start : start + 8]
        end = start + 12 + int.from_bytes(length, "little")
        body, sums = data[start + 12 : end], (data[start + 8 : start + 12], data[end : end + 4])
        if sums != (struct.pack("<I", checksum(length)), struct.pack("<I", checksum(body))):
            return
        yield body
        start = end + 4


def _kept(path: Path, first_epoch: int) -> Iterable[bytes]:
    """The whole records of an interrupted run's curves before this epoch."""
    with contextlib.suppress(FileNotFoundError):
        return [_record(event.SerializeToString()) for event in read(path) if event.step <= first_epoch]
    return []
