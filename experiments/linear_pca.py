"""Does an undercomplete linear autoencoder perform PCA? (the chapter's first system)

3-D points near a plane, 2 codings, squared error, Adam at 0.01 on the full batch; ten seeds.

    aejax run experiments/linear_pca.py
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
