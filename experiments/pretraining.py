"""With few labels on MNIST, does unsupervised pretraining make a better classifier? (and with 20 000?)

The chapter's encoder, 784-300-150 of ELU units with 150 codings, trained on all rows without their labels: as a plain
autoencoder, and as one that restores rows of which half the pixels were masked. Then a softmax layer on it, trained
with 100, 1 000 and 20 000 labels: all of it fine-tuned, the encoder frozen, and the same net from scratch; beside
logistic regression and three neighbours, on the codings and on 150 principal components. A fifth of the labelled rows
is held out to stop and choose by; no other label is used.

    aejax run experiments/pretraining.py --data-dir DIR

Takes about 23 minutes on 2 cores. Expect: Denoising pretraining helps where labels are few, on every seed. Fine-tuned
accuracy is 0.905 with 1000 labels, 0.876 from scratch; with 100 labels 0.763 and 0.739 (3 seeds). With 20000 labels it
hardly helps: 0.968 and 0.966 (3 seeds). The chapter's notebook has 0.9401 with and 0.9494 without pretraining, in one
run. Plain pretraining changes the accuracy by -0.002, +0.003 and +0.001 with 100, 1000 and 20000 labels (3 seeds): no
gain beyond what seeds differ by. As features of logistic regression with 100, 1000 and 20000 labels, codings of the
denoising net have 0.767, 0.896 and 0.937, those of the plain one 0.674, 0.864 and 0.916, and 150 principal components
0.737, 0.871 and 0.918 (3 seeds each). Plain codings lose to PCA.
"""

import jax

from aejax import Sweep, schedules, scores, variants

COMMON = {
    "dataset": "mnist",
    "widths": (300, 150),
    "activation": jax.nn.elu,
    "coding_activation": jax.nn.elu,
    "output": jax.nn.sigmoid,
    "schedule": schedules.warmup_cosine,
    "epochs": 8,
    "batch_size": 150,
    "seeds": (0, 1, 2),
    "scores": (
        scores.classification(labels=(100, 1000, 20_000), epochs=40, patience=4, learning_rates=(0.001, 0.003)),
    ),
}
SWEEPS = [
    Sweep(**COMMON, label="plain", hyper={"learning_rate": 0.002, "l2": 0.0}),
    Sweep(
        **COMMON,
        label="denoising",
        variant=variants.denoising,
        options={"noise": "masking"},
        hyper={"learning_rate": 0.002, "l2": 0.0, "level": 0.5},
    ),
]
