"""Every file in experiments/ runs with --smoke, and its docstring and committed results agree."""

import ast
import dataclasses
import json
import re
import shutil
from pathlib import Path

import pytest

from aejax import cli
from aejax.config import experiment_file, run_identity
from aejax.config.sweep import check_all
from aejax.datasets import smoke

CHECKOUT = Path(__file__).resolve().parents[1]
FILES = sorted((CHECKOUT / "experiments").glob("*.py"))
every = pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)


def test_there_are_experiments():
    assert {"quickstart", "linear_pca", "stacked", "tied"} <= {path.stem for path in FILES}


@every
def test_the_docstring_gives_question_command_time_and_numbers(path):
    docstring = ast.get_docstring(ast.parse(path.read_text())) or ""
    assert docstring.splitlines()[0].split("(")[0].strip().endswith("?")
    assert f"aejax run experiments/{path.name}" in docstring
    assert "Takes about" in docstring
    assert "Expect" in docstring


@every
def test_the_configs_pass_every_check(path):
    name, sweeps = experiment_file.load(path)
    check_all(sweeps)
    assert name == path.stem


IN_SECONDS = {"linear_pca"}
"""Experiments that are run in the default tier, too."""


@pytest.mark.parametrize(
    "path",
    [pytest.param(path, id=path.stem, marks=() if path.stem in IN_SECONDS else pytest.mark.slow) for path in FILES],
)
def test_the_experiment_runs(path, tmp_path, request, monkeypatch):
    """With `--smoke`, half of its rows and its first seed."""
    monkeypatch.setattr(smoke, "ROWS", {"train": 128, "validation": 64, "test": 64})
    _, sweeps = experiment_file.load(path)
    arguments = ["run", str(path), "--smoke", "--results", str(tmp_path)]
    if any(sweep.dataset.startswith("mnist") for sweep in sweeps):
        arguments += ["--data-dir", str(request.getfixturevalue("mnist_dir"))]
    if any(sweep.dataset.startswith("olivetti") for sweep in sweeps):
        arguments += ["--data-dir", str(request.getfixturevalue("olivetti_path").parent)]
    sweeps = [dataclasses.replace(sweep, seeds=sweeps[0].seeds[:1]) for sweep in sweeps]
    assert cli.main([*arguments, "--how", "map", "--set", f"seeds={sweeps[0].seeds[0]}"]) == 0
    folder = tmp_path / f"{path.stem}-smoke"
    rows = [json.loads(line) for line in (folder / "runs.jsonl").read_text().splitlines()]
    assert len(rows) == sum(len(sweep.smoke().runs()) for sweep in sweeps)
    assert {row["status"] for row in rows} == {"completed"}
    summary = (folder / "summary.md").read_text()
    assert summary.startswith(f"# {path.stem}-smoke")
    assert "(learning_curves.png)" in summary
    assert "could not be drawn" not in summary


def test_the_chapters_settings_are_those_of_the_book():
    import jax

    from aejax.training import schedules
    from aejax.variants import penalties

    for name, tied in (("stacked", False), ("tied", True)):
        chapter = experiment_file.load(CHECKOUT / f"experiments/{name}.py")[1][0]
        assert (chapter.dataset, chapter.widths, chapter.tied) == ("mnist", (300, 150), tied)
        assert chapter.activation is chapter.coding_activation is jax.nn.elu
        assert (chapter.epochs, chapter.batch_size) == (5, 150)
        assert chapter.hyper == {"learning_rate": 0.01, "l2": 0.001}
        assert (chapter.error, chapter.schedule) == (penalties.squared_error, schedules.constant)
    (linear,) = experiment_file.load(CHECKOUT / "experiments/linear_pca.py")[1]
    assert (linear.dataset, linear.widths, linear.batch_size, linear.linear) == ("plane3d", (2,), None, True)
    assert linear.hyper == {"learning_rate": 0.01, "l2": 0.0}
    assert len(linear.seeds) == 10


