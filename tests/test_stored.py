"""Stored runs on new data: codings out, reconstructions back, and what does not fit is refused."""

import shutil

import numpy as np
import pytest

from aejax import cli
from aejax.datasets import load
from aejax.storage import run_folders
from support import TINY, check_refused, rows_of


class TestEncodeAndDecode:
    @pytest.fixture
    def run(self, finished):
        row = next(row for row in rows_of(finished) if row["codings"] == 3)
        return finished / "runs" / row["run_id"]

    def test_codings_and_reconstructions_of_new_data_are_the_runs_own(self, run, tmp_path):
        dataset, stored = load("digits"), run_folders.read_run(run)
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

    def test_a_dataset_name_is_data_too_and_the_short_path_works(self, run, tmp_path):
        assert cli.main(["encode", str(run.parents[1] / run.name), "digits:validation", str(tmp_path / "z.npy")]) == 0
        assert np.load(tmp_path / "z.npy", allow_pickle=False).shape == (180, 3)

    def test_a_split_of_a_dataset_is_cut_by_the_runs_own_seed(self, tmp_path):
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

    def test_a_table_goes_through_the_scaling_of_its_training_rows(self, tmp_path):
        rng = np.random.default_rng(0)
        table = rng.normal(size=(60, 1)) @ rng.normal(size=(1, 4)) * 50 + 1000 + rng.normal(size=(60, 4))
        np.savetxt(tmp_path / "mine.csv", table, delimiter=",")
        (tmp_path / "mine.py").write_text(
            "from aejax import Sweep\n"
            f"SWEEPS = [Sweep(dataset='file:{tmp_path / 'mine.csv'}', widths=(1,), epochs=300, batch_size=None,\n"
            "                hyper={'learning_rate': 0.05, 'l2': 0.0})]\n"
        )
        assert cli.main(["run", str(tmp_path / "mine.py"), "--results", str(tmp_path / "results")]) == 0
        (row,) = rows_of(tmp_path / "results/mine")
        run = tmp_path / "results/mine/runs" / row["run_id"]
        np.save(tmp_path / "one.npy", table[7:8])  # one row: standardising it by itself would be a disaster
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
    def test_data_that_does_not_fit_the_run(self, run, tmp_path, capsys, array, parts):
        np.save(tmp_path / "new.npy", array)
        check_refused(capsys, ["encode", run, tmp_path / "new.npy", tmp_path / "z.npy"], 2, *parts)
        assert not (tmp_path / "z.npy").exists()

    @pytest.mark.parametrize(
        "array",
        [np.zeros((5, 2)), np.zeros(3), np.full((5, 3), np.inf), np.full((5, 3), 1e300), np.zeros((5, 3), complex)],
    )
    def test_codings_that_do_not_fit_the_run(self, run, tmp_path, capsys, array):
        np.save(tmp_path / "z.npy", array)
        check_refused(capsys, ["decode", run, tmp_path / "z.npy", tmp_path / "x.npy"], 2, "z.npy")
        assert not (tmp_path / "x.npy").exists()

    def test_paths_that_cannot_be(self, run, tmp_path, capsys):
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
