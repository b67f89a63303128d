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


ROOMS = (
    "runtime",
    "storage",
    "datasets",
    "nets",
    "variants",
    "training",
    "evaluation",
    "config",
    "reporting",
    "inference",
    "runner",
    "cli",
)
"""Folders of `aejax/`, the lowest first: each imports from itself and from those below it."""
OUTSIDE = {
    "flax": {"nets"},
    "matplotlib": {"reporting", "inference"},
    "rich": {"cli"},
    "safetensors": {"storage", "runner"},
    "tensorboardX": {"reporting"},
    "tensorflow_datasets": {"datasets"},
    "PIL": {"datasets", "reporting", "inference"},
    "ray": {"runner"},
    "argparse": {"cli"},
    "optax": {"variants", "training", "evaluation"},
}
"""Which rooms may import a library: a change to another library changes these rooms alone."""


def place(path):
    return str(path.relative_to(CHECKOUT))


def room_of(path):
    """The room a source file is in; None for the files at the top of the package."""
    parts = path.relative_to(CHECKOUT / "aejax").parts
    return parts[0] if len(parts) > 1 else None


def module_of(path):
    parts = path.relative_to(CHECKOUT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(path): path for path in SOURCES}


def imports(tree, *, while_loading=False):
    """(line, module) of every import, of names too where they are modules; or only of those that loading runs."""
    nodes = ast.walk(tree)
    if while_loading:
        nodes = (node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom))
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from ((node.lineno, name if name in MODULES else node.module) for name in names)


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


RUN_CODE = {"pickle", "cPickle", "_pickle", "joblib", "dill", "cloudpickle", "shelve", "marshal", "yaml", "runpy"}
RUN_CODE |= {"builtins", "code", "codeop", "multiprocessing"}
UNHARMED = {"multiprocessing.connection.Connection", "multiprocessing.connection.wait"}  # bytes, without send and recv


def runs_code(tree, name=""):
    """What in a source file could run what it reads, in words. `multiprocessing` pickles whatever it carries."""
    calls = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            calls += [f"{node.module}.{alias.name}" for alias in node.names if node.module.split(".")[0] in RUN_CODE]
        elif isinstance(node, ast.Import):
            calls += [alias.name for alias in node.names if alias.name.split(".")[0] in RUN_CODE]
        elif isinstance(node, ast.Name | ast.Attribute):
            called = node.id if isinstance(node, ast.Name) else node.attr
            plain = isinstance(node, ast.Name) or ast.unparse(node.value) in ("builtins", "__builtins__")
            calls += [called] if called in ("eval", "exec", "__import__", "__builtins__") else []
            calls += ["compile"] if called == "compile" and plain else []
        elif isinstance(node, ast.keyword) and node.arg == "allow_pickle":
            calls += [] if isinstance(node.value, ast.Constant) and node.value.value is False else ["allow_pickle"]
        elif isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            if called in ("np.load", "numpy.load") and "allow_pickle" not in [word.arg for word in node.keywords]:
                calls.append(called)
            if called.endswith((".send", ".recv")):
                calls.append(called)
            if (
                called.endswith("exec_module") and name != "experiment_file.py"
            ):  # experiment files are Python, and trusted
                calls.append(called)
    return [one for one in calls if one not in UNHARMED]


def test_loading_runs_no_code():
    calls = [f"{place(path)}: {what}" for path, tree in TREES.items() for what in runs_code(tree, path.name)]
    assert calls == []


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


def test_json_that_is_written_is_strict():
    lenient = []
    for path, tree in TREES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("json.dumps", "json.dump"):
                given = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
                if given.get("allow_nan") != "False":
                    lenient.append(f"{place(path)}:{node.lineno}")
    assert lenient == []


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


def test_a_room_imports_only_from_itself_and_from_rooms_below():
    assert {room_of(path) for path in SOURCES} - {None} == set(ROOMS)
    upwards = []
    for path, tree in TREES.items():
        room = room_of(path)
        for line, name in imports(tree) if room is not None else ():
            parts = name.split(".")
            if parts[0] == "aejax" and len(parts) > 1 and ROOMS.index(parts[1]) > ROOMS.index(room):
                upwards.append(f"{place(path)}:{line} imports {name}")
    assert upwards == []


def test_experiments_import_only_public_names():
    private = []
    for path in sorted((CHECKOUT / "experiments").glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("aejax."):
                private.append(f"{place(path)}:{node.lineno} imports from {node.module}")
    assert private == []


def test_a_library_is_imported_only_where_it_belongs():
    strays = []
    for path, tree in TREES.items():
        for line, name in imports(tree):
            library = name.split(".")[0]
            if library in OUTSIDE and room_of(path) not in OUTSIDE[library]:
                strays.append(f"{place(path)}:{line} imports {name}")
    assert strays == []


def test_no_file_imports_itself_by_way_of_others():
    """In the order in which files can be loaded one after another: those left over go round in circles."""
    left = {
        name: {used for _, used in imports(TREES[path], while_loading=True) if used in MODULES} - {name}
        for name, path in MODULES.items()
    }
    while free := [name for name, used in left.items() if not used & set(left)]:
        for name in free:
            del left[name]
    assert left == {}


def test_no_test_module_imports_another():
    """What tests share is in modules of its own: a test module that is imported runs its module-wide set-up twice."""
    tests = sorted((CHECKOUT / "tests").glob("*.py"))
    found = [
        f"{place(path)}:{line} imports {name}"
        for path in tests
        for line, name in imports(ast.parse(path.read_text()))
        if name.split(".")[0].startswith(("test_", "conftest"))
    ]
    assert found == []
