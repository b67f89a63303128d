"""TensorBoard events, read back from their bytes by a second implementation of framing and checksums."""

import io
import struct
import sys

import numpy as np
import pytest
from PIL import Image

from aejax import cli
from aejax.reporting import tensorboard
from aejax.runtime.errors import ConfigError, MachineError
from aejax.storage import atomic, lock, run_folders
from fabricated import arrays_of, make
from support import check_refused, rows_of

event_pb2 = pytest.importorskip("tensorboardX.proto.event_pb2")
plugin_pb2 = pytest.importorskip("tensorboardX.proto.plugin_hparams_pb2")

TABLE = []
for byte in range(256):
    for _ in range(8):
        byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)  # Castagnoli's polynomial, bits reversed
    TABLE.append(byte)


def masked_crc(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ TABLE[(crc ^ byte) & 0xFF]
    crc ^= 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def events(path):
    """All events of a file; every length and checksum must be right, to the last byte."""
    data = path.read_bytes()
    parsed = []
    while data:
        length, length_checksum = struct.unpack("<QI", data[:12])
        body = data[12 : 12 + length]
        (body_checksum,) = struct.unpack("<I", data[12 + length : 16 + length])
        assert (length_checksum, body_checksum) == (masked_crc(data[:8]), masked_crc(body))
        parsed.append(event_pb2.Event.FromString(body))
        data = data[16 + length :]
    assert parsed[0].file_version == "brain.Event:2"
    return parsed


def scalars(path):
    """Steps and values by tag."""
    curves = {}
    for event in events(path):
        for value in event.summary.value:
            if value.WhichOneof("value") == "simple_value":
                curves.setdefault(value.tag, []).append((event.step, value.simple_value))
    return curves


def test_the_checksum_of_this_test_is_castagnolis():
    assert masked_crc(b"123456789") == ((0xE3069283 >> 15 | 0xE3069283 << 17) + 0xA282EAD8) & 0xFFFFFFFF


def test_a_run_is_exported_with_curves_hyper_parameters_metrics_and_images(tmp_path):
    row = make(seed=3, sse=8.0, hyper={"learning_rate": 0.25, "l2": 0.0})
    arrays = arrays_of([row])
    (path,) = tensorboard.write(tmp_path, [row], arrays.get)
    assert path.parent == tmp_path / "tensorboard" / row["run_id"]
    curves = scalars(path)
    for name in ("train_loss", "train_error", "validation_error"):
        wanted = arrays[row["run_id"]][f"history/{name}"]
        assert curves.pop(name) == [(i, pytest.approx(float(v))) for i, v in enumerate(wanted, 1)]
    assert curves == {
        "sse_test": [(0, 8.0)],
        "pca_sse_test": [(0, 10.0)],
        "sse_ratio": [(0, pytest.approx(0.8))],
        "sse_validation": [(0, 8.0)],
    }
    values = {value.tag: value for event in events(path) for value in event.summary.value}
    start = plugin_pb2.HParamsPluginData.FromString(
        values["_hparams_/session_start_info"].metadata.plugin_data.content
    ).session_start_info.hparams
    numbers = {name: value.number_value for name, value in start.items() if name != "label"}
    assert numbers == {"learning_rate": 0.25, "l2": 0.0, "codings": 7.0, "seed": 3.0}
    image = Image.open(io.BytesIO(values["examples/reconstruction"].image.encoded_image_string))
    drawn = np.asarray(image)[..., 0].reshape(4, 5, 3).swapaxes(0, 1).reshape(5, 12)
    assert drawn == pytest.approx(arrays[row["run_id"]]["examples/reconstruction"] * 255, abs=0.5001)


def test_exporting_twice_changes_nothing_and_replaces_the_live_curves(tmp_path):
    rows = [make(seed=0), make(seed=1, status="diverged"), make(seed=2, data=make()["data"] | {"image_shape": None})]
    live = tensorboard.Live(tmp_path)
    live.append(rows[0]["run_id"], 0, {"train_loss": np.ones(2)})
    arrays = arrays_of(rows)
    arrays.pop(rows[2]["run_id"])
    paths = tensorboard.write(tmp_path, rows, arrays.get)
    first = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in paths}
    assert tensorboard.write(tmp_path, rows, arrays.get) == paths
    assert {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in paths} == first
    assert sorted(path for path in tmp_path.rglob("*") if path.is_file()) == sorted(paths)
    assert "sse_test" not in scalars(paths[1])
    assert set(scalars(paths[2])) == {"sse_test", "pca_sse_test", "sse_ratio", "sse_validation"}
    assert tensorboard.write(tmp_path, [rows[0] | {"sse_test": 7.0}], arrays.get) == paths[:1]
    assert scalars(paths[0])["sse_test"] == [(0, 7.0)]


