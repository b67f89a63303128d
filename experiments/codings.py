"""How does the error of a linear autoencoder fall with its number of codings, and is that PCA's curve?

MNIST with 16 numbers of codings from 1 to 64, each trained inside one 64-coding net with the others masked: the whole
curve, at three learning rates, is one population in one compiled program.

    aejax run experiments/codings.py --data-dir DIR

Takes about 3 minutes on 2 cores. Expect every number of codings, at the learning rate that validation chooses, within
1 % of exact PCA's error.
"""

from aejax import Sweep
from aejax.training import schedules

SWEEPS = [
    Sweep(
        dataset="mnist",
        widths=(64,),
        schedule=schedules.warmup_cosine,
        epochs=12,
        batch_size=200,
        hyper={
            "learning_rate": (0.01, 0.02, 0.04),
            "l2": 0.0,
            "codings": (1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 24, 32, 40, 50, 64),
        },
    )
]
