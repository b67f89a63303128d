"""Sparse variants recover a known dictionary."""

import numpy as np
import pytest

from aejax import nets, variants
from aejax.datasets.base import Dataset, Scaling, fingerprint
from aejax.evaluation import reconstruction
from aejax.evaluation.scores.sparsity import counts
from aejax.training import train
from aejax.variants.sparse import columns


def known_dictionary(inputs=24, atoms=32, together=2, train_rows=4096):
    """Known directions (atoms, 32 in 24 dimensions), and a dataset whose rows are weighted sums of two of them."""
    rng = np.random.default_rng(0)
    atoms_ad = rng.normal(size=(atoms, inputs))
    atoms_ad /= np.linalg.norm(atoms_ad, axis=1, keepdims=True)

    def draw(n):
        weights_na = np.zeros((n, atoms))
        active = np.argsort(rng.random((n, atoms)), axis=1)[:, :together]
        np.put_along_axis(weights_na, active, rng.uniform(0.5, 1.5, (n, together)), axis=1)
        return (weights_na @ atoms_ad + 0.01 * rng.normal(size=(n, inputs))).astype(np.float32)

    x = {"x_train": draw(train_rows), "x_validation": draw(256), "x_test": draw(256)}
    y = dict.fromkeys(("y_train", "y_validation", "y_test"))
    scaling = Scaling(np.zeros(1), np.ones(1))
    hashed = fingerprint(x, None, scaling)
    return atoms_ad, Dataset(name="known", **x, **y, image_shape=None, scaling=scaling, unit=1.0, fingerprint=hashed)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "hyper"),
    [("topk", {"active": 2.0, "revive": 0.03}), ("batch_topk", {"active": 2.0, "revive": 0.03})],
)
def test_a_known_dictionary_is_recovered_and_pca_does_not_recover_it(name, hyper):
    atoms_ad, dataset = known_dictionary()
    autoencoder = getattr(variants, name)(nets.mlp(24, (48,)))
    settings = {"epochs": 30, "batch_size": 64, "learning_rate": 0.01, "l2": 0.0}
    fit = train.fit(autoencoder, dataset, seed=0, **settings, **hyper)

    def mean_cosine(directions_md):
        """Cosine of each atom with the direction closest to it, mean over atoms."""
        lengths_m = np.linalg.norm(directions_md, axis=1, keepdims=True)
        return (atoms_ad @ (directions_md / lengths_m).T).max(axis=1).mean()

    pca = reconstruction.pca_reference(dataset)
    components_kd = np.asarray(pca.params.components_kd)
    assert mean_cosine(np.asarray(columns(fit.params))) > 0.95
    assert mean_cosine(np.concatenate([components_kd, -components_kd])) < 0.7
    numbers = reconstruction.score(autoencoder, fit.params, dataset, pca)
    z_nk = reconstruction.reconstruct(autoencoder, fit.params, dataset.x_test)[0]
    assert counts(z_nk)[0]["l0"] <= 2.5
    assert numbers["r2_test"] > 0.9
    assert numbers["pca_equivalent_dimension"] > 15  # two codings per row reconstruct as well as so many components
