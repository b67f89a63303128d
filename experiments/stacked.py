"""Does the chapter's stacked autoencoder beat PCA on MNIST, and if not, which settings do?

First the chapter's settings as written: 784-300-150-300-784, ELU, He initialisation, L2 0.001, Adam at 0.01, 5 epochs
of batches of 150; the same with the L2 of its published notebook, 0.0001; then settings that beat PCA at the same
codings: no penalty, GELU, a sigmoid output, a learning rate that rises and falls, 15 epochs. Three seeds each. Unlike
the chapter's loop, an epoch visits every row, and the epoch kept is the best on validation rather than the last.

    aejax run experiments/stacked.py --data-dir DIR

Takes about 4 minutes on 2 cores. Expect the chapter's settings to lose badly (SSE about 25 against PCA-150's 2.684,
worth 11 components), its notebook's to lose (about 8, a per-pixel MSE of .010, worth 57), and the others to win at 150
codings (about 1.6) and at 30 (4.9 against 13.87).
"""

import dataclasses

import jax

from aejax import Sweep
from aejax.training import schedules

CHAPTER = Sweep(
    label="stacked, as in the chapter",
    dataset="mnist",
    widths=(300, 150),
    activation=jax.nn.elu,
    coding_activation=jax.nn.elu,
    epochs=5,
    batch_size=150,
    hyper={"learning_rate": 0.01, "l2": 0.001},
    seeds=(0, 1, 2),
)
BETTER = [
    Sweep(
        label="stacked",
        dataset="mnist",
        widths=(300, codings),
        activation=jax.nn.gelu,
        output=jax.nn.sigmoid,
        schedule=schedules.warmup_cosine,
        epochs=15,
        batch_size=150,
        hyper={"learning_rate": 0.002, "l2": 0.0},
        seeds=(0, 1, 2),
    )
    for codings in (30, 150)
]
NOTEBOOK = dataclasses.replace(
    CHAPTER, label="stacked, as in its notebook", hyper={"learning_rate": 0.01, "l2": 0.0001}
)
SWEEPS = [CHAPTER, NOTEBOOK, *BETTER]
