"""Does an undercomplete linear autoencoder perform PCA? (the chapter's first system)

3-D points near a plane, 2 codings, squared error, Adam at 0.01 on the full batch; ten seeds. Theory: the global minimum
has PCA's error and the decoder spans PCA's plane (Baldi & Hornik 1989); Adam has to find it.

    aejax run experiments/linear_pca.py

Takes about 25 s on 2 cores. Expect: Yes. The SSE on test is within 0.022 % of PCA-2's 0.1490 in all 10 seeds. The
largest principal angle between the decoder's plane and PCA's is 0.13 to 0.24 degrees (10 seeds). It is PCA's plane, not
PCA's codings: in 3 of 10 seeds the two codings vary along nearly one direction, and the health panel warns of it.
"""

from aejax import Sweep

SWEEPS = [
    Sweep(
        dataset="plane3d",
        widths=(2,),
        epochs=6000,
        batch_size=None,
        hyper={"learning_rate": 0.01, "l2": 0.0},
        seeds=tuple(range(10)),
    )
]
