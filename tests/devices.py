"""Trains small populations on the devices that XLA_FLAGS gives this process, and prints them as JSON.

Run by the tests; `python tests/devices.py` shows one.
"""

import hashlib
import json

import jax
import numpy as np

from aejax import nets, variants
from aejax.training import train
from support import small_dataset

RUNS = [(seed, {"learning_rate": rate, "l2": 0.001}) for rate in (0.01, 0.003, 1e30) for seed in range(3)]


def main() -> None:
    """Best errors and a hash of the parameters of every member, for each way of training."""
    dataset, autoencoder = small_dataset(rows=96), variants.plain(nets.mlp(12, (8, 3)))
    found: dict[str, object] = {"devices": jax.device_count()}
    for how, width in (("map", None), ("vmap", 2), ("data", None)):
        fitted = train.fit_population(autoencoder, dataset, RUNS, epochs=3, batch_size=40, how=how, width=width)
        leaves = [b"".join(np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(fit.params)) for fit in fitted.fits]
        found[how] = {
            "devices": fitted.choice.layout.devices,
            "status": [fit.status for fit in fitted.fits],
            "bad_step": [fit.bad_step for fit in fitted.fits],
            "errors": [fit.best_error if np.isfinite(fit.best_error) else None for fit in fitted.fits],
            "bits": [hashlib.sha256(leaf).hexdigest() for leaf in leaves],
        }
    print(json.dumps(found, allow_nan=False))


if __name__ == "__main__":
    main()
