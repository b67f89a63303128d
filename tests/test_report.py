"""Numbers, wording and files of the summary, on rows made by hand."""

import json
import math

import pytest

from aejax.evaluation import scores
from aejax.reporting import settings, summary, time_budget
from fabricated import FIGURES, falling, make, population, read_csv, verdict, write


def test_numbers_of_a_setting(tmp_path):
    rows = [make(seed=i, sse=sse, validation=sse + 1) for i, sse in enumerate((8.0, 9.0, 13.0))]
    text, _ = write(tmp_path, rows, {})
    (line,) = read_csv(tmp_path)
    # the t distribution with 2 degrees of freedom has a closed quantile; the variance of 8, 9, 13 is (4 + 1 + 9) / 2
    half = 0.95 / math.sqrt(2 * 0.975 * 0.025) * math.sqrt(7 / 3)
    expected = {"sse_test": 10.0, "sse_test_ci95": half, "sse_validation": 11.0, "mse_test": 10 / 12}
    expected |= {"r2_test": 1 - 10 / 24, "pca_sse_test": 10.0, "sse_ratio": 1.0, "pca_equivalent_dimension": 7.0}
    expected |= {
        "best_epoch": 4,
        "train_seconds": 3.0,
        "seeds_total": 3,
        "seeds_completed": 3,
        "seeds_winning": 2,
        "codings": 7,
    }
    assert {name: float(line[name]) for name in expected} == pytest.approx(expected, rel=1e-9)
    assert (line["widths"], line["seeds"], line["hyper.learning_rate"]) == ("30-7", "0 1 2", "0.001")
    assert (
        "| stacked | 30-7 | 7 | 3/3 | 11.00 | 10.00 ± 6.6 | 0.833 | 0.5833 | 10.00 | 1.00 | 7.00 | 4 of 8 | 3.00 |"
        in text
    )
    assert "The same in every setting: batch_size = 50, variant = plain, tied = false, learning_rate = 0.001." in text
    for fact in ("0123456789ab\n", "c0ffee", "2026-03-01, 2026-03-03", "seeds: 0, 1, 2", "80 training", "(4 × 3)"):
        assert fact in text
    assert "PCA is fitted on 90 rows" in text
    assert "angle |" not in text
    assert "± half-width of the 95 % Student t interval over initialisation seeds, for one split of the data" in text


@pytest.mark.parametrize("values", [[], [3.0]])
def test_no_interval_from_fewer_than_two_seeds(values):
    assert summary.confidence_half_width(values) is None


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
    assert "The ★ of" not in text
    text, _ = write(tmp_path, rows[:3] + rows[4:], {})  # the best setting now has one seed, its rivals two
    assert " The ★ of stacked at 7 codings has 1 completed seed, a rival 2.*\n" in text


def test_over_seeds_the_angle_is_the_largest_and_seconds_and_epochs_are_medians():
    numbers = {"principal_angle_max_deg": (4.0, 1.0, 1.0), "train_seconds": (2.0, 90.0, 3.0), "best_epoch": (8, 1, 2)}
    rows = [make(seed=i, **{name: values[i] for name, values in numbers.items()}) for i in range(3)]
    (setting,) = settings.group_settings(rows)
    assert {name: setting.over_seeds(name) for name in numbers} == {
        "principal_angle_max_deg": 4.0,
        "train_seconds": 3.0,
        "best_epoch": 2,
    }


def test_settings_are_ranked_by_the_mean_of_their_seeds_and_show_the_best_run_by_validation():
    """The first setting has the luckiest seed. The run of the second with the lower test error is not the one shown."""
    errors_of_rate = {0.1: ((5.0, 1.0), (5.0, 9.0)), 0.01: ((5.0, 4.5), (7.0, 4.0))}  # (test, validation) of each seed
    rows = [
        make(seed=seed, sse=test, validation=validation, hyper={"learning_rate": rate})
        for rate, errors in errors_of_rate.items()
        for seed, (test, validation) in enumerate(errors)
    ]
    (best,) = (setting for setting in settings.group_settings(rows) if setting.best)
    assert best.hyper["learning_rate"] == 0.01
    assert best.validation == 4.25
    assert best.best_run["seed"] == 1


def test_a_variant_with_a_criterion_is_chosen_by_it():
    """Bits or nats for example: the squared error would choose another setting and another run."""
    criteria_of_rate = {0.1: (3.0, 4.0), 0.01: (7.0, 2.0)}
    rows = [
        make(seed=seed, sse=10 - criterion, hyper={"learning_rate": rate})
        | {"criterion": "nats", "criterion_validation": criterion}
        for rate, criteria in criteria_of_rate.items()
        for seed, criterion in enumerate(criteria)
    ]
    (best,) = (setting for setting in settings.group_settings(rows) if setting.best)
    assert best.hyper["learning_rate"] == 0.1
    assert best.validation == 3.5
    assert best.best_run["seed"] == 0