@pytest.mark.slow
def test_linear_pca_finds_the_plane_from_the_slowest_seeds(tmp_path):
    path = CHECKOUT / "experiments/linear_pca.py"
    assert cli.main(["run", str(path), "--set", "seeds=3,9", "--results", str(tmp_path)]) == 0
    rows = [json.loads(line) for line in (tmp_path / "linear_pca/runs.jsonl").read_text().splitlines()]
    assert len(rows) == 2
    for row in rows:
        assert row["sse_ratio"] == pytest.approx(1, abs=0.001)
        assert row["principal_angle_max_deg"] < 0.5


def committed(name):
    """Rows of a committed experiment by (label, codings)."""
    rows = {}
    for line in (CHECKOUT / f"results/{name}/runs.jsonl").read_text().splitlines():
        row = json.loads(line)
        rows.setdefault((row["label"], row["codings"]), []).append(row)
    return rows


def test_the_committed_rows_are_the_runs_of_the_committed_files():
    """Every run of a file has a row under results/, and the run id of its config is unchanged."""
    for path in FILES:
        wanted = {
            (json.dumps(sweep.config(), sort_keys=True), json.dumps(hyper, sort_keys=True), seed)
            for sweep in experiment_file.load(path)[1]
            for seed, hyper in sweep.runs()
        }
        rows = [row for rows in committed(path.stem).values() for row in rows]
        stored = {
            (json.dumps(row["config"], sort_keys=True), json.dumps(row["hyper"], sort_keys=True), row["seed"])
            for row in rows
        }
        assert stored == wanted, path.stem
        for row in rows:
            assert row["status"] == "completed"
            fingerprint = row["provenance"]["dataset_fingerprint"]
            assert row["run_id"] == run_identity.run_id(row["config"], row["hyper"], row["seed"], fingerprint)


def tables_and_facts(folder):
    """The lines of all tables in a summary, and the numbers and outcomes in its sentences, before its figures.

    The meanings of columns, a list, are left out: their words may change.
    """
    lines = (folder / "summary.md").read_text("utf-8").split("\n## Figures\n")[0].splitlines()
    tables = [line for line in lines if line.startswith("|")]
    sentences = [line for line in lines if not line.startswith(("|", "* ")) or line.startswith("* **Warning**")]
    outcomes = "wins|loses|undecided|matches|exact|better|interval"
    facts = re.findall(rf"\d[\d.]*(?:e[-+]\d+)?|\b(?:{outcomes})\b", "\n".join(sentences))
    return tables, facts


@every
def test_the_committed_summaries_say_what_their_rows_say(path, tmp_path):
    """The tables are those of today's report, and so is every number and outcome in the sentences.

    Figures need arrays, which are not committed.
    """
    folder = CHECKOUT / "results" / path.stem
    for name in ("runs.jsonl", "goodput.jsonl"):
        shutil.copy(folder / name, tmp_path / name)
    assert cli.main(["report", str(tmp_path)]) == 0
    tables, facts = tables_and_facts(folder)
    assert len(tables) > 4
    assert len(facts) > 10
    assert tables_and_facts(tmp_path) == (tables, facts)


@every
def test_the_docstring_states_the_duration_of_the_committed_run(path):
    docstring = ast.get_docstring(ast.parse(path.read_text())) or ""
    duration = re.search(r"Takes about (\d+|a|an) (s|minutes?|hour)\b", docstring)
    assert duration is not None
    number, unit = duration.groups()
    stated = (1 if number in ("a", "an") else int(number)) * {"s": 1, "hour": 3600}.get(unit, 60)
    lines = (CHECKOUT / f"results/{path.stem}/goodput.jsonl").read_text().splitlines()
    measured = sum(call["wall"] for call in map(json.loads, lines) if not call.get("report"))
    assert stated / 3 < measured < 1.3 * stated


