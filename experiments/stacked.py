"""Does the chapter's stacked autoencoder beat PCA on MNIST, and if not, which settings do?

First the chapter's settings as written: 784-300-150-300-784, ELU, He initialisation, L2 0.001, Adam at 0.01, 5 epochs
of batches of 150; the same with the L2 of its published notebook, 0.0001; then settings that beat PCA at the same
codings: no penalty, GELU, a sigmoid output, a learning rate that rises and falls, 15 epochs. Three seeds each. Unlike
the chapter's loop, an epoch visits every row, and the epoch kept is the best on validation rather than the last.

    aejax run experiments/stacked.py --data-dir DIR

Takes about 4 minutes on 2 cores. Expect: With the chapter's settings it loses: SSE 25.3, PCA-150 2.684 (3 seeds). Its
150 codings are worth 11.2 components. With the L2 of the chapter's notebook, 0.0001, it loses as well: SSE 7.95, MSE
per pixel 0.0101, worth 57.2 components (3 seeds). With other settings it wins: SSE 1.555 at 150 codings (PCA-150
2.684), and 4.864 at 30 codings (PCA-30 13.87; 3 seeds each). The winning settings train for 15 epochs, the chapter's
for 5: 20 s and 9 s a run (3 seeds).
"""

import dataclasses

import jax

from aejax import Sweep, schedules

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
