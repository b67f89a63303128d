"""How far a vmapped member ends from the fit alone: 32 members of the chapter's net on MNIST, trained both ways.

784-300-150-300-784, ELU, squared error + L2, Adam, batch 150, three epochs of 15 000 rows, eight seeds at four learning
rates. XLA sums a batched product in another order, so that bits differ from the first steps on; Adam, which divides by
what may be nearly zero, makes more of some of it. Not a test: nothing is asserted here.

    python tests/vmap_difference.py --data-dir DIR --out results/speed
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import Any

import jax
import numpy as np

from aejax import datasets, nets, variants
from aejax.runtime import hardware
from aejax.storage import provenance
from aejax.training import loop, train
from support import write_record

ROWS = 15_000
EPOCHS = 3
BATCH = 150
RUNS = [(seed, {"learning_rate": rate, "l2": 0.0001}) for rate in (0.0003, 0.001, 0.003, 0.005) for seed in range(8)]


def difference(alone: list[loop.Fit], together: list[loop.Fit]) -> dict[str, Any]:
    """What differs between fits of the same runs: bits, parameters relative to their size, validation errors."""
    relative = []
    equal = 0
    for one, other in zip(alone, together, strict=True):
        leaves = list(zip(*(jax.tree.leaves(fit.last_params) for fit in (one, other)), strict=True))
        equal += all(np.array_equal(a, b) for a, b in leaves)
        sizes = (np.maximum(np.maximum(abs(a), abs(b)), np.finfo(np.float32).tiny) for a, b in leaves)
        relative += [(abs(a - b) / size).ravel() for (a, b), size in zip(leaves, sizes, strict=True)]
    every = np.concatenate(relative)
    errors = np.array([[one.best_error, other.best_error] for one, other in zip(alone, together, strict=True)])
    paired = errors[:, 1] - errors[:, 0]
    return {
        "members": len(alone),
        "members_of_equal_bits": equal,
        "relative_difference_of_parameters": {
            "median": float(f"{np.median(every):.2g}"),
            "99 %": float(f"{np.quantile(every, 0.99):.2g}"),
            "largest": float(f"{every.max():.2g}"),
        },
        "mean_validation_error": dict(zip(("alone", "vmapped"), map(float, errors.mean(axis=0)), strict=True)),
        "paired_difference_of_errors": {"mean": float(paired.mean()), "deviation": float(paired.std(ddof=1))},
    }


def main() -> None:
    """Train both ways and print, or write, the difference."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, help="folder with the four MNIST files")
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--out", type=Path, help="folder for vmap_difference.json")
    options = parser.parse_args()
    hardware.use_one_device_per_core()
    whole = datasets.load("mnist", options.data_dir)
    data = dataclasses.replace(whole, x_train=whole.x_train[: options.rows])
    net = nets.mlp(784, (300, 150), activation=jax.nn.elu, coding_activation=jax.nn.elu)
    ways = [
        train.fit_population(variants.plain(net), data, RUNS, epochs=EPOCHS, batch_size=BATCH, how=how)
        for how in ("loop", "vmap")
    ]
    layout = ways[1].choice.layout
    record = {
        "what": "784-300-150-300-784 on MNIST, vmapped against fit alone",
        "rows": options.rows,
        "steps": EPOCHS * -(-options.rows // BATCH),
        "width": layout.width,
        "devices": layout.devices,
        **difference(ways[0].fits, ways[1].fits),
        "provenance": provenance.describe("default", whole.fingerprint),
    }
    write_record(record, options.out, "vmap_difference")


if __name__ == "__main__":
    main()
