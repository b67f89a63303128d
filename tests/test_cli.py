"""The command line: exit codes, one-line errors, and no files after a refused command."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from aejax import cli
from aejax.datasets import load
from aejax.evaluation import reconstruction
from aejax.runtime import hardware
from aejax.storage import run_folders
from aejax.training import autotune, loop, train
from aejax.training.layout import make_layout
from support import TINY, check_refused, rows_of

CHECKOUT = Path(__file__).resolve().parents[1]


def test_run_writes_rows_parameters_summary_and_figures(finished):
    names = {path.name for path in finished.iterdir()}
    assert {
        "runs.jsonl",
        "runs",
        "summary.md",
        "summary.csv",
        "error_against_codings.png",
        "learning_curves.png",
    } <= names
    assert {"reconstructions.png", "codings_2d.png", "features.png"} <= names
    rows = rows_of(finished)
    assert len(rows) == 3
    wanted = {"experiment", "run_id", "dataset", "variant", "tied", "widths", "codings", "seed", "hyper", "sse_test"}
    wanted |= {
        "mse_test",
        "r2_test",
        "pca_sse_test",
        "sse_ratio",
        "pca_equivalent_dimension",
        "principal_angle_max_deg",
    }
    wanted |= {"compile_seconds", "train_seconds", "status", "config", "provenance"}
    for row in rows:
        assert wanted <= set(row)
        assert row["status"] == "completed"
        assert row["sse_ratio"] == pytest.approx(row["sse_test"] / row["pca_sse_test"])
        assert (row["principal_angle_max_deg"] is not None) == (row["label"] == "linear")
        assert row["provenance"]["dataset_fingerprint"] == load("digits").fingerprint
        stored = run_folders.read_run(finished / "runs" / row["run_id"])
        assert stored.row == row
        assert stored.params["encoder"]["layer_0"]["kernel"].shape == (64, row["widths"][0])


def test_a_row_is_what_the_python_api_computes(finished):
    from aejax import nets, variants
    from aejax.evaluation import reconstruction

    row = next(row for row in rows_of(finished) if row["codings"] == 2 and row["seed"] == 1)
    dataset = load("digits")
    autoencoder = variants.plain(nets.mlp(64, (6, 2)))
    fit = train.fit(autoencoder, dataset, seed=1, epochs=2, batch_size=128, learning_rate=0.01, l2=0.0)
    assert reconstruction.score(autoencoder, fit.params, dataset)["sse_test"] == pytest.approx(
        row["sse_test"], rel=1e-5
    )


@pytest.mark.slow
def test_running_again_trains_only_what_is_missing(tiny, tmp_path, capsys, finished):
    shutil.copytree(finished.parent, tmp_path / "results")
    run = ["run", str(tiny), "--results", str(tmp_path / "results")]
    before = (tmp_path / "results/tiny/runs.jsonl").read_bytes()
    assert cli.main(run) == 0
    assert "0 trained, 3 were stored already" in capsys.readouterr().out
    assert (tmp_path / "results/tiny/runs.jsonl").read_bytes() == before

    lost = rows_of(tmp_path / "results/tiny")[0]["run_id"]
    (tmp_path / "results/tiny/runs" / lost / "arrays.safetensors").write_bytes(b"damaged")
    assert cli.main(run) == 0
    assert "1 trained, 2 were stored already" in capsys.readouterr().out
    assert cli.main([*run, "--set", "seeds=0,1,2"]) == 0
    assert "3 trained, 3 were stored already" in capsys.readouterr().out
    assert cli.main([*run, "--again"]) == 0
    assert "3 trained, 0 were stored already" in capsys.readouterr().out
    again = {row["run_id"]: row["sse_test"] for row in rows_of(tmp_path / "results/tiny")}
    assert len(again) == 6
    for row in rows_of(finished):
        assert again[row["run_id"]] == pytest.approx(row["sse_test"], rel=1e-5)


EIGHT = """
from aejax import Sweep
HYPER = {"learning_rate": 0.01, "l2": 0.0}
SWEEPS = [Sweep(dataset="digits", widths=(24, 6), epochs=1, batch_size=50, hyper=HYPER, seeds=range(8))]
"""


@pytest.mark.slow
def test_vmapped_runs_have_the_same_bits_when_they_are_trained_again(tmp_path, monkeypatch):
    """The bits depend neither on how many runs of a sweep are missing nor on how much memory is free."""
    (tmp_path / "tiny.py").write_text(EIGHT)
    arguments = ["run", str(tmp_path / "tiny.py"), "--results", str(tmp_path), "--how", "vmap"]

    def bits():
        return {run.name: (run / "parameters.safetensors").read_bytes() for run in (tmp_path / "tiny/runs").iterdir()}

    compile_population = autotune.compile_population

    def needs_too_much_memory_from_five_on(spec, layout):
        if layout.block < 5:
            return compile_population(spec, layout)
        needed = int(1.3 * hardware.free_bytes(layout.devices))
        return compile_population(spec, make_layout("loop", 1))._replace(device_bytes=needed, data_bytes=0)

    with monkeypatch.context() as patch:
        patch.setattr(autotune, "compile_population", needs_too_much_memory_from_five_on)
        assert cli.main(arguments) == 0
    first = bits()
    rows = rows_of(tmp_path / "tiny")
    assert len(first) == 8
    assert {row["execution"]["how"] for row in rows} == {"vmap"}
    widths = {row["execution"]["width"] for row in rows}
    assert max(widths) < 8
    for run_id in list(first)[:3]:
        shutil.rmtree(tmp_path / "tiny/runs" / run_id)
    assert cli.main(arguments) == 0
    assert bits() == first
    assert {row["execution"]["width"] for row in rows_of(tmp_path / "tiny")} == widths


@pytest.mark.slow
def test_smoke_writes_into_a_folder_of_its_own(tiny, tmp_path):
    assert cli.main(["run", str(tiny), "--smoke", "--results", str(tmp_path / "results")]) == 0
    assert [path.name for path in (tmp_path / "results").iterdir()] == ["tiny-smoke"]
    rows = rows_of(tmp_path / "results/tiny-smoke")
    assert [row["data"]["train_rows"] for row in rows] == [256, 256, 256]


@pytest.mark.slow
@pytest.mark.usefixtures("rendered")
def test_report_rebuilds_summary_and_figures(tmp_path, finished, capsys):
    folder = tmp_path / "tiny"
    shutil.copytree(finished, folder)
    names = {path.name for path in folder.glob("*.png")}
    pictures = []
    for _ in range(2):
        for path in [*folder.glob("*.png"), *folder.glob("summary.*"), folder / "runs.jsonl"]:
            path.unlink()
        assert cli.main(["report", str(folder)]) == 0
        pictures.append({path.name: path.read_bytes() for path in folder.glob("*.png")})
    for name in ("summary.md", "summary.csv", "runs.jsonl"):
        assert (folder / name).read_bytes() == (finished / name).read_bytes()
    assert pictures[0] == pictures[1]
    assert set(pictures[0]) == names
    check_refused(capsys, ["report", tmp_path / "nowhere"], 4, "nowhere", "no runs there")


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        ([], "required: COMMAND"),
        (["rnu"], "invalid choice: 'rnu'"),
        (["run"], "required: experiment"),
        (["run", "nowhere.py"], "nowhere.py: no such file"),
        (["run", "tiny.py", "--sett", "x"], "unrecognized arguments"),
        (["run", "tiny.py", "--set", "epoch=2"], "did you mean epochs?"),
        (["run", "tiny.py", "--set", "widths=64"], "64 codings for the 64 inputs of digits"),
        (["run", "tiny.py", "--set", "batch_size=5000"], "digits has 1258 training rows"),
        (["run", "tiny.py", "--set", "dataset=mnits"], "mnist"),
        (["run", "tiny.py", "--set", "dataset=file:nowhere.npy"], "nowhere.npy"),
        (["run", "tiny.py", "--set", "dataset=lowrank", "--set", "output=sigmoid"], "with a sigmoid output"),
    ],
)
def test_a_wrong_command_or_config_exits_with_2_and_writes_no_file(
    arguments, part, tiny, tmp_path, capsys, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    check_refused(capsys, arguments, 2, part)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["tiny.py"]


def test_a_wrong_config_stops_before_data_is_read_or_anything_compiles(tiny, monkeypatch, capsys):
    def never(*_, **__):
        raise AssertionError("data was read or something compiled")

    monkeypatch.setattr("aejax.datasets.load", never)
    monkeypatch.setattr("aejax.training.population.compile_population", never)
    check_refused(capsys, ["run", tiny, "--set", "batch_size=5000"], 2, "batch_size")


REFUSED = """
import json, sys, time
from aejax import cli, datasets
from aejax.cli import progress
from aejax.config import experiment_file, overrides
from aejax.runner import remote, run_experiment
from aejax.training import population
datasets.load = population.compile_population = lambda *_: time.sleep(60)
times = []
for arguments in json.loads(sys.argv[1]):
    start = time.monotonic()
    code = cli.main(arguments)
    times.append((code, time.monotonic() - start))
