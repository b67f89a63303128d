"""Tied weights: a decoder derived from its encoder."""

from __future__ import annotations

import jax

from aejax.nets.base import Net, Params, parameter_shapes
from aejax.runtime.errors import ConfigError
from aejax.runtime.memoise import build_once


@build_once
def tied(net: Net) -> Net:
    """The net whose decoder kernels are those of its encoder, mirrored: the transposed kernels of dense layers.

    Its parameters are those of `net` without the decoder's kernels. `decode` is that of `net`, applied to the kernels
    that `net.mirror` derives from the encoder. So the two kernels cannot drift apart, the gradient of a kernel is the
    sum of the gradients of both uses, and a penalty on the parameters counts the kernel once.

    Equal nets give the same tied net. Raises ConfigError where the decoder does not mirror the encoder.
    """
    if net.mirror is None:
        raise ConfigError("tied", "True, with a net whose decoder is no mirror of its encoder", "set tied=False")
    mirror = net.mirror
    shapes = parameter_shapes(net)
    tied_shapes = {name: leaf.shape for name, leaf in jax.eval_shape(mirror, shapes["encoder"]).items()}
    decoder_shapes = {name: layer["kernel"].shape for name, layer in shapes["decoder"].items()}
    if decoder_shapes != tied_shapes:
        encoder_shapes = {name: layer["kernel"].shape for name, layer in shapes["encoder"].items()}
        raise ConfigError(
            "tied",
            f"decoder kernels {_in_layer_order(decoder_shapes)} do not mirror encoder kernels "
            f"{_in_layer_order(encoder_shapes)}",
            f"tied decoder kernels would be {_in_layer_order(tied_shapes)}: leave decoder_widths out, "
            "or set tied=False",
        )

    def init(key: jax.Array, codings: jax.Array | None = None) -> Params:
        params = net.init(key, codings)
        decoder = {
            name: {part: leaf for part, leaf in layer.items() if part != "kernel"}
            for name, layer in params["decoder"].items()
            if set(layer) != {"kernel"}
        }
        return {"encoder": params["encoder"], **({"decoder": decoder} if decoder else {})}

    def decode(params: Params, z_bk: jax.Array) -> jax.Array:
        stored = params.get("decoder", {})
        kernels = mirror(params["encoder"])
        decoder = {name: {**stored.get(name, {}), "kernel": kernel} for name, kernel in kernels.items()}
        return net.decode({"decoder": decoder}, z_bk)

    axes = tuple((path, axis) for path, axis in net.coding_axes if path[0] == "encoder")
    return net._replace(init=init, decode=decode, coding_axes=axes)


def _in_layer_order(shapes: dict[str, tuple[int, ...]]) -> list[tuple[int, ...]]:
    """The shapes by the number of their layer. A tree map sorts names as text: layer_10 before layer_2."""
    return [shapes[name] for name in sorted(shapes, key=lambda name: int(name.removeprefix("layer_")))]
