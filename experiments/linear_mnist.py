"""Does a linear autoencoder reach PCA-30 on MNIST by gradient descent alone?

784 inputs, 30 codings, no activation, Adam with warm-up and cosine decay; three seeds.

    aejax run experiments/linear_mnist.py --data-dir DIR

Takes about a minute on 2 cores. Expect SSE 13.867 on test beside PCA-30's 13.866.
"""

from aejax import Sweep
from aejax.training import schedules

SWEEPS = [
    Sweep(
        dataset="mnist",
        widths=(30,),
        epochs=40,
        batch_size=200,
        schedule=schedules.warmup_cosine,
        hyper={"learning_rate": 0.01, "l2": 0.0},
        seeds=(0, 1, 2),
    )
]
