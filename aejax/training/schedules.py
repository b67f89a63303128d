"""Learning-rate schedules: functions from the number of training steps to an optax schedule.

The value of the schedule multiplies the hyper-parameter `learning_rate`; its maximum is 1. A `Sweep` takes any function
`schedule(steps) -> optax.Schedule`.
"""

from __future__ import annotations

from collections.abc import Callable

import optax

Schedule = Callable[[int], optax.Schedule]


def constant(steps: int):
    """1 at every step."""
    del steps
    return optax.constant_schedule(1.0)


def linear(steps: int):
    """Linearly from 1 to 0."""
    return optax.linear_schedule(1.0, 0.0, steps)


def cosine(steps: int):
    """From 1 to 0 along half a cosine (Loshchilov & Hutter 2017, no restarts)."""
    return optax.cosine_decay_schedule(1.0, steps)


def warmup_cosine(steps: int):
    """From 0 to 1 over the first twentieth of the steps, then along half a cosine to 0."""
    warmup = max(1, steps // 20)
    return optax.warmup_cosine_decay_schedule(0.0, 1.0, warmup, max(steps, warmup + 1))
