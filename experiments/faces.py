"""Do thirty learned codings of a face beat thirty components on people never seen, and what do new faces look like?

The Olivetti faces at 32x32; 28 people are trained on, 4 choose the epoch, 8 are the test, and that for three splits of
the forty. Few faces are made to go round: each is mirrored and moved by up to two pixels in every direction, 50
pictures of each, and PCA is fitted on the same 14 000 pictures and the 40 of validation. One wide hidden layer and a
little L2. Then a variational autoencoder, whose Gaussian likelihood has the variance that is best (Rybkin et al. 2021),
with the KL weighted by 4, to keep its codings near the prior that faces are drawn from. Sixty new faces of each stand
in the summary beside the training faces nearest to them: from a mixture of ten Gaussians fitted to the training codings
of the first, and from the prior of the second.

    aejax run experiments/faces.py --data-dir DIR

First the same splits in turned and scaled 25x25 patches, as Hinton and Salakhutdinov (2006) cut them, test people too,
with three amounts of L2, of which validation people choose one. The net, too, was the best by validation of those tried
on the same splits.

Takes about 9 minutes on 2 cores. Expect: Yes, on each of three splits of the people. On turned and scaled patches the
SSE is 0.875, 0.913 and 0.908 of PCA-30's (1 seed a split). Hinton and Salakhutdinov (2006) published 0.933, with
pretraining and four layers. That is with an L2 of 4e-06, which validation chooses on each split. A quarter of it gives
0.915 to 0.948, four times as much 0.974 to 1.019 (1 seed a split). On the whole faces the SSE is 0.912, 0.972 and 0.946
of PCA-30's (1 seed a split). The variational autoencoder, whose faces can be drawn from its prior, loses: 1.07 of
PCA-30's SSE (1 seed, one split).
"""

from typing import Any

import jax

from aejax import Sweep, schedules, scores, variants

SHAPE: dict[str, Any] = {
    "dataset": "olivetti_augmented",
    "widths": (2000, 30),
    "activation": jax.nn.gelu,
    "output": jax.nn.sigmoid,
    "schedule": schedules.warmup_cosine,
    "batch_size": 56,
    "epochs": 16,
}
PATCHES: dict[str, Any] = {**SHAPE, "dataset": "olivetti_patches", "widths": (1000, 30), "batch_size": 100, "epochs": 6}
SWEEPS = [
    *(
        Sweep(
            label="patches",
            hyper={"learning_rate": 0.002, "l2": (1e-6, 4e-6, 1.6e-5)},
            data_seed=people,
            **PATCHES,
        )
        for people in (0, 1, 2)
    ),
    *(
        Sweep(
            label="wide, mixture-sampled",
            hyper={"learning_rate": 0.003, "l2": 2e-6},
            data_seed=people,
            scores=(scores.density(kind="mixture", components=10),),
            **SHAPE,
        )
        for people in (0, 1, 2)
    ),
    Sweep(
        label="variational",
        variant=variants.variational,
        options={"variance": "optimal"},
        hyper={"learning_rate": 0.002, "beta": 4.0, "warmup": 0.0, "free_bits": 0.0, "l2": 0.1},
        **{**SHAPE, "widths": (512, 30), "epochs": 8},
    ),
]
