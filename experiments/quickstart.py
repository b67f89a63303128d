"""What do learned codings give on small images that principal components do not?

8x8 handwritten digits, embedded in scikit-learn: nothing is downloaded. Linear, stacked and tied autoencoders with 2,
4, 8 and 16 codings, three seeds each, beside PCA with as many components: three populations, one compiled program each.

    aejax run experiments/quickstart.py

Takes about 30 s on 2 cores. Expect: The linear nets do not beat PCA. Their SSE is 1.009, 1.014, 1.017 and 1.021 times
PCA's at 2, 4, 8 and 16 codings; 1 of 3 seeds wins at 2 codings, and 0 of 3 seeds at more. The stacked nets win with 3
of 3 seeds at every number of codings. Their SSE is 0.654, 0.553, 0.527 and 0.639 times PCA's. The tied stacked nets win
with 3 of 3 seeds at every number of codings. Their SSE is 0.629, 0.554, 0.530 and 0.622 times PCA's. With a stacked
net, 2 codings are worth 4.8 principal components, 4 are worth 9.4, 8 are worth 14.8 and 16 are worth 21.4 (3 seeds).
"""

import jax

from aejax import Sweep, schedules

COMMON = {"dataset": "digits", "batch_size": 74, "schedule": schedules.warmup_cosine, "seeds": (0, 1, 2)}
DEEP = {"widths": (128, 64, 16), "activation": jax.nn.relu, "output": jax.nn.sigmoid, "epochs": 100}
CODINGS = (2, 4, 8, 16)

SWEEPS = [
    Sweep(**COMMON, widths=(16,), epochs=400, hyper={"learning_rate": 0.01, "l2": 0.0, "codings": CODINGS}),
    Sweep(**COMMON, **DEEP, hyper={"learning_rate": 0.003, "l2": 0.0, "codings": CODINGS}),
    Sweep(**COMMON, **DEEP, tied=True, hyper={"learning_rate": 0.003, "l2": 0.0, "codings": CODINGS}),
]
