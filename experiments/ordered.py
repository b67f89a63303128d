"""Which linear autoencoders find the principal components themselves, in order, and not only their subspace?

MNIST less its mean image (so that no biases are needed), 784 inputs, 20 codings, full batches of rows condensed to the
mean and covariance of all 55 000: plain, tied, uniform L2, L2 that grows along the codings, nested dropout with all its
prefixes, and the rotation augmented gradient; and nested dropout with one drawn prefix a row, in batches for 20 epochs.
The axis distance is 0 where every component is one decoder column, the subspace distance where the columns span PCA's
subspace, both of the training rows' components (Bao et al. 2020, figure 2). What does not prefer any rotation of the
codings is trained with Nesterov's momentum, what does with Adam.

    aejax run experiments/ordered.py --data-dir DIR

Takes about 5 minutes on 2 cores. Expect: Two do. After 10000 steps the axis distance is at most 4.4e-12 with nested
dropout and 5.0e-09 with the rotation augmented gradient (3 seeds each). Nonuniform L2 does not get there: its axis
distance is 0.073 after 30000 steps (1 seed). Nested dropout with one drawn prefix a row, in batches, ends at 0.30 (1
seed). Plain, tied and uniform L2 stay at 0.74, 0.75 and 0.74 (3 seeds each): they find the subspace, not the axes. The
subspace distance is at most 4e-05 with plain, 3e-07 with the others in full batches (3 seeds each; nonuniform L2 1
seed), and 0.04 with drawn prefixes (1 seed).
"""

from typing import Any

from aejax import Sweep, optimisers, schedules, scores, variants

COMMON: dict[str, Any] = {
    "dataset": "mnist_centred",
    "widths": (20,),
    "epochs": 100,
    "batch_size": None,
    "moments": True,
    "full_batch_steps": 100,
    "keep": "last",
    "schedule": schedules.warmup_cosine,
    "options": {"bias": False, "initialiser": "glorot"},
    "scores": (scores.axes(),),
    "seeds": (0, 1, 2),
}
MOMENTUM = {**COMMON, "optimiser": optimisers.nesterov}
BATCHES: dict[str, Any] = {
    "moments": False,
    "batch_size": 250,
    "full_batch_steps": 1,
    "epochs": 20,
    "options": {**COMMON["options"], "prefixes": "sampled"},
    "seeds": (0,),
}
SWEEPS = [
    Sweep(**MOMENTUM, label="plain", hyper={"learning_rate": 4.0, "l2": 0.0}),
    Sweep(**MOMENTUM, label="tied", tied=True, hyper={"learning_rate": 4.0, "l2": 0.0}),
    Sweep(**MOMENTUM, label="uniform L2", hyper={"learning_rate": 4.0, "l2": 1e-4}),
    Sweep(
        **{**COMMON, "epochs": 300, "seeds": (0,)},
        label="nonuniform L2",
        variant=variants.nonuniform_l2,
        hyper={"learning_rate": 0.003, "l2": 0.0, "l2_spread": 7e-4},
    ),
    Sweep(
        **COMMON,
        label="nested dropout",
        variant=variants.nested_dropout,
        hyper={"learning_rate": 0.01, "continuation": 0.8, "l2": 0.0},
    ),
    Sweep(
        **{**COMMON, **BATCHES},
        label="nested dropout, sampled prefixes",
        variant=variants.nested_dropout,
        hyper={"learning_rate": 0.003, "continuation": 0.8, "l2": 0.0},
    ),
    Sweep(
        **MOMENTUM,
        label="rotation-augmented",
        variant=variants.rotation_augmented,
        hyper={"learning_rate": 4.0, "rotation": 12.0, "l2": 1e-4},
    ),
]
