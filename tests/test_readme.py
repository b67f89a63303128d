"""What the READMEs show is run as it stands there."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from aejax import cli
from unrendered import AEJAX

CHECKOUT = Path(__file__).resolve().parents[1]
FIRST = ("README.md", "experiments/README.md", "results/README.md")
"""READMEs in the order in which their commands are run: the first ones make what the others look at."""
READMES = {name: (CHECKOUT / name).read_text() for name in FIRST}
READMES |= {
    str(path.relative_to(CHECKOUT)): path.read_text()
    for path in sorted(CHECKOUT.glob("[!.]*/README.md"))
    if str(path.relative_to(CHECKOUT)) not in FIRST
}
README = READMES["README.md"]
BLOCKS = [
    (name, language, code)
    for name, text in READMES.items()
    for language, code in re.findall(r"^```(\w+)\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
]
PYTHON = [(name, code) for name, language, code in BLOCKS if language == "python"]
SHELL = [line for _, language, code in BLOCKS if language == "sh" for line in code.splitlines() if line.strip()]


@pytest.mark.slow
def test_the_python_api_fits_in_ten_lines_and_runs():
    name, code = PYTHON[0]
    assert name == "README.md"
    assert len([line for line in code.splitlines() if line.strip()]) < 10
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    ratio = float(done.stdout.split()[-1])
    assert 0.3 < ratio < 1  # the README says that it beats PCA


@pytest.mark.slow
@pytest.mark.parametrize(("name", "code"), PYTHON[1:], ids=[f"{i}-{name}" for i, (name, _) in enumerate(PYTHON[1:])])
def test_python_blocks_run(name, code, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if "SWEEPS" in code:
        (tmp_path / "mine.py").write_text(code)
        assert cli.main(["run", "mine.py", "--smoke"]) == 0
    else:
        subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.slow
def test_the_shell_lines_on_embedded_data_run_in_order(tmp_path):
    """The READMEs' lines, with the experiment cut small; set-up lines are what CI itself runs."""
    lines = [line for line in SHELL if line.startswith(("aejax ", "RUN=")) and "DIR" not in line]
    assert any("aejax encode" in line for line in lines)
    script = "\n".join(dict.fromkeys(lines))  # each once, where it is shown first
    script = script.replace("quickstart.py --smoke", "quickstart.py").replace("quickstart.py", "quickstart.py --smoke")
    script = script.replace("results/quickstart", "results/quickstart-smoke")
    script = f'set -euo pipefail\naejax() {{ {" ".join(AEJAX)} "$@"; }}\n{script}\n'
    (tmp_path / "experiments").symlink_to(CHECKOUT / "experiments")
    environment = {**os.environ, "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}  # they take a third less time so
    command = ["bash", "-c", script]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "reconstructions.npy").exists()


@pytest.mark.parametrize("line", [line for line in SHELL if line.startswith("aejax ")])
def test_every_command_shown_is_one_that_exists(line):
    cli.build_parser().parse_args(line.split("#")[0].split()[1:])


def test_ci_runs_the_readmes_test_command():
    (command,) = {line for line in SHELL if "pytest" in line}
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


@pytest.mark.parametrize("name", READMES)
def test_files_and_headings_that_a_readme_links_to_are_there(name):
    for target in re.findall(r"\]\(([^)]+)\)", READMES[name]):
        if "://" not in target:
            path, _, heading = target.partition("#")
            linked = (CHECKOUT / name).parent / path if path else CHECKOUT / name
            assert linked.exists(), target
            if heading:
                headings = re.findall(r"^#+ (.*)$", linked.read_text(), flags=re.MULTILINE)
                anchors = [re.sub(r"\]\([^)]*\)|[^\w -]", "", one).lower().replace(" ", "-") for one in headings]
                assert heading in anchors, target


def test_the_committed_speed_reaches_what_is_claimed():
    """At least 1.1 times fits one after another, 1.3 times torch.compile; more members take no longer to compile."""
    record = json.loads((CHECKOUT / "results/speed/populations.json").read_text())
    ratios, rates, seconds = (record[name] for name in ("times_as_fast_as", "samples_per_second", "compile_seconds"))
    for name, least in (("fit, one after another", 1.1), ("torch.compile", 1.3)):
        assert ratios[name] >= least
        assert ratios[name] == pytest.approx(rates[record["fastest_population"]] / rates[name], abs=0.006)
    few, *more = (seconds[f"population, map{text}"] for text in ("", ", 16 members", ", 64 members"))
    assert max(more) <= 1.2 * few


def test_the_committed_speed_on_an_accelerator_reaches_what_is_claimed():
    record = json.loads((CHECKOUT / "results/h200/populations.json").read_text())
    assert record["provenance"]["device_kind"] == "NVIDIA H200"
    assert record["times_as_fast_as"]["torch eager"] >= 50


def test_the_committed_difference_that_vmap_makes_is_small():
    record = json.loads((CHECKOUT / "results/speed/vmap_difference.json").read_text())
    relative = record["relative_difference_of_parameters"]
    errors = record["mean_validation_error"]
    assert (record["members"], record["steps"]) == (32, 300)
    assert relative["median"] < 2e-5
    assert errors["vmapped"] == pytest.approx(errors["alone"], rel=1e-4)
