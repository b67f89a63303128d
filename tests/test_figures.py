"""Figures: drawn, kept, deleted or reported, each on its own."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from aejax import figures
from fabricated import FIGURES, arrays_of, make, write


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


def test_a_figure_that_fails_costs_only_itself(tmp_path, monkeypatch):
    def broken(*_):
        raise ValueError("no\nroom | here")

    monkeypatch.setitem(figures.FIGURES, "features.png", (broken, "Weights."))
    (tmp_path / "features.png").write_bytes(b"of other runs")
    text, written = write(tmp_path, [make(codings=2)])
    assert written & FIGURES == FIGURES - {"features.png"}
    assert "*Weights.* `features.png` could not be drawn: ValueError: no room \\| here\n" in text
    assert not (tmp_path / "features.png").exists()


@pytest.mark.parametrize("status", ["completed", "failed"])
def test_old_figures_that_these_rows_cannot_have_are_deleted(tmp_path, status):
    for name in FIGURES | {"mine.png"}:
        (tmp_path / name).write_bytes(b"old")
    data = make()["data"] | {"image_shape": None}
    _, written = write(tmp_path, [make(status=status, data=data)])
    assert {path.name for path in tmp_path.iterdir()} == written | {"mine.png"}
    assert len(written & FIGURES) == (2 if status == "completed" else 0)


def test_matplotlib_comes_late_and_without_pyplot(tmp_path):
    rows = [make(codings=2)]
    program = """
import json, pathlib, sys
from aejax import report
assert not any(name.startswith("matplotlib") for name in sys.modules)
sys.path.insert(0, sys.argv[3])
from fabricated import arrays_of
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
