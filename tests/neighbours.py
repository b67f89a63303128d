"""Accuracy of 3 nearest neighbours on principal components of MNIST, for the record in results/neighbours.

    python tests/neighbours.py --data-dir DIR

The classifier uses all 60 000 training images and is evaluated on the 10 000 test images; neighbours are weighted by
1 / distance. The script takes about a minute on 2 cores.
"""

import argparse
from pathlib import Path

import jax.numpy as jnp
import numpy as np

from aejax import datasets
from aejax.evaluation import pca
from aejax.evaluation.scores.classification import neighbours
from aejax.storage import atomic

RECORD = Path(__file__).resolve().parents[1] / "results/neighbours/neighbours.json"


def measure(data: datasets.Dataset) -> dict[str, float]:
    """Accuracy on principal components, by their number, and on pixels."""
    x_nd = np.concatenate([data.x_train, data.x_validation])
    assert data.y_train is not None
    assert data.y_validation is not None
    assert data.y_test is not None
    y_n = np.concatenate([data.y_train, data.y_validation])
    accuracies = {}
    params = pca.fit(x_nd, unit=data.unit)
    for k in (10, 30, 50):
        first = pca.truncate(params, k)
        z_nk, z_test = (np.asarray(pca.encode(first, jnp.asarray(data.floats(x)))) for x in (x_nd, data.x_test))
        accuracies[f"pca_{k}"] = neighbours(z_nk, y_n, z_test, data.y_test)
    accuracies["pixels"] = neighbours(data.floats(x_nd), y_n, data.floats(data.x_test), data.y_test)
    return accuracies


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-dir", type=Path)
    accuracies = measure(datasets.load("mnist", parser.parse_args().data_dir))
    RECORD.parent.mkdir(parents=True, exist_ok=True)
    RECORD.write_text(atomic.to_json(accuracies, indent=1) + "\n")
    print(accuracies)
