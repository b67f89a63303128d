"""Does a linear autoencoder reach PCA-30 on MNIST by gradient descent alone?

aejax run experiments/linear_mnist.py --data-dir DIR
"""

from aejax import Sweep, schedules

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
