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
    apply_head,
    cut,
    head,
    identity,
    live,
    narrow,
)
from aejax.nets.conv import conv
from aejax.nets.dense import mlp
from aejax.nets.recurrent import recurrent
from aejax.nets.tying import tied

__all__ = [
    "IMAGE_NETS",
    "NETS",
    "STANDARD",
    "Activation",
    "CodingAxes",
    "Net",
    "Params",
    "affine_kernels",
    "apply_head",
    "conv",
    "cut",
    "head",
    "identity",
    "live",
    "mlp",
    "narrow",
    "recurrent",
    "tied",
]

NETS: dict[str, Callable[..., Net]] = {"mlp": mlp, "conv": conv, "recurrent": recurrent}
"""Every kind of net by its name, as stored runs name it."""
IMAGE_NETS: tuple[str, ...] = ("conv", "recurrent")
"""Those that are made for the shape of images, `image_shape`, rather than for a number of inputs."""
STANDARD = ("activation", "coding_activation", "decoder_widths", "precision", "image_shape")
"""Keyword arguments that every kind of net takes, `image_shape` where it is one of IMAGE_NETS; others are options."""
