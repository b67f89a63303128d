"""`aejax ls`, `show` and `diff`: what they print, and that they change no file."""

import contextlib
import hashlib
import json
import re

import numpy as np
import pytest

from aejax import cli
from aejax.cli import details, listing
from aejax.config.sweep import Sweep
from aejax.storage import run_folders
from fabricated import make, population


def snapshot(folder):
    return {
        path: (path.stat().st_mtime_ns, hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None)
        for path in folder.rglob("*")
    }


@contextlib.contextmanager
def unchanged(folder):
    before = snapshot(folder)
    yield
    assert snapshot(folder) == before


def parameters(row, noise=0.0):
    rng = np.random.default_rng(5)
    kernel = rng.normal(size=(12, row["widths"][0])).astype("f4")
    return {"encoder": {"layer_0": {"kernel": kernel + np.float32(noise), "bias": np.zeros(3, "f4")}}}


def store(root, rows, noise=None):
    """Write the run folders and runs.jsonl of an experiment; returns its folder. `noise` is added to kernels by id."""
    folder = run_folders.open_folder(root, "tying")
    for row in rows:
        params = parameters(row, (noise or {}).get(row["run_id"], 0.0)) if row["status"] == "completed" else {}
        run_folders.write_run(folder, row, params, {"pca_curve": np.arange(3.0)})
    run_folders.write_index(folder)
    return folder


def aejax(capsys, *arguments):
    """Run a command; returns the exit code, the lines of standard output, and standard error."""
    code = cli.main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    return code, out.splitlines(), err


@pytest.fixture
def rows():
    return population(
        2, learning_rate=(0.1, 0.01), l2=(0.0,), diverged=lambda hyper, seed: hyper["learning_rate"] == 0.1 and seed
    )


def test_ls_lists_the_runs_of_an_experiment(tmp_path, capsys, rows):
    folder = store(tmp_path, rows)
    with unchanged(tmp_path):
        code, lines, _ = aejax(capsys, "ls", folder)
    assert code == 0
    assert lines[0].split() == [
        *("id", "label", "codings", "learning_rate", "seed", "status"),
        *("SSE", "validation", "SSE", "test", "ratio", "worth", "seconds"),
    ]
    ids = {(row["hyper"]["learning_rate"], row["seed"]): row["run_id"] for row in rows}
    assert [line.split() for line in lines[1:]] == [
        [
            ids[0.01, 0],
            "stacked",
            "7",
            "0.01",
            "0",
            "completed",
            "7.00000",
            "6.00000",
            "0.600000",
            "9.00000",
            "2.00000",
        ],
        [
            ids[0.01, 1],
            "stacked",
            "7",
            "0.01",
            "1",
            "completed",
            "7.01000",
            "6.01000",
            "0.601000",
            "8.99500",
            "3.00000",
        ],
        [ids[0.1, 0], "stacked", "7", "0.1", "0", "completed", "8.00000", "7.00000", "0.700000", "8.50000", "2.00000"],
        [ids[0.1, 1], "stacked", "7", "0.1", "1", "diverged", "–", "–", "–", "–", "3.00000"],
    ]
    _, lines, _ = aejax(capsys, "ls", folder, "--sort=-sse_test")
    assert [line.split()[0] for line in lines[1:]] == [ids[0.1, 0], ids[0.01, 1], ids[0.01, 0], ids[0.1, 1]]
    for field in ("ratio", "hyper.learning_rate"):
        _, lines, _ = aejax(capsys, "ls", folder, "--sort", field)
        assert [line.split()[0] for line in lines[1:3]] == [ids[0.01, 0], ids[0.01, 1]]
    _, lines, _ = aejax(capsys, "ls", folder, "--status", "diverged")
    assert [line.split()[0] for line in lines[1:]] == [ids[0.1, 1]]
    _, lines, _ = aejax(capsys, "ls", folder, "--json")
    assert json.loads("\n".join(lines)) == [next(r for r in rows if r["run_id"] == ids[key]) for key in sorted(ids)]


def test_nothing_is_cut_off_or_coloured_outside_a_terminal(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "20")
    folder = store(tmp_path, [make("a label of many words " * 9), make("b")])
    _, lines, _ = aejax(capsys, "ls", folder)
    assert ("a label of many words " * 9).strip() in lines[1]
    assert len(lines) == 3
    assert "\x1b" not in "".join(lines)


@pytest.mark.parametrize("width", [30, 90, 200])
def test_every_number_is_whole_on_a_terminal_of_any_width(tmp_path, capsys, monkeypatch, rows, width):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", str(width))
    _, lines, _ = aejax(capsys, "ls", store(tmp_path, rows))
    text = re.sub(r"\x1b\[[0-9;]*m", "", "\n".join(lines))
    for whole in (*(row["run_id"] for row in rows), "learning_rate", "completed", "7.01000", "0.601000", "8.99500"):
        assert f" {whole} " in f" {text} ".replace("\n", " ")


