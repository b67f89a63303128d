"""Variants of the autoencoder: one function each, showing its whole loss."""

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
"""Every variant by its name, as stored runs name it."""
