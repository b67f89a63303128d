"""What error do sparse codings reach at how many active ones, and is that better than as many principal components?

MNIST, 784-512-784, an affine decoder, few of the 512 codings active in a row. Seven ways to make them so, two
sparsities each: KL with a target activity, L1, TopK, BatchTopK, JumpReLU, gated, Matryoshka. R2 against L0, the mean
number of active codings, beside PCA's R2 against its number of components. What that compares: PCA keeps the same
components for every row, a sparse code chooses its own out of 512, and which ones it chose is part of the code. KL's
sigmoid codings are small, never zero: its L0 is 512.

    aejax run experiments/sparse.py --data-dir DIR

Takes about 3 minutes on 2 cores. Expect 30 active codings to be worth 54 (TopK), 56 (BatchTopK) and 49 (Matryoshka)
components, and 32 of JumpReLU 60; 10 to be worth 26 to 30. L1 shrinks what it keeps: its 26 are worth 32, its 52 only
50. KL's 512 are worth 47 and 56. These are three epochs and one seed: 27 to 57 % of the units of the first four are
still dead.
"""

from aejax import Sweep, schedules, scores, variants

COMMON = {"dataset": "mnist", "widths": (512,), "epochs": 3, "batch_size": 256, "schedule": schedules.warmup_cosine}
COMMON |= {"scores": (scores.sparsity(),)}
RATE = {"learning_rate": 0.003, "l2": 0.0}
TOPK = {"hyper": {**RATE, "active": (10, 30), "revive": 0.03125}, "options": {"dead_after": 50}}
KL = {**RATE, "sparsity": (3e-6, 3e-5), "target": 0.03}
JUMP = {**RATE, "l0": (1e-4, 3e-4), "bandwidth": 0.2}

SWEEPS = [
    Sweep(**COMMON, **TOPK, label="TopK", variant=variants.topk),
    Sweep(**COMMON, **TOPK, label="BatchTopK", variant=variants.batch_topk),
    Sweep(**COMMON, **TOPK, label="Matryoshka", variant=variants.matryoshka),
    Sweep(**COMMON, label="JumpReLU", variant=variants.jump_relu, hyper=JUMP, options={"first_threshold": 0.5}),
    Sweep(**COMMON, label="gated", variant=variants.gated, hyper={**RATE, "l1": (0.0015, 0.003)}),
    Sweep(**COMMON, label="L1", variant=variants.l1_sparse, hyper={**RATE, "l1": (0.0006, 0.001)}),
    Sweep(**COMMON, label="KL", variant=variants.kl_sparse, hyper=KL),
]
