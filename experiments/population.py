"""Which learning rate does the chapter's stacked autoencoder want, and does any of them beat PCA?

784-300-150-300-784 on MNIST as the chapter trains it (ELU, He initialisation, L2 of its notebook, 5 epochs of batches
of 150) at eight learning rates, eight seeds each: one population of 64 members in one compiled program.

    aejax run experiments/population.py --data-dir DIR

Takes about 7 minutes on 2 cores. Expect every learning rate to lose to PCA-150 (SSE 2.684): about 7.3 at best, at
0.0005, much the same up to 0.005, and 18 at 0.02.
"""

import jax

from aejax import Sweep

SWEEPS = [
    Sweep(
        label="stacked",
        dataset="mnist",
        widths=(300, 150),
        activation=jax.nn.elu,
        coding_activation=jax.nn.elu,
        epochs=5,
        batch_size=150,
        hyper={"learning_rate": (0.0003, 0.0005, 0.001, 0.002, 0.003, 0.005, 0.01, 0.02), "l2": 0.0001},
        seeds=tuple(range(8)),
    )
]
