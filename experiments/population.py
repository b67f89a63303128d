"""Which learning rate does the chapter's stacked autoencoder want, and does any of them beat PCA?

784-300-150-300-784 on MNIST as the chapter trains it (ELU, He initialisation, L2 of its notebook, 5 epochs of batches
of 150) at eight learning rates, eight seeds each: one population of 64 members in one compiled program.

    aejax run experiments/population.py --data-dir DIR

Takes about 9 minutes on 2 cores. Expect: Every learning rate loses to PCA-150 (SSE 2.684): 0 of the 64 runs win.
Validation chooses 0.0005: SSE 7.333 ± 0.032 (8 seeds), worth 61.9 components with 150 codings. From 0.0005 to 0.005 the
SSE stays between 7.33 and 7.67. It is 7.72 at 0.0003, 8.17 at 0.01, and 17.6 ± 4.9 at 0.02 (8 seeds each). The 64
members took 522 s, of which 81 % were training steps, 9 % compiling and 1.5 % saving.
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
