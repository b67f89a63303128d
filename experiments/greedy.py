"""Does greedy training, layer by layer, help a stack on MNIST at equal epochs? (Hinton & Salakhutdinov 2006)

784-256-64-16 and its mirror with sigmoid units, which gradients hardly reach from the output: twelve epochs of all of
it at once, against three epochs of each of its three pairs of layers and three of all of it from there, both ways:
"separate" shallow autoencoders, and pairs of the whole net itself ("inner"). ELU units, all at once, beside
them. A rate of 1e-9 shows the net as the phases leave it. An epoch of a phase costs less than one of the whole.

    aejax run experiments/greedy.py --data-dir DIR

Takes about 4 minutes on 2 cores. Expect: No. At equal epochs the SSE is 15.3 all at once, 15.2 after separate phases
and 15.4 after inner ones (3 seeds each). Seeds differ by as much: 14.9 to 15.5 all at once. The phases alone leave 25.1
and 25.4, which loses to PCA-16's 21.1 (3 seeds each). ELU units reach 9.0 all at once (3 seeds): the activation matters
more than the order.
"""

import jax

from aejax import Sweep, greedy, schedules

EPOCHS = 12
LAYERS = 3
PHASES = {
    way: greedy.Greedy(epochs=EPOCHS // (LAYERS + 1), learning_rate=0.002, way=way) for way in ("separate", "inner")
}
SWEEPS = [
    Sweep(
        label=f"{name} {how}",
        dataset="mnist",
        widths=(256, 64, 16),
        activation=activation,
        output=jax.nn.sigmoid,
        schedule=schedules.warmup_cosine,
        epochs=EPOCHS if pretraining is None else EPOCHS // (LAYERS + 1),
        batch_size=150,
        hyper={"learning_rate": 0.002 if pretraining is None else (1e-9, 0.002), "l2": 0.0},
        seeds=(0, 1, 2),
        pretraining=pretraining,
    )
    for name, activation, how, pretraining in (
        ("sigmoid", jax.nn.sigmoid, "at once", None),
        ("sigmoid", jax.nn.sigmoid, "separate", PHASES["separate"]),
        ("sigmoid", jax.nn.sigmoid, "inner", PHASES["inner"]),
        ("ELU", jax.nn.elu, "at once", None),
    )
]