def test_the_committed_numbers_are_as_the_docstrings_claim():
    linear = committed("linear_pca")["linear", 2]
    assert len(linear) == 10
    assert all(abs(row["sse_ratio"] - 1) < 0.001 and row["principal_angle_max_deg"] < 0.5 for row in linear)
    assert all(abs(row["sse_test"] / 13.8663 - 1) < 0.01 for row in committed("linear_mnist")["linear", 30])
    for name in ("stacked", "tied"):
        rows = committed(name)
        assert all(row["sse_ratio"] > 1 for row in rows[f"{name}, as in the chapter", 150])
        for codings in (30, 150):
            assert len(rows[name, codings]) == 3
            assert all(row["sse_ratio"] < 1 for row in rows[name, codings])
    deep = committed("deep")
    assert all(row["sse_test"] <= 3.3 for row in deep["deep", 30])
    assert len(deep["deep, L2", 30]) == 4
    best = min(deep["deep, L2", 30], key=lambda row: row["sse_validation"])
    assert best["hyper"]["l2"] == 7e-7
    assert all(row["sse_test"] < 2.78 for row in deep["deep, L2", 30] if row["hyper"]["l2"] == 7e-7)
    for (_, codings), rows in committed("codings").items():
        best = min(rows, key=lambda row: row["sse_validation"])
        assert abs(best["sse_ratio"] - 1) < 0.01, codings
    assert len(committed("codings")) == 16
    population = committed("population")["stacked", 150]
    assert len(population) == 64
    assert all(row["sse_ratio"] > 1 for row in population)
    best = min(population, key=lambda row: row["sse_validation"])
    assert 2.5 < best["sse_ratio"] < 3


def test_denoising_beats_pca_at_its_best_and_the_best_affine_map_in_every_seed():
    rows = committed("denoising")
    for label in ("gaussian", "masking", "salt and pepper"):
        runs = [row["scores"] for row in rows[f"denoising, {label}", 100]]
        assert len(runs) == 3
        assert all(scores["denoised_sse_test"] < 0.87 * scores["affine_denoised_sse_test"] for scores in runs)
        assert all(scores["denoised_sse_test"] < 0.65 * scores["pca_best_denoised_sse_test"] for scores in runs)
    for noise in ("gaussian", "masking"):  # linear: the best affine map of that rank
        runs = [row["scores"] for row in rows[f"linear, {noise} marginalised", 100]]
        assert len(runs) == 3
        for scores in runs:
            assert scores["denoised_sse_test"] == pytest.approx(scores["affine_rank_denoised_sse_test"], rel=0.005)
            assert scores["denoised_sse_test"] > 1.01 * scores["affine_denoised_sse_test"]
            assert scores["denoised_sse_test"] < 0.8 * scores["pca_best_denoised_sse_test"]
    plain = [row["scores"] for row in rows["plain", 100]]
    assert all(scores["denoised_sse_test"] > scores["pca_denoised_sse_test"] for scores in plain)


def test_more_contraction_gives_less_sensitive_codings_and_a_larger_error():
    rows = committed("contractive")
    for layers, codings, weights in (("", 100, (0.0, 1e-4, 3e-4, 1e-3)), (", two layers", 16, (0.0, 1e-4, 1e-3))):
        both = rows[f"no penalty{layers}", codings] + rows[f"contractive{layers}", codings]
        for seed in (0, 1, 2):
            by_weight = {row["hyper"]["contraction"]: row for row in both if row["seed"] == seed}
            for measure in ("jacobian_norm", "coding_sensitivity"):
                values = [by_weight[weight]["scores"][measure] for weight in weights]
                assert values == sorted(values, reverse=True)
                assert values[-1] < 0.6 * values[0]
            assert by_weight[weights[-1]]["sse_test"] > by_weight[0.0]["sse_test"]
            for weight in weights:  # no win over PCA with no more error
                scores = by_weight[weight]["scores"]
                assert scores["coding_sensitivity"] > scores["equal_pca_coding_sensitivity"]


