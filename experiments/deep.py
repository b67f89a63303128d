"""How far below PCA-30 does a deep autoencoder get on MNIST by plain Adam? (Hinton & Salakhutdinov 2006's shape)

aejax run experiments/deep.py --data-dir DIR
"""

import jax

from aejax import Sweep, schedules

SWEEPS = [
    Sweep(
        label="deep",
        dataset="mnist",
        widths=(1000, 500, 250, 30),
        activation=jax.nn.gelu,
        output=jax.nn.sigmoid,
        schedule=schedules.warmup_cosine,
        epochs=45,
        batch_size=200,
        hyper={"learning_rate": 0.002, "l2": 0.0},
        seeds=(0,),
    )
]
