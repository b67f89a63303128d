"""What do learned codings give on small images that principal components do not?

8x8 handwritten digits, embedded in scikit-learn: nothing is downloaded. Linear, stacked and tied autoencoders with 2,
4, 8 and 16 codings, three seeds each, beside PCA with as many components: three populations, one compiled program each.

    aejax run experiments/quickstart.py

Takes about 30 s on 2 cores. Expect the linear ones at PCA's error or up to 3 % above it, and the stacked and tied ones
at about half to two thirds of it: 2 learned codings are worth 5 principal components, 8 are worth 15.
"""

import jax

from aejax import Sweep
from aejax.training import schedules

COMMON = {"dataset": "digits", "batch_size": 74, "schedule": schedules.warmup_cosine, "seeds": (0, 1, 2)}
DEEP = {"widths": (128, 64, 16), "activation": jax.nn.relu, "output": jax.nn.sigmoid, "epochs": 100}
CODINGS = (2, 4, 8, 16)

SWEEPS = [
    Sweep(**COMMON, widths=(16,), epochs=400, hyper={"learning_rate": 0.01, "l2": 0.0, "codings": CODINGS}),
    Sweep(**COMMON, **DEEP, hyper={"learning_rate": 0.003, "l2": 0.0, "codings": CODINGS}),
    Sweep(**COMMON, **DEEP, tied=True, hyper={"learning_rate": 0.003, "l2": 0.0, "codings": CODINGS}),
]
