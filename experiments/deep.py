"""How far below PCA-30 does a deep autoencoder get on MNIST by plain Adam? (Hinton & Salakhutdinov 2006's shape)

784-1000-500-250-30 and its mirror, GELU, squared error on a sigmoid output, Adam with warm-up and cosine decay, 45
epochs of batches of 200; the epoch is chosen on validation. They published 3.00 (pretrained) beside PCA-30's 13.87.

    aejax run experiments/deep.py --data-dir DIR

Takes about 9 minutes on 2 cores. Expect SSE 3.2 on test: below 3.3, not yet below 3.00.
"""

import jax

from aejax import Sweep, schedules

SWEEPS = [
    Sweep(
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
]
