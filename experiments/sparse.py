"""What error do sparse codings reach at how many active ones, and is that better than as many principal components?

MNIST, 784-1024-784, overcomplete, an affine decoder, few of the 1024 codings active in a row. Seven ways to make them
so, two sparsities each: KL with a target activity, L1, TopK, BatchTopK, JumpReLU, gated, Matryoshka. R2 against L0, the
mean number of active codings, beside PCA's R2 against its number of components. What that compares: PCA keeps the same
components for every row, a sparse code chooses its own out of 1024, and which ones it chose is part of the code. KL's
sigmoid codings are small, never zero: its L0 is 1024.

    aejax run experiments/sparse.py --data-dir DIR

Takes about 19 minutes on 2 cores. Expect: 30 active codings of 1024 are worth 60.9 (TopK), 64.3 (BatchTopK) and 57.7
(Matryoshka) principal components; 10 are worth 32.5, 32.7 and 31.5 (2 seeds). JumpReLU's 33 active codings are worth
68.3, its 18 are worth 48.9 (2 seeds). L1 shrinks what it keeps: its 37 are worth 43.5, its 60 only 61.6. Gated, 21 are
worth 41.6 and 57 are worth 67.9 (2 seeds). KL's codings are small but never zero: L0 is 1024, worth 79.3 and 123.0
components (2 seeds). Dead units are revived during training, except KL's. At the end none is dead with L1, gated and
KL, and at most 14 % in any run of the others (2 seeds). Few of JumpReLU's units vary much: 260 and 394 of 1024 on
average (2 seeds).
"""

from aejax import Sweep, schedules, scores, variants

COMMON = {
    "dataset": "mnist",
    "widths": (1024,),
    "epochs": 4,
    "seeds": (0, 1),
    "batch_size": 256,
    "schedule": schedules.warmup_cosine,
}
COMMON |= {"scores": (scores.sparsity(), scores.density(components=30))}
RATE = {"learning_rate": 0.003, "l2": 0.0}
OPTIONS = {"dead_after": 10}  # steps; an epoch has 215
TOPK = {"hyper": {**RATE, "active": (10, 30), "revive": 1.0}, "options": OPTIONS}
KL = {**RATE, "sparsity": (3e-6, 3e-5), "target": 0.03}
JUMP = {**RATE, "l0": (1e-4, 3e-4), "bandwidth": 0.2, "revive": 1e-6}
GATED = {**RATE, "l1": (0.0015, 0.003), "revive": 1e-4}
L1 = {**RATE, "l1": (0.0006, 0.001), "revive": 1e-4}

SWEEPS = [
    Sweep(**COMMON, **TOPK, label="TopK", variant=variants.topk),
    Sweep(**COMMON, **TOPK, label="BatchTopK", variant=variants.batch_topk),
    Sweep(**COMMON, **TOPK, label="Matryoshka", variant=variants.matryoshka),
    Sweep(
        **COMMON, label="JumpReLU", variant=variants.jump_relu, hyper=JUMP, options=OPTIONS | {"first_threshold": 0.5}
    ),
    Sweep(**COMMON, label="gated", variant=variants.gated, hyper=GATED, options=OPTIONS),
    Sweep(**COMMON, label="L1", variant=variants.l1_sparse, hyper=L1, options=OPTIONS),
    Sweep(**COMMON, label="KL", variant=variants.kl_sparse, hyper=KL),
]
