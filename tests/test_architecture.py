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


RUN_CODE = {"pickle", "cPickle", "_pickle", "joblib", "dill", "cloudpickle", "shelve", "marshal", "yaml", "runpy"}
RUN_CODE |= {"builtins", "code", "codeop", "multiprocessing"}
UNHARMED = {"multiprocessing.connection.Connection", "multiprocessing.connection.wait"}  # bytes, without send and recv


def runs_code(tree, name=""):
    """What in a source file could run what it reads, in words. `multiprocessing` pickles whatever it carries."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            found += [f"{node.module}.{alias.name}" for alias in node.names if node.module.split(".")[0] in RUN_CODE]
        elif isinstance(node, ast.Import):
            found += [alias.name for alias in node.names if alias.name.split(".")[0] in RUN_CODE]
        elif isinstance(node, ast.Name | ast.Attribute):
            called = node.id if isinstance(node, ast.Name) else node.attr
            plain = isinstance(node, ast.Name) or ast.unparse(node.value) in ("builtins", "__builtins__")
            found += [called] if called in ("eval", "exec", "__import__", "__builtins__") else []
            found += ["compile"] if called == "compile" and plain else []
        elif isinstance(node, ast.keyword) and node.arg == "allow_pickle":
            found += [] if isinstance(node.value, ast.Constant) and node.value.value is False else ["allow_pickle"]
        elif isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            if called in ("np.load", "numpy.load") and "allow_pickle" not in [word.arg for word in node.keywords]:
                found.append(called)
            if called.endswith((".send", ".recv")):
                found.append(called)
            if called.endswith("exec_module") and name != "experiment.py":  # experiment files are Python, and trusted
                found.append(called)
    return [one for one in found if one not in UNHARMED]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(CHECKOUT)))
def test_loading_runs_no_code(path):
    assert runs_code(TREES[path], path.name) == []


@pytest.mark.parametrize(
    "text",
    [
        "import pickle",
        "from pickle import loads",
        "import os, joblib.numpy_pickle",
        "import yaml",
        "import runpy",
        "from runpy import run_path",
        "import builtins; builtins.eval(x)",
        "__builtins__.eval(x)",
        "eval(x)",
        "run = exec",
        "compile(x, '', 'exec')",
        "f(__import__(x))",
        "np.load(path)",
        "np.load(path, allow_pickle=True)",
        "np.load(path, allow_pickle=allowed)",
        "spec.loader.exec_module(module)",
        "import multiprocessing",
        "from multiprocessing import Pipe",
        "from multiprocessing.connection import Client",
        "pipe.send(x)",
        "self.busy[3].pipe.recv()",
    ],
)
def test_a_planted_way_to_run_code_is_noticed(text):
    assert runs_code(ast.parse(text))


def test_what_runs_no_code_is_none():
    text = "import re; re.compile(x); jax.eval_shape(f); np.load(x, allow_pickle=False); pipe.send_bytes(x)"
    assert runs_code(ast.parse(text)) == []


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
        {"nets", "optimisers", "penalties", "likelihoods", "schedules", "points"},
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
        {"desk", "saving", "work", "markdown"},
        {"cluster"},
        {"figures", "generate", "goodput", "listing", "panel", "tensorboard", "verdict"},
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
