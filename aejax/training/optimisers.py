"""Optimisers: functions from an optax schedule of learning rates to an optax transformation.

Adam scales the step of every parameter on its own. The others do not; a variant that rotates all codings together, such
as `rotation_augmented`, needs one of them.
"""

from __future__ import annotations

import optax

MOMENTUM = 0.9


def adam(learning_rate: optax.Schedule) -> optax.GradientTransformation:
    """Adam (Kingma & Ba 2015) with optax's defaults: moments of .9 and .999, epsilon 1e-8."""
    return optax.adam(learning_rate)


def sgd(learning_rate: optax.Schedule) -> optax.GradientTransformation:
    """Plain gradient descent."""
    return optax.sgd(learning_rate)


def nesterov(learning_rate: optax.Schedule) -> optax.GradientTransformation:
    """Gradient descent with Nesterov's momentum of .9 (Sutskever et al. 2013); steps about ten times those of `sgd`."""
    return optax.sgd(learning_rate, momentum=MOMENTUM, nesterov=True)
