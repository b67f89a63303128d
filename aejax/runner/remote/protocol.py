"""Messages between a driver and its workers as bytes: strict JSON, and safetensors for arrays. Nothing is pickled."""

from __future__ import annotations

import json
from typing import Any

from aejax.storage import run_folders
from aejax.storage.atomic import to_json

_LENGTH = 8  # bytes that tell how long the JSON is


def pack(*message: Any) -> bytes:
    """(kind, values…) as bytes. Values are JSON but of a "row": its row, nested parameters, and arrays by name."""
    from safetensors.numpy import save

    kind, *values = message
    held = b""
    if kind == "row":
        row, params, arrays = values
        tree = {"parameters": params, "arrays": {name.replace("/", "\n"): array for name, array in arrays.items()}}
        held, values = save(run_folders.flatten_tree(tree)), [row]
    head = to_json([kind, *values]).encode()
    return len(head).to_bytes(_LENGTH, "big") + head + held


def unpack(data: bytes) -> list[Any]:
    """What was packed; tuples come as lists."""
    from safetensors.numpy import load

    end = _LENGTH + int.from_bytes(data[:_LENGTH], "big")
    message = json.loads(data[_LENGTH:end])
    if message[0] == "row":
        tree = run_folders.unflatten_tree(load(data[end:]))
        arrays = {name.replace("\n", "/"): array for name, array in tree.get("arrays", {}).items()}
        message += [tree.get("parameters", {}), arrays]
    return message