def test_a_seed_with_exactly_the_error_of_pca_does_not_win(tmp_path):
    rows = [make(seed=seed, sse=sse) for seed, sse in enumerate((10.0, 9.0, 11.0))]
    write(tmp_path, rows, {})
    assert read_csv(tmp_path)[0]["seeds_winning"] == "1"


def test_settings_are_chosen_by_a_score_that_chooses(tmp_path):
    """Of two denoising nets, the better one on noisy validation rows is chosen, not the one that copies its input."""
    denoising = [scores.denoising("gaussian", 0.5).config()]

    def denoising_row(rate, validation, denoised, configs=denoising):
        row = make(sse=denoised, validation=validation, hyper={"learning_rate": rate})
        row["config"] = row["config"] | {"scores": configs}
        return row | {"scores": {"denoised_sse_validation": denoised, "denoised_sse_test": denoised}}

    rows = [denoising_row(0.1, 1.0, 5.0), denoising_row(0.01, 2.0, 4.0)]
    chosen = {s.hyper["learning_rate"]: s.best for s in settings.group_settings(rows)}
    assert chosen == {0.1: False, 0.01: True}
    assert {s.hyper["learning_rate"]: s.validation for s in settings.group_settings(rows)} == {0.1: 5.0, 0.01: 4.0}
    # a setting with another noise is not a rival: errors under different noises are not comparable
    other = denoising_row(0.001, 3.0, 9.0, [scores.denoising("gaussian", 0.9).config()])
    assert sum(s.best for s in settings.group_settings([*rows, other])) == 2
    text, _ = write(tmp_path, rows, {})
    for field, header, meaning in scores.denoising("gaussian", 0.5).headers:
        assert (f"* {header}: {meaning}" in text) == (field in rows[0]["scores"])


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


