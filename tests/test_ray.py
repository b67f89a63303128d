"""A real Ray cluster of two nodes, one of which is killed while it works, gives the rows of a single process."""

import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from processes import finish, start, stored

pytestmark = pytest.mark.slow

pytest.importorskip("ray", reason="Ray is not installed (it is in the extras ray and dev)")

TESTS = Path(__file__).resolve().parent
EXPERIMENT = """
from aejax import Sweep
def own(x):
    return abs(x) * 0.5
COMMON = {"dataset": "digits", "epochs": 2500, "batch_size": 128}
HYPER = {"learning_rate": (0.01, 0.003), "l2": 0.0}
SWEEPS = [
    *(Sweep(**COMMON, widths=(8, k), hyper=HYPER) for k in (2, 3, 4)),
    Sweep(**COMMON, widths=(8, 5), hyper=HYPER, activation=own),
]
"""
ON_GPU = """
import json, os, pathlib
from aejax import Sweep
variables = {name: os.environ.get(name) for name in ("CUDA_VISIBLE_DEVICES", "JAX_PLATFORMS", "NPROC")}
with open(pathlib.Path(__file__).with_name("gpu.jsonl"), "a") as file:
    file.write(json.dumps(variables) + "\\n")
def own(x):
    return abs(x) * 0.5
SWEEPS = [Sweep(dataset="digits", epochs=2, batch_size=128, widths=(8, 5), activation=own,
                hyper={"learning_rate": 0.01, "l2": 0.0})]
"""


@pytest.fixture(scope="module")
def cluster_run(tmp_path_factory):
    """What tests/ray_cluster.py prints, the rows it stored, and those of a single process."""
    folder = tmp_path_factory.mktemp("ray")
    # the layout is that of ray_cluster.py: a busy machine may choose another one by measurement, which has other bits
    here = start(EXPERIMENT, folder / "here", "--how", "map")  # beside the start of the cluster
    (folder / "here/gpu.py").write_text(ON_GPU)
    with tempfile.TemporaryDirectory(dir="/tmp") as short:  # the paths of Ray's sockets may not be long
        environment = {**os.environ, "RAY_TMPDIR": short, "NPROC": "1"}
        command = [sys.executable, str(TESTS / "ray_cluster.py"), str(folder / "here/x.py"), str(folder / "ray")]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        with subprocess.Popen(command, env=environment, cwd=TESTS, **pipes) as process:
            try:
                output, errors = process.communicate(timeout=600)
            finally:
                process.send_signal(signal.SIGTERM)  # it shuts its cluster down
        assert process.returncode == 0, errors
        finish(here)
    told = json.loads(output.splitlines()[-1])
    return told, stored(folder / "ray/x"), stored(folder / "here/x"), folder


def test_a_node_was_lost_while_it_worked(cluster_run):
    told, *_ = cluster_run
    assert told["killed"]
    assert any("node lost; " in text and "try 2 of 3" in text for text in told["warned"]), told["warned"]


def test_every_run_came_once_and_none_failed(cluster_run):
    told, rows, *_ = cluster_run
    assert len(told["ids"]) == len(set(told["ids"])) == len(rows) == 8
    assert told["failed"] == []


def test_the_rows_are_those_of_a_single_process(cluster_run):
    _, rows, here, _ = cluster_run
    assert rows == here


def test_rows_say_where_they_were_trained(cluster_run):
    folder = cluster_run[-1]
    for run in (folder / "ray/x/runs").glob("[!.]*"):
        provenance = json.loads((run / "run.json").read_text())["provenance"]
        assert (provenance["platform"], provenance["threads"], provenance["devices"]) == ("cpu", 1, 1)


def test_a_task_that_wants_a_gpu_gets_one_of_rays_and_its_choice_of_platform(cluster_run):
    """On a node that only says it has one: what Ray gives such a task, and what JAX is left to choose from."""
    told, *_, folder = cluster_run
    assert told["on_gpu"] == ["completed"]
    driver, *workers = [json.loads(line) for line in (folder / "here/gpu.jsonl").read_text().splitlines()]
    assert workers
    assert all(one == {"CUDA_VISIBLE_DEVICES": "0", "JAX_PLATFORMS": "", "NPROC": "1"} for one in workers), workers
    assert driver["CUDA_VISIBLE_DEVICES"] is None


def test_no_state_and_no_connection_is_left(cluster_run):
    told, *_, folder = cluster_run
    assert not told["left_running"]
    assert not any((folder / "ray/x/states").glob("*"))


def test_without_a_cluster_the_error_says_how_to_start_one(tmp_path):
    with tempfile.TemporaryDirectory(dir="/tmp") as short:
        environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
        command = [sys.executable, "-m", "aejax", "run", str(tmp_path / "x.py"), "--on", "ray"]
        (tmp_path / "x.py").write_text(EXPERIMENT)
        done = subprocess.run(
            [*command, "--results", str(tmp_path)],
            capture_output=True,
            text=True,
            env={**environment, "RAY_TMPDIR": short},
            check=False,
            timeout=120,
        )
    assert done.returncode == 5, done.stderr
    last = done.stderr.splitlines()[-1]
    assert last.startswith("aejax: error: --on ray: no cluster reached at auto")
    assert last.endswith("start one with `ray start --head`, or give --ray-address HOST:PORT")
    assert "Traceback" not in done.stderr
