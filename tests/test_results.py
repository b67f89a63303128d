"""Rows and arrays on disk: whole or not at all, checked on every read, nothing outside the folder."""

import json
import os
import shutil

import numpy as np
import pytest

from aejax import provenance, results
from aejax.errors import ConfigError, MachineError, ResultsError

ROW = {
    "format": 1,
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
    return results.open_folder(tmp_path / "results", "x")


def test_a_run_comes_back_as_it_was_stored(folder):
    stored = results.read_run(results.write_run(folder, ROW, PARAMS, ARRAYS))
    assert stored.row == ROW
    for path in (("encoder", "layer_0", "kernel"), ("encoder", "layer_0", "bias"), ("decoder", "layer_0", "bias")):
        found, expected = stored.params, PARAMS
        for part in path:
            found, expected = found[part], expected[part]
        np.testing.assert_array_equal(found, expected)
        assert np.asarray(found).dtype == np.asarray(expected).dtype
    assert set(stored.arrays) == set(ARRAYS)
    np.testing.assert_array_equal(stored.arrays["pca_curve"], ARRAYS["pca_curve"])


@pytest.mark.parametrize("name", ["run.json", "parameters.safetensors", "arrays.safetensors", "manifest.json"])
@pytest.mark.parametrize("damage", ["flip", "truncate", "delete", "empty"])
def test_no_damaged_file_is_used_silently(folder, name, damage):
    run = results.write_run(folder, ROW, PARAMS, ARRAYS)
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
        results.read_run(run)
    assert str(run) in str(caught.value)
    assert results.read_row(run) is None
    assert results.write_index(folder) == []


def test_every_single_bit_of_the_parameters_counts(folder):
    run = results.write_run(folder, ROW, PARAMS, ARRAYS)
    path = run / "parameters.safetensors"
    intact = path.read_bytes()
    for bit in np.random.default_rng(0).integers(0, 8 * len(intact), 100):
        data = bytearray(intact)
        data[bit // 8] ^= 1 << (bit % 8)
        path.write_bytes(data)
        assert results.read_row(run) is None
    path.write_bytes(intact)
    assert results.read_row(run) == ROW


def test_a_newer_format_is_refused_with_both_versions(folder):
    run = results.write_run(folder, ROW, PARAMS, ARRAYS)
    manifest = json.loads((run / "manifest.json").read_text())
    (run / "manifest.json").write_text(json.dumps({**manifest, "format": 99}))
    with pytest.raises(ConfigError, match="format 99, this aejax reads up to 1"):
        results.read_run(run)


def test_numbers_that_are_not_finite_are_never_written(folder):
    with pytest.raises(ValueError, match="not JSON compliant"):
        results.write_run(folder, {**ROW, "sse_test": float("nan")}, PARAMS, ARRAYS)
    assert list((folder / "runs").iterdir()) == []


def test_storing_a_run_again_replaces_it(folder):
    results.write_run(folder, ROW, PARAMS, ARRAYS)
    run = results.write_run(folder, {**ROW, "sse_test": 2.0}, PARAMS, ARRAYS)
    assert results.read_run(run).row["sse_test"] == 2.0
    assert [path.name for path in (folder / "runs").iterdir()] == [ROW["run_id"]]


def test_a_run_that_stood_aside_when_the_process_was_killed_comes_back(tmp_path, folder):
    run = results.write_run(folder, ROW, PARAMS, ARRAYS)
    run.rename(run.with_name(f".replaced-{run.name}"))  # killed between the two renames
    results.open_folder(tmp_path / "results", "x")
    assert results.read_run(run).row == ROW


@pytest.mark.parametrize("point", ["fsync", "rename"])
def test_a_failure_while_storing_leaves_the_old_run(folder, monkeypatch, point):
    run = results.write_run(folder, ROW, PARAMS, ARRAYS)

    def fail(*_, **__):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail) if point == "fsync" else patch.setattr("pathlib.Path.rename", fail)
        with pytest.raises(MachineError, match="no space left on device"):
            results.write_run(folder, {**ROW, "seed": 1}, PARAMS, ARRAYS)
    assert results.read_run(run).row == ROW
    assert [path.name for path in (folder / "runs").iterdir()] == [ROW["run_id"]]


def test_the_index_is_derived_from_the_run_folders(folder):
    rows = [{**ROW, "run_id": f"{i:012x}", "seed": i} for i in (2, 0, 1)]
    for row in rows:
        results.write_run(folder, row, PARAMS, ARRAYS)
    assert [row["seed"] for row in results.write_index(folder)] == [0, 1, 2]
    text = (folder / "runs.jsonl").read_text()
    (folder / "runs.jsonl").unlink()
    results.write_index(folder)
    assert (folder / "runs.jsonl").read_text() == text
    assert len(results.read_index(folder)) == 3


def test_rows_whose_folders_are_elsewhere_stay_in_the_index(folder):
    results.write_run(folder, ROW, PARAMS, ARRAYS)
    results.write_index(folder)
    shutil.rmtree(folder / "runs" / ROW["run_id"])
    assert results.write_index(folder) == [ROW]


def test_a_damaged_index_is_named_with_its_line(folder):
    (folder / "runs.jsonl").write_text(json.dumps(ROW) + '\n{"run_id": tru\n')
    with pytest.raises(ResultsError, match=r"runs\.jsonl:2: not a row"):
        results.read_index(folder)


@pytest.mark.parametrize("name", ["../x", "a/b", "", ".hidden", "a b", "x" * 101, "/etc", "a\n", "-x"])
def test_no_name_writes_outside_the_results_folder(tmp_path, folder, name):
    with pytest.raises(ConfigError):
        results.open_folder(tmp_path, name)
    with pytest.raises(ConfigError):
        results.write_run(folder, {**ROW, "run_id": name}, PARAMS, ARRAYS)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["results"]


def test_a_link_does_not_lead_outside_the_results_folder(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "x").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ResultsError, match="leads outside"):
        results.open_folder(tmp_path / "results", "x")