def test_rebuilding_is_byte_identical_in_any_order_of_rows(tmp_path):
    rows = [make("ab"[seed % 2], seed, sse=5 + seed, codings=2) for seed in range(4)]
    write(tmp_path, rows)
    first = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    write(tmp_path, rows[::-1])
    assert first == {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert len(first) == 2 + len(FIGURES)


def test_the_summary_notes_what_the_figures_leave_out(tmp_path):
    few, many = ([make(codings=k) for k in range(3, most)] for most in (7, 8))
    assert "drawn" not in write(tmp_path, few)[0]
    text, _ = write(tmp_path, many)
    assert "runs chosen by validation.* Only 4 of the 5 numbers of codings are drawn.\n" in text
    assert "best by validation.* At most 4 numbers of codings are drawn for a label.\n" in text


def test_data_of_the_same_name_but_another_fingerprint_is_not_pooled(tmp_path):
    other = make()["provenance"] | {"dataset_fingerprint": "fedcba9876543210"}
    text, _ = write(tmp_path, [make(seed=0), make(seed=1, provenance=other)])
    assert "## blobs (0123456789ab)" in text
    assert "## blobs (fedcba987654)" in text
    assert [line["seeds_total"] for line in read_csv(tmp_path)] == ["1", "1"]


def test_seeds_are_not_options_and_of_equal_run_ids_the_last_row_counts(tmp_path):
    rows = [make(seed=i, config={"batch_size": 50, "seeds": [i], "hyper": {"learning_rate": [i]}}) for i in (0, 1)]
    again = rows[0] | {"sse_test": 7.0}
    write(tmp_path, [*rows, again], {})
    (line,) = read_csv(tmp_path)
    assert (line["seeds_total"], float(line["sse_test"])) == ("2", 7.5)


@pytest.mark.slow
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


def write_goodput(folder, *lines):
    (folder / "goodput.jsonl").write_text(
        "".join(line if isinstance(line, str) else json.dumps(line) + "\n" for line in lines)
    )


def test_the_time_budget_sums_all_calls_but_not_the_last_report(tmp_path):
    first = {"started": "2026-03-01", "wall": 100.0, "useful": 60.0, "compile": 20.0, "data": 10.0, "saving": 4.0}
    first |= {"lost": 1.0, "other": 5.0, "runs": 3, "device": "cpu"}
    second = {"wall": 50.0, "useful": 36.0, "compile": 0.0, "lost": 0.0, "other": 0.0, "runs": 1}
    write_goodput(tmp_path, first, first | {"started": "2026-03-02"} | second)
    text, _ = write(tmp_path, [make()], {})
    assert "2 calls of `aejax run` on cpu, 150 s of wall time in all, trained 4 runs." in text
    # 96 + 20 + 20 + 8 + 1 + 5 = 150
    shares = {"useful": "96.0 | 64.0%", "compile": "20.0 | 13.3%", "data": "20.0 | 13.3%", "saving": "8.00 | 5.3%"}
    for name, cells in (shares | {"lost": "1.00 | 0.7%", "other": "5.00 | 3.3%"}).items():
        assert f"| {name} | {cells} | {time_budget.SPENT[name]} |" in text
    report = dict.fromkeys(time_budget.SPENT, 0.0) | {
        "started": "2026-03-02",
        "wall": 9.0,
        "saving": 9.0,
        "report": True,
    }
    write_goodput(tmp_path, first, first | {"started": "2026-03-02"} | second, report)
    assert write(tmp_path, [make()], {})[0] == text, "the summary was written before its own time was known"
    for last in ((), (report,)):
        write_goodput(tmp_path, first, report, first | {"started": "2026-03-02"} | second, *last)
        assert "2 calls of `aejax run` on cpu, 159 s of wall time in all" in write(tmp_path, [make()], {})[0]
    assert "Not counted" not in text
    assert text.index("## Where the time went") < text.index("## Provenance")


@pytest.mark.parametrize("torn", ['{"wall": 5', "[1]\n", '{"wall": "long"}\n', '{"wall": 1e999}\n'])
def test_a_damaged_line_of_goodput_is_noted_and_not_counted(tmp_path, torn):
    write_goodput(tmp_path, {"wall": 2.0, "useful": 1.0}, torn)
    assert time_budget.read(tmp_path)[1] == 1
    text, _ = write(tmp_path, [make()], {})
    assert "1 call of `aejax run`, 2.00 s of wall time" in text
    assert "Not counted: 1 damaged line of goodput.jsonl." in text


def test_how_runs_were_executed(tmp_path):
    together = {
        "how": "vmap",
        "width": 4,
        "block": 8,
        "members": 3,
        "devices": 1,
        "rates": {"vmap 8": 9000.4, "loop": 4000.0},
    }
    alone = {"how": "loop", "width": 1, "block": 1, "members": 1, "devices": 2, "rates": None, "member_bytes": 7}
    rows = [make(seed=i, execution=together) for i in range(3)] + [make(seed=3, execution=alone)]
    text, _ = write(tmp_path, [*rows, make(seed=4), make(seed=5, execution=None)], {})
    assert "Executed: 3 by vmap, 1 by loop. Not recorded for 2 runs." in text
    assert "| 3 | vmap | 4 | 8 | 1 | 3 | loop 4,000, vmap 8 9,000 |" in text
    assert "| 1 | loop | 1 | 1 | 2 | 1 | – |" in text


def test_without_goodput_there_is_no_section_on_time(tmp_path):
    assert "Where the time went" not in write(tmp_path, [make()], {})[0]


def test_a_population_has_a_table_of_its_best_settings_and_a_csv_of_all(tmp_path):
    rates = tuple(float(f"{10 ** (i / 10 - 6):.4g}") for i in range(60))
    rows = population(2, learning_rate=rates, diverged=lambda hyper, seed: hyper["learning_rate"] > 0.2)
    text, _ = write(tmp_path, rows, {})
    table = [line for line in text.splitlines() if line.startswith("| stacked")]
    assert (len(table), len(read_csv(tmp_path))) == (40, 60)
    shown = [float(line.split(" | ")[3]) for line in table]
    assert shown == sorted(shown)
    # the rates nearest to 0.01 in decades: `population` gives 0.01 the lowest error
    assert set(shown) == set(sorted((r for r in rates if r <= 0.2), key=lambda rate: abs(math.log10(rate) + 2))[:40])
    assert text.count("★ |") == 1
    lost = sum(rate > 0.2 for rate in rates)
    assert (
        f"20 more settings of stacked are in summary.csv: those with higher validation errors, {lost} of them" in text
    )
    assert "diverged at step 17: the loss was not finite" in text


def test_of_many_incomplete_runs_the_first_are_listed_and_the_others_counted(tmp_path):
    rows = [make(seed=i, status="failed" if i % 3 else "diverged") for i in range(50)]
    text, _ = write(tmp_path, rows, {})
    assert len([line for line in text.splitlines() if line.startswith("* `")]) == 40
    assert "And 7 more failed and 3 more diverged: they are in runs.jsonl." in text


def test_every_number_of_codings_of_a_large_population_keeps_its_best(tmp_path):
    rows = population(1, learning_rate=(0.1, 0.03, 0.01, 0.003, 0.001), codings=tuple(range(1, 13)))
    text, _ = write(tmp_path, rows, {})
    table = [line.split(" | ") for line in text.splitlines() if line.startswith("| stacked")]
    assert len(table) == 40
    assert {cells[2] for cells in table if "★" in cells[0]} == {str(k) for k in range(1, 13)}
    assert "codings masked of = 12" in text
    assert "hyper.codings" not in read_csv(tmp_path)[0]


def test_a_thousand_runs_are_summarised_in_seconds(tmp_path):
    import time

    rows = population(1, learning_rate=tuple(i / 1000 for i in range(1, 501)), l2=(0.0, 0.1))
    start = time.perf_counter()
    text, _ = write(tmp_path, rows, falling(rows[:1]))
    assert "1000 runs in 1000 settings" in text
    assert time.perf_counter() - start < 30
