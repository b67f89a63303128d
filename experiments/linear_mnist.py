"""Does a linear autoencoder reach PCA-30 on MNIST by gradient descent alone?

784 inputs, 30 codings, no activation, Adam with warm-up and cosine decay; three seeds.

    aejax run experiments/linear_mnist.py --data-dir DIR

Takes about 40 s on 2 cores. Expect: Nearly. The SSE on test is 13.8665, PCA-30's is 13.8663; 0 of 3 seeds are below
PCA. The error is PCA's before the subspace is: the largest principal angle is still 4.6 degrees in the worst of 3
seeds.
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
