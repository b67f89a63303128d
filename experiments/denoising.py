"""Does a denoising autoencoder take more noise off MNIST than PCA does, and than any linear method can?

784-300-100 and its mirror, trained to give the clean image from a noisy one: Gaussian noise of standard deviation .5,
half of the pixels masked, a quarter of them salt or pepper; and the same net without noise in training, given Gaussian
noise in the test. Every one is compared with PCA with its best number of components (chosen on noisy validation
rows) and with the best affine map for that noise. Then linear nets with 100 codings whose loss averages over all
Gaussian or masking noise exactly, in full batches: they should reach the best affine map of rank 100. Three seeds each.

    aejax run experiments/denoising.py --data-dir DIR

Takes about 6 minutes on 2 cores. Expect: Yes. Gaussian noise of 0.5: SSE 12.3 against the clean test images. PCA with
its best number of components (40) has 21.0, the best affine map 15.6 (3 seeds). Masking half of the pixels: 11.6, PCA
31.8 (with 80 components), best affine map 14.7 (3 seeds). Salt and pepper on a quarter of them: 11.2, PCA 18.3 (with
65), best affine map 13.4 (3 seeds). Every seed wins against both, at all three kinds of noise. The same net trained
without noise loses: SSE 34.3 at the Gaussian noise, PCA with as many components 29.4 (3 seeds). The linear nets have
15.92 at the Gaussian and 15.35 at the masking noise; the best affine maps of rank 100 have 15.91 and 15.35 (3 seeds).
"""

import jax

from aejax import Sweep, nets, schedules, scores, variants

COMMON = {
    "dataset": "mnist",
    "widths": (300, 100),
    "activation": jax.nn.relu,
    "output": jax.nn.sigmoid,
    "schedule": schedules.warmup_cosine,
    "epochs": 5,
    "batch_size": 200,
    "seeds": (0, 1, 2),
}
MOMENTS = {
    "widths": (100,),
    "activation": nets.identity,
    "output": nets.identity,
    "moments": True,
    "batch_size": None,
    "full_batch_steps": 100,
    "epochs": 60,
}
RATE = {"learning_rate": 0.002, "l2": 0.0}
SWEEPS = [
    Sweep(
        label=f"denoising, {noise.replace('_', ' ')}",
        variant=variants.denoising,
        options={"noise": noise},
        hyper=RATE | {"level": level},
        scores=(scores.denoising(noise, level),),
        **COMMON,
    )
    for noise, level in (("gaussian", 0.5), ("masking", 0.5), ("salt_and_pepper", 0.25))
]
SWEEPS += [Sweep(label="plain", hyper=RATE, scores=(scores.denoising("gaussian", 0.5),), **COMMON)]
SWEEPS += [
    Sweep(
        label=f"linear, {noise} marginalised",
        variant=variants.marginalised_denoising,
        options={"noise": noise},
        hyper={"learning_rate": 0.01, "l2": 0.0, "level": 0.5},
        scores=(scores.denoising(noise, 0.5),),
        **{**COMMON, **MOMENTS},
    )
    for noise in ("gaussian", "masking")
]
