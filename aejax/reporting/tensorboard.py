"""Runs as TensorBoard events: curves by epoch, hyper-parameters with final metrics, example reconstructions.

    results/<experiment>/tensorboard/<run_id>/events.out.tfevents.run     the finished run
    results/<experiment>/tensorboard/<run_id>/events.out.tfevents.live    its curves while it trains; then removed

A finished run always gives the same events, so that exporting it again changes nothing for a reader. tensorboardX (the
extra `tensorboard`) builds and frames the events. Its event writers choose the file name and add the current time; this
module therefore stores the files itself.
"""

from __future__ import annotations

import importlib
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from aejax.reporting.images import tile_images, to_pixels
from aejax.reporting.settings import ArrayLoader, Row
from aejax.runtime.errors import MachineError
from aejax.storage import atomic, run_folders

CURVES = ("train_loss", "train_error", "validation_error")
METRICS = ("sse_test", "pca_sse_test", "sse_ratio", "sse_validation")
FINISHED = "events.out.tfevents.run"
LIVE = "events.out.tfevents.live"
_EXAMPLES = ("examples/original", "examples/reconstruction", "examples/pca")


def write(folder: Path, rows: Sequence[Row], load_arrays: ArrayLoader) -> list[Path]:
    """Export the runs of an experiment's folder; returns the paths written.

    A run whose arrays are not in this copy is exported with its hyper-parameters and metrics only. Raises MachineError
    without tensorboardX, or when the disk refuses.
    """
    _import("summary")
    paths = []
    for row in rows:
        run_folder = _make_run_folder(folder, row["run_id"])
        path = run_folder / FINISHED
        data = _encode(_run_events(row, load_arrays(row["run_id"]) or {}))
        if not path.is_file() or path.read_bytes() != data:
            atomic.write_atomic(path, data)
        (run_folder / LIVE).unlink(missing_ok=True)
        paths.append(path)
    return paths


class Live:
    """Curves of runs while they train, in the same folders. Raises MachineError without tensorboardX.

    A run that resumes from a checkpoint keeps the points up to the checkpoint and replaces the later ones.
    """

    def __init__(self, folder: Path):
        _import("summary")
        self.folder = folder
        self._next_epoch: dict[str, int] = {}

    def append(self, run_id: str, first_epoch: int, curves: Mapping[str, np.ndarray]) -> None:
        """Append to the curves of one run: one number for each epoch from `first_epoch` on, by the curve's name.

        Epochs count from 0 here and from 1 in TensorBoard, as in tables. Epochs that were appended before are skipped.
        """
        path = _make_run_folder(self.folder, run_id) / LIVE
        if run_id not in self._next_epoch:
            # an interrupted run's events up to the checkpoint stay
            events = [event for event in read(path) if event.step <= first_epoch] if path.exists() else []
            atomic.write_atomic(path, _encode(events or [_event(0.0)]))
            self._next_epoch[run_id] = first_epoch
        start = max(first_epoch, self._next_epoch[run_id])
        new_curves = {name: np.asarray(curve)[start - first_epoch :] for name, curve in curves.items()}
        data = _encode(_curve_events(new_curves, start, datetime.now().timestamp()))
        with atomic.disk_errors_as_one_line(path, len(data)), path.open("ab") as file:
            file.write(data)
        self._next_epoch[run_id] = max([start, *(start + len(curve) for curve in new_curves.values())])


def read(path: Path) -> Iterator[Any]:
    """The events of a file, up to the first record that is damaged or cut off.

    tensorboardX has no reader. A record is the data's length (8 bytes), its checksum (4), the data, its checksum (4).
    """
    event_class = _import("proto.event_pb2").Event
    checksum = _import("record_writer").masked_crc32c
    with path.open("rb") as file:
        while len(head := file.read(12)) == 12:
            length = head[:8]
            data = file.read(int.from_bytes(length, "little"))
            checksums = (head[8:], file.read(4))
            if checksums != tuple(checksum(part).to_bytes(4, "little") for part in (length, data)):
                return
            yield event_class.FromString(data)


def _make_run_folder(folder: Path, run_id: str) -> Path:
    path = folder / "tensorboard" / run_folders.check_name(run_id, "run_id")
    with atomic.disk_errors_as_one_line(path):
        atomic.make_folder(path)
    return path


def _import(name: str) -> Any:
    """A module of tensorboardX, imported at its first use. Raises MachineError without tensorboardX."""
    try:
        return importlib.import_module(f"tensorboardX.{name}")
    except ImportError as error:
        reason = "not installed" if isinstance(error, ModuleNotFoundError) else f"cannot be imported: {error}"
        raise MachineError("tensorboardX", reason, "pip install 'aejax[tensorboard]'") from error


def _encode(events: Iterable[Any]) -> bytes:
    """The events as bytes of an event file. tensorboardX writes them to a temporary file: it needs a path."""
    record_writer = _import("record_writer")
    with tempfile.NamedTemporaryFile() as file, atomic.disk_errors_as_one_line(Path(file.name)):
        writer = record_writer.RecordWriter(file.name)
        for event in events:
            writer.write(event.SerializeToString(deterministic=True))
        writer.close()
        return Path(file.name).read_bytes()


def _run_events(row: Row, arrays: Mapping[str, np.ndarray]) -> Iterator[Any]:
    """The events of a finished run."""
    summary = _import("summary")
    time = datetime.fromisoformat(row["provenance"]["created"]).timestamp()
    yield _event(time)
    curves = {name: arrays[f"history/{name}"] for name in CURVES if f"history/{name}" in arrays}
    yield from _curve_events(curves, 0, time)
    metrics = {name: float(row[name]) for name in METRICS if row.get(name) is not None}
    hyper = {**row["hyper"], "codings": row["codings"], "seed": row["seed"], "label": row["label"]}
    for part in summary.hparams(hyper, metrics):
        yield _event(time, summary=part)
    for name, value in metrics.items():
        yield _event(time, summary=summary.scalar(name, value))
    shape = row["data"]["image_shape"]
    for name in _EXAMPLES:
        if shape and name in arrays:
            image = to_pixels(tile_images(arrays[name], shape, len(arrays[name]), gap=0))
            yield _event(time, summary=summary.image(name, image, dataformats="HWC"[: image.ndim]))


def _curve_events(curves: Mapping[str, np.ndarray], first_epoch: int, time: float) -> Iterator[Any]:
    summary = _import("summary")
    for i in range(max(map(len, curves.values()), default=0)):
        for name, curve in curves.items():
            if i < len(curve):
                yield _event(time, first_epoch + i + 1, summary=summary.scalar(name, float(curve[i])))


def _event(time: float, step: int = 0, summary: Any = None) -> Any:
    """An event with a summary, or without one the event with which a file starts."""
    content = {"file_version": "brain.Event:2"} if summary is None else {"summary": summary}
    return _import("proto.event_pb2").Event(wall_time=time, step=step, **content)
