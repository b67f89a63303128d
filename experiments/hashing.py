"""Do learned bits find digits of the same class better than hashed principal components do?

The 8x8 digits in 16 bits: 64-128-64-16, trained with noise before the sigmoid (semantic hashing, Salakhutdinov & Hinton
2009), none or more of it, beside the same net with 16 real codings. All training images are ranked for every test
image; the rows hold mean average precision and precision at 100 beside the signs of 16 components, ITQ, and the
distances of 16 components and of pixels. Three seeds each.

    aejax run experiments/hashing.py

Then MNIST in 32 bits, 784-500-250-32, ten epochs, two seeds.

Takes about 4 minutes on 2 cores. Expect: Better than signs of components, worse than ITQ. On the small digits in 16
bits the mean average precision is 0.60 with noise 4 and 0.53 without, signs of components have 0.35, ITQ 0.64 (3
seeds). Distances without bits stay ahead there: 0.64 of real codings, 0.68 of pixels and 0.69 of 16 components (3
seeds). Noise takes the SSE of the bits from 2.4 to 1.4, worth 8.9 real components (3 seeds). On MNIST in 32 bits the
order is the same: 0.36 with noise, 0.34 without, signs 0.25, ITQ 0.45; components have 0.44, pixels 0.43 and real
codings 0.42 (2 seeds).
"""

import dataclasses

import jax

from aejax import Sweep, schedules, scores, variants

BITS = Sweep(
    label="bits",
    dataset="digits",
    variant=variants.hashing,
    widths=(128, 64, 16),
    activation=jax.nn.elu,
    output=jax.nn.sigmoid,
    schedule=schedules.warmup_cosine,
    epochs=60,
    batch_size=64,
    hyper={"learning_rate": 0.003, "noise": (0.0, 1.0, 4.0), "l2": 0.0},
    seeds=(0, 1, 2),
    scores=(scores.retrieval(),),
)
REALS = dataclasses.replace(
    BITS, label="real codings", variant=variants.plain, hyper={"learning_rate": 0.003, "l2": 0.0}
)
MNIST = {"dataset": "mnist", "widths": (500, 250, 32), "epochs": 10, "batch_size": 200, "seeds": (0, 1)}
SWEEPS = [BITS, REALS]
SWEEPS += [dataclasses.replace(BITS, **MNIST, hyper={"learning_rate": 0.002, "noise": (0.0, 4.0), "l2": 0.0})]
SWEEPS += [dataclasses.replace(REALS, **MNIST, hyper={"learning_rate": 0.002, "l2": 0.0})]
