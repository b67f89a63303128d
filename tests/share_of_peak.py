"""What share of a machine's measured matrix-product peak one large training run reaches, at each precision.

4096-4096-1024-4096-4096, squared error, Adam, batch 8192, random bytes; FLOP are 6 x weights per example less the input
gradient of the first layer. The peak is that of square products of 8192 in one compiled loop, measured at the same
precision in the same process. Not a test: nothing is asserted. On a processor, choose less:

    python tests/share_of_peak.py --width 512 --batch 512 --product 2048 --out results/speed
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from aejax import nets, variants
from aejax.storage import provenance
from aejax.training.layout import Data
from aejax.training.loop import fit_program
from support import write_record

PRECISIONS = {"float32": "highest", "tensorfloat32": "TF32_TF32_F32", "bfloat16": "BF16_BF16_F32"}
ON_PROCESSORS = ("float32",)
ROUNDS = 5
PRODUCTS = 10
STEPS = 10


def seconds(once: Callable[[], object]) -> float:
    """The least of several times, the first, which compiles, not counted."""
    jax.block_until_ready(once())
    times = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        jax.block_until_ready(once())
        times.append(time.perf_counter() - start)
    return min(times)


def product_flops(size: int) -> float:
    """FLOP per second of square matrix products, one after another."""
    left, right = (jax.random.normal(jax.random.key(seed), (size, size)) / size**0.5 for seed in (0, 1))
    many = jax.jit(lambda a, b: jax.lax.fori_loop(0, PRODUCTS, lambda _, x: x @ b, a))
    return 2 * size**3 * PRODUCTS / seconds(lambda: many(left, right))


def training_flops(width: int, batch: int) -> float:
    """FLOP per second of training steps, one after another in the loop that every run is trained in."""
    x_nd = np.random.default_rng(0).integers(0, 256, (batch * STEPS, width)).astype(np.uint8)
    autoencoder = variants.plain(nets.mlp(width, (width, width // 4)))
    run = fit_program(autoencoder, rows=len(x_nd), batch_size=batch, epochs=1, unit=255.0)
    data = Data(jnp.asarray(x_nd), jnp.asarray(x_nd[:1]))
    key = jax.random.key(0)
    hyper = {"learning_rate": jnp.float32(1e-4), "l2": jnp.float32(0)}
    state = jax.jit(run.init)(key, hyper)
    advance = jax.jit(run.advance)
    taken = seconds(lambda: advance(state, key, data, hyper, jnp.int32(STEPS)))
    weights = 2 * (width * width + width * (width // 4))
    first = width * width
    return (6 * weights - 2 * first) * batch * STEPS / taken


def main() -> None:
    """Measure and print, or write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--width", type=int, default=4096)
    parser.add_argument("--batch", type=int, default=8192)
    parser.add_argument("--product", type=int, default=8192)
    parser.add_argument("--out", type=Path, help="folder for share_of_peak.json")
    options = parser.parse_args()
    measured = {}
    for name, precision in PRECISIONS.items():
        if jax.default_backend() == "cpu" and name not in ON_PROCESSORS:
            continue
        with jax.default_matmul_precision(precision):
            peak = product_flops(options.product)
            ours = training_flops(options.width, options.batch)
        measured[name] = {
            "product": round(peak / 1e12, 2),
            "training": round(ours / 1e12, 2),
            "share": round(ours / peak, 3),
        }
    w = options.width
    record = {
        "what": f"TFLOP/s of training {w}-{w}-{w // 4}-{w}-{w} with Adam, batch {options.batch}, and of products "
        f"of {options.product} matrices at the same precision; shortest of {ROUNDS}",
        "precisions": measured,
        "provenance": provenance.describe("default", ""),
    }
    write_record(record, options.out, "share_of_peak")


if __name__ == "__main__":
    main()
