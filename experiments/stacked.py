"""Does the chapter's stacked autoencoder beat PCA on MNIST, and if not, which settings do?

aejax run experiments/stacked.py --data-dir DIR
"""

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
SWEEPS = [CHAPTER, *BETTER]
