"""Samples per second of a population of the chapter's stacked net, against its members one by one, in one run.

784-300-150-300-784, ELU, squared error + L2, Adam, batch 150, 55 000 MNIST-sized rows, eight learning rates, an epoch
each. Contestants: a population mapped and vmapped, of which the faster counts, its members one after another, and with
`--torch` PyTorch's eager loop and `torch.compile`, which train the same net once. Rounds alternate, everything is
compiled before; the ratio of medians is what counts. What trains members one after another has the same rate for
however many: `--alone` says how many of them it trains here. Not a test: nothing is asserted.

    pip install torch && python tests/speed_of_populations.py --torch --out results/speed
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np

from aejax import nets, variants
from aejax.datasets.base import Dataset, Scaling
from aejax.runtime import hardware
from aejax.storage import provenance
from aejax.training import loop, population
from aejax.training.layout import Layout, Runs, make_layout, place_data
from support import write_record

ROWS = 55_000
BATCH = 150
MEMBERS = 8
NAMES = ("learning_rate", "l2")


def data() -> Dataset:
    """Random bytes of MNIST's size: the arithmetic is the same."""
    x_nd = np.random.default_rng(0).integers(0, 256, (ROWS + BATCH, 784)).astype(np.uint8)
    scaling = Scaling(np.zeros(1), np.full(1, 255.0))
    empty = dict.fromkeys(("y_train", "y_validation", "y_test"))
    x = {"x_train": x_nd[:ROWS], "x_validation": x_nd[ROWS:], "x_test": x_nd[ROWS:]}
    return Dataset(name="bytes", **x, **empty, image_shape=None, scaling=scaling, unit=255.0, fingerprint="")


def contestant(what: loop.ProgramSpec, dataset: Dataset, runs: Runs, layout: Layout) -> Callable:
    """Trains all runs in a layout, one block after another, and returns nothing: what it takes is what counts."""
    placed = place_data(dataset, layout)

    def once() -> None:
        for first in range(0, len(runs), layout.block):
            loop.train_block(population.compile_population(what, layout), placed, runs[first : first + layout.block])

    return once


def main() -> None:
    """Time all of them and print, or write, samples per second and ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--members", type=int, default=MEMBERS)
    parser.add_argument("--alone", type=int, help="members trained one after another; all unless said")
    parser.add_argument("--name", default="populations", help="of the file in the folder")
    parser.add_argument("--torch", action="store_true", help="time PyTorch too")
    parser.add_argument("--out", type=Path, help="folder for the record")
    options = parser.parse_args()
    hardware.use_one_device_per_core()
    dataset = data()
    autoencoder = variants.plain(nets.mlp(784, (300, 150), coding_activation=jax.nn.elu))
    runs = [(seed, {"learning_rate": 0.001 * 1.2**seed, "l2": 0.001}) for seed in range(options.members)]
    what = population.program_spec(autoencoder, dataset, NAMES, epochs=1, batch_size=BATCH)
    layouts = {"fit, one after another": make_layout("loop", 1)}
    alone = options.alone or options.members
    if jax.device_count() > 1:  # on one device that is one after another
        layouts["population, map"] = make_layout("map", options.members)
    layouts["population, vmap"] = make_layout("vmap", options.members)
    compile_seconds = {name: population.compile_population(what, layout).seconds for name, layout in layouts.items()}
    for members in () if options.alone else (2 * options.members, 8 * options.members):
        layout = make_layout("map", members)
        compile_seconds[f"population, map, {members} members"] = population.compile_population(what, layout).seconds
    taken = {
        name: runs if layout.devices > 1 or layout.how == "vmap" else runs[:alone] for name, layout in layouts.items()
    }
    contestants = {name: contestant(what, dataset, taken[name], layout) for name, layout in layouts.items()}
    samples = {name: ROWS * len(some) for name, some in taken.items()}
    torch_version = None
    if options.torch:
        import torch  # pyright: ignore[reportMissingImports]

        from speed_against_torch import torch_epoch

        torch_version = torch.__version__

        contestants["torch eager"] = torch_epoch(dataset.x_train, compiled=False)
        contestants["torch.compile"] = torch_epoch(dataset.x_train, compiled=True)
        samples |= {"torch eager": ROWS, "torch.compile": ROWS}
    for once in contestants.values():
        once()
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(options.rounds):
        for name, once in contestants.items():
            start = time.perf_counter()
            once()
            seconds[name].append(time.perf_counter() - start)
    rates = {name: samples[name] / statistics.median(values) for name, values in seconds.items()}
    best = max((name for name in rates if name.startswith("population")), key=lambda name: rates[name])
    record = {
        "what": "samples per second while training 784-300-150-300-784, batch 150; medians of alternating rounds",
        "members": {name: len(some) for name, some in taken.items()},
        "rounds": options.rounds,
        "devices": {name: layout.devices for name, layout in layouts.items()},
        "samples_per_second": {name: round(rate) for name, rate in rates.items()},
        "fastest_population": best,
        "times_as_fast_as": {name: round(rates[best] / rate, 2) for name, rate in rates.items() if name != best},
        "compile_seconds": {name: round(value, 2) for name, value in compile_seconds.items()},
        "torch": torch_version,
        "provenance": provenance.describe("default", ""),
    }
    write_record(record, options.out, options.name)


if __name__ == "__main__":
    main()
