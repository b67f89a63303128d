"""Numbers, wording and figures of the report, on rows made by hand."""

import csv
import io
import json
import math
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from aejax import report

INPUTS, CURVE = 12, np.linspace(24.0, 0.0, 13)  # PCA's SSE falls by 2 a component: 20 at 2 codings, 10 at 7
FIGURES = {"error_against_codings.png", "reconstructions.png", "learning_curves.png", "codings_2d.png", "features.png"}
METRICS = ("sse_validation", "sse_test", "mse_test", "r2_test", "pca_sse_test", "sse_ratio", "pca_equivalent_dimension")


def make(label="stacked", seed=0, sse=8.0, *, codings=7, validation=None, status="completed", hyper=None, **changes):
    """A row whose numbers follow from `sse` and `codings` by hand."""
    pca, hyper = float(CURVE[codings]), hyper or {"learning_rate": 0.001}
    metrics = (sse if validation is None else validation, sse, sse / INPUTS, 1 - sse / 24, pca, sse / pca, 12 - sse / 2)
    row = {
        "format": 1,
        "experiment": "tying",
        "label": label,
        "dataset": "blobs",
        "variant": "plain",
        "tied": False,
        "widths": [30, codings],
        "codings": codings,
        "seed": seed,
        "hyper": hyper,
        "status": status,
        "reason": None if status == "completed" else "the loss was not finite in epoch 3",
        **dict(zip(METRICS, metrics if status == "completed" else (None,) * 7, strict=True)),
        "principal_angle_max_deg": None,
        "best_epoch": 5,
        "epochs": 5,
        "compile_seconds": 1.0,
        "train_seconds": 2.0 + seed,
        "config": {"dataset": "blobs", "batch_size": 50, "decoder_widths": None},
        "data": {"train_rows": 80, "validation_rows": 10, "test_rows": 30, "inputs": INPUTS, "image_shape": [4, 3]}
        | {"unit": 255.0, "constant_columns": 1, "pca_rank": 12, "pca_rows": 90, "mean_sse_test": 24.0},
        "provenance": dict.fromkeys(("aejax", "jax", "jaxlib", "flax", "optax", "numpy", "python"), "1.2.3")
        | {
            "git_commit": "c0ffee",
            "platform": "cpu",
            "device_kind": "cpu",
            "processor": "p",
            "cores": 2,
            "precision": "default",
        }
        | {"dataset_fingerprint": "0123456789abcdef", "created": f"2026-03-0{1 + seed % 3}T10:00:00+00:00"},
    }
    row |= changes
    return {"run_id": f"{zlib.crc32(json.dumps(row).encode()):012x}", **row}


def arrays_of(rows, *, epochs=5, labelled=True, test_rows=30):
    """The arrays of each run by run_id."""
    held = {}
    for row in rows:
        rng = np.random.default_rng(row["seed"])
        d = row["data"]["inputs"]
        curves = ("train_loss", "train_error", "validation_error")
        held[row["run_id"]] = arrays = {f"history/{c}": rng.uniform(0.1, 1, epochs).astype("f4") for c in curves}
        arrays |= {
            f"examples/{kind}": rng.uniform(0, 1, (5, d)).astype("f4") for kind in ("original", "reconstruction")
        }
        arrays |= {"examples/pca": arrays["examples/original"], "pca_curve": CURVE}
        arrays |= {"features": rng.normal(size=(row["widths"][0], d)).astype("f4")}
        if row["codings"] == 2:
            arrays |= {f"codings/{kind}": rng.normal(size=(test_rows, 2)).astype("f4") for kind in ("test", "pca")}
            arrays |= {"codings/labels": np.arange(test_rows) % 3} if labelled else {}
    return held


def write(folder, rows, arrays=None):
    written = report.write(folder, rows, (arrays_of(rows) if arrays is None else arrays).get)
    assert all(path.parent == folder and path.is_file() for path in written)
    assert {path.name for path in folder.iterdir()} >= {path.name for path in written}, "a temporary file is left"
    return (folder / "summary.md").read_text("utf-8"), {path.name for path in written}


