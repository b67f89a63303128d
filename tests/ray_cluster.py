"""Trains an experiment on a Ray cluster of a head and two nodes, one of which is killed while it works.

Run by the tests: `python tests/ray_cluster.py EXPERIMENT RESULTS`. Prints what it saw as JSON.
"""

import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_DISABLE_IMPORT_WARNING": "1"}
os.environ["RAY_health_check_period_ms"] = "500"  # noqa: SIM112

import ray
from ray.cluster_utils import Cluster

from aejax import cluster, experiment, runner
from aejax.watcher import Watcher

NODE = {"object_store_memory": 80 * 2**20, "include_dashboard": False}


class Seen(Watcher):
    """Kills `victim` a moment after the first run has ended, which is while both nodes train the next ones."""

    def __init__(self, kill):
        self.warned, self.ids, self.kill, self.killed, self.after = [], [], kill, False, None

    def check(self):
        if self.after is not None and not self.killed and time.monotonic() > self.after:
            self.killed = True
            self.kill()

    def warn(self, text):
        self.warned.append(text)

    def done(self, row, stored):
        self.ids.append(row["run_id"])
        if self.after is None:
            self.after = time.monotonic() + 0.5


def main():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    path, root = Path(sys.argv[1]), Path(sys.argv[2])
    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, **NODE})
    try:
        first, _ = (nodes.add_node(num_cpus=1, **NODE) for _ in range(2))
        seen = Seen(lambda: nodes.remove_node(first, allow_graceful=False))
        before = signal.getsignal(signal.SIGTERM)
        name, sweeps = experiment.load(path)
        place, source = cluster.Ray(str(nodes.address)), cluster.Source(path)
        outcome = runner.execute(name, sweeps, root=root, watcher=seen, on=place, source=source, save_seconds=0.2)
        found = {
            "killed": seen.killed,
            "warned": seen.warned,
            "ids": seen.ids,
            "failed": outcome.failed,
            "left_running": ray.is_initialized() or signal.getsignal(signal.SIGTERM) is not before,
            "threads": threading.active_count(),
        }
    finally:
        ray.shutdown()
        nodes.shutdown()
    print(json.dumps(found, allow_nan=False))


if __name__ == "__main__":
    main()
