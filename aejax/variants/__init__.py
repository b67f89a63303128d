"""Variants of the autoencoder. Each is one function that shows its whole loss.

Every variant takes a `Net`, the activation `output` of the decoder's last layer, and `error`, which compares the
reconstruction with the input: `penalties.squared_error`, or `penalties.cross_entropy` with a sigmoid `output`. It
returns an `Autoencoder`. Equal arguments give the same `Autoencoder`.

| variant | file | loss besides the reconstruction error and the L2 penalty |
|---|---|---|
| `plain` | `plain.py` | nothing |
| `denoising` | `denoising.py` | nothing; the input is noisy, the target clean |
| `marginalised_denoising` | `marginalised.py` | the expectation of `denoising` over the noise, for affine nets |
| `contractive` | `contractive.py` | the squared Jacobian of the codings |
| `hashing` | `hashing.py` | nothing; noise before a sigmoid makes the codings bits |
| `variational` | `variational.py` | the KL divergence of the posterior from the prior |
| `nonuniform_l2` | `ordered.py` | an L2 penalty that grows along the codings |
| `nested_dropout` | `ordered.py` | nothing; only the first codings reconstruct |
| `rotation_augmented` | `ordered.py` | a term that rotates the codings to the principal axes |
| `kl_sparse` | `sparse/kl.py` | the KL divergence of the mean activity from a target |
| `l1_sparse` | `sparse/l1.py` | the sum of the codings |
| `topk` | `sparse/topk.py` | the revival of dead units; the largest codings of each row are kept |
| `batch_topk` | `sparse/batch_topk.py` | as `topk`; the largest codings of the batch are kept |
| `matryoshka` | `sparse/matryoshka.py` | as `topk`, and the errors of the first codings |
| `jump_relu` | `sparse/jump_relu.py` | the number of active codings |
| `gated` | `sparse/gated.py` | the sum of the gates, and the error of a reconstruction from the gates |
"""

from __future__ import annotations

from collections.abc import Callable

from aejax.variants.base import PROGRESS, Autoencoder, Generative, Loss, Ranges, check_hyper, hyper_names, keyword_names
from aejax.variants.contractive import contractive
from aejax.variants.denoising import NOISES, denoising
from aejax.variants.hashing import hashing
from aejax.variants.marginalised import marginalised_denoising
from aejax.variants.ordered import nested_dropout, nonuniform_l2, rotation_augmented
from aejax.variants.plain import plain
from aejax.variants.sparse import batch_topk, gated, jump_relu, kl_sparse, l1_sparse, matryoshka, topk
from aejax.variants.variational import variational

__all__ = [
    "NOISES",
    "PROGRESS",
    "VARIANTS",
    "Autoencoder",
    "Generative",
    "Loss",
    "Ranges",
    "batch_topk",
    "check_hyper",
    "contractive",
    "denoising",
    "gated",
    "hashing",
    "hyper_names",
    "jump_relu",
    "keyword_names",
    "kl_sparse",
    "l1_sparse",
    "marginalised_denoising",
    "matryoshka",
    "nested_dropout",
    "nonuniform_l2",
    "plain",
    "rotation_augmented",
    "topk",
    "variational",
]

VARIANTS: dict[str, Callable[..., Autoencoder]] = {
    "plain": plain,
    "denoising": denoising,
    "hashing": hashing,
    "kl_sparse": kl_sparse,
    "l1_sparse": l1_sparse,
    "topk": topk,
    "batch_topk": batch_topk,
    "jump_relu": jump_relu,
    "gated": gated,
    "matryoshka": matryoshka,
    "contractive": contractive,
    "variational": variational,
    "marginalised_denoising": marginalised_denoising,
    "nonuniform_l2": nonuniform_l2,
    "nested_dropout": nested_dropout,
    "rotation_augmented": rotation_augmented,
}
"""Every variant by the name that stored runs use for it."""