def test_live_curves_are_appended_once_each_and_continue_after_a_kill(tmp_path):
    live = tensorboard.Live(tmp_path)
    path = tmp_path / "tensorboard" / "abc" / "events.out.tfevents.live"
    live.append("abc", 0, {"train_loss": np.array([5.0, 4.0]), "validation_error": np.array([2.0, np.nan])})
    live.append("abc", 1, {"train_loss": np.array([4.0, 3.0])})  # epoch 1 was appended before
    live.append("other", 0, {"train_loss": np.array([9.0])})
    assert scalars(path)["train_loss"] == [(1, 5.0), (2, 4.0), (3, 3.0)]
    assert [step for step, _ in scalars(path)["validation_error"]] == [1, 2]
    assert np.isnan(scalars(path)["validation_error"][1][1])
    path.write_bytes(path.read_bytes()[:-3])  # killed while it wrote epoch 2
    assert [event.step for event in tensorboard.read(path)] == [0, 1, 1, 2, 2]
    live = tensorboard.Live(tmp_path)  # another process resumes from the checkpoint after epoch 1
    live.append("abc", 1, {"train_loss": np.array([4.5, 3.5]), "validation_error": np.array([1.5, 1.0])})
    assert scalars(path) == {
        "train_loss": [(1, 5.0), (2, 4.5), (3, 3.5)],
        "validation_error": [(1, 2.0), (2, 1.5), (3, 1.0)],
    }


def test_reading_ends_at_a_flipped_bit(tmp_path):
    live = tensorboard.Live(tmp_path)
    live.append("abc", 0, {"train_loss": np.arange(4.0)})
    path = tmp_path / "tensorboard" / "abc" / "events.out.tfevents.live"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    assert 1 <= len(list(tensorboard.read(path))) < 5


def test_without_tensorboardx_the_error_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboardX.summary", None)
    for attempt in (lambda: tensorboard.Live(tmp_path), lambda: tensorboard.write(tmp_path, [make()], {}.get)):
        with pytest.raises(MachineError, match=r"pip install 'aejax\[tensorboard\]'"):
            attempt()
    assert not list(tmp_path.iterdir())


def test_no_run_id_leads_out_of_the_folder(tmp_path):
    with pytest.raises(ConfigError, match="run_id"):
        tensorboard.Live(tmp_path / "x").append("../../away", 0, {"train_loss": np.ones(1)})
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_the_command_line_writes_events_and_all_else_while_it_holds_the_lock(tiny, tmp_path, monkeypatch):
    folder = tmp_path / "tiny"
    unlocked = []
    live = []

    def watch(module, name):
        write = getattr(module, name)

        def watched_write(path, *arguments):
            with lock.if_unheld(folder) as free:
                unlocked.extend([(name, path)] if free else [])
            live.extend([path] if path.name == tensorboard.LIVE else [])
            return write(path, *arguments)

        monkeypatch.setattr(module, name, watched_write)

    for module, name in ((atomic, "write_atomic"), (run_folders, "write_atomic"), (atomic, "commit_folder")):
        watch(module, name)
    assert cli.main(["run", str(tiny), "--results", str(tmp_path), "--tensorboard", "--set", "seeds=0"]) == 0
    assert unlocked == []
    rows = rows_of(folder)
    assert sorted(path.parent.name for path in live) == sorted(row["run_id"] for row in rows)
    assert len([path for path in (folder / "tensorboard").rglob("*") if path.is_file()]) == len(rows) == 2
    for row in rows:
        drawn = scalars(folder / "tensorboard" / row["run_id"] / tensorboard.FINISHED)
        history = run_folders.read_run(folder / "runs" / row["run_id"]).arrays["history/train_loss"]
        assert drawn["train_loss"] == [(i, pytest.approx(float(loss))) for i, loss in enumerate(history, 1)]
        assert drawn["sse_test"] == [(0, pytest.approx(row["sse_test"]))]


def test_the_command_line_refuses_before_training_without_tensorboardx(tiny, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboardX.summary", None)
    check_refused(capsys, ["run", tiny, "--results", tmp_path / "results", "--tensorboard"], 5, "tensorboardX")
    assert not (tmp_path / "results").exists()
