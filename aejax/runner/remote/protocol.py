"""Messages between a driver and its workers as bytes: strict JSON, and safetensors for arrays. Nothing is pickled."""

from __future__ import annotations

import json
from typing import Any

from aejax.storage import run_folders
from aejax.storage.atomic import to_json

_LENGTH_BYTES = 8
"""Bytes at the start of a message that hold the length of its JSON."""


def pack(*message: Any) -> bytes:
    """A message (kind, values…) as bytes.

    The values are JSON, except those of kind "row": a row, nested parameters, and arrays by name.
    """
    from safetensors.numpy import save

    kind, *values = message
    array_bytes = b""
    if kind == "row":
        row, params, arrays = values
        tree = {"parameters": params, "arrays": {name.replace("/", "\n"): array for name, array in arrays.items()}}
        array_bytes = save(run_folders.flatten_tree(tree))
        values = [row]
    head = to_json([kind, *values]).encode()
    return len(head).to_bytes(_LENGTH_BYTES, "big") + head + array_bytes


def unpack(data: bytes) -> list[Any]:
    """The message that `pack` made these bytes of, as a list; tuples in it are lists too."""
    from safetensors.numpy import load

    end = _LENGTH_BYTES + int.from_bytes(data[:_LENGTH_BYTES], "big")
    message = json.loads(data[_LENGTH_BYTES:end])
    if message[0] == "row":
        tree = run_folders.unflatten_tree(load(data[end:]))
        arrays = {name.replace("\n", "/"): array for name, array in tree.get("arrays", {}).items()}
        message += [tree.get("parameters", {}), arrays]
    return message
