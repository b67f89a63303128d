"""Train small populations on the devices that XLA_FLAGS gives this process, and print the results as JSON.

    XLA_FLAGS=--xla_force_host_platform_device_count=2 python tests/devices.py

test_devices runs it on 1, 2 and 8 devices.
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
    """Print the number of devices and, for each way of training, every member's best error and parameter hash."""
    dataset = small_dataset(rows=96)
    autoencoder = variants.plain(nets.mlp(12, (8, 3)))
    results: dict[str, object] = {"devices": jax.device_count()}
    for how, width in (("map", None), ("vmap", 2), ("data", None)):
        fitted = train.fit_population(autoencoder, dataset, RUNS, epochs=3, batch_size=40, how=how, width=width)
        leaves = [b"".join(np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(fit.params)) for fit in fitted.fits]
        results[how] = {
            "devices": fitted.choice.layout.devices,
            "status": [fit.status for fit in fitted.fits],
            "bad_step": [fit.bad_step for fit in fitted.fits],
            "errors": [fit.best_error if np.isfinite(fit.best_error) else None for fit in fitted.fits],
            "bits": [hashlib.sha256(leaf).hexdigest() for leaf in leaves],
        }
    print(json.dumps(results, allow_nan=False))


if __name__ == "__main__":
    main()
