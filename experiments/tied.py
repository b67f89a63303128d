"""Does the chapter's autoencoder with tied weights beat PCA on MNIST, and if not, which settings do?

The decoder's kernels are the encoder's, transposed; biases are free. First the chapter's settings as written (those of
stacked.py), then the same with the L2 of its published notebook, 0.0005, then settings that beat PCA at the same
codings: no penalty, ReLU, a sigmoid output, a learning rate that rises and falls, 15 epochs. Three seeds each.

    aejax run experiments/tied.py --data-dir DIR

Takes about 4 minutes on 2 cores. Expect the chapter's settings to lose (SSE about 18 against PCA-150's 2.684, worth 21
components), its notebook's too (about 12, worth 35), and the others to win at 150 codings (1.3 to 1.7) and at 30 (4.8
against 13.87), with half the kernels.
"""

import dataclasses

import jax

from aejax import Sweep
from aejax.training import schedules

CHAPTER = Sweep(
    label="tied, as in the chapter",
    dataset="mnist",
    tied=True,
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
        label="tied",
        dataset="mnist",
        tied=True,
        widths=(300, codings),
        activation=jax.nn.relu,
        output=jax.nn.sigmoid,
        schedule=schedules.warmup_cosine,
        epochs=15,
        batch_size=150,
        hyper={"learning_rate": 0.002, "l2": 0.0},
        seeds=(0, 1, 2),
    )
    for codings in (30, 150)
]
NOTEBOOK = dataclasses.replace(CHAPTER, label="tied, as in its notebook", hyper={"learning_rate": 0.01, "l2": 0.0005})
SWEEPS = [CHAPTER, NOTEBOOK, *BETTER]
