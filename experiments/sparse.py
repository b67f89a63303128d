"""What error do sparse codings reach at how many active ones, and is that better than as many principal components?

MNIST, 784-1024-784: more codings than inputs, few of them active in a row. Seven ways to make them so, two sparsities
each: KL with a target activity, L1, TopK, BatchTopK, JumpReLU, gated, Matryoshka. R2 against L0, the mean number of
active codings, beside PCA's R2 against its number of components. Note what that compares: PCA keeps the same
components for every row, a sparse code chooses its own out of 1024, and which ones is part of the code.

    aejax run experiments/sparse.py --data-dir DIR

Takes about 6 minutes on 2 cores. Expect TODO.
"""

from aejax import Sweep, schedules, scores, variants

COMMON = {"dataset": "mnist", "widths": (1024,), "epochs": 5, "batch_size": 256, "schedule": schedules.warmup_cosine}
COMMON |= {"scores": (scores.sparsity(),)}
TOPK = {"learning_rate": 0.001, "active": (10, 30), "revive": 0.03125, "l2": 0.0}

SWEEPS = [
    Sweep(
        **COMMON,
        label="KL",
        variant=variants.kl_sparse,
        hyper={"learning_rate": 0.001, "sparsity": (1e-5, 1e-4), "target": 0.03, "l2": 0.0},
    ),
    Sweep(
        **COMMON, label="L1", variant=variants.l1_sparse, hyper={"learning_rate": 0.001, "l1": (3e-4, 1e-3), "l2": 0.0}
    ),
    Sweep(**COMMON, label="TopK", variant=variants.topk, hyper=TOPK),
    Sweep(**COMMON, label="BatchTopK", variant=variants.batch_topk, hyper=TOPK),
    Sweep(
        **COMMON,
        label="JumpReLU",
        variant=variants.jump_relu,
        hyper={"learning_rate": 0.001, "l0": (1e-4, 3e-4), "bandwidth": 0.1, "l2": 0.0},
    ),
    Sweep(
        **COMMON, label="gated", variant=variants.gated, hyper={"learning_rate": 0.001, "l1": (3e-4, 1e-3), "l2": 0.0}
    ),
    Sweep(**COMMON, label="Matryoshka", variant=variants.matryoshka, hyper=TOPK),
]
