"""How does the error of a linear autoencoder fall with its number of codings, and is that PCA's curve?

MNIST with 16 numbers of codings from 1 to 64, each trained inside one 64-coding net with the others masked: the whole
curve, at three learning rates, is one population in one compiled program.

    aejax run experiments/codings.py --data-dir DIR

Takes about 4 minutes on 2 cores. Expect: Yes. At each of 16 numbers of codings from 1 to 64, the learning rate that
validation chooses has an SSE within 0.13 % of PCA's (1 seed). No single rate does: the worst SSE is 4.0 % above PCA's
at the rate 0.01, 5.5 % at 0.02 and 31 % at 0.04 (1 seed).
"""

from aejax import Sweep, schedules

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