print(json.dumps(times))
"""


def test_a_wrong_config_stops_within_two_seconds(tiny, tmp_path):
    """Two seconds after the imports. Reading data or compiling would take a minute here."""
    results = ["--results", str(tmp_path / "results")]
    path = str(tiny)
    wrong = [["run", path, *results, "--set", text] for text in ("epoch=2", "batch_size=5000", "seeds=4294967296")]
    wrong += [["run", path, *results, "--set", "hyper.l3=0.1"], ["run", str(tmp_path / "absent.py"), *results]]
    command = [sys.executable, "-c", REFUSED, json.dumps(wrong)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=100)
    times = json.loads(done.stdout)
    assert [code for code, _ in times] == [2] * len(wrong), done.stderr
    assert max(seconds for _, seconds in times) < 2
    assert not (tmp_path / "results").exists()


def test_results_that_cannot_be_written_stop_before_any_compute(tiny, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("aejax.evaluation.reconstruction.pca_reference", None)  # would fail if it were reached
    (tmp_path / "results").write_text("a user's file")
    check_refused(capsys, ["run", tiny, "--results", tmp_path / "results"], 5, "is a file")
    assert (tmp_path / "results").read_text() == "a user's file"


def test_debug_shows_the_traceback_and_keeps_the_exit_code(capsys):
    assert cli.main(["run", "nowhere.py", "--debug"]) == 2
    errors = capsys.readouterr().err
    assert "Traceback" in errors
    assert errors.splitlines()[-1].startswith("aejax: error: nowhere.py: no such file")


@pytest.mark.slow
def test_a_failed_run_does_not_affect_the_others(tiny, tmp_path, capsys, monkeypatch):
    train_block = loop.train_block

    def fails_for_seed_one(compiled, data, runs, **options):
        if any(seed == 1 for seed, _ in runs):
            raise RuntimeError("RESOURCE_EXHAUSTED: out of memory\nallocating")
        return train_block(compiled, data, runs, **options)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "train_block", fails_for_seed_one)
        assert cli.main(["run", str(tiny), "--results", str(tmp_path)]) == 3
    errors = capsys.readouterr().err
    assert "a block of 2 failed (RuntimeError): trained one by one" in errors
    assert "failed: stacked 2, seed 1" in errors
    rows = {(row["codings"], row["seed"]): row for row in rows_of(tmp_path / "tiny")}
    assert [rows[key]["status"] for key in ((2, 0), (2, 1), (3, 0))] == ["completed", "failed", "completed"]
    assert rows[2, 1]["reason"] == "RuntimeError: RESOURCE_EXHAUSTED: out of memory allocating"
    assert rows[2, 1]["sse_test"] is None
    assert cli.main(["run", str(tiny), "--results", str(tmp_path)]) == 0  # a failed run is tried again
    assert "1 trained, 2 were stored already" in capsys.readouterr().out


def test_a_run_that_cannot_be_scored_fails_and_does_not_affect_the_others(tiny, tmp_path, monkeypatch):
    score = reconstruction.score

    def infinite_for_three(*arguments, codings, **options):
        numbers = score(*arguments, codings=codings, **options)
        return {**numbers, "sse_test": float("inf")} if codings == 3 else numbers

    monkeypatch.setattr(reconstruction, "score", infinite_for_three)
    assert cli.main(["run", str(tiny), "--results", str(tmp_path), "--set", "seeds=0"]) == 3
    rows = {row["codings"]: row for row in rows_of(tmp_path / "tiny")}
    assert (rows[2]["status"], rows[3]["status"]) == ("completed", "failed")
    assert (rows[3]["reason"], rows[3]["sse_test"]) == ("sse_test not finite", None)


@pytest.mark.slow
def test_a_diverged_run_is_recorded_and_never_ranked(tiny, tmp_path, capsys):
    arguments = ["run", str(tiny), "--results", str(tmp_path), "--set", "hyper.learning_rate=0.01,1e30"]
    assert cli.main([*arguments, "--set", "seeds=0"]) == 3
    assert "diverged" in capsys.readouterr().err
    rows = rows_of(tmp_path / "tiny")
    statuses = {(row["hyper"]["learning_rate"], row["status"]) for row in rows}
    assert statuses == {(0.01, "completed"), (1e30, "diverged")}
    assert all("loss not finite from step" in row["reason"] for row in rows if row["status"] == "diverged")
    assert "★" not in "".join(
        line for line in (tmp_path / "tiny/summary.md").read_text().splitlines() if "1e+30" in line
    )


@pytest.mark.slow
def test_a_warning_names_a_rank_below_the_number_of_codings(tiny, tmp_path, capsys):
    rng = np.random.default_rng(0)
    np.save(tmp_path / "flat.npy", rng.normal(size=(50, 2)) @ rng.normal(size=(2, 9)))
    arguments = ["run", str(tiny), "--results", str(tmp_path), "--set", f"dataset=file:{tmp_path / 'flat.npy'}"]
    assert cli.main([*arguments, "--set", "batch_size=10", "--set", "seeds=0"]) == 0
    assert "has rank 2, below 3 codings: the reference PCA's further components are zero" in capsys.readouterr().err
    assert {row["data"]["pca_rank"] for row in rows_of(tmp_path / "tiny")} == {2}


def test_fewer_rows_than_codings_are_refused(tmp_path, capsys):
    np.save(tmp_path / "few.npy", np.random.default_rng(0).normal(size=(12, 40)))
    path = tmp_path / "few.py"
    fields = "widths=(20,), epochs=1, batch_size=None, hyper={'learning_rate': 0.1, 'l2': 0.0}"
    path.write_text(f"from aejax import Sweep\nSWEEPS = [Sweep(dataset='file:{tmp_path / 'few.npy'}', {fields})]\n")
    arguments = ["run", path, "--results", tmp_path / "results"]
    check_refused(capsys, arguments, 2, "10 training and validation rows, fewer than the 20 codings")
    assert not (tmp_path / "results").exists()


def test_an_absent_platform_is_named(tiny, tmp_path):
    environment = {**os.environ, "JAX_PLATFORMS": "cuda"}
    command = [sys.executable, "-m", "aejax", "run", str(tiny), "--results", str(tmp_path / "results")]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 5
    assert done.stderr.splitlines()[-1].startswith("aejax: error: JAX_PLATFORMS: cuda asked for, no such device")
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "results").exists()


@pytest.mark.slow
def test_an_interrupted_experiment_keeps_its_finished_runs(tmp_path):
    long = TINY.replace("epochs=2", "epochs=1000000", 2).replace("epochs=1000000", "epochs=2", 1)
    (tmp_path / "long.py").write_text(long)  # the first sweep ends at once, the second never
    command = [sys.executable, "-m", "aejax", "run", str(tmp_path / "long.py"), "--results", str(tmp_path / "results")]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        runs = tmp_path / "results/long/runs"
        deadline = time.monotonic() + 120
        while len(list(runs.glob("[!.]*"))) < 2 and time.monotonic() < deadline:
            time.sleep(0.2)
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 143, errors
    assert "stopping after this chunk" in errors
    assert "finished runs are kept" in errors
    assert "Traceback" not in errors
    assert len(rows_of(tmp_path / "results/long")) == 2


def test_version_prints_the_version_of_the_package():
    done = subprocess.run([sys.executable, "-m", "aejax", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["aejax", __import__("aejax").__version__]
