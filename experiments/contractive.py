"""How steady does a penalty on the Jacobian make codings, and what does it cost in error? (Rifai et al. 2011)

100 sigmoid codings of MNIST in one layer with tied weights, without the penalty and with four weights of it; and 16
codings of a net of two layers, whose Jacobian is exact too. Besides the error, beside PCA's: the norm of the Jacobian
on test rows, and how far Gaussian noise of standard deviation .25 moves the codings, measured by how far two images
are apart.

    aejax run experiments/contractive.py --data-dir DIR

Takes about 5 minutes on 2 cores. Expect: One layer, 100 codings: from no penalty over 0.0001 and 0.0003 to 0.001 the
Jacobian's norm falls from 7.6 over 6.3 and 5.0 to 3.4, the sensitivity from 0.079 over 0.058 and 0.041 to 0.024 (3
seeds). That costs error: the SSE rises from 11.0 over 11.6 and 13.1 to 16.6 (3 seeds). PCA-100 has 4.4 and a
sensitivity of 0.065. It is no win over PCA with no more error. For the SSE of 16.4 to 16.8 at 0.001, PCA needs 23 to 24
components, and their sensitivity is 0.0200 to 0.0206, below the net's 0.0242 to 0.0244 (3 seeds). A weight of 0.01
leaves little more than the mean: SSE 51.7 to 54.7, where the mean has 52.9 (3 seeds). 2 of these 3 seeds are worse than
the mean, so that no PCA is to be compared with. Two layers, 16 codings: the sensitivity falls from 0.049 to 0.017, and
the SSE goes from 22.7 to 23.5. PCA-16 beats it in both, with 0.016 and 21.1 (3 seeds).
"""

import jax

from aejax import Sweep, schedules, scores, variants

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
