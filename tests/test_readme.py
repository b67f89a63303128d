"""What the README shows is run as it stands there."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from aejax import cli

CHECKOUT = Path(__file__).resolve().parents[1]
README = (CHECKOUT / "README.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", README, flags=re.MULTILINE | re.DOTALL)
PYTHON = [code for language, code in BLOCKS if language == "python"]
SHELL = [line for language, code in BLOCKS if language == "sh" for line in code.splitlines() if line.strip()]


def test_the_python_api_fits_in_ten_lines_and_runs():
    lines = [line for line in PYTHON[0].splitlines() if line.strip()]
    assert len(lines) < 10
    done = subprocess.run([sys.executable, "-W", "error", "-c", PYTHON[0]], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    ratio = float(done.stdout.split()[-1])
    assert 0.3 < ratio < 1  # the README says that it beats PCA


@pytest.mark.parametrize("number", range(1, len(PYTHON)))
def test_python_blocks_run(number, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if "SWEEPS" in PYTHON[number]:
        (tmp_path / "mine.py").write_text(PYTHON[number])
        assert cli.main(["run", "mine.py", "--smoke"]) == 0
    else:
        subprocess.run([sys.executable, "-c", PYTHON[number]], check=True)


def test_the_shell_lines_on_embedded_data_run_in_order(tmp_path):
    """The README's lines, with the experiment cut small; set-up lines are what CI itself runs."""
    lines = [line for line in SHELL if ".venv" not in line and "mnist" not in line and "DIR" not in line]
    assert any("aejax encode" in line for line in lines)
    script = (
        "\n".join(lines)
        .replace("quickstart.py", "quickstart.py --smoke")
        .replace("results/quickstart", "results/quickstart-smoke")
    )
    script = f'set -euo pipefail\naejax() {{ {sys.executable} -m aejax "$@"; }}\n{script}\n'
    (tmp_path / "experiments").symlink_to(CHECKOUT / "experiments")
    done = subprocess.run(["bash", "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "reconstructions.npy").exists()


@pytest.mark.parametrize("line", [line for line in SHELL if line.startswith("aejax ")])
def test_every_command_shown_is_one_that_exists(line):
    cli.build_parser().parse_args(line.split("#")[0].split()[1:])


def test_ci_runs_the_readmes_test_command():
    (command,) = [line for line in SHELL if "pytest" in line]
    assert command in (CHECKOUT / ".ci/run").read_text()


def test_the_quickstart_table_is_the_committed_rows():
    rows = [json.loads(line) for line in (CHECKOUT / "results/quickstart/runs.jsonl").read_text().splitlines()]
    shown = re.findall(r"^(linear|stacked|tied stacked) +(\d+) +([\d.]+) +([\d.]+)", README, flags=re.MULTILINE)
    assert len(shown) == 12
    for label, codings, sse, pca in shown:
        runs = [row for row in rows if (row["label"], row["codings"]) == (label, int(codings))]
        assert len(runs) == 3
        assert f"{sum(row['sse_test'] for row in runs) / 3:.4f}" == sse
        assert {f"{row['pca_sse_test']:.4f}" for row in runs} == {pca}


def test_files_and_figures_that_the_readme_names_are_there():
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        if "://" not in target:
            assert (CHECKOUT / target).exists(), target


def test_the_speed_that_the_readme_gives_is_the_record():
    record = json.loads((CHECKOUT / "results/speed/populations.json").read_text())
    ratios = record["times_as_fast_as"]
    names = ("fit, one after another", "torch eager", "torch.compile")
    assert ", ".join(str(ratios[name]) for name in names[:2]) + f" and {ratios[names[2]]} times as fast" in README
    assert record["fastest_population"] == "population, map"


def test_the_committed_speed_reaches_what_is_claimed():
    """At least 1.1 times fits one after another, 1.3 times torch.compile; more members take no longer to compile."""
    record = json.loads((CHECKOUT / "results/speed/populations.json").read_text())
    ratios, rates, seconds = (record[name] for name in ("times_as_fast_as", "samples_per_second", "compile_seconds"))
    for name, least in (("fit, one after another", 1.1), ("torch.compile", 1.3)):
        assert ratios[name] >= least
        assert ratios[name] == pytest.approx(rates[record["fastest_population"]] / rates[name], abs=0.006)
    few, *more = (seconds[f"population, map{text}"] for text in ("", ", 16 members", ", 64 members"))
    assert max(more) <= 1.2 * few


def test_the_speed_on_an_accelerator_that_the_readme_gives_is_the_record():
    folder, text = CHECKOUT / "results/h200", " ".join(README.split())
    record = json.loads((folder / "populations.json").read_text())
    rates, ratios = record["samples_per_second"], record["times_as_fast_as"]
    names = ("fit, one after another", "torch eager", "torch.compile")
    assert record["provenance"]["device_kind"] == "NVIDIA H200"
    assert f"take {round(rates['population, vmap'], -3):,} samples/s".replace(",", " ") in text
    assert all(f"{float(f'{rates[name]:.3g}'):,.0f}".replace(",", " ") in text for name in names)
    assert f"{ratios[names[0]]:.1f}, {ratios[names[1]]:.0f} and {ratios[names[2]]:.0f} times as fast" in text
    assert ratios["torch eager"] >= 50
    found = json.loads((folder / "share_of_peak.json").read_text())["precisions"].values()
    assert "{}, {} and {} % of what".format(*(round(100 * one["share"]) for one in found)) in text
    rows = [json.loads(line) for line in (folder / "variational/runs.jsonl").read_text().splitlines()]
    (first,) = (row for row in rows if row["label"] == "variational")
    assert f"take {first['train_seconds']:.1f} s and end at an NLL of {first['scores']['nll_test']:.2f}" in text


def test_the_difference_that_vmap_makes_is_the_record():
    record = json.loads((CHECKOUT / "results/speed/vmap_difference.json").read_text())
    relative, errors = record["relative_difference_of_parameters"], record["mean_validation_error"]
    assert (record["members"], record["steps"]) == (32, 300)
    assert relative["median"] < 2e-5
    assert errors["vmapped"] == pytest.approx(errors["alone"], rel=1e-4)
    shown = (
        f"{record['members_of_equal_bits']} of 32 members of the chapter's net have the bits of the fit alone after "
        f"300 steps; their parameters differ by a relative {relative['median']:.2g} in the median and up to "
        f"{relative['largest']:.2g}, their mean validation errors are {errors['vmapped']:.7f} and {errors['alone']:.7f}"
    )
    assert shown in " ".join(README.split())
