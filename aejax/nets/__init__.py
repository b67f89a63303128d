"""Nets: pure functions from inputs to codings and back. The only room that imports Flax.

A `Net` says nothing about losses. Its parameters are a plain nested dict,
`{"encoder": {"layer_0": {"kernel", "bias"}, …}, "decoder": {…}}`. `decode` returns the linear output of the last layer;
the variant decides what this output means (values, or logits of a sigmoid).

| net | file | layers |
|---|---|---|
| `mlp` | `dense.py` | dense |
| `conv` | `conv.py` | convolutions, then one dense layer |
| `recurrent` | `recurrent.py` | gated recurrent units, then one dense layer |
| `tied(net)` | `tying.py` | the decoder uses the kernels of the encoder |
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
    parameter_shapes,
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
    "parameter_shapes",
    "recurrent",
    "slice_codings",
    "tied",
]

NETS: dict[str, Callable[..., Net]] = {"mlp": mlp, "conv": conv, "recurrent": recurrent}
"""Every kind of net by the name that stored runs use for it."""
IMAGE_NETS: tuple[str, ...] = ("conv", "recurrent")
"""The kinds of net that need the shape of the images, `image_shape`, besides the number of inputs."""
COMMON_ARGUMENTS = ("activation", "coding_activation", "decoder_widths", "precision", "image_shape")
"""Keyword arguments of every kind of net (`image_shape`: of IMAGE_NETS only). All others are options of one net."""