def read_csv(folder):
    return list(csv.DictReader(io.StringIO((folder / "summary.csv").read_text("utf-8"))))


def verdict(folder, rows):
    text, _ = write(folder, rows, {})
    return next(part for part in text.split("\n\n") if part.startswith("**"))


def test_numbers_of_a_setting(tmp_path):
    rows = [make(seed=i, sse=sse, validation=sse + 1) for i, sse in enumerate((8.0, 9.0, 13.0))]
    text, _ = write(tmp_path, rows, {})
    (line,) = read_csv(tmp_path)
    # the t distribution with 2 degrees of freedom has a closed quantile; the variance of 8, 9, 13 is (4 + 1 + 9) / 2
    half = 0.95 / math.sqrt(2 * 0.975 * 0.025) * math.sqrt(7 / 3)
    expected = {"sse_test": 10.0, "sse_test_ci95": half, "sse_validation": 11.0, "mse_test": 10 / 12}
    expected |= {"r2_test": 1 - 10 / 24, "pca_sse_test": 10.0, "sse_ratio": 1.0, "pca_equivalent_dimension": 7.0}
    expected |= {"train_seconds": 3.0, "seeds_total": 3, "seeds_completed": 3, "seeds_winning": 2, "codings": 7}
    assert {name: float(line[name]) for name in expected} == pytest.approx(expected, rel=1e-9)
    assert (line["widths"], line["seeds"], line["hyper.learning_rate"]) == ("30-7", "0 1 2", "0.001")
    assert "| stacked | 30-7 | 7 | 3/3 | 11.00 | 10.00 ± 6.6 | 0.833 | 0.5833 | 10.00 | 1.00 | 7.00 | 3.00 |" in text
    assert "The same in every setting: batch_size = 50, variant = plain, tied = false, learning_rate = 0.001." in text
    for fact in ("0123456789ab\n", "c0ffee", "2026-03-01, 2026-03-03", "seeds: 0, 1, 2", "80 training", "(4 × 3)"):
        assert fact in text
    assert "angle |" not in text


@pytest.mark.parametrize("values", [[], [3.0]])
def test_no_interval_from_fewer_than_two_seeds(values):
    assert report.confidence(values) is None


def test_best_is_chosen_by_validation_not_by_test(tmp_path):
    by_rate = {0.1: (5.0, 9.0), 0.01: (6.0, 8.0), 0.001: (4.0, 9.5)}  # rate: (test, validation)
    rows = [
        make(seed=seed, sse=test, validation=validation, hyper={"learning_rate": rate, "l2": 0.0})
        for rate, (test, validation) in by_rate.items()
        for seed in (0, 1)
    ]
    text, _ = write(tmp_path, rows, {})
    assert {line["hyper.learning_rate"]: line["best_by_validation"] for line in read_csv(tmp_path)} == {
        "0.1": "False",
        "0.01": "True",
        "0.001": "False",
    }
    assert text.count("★ |") == 1
    assert "| stacked ★ | 30-7 | 7 | 0.01 | 2/2 |" in text
    assert "best of 3 settings by validation" in text
    assert "SSE 6.000" in verdict(tmp_path, rows)
    assert "learning_rate |" in text
    assert ", l2 = 0." in text


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (
            (25.0, 25.4, 25.8),
            "loses to PCA at 7 codings: SSE 25.40 ± 0.99 against 10.00 (ratio 2.54), 0 of 3 seeds win;",
        ),
        (
            (5.0, 5.1, 5.2),
            "wins against PCA at 7 codings: SSE 5.100 ± 0.25 against 10.00 (ratio 0.510), 3 of 3 seeds win",
        ),
        ((9.0, 9.5, 12.0), "is undecided against PCA at 7 codings: SSE 10.17 ± 4.0 against 10.00 (ratio 1.02), 2 of 3"),
        (
            (9.0, 11.0, 11.0),
            "is undecided against PCA at 7 codings: SSE 10.33 ± 2.9 against 10.00 (ratio 1.03), 1 of 3",
        ),
        ((9.999, 10.001), "matches PCA to 0.1% at 7 codings"),
        ((9.9, 5.0), "wins against PCA in every completed seed, yet within the 95 % interval, at 7 codings"),
        (
            (8.0,),
            "wins against PCA at 7 codings: SSE 8.000 against 10.00 (ratio 0.800), 1 of 1 seed wins; it is worth 8.00",
        ),
    ],
)
def test_verdict(tmp_path, values, words):
    said = verdict(tmp_path, [make(seed=i, sse=sse) for i, sse in enumerate(values)])
    assert said.startswith(f"**stacked** on blobs {words}")


