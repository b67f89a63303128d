"""How steady does a penalty on the Jacobian make codings, and what does it cost in error? (Rifai et al. 2011)

100 sigmoid codings of MNIST in one layer with tied weights, without the penalty and with four weights of it; and 16
codings of a net of two layers, whose Jacobian is exact too. Besides the error, beside PCA's: the norm of the Jacobian
on test rows, and how far Gaussian noise of standard deviation .25 moves the codings, measured by how far two images
are apart.

    aejax run experiments/contractive.py --data-dir DIR

Takes about 5 minutes on 2 cores. Expect of the 100 codings, without the penalty and with 0.0001 and 0.001 of it, a
Jacobian of 7.6, 6.3 and 3.4, a sensitivity of .079, .058 and .024 beside .065 of 100 components, and an SSE of 11.0,
11.6 and 16.6: steadiness is paid for in error, and 0.01 leaves nothing but the mean. PCA with no more error than ours
is steadier still (23 components, SSE 16.8: .020), so this is no win over it. Two layers fall from .049 to .017 while
their SSE goes from 22.7 to 23.5, above PCA-16's 21.1 after 4 epochs.
"""

import jax

from aejax import Sweep, variants
from aejax.evaluation import scores
from aejax.training import schedules

COMMON = {
    "dataset": "mnist",
    "variant": variants.contractive,
    "coding_activation": jax.nn.sigmoid,
    "output": jax.nn.sigmoid,
    "schedule": schedules.warmup_cosine,
    "batch_size": 200,
    "seeds": (0, 1, 2),
    "scores": (scores.contraction(0.25),),
}


def weights(rate, *contraction):
    """One learning rate, several weights of the penalty."""
    return {"learning_rate": rate, "contraction": contraction, "l2": 0.0}


ONE = COMMON | {"widths": (100,), "tied": True, "epochs": 10}
TWO = COMMON | {"widths": (128, 16), "activation": jax.nn.relu, "epochs": 4}
SWEEPS = [
    Sweep(**ONE, label="no penalty", hyper=weights(0.005, 0.0)),
    Sweep(**ONE, label="contractive", hyper=weights(0.005, 1e-4, 3e-4, 1e-3, 1e-2)),
    Sweep(**TWO, label="no penalty, two layers", hyper=weights(0.002, 0.0)),
    Sweep(**TWO, label="contractive, two layers", hyper=weights(0.002, 1e-4, 1e-3)),
]
