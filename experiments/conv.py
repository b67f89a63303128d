"""Do convolutions code digits better than dense layers, at as many codings, and does tying them by adjoints cost?

The 8x8 digits at 10 codings: 64-100-10 dense beside convolutions of 16 and 32 channels (3x3, stride 2: 8, 4, 2 pixels
across) with a dense layer to the codings, each untied and tied. The convolutional decoder's layers are the exact
adjoints of convolutions; tied, they use the encoder's very kernels. ELU, a sigmoid output, a learning rate that rises
and falls, as many epochs for all; three seeds each, two learning rates, of which validation chooses.

    aejax run experiments/conv.py

Takes about 2 minutes on 2 cores. Expect all to beat PCA-10 (SSE 1.272) by far, and the kind of net to matter little on
such small images: convolutional .66 and dense .67, within each other's range; tied convolutional .68, for half the
kernels; tied dense .73. PCA needs 17 components for the best.
"""

import dataclasses

import jax

from aejax import Sweep, nets, schedules

DENSE = Sweep(
    label="dense",
    dataset="digits",
    widths=(100, 10),
    activation=jax.nn.elu,
    output=jax.nn.sigmoid,
    schedule=schedules.warmup_cosine,
    epochs=60,
    batch_size=64,
    hyper={"learning_rate": (0.003, 0.01), "l2": 0.0},
    seeds=(0, 1, 2),
)
CONV = dataclasses.replace(DENSE, label="convolutional", net=nets.conv, widths=(16, 32, 10))
SWEEPS = [
    DENSE,
    dataclasses.replace(DENSE, label="tied dense", tied=True),
    CONV,
    dataclasses.replace(CONV, label="tied convolutional", tied=True),
]