def test_verdict_on_many_codings_and_several_labels(tmp_path):
    rows = [make(sse=sse, codings=k) for k, sse in ((1, 3.0), (2, 30.0), (3, 4.0), (10, 4.5), (11, 9.0))]
    said = verdict(tmp_path, [*rows, make("tied", sse=1.0)])
    assert said.startswith(
        "**stacked** on blobs wins against PCA at 1, 3 codings; loses to PCA at 2, 10, 11 codings. It"
    )
    assert "It wins against PCA at 1 coding: SSE 3.000" in said
    assert "It loses to PCA at 11 codings: SSE 9.000" in said
    assert "\n\n**tied** on blobs wins against PCA at 7 codings" in (tmp_path / "summary.md").read_text("utf-8")


def test_failed_runs_are_listed_and_never_ranked(tmp_path):
    bad = make(seed=2, status="diverged", sse_validation=0.0, hyper={"learning_rate": 9.0})
    rows = [make(seed=0), make(seed=1, status="failed", reason="OutOfMemory: a | b"), make(seed=3), bad]
    text, _ = write(tmp_path, rows)
    lines = {line["hyper.learning_rate"]: line for line in read_csv(tmp_path)}
    assert (lines["0.001"]["best_by_validation"], lines["9.0"]["best_by_validation"]) == ("True", "False")
    assert (lines["0.001"]["seeds_completed"], lines["0.001"]["seeds_total"]) == ("2", "3")
    assert (lines["9.0"]["sse_validation"], lines["9.0"]["sse_test"]) == ("", "")
    assert f"* `{bad['run_id']}` (stacked, 7 codings, seed 2): diverged: the loss was not finite in epoch 3" in text
    assert "failed: OutOfMemory: a \\| b" in text
    assert "2 of 3 seeds win, 1 did not complete" in text
    assert "★ |" not in text


def test_nothing_completed(tmp_path):
    text, written = write(tmp_path, [make(status="diverged"), make("tied", status="failed", reason=None)], {})
    assert written == {"summary.md", "summary.csv"}
    assert "No run completed" in text
    assert "**tied** on blobs has no completed run." in text
    assert "failed: no reason recorded" in text
    assert write(tmp_path, [], {})[1] == {"summary.md", "summary.csv"}


def blank(path):
    colours = Image.open(path).convert("RGB").getcolors(maxcolors=1 << 24)
    assert colours is not None
    return len(colours) <= 20


@pytest.mark.parametrize(("shape", "epochs"), [([4, 3], 300), ([4, 3, 1], 2), ([2, 2, 3], 1), (None, 1)])
def test_figures(tmp_path, shape, epochs):
    data = make()["data"] | {"image_shape": shape}
    rows = [make(label, seed, codings=k, data=data) for label in ("a", "_b $x$ | c") for k in (2, 7) for seed in (0, 1)]
    text, written = write(tmp_path, rows, arrays_of(rows, epochs=epochs, labelled=shape is None))
    assert written - {"summary.md", "summary.csv"} == (
        FIGURES if shape else FIGURES - {"features.png", "reconstructions.png"}
    )
    for name in written & FIGURES:
        assert not blank(tmp_path / name), name
        assert f"]({name})" in text
    assert "\\_b \\$x\\$ \\| c" in text


