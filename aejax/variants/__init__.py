"""Variants of the autoencoder: one function each, showing its whole loss."""

from __future__ import annotations

from collections.abc import Callable

from aejax.variants.base import PROGRESS, Autoencoder, Generative, Loss, Ranges, check_hyper, hyper_names, keywords
from aejax.variants.denoising import NOISES, denoising
from aejax.variants.hashing import hashing
from aejax.variants.plain import plain
from aejax.variants.variational import variational

__all__ = [
    "NOISES",
    "PROGRESS",
    "VARIANTS",
    "Autoencoder",
    "Generative",
    "Loss",
    "Ranges",
    "check_hyper",
    "denoising",
    "hashing",
    "hyper_names",
    "keywords",
    "plain",
    "variational",
]

VARIANTS: dict[str, Callable[..., Autoencoder]] = {
    "plain": plain,
    "denoising": denoising,
    "hashing": hashing,
    "variational": variational,
}
"""Every variant by its name, as stored runs name it."""
