"""How far below PCA-30 does a deep autoencoder get on MNIST by plain Adam? (Hinton & Salakhutdinov 2006's shape)

784-1000-500-250-30 and its mirror, GELU, squared error on a sigmoid output, Adam with warm-up and cosine decay, batches
of 200; without a penalty for 45 epochs, and with a little L2 for 40. The epoch and the L2 are chosen on validation.
They published 3.00 (pretrained) beside PCA-30's 13.87.

    aejax run experiments/deep.py --data-dir DIR

Takes about 54 minutes on 2 cores. Expect: Far below: SSE 3.204 without a penalty, 2.833 with an L2 of 3e-07 and 2.771
with 7e-07, where PCA-30 has 13.87 (2 seeds each). Validation chooses 7e-07. Hinton and Salakhutdinov (2006) published
3.00 with pretraining. Both seeds are below it with 7e-07 (2.770 and 2.773; 2 seeds), and above it without a penalty. A
run trained for 282 s without a penalty, and for 460 to 770 s with one (2 seeds each).
"""

from dataclasses import replace

import jax

from aejax import Sweep, schedules

PLAIN = Sweep(
    label="deep",
    dataset="mnist",
    widths=(1000, 500, 250, 30),
    activation=jax.nn.gelu,
    output=jax.nn.sigmoid,
    schedule=schedules.warmup_cosine,
    epochs=45,
    batch_size=200,
    hyper={"learning_rate": 0.002, "l2": 0.0},
    seeds=(0, 1),
)
DECAYED = replace(PLAIN, label="deep, L2", epochs=40, hyper={"learning_rate": 0.002, "l2": (3e-7, 7e-7)})

SWEEPS = [PLAIN, DECAYED]
