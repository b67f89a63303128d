"""The variational autoencoder: codings are drawn, and the decoder is a density of the rows."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from aejax import nets
from aejax.nets import Activation, Net, Params, identity
from aejax.runtime import validate
from aejax.runtime.errors import ConfigError, suggest
from aejax.variants import likelihoods, penalties
from aejax.variants.base import Autoencoder, Generative, decode_and_target, fix_hyper

VARIANCES = ("fixed", "learned", "optimal")
LOG_VARIANCES = (-30.0, 20.0)
"""Log variances of a posterior are kept between these: beyond them float32 has nothing to tell."""
LEAST_VARIANCE = 1e-6
"""A learned or optimal variance of the rows is at least this: data that is reconstructed exactly has no density."""
MEMORY = 0.9
"""How much of the remembered optimal variance stays after a step."""
RANGES = (("sigma", 1e-6, 1e6), ("warmup", 0.0, 1.0))


@functools.lru_cache(maxsize=256, typed=True)
def variational(
    net: Net,
    *,
    output: Activation = identity,
    error: Callable[[jax.Array, jax.Array], jax.Array] = penalties.squared_error,
    variance: str = "fixed",
    samples: int = 1,
    binarise: bool = False,
) -> Autoencoder:
    """Maximise a lower bound of log p(x), p(z) standard normal: `-log p(x | z) + beta * KL(q(z | x), p(z)) + l2 * …`.

    q(z | x) is Gaussian: its mean is the net's coding, its log variance a second head on the net's hidden units.
    `encode` gives the mean. p(x | z) is Bernoulli with `error=cross_entropy`, else Gaussian around the output, its one
    variance `fixed` to sigma^2, `learned`, or `optimal`, the mean squared error of the batch (Rybkin et al. 2021), of
    which a running mean is remembered. Everything is in nats an example, summed over inputs and codings.

    One of `samples` drawn codings is the evidence lower bound with its KL in closed form (Kingma & Welling 2014); more
    are the importance-weighted bound (Burda et al. 2015). `binarise` draws every row of zeros and ones anew from the
    inputs as probabilities (in evaluation always the same); inputs between 0 and 1 that are not binarised have a
    cross-entropy, not a likelihood.

    Hyper-parameters: `beta`, the weight of the KL; `warmup`, the share of training over which that weight rises from 0;
    `l2` >= 0; with one sample `free_bits`, nats of a coding's mean KL over the batch that cost nothing more (Kingma et
    al. 2016); with a fixed variance `sigma`. Metrics: `error` of the decoded mean; `nelbo`, the negative bound of one
    sample with the whole KL whatever the weight, `kl`, and with several samples `bound`, their negative bound.
    Raises ConfigError on options that do not belong together.
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
        # a small kernel: every posterior starts with the prior's variance
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

    def variance_of(params: Params, otherwise: jax.Array | float = 1.0) -> jax.Array:
        """The variance of rows around their reconstruction; `otherwise` where none is remembered."""
        if variance == "learned":
            return LEAST_VARIANCE + jnp.exp(2 * params["likelihood"]["log_sigma"])
        remembered = params["memory"]["variance"]
        return jax.lax.stop_gradient(jnp.where(remembered > 0, remembered, otherwise))

    def log_likelihood(predicted_bd: jax.Array, x_bd: jax.Array, of_rows: jax.Array | None) -> jax.Array:
        if of_rows is None:
            return likelihoods.log_bernoulli(predicted_bd, x_bd)
        return likelihoods.log_normal(x_bd, predicted_bd, of_rows)

    def observed(key: jax.Array, x_bd: jax.Array) -> jax.Array:
        return jax.random.bernoulli(key, x_bd).astype(x_bd.dtype) if binarise else x_bd

    def loss(
        params: Params,
        key: jax.Array,
        x_bd: jax.Array,
        *,
        beta: jax.Array,
        warmup: jax.Array,
        free_bits: jax.Array,
        sigma: jax.Array,
        l2: jax.Array,
        progress: jax.Array,
    ):
        rows_key, draw_key = jax.random.split(key)
        rows_bd = observed(rows_key, x_bd)
        mean_bk, log_variance_bk = posterior(params, rows_bd)
        noise_sbk = jax.random.normal(draw_key, (samples, *mean_bk.shape))
        z_sbk = mean_bk[None] + jnp.exp(0.5 * log_variance_bk)[None] * noise_sbk
        predicted_nd = predict(params, z_sbk.reshape(-1, net.codings))  # n = samples * rows
        target_nd = jnp.tile(rows_bd, (samples, 1))

        trained_with = kept = None  # the variance of the objective, and that of the density which is kept
        if variance == "optimal":
            trained_with = jnp.maximum(jnp.mean(jnp.square(predicted_nd - target_nd)), LEAST_VARIANCE)
            kept = variance_of(params, trained_with)
        elif not bernoulli:
            trained_with = kept = jnp.square(sigma) if variance == "fixed" else variance_of(params)
        likelihood_sb = log_likelihood(predicted_nd, target_nd, trained_with).reshape(samples, -1)
        kept_sb = log_likelihood(predicted_nd, target_nd, kept).reshape(samples, -1)

        live_k = nets.coding_mask(
            params, axes, net.codings
        )  # a masked coding has no KL, whatever its activation of zero is
        kl_k = live_k * likelihoods.kl_normal(mean_bk, log_variance_bk).mean(axis=0)
        ratio_sbk = likelihoods.log_ratio(z_sbk, log_variance_bk[None], noise_sbk)
        ratio_sb = jnp.sum(live_k[None, None] * ratio_sbk, axis=-1)

        weight = beta * jnp.where(progress < warmup, progress / jnp.maximum(warmup, 1e-6), 1.0)
        if samples == 1:
            bound = likelihood_sb.mean() - weight * jnp.sum(live_k * jnp.maximum(kl_k, free_bits))
        else:
            bound = likelihoods.log_mean_exp(likelihood_sb + weight * ratio_sb).mean()
        penalty = l2 * penalties.l2(params)

        metrics = {
            "error": error(predict(params, mean_bk), x_bd),
            "penalty": penalty,
            "kl": kl_k.sum(),
            "nelbo": kl_k.sum() - kept_sb.mean(),
        }
        if samples > 1:
            metrics["bound"] = -likelihoods.log_mean_exp(kept_sb + ratio_sb).mean()
        return penalty - bound, metrics if trained_with is None else {**metrics, "variance": trained_with}

    def settle(params: Params, metrics: dict[str, Any]) -> Params:
        """Remember the variance, without which the parameters are no density."""
        before, new = params["memory"]["variance"], metrics["variance"]
        if variance == "optimal":
            new = jnp.where(before > 0, MEMORY * before + (1 - MEMORY) * new, new)
        return {**params, "memory": {"variance": new}}

    def sample(params: Params, key: jax.Array, z_bk: jax.Array) -> jax.Array:
        decoded_bd = decode(params, z_bk)
        if bernoulli:
            return jax.random.bernoulli(key, decoded_bd).astype(decoded_bd.dtype)
        return decoded_bd + jnp.sqrt(variance_of(params)) * jax.random.normal(key, decoded_bd.shape)

    def log_weights(params: Params, key: jax.Array, x_bd: jax.Array) -> jax.Array:
        mean_bk, log_variance_bk = posterior(params, x_bd)
        noise_bk = jax.random.normal(key, mean_bk.shape)
        z_bk = mean_bk + jnp.exp(0.5 * log_variance_bk) * noise_bk
        of_rows = None if bernoulli else variance_of(params)
        ratio_bk = likelihoods.log_ratio(z_bk, log_variance_bk, noise_bk)
        return log_likelihood(predict(params, z_bk), x_bd, of_rows) + ratio_bk.sum(axis=-1)

    axes = net.coding_axes
    if axes:
        axes += ((("posterior", "log_variance", "kernel"), 1), (("posterior", "log_variance", "bias"), 0))
    meaningless = {"sigma": 0.0} if bernoulli or variance != "fixed" else {}
    meaningless |= {"free_bits": 0.0} if samples > 1 else {}
    return Autoencoder(
        init,
        net.encode,
        decode,
        fix_hyper(loss, **meaningless),
        axes,
        recorded_metrics=("nelbo", "kl") if samples == 1 else ("nelbo", "kl", "bound"),
        criterion="nelbo" if samples == 1 else "bound",
        post_update=None if bernoulli or variance == "learned" else settle,
        generative=Generative(sample, log_weights, posterior, observed, bernoulli, None if bernoulli else variance_of),
        hyper_ranges=RANGES,
    )
