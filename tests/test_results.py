"""Stored runs: written atomically, checked on every read, and never outside the results folder."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from aejax.runtime.errors import ConfigError, MachineError, ResultsError
from aejax.storage import provenance, run_folders
from aejax.storage.run_folders import FORMAT

ROW = {
    "format": FORMAT,
    "run_id": "0123456789ab",
    "dataset": "d",
    "label": "l",
    "codings": 2,
    "hyper": {"l2": 0.0},
    "seed": 0,
}
PARAMS = {
    "encoder": {"layer_0": {"kernel": np.arange(6, dtype=np.float32).reshape(2, 3).T, "bias": np.zeros(2, np.float32)}},
    "decoder": {"layer_0": {"bias": np.ones(3, np.float32)}},
}
ARRAYS = {"pca_curve": np.linspace(1, 0, 4), "history/train_loss": np.ones(3, np.float32)}


@pytest.fixture
def folder(tmp_path):
    return run_folders.open_folder(tmp_path / "results", "x")


def test_a_run_that_is_read_equals_the_stored_one(folder):
    stored = run_folders.read_run(run_folders.write_run(folder, ROW, PARAMS, ARRAYS))
    assert stored.row == ROW
    for path in (("encoder", "layer_0", "kernel"), ("encoder", "layer_0", "bias"), ("decoder", "layer_0", "bias")):
        actual = stored.params
        expected = PARAMS
        for part in path:
            actual = actual[part]
            expected = expected[part]
        np.testing.assert_array_equal(actual, expected)
        assert np.asarray(actual).dtype == np.asarray(expected).dtype
    assert set(stored.arrays) == set(ARRAYS)
    np.testing.assert_array_equal(stored.arrays["pca_curve"], ARRAYS["pca_curve"])


@pytest.mark.parametrize("name", ["run.json", "parameters.safetensors", "arrays.safetensors", "manifest.json"])
@pytest.mark.parametrize("damage", ["flip", "truncate", "delete", "empty"])
def test_no_damaged_file_is_used_silently(folder, name, damage):
    run = run_folders.write_run(folder, ROW, PARAMS, ARRAYS)
    path = run / name
    data = bytearray(path.read_bytes())
    if damage == "delete":
        path.unlink()
    elif damage == "flip":
        data[data.index(b'"sha256"') + 20 if name == "manifest.json" else len(data) // 2] ^= 4
        path.write_bytes(data)
    else:
        path.write_bytes(b"" if damage == "empty" else data[: len(data) // 2])
    with pytest.raises(ResultsError) as caught:
        run_folders.read_run(run)
    assert str(run) in str(caught.value)
    warnings: list[str] = []
    assert run_folders.read_row(run, warnings.append) is None
    assert len(warnings) == 1
    assert str(run) in warnings[0]
    assert name in warnings[0]
    assert run_folders.write_index(folder) == []


def test_every_flipped_bit_of_the_parameters_is_detected(folder):
    run = run_folders.write_run(folder, ROW, PARAMS, ARRAYS)
    path = run / "parameters.safetensors"
    intact = path.read_bytes()
    for bit in np.random.default_rng(0).integers(0, 8 * len(intact), 100):
        data = bytearray(intact)
        data[bit // 8] ^= 1 << (bit % 8)
        path.write_bytes(data)
        assert run_folders.read_row(run) is None
    path.write_bytes(intact)
    assert run_folders.read_row(run) == ROW


def rewrite(path, **changes):
    """Change fields of a JSON file."""
    path.write_bytes(run_folders.to_json({**json.loads(path.read_bytes()), **changes}, indent=1).encode())


def test_a_newer_format_is_refused_with_both_versions(folder):
    run = run_folders.write_run(folder, ROW, PARAMS, ARRAYS)
    for name in ("manifest.json", "run.json"):
        rewrite(run / name, format=99)
    for read in (run_folders.read_run, run_folders.read_row):
        with pytest.raises(ConfigError, match=f"format 99, this aejax reads up to {FORMAT}"):
            read(run)


@pytest.mark.parametrize("version", [99, 0, -1, True, 1.0, "1", None])
def test_a_format_that_never_existed_is_reported_as_damage(folder, version):
    run = run_folders.write_run(folder, ROW, PARAMS, ARRAYS)
    rewrite(run / "manifest.json", format=version)
    with pytest.raises(ResultsError, match=r"manifest\.json: damaged"):
        run_folders.read_run(run)


def test_a_row_of_another_format_is_refused(folder):
    with pytest.raises(ValueError, match="row of format"):
        run_folders.write_run(folder, {**ROW, "format": FORMAT + 1}, PARAMS, ARRAYS)


def test_storing_over_a_damaged_run_keeps_the_damaged_run(folder):
    for number in (1, 2):
        run = run_folders.write_run(folder, ROW, PARAMS, ARRAYS)
        (run / "arrays.safetensors").write_bytes(b"damaged %d" % number)
    run_folders.write_run(folder, ROW, PARAMS, ARRAYS)
    run_folders.open_folder(folder.parent, folder.name)
    assert run_folders.read_run(run).row == ROW
    for number in (1, 2):
        kept = folder / "runs" / f".corrupt-{ROW['run_id']}-{number}"
        assert (kept / "arrays.safetensors").read_bytes() == b"damaged %d" % number
    assert len(list((folder / "runs").iterdir())) == 3
    assert run_folders.write_index(folder) == [ROW]


def test_the_row_of_a_damaged_run_is_removed_from_the_index_and_reported(folder):
    other = {**ROW, "run_id": "f" * 12}
    for row in (ROW, other):
        run_folders.write_run(folder, row, PARAMS, ARRAYS)
    assert run_folders.write_index(folder) == [ROW, other]
    (folder / "runs" / other["run_id"] / "arrays.safetensors").unlink()
    warnings: list[str] = []
    assert run_folders.write_index(folder, warnings.append) == [ROW]
    assert run_folders.read_index(folder) == [ROW]
    assert len(warnings) == 1
    assert other["run_id"] in warnings[0]
    assert "arrays.safetensors" in warnings[0]


def test_an_absent_run_is_not_reported_as_damaged(folder):
    warnings: list[str] = []
    assert run_folders.read_row(folder / "runs" / "absent", warnings.append) is None
    assert warnings == []


def test_a_run_in_a_folder_of_another_name_is_refused(folder):
    run = run_folders.write_run(folder, ROW, PARAMS, ARRAYS)
    moved = run.rename(run.with_name("f" * 12))
    with pytest.raises(ResultsError, match=f"run {ROW['run_id']} in the folder of {moved.name}"):
        run_folders.read_run(moved)


def test_arrays_keep_shape_and_type(folder):
    odd = {
        "scalar": np.float32(3),
        "empty": np.zeros((0, 3), np.uint32),
        "yes": np.array(True),
        "transposed": np.arange(6, dtype=np.int32).reshape(2, 3).T,
    }
    stored = run_folders.read_run(run_folders.write_run(folder, ROW, {"a": {"b": np.array(7.0)}}, odd))
    assert stored.params["a"]["b"].shape == ()
    for name, array in odd.items():
        assert stored.arrays[name].shape == np.shape(array)
        assert stored.arrays[name].dtype == array.dtype
        np.testing.assert_array_equal(stored.arrays[name], array)


def test_append_line_adds_a_line_of_json(tmp_path):
    for number in (1, 2):
        run_folders.append_line(tmp_path / "lines.jsonl", {"n": number})
    assert (tmp_path / "lines.jsonl").read_text() == '{"n": 1}\n{"n": 2}\n'


def test_numbers_that_are_not_finite_are_never_written(folder):
    with pytest.raises(ValueError, match="not JSON compliant"):
        run_folders.write_run(folder, {**ROW, "sse_test": float("nan")}, PARAMS, ARRAYS)
    assert list((folder / "runs").iterdir()) == []


def test_storing_a_run_again_replaces_it(folder):
    run_folders.write_run(folder, ROW, PARAMS, ARRAYS)
    run = run_folders.write_run(folder, {**ROW, "sse_test": 2.0}, PARAMS, ARRAYS)
    assert run_folders.read_run(run).row["sse_test"] == 2.0
    assert [path.name for path in (folder / "runs").iterdir()] == [ROW["run_id"]]


def test_a_run_that_was_renamed_when_the_process_was_killed_is_renamed_back(tmp_path, folder):
    run = run_folders.write_run(folder, ROW, PARAMS, ARRAYS)
    run.rename(run.with_name(f".replaced-{run.name}"))  # killed between the two renames
    run_folders.open_folder(tmp_path / "results", "x")
    assert run_folders.read_run(run).row == ROW


@pytest.mark.parametrize("point", ["fsync", "rename"])
def test_a_failure_while_storing_leaves_the_old_run_unchanged(folder, monkeypatch, point):
    run = run_folders.write_run(folder, ROW, PARAMS, ARRAYS)

    def fail(*_, **__):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail) if point == "fsync" else patch.setattr("pathlib.Path.rename", fail)
        with pytest.raises(MachineError, match="no space left on device"):
            run_folders.write_run(folder, {**ROW, "seed": 1}, PARAMS, ARRAYS)
    assert run_folders.read_run(run).row == ROW
    assert [path.name for path in (folder / "runs").iterdir()] == [ROW["run_id"]]


def test_the_index_is_derived_from_the_run_folders(folder):
    rows = [{**ROW, "run_id": f"{i:012x}", "seed": i} for i in (2, 0, 1)]
    for row in rows:
        run_folders.write_run(folder, row, PARAMS, ARRAYS)
    assert [row["seed"] for row in run_folders.write_index(folder)] == [0, 1, 2]
    text = (folder / "runs.jsonl").read_text()
    (folder / "runs.jsonl").unlink()
    run_folders.write_index(folder)
    assert (folder / "runs.jsonl").read_text() == text
    assert len(run_folders.read_index(folder)) == 3


def test_rows_whose_folders_are_absent_stay_in_the_index(folder):
    run_folders.write_run(folder, ROW, PARAMS, ARRAYS)
    run_folders.write_index(folder)
    shutil.rmtree(folder / "runs" / ROW["run_id"])
    assert run_folders.write_index(folder) == [ROW]


@pytest.mark.parametrize("name", ["../x", "a/b", "", ".hidden", "a b", "x" * 101, "/etc", "a\n", "-x"])
def test_no_name_writes_outside_the_results_folder(tmp_path, folder, name):
    with pytest.raises(ConfigError):
        run_folders.open_folder(tmp_path, name)
    with pytest.raises(ConfigError):
        run_folders.write_run(folder, {**ROW, "run_id": name}, PARAMS, ARRAYS)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["results"]


def test_a_results_folder_that_is_a_link_to_the_outside_is_refused(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "x").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ResultsError, match="leads outside"):
        run_folders.open_folder(tmp_path / "results", "x")


@pytest.mark.parametrize("name", ["runs", "states", "states/a", "tensorboard", "tensorboard/a", "tensorboard/a/file"])
def test_a_link_to_the_outside_within_the_results_folder_is_refused(tmp_path, folder, name):
    (tmp_path / "elsewhere").mkdir()
    path = folder / name
    if name == "runs":
        path.rmdir()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ResultsError, match=f"{name}: leads outside the results folder; remove the link"):
        run_folders.open_folder(tmp_path / "results", "x")
    assert list((tmp_path / "elsewhere").iterdir()) == []
    path.unlink()
    (tmp_path / "results/disk").mkdir()
    path.symlink_to(tmp_path / "results/disk")
    run_folders.open_folder(tmp_path / "results", "x")


@pytest.mark.parametrize("where", ["results", "results/x", "results/x/runs"])
def test_a_file_where_a_folder_is_needed_is_reported_and_unchanged(tmp_path, where):
    path = tmp_path / where
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("mine")
    with pytest.raises(MachineError, match="is a file"):
        run_folders.open_folder(tmp_path / "results", "x")
    assert path.read_text() == "mine"


def test_a_folder_with_other_files_is_refused_and_unchanged(tmp_path):
    (tmp_path / "results/x").mkdir(parents=True)
    (tmp_path / "results/x/thesis.tex").write_text("mine")
    with pytest.raises(ResultsError, match="not empty, and no results of aejax"):
        run_folders.open_folder(tmp_path / "results", "x")
    assert [path.name for path in (tmp_path / "results/x").iterdir()] == ["thesis.tex"]


def test_a_lock_file_alone_does_not_make_a_results_folder(tmp_path):
    folder = tmp_path / "results/x"
    folder.mkdir(parents=True)
    (folder / ".lock").write_text("{}")
    assert (run_folders.open_folder(tmp_path / "results", "x") / "runs").is_dir()
    (folder / "runs").rmdir()
    (folder / "thesis.tex").write_text("mine")
    with pytest.raises(ResultsError, match="no results of aejax"):
        run_folders.open_folder(tmp_path / "results", "x")


def test_a_link_to_a_results_folder_is_followed(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "results").symlink_to(tmp_path / "disk")
    assert run_folders.open_folder(tmp_path / "results", "x").is_dir()


def test_leftovers_of_a_killed_run_are_cleared(tmp_path, folder):
    (folder / "runs" / ".partial-abc").mkdir()
    (folder / "runs" / ".partial-abc" / "run.json").write_text("{")
    (folder / ".partial-runs.jsonl-abc").write_text("{")
    (folder / "states/a/.partial-abc").mkdir(parents=True)
    run_folders.open_folder(tmp_path / "results", "x")
    assert not list(folder.rglob(".partial-*"))
    assert list((folder / "runs").iterdir()) == []


def test_provenance_has_versions_and_machine():
    record = provenance.describe("highest", "abc")
    for name in ("aejax", "jax", "jaxlib", "flax", "optax", "numpy", "python", "device_kind", "processor", "created"):
        assert isinstance(record[name], str), name
        assert record[name], name
    assert (record["precision"], record["dataset_fingerprint"]) == ("highest", "abc")
    assert record["platform"] in ("cpu", "gpu", "tpu")
    assert run_folders.to_json(record)


def test_provenance_has_the_commit_of_the_checkout():
    checkout = Path(provenance.__file__).resolve().parents[2]
    command = ["git", "-C", str(checkout), "rev-parse", "HEAD"]
    git = subprocess.run(command, capture_output=True, text=True) if shutil.which("git") else None
    if git is None or git.returncode:
        pytest.skip("not a git checkout")
    commit = provenance.describe("highest", "abc")["git_commit"]
    assert commit.removesuffix("+changes") == git.stdout.strip()


def test_an_atomic_write_keeps_the_old_file_when_it_fails(tmp_path, monkeypatch):
    path = tmp_path / "file"
    run_folders.write_atomic(path, b"old")

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(MachineError):
        run_folders.write_atomic(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