@pytest.mark.parametrize("where", ["results", "results/x", "results/x/runs"])
def test_a_file_where_a_folder_is_needed(tmp_path, where):
    path = tmp_path / where
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("mine")
    with pytest.raises(MachineError, match="is a file"):
        results.open_folder(tmp_path / "results", "x")
    assert path.read_text() == "mine"


def test_a_folder_of_someone_elses_is_left_alone(tmp_path):
    (tmp_path / "results/x").mkdir(parents=True)
    (tmp_path / "results/x/thesis.tex").write_text("mine")
    with pytest.raises(ResultsError, match="not empty, and no results of aejax"):
        results.open_folder(tmp_path / "results", "x")
    assert [path.name for path in (tmp_path / "results/x").iterdir()] == ["thesis.tex"]


def test_a_link_to_a_results_folder_is_followed(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "results").symlink_to(tmp_path / "disk")
    assert results.open_folder(tmp_path / "results", "x").is_dir()


def test_leftovers_of_a_killed_run_are_cleared(tmp_path, folder):
    (folder / "runs" / ".partial-abc").mkdir()
    (folder / "runs" / ".partial-abc" / "run.json").write_text("{")
    results.open_folder(tmp_path / "results", "x")
    assert list((folder / "runs").iterdir()) == []


def test_provenance_says_where_a_number_comes_from():
    found = provenance.describe("highest", "abc")
    for name in ("aejax", "jax", "jaxlib", "flax", "optax", "numpy", "python", "device_kind", "processor", "created"):
        assert isinstance(found[name], str), name
        assert found[name], name
    assert (found["precision"], found["dataset_fingerprint"], found["platform"]) == ("highest", "abc", "cpu")
    assert results.to_json(found)


def test_an_atomic_write_keeps_the_old_file_when_it_fails(tmp_path, monkeypatch):
    path = tmp_path / "file"
    results.write_atomic(path, b"old")

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(MachineError):
        results.write_atomic(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
