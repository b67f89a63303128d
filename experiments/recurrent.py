"""Can a digit be coded by reading its rows one after another?

The 8x8 digits at 10 codings: 64 gated recurrent units (Cho et al. 2014) read 8 rows of 8 pixels, the last state is
coded, and as many units that start from the codings write 8 rows; beside a dense net, 64-64-10. Tanh, a sigmoid output,
a learning rate that rises and falls, as many epochs for both; three seeds each, two learning rates, of which validation
chooses.

    aejax run experiments/recurrent.py

Then MNIST at 30 codings: 128 units, 28 rows of 28 pixels, ten epochs, one seed and one learning rate.

Takes about 4 minutes on 2 cores. Expect: Yes, at a price. On the small digits at 10 codings the SSE is 0.65, that of a
dense net 0.82, PCA-10's 1.27 (3 seeds each). The recurrent net trains 24 times as long: 1.4 s and 0.06 s a run. On
MNIST at 30 codings the SSE is 4.42, that of a dense net 6.05, PCA-30's 13.87 (1 seed each). The recurrent net trains 24
times as long: 172 s and 7.2 s for as many epochs. On MNIST it is no win at equal time: in `conv.py` a wider dense net,
784-300-30, reaches 3.40 in 115 s (1 seed). On the small digits a wider dense net comes close there: 64-100-10 has 0.67
in 0.18 s (3 seeds).
"""

import dataclasses

import jax
import jax.numpy as jnp

from aejax import Sweep, nets, schedules

RECURRENT = Sweep(
    label="recurrent",
    dataset="digits",
    net=nets.recurrent,
    widths=(64, 10),
    activation=jnp.tanh,
    output=jax.nn.sigmoid,
    schedule=schedules.warmup_cosine,
    epochs=60,
    batch_size=64,
    hyper={"learning_rate": (0.003, 0.01), "l2": 0.0},
    seeds=(0, 1, 2),
)
MNIST = {"dataset": "mnist", "widths": (128, 30), "epochs": 10, "batch_size": 100, "seeds": (0,)}
MNIST["hyper"] = {"learning_rate": 0.005, "l2": 0.0}
RECURRENT_MNIST = dataclasses.replace(RECURRENT, **MNIST)
SWEEPS = [
    RECURRENT,
    dataclasses.replace(RECURRENT, label="dense", net=nets.mlp),
    RECURRENT_MNIST,
    dataclasses.replace(RECURRENT_MNIST, label="dense", net=nets.mlp),
]