def test_rebuilding_is_byte_identical_in_any_order_of_rows(tmp_path):
    rows = [make("ab"[seed % 2], seed, sse=5 + seed, codings=2) for seed in range(4)]
    write(tmp_path, rows)
    first = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    write(tmp_path, rows[::-1])
    assert first == {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert len(first) == 2 + len(FIGURES)


def test_figures_without_arrays_stay_as_they_are(tmp_path):
    rows = [make(seed=0, codings=2), make("tied", seed=1, codings=2)]
    assert "Not drawn" in write(tmp_path, rows, {})[0]
    (tmp_path / "features.png").write_bytes(b"drawn long ago")
    some = arrays_of(rows[:1])  # PCA's curve is there: it is the same for every run
    text, written = write(tmp_path, rows, some)
    assert written == {"summary.md", "summary.csv", "error_against_codings.png"}
    assert (tmp_path / "features.png").read_bytes() == b"drawn long ago"
    assert f"**Kept from an earlier report:** the arrays of run `{rows[1]['run_id']}` are not in this copy." in text
    assert text.count("**Not drawn:**") == 3


def test_data_of_the_same_name_but_another_fingerprint_is_not_pooled(tmp_path):
    other = make()["provenance"] | {"dataset_fingerprint": "fedcba9876543210"}
    text, _ = write(tmp_path, [make(seed=0), make(seed=1, provenance=other)])
    assert "## blobs (0123456789ab)" in text
    assert "## blobs (fedcba987654)" in text
    assert [line["seeds_total"] for line in read_csv(tmp_path)] == ["1", "1"]


def test_seeds_are_not_options_and_the_last_row_of_a_run_counts(tmp_path):
    rows = [make(seed=i, config={"batch_size": 50, "seeds": [i], "hyper": {"learning_rate": [i]}}) for i in (0, 1)]
    again = rows[0] | {"sse_test": 7.0}
    write(tmp_path, [*rows, again], {})
    (line,) = read_csv(tmp_path)
    assert (line["seeds_total"], float(line["sse_test"])) == ("2", 7.5)


def test_many_settings_and_missing_numbers(tmp_path):
    hypers = [
        {"learning_rate": 0.1 / (i + 1), **{f"a_very_long_name_{j}": i * j / 7 for j in range(12)}} for i in range(3)
    ]
    rows = [make(f"label {i}", codings=2, hyper=hyper, sse_ratio=None) for i in range(14) for hyper in hypers]
    rows += [make("linear", principal_angle_max_deg=angle, seed=i) for i, angle in enumerate((1.0, 4.0))]
    text, written = write(tmp_path, rows)
    assert written >= FIGURES
    assert len(read_csv(tmp_path)) == 43
    assert "Only the first 12 labels are drawn." in text
    assert float(read_csv(tmp_path)[-1]["principal_angle_max_deg"]) == 4.0
    table = [line for line in text.splitlines() if line.startswith("| ")]
    assert {line.count("|") for line in table} == {table[0].count("|")}


def test_several_datasets_have_a_table_each(tmp_path):
    rows = [make(), make(dataset="moons", sse=30.0)]
    text, _ = write(tmp_path, rows)
    assert "wins against PCA at 7 codings" in text
    assert "On moons it loses to PCA at 7 codings" in text
    assert text.index("## blobs") < text.index("## moons")


def test_matplotlib_comes_late_and_without_pyplot(tmp_path):
    rows = [make(codings=2)]
    program = """
import json, pathlib, sys
from aejax import report
assert not any(name.startswith("matplotlib") for name in sys.modules)
sys.path.insert(0, sys.argv[3])
from test_report import arrays_of
import matplotlib
before = matplotlib.rcParams.copy()
rows = json.loads(sys.argv[2])
report.write(pathlib.Path(sys.argv[1]), rows, arrays_of(rows).get)
assert "matplotlib.figure" in sys.modules
assert "matplotlib.pyplot" not in sys.modules
assert matplotlib.rcParams.copy() == before
"""
    arguments = [str(tmp_path), json.dumps(rows), str(Path(__file__).parent)]
    done = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
