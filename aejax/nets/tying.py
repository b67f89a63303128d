"""Tied weights: a decoder derived from its encoder."""

from __future__ import annotations

import functools

import jax

from aejax.nets.base import Net, Params
from aejax.runtime.errors import ConfigError


@functools.lru_cache(maxsize=256)
def tied(net: Net) -> Net:
    """The net whose decoder kernels *are* those of its encoder, mirrored: of dense layers the transposed kernels.

    Stores the encoder's parameters and the decoder's without its kernels. The decoder is the given net's own, applied
    to what `net.mirror` derives from the encoder: there is nothing shared that could drift apart, the gradient of a
    kernel is the sum of both uses, and a penalty on the parameters counts it once. Raises ConfigError when the decoder
    does not mirror the encoder.
    """
    if net.mirror is None:
        raise ConfigError("tied", "True, with a net whose decoder is no mirror of its encoder", "set tied=False")
    mirror = net.mirror
    shapes = jax.eval_shape(lambda: net.init(jax.random.key(0)))
    mirrored = {name: leaf.shape for name, leaf in jax.eval_shape(mirror, shapes["encoder"]).items()}
    found = {name: layer["kernel"].shape for name, layer in shapes["decoder"].items()}
    if found != mirrored:
        encoder_kernels = [layer["kernel"].shape for _, layer in _in_order(shapes["encoder"])]
        raise ConfigError(
            "tied",
            f"decoder kernels {[found[name] for name, _ in _in_order(found)]} do not mirror encoder kernels "
            f"{encoder_kernels}",
            f"tied decoder kernels would be {[shape for _, shape in _in_order(mirrored)]}: leave decoder_widths out, "
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
        others = params.get("decoder", {})
        derived = {
            name: {**others.get(name, {}), "kernel": kernel} for name, kernel in mirror(params["encoder"]).items()
        }
        return net.decode({"decoder": derived}, z_bk)

    axes = tuple((path, axis) for path, axis in net.coding_axes if path[0] == "encoder")
    return net._replace(init=init, decode=decode, coding_axes=axes)


def _in_order(layers: Params) -> list:
    """(name, value) in layer order (dict order is alphabetical after a tree map: layer_10 before layer_2)."""
    return sorted(layers.items(), key=lambda item: int(item[0].removeprefix("layer_")))
