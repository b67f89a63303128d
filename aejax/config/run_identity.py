"""What a run is known by: a hash of everything that decides its numbers."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from aejax.evaluation import scores
from aejax.storage import run_folders
from aejax.training import greedy

DEFAULTS_LEFT_OUT: dict[str, Any] = {
    **{"net": "mlp", "options": {}, "scores": [], "moments": False, "pretraining": None},
    **{"optimiser": "adam", "full_batch_steps": 1, "keep": "best"},
}
"""Fields that configs of the first runs did not have, and their defaults, which are left out of a config: a run keeps
its identity when a field is added that changes nothing of it."""


def decode_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """A config's fields, those that were left out too; functions still by name, scores and pretraining made."""
    values: dict[str, Any] = {
        **DEFAULTS_LEFT_OUT,
        **{name: value for name, value in config.items() if name != "digests"},
    }
    values["scores"] = tuple(scores.from_config(one) for one in values["scores"] if one["name"] in scores.SCORES)
    values["pretraining"] = greedy.from_config(values["pretraining"])
    return values


def run_id(config: Mapping[str, Any], hyper: Mapping[str, float], seed: int, data_fingerprint: str) -> str:
    """Twelve hex digits of the SHA-256 of what is asked for: config, hyper-parameters, seed, data, format.

    The label is part of the config. Machine and versions are not: they are in the row's provenance.
    """
    identity_of_run = {
        "format": run_folders.FORMAT,
        "config": config,
        "hyper": hyper,
        "seed": seed,
        "data": data_fingerprint,
    }
    text = json.dumps(identity_of_run, sort_keys=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:12]
