"""Stored runs on new data: encoding, decoding, and the errors for data that do not fit the run."""

import shutil

import numpy as np
import pytest

import aejax
from aejax import cli
from aejax.datasets import load
from aejax.runtime.errors import DataError, ResultsError
from aejax.storage import run_folders
from support import TINY, check_refused, rows_of


@pytest.fixture
def run(finished):
    """The folder of the linear run with 3 codings."""
    row = next(row for row in rows_of(finished) if row["codings"] == 3)
    return finished / "runs" / row["run_id"]


class TestLoad:
    def test_encode_and_decode_give_what_the_commands_write(self, run, tmp_path):
        x_nd = load("digits").x_test
        loaded = aejax.load(run)
        z_nk = loaded.encode(x_nd)
        assert (z_nk.shape, z_nk.dtype) == ((len(x_nd), 3), np.float32)
        np.testing.assert_array_equal(loaded.encode(x_nd.reshape(-1, 8, 8).tolist()), z_nk)
        assert cli.main(["encode", str(run), "digits:test", str(tmp_path / "z.npy")]) == 0
        np.testing.assert_array_equal(np.load(tmp_path / "z.npy", allow_pickle=False), z_nk)
        assert cli.main(["decode", str(run), str(tmp_path / "z.npy"), str(tmp_path / "x.npy")]) == 0
        reconstruction_nd = np.load(tmp_path / "x.npy", allow_pickle=False).reshape(-1, 64)
        np.testing.assert_array_equal(reconstruction_nd, loaded.decode(z_nk))
        sse = np.square(loaded.decode(z_nk) / 16 - x_nd / 16).sum(axis=1).mean()
        assert sse == pytest.approx(loaded.row["sse_test"], rel=1e-5)

    def test_the_beginning_of_an_id_is_enough(self, run):
        stored = run_folders.read_run(run)
        loaded = aejax.load(f"{run.parents[1]}/{run.name[:8]}")
        assert loaded.row == stored.row
        assert loaded.arrays.keys() == stored.arrays.keys()
        lines = repr(loaded).splitlines()
        assert lines[0] == f"LoadedRun tiny/{run.name}: linear, digits, seed 0"
        assert lines[1] == "  64 inputs, 3 codings, variant plain"
        assert len(lines) == 3

    def test_a_run_without_its_folder_and_an_experiment_are_refused(self, finished, tmp_path, refused):
        (tmp_path / "tiny").mkdir()
        shutil.copy(finished / "runs.jsonl", tmp_path / "tiny")
        run_id = rows_of(finished)[0]["run_id"]
        refused(ResultsError, run_id, "only the run's row", call=lambda: aejax.load(tmp_path / "tiny" / run_id))
        refused(ResultsError, "an experiment, not a run", call=lambda: aejax.load(finished))
        refused(ResultsError, "no such run", call=lambda: aejax.load(str(tmp_path / "nowhere" / run_id)))

    @pytest.mark.parametrize(
        "x_nd", [np.zeros((5, 63)), np.zeros(64), np.zeros((0, 64)), np.full((5, 64), np.nan), np.full((5, 64), 1e300)]
    )
    def test_rows_that_do_not_fit_the_run_are_refused(self, run, refused, x_nd):
        refused(DataError, "x_nd", call=lambda: aejax.load(run).encode(x_nd))

    def test_codings_that_do_not_fit_the_run_are_refused(self, run, refused):
        refused(DataError, "z_nk", "(5, 2)", "3 codings", call=lambda: aejax.load(run).decode(np.zeros((5, 2))))
        refused(DataError, "z_nk", "dtype", call=lambda: aejax.load(run).decode([["a", "b", "c"]]))


