"""A dictionary that is known is found."""

import numpy as np
import pytest

from aejax import nets, variants
from aejax.datasets.base import Dataset, Scaling, fingerprint
from aejax.evaluation import reconstruction
from aejax.evaluation.scores.sparsity import counts
from aejax.training import train
from aejax.variants.sparse import columns


def known_dictionary(inputs=24, atoms=32, together=2, train_rows=4096):
    """Rows that are sums of two of 32 known directions in 24 dimensions, and the directions."""
    rng = np.random.default_rng(0)
    atoms_ad = rng.normal(size=(atoms, inputs))
    atoms_ad /= np.linalg.norm(atoms_ad, axis=1, keepdims=True)

    def draw(n):
        weights_na = np.zeros((n, atoms))
        chosen = np.argsort(rng.random((n, atoms)), axis=1)[:, :together]
        np.put_along_axis(weights_na, chosen, rng.uniform(0.5, 1.5, (n, together)), axis=1)
        return (weights_na @ atoms_ad + 0.01 * rng.normal(size=(n, inputs))).astype(np.float32)

    x = {"x_train": draw(train_rows), "x_validation": draw(256), "x_test": draw(256)}
    y, scaling = dict.fromkeys(("y_train", "y_validation", "y_test")), Scaling(np.zeros(1), np.ones(1))
    print_of = fingerprint(x, None, scaling)
    return atoms_ad, Dataset(name="known", **x, **y, image_shape=None, scaling=scaling, unit=1.0, fingerprint=print_of)


@pytest.mark.parametrize(
    ("name", "hyper"),
    [("topk", {"active": 2.0, "revive": 0.03}), ("batch_topk", {"active": 2.0, "revive": 0.03})],
)
def test_a_known_dictionary_is_found_where_pca_finds_none_of_it(name, hyper):
    atoms_ad, dataset = known_dictionary()
    autoencoder = getattr(variants, name)(nets.mlp(24, (48,)))
    settings = {"epochs": 30, "batch_size": 64, "learning_rate": 0.01, "l2": 0.0}
    fit = train.fit(autoencoder, dataset, seed=0, **settings, **hyper)

    def closest(directions_md):
        lengths_m = np.linalg.norm(directions_md, axis=1, keepdims=True)
        return (atoms_ad @ (directions_md / lengths_m).T).max(axis=1).mean()

    found = closest(np.asarray(columns(fit.params)))
    ruler = reconstruction.pca_reference(dataset)
    components_kd = np.asarray(ruler.params.components_kd)
    assert found > 0.95
    assert closest(np.concatenate([components_kd, -components_kd])) < 0.7
    numbers = reconstruction.score(autoencoder, fit.params, dataset, ruler)
    z_nk = reconstruction.reconstruct(autoencoder, fit.params, dataset.x_test)[0]
    assert counts(z_nk)[0]["l0"] <= 2.5
    assert numbers["r2_test"] > 0.9
    assert numbers["pca_equivalent_dimension"] > 15  # components for what two codings a row give
