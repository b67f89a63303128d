"""Log-likelihood of test rows under a variational autoencoder, estimated by importance sampling on the device.

log p(x) is estimated by the logarithm of the mean of the weights p(x, z) / q(z | x), with codings z drawn from the
approximate posterior q (Burda et al. 2015, section 5). The mean is unbiased; its logarithm is too low by about half the
relative variance of the mean, which `nll_bias` estimates. Where q is much narrower than the exact posterior, the
variance of the weights is infinite, and the logarithm is too low by more than the samples show. A small
`effective_samples` is a sign of that.

Where the model's rows are binary, each test row is drawn once, with the row as probabilities. The draws are the same
for every run, so that runs are compared on the same zeros and ones.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from aejax.evaluation import pca, reconstruction
from aejax.evaluation.scores.base import Comparison, Measurement, Score, TrainedRun
from aejax.nets import Params
from aejax.runtime import validate
from aejax.runtime.errors import ConfigError
from aejax.variants import Autoencoder, likelihoods

ROWS_SEED = 0
"""Seed of the draws of binary test rows."""
ACTIVE = 0.01
"""A unit is active if the variance of its posterior mean over the rows is above this (Burda et al. 2015)."""
ROWS_AT_ONCE = 64
"""Rows per device and compiled call."""
PASSES = {"cpu": 2048}
PASSES_OF_ACCELERATORS = 65_536
"""Decoder passes at once on one device: enough to use its cache (CPU) or its cores (accelerator) well."""

_HEADERS = (
    ("nll_test", "NLL", "negative log-likelihood of a test row in nats, by importance samples"),
    ("nelbo_test", "−ELBO", "negative evidence lower bound of a test row in nats"),
    ("kl_test", "KL", "rate: KL of a test row's codings from the prior in nats"),
    ("active_units", "active", "codings whose posterior mean varies by more than 0.01 over test rows"),
    ("effective_samples", "effective samples", "median over test rows of (sum of weights)² / sum of squared weights"),
    ("nll_bias", "bias", "by how much, at least, the NLL is too high for its number of samples, in nats"),
    (
        "exact_nll_test",
        "exact NLL",
        "the exact one of the same model, where its decoder is affine and rows continuous: the verdict is by it",
    ),
    ("ppca_nll_test", "pPCA NLL", "the exact one of probabilistic PCA with as many codings, where rows are continuous"),
)
_COMPARISON = Comparison(
    "nll_test",
    "ppca_nll_test",
    "probabilistic PCA as a density",
    "{ours} nats against {theirs}",
    in_nats=True,
    exact_number="exact_nll_test",
)


def likelihood(samples: int = 5000, rows: int | None = None) -> Score:
    """Log-likelihood of the first `rows` test rows, by default of all, with `samples` importance samples per row.

    The following are in nats per row; lower is better for all but `kl_test` and `reconstruction_test`, which share out
    `nelbo_test`.

    nll_test: negative log-likelihood.
    nelbo_test: negative evidence lower bound from the same samples; on average at least nll_test.
    kl_test: KL divergence of the approximate posterior from the prior, in closed form (the rate).
    reconstruction_test: nelbo_test - kl_test, the mean of -log p(x | z).
    nll_bias: estimate of how much nll_test is too high, from the variance of the weights.
    ppca_nll_test: exact negative log-likelihood of probabilistic PCA with as many codings. Only for continuous rows;
        None where `pca.log_likelihood` is.
    exact_nll_test: exact negative log-likelihood of the model. Only for continuous rows; None where the decoder is not
        affine.

    Two numbers have no unit:

    active_units: codings whose posterior mean has a variance above ACTIVE over the rows; 0 to k.
    effective_samples: (sum of w)^2 / sum of w^2, median over rows, from 1 to `samples`; higher is more reliable.

    The arrays are `likelihood/test`, the log-likelihood of each row (n,) float32, and `likelihood/kl`, the KL of each
    coding averaged over rows (k,) float32.

    Raises ConfigError for `samples` or `rows` below 1. The measurement raises ConfigError for a variant without a
    likelihood, and for a binary likelihood of rows that are not zeros and ones.
    """
    samples = validate.whole_number("samples", samples, minimum=1)
    if rows is not None:
        rows = validate.whole_number("rows", rows, minimum=1)
    return Score("likelihood", (("samples", samples), ("rows", rows)), _measure, _HEADERS, comparisons=(_COMPARISON,))


class Estimate(NamedTuple):
    """Estimates for n rows, float64.

    log_likelihood_n: log p(x).
    elbo_n: evidence lower bound.
    effective_n: effective number of samples.
    mean_nk: means of the approximate posterior.
    kl_nk: KL divergence of each coding's posterior from its prior.
    """

    log_likelihood_n: np.ndarray
    elbo_n: np.ndarray
    effective_n: np.ndarray
    mean_nk: np.ndarray
    kl_nk: np.ndarray


class _Sums(NamedTuple):
    """Sums over the log weights so far, (b,) each.

    largest: largest log weight.
    weights: sum of exp(log weight - largest).
    squares: sum of the squares of these terms.
    logs: sum of the log weights.
    """

    largest: jax.Array
    weights: jax.Array
    squares: jax.Array
    logs: jax.Array


def _measure(trained: TrainedRun, samples: int, rows: int | None) -> Measurement:
    generative = trained.autoencoder.generative
    dataset = trained.dataset
    if generative is None:
        raise ConfigError("Sweep.scores", "likelihood of a variant that is no density", "set variant to variational")
    x_nd = jnp.asarray(dataset.floats(dataset.x_test))
    x_nd = np.asarray(generative.observed(jax.random.key(ROWS_SEED), x_nd))[:rows]
    if generative.binary and not np.isin(x_nd, (0, 1)).all():
        problem = "likelihood under cross_entropy of rows that are not zeros and ones"
        raise ConfigError("Sweep.scores", problem, "set binarise=True in options, or leave the score out")
    result = estimate_log_likelihood(trained, x_nd, samples)
    elbo = float(result.elbo_n.mean())
    kl = float(result.kl_nk.sum(axis=1).mean())
    numbers: dict[str, float | None] = {
        "nll_test": -float(result.log_likelihood_n.mean()),
        "nelbo_test": -elbo,
        "kl_test": kl,
        "reconstruction_test": -elbo - kl,
        "active_units": int((result.mean_nk.var(axis=0) > ACTIVE).sum()),
        "effective_samples": float(np.median(result.effective_n)),
        "nll_bias": float((1 / result.effective_n - 1 / samples).mean() / 2),
    }
    if not generative.binary:
        x_test = dataset.x_test[:rows]
        ppca_n = pca.log_likelihood(trained.reference.params, trained.codings, x_test, unit=dataset.unit)
        exact_n = exact_log_likelihood(trained.autoencoder, trained.params, trained.codings, x_nd)
        numbers["ppca_nll_test"] = None if ppca_n is None else -float(ppca_n.mean())
        numbers["exact_nll_test"] = None if exact_n is None else -float(exact_n.mean())
    kl_k = np.asarray(result.kl_nk.mean(axis=0), np.float32)
    return numbers, {"likelihood/test": result.log_likelihood_n.astype(np.float32), "likelihood/kl": kl_k}


def exact_log_likelihood(autoencoder: Autoencoder, params: Params, codings: int, x_nd: np.ndarray) -> np.ndarray | None:
    """Exact log-likelihood of each row in nats, (n,) float64, for an affine decoder with a Gaussian likelihood.

    With x = b + z W + sigma e, where z and e are standard normal, rows are normal with mean b and covariance
    W^T W + sigma^2 I. b and W follow from decoding zeros and unit codings. Returns None where random codings show that
    the decoder is not affine, and for other likelihoods. `x_nd` are rows as the model observes them.
    """
    variance = None if autoencoder.generative is None else autoencoder.generative.variance
    if variance is None:
        return None
    random_mk = 3 * np.random.default_rng(0).standard_normal((20, codings)).astype(np.float32)
    probes_nk = np.concatenate([np.zeros((1, codings), np.float32), np.eye(codings, dtype=np.float32), random_mk])
    decoded_nd = reconstruction.decode(autoencoder, params, probes_nk).astype(np.float64)
    mean_d = decoded_nd[0]
    kernel_kd = decoded_nd[1 : codings + 1] - mean_d
    expected_md = random_mk @ kernel_kd + mean_d
    if not np.allclose(decoded_nd[codings + 1 :], expected_md, rtol=0, atol=1e-4 * max(1.0, np.abs(expected_md).max())):
        return None
    noise = float(variance(params))
    inputs = x_nd.shape[1]
    centred_nd = x_nd.astype(np.float64) - mean_d
    # Woodbury's identity and the matrix determinant lemma: k x k matrices instead of d x d
    inner_kk = np.eye(codings) + kernel_kd @ kernel_kd.T / noise
    projected_nk = centred_nd @ kernel_kd.T / noise
    explained_n = (projected_nk * np.linalg.solve(inner_kk, projected_nk.T).T).sum(axis=1)
    squares_n = np.square(centred_nd).sum(axis=1) / noise - explained_n
    log_determinant = np.linalg.slogdet(inner_kk)[1] + inputs * np.log(noise)
    return -0.5 * (squares_n + log_determinant + inputs * np.log(2 * np.pi))


def estimate_log_likelihood(trained: TrainedRun, x_nd: np.ndarray, samples: int) -> Estimate:
    """Estimate the log-likelihood of rows by `samples` importance samples per row, on all local devices.

    `x_nd` are rows as the model observes them. They are processed in blocks of ROWS_AT_ONCE rows per device, so that
    another number of devices draws other samples. `trained.check_interrupt` is called after each block.
    """
    devices = jax.local_devices()
    sharding = NamedSharding(Mesh(np.array(devices), ("rows",)), PartitionSpec("rows"))
    passes = PASSES.get(devices[0].platform, PASSES_OF_ACCELERATORS)
    at_once = max(1, min(samples, passes // ROWS_AT_ONCE))

    def estimate_block(block_bd: np.ndarray, start: int) -> tuple[jax.Array, ...]:
        key = jax.random.fold_in(trained.key, start)
        x_bd = jax.device_put(block_bd, sharding)
        sums = jax.block_until_ready(_block(trained.autoencoder, trained.params, key, x_bd, samples, at_once))
        trained.check_interrupt()
        return sums

    arrays = reconstruction.in_blocks(estimate_block, x_nd, ROWS_AT_ONCE * len(devices))
    largest, weights, squares, logs, mean_nk, kl_nk = (array.astype(np.float64) for array in arrays)
    return Estimate(largest + np.log(weights / samples), logs / samples, np.square(weights) / squares, mean_nk, kl_nk)


@functools.partial(jax.jit, static_argnames=("autoencoder", "samples", "at_once"))
def _block(
    autoencoder: Autoencoder, params: Params, key: jax.Array, x_bd: jax.Array, samples: int, at_once: int
) -> tuple[jax.Array, ...]:
    """The final `_Sums` of a block of rows, and the means and KL divergences of its posteriors, (b, k)."""
    generative = autoencoder.generative
    assert generative is not None

    def add(i: jax.Array, sums: _Sums) -> _Sums:
        keys = jax.random.split(jax.random.fold_in(key, i), at_once)
        logs_sb = jax.vmap(lambda sample_key: generative.log_weights(params, sample_key, x_bd))(keys)
        used_s = i * at_once + jnp.arange(at_once) < samples  # the last iteration may draw more than `samples`
        logs_sb = jnp.where(used_s[:, None], logs_sb, -jnp.inf)
        largest = jnp.maximum(sums.largest, logs_sb.max(axis=0))
        rescale = jnp.exp(sums.largest - largest)
        weights_sb = jnp.exp(logs_sb - largest[None])
        return _Sums(
            largest,
            sums.weights * rescale + weights_sb.sum(axis=0),
            sums.squares * jnp.square(rescale) + jnp.square(weights_sb).sum(axis=0),
            sums.logs + jnp.where(used_s[:, None], logs_sb, 0.0).sum(axis=0),
        )

    zero = jnp.zeros_like(x_bd[:, 0])
    sums = jax.lax.fori_loop(0, -(-samples // at_once), add, _Sums(zero - jnp.inf, zero, zero, zero))
    mean_bk, log_variance_bk = generative.posterior(params, x_bd)
    return (*sums, mean_bk, likelihoods.kl_normal(mean_bk, log_variance_bk))