class TestEncodeAndDecode:
    def test_codings_and_reconstructions_match_the_parameters_and_the_stored_error(self, run, tmp_path):
        dataset = load("digits")
        stored = run_folders.read_run(run)
        np.save(tmp_path / "new.npy", dataset.x_test.astype(np.float64))  # the raw values 0 … 16
        assert cli.main(["encode", str(run), str(tmp_path / "new.npy"), str(tmp_path / "z.npy")]) == 0
        z_nk = np.load(tmp_path / "z.npy", allow_pickle=False)
        kernel, bias = (stored.params["encoder"]["layer_0"][name] for name in ("kernel", "bias"))
        np.testing.assert_allclose(z_nk, dataset.x_test / 16 @ kernel + bias, rtol=1e-4, atol=1e-5)
        assert cli.main(["decode", str(run), str(tmp_path / "z.npy"), str(tmp_path / "x.npy")]) == 0
        x = np.load(tmp_path / "x.npy", allow_pickle=False)
        assert x.shape == (len(dataset.x_test), 8, 8)
        sse = np.square(x.reshape(-1, 64) / 16 - dataset.x_test / 16).sum(axis=1).mean()
        assert sse == pytest.approx(stored.row["sse_test"], rel=1e-5)

    def test_a_dataset_name_and_a_short_path_are_accepted(self, run, tmp_path):
        assert cli.main(["encode", str(run.parents[1] / run.name), "digits:validation", str(tmp_path / "z.npy")]) == 0
        assert np.load(tmp_path / "z.npy", allow_pickle=False).shape == (180, 3)

    def test_a_named_split_is_that_of_the_data_seed_in_the_config(self, run, tmp_path, monkeypatch):
        stored = run_folders.read_run(run)
        other = stored._replace(row={**stored.row, "config": stored.row["config"] | {"data_seed": 3}})
        monkeypatch.setattr(run_folders, "read_run", lambda path: other)
        assert cli.main(["encode", str(run), "digits:test", str(tmp_path / "z.npy")]) == 0
        z_nk = np.load(tmp_path / "z.npy", allow_pickle=False)
        np.testing.assert_array_equal(z_nk, aejax.load(run).encode(load("digits", seed=3).x_test))

    @pytest.mark.slow
    def test_a_split_of_a_dataset_is_cut_with_the_data_seed_of_the_run(self, tmp_path):
        path = tmp_path / "three.py"
        path.write_text(TINY.replace("widths=(3,),", "widths=(3,), data_seed=3,"))
        assert cli.main(["run", str(path), "--results", str(tmp_path)]) == 0
        row = next(row for row in rows_of(tmp_path / "three") if row["config"]["data_seed"] == 3)
        run = tmp_path / "three/runs" / row["run_id"]
        assert cli.main(["encode", str(run), "digits:test", str(tmp_path / "z.npy")]) == 0
        assert cli.main(["decode", str(run), str(tmp_path / "z.npy"), str(tmp_path / "x.npy")]) == 0
        x = np.load(tmp_path / "x.npy", allow_pickle=False).reshape(-1, 64) / 16
        sse = np.square(x - load("digits", seed=3).x_test / 16).sum(axis=1).mean()
        assert sse == pytest.approx(row["sse_test"], rel=1e-5)

    def test_a_table_is_scaled_as_in_training(self, tmp_path):
        rng = np.random.default_rng(0)
        table = rng.normal(size=(60, 1)) @ rng.normal(size=(1, 4)) * 50 + 1000 + rng.normal(size=(60, 4))
        np.savetxt(tmp_path / "table.csv", table, delimiter=",")
        (tmp_path / "table.py").write_text(
            "from aejax import Sweep\n"
            f"SWEEPS = [Sweep(dataset='file:{tmp_path / 'table.csv'}', widths=(1,), epochs=300, batch_size=None,\n"
            "                hyper={'learning_rate': 0.05, 'l2': 0.0})]\n"
        )
        assert cli.main(["run", str(tmp_path / "table.py"), "--results", str(tmp_path / "results")]) == 0
        (row,) = rows_of(tmp_path / "results/table")
        run = tmp_path / "results/table/runs" / row["run_id"]
        np.save(tmp_path / "one.npy", table[7:8])  # one row: its own mean and deviation would be useless
        assert cli.main(["encode", str(run), str(tmp_path / "one.npy"), str(tmp_path / "z.npy")]) == 0
        assert cli.main(["decode", str(run), str(tmp_path / "z.npy"), str(tmp_path / "x.npy")]) == 0
        np.testing.assert_allclose(np.load(tmp_path / "x.npy", allow_pickle=False), table[7:8], atol=12)

    @pytest.mark.parametrize(
        ("array", "parts"),
        [
            (np.zeros((5, 63)), ("63", "64")),
            (np.full((5, 64), np.nan), ("row", "column")),
            (np.array([["a"]]), ("expected",)),
        ],
    )
    def test_data_that_does_not_fit_the_run_is_refused(self, run, tmp_path, capsys, array, parts):
        np.save(tmp_path / "new.npy", array)
        check_refused(capsys, ["encode", run, tmp_path / "new.npy", tmp_path / "z.npy"], 2, *parts)
        assert not (tmp_path / "z.npy").exists()

    @pytest.mark.parametrize(
        "array",
        [np.zeros((5, 2)), np.zeros(3), np.full((5, 3), np.inf), np.full((5, 3), 1e300), np.zeros((5, 3), complex)],
    )
    def test_codings_that_do_not_fit_the_run_are_refused(self, run, tmp_path, capsys, array):
        np.save(tmp_path / "z.npy", array)
        check_refused(capsys, ["decode", run, tmp_path / "z.npy", tmp_path / "x.npy"], 2, "z.npy")
        assert not (tmp_path / "x.npy").exists()

    def test_unusable_paths_are_refused(self, run, tmp_path, capsys):
        np.save(tmp_path / "z.npy", np.zeros((1, 3)))
        check_refused(capsys, ["decode", run, tmp_path / "z.npy", tmp_path / "x.txt"], 2, "x.txt", ".npy")
        check_refused(capsys, ["decode", run, tmp_path / "z.npy", tmp_path / "no/x.npy"], 5, "no such folder")
        check_refused(capsys, ["decode", run, tmp_path / "nothing.npy", tmp_path / "x.npy"], 2, "nothing.npy")
        check_refused(capsys, ["decode", tmp_path, tmp_path / "z.npy", tmp_path / "x.npy"], 4, "no manifest.json")

    def test_a_damaged_run_is_not_used(self, run, tmp_path, capsys):
        shutil.copytree(run, tmp_path / "run")
        data = bytearray((tmp_path / "run/parameters.safetensors").read_bytes())
        data[-3] ^= 1
        (tmp_path / "run/parameters.safetensors").write_bytes(data)
        np.save(tmp_path / "z.npy", np.zeros((1, 3)))
        check_refused(
            capsys, ["decode", tmp_path / "run", tmp_path / "z.npy", tmp_path / "x.npy"], 4, "damaged", "SHA-256"
        )
