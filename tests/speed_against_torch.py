"""Seconds for one warm MNIST-sized epoch of the chapter's stacked net, in JAX and in PyTorch, in one run.

784-300-150-300-784, ELU, squared error + L2, Adam, batch 150, 55 000 rows. Rounds alternate between the two, so that a
noisy machine is noisy for both; the ratio of medians is what counts. PyTorch gets its rows as floats in memory and its
best Adam; eager and, where a C++ compiler is there, `torch.compile`. Not a test: nothing is asserted.

    pip install torch && python tests/speed_against_torch.py --out results/speed
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import torch  # pyright: ignore[reportMissingImports]

from aejax import nets, variants
from aejax.storage import provenance
from aejax.training.layout import Data
from aejax.training.loop import fit_program
from support import write_record

ROWS = 55_000
BATCH = 150
L2 = 0.001
RATE = 0.01
FLOP = 6 * ROWS * (2 * (784 * 300 + 300 * 150))  # 6 x weights per example


def jax_epoch(x_nd: np.ndarray) -> Callable[[], float]:
    """Runs one more epoch and returns its mean loss."""
    autoencoder = variants.plain(nets.mlp(784, (300, 150), coding_activation=jax.nn.elu))
    run = fit_program(autoencoder, rows=ROWS, batch_size=BATCH, epochs=1000, unit=255.0)
    data = Data(jnp.asarray(x_nd), jnp.asarray(x_nd[:1]))
    key = jax.random.key(0)
    hyper = {"learning_rate": RATE, "l2": L2}
    advance = jax.jit(run.advance, donate_argnums=0)
    state = jax.jit(run.init)(key, hyper)
    done = 0

    def epoch() -> float:
        nonlocal state, done
        done += run.steps_per_epoch
        state = advance(state, key, data, hyper, jnp.int32(done))
        return float(state.history["train_loss"][done // run.steps_per_epoch - 1])

    return epoch


def torch_epoch(x_nd: np.ndarray, compiled: bool) -> Callable[[], float]:
    """The same in PyTorch's usual loop, on a GPU where it sees one, the rows and their order there as well."""
    torch.manual_seed(0)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    widths = (784, 300, 150, 300, 784)
    layers: list[torch.nn.Module] = []
    for inputs, outputs in itertools.pairwise(widths):
        layers += [torch.nn.Linear(inputs, outputs), torch.nn.ELU()]
    net = torch.nn.Sequential(*layers[:-1]).to(device)
    kernels = [layer.weight for layer in layers if isinstance(layer, torch.nn.Linear)]
    x = torch.from_numpy(x_nd.astype(np.float32) / 255).to(device)
    adam = torch.optim.Adam(net.parameters(), lr=RATE, fused=True)

    def loss_of(x_b: torch.Tensor) -> torch.Tensor:
        penalty = sum((kernel.square().sum() for kernel in kernels), torch.zeros((), device=device))
        return torch.nn.functional.mse_loss(net(x_b), x_b) + 0.5 * L2 * penalty

    compute = torch.compile(loss_of) if compiled else loss_of

    def epoch() -> float:
        total = torch.zeros((), device=device)
        order = torch.randperm(ROWS, device=device)
        for start in range(0, ROWS, BATCH):
            adam.zero_grad()
            loss = compute(x[order[start : start + BATCH]])
            loss.backward()
            adam.step()
            total += loss.detach()
        return float(total) / -(-ROWS // BATCH)

    return epoch


def main() -> None:
    """Time all of them and print, or write, the medians and ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--compile", action="store_true", help="time torch.compile too")
    parser.add_argument("--out", type=Path, help="folder for speed.json")
    options = parser.parse_args()
    x_nd = np.random.default_rng(0).integers(0, 256, (ROWS, 784)).astype(np.uint8)
    contestants = {"aejax": jax_epoch(x_nd), "torch eager": torch_epoch(x_nd, compiled=False)}
    if options.compile:
        contestants["torch.compile"] = torch_epoch(x_nd, compiled=True)
    for epoch in contestants.values():
        epoch()  # compiles, fills caches
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(options.rounds):
        for name, epoch in contestants.items():
            start = time.perf_counter()
            epoch()
            seconds[name].append(time.perf_counter() - start)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    record = {
        "what": "seconds for one warm epoch: 784-300-150-300-784, batch 150, 55000 rows; medians of alternating rounds",
        "rounds": options.rounds,
        "seconds": {name: round(value, 3) for name, value in medians.items()},
        "gflop_per_second": {name: round(FLOP / value / 1e9) for name, value in medians.items()},
        "times_as_fast_as": {
            name: round(value / medians["aejax"], 2) for name, value in medians.items() if name != "aejax"
        },
        "torch": torch.__version__,
        "provenance": provenance.describe("default", ""),
    }
    write_record(record, options.out, "speed")


if __name__ == "__main__":
    main()