def test_swept_codings_have_one_column(tmp_path, capsys):
    folder = store(tmp_path, population(1, learning_rate=(0.01,), codings=(2, 3)))
    _, lines, _ = aejax(capsys, "ls", folder)
    assert lines[0].split().count("codings") == 1
    assert [line.split()[2] for line in lines[1:]] == ["2", "3"]
    (only,) = listing.experiment_rows(folder)[:1]
    _, lines, _ = aejax(capsys, "show", folder / only["run_id"])
    assert not [line for line in lines if line.startswith("  codings:")]


def test_ls_lists_the_experiments_of_a_folder(tmp_path, capsys, rows):
    store(tmp_path, rows)
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "runs.jsonl").write_text("no row\n")
    (tmp_path / "notes").mkdir()
    with unchanged(tmp_path):
        code, lines, _ = aejax(capsys, "ls", tmp_path)
    assert code == 0
    assert lines[1].startswith("broken")
    assert "not a row" in lines[1]
    assert " ".join(lines[2].split()) == "tying 4 3 0 1 2 stacked, 7 codings, learning_rate 0.01 0.6005 2026-03-02"
    _, lines, _ = aejax(capsys, "ls", tmp_path, "--json")
    experiment = json.loads("\n".join(lines))[1]
    assert experiment["best_ratio_test"] == pytest.approx(0.6005)
    assert (experiment["runs"], experiment["completed"], experiment["diverged"], experiment["settings"]) == (4, 3, 1, 2)


def damage(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def test_a_damaged_run_is_listed_as_damaged_and_shown_with_its_files(tmp_path, capsys, rows):
    folder = store(tmp_path, rows)
    bad = rows[2]["run_id"]
    lost = rows[0]["run_id"]
    damage(folder / "runs" / bad / "parameters.safetensors")
    damage(folder / "runs" / lost / "run.json")
    index = (folder / "runs.jsonl").read_text().splitlines(keepends=True)
    (folder / "runs.jsonl").write_text("".join(line for line in index if lost not in line))
    with unchanged(tmp_path):
        _, lines, _ = aejax(capsys, "ls", folder, "--status", "damaged")
        assert [line.split()[0] for line in lines[1:]] == [bad, lost]
        code, lines, err = aejax(capsys, "show", folder / bad)
        assert code == 4
        assert err.startswith("aejax: error: ")
        assert err.count("\n") == 1
        sizes = {line.split(":")[0].strip(): line.split(", ")[1] for line in lines if "bytes, " in line}
        assert sizes["run.json"] == sizes["arrays.safetensors"] == "SHA-256 intact"
        assert sizes["parameters.safetensors"].startswith("DAMAGED")
        code, lines, err = aejax(capsys, "show", folder / lost)  # no field of it can be trusted
        assert (code, lines) == (4, [])
        assert "damaged" in err
        code, lines, err = aejax(capsys, "diff", folder / bad, folder / rows[1]["run_id"])
        assert (code, lines) == (4, [])
        assert "parameters.safetensors" in err


def test_a_run_is_found_by_its_folder_its_id_or_the_beginning_of_it(tmp_path, capsys):
    rows = [make(seed=0, run_id="abc1"), make(seed=1, run_id="abd2"), make(seed=2, run_id="abd25")]
    folder = store(
        tmp_path, [{**row, "run_id": run_id} for row, run_id in zip(rows, ("abc1", "abd2", "abd25"), strict=True)]
    )
    for run in (folder / "runs" / "abc1", folder / "abc1", folder / "abc", folder / "runs" / "abc"):
        assert details.find_run(run).folder.name == "abc1"
    assert details.find_run(folder / "abd2").folder.name == "abd2"  # a full id, although another id begins with it
    for run, words in (
        (folder / "ab", "the beginning of 3 runs: abc1, abd2, abd25; give more of it"),
        (folder / "adc1", "did you mean abc1?"),
        (folder, "an experiment, not a run"),
        (tmp_path / "nowhere" / "abc1", "no such run"),
    ):
        code, lines, err = aejax(capsys, "show", run)
        assert (code, lines) == (4, [])
        assert words in err
        assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--sort", "wort"], 2, "did you mean worth?"),
        (["--status", "complete"], 2, "did you mean completed?"),
    ],
)
def test_a_wrong_option_gets_a_one_line_error(tmp_path, capsys, arguments, code, words):
    folder = store(tmp_path, [make()])
    got, lines, err = aejax(capsys, "ls", folder, *arguments)
    assert (got, lines) == (code, [])
    assert words in err
    assert aejax(capsys, "ls", tmp_path / "nowhere")[0] == 4
    assert aejax(capsys, "ls", tmp_path, "--sort", "seed")[0] == 2


