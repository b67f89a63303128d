"""The identity of a run: a hash of everything that decides its numbers."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from aejax.evaluation import scores
from aejax.storage import run_folders
from aejax.training import greedy

DEFAULTS_LEFT_OUT: dict[str, Any] = {
    "net": "mlp",
    "options": {},
    "scores": [],
    "moments": False,
    "pretraining": None,
    "optimiser": "adam",
    "full_batch_steps": 1,
    "keep": "best",
}
"""Fields that `Sweep` gained after the first runs were stored, with their defaults.

A config leaves such a field out where it has its default. A new field therefore does not change the ids of older runs.
"""


def decode_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """The `Sweep` fields of a stored config, including the defaults it leaves out.

    Scores and pretraining are objects; functions are still names. Scores that this aejax does not have are dropped.
    """
    fields: dict[str, Any] = {**DEFAULTS_LEFT_OUT, **config}
    fields.pop("digests", None)
    fields["scores"] = tuple(scores.from_config(score) for score in fields["scores"] if score["name"] in scores.SCORES)
    fields["pretraining"] = greedy.from_config(fields["pretraining"])
    return fields


def run_id(config: Mapping[str, Any], hyper: Mapping[str, float], seed: int, data_fingerprint: str) -> str:
    """The first twelve hex digits of a SHA-256 over config, hyper-parameters, seed, data and record format.

    The label is part of the config. Machine and library versions are not part of the id: the row records them.
    """
    identity = {"format": run_folders.FORMAT, "config": config, "hyper": hyper, "seed": seed, "data": data_fingerprint}
    return hashlib.sha256(json.dumps(identity, sort_keys=True, allow_nan=False).encode()).hexdigest()[:12]
