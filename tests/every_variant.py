"""Every variant with its options and hyper-parameters, and every net, small: what the contract holds for."""

import functools
from collections.abc import Callable
from typing import Any

import jax

from aejax import nets, variants
from aejax.variants.penalties import cross_entropy

INPUTS = 12
NETS = {
    "linear": lambda: nets.mlp(INPUTS, (3,)),
    "stacked": lambda: nets.mlp(INPUTS, (8, 3)),
    "deep": lambda: nets.mlp(INPUTS, (9, 7, 5, 3), activation=jax.nn.gelu, coding_activation=jax.nn.tanh),
}
NETS |= {f"tied {name}": (lambda build=build: nets.tied(build())) for name, build in NETS.items()}
ODD_NETS = {
    "overlong": lambda: nets.mlp(INPUTS, (6, 3), decoder_widths=(10, 7)),
    "precise": lambda: nets.mlp(INPUTS, (8, 3), precision="highest"),
    "convolutional": lambda: nets.conv(INPUTS, (4, 3), image_shape=(2, 2, 3)),
    "tied convolutional": lambda: nets.tied(nets.conv(INPUTS, (4, 3), image_shape=(2, 2, 3))),
    "recurrent": lambda: nets.recurrent(INPUTS, (8, 3), image_shape=(3, 4)),
    "one-layer decoder": lambda: nets.mlp(INPUTS, (8, 3), decoder_widths=()),
}
LIKELIHOODS: dict[str, dict[str, Any]] = {
    "": {},
    " cross-entropy": {"output": jax.nn.sigmoid, "error": cross_entropy},
}
TOPK = {"active": 2.0, "revive": 0.03, "l2": 1e-3}
VARIATIONAL = {"beta": 1.0, "warmup": 0.5, "free_bits": 0.01, "l2": 1e-3}
ON_ANY_NET: dict[str, tuple[Callable[..., Any], dict[str, Any], dict[str, float]]] = {
    "plain": (variants.plain, {}, {"l2": 1e-3}),
    "denoising": (variants.denoising, {}, {"level": 0.5, "l2": 1e-3}),
    "denoising masking": (variants.denoising, {"noise": "masking"}, {"level": 0.5, "l2": 1e-3}),
    "denoising salt and pepper": (variants.denoising, {"noise": "salt_and_pepper"}, {"level": 0.3, "l2": 1e-3}),
    "hashing": (variants.hashing, {}, {"noise": 1.0, "l2": 1e-3}),
    "kl_sparse": (variants.kl_sparse, {}, {"sparsity": 1e-3, "target": 0.2, "l2": 1e-3}),
    "contractive": (variants.contractive, {}, {"contraction": 1e-3, "l2": 1e-3}),
    "nonuniform L2": (variants.nonuniform_l2, {}, {"l2": 1e-3, "l2_spread": 1e-2}),
    "nested dropout": (variants.nested_dropout, {}, {"continuation": 0.7, "l2": 1e-3}),
    "nested dropout sampled": (variants.nested_dropout, {"prefixes": "sampled"}, {"continuation": 0.7, "l2": 1e-3}),
    "rotation-augmented": (variants.rotation_augmented, {}, {"rotation": 1.0, "l2": 1e-3}),
}
ON_DICTIONARIES = {  # these need a decoder of one dense layer
    "l1_sparse": (variants.l1_sparse, {"dead_after": 2}, {"l1": 1e-3, "revive": 0.1, "l2": 1e-3}),
    "topk": (variants.topk, {"dead_after": 2}, TOPK),
    "batch_topk": (variants.batch_topk, {"dead_after": 2}, TOPK),
    "jump_relu": (variants.jump_relu, {"dead_after": 2}, {"l0": 1e-3, "bandwidth": 0.5, "revive": 0.1, "l2": 1e-3}),
    "gated": (variants.gated, {"dead_after": 2}, {"l1": 1e-3, "revive": 0.1, "l2": 1e-3}),
    "matryoshka": (variants.matryoshka, {}, TOPK),
}
ON_AFFINE_NETS = {
    "marginalised masking": (
        functools.partial(variants.marginalised_denoising, noise="masking"),
        {"level": 0.3, "l2": 1e-3},
    ),
    "marginalised Gaussian": (variants.marginalised_denoising, {"level": 0.3, "l2": 1e-3}),
}
WITH_A_LIKELIHOOD_OF_THEIR_OWN = {
    "variational": (variants.variational, VARIATIONAL | {"sigma": 0.5}),
    "variational learned": (functools.partial(variants.variational, variance="learned"), VARIATIONAL),
    "variational optimal": (
        functools.partial(variants.variational, variance="optimal", output=jax.nn.sigmoid),
        VARIATIONAL,
    ),
    "variational cross-entropy": (
        functools.partial(variants.variational, binarise=True, **LIKELIHOODS[" cross-entropy"]),
        VARIATIONAL,
    ),
    "importance-weighted": (
        functools.partial(variants.variational, samples=3, variance="learned"),
        {name: value for name, value in VARIATIONAL.items() if name != "free_bits"},
    ),
    "importance-weighted cross-entropy": (
        functools.partial(variants.variational, samples=3, **LIKELIHOODS[" cross-entropy"]),
        {name: value for name, value in VARIATIONAL.items() if name != "free_bits"},
    ),
}


def with_every_likelihood(table):
    """A dict from name to (build, hyper), for each entry of the table with each likelihood."""
    return {
        name + likelihood: (functools.partial(function, **options, **arguments), hyper)
        for name, (function, options, hyper) in table.items()
        for likelihood, arguments in LIKELIHOODS.items()
    }


STACKED = with_every_likelihood(ON_ANY_NET) | WITH_A_LIKELIHOOD_OF_THEIR_OWN
LINEAR = with_every_likelihood(ON_DICTIONARIES) | ON_AFFINE_NETS
VARIANTS = STACKED | LINEAR
EACH = [*ON_ANY_NET, *ON_DICTIONARIES, *ON_AFFINE_NETS, *WITH_A_LIKELIHOOD_OF_THEIR_OWN]
"""Every variant with its own error, by its name in VARIANTS."""


def net_of(name: str) -> str:
    """The net of NETS on which this variant is tested."""
    return "linear" if name in LINEAR else "stacked"
