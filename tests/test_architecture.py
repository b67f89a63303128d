"""Rules that keep the code base what it is: read from the source, and from a fresh process."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[1]
SOURCES = sorted((CHECKOUT / "aejax").rglob("*.py"))
TREES = {path: ast.parse(path.read_text()) for path in SOURCES}


def imports(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def run(code):
    """What a fresh Python process prints, as JSON."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=CHECKOUT,
    )
    return json.loads(done.stdout)


def test_only_nets_imports_flax():
    users = {path for path, tree in TREES.items() if any(name.split(".")[0] == "flax" for name in imports(tree))}
    assert {path.parent for path in users} == {CHECKOUT / "aejax/nets"}


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(CHECKOUT)))
def test_loading_runs_no_code(path):
    forbidden_modules = {"pickle", "cPickle", "_pickle", "joblib", "dill", "cloudpickle", "shelve", "marshal", "yaml"}
    assert not forbidden_modules & {name.split(".")[0] for name in imports(TREES[path])}
    for node in ast.walk(TREES[path]):
        if isinstance(node, ast.Name):
            assert node.id not in ("eval", "exec", "__import__"), f"line {node.lineno}"
        if isinstance(node, ast.keyword) and node.arg == "allow_pickle":
            assert isinstance(node.value, ast.Constant)
            assert node.value.value is False
    for call in (node for node in ast.walk(TREES[path]) if isinstance(node, ast.Call)):
        called = ast.unparse(call.func)
        if called in ("np.load", "numpy.load"):
            assert "allow_pickle" in [keyword.arg for keyword in call.keywords], f"line {call.lineno}"
        if path.name != "experiment.py":  # experiment files are Python, and trusted
            assert not called.endswith("exec_module"), f"line {call.lineno}"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(CHECKOUT)))
def test_json_that_is_written_is_strict(path):
    for node in ast.walk(TREES[path]):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("json.dumps", "json.dump"):
            given = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
            assert given.get("allow_nan") == "False", f"line {node.lineno}"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(CHECKOUT)))
def test_a_file_stays_a_room(path):
    assert len(path.read_text().splitlines()) <= 320


def test_importing_aejax_changes_no_setting_and_starts_no_device():
    code = """
import json, importlib, pkgutil
import jax
before = dict(jax.config.values)
import aejax
for module in pkgutil.walk_packages(aejax.__path__, "aejax."):
    if module.name != "aejax.__main__":
        importlib.import_module(module.name)
from jax._src import xla_bridge
after = dict(jax.config.values)
changed = sorted(name for name in after if name in before and after[name] != before[name])
print(json.dumps({"changed": changed, "backends": list(xla_bridge._backends)}))
"""
    assert run(code) == {"changed": [], "backends": []}


def test_help_and_a_bad_command_line_import_nothing_heavy():
    code = """
import contextlib, io, json, sys
from aejax import cli
with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
    for arguments in (["--help"], ["run", "--help"], ["nonsense"]):
        try:
            cli.main(arguments)
        except SystemExit:
            pass
print(json.dumps([name for name in ("jax", "flax", "numpy", "matplotlib", "sklearn") if name in sys.modules]))
"""
    assert run(code) == []


def test_imports_go_one_way():
    layers = [
        {"errors", "interrupt", "__init__"},
        {"datasets", "checks", "machine", "hosts"},
        {"nets", "penalties", "likelihoods", "schedules", "points"},
        {"variants"},
        {"pca", "program"},
        {"population"},
        {"choice", "keeping"},
        {"train", "compare", "density", "health"},
        {"scores", "greedy", "classify"},
        {"pictures"},
        {"fields", "identities"},
        {"sweep"},
        {"overrides", "watcher"},
        {"disk", "lock", "results", "states", "provenance"},
        {"experiment", "settings", "stored", "rows", "jobs", "loading"},
        {"work"},
        {"cluster"},
        {"figures", "generate", "goodput", "listing", "panel", "tensorboard"},
        {"report", "showing"},
        {"runner"},
        {"progress"},
        {"cli"},
        {"__main__"},
    ]
    level = {name: depth for depth, layer in enumerate(layers) for name in layer}
    for path, tree in TREES.items():
        module = path.relative_to(CHECKOUT / "aejax").parts[0].removesuffix(".py")
        top_level = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
        for node in top_level:
            if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "aejax":
                parts = node.module.split(".")[1:]
                used = parts[:1] or [alias.name for alias in node.names]
                for name in used:
                    assert level.get(name, 0) <= level[module], f"{module} imports {name}"
