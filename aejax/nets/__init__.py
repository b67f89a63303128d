"""Nets: pure functions from inputs to codings and back. The only folder that imports Flax.

A `Net` says nothing about losses. Its parameters are a plain nested dict,
`{"encoder": {"layer_0": {"kernel", "bias"}, …}, "decoder": {…}}`; `decode` gives the last layer's linear output, and
the variant decides what that output means (values, or logits of a sigmoid).
"""

from __future__ import annotations

from collections.abc import Callable

from aejax.nets.base import (
    Activation,
    CodingAxes,
    Net,
    Params,
    affine_kernels,
    coding_mask,
    dense_apply,
    dense_init,
    identity,
    mask_codings,
    slice_codings,
)
from aejax.nets.conv import conv
from aejax.nets.dense import mlp
from aejax.nets.recurrent import recurrent
from aejax.nets.tying import tied

__all__ = [
    "COMMON_ARGUMENTS",
    "IMAGE_NETS",
    "NETS",
    "Activation",
    "CodingAxes",
    "Net",
    "Params",
    "affine_kernels",
    "coding_mask",
    "conv",
    "dense_apply",
    "dense_init",
    "identity",
    "mask_codings",
    "mlp",
    "recurrent",
    "slice_codings",
    "tied",
]

NETS: dict[str, Callable[..., Net]] = {"mlp": mlp, "conv": conv, "recurrent": recurrent}
"""Every kind of net by its name, as stored runs name it."""
IMAGE_NETS: tuple[str, ...] = ("conv", "recurrent")
"""Those that are made for the shape of images, `image_shape`, rather than for a number of inputs."""
COMMON_ARGUMENTS = ("activation", "coding_activation", "decoder_widths", "precision", "image_shape")
"""Keyword arguments that every kind of net takes, `image_shape` where it is one of IMAGE_NETS; others are options."""
