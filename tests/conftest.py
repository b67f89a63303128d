"""Where tests find data, a TFDS folder of their own, strict JAX, and one store of compiled programs for a whole run."""

import atexit
import contextlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from aejax import cli
from aejax.datasets import mnist
from aejax.reporting import images
from aejax.runtime import hardware
from aejax.runtime.errors import AejaxError
from aejax.training import population
from logged import Logged
from support import QUICK_OPTION, TINY, quickly_compiled
from unrendered import one_pixel

CHECKOUT = Path(__file__).resolve().parents[1]
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:  # the first process of a run: its workers, and theirs, inherit it
    os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp(prefix="aejax-tests-")
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    atexit.register(shutil.rmtree, os.environ["JAX_COMPILATION_CACHE_DIR"], ignore_errors=True)
if any(importlib.util.find_spec(f"jax_cuda{version}_plugin") for version in (12, 13)):
    # on GPUs JAX multiplies float32 matrices in TF32 unless told otherwise; tests compare with float64
    os.environ.setdefault("JAX_DEFAULT_MATMUL_PRECISION", "highest")
DEFAULT_TIER = "not slow"
QUICK_XLA = f"--{QUICK_OPTION}=false"
_RENDER = images.render
_TFDS_DATA_DIR = os.environ.get("TFDS_DATA_DIR")


def pytest_configure(config: pytest.Config) -> None:
    """Compile every program quickly in the default tier, in processes that tests start, too.

    Where tests are chosen with another `-m`, `compiled_programs` decides for each module.
    """
    if config.option.markexpr != DEFAULT_TIER:
        return
    os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"  # for processes that tests start
    jax.config.update("jax_disable_most_optimizations", True)
    flags = os.environ.get("XLA_FLAGS", "")
    if QUICK_XLA not in flags and _xla_knows(QUICK_XLA):  # the workers of a run inherit it
        os.environ["XLA_FLAGS"] = f"{flags} {QUICK_XLA}".strip()


def _xla_knows(flag: str) -> bool:
    """Whether XLA takes this flag: it ends a process that is given an unknown one."""
    code = "import jax; jax.devices()"
    environment = {**os.environ, "XLA_FLAGS": flag, "JAX_PLATFORMS": "cpu"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, check=False)
    return done.returncode == 0


@pytest.fixture(scope="session", autouse=True)
def strict_jax() -> None:
    jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture(scope="session", autouse=True)
def unrendered() -> Iterator[None]:
    """Figures are built, but not rendered, unless a test asks for `rendered`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(images, "render", one_pixel)
        yield


@pytest.fixture
def rendered(monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests that look at figures."""
    monkeypatch.setattr(images, "render", _RENDER)


@pytest.fixture(scope="module", autouse=True)
def compiled_programs(request: pytest.FixtureRequest) -> Iterator[None]:
    """Programs are compiled quickly, unless the module is marked as `optimised`, and forgotten where there are many.

    A process that kept the programs of all tests would run out of memory mappings, and be aborted.
    """
    as_users = request.node.get_closest_marker("optimised") is not None
    all_quick = jax.config.read("jax_disable_most_optimizations")
    with contextlib.nullcontext() if as_users or all_quick else quickly_compiled():
        yield
    if hardware.memory_map_usage() > 0.2:
        population.clear_compiled_programs()


@pytest.fixture(autouse=True)
def end_what_was_started() -> Iterator[None]:
    """End the processes of a test that failed before they did: they would take the cores from all later tests."""
    yield
    while Logged.started:
        with Logged.started.pop() as process:
            process.kill()
            process.log.unlink(missing_ok=True)


@pytest.fixture(scope="session", autouse=True)
def tfds_dir(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Nothing is ever prepared in the user's own folders."""
    folder = tmp_path_factory.mktemp("tensorflow_datasets")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TFDS_DATA_DIR", str(folder))
        yield folder


def _find(*relative: str) -> Path | None:
    """The first of these paths in the shared data folder beside or in the checkout, or the user's TFDS folders."""
    roots = [CHECKOUT.parent / "shared/data", CHECKOUT / "shared/data"]
    roots += [Path(root).expanduser() for root in (_TFDS_DATA_DIR, "~/tensorflow_datasets") if root]
    return next((root / path for root in roots for path in relative if (root / path).exists()), None)


@pytest.fixture(scope="session")
def mnist_dir() -> Path:
    """The folder with the four MNIST files."""
    name = "train-images-idx3-ubyte.gz"
    path = _find(f"mnist/{name}", name, f"downloads/manual/{name}")
    if path is None:
        pytest.skip("the four MNIST files are neither in shared/data/mnist nor in $TFDS_DATA_DIR/downloads/manual")
    return path.parent


@pytest.fixture(scope="session")
def olivetti_path() -> Path:
    path = _find("olivetti/olivetti_faces.npz", "olivetti_faces.npz")
    if path is None:
        pytest.skip("olivetti_faces.npz is neither in shared/data/olivetti nor in $TFDS_DATA_DIR")
    return path


@pytest.fixture
def refused() -> Callable[..., AejaxError]:
    """refused(kind, *parts, call=...): the call raises that error, one line long, with every part in it."""

    def check(kind: type[AejaxError], *parts: object, call: Callable[[], object]) -> AejaxError:
        with pytest.raises(kind) as caught:
            call()
        message = str(caught.value)
        assert "\n" not in message
        assert all(str(part) in message for part in parts), (message, parts)
        assert message == f"{caught.value.field}: {caught.value.problem}; {caught.value.fix}"
        return caught.value

    return check


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Nothing anywhere: TFDS_DATA_DIR, the home and the mirrors are empty; the folder that holds the first two."""
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "tfds"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr(mnist, "MIRRORS", ())
    return tmp_path


@pytest.fixture
def own_files(mnist_dir: Path, tmp_path: Path) -> Path:
    """A copy of the four files, in a folder that can be written."""
    folder = tmp_path / "mine"
    folder.mkdir()
    for name, _ in mnist.FILES.values():
        shutil.copyfile(mnist_dir / f"{name}.gz", folder / f"{name}.gz")
    return folder


@pytest.fixture
def save(tmp_path: Path) -> Callable[..., str]:
    """save(array) or save(x=..., y=...): the dataset name of a new .npy or .npz."""

    def write(array: Any = None, option: str = "", **arrays: Any) -> str:
        path = tmp_path / ("own.npz" if arrays else "own.npy")
        if arrays:
            np.savez_compressed(path, **arrays)
        else:
            np.save(path, np.asanyarray(array))
        return f"file:{path}{option}"

    return write


@pytest.fixture
def tiny(tmp_path):
    path = tmp_path / "tiny.py"
    path.write_text(TINY)
    return path


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """A finished tiny experiment: its results folder. A test that changes something copies it first."""
    folder = tmp_path_factory.mktemp("finished")
    (folder / "tiny.py").write_text(TINY)
    assert cli.main(["run", str(folder / "tiny.py"), "--results", str(folder / "results")]) == 0
    return folder / "results" / "tiny"
