"""The built-in functions and words that a config may name, and how a config records a user's own function."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from aejax import nets, variants
from aejax.training import optimisers, schedules
from aejax.variants import penalties

_ELEMENTWISE = ("celu", "elu", "gelu", "hard_sigmoid", "hard_silu", "hard_tanh", "leaky_relu", "log_sigmoid", "mish")
_ELEMENTWISE += ("relu", "relu6", "selu", "sigmoid", "silu", "soft_sign", "softplus", "squareplus", "tanh")
ACTIVATIONS: dict[str, Callable] = {"identity": nets.identity, **{name: getattr(jax.nn, name) for name in _ELEMENTWISE}}
CHOICES: dict[str, dict[str, Callable]] = {
    "variant": variants.VARIANTS,
    "net": nets.NETS,
    "activation": ACTIVATIONS,
    "coding_activation": ACTIVATIONS,
    "output": {"identity": nets.identity, "sigmoid": jax.nn.sigmoid},
    "error": {"squared_error": penalties.squared_error, "cross_entropy": penalties.cross_entropy},
    "schedule": {name: getattr(schedules, name) for name in ("constant", "linear", "cosine", "warmup_cosine")},
    "optimiser": {name: getattr(optimisers, name) for name in ("adam", "sgd", "nesterov")},
}
"""The built-in functions of each `Sweep` field that holds a function, by name.

A stored run names its functions. Reading a run looks the names up here and runs no code from the results folder."""
CUSTOM_FUNCTION_FIELDS = ("activation", "coding_activation", "schedule")
"""Fields that also accept a user's function. The run id then depends on values of that function (`function_digest`)."""
TEXT_CHOICES = {"precision": ("default", "high", "highest"), "keep": ("best", "last")}
"""The allowed words of each `Sweep` field that holds a word."""


def function_name(field: str, function: Callable) -> str:
    """The name that a config stores for the function of a field: the built-in name, else `module.qualified_name`."""
    for name, choice in CHOICES[field].items():
        if choice is function:
            return name
    return f"{getattr(function, '__module__', '?')}.{getattr(function, '__qualname__', type(function).__name__)}"


def function_digest(field: str, function: Callable) -> str:
    """Sixteen hex digits of a hash of a user's function values.

    Two functions of the same name with different values get different run ids. A schedule is evaluated at every step
    of 1 000 and of 10 000 steps, an activation at 4 001 points from -20 to 20.
    """
    if field == "schedule":
        values = [jax.vmap(function(steps))(jnp.arange(steps)) for steps in (1_000, 10_000)]
    else:
        values = [function(jnp.linspace(-20.0, 20.0, 4_001))]
    return hashlib.sha256(b"".join(np.asarray(value, np.float32).tobytes() for value in values)).hexdigest()[:16]
