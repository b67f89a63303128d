"""The variational autoencoder: codings are drawn at random, and the decoder gives a density of the rows."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from aejax import nets
from aejax.nets import Activation, Net, Params, identity
from aejax.runtime import validate
from aejax.runtime.errors import ConfigError, suggest
from aejax.runtime.memoise import build_once
from aejax.variants import likelihoods, penalties
from aejax.variants.base import Autoencoder, ErrorFunction, Generative, Scalar, decode_and_target, fix_hyper

VARIANCES = ("fixed", "learned", "optimal")
LOG_VARIANCES = (-30.0, 20.0)
"""Log variances of a posterior are clipped to this range: float32 cannot resolve values beyond it."""
LEAST_VARIANCE = 1e-6
"""Lower bound of a learned or optimal variance of the rows: data that is reconstructed exactly has no density."""
RUNNING_MEAN_WEIGHT = 0.9
"""Weight of the old variance in the running mean of optimal variances at each step."""
RANGES = (("sigma", 1e-6, 1e6), ("warmup", 0.0, 1.0))


@build_once
def variational(
    net: Net,
    *,
    output: Activation = identity,
    error: ErrorFunction = penalties.squared_error,
    variance: str = "fixed",
    samples: int = 1,
    binarise: bool = False,
) -> Autoencoder:
    """Maximise a lower bound of log p(x) (Kingma & Welling 2014; Burda et al. 2015).

        z    ~ q(z | x) = normal(mean(x), variance(x)),    x (b, d), z (b, k),    p(z) = normal(0, 1)
        loss = -mean_b [log p(x | z) - beta * sum_k KL(q(z_k | x), p(z_k))] + l2 * l2_penalty           samples = 1
        loss = -mean_b log mean_s [p(x | z_s) * (p(z_s) / q(z_s | x))^beta] + l2 * l2_penalty           samples > 1

    The mean is the net's coding, which `encode` returns; the log variance is a second layer on the net's hidden units.
    p(x | z) is a Bernoulli density with `error=cross_entropy`; otherwise it is normal around the output, with one
    variance for all inputs. All terms are in nats per example, summed over inputs and codings.

    Hyper-parameters:
        beta: weight of the KL divergence, at least 0, without unit; 1 is the bound itself.
        warmup: share of the training, from 0 to 1, over which this weight rises from 0.
        free_bits: with one sample, nats per coding, at least 0: the loss takes max(KL, free_bits), with the mean KL
            divergence of the batch, so that this much information costs nothing more (Kingma et al. 2016).
        sigma: with a fixed variance, the standard deviation of the inputs around the output, above 0, in units of the
            inputs.
        l2: weight of `penalties.l2`, at least 0, in nats per squared weight.

    Options:
        variance: of p(x | z). "fixed": sigma^2. "learned": a parameter. "optimal": the mean squared error of the batch
            (Rybkin et al. 2021), whose running mean is remembered.
        samples: draws of z per row. One gives the evidence lower bound with the exact KL divergence (Kingma & Welling
            2014), more the importance-weighted bound (Burda et al. 2015).
        binarise: whether to draw rows of zeros and ones with the inputs as probabilities, new ones at every step and
            the same ones in every evaluation. Without it, inputs between 0 and 1 have a cross-entropy, but no density.

    Metrics: `error` of the decoded mean; `kl`; `nelbo`, the negative bound of one sample with beta = 1; with several
    samples `bound`, the negative importance-weighted bound. Raises ConfigError on options that do not fit each other.
    """
    bernoulli = error is penalties.cross_entropy
    decode, predict = decode_and_target(net, output, error)
    samples = validate.whole_number("samples", samples, minimum=1)
    if variance not in VARIANCES:
        raise ConfigError("variance", repr(variance), suggest(str(variance), VARIANCES))
    if bernoulli and variance != "fixed":
        raise ConfigError("variance", f"{variance!r} with cross_entropy, which has none", "leave variance out")
    if not isinstance(binarise, bool):
        raise ConfigError("binarise", repr(binarise), "give True or False")
    if binarise and not bernoulli:
        raise ConfigError("binarise", "True with squared_error", "set error to cross_entropy, or leave binarise out")

    def init(key: jax.Array, codings: jax.Array | None = None) -> Params:
        net_key, head_key = jax.random.split(key)
        params = net.init(net_key, codings)
        # the kernel is small, so every posterior starts with about the prior's variance
        params["posterior"] = {"log_variance": nets.dense_init(head_key, net.hidden_width, net.codings, scale=1e-2)}
        if variance == "learned":
            params["likelihood"] = {"log_sigma": jnp.zeros(())}
        elif not bernoulli:
            params["memory"] = {"variance": jnp.zeros(())}  # 0: nothing remembered yet
        return params if codings is None else nets.mask_codings(params, axes, codings)

    def posterior(params: Params, x_bd: jax.Array) -> tuple[jax.Array, jax.Array]:
        h_bh = net.hidden(params, x_bd)
        log_variance_bk = nets.dense_apply(params["posterior"]["log_variance"], h_bh)
        return net.coding(params, h_bh), jnp.clip(log_variance_bk, *LOG_VARIANCES)

    def row_variance(params: Params, default: jax.Array | float = 1.0) -> jax.Array:
        """The variance of the rows around their reconstruction; `default` where none is remembered yet."""
        if variance == "learned":
            return LEAST_VARIANCE + jnp.exp(2 * params["likelihood"]["log_sigma"])
        remembered = params["memory"]["variance"]
        return jax.lax.stop_gradient(jnp.where(remembered > 0, remembered, default))

    def log_likelihood(predicted_bd: jax.Array, x_bd: jax.Array, x_variance: jax.Array | None) -> jax.Array:
        if x_variance is None:
            return likelihoods.log_bernoulli(predicted_bd, x_bd)
        return likelihoods.log_normal(x_bd, predicted_bd, x_variance)

    def observed(key: jax.Array, x_bd: jax.Array) -> jax.Array:
        return jax.random.bernoulli(key, x_bd).astype(x_bd.dtype) if binarise else x_bd

    def loss(
        params: Params,
        key: jax.Array,
        x_bd: jax.Array,
        *,
        beta: Scalar,
        warmup: Scalar,
        free_bits: Scalar,
        sigma: Scalar,
        l2: Scalar,
        progress: Scalar,
    ):
        rows_key, noise_key = jax.random.split(key)
        rows_bd = observed(rows_key, x_bd)
        mean_bk, log_variance_bk = posterior(params, rows_bd)
        noise_sbk = jax.random.normal(noise_key, (samples, *mean_bk.shape))
        z_sbk = mean_bk[None] + jnp.exp(0.5 * log_variance_bk)[None] * noise_sbk
        predicted_nd = predict(params, z_sbk.reshape(-1, net.codings))  # n = samples * rows
        target_nd = jnp.tile(rows_bd, (samples, 1))

        if bernoulli:
            loss_variance = density_variance = None
        elif variance == "optimal":  # the loss takes that of this batch, the density the running mean
            loss_variance = jnp.maximum(jnp.mean(jnp.square(predicted_nd - target_nd)), LEAST_VARIANCE)
            density_variance = row_variance(params, loss_variance)
        else:
            loss_variance = density_variance = jnp.square(sigma) if variance == "fixed" else row_variance(params)
        loss_likelihood_sb = log_likelihood(predicted_nd, target_nd, loss_variance).reshape(samples, -1)
        density_likelihood_sb = log_likelihood(predicted_nd, target_nd, density_variance).reshape(samples, -1)

        # without the mask, masked codings would have a KL divergence where the activation of 0 is not 0
        trained_k = nets.coding_mask(params, axes, net.codings)
        kl_k = trained_k * likelihoods.kl_normal(mean_bk, log_variance_bk).mean(axis=0)
        ratio_sbk = likelihoods.log_ratio(z_sbk, log_variance_bk[None], noise_sbk)
        ratio_sb = jnp.sum(trained_k[None, None] * ratio_sbk, axis=-1)

        weight = beta * jnp.where(progress < warmup, progress / jnp.maximum(warmup, 1e-6), 1.0)
        if samples == 1:
            bound = loss_likelihood_sb.mean() - weight * jnp.sum(trained_k * jnp.maximum(kl_k, free_bits))
        else:
            bound = likelihoods.log_mean_exp(loss_likelihood_sb + weight * ratio_sb).mean()
        penalty = l2 * penalties.l2(params)

        metrics = {
            "error": error(predict(params, mean_bk), x_bd),
            "penalty": penalty,
            "kl": kl_k.sum(),
            "nelbo": kl_k.sum() - density_likelihood_sb.mean(),
        }
        if samples > 1:
            metrics["bound"] = -likelihoods.log_mean_exp(density_likelihood_sb + ratio_sb).mean()
        return penalty - bound, metrics if loss_variance is None else {**metrics, "variance": loss_variance}

    def remember_variance(params: Params, metrics: dict[str, Any]) -> Params:
        """Keep the variance with the parameters: without it they do not define a density."""
        old = params["memory"]["variance"]
        new = metrics["variance"]
        if variance == "optimal":
            new = jnp.where(old > 0, RUNNING_MEAN_WEIGHT * old + (1 - RUNNING_MEAN_WEIGHT) * new, new)
        return {**params, "memory": {"variance": new}}

    def sample(params: Params, key: jax.Array, z_bk: jax.Array) -> jax.Array:
        decoded_bd = decode(params, z_bk)
        if bernoulli:
            return jax.random.bernoulli(key, decoded_bd).astype(decoded_bd.dtype)
        return decoded_bd + jnp.sqrt(row_variance(params)) * jax.random.normal(key, decoded_bd.shape)

    def log_weights(params: Params, key: jax.Array, x_bd: jax.Array) -> jax.Array:
        mean_bk, log_variance_bk = posterior(params, x_bd)
        noise_bk = jax.random.normal(key, mean_bk.shape)
        z_bk = mean_bk + jnp.exp(0.5 * log_variance_bk) * noise_bk
        x_variance = None if bernoulli else row_variance(params)
        ratio_bk = likelihoods.log_ratio(z_bk, log_variance_bk, noise_bk)
        return log_likelihood(predict(params, z_bk), x_bd, x_variance) + ratio_bk.sum(axis=-1)

    axes = net.coding_axes
    if axes:
        axes += ((("posterior", "log_variance", "kernel"), 1), (("posterior", "log_variance", "bias"), 0))
    unused = {"sigma": 0.0} if bernoulli or variance != "fixed" else {}
    unused |= {"free_bits": 0.0} if samples > 1 else {}
    return Autoencoder(
        init,
        net.encode,
        decode,
        fix_hyper(loss, **unused),
        axes,
        recorded_metrics=("nelbo", "kl") if samples == 1 else ("nelbo", "kl", "bound"),
        criterion="nelbo" if samples == 1 else "bound",
        post_update=None if bernoulli or variance == "learned" else remember_variance,
        generative=Generative(sample, log_weights, posterior, observed, bernoulli, None if bernoulli else row_variance),
        hyper_ranges=RANGES,
    )
