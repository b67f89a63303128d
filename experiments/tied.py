"""Does the chapter's autoencoder with tied weights beat PCA on MNIST, and if not, which settings do?

The decoder's kernels are the encoder's, transposed; biases are free. First the chapter's settings as written (those of
stacked.py), then the same with the L2 of its published notebook, 0.0005, then settings that beat PCA at the same
codings: no penalty, ReLU, a sigmoid output, a learning rate that rises and falls, 15 epochs. Three seeds each.

    aejax run experiments/tied.py --data-dir DIR

Takes about 4 minutes on 2 cores. Expect: With the chapter's settings it loses: SSE 17.8, PCA-150 2.684 (3 seeds). Its
150 codings are worth 21.2 components. With the L2 of the chapter's notebook, 0.0005, it loses as well: SSE 12.3, worth
35.0 components (3 seeds). With other settings, and half the kernels of an untied net, it wins: SSE 1.46 at 150 codings,
1.32 to 1.71 over the seeds (PCA-150 2.684), and 4.805 at 30 codings (PCA-30 13.87; 3 seeds each). The winning settings
train for 15 epochs, the chapter's for 5: 22 s and 7 s a run (3 seeds).
"""

import dataclasses

import jax

from aejax import Sweep, schedules

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
