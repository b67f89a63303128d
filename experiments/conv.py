"""Do convolutions code digits better than dense layers, at as many codings, and does tying them by adjoints cost?

The 8x8 digits at 10 codings: 64-100-10 dense beside convolutions of 16 and 32 channels (3x3, stride 2: 8, 4, 2 pixels
across) with a dense layer to the codings, each untied and tied. The convolutional decoder's layers are the exact
adjoints of convolutions; tied, they use the encoder's very kernels. ELU, a sigmoid output, a learning rate that rises
and falls, as many epochs for all; three seeds each, two learning rates, of which validation chooses.

    aejax run experiments/conv.py

Then MNIST at 30 codings, one seed, one learning rate: 784-300-30 dense, and convolutions of 16 and 32 channels, four
epochs each; and the dense net for 80 epochs, which take less time than four epochs of the convolutional ones.

Takes about 8 minutes on 2 cores. Expect: On the small digits the kind of net matters little. At 10 codings the SSE is
0.66 convolutional, 0.67 dense, 0.68 tied convolutional and 0.73 tied dense, where PCA-10 has 1.27 (3 seeds each). The
convolutional net trains 11 times as long as the dense one there: 2.0 s and 0.18 s a run (3 seeds each). On MNIST at 30
codings, after 4 epochs, the SSE is 6.43 convolutional, 5.21 tied convolutional and 6.67 dense, where PCA-30 has 13.87
(1 seed each). That is not at equal cost: training took 151 s, 137 s and 7 s. The dense net after 80 epochs has 3.40 in
115 s (1 seed each): on a CPU, convolutions lose at equal time there.
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
MNIST = {"dataset": "mnist", "epochs": 4, "batch_size": 100, "seeds": (0,)}
MNIST["hyper"] = {"learning_rate": 0.002, "l2": 0.0}
DENSE_MNIST = dataclasses.replace(DENSE, **MNIST, widths=(300, 30))
CONV_MNIST = dataclasses.replace(CONV, **MNIST, widths=(16, 32, 30))
SWEEPS += [
    DENSE_MNIST,
    dataclasses.replace(DENSE_MNIST, label="dense, for as long", epochs=80),
    CONV_MNIST,
    dataclasses.replace(CONV_MNIST, label="tied convolutional", tied=True),
]