def test_show_prints_everything_of_a_run(tmp_path, capsys):
    execution = {"how": "vmap", "block": 8, "members": 64, "devices": 1, "rates": {"vmap 8": 9000.5}, "member_bytes": 7}
    defaults = Sweep(dataset="digits", widths=(30, 7), epochs=8, batch_size=50, hyper={"learning_rate": 0.1, "l2": 0.0})
    row = make(sse=8.0, execution=execution, bad_step=None, config=defaults.config() | {"tied": True})
    folder = store(tmp_path, [row])
    with unchanged(tmp_path):
        code, lines, _ = aejax(capsys, "show", folder / row["run_id"])
    assert code == 0
    table = {line.split()[0]: line.split()[1:3] for line in lines if line[:1] not in " "}
    assert table["sse_test"] == ["8.00000", "10.0000"]
    assert [float(text) for text in table["mse_test"]] == pytest.approx([8 / 12, 10 / 12], rel=1e-5)
    assert [float(text) for text in table["r2_test"]] == pytest.approx([1 - 8 / 24, 1 - 10 / 24], rel=1e-5)
    assert table["pca_equivalent_dimension"] == ["8.00000", "7"]
    config = lines[lines.index("config, where it is not the default:") + 1 : lines.index("data:")]
    assert [line.split(":")[0].strip() for line in config] == ["dataset", "widths", "epochs", "batch_size", "tied"]
    for line in ("status: completed", "  members: 64", "  git_commit: c0ffee", "  learning_rate: 0.001"):
        assert line in lines
    sizes = {path.name: path.stat().st_size for path in (folder / "runs" / row["run_id"]).iterdir()}
    assert f"  arrays.safetensors: {sizes['arrays.safetensors']} bytes, SHA-256 intact" in lines
    _, lines, _ = aejax(capsys, "show", folder / row["run_id"], "--json")
    shown = json.loads("\n".join(lines))
    assert shown["row"] == row
    assert shown["changed"]["tied"] is True
    assert [file["intact"] for file in shown["files"]] == [True] * 3


def test_show_and_ls_of_a_run_that_only_the_index_has(tmp_path, capsys):
    row = make(status="diverged", bad_step=17)
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "runs.jsonl").write_text(json.dumps(row) + "\n")
    with unchanged(tmp_path):
        code, lines, _ = aejax(capsys, "show", tmp_path / "old" / row["run_id"][:9])
    assert code == 0
    assert "status: diverged at step 17: the loss was not finite in epoch 3" in lines
    assert lines[-1] == "files: not in this copy; the row is from runs.jsonl"
    assert aejax(capsys, "ls", tmp_path / "old")[1][1].split()[4] == "diverged"


def test_diff_prints_what_differs_between_two_runs(tmp_path, capsys):
    a = make(seed=0, sse=8.0)
    b = make(seed=1, sse=9.0, hyper={"learning_rate": 0.01})
    c = make(seed=2, widths=[31, 7])
    folder = store(tmp_path, [a, b, c], {b["run_id"]: 0.5})
    with unchanged(tmp_path):
        code, lines, _ = aejax(capsys, "diff", folder / a["run_id"], folder / b["run_id"])
    assert code == 0
    fields = [line.split() for line in lines[1 : lines.index("")]]
    assert fields == [
        ["seed", "0", "1"],
        ["hyper.learning_rate", "0.001", "0.01"],
        ["provenance.created", "2026-03-01T10:00:00+00:00", "2026-03-02T10:00:00+00:00"],
    ]
    assert ["sse_test", "8.00000", "9.00000", "+1", "+0.125"] in [line.split() for line in lines]
    assert lines[-1].startswith("parameters: largest absolute difference 0.5000, median relative difference 0.")
    kernel = parameters(a)["encoder"]["layer_0"]["kernel"]
    relative = np.median(0.5 / np.maximum(np.abs(kernel), np.abs(kernel + 0.5)))
    assert float(lines[-1].split("median relative difference ")[1].split(",")[0]) == pytest.approx(relative, rel=1e-3)
    assert lines[-1].endswith("of 363 parameters")
    assert aejax(capsys, "diff", folder / a["run_id"], folder / c["run_id"])[1][-1].endswith("of different shapes")


def test_diff_reports_equal_bits_and_equal_fields(tmp_path, capsys):
    a = make(seed=0)
    b = make(seed=1)
    folder = store(tmp_path, [a, b])
    assert aejax(capsys, "diff", folder / a["run_id"], folder / b["run_id"])[1][-1] == "parameters: bit-identical"
    _, lines, _ = aejax(capsys, "diff", folder / a["run_id"], folder / a["run_id"])
    assert lines[0].endswith("the same in every field")


def test_differences_include_fields_that_one_row_lacks():
    a = make(config={"widths": [3, 2], "digests": {}})
    b = a | {
        "config": {"widths": [3, 2], "digests": {"activation": "ff"}},
        "execution": {"how": "map"},
        "sse_test": 1.0,
    }
    assert list(details.differences(a, b)) == [
        ("config.digests.activation", None, "ff"),
        ("execution.how", None, "map"),
    ]
