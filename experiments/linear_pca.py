"""Does an undercomplete linear autoencoder perform PCA? (the chapter's first system)

3-D points near a plane, 2 codings, squared error, Adam at 0.01 on the full batch; ten seeds. Theory: the global minimum
has PCA's error and the decoder spans PCA's plane (Baldi & Hornik 1989); Adam has to find it.

    aejax run experiments/linear_pca.py

Takes about 50 s on 2 cores. Expect SSE 0.1490 on test for all ten seeds, within 0.1 % of PCA-2, and the largest
principal angle to PCA's plane under 0.3 degrees.
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
