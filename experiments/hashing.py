"""Do learned bits find digits of the same class better than hashed principal components do?

The 8x8 digits in 16 bits: 64-128-64-16, trained with noise before the sigmoid (semantic hashing, Salakhutdinov & Hinton
2009), none or more of it, beside the same net with 16 real codings. All training images are ranked for every test
image; the rows hold mean average precision and precision at 100 beside the signs of 16 components, ITQ, and the
distances of 16 components and of pixels. Three seeds each.

    aejax run experiments/hashing.py

Then MNIST in 32 bits, 784-500-250-32, ten epochs, two seeds.

Takes about 4 minutes on 2 cores. Expect bits trained with noise 4 to find far better than the signs of components (mean
average precision .60 against .35) and than bits trained without noise (.53), but not as well as ITQ (.64), or as
distances without bits (.64 of real codings, .68 of pixels, .69 of components); noise takes their SSE from 2.4 to 1.4,
which is worth 9 real components. On MNIST the same order: bits .36 with noise, .34 without, signs .25; ITQ (.45),
components (.44), pixels (.43) and real codings (.42) stay ahead.
"""

import dataclasses

import jax

from aejax import Sweep, variants
from aejax.evaluation import scores
from aejax.training import schedules

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