def test_ordered_finds_the_components_as_its_docstring_claims():
    rows = {label: [row["scores"] for row in stored] for (label, _), stored in committed("ordered").items()}
    assert len(rows["rotation-augmented"]) == 3
    assert all(row["train_seconds"] < 60 for row in committed("ordered")["rotation-augmented", 20])
    assert max(scores["axis_distance"] for scores in rows["rotation-augmented"]) < 1e-7
    assert max(scores["axis_distance"] for scores in rows["nested dropout"]) < 1e-11
    assert max(scores["axis_distance"] for scores in rows["nonuniform L2"]) < 0.1
    for label in ("plain", "tied", "uniform L2"):
        assert min(scores["axis_distance"] for scores in rows[label]) > 0.7
    assert 0.2 < rows["nested dropout, sampled prefixes"][0]["axis_distance"] < 0.4
    for label in rows.keys() - {"plain", "nested dropout, sampled prefixes"}:
        assert max(scores["subspace_distance"] for scores in rows[label]) < 1e-6


def test_unseen_faces_are_reconstructed_as_the_docstring_claims():
    rows = committed("faces")
    ratios = {row["config"]["data_seed"]: row["sse_ratio"] for row in rows["wide, mixture-sampled", 30]}
    assert sorted(ratios) == [0, 1, 2]
    assert max(ratios.values()) < 1
    for people, expected in enumerate((0.875, 0.913, 0.908)):
        patches = [row for row in rows["patches", 30] if row["config"]["data_seed"] == people]
        assert len(patches) == 3
        best = min(patches, key=lambda row: row["sse_validation"])
        assert best["hyper"]["l2"] == 4e-6
        assert best["sse_ratio"] == pytest.approx(expected, abs=0.001)
        assert best["sse_ratio"] <= 0.933, "the published ratio"
    assert all(row["sse_ratio"] > 1 for row in rows["variational", 30])


def test_denoising_pretraining_helps_where_labels_are_few():
    rows = committed("pretraining")
    for label in ("denoising", "plain"):
        runs = [row["scores"] for row in rows[label, 150]]
        assert len(runs) == 3
        for n, least in ((100, 0.02), (1000, 0.02), (20_000, 0.002)):
            gains = [scores[f"accuracy_{n}_finetuned"] - scores[f"accuracy_{n}_scratch"] for scores in runs]
            if label == "denoising":
                assert min(gains) >= 0
                assert sum(gains) / 3 > least
            else:
                assert abs(sum(gains) / 3) < 0.004
        assert all(scores["accuracy_20000_frozen"] < scores["accuracy_20000_scratch"] for scores in runs)
        for n in (100, 1000, 20_000):  # as features: denoised codings win against components, plain ones lose
            gains = [scores[f"accuracy_{n}_logistic_codings"] - scores[f"accuracy_{n}_logistic_pca"] for scores in runs]
            assert min(gains) > 0 if label == "denoising" else max(gains) < 0
        assert all(scores["accuracy_1000_neighbours_pca"] > scores["accuracy_1000_scratch"] for scores in runs)


def test_greedy_phases_gain_nothing_as_the_docstring_claims():
    means = {}
    for (label, _), rows in committed("greedy").items():
        for rate in {row["hyper"]["learning_rate"] for row in rows}:
            errors = [row["sse_test"] for row in rows if row["hyper"]["learning_rate"] == rate]
            assert len(errors) == 3
            means[label, rate] = sum(errors) / 3
    for label in ("sigmoid at once", "sigmoid separate", "sigmoid inner"):
        assert 15.1 < means[label, 0.002] < 15.5
    assert all(25 < mean < 25.5 for (_, rate), mean in means.items() if rate == 1e-9)
    assert means["ELU at once", 0.002] < 9.1
