"""Trains an experiment on a Ray cluster of a head and two nodes, one of which is killed while it works.

Run by the tests: `python tests/ray_cluster.py EXPERIMENT RESULTS`. Prints what it saw as JSON.
"""

import contextlib
import json
import os
import signal
import sys
import threading
from pathlib import Path

os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_DISABLE_IMPORT_WARNING": "1"}
os.environ["RAY_health_check_period_ms"] = "500"  # noqa: SIM112

import ray
from ray.cluster_utils import Cluster

from aejax.config import experiment_file
from aejax.runner import remote, run_experiment
from aejax.runner.events import RunListener

NODE = {"object_store_memory": 80 * 2**20, "include_dashboard": False}


def tasks(node):
    """The processes that train on this node at this moment: Ray names them after the task's function."""
    processes = []
    raylet = node.all_processes["raylet"][0].process.pid
    for status in Path("/proc").glob("[0-9]*/status"):
        with contextlib.suppress(OSError):  # it ended meanwhile
            title = (status.parent / "cmdline").read_bytes().strip(b" \0")
            if title == b"ray::run" and f"PPid:\t{raylet}\n" in status.read_text():
                processes.append(int(status.parent.name))
    return processes


class Seen(RunListener):
    """Stops the first task that it sees, and kills its node when another task has ended a run."""

    def __init__(self, nodes, kill):
        self.warned = []
        self.ids = []
        self.nodes = nodes
        self.kill = kill
        self.stopped = None
        self.killed = False

    def check_interrupt(self):
        if self.stopped is None:
            self.stop_a_task()
        elif self.ids and not self.killed:
            node, process = self.stopped
            self.killed = True
            self.kill(node)
            os.kill(process, signal.SIGKILL)  # stopped, it can't see that its node is gone

    def stop_a_task(self):
        for node in self.nodes:
            for process in tasks(node):
                os.kill(process, signal.SIGSTOP)  # it can't end any more
                if process in tasks(node):
                    self.stopped = (node, process)
                    return
                os.kill(process, signal.SIGCONT)

    def warn(self, text):
        self.warned.append(text)

    def done(self, row, stored):
        self.ids.append(row["run_id"])


def train(path, root, place, **options):
    """The outcome of an experiment, and whether a connection or a handler of signals was left behind."""
    before = signal.getsignal(signal.SIGTERM)  # the cluster of the test puts its own there with every node
    name, sweeps = experiment_file.load(path)
    outcome = run_experiment.execute(name, sweeps, root=root, on=place, source=remote.Source(path), **options)
    return outcome, ray.is_initialized() or signal.getsignal(signal.SIGTERM) is not before


def main():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    path = Path(sys.argv[1])
    root = Path(sys.argv[2])
    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, **NODE})
    try:
        pair = [nodes.add_node(num_cpus=1, **NODE) for _ in range(2)]
        seen = Seen(pair, lambda node: nodes.remove_node(node, allow_graceful=False))
        address = str(nodes.address)
        outcome, left = train(path, root, remote.Ray(address), listener=seen, save_seconds=0.2, how="map")
        nodes.add_node(num_cpus=1, num_gpus=1, **NODE)  # Ray takes its word for it
        on_gpu, left_again = train(path.with_name("gpu.py"), root, remote.Ray(address, gpus=1))
        outcome = {
            "on_gpu": [row["status"] for row in on_gpu.rows],
            "killed": seen.killed,
            "warned": seen.warned,
            "ids": seen.ids,
            "failed": outcome.failed,
            "left_running": left or left_again,
            "threads": threading.active_count(),
        }
    finally:
        ray.shutdown()
        nodes.shutdown()
    print(json.dumps(outcome, allow_nan=False))


if __name__ == "__main__":
    main()
