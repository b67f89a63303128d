"""Learning-rate schedules: functions of the number of training steps that give an optax schedule.

The schedule's value multiplies the `learning_rate` hyper-parameter, so its peak is 1. Any function
`schedule(steps) -> optax.Schedule` will do.
"""

from __future__ import annotations

from collections.abc import Callable

import optax

Schedule = Callable[[int], optax.Schedule]


def constant(steps: int):
    """1 throughout."""
    del steps
    return optax.constant_schedule(1.0)


def linear(steps: int):
    """From 1 straight to 0."""
    return optax.linear_schedule(1.0, 0.0, steps)


def cosine(steps: int):
    """From 1 to 0 along half a cosine (Loshchilov & Hutter 2017, no restarts)."""
    return optax.cosine_decay_schedule(1.0, steps)


def warmup_cosine(steps: int):
    """From 0 to 1 over the first twentieth of the steps, then along half a cosine to 0."""
    warmup = max(1, steps // 20)
    return optax.warmup_cosine_decay_schedule(0.0, 1.0, warmup, max(steps, warmup + 1))
