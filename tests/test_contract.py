"""Properties that every variant has on every net it supports, tested over one table of pairs."""

import functools
import inspect
import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aejax import nets, variants
from aejax.runtime.errors import ConfigError
from aejax.runtime.memoise import build_once
from aejax.training import train
from aejax.variants.penalties import cross_entropy
from every_variant import (
    EACH,
    INPUTS,
    LINEAR,
    NETS,
    ODD_NETS,
    ON_ANY_NET,
    ON_DICTIONARIES,
    STACKED,
    VARIANTS,
    WITH_A_LIKELIHOOD_OF_THEIR_OWN,
    net_of,
)
from support import compiles, quick_options, small_dataset

EACH_VARIANT = [(net_of(name), name) for name in EACH]
ONCE = list(EACH_VARIANT)
ONCE += [(net, "topk" if net == "one-layer decoder" else "plain") for net in NETS | ODD_NETS if net != "stacked"]
ONCE += [("stacked", "plain cross-entropy")]
"""Every variant on one net, and every net with one variant."""
PRODUCT = {
    *itertools.product(("stacked", "tied stacked"), STACKED),
    *itertools.product(("linear", "tied linear"), LINEAR),
    *itertools.product(NETS, ("plain", "plain cross-entropy")),
    *itertools.product(("linear", "tied linear"), ("nested dropout",)),  # computed from moments
    *itertools.product(("recurrent", "tied convolutional"), ("contractive", "variational optimal")),
    *itertools.product(("recurrent", "convolutional"), ("denoising cross-entropy", "hashing")),
}
REST = sorted(PRODUCT - set(ONCE))  # the same order in every process of a parallel test run


def parameter(net, name, marks=()):
    return pytest.param((NETS | ODD_NETS)[net], *VARIANTS[name], id=f"{net} × {name}", marks=marks)


ROWS_ONCE = [parameter(net, name) for net, name in ONCE]
ROWS_OF_VARIANTS = [parameter(net, name) for net, name in EACH_VARIANT]
ROWS_OF_THE_REST = [parameter(net, name, pytest.mark.slow) for net, name in REST]
contract = pytest.mark.parametrize(("net", "build", "hyper"), ROWS_ONCE + ROWS_OF_THE_REST)
once = pytest.mark.parametrize(("net", "build", "hyper"), ROWS_ONCE)
each_variant = pytest.mark.parametrize(("net", "build", "hyper"), ROWS_OF_VARIANTS)


@functools.cache
def made(net, build):
    """The autoencoder, its compiled `init`, and its compiled loss with gradients, halfway through training."""
    autoencoder = build(net())
    progress = {"progress": 0.5} if "progress" in variants.keyword_names(autoencoder.loss) else {}

    def loss(params, x_bd, hyper):
        return autoencoder.loss(params, jax.random.key(1), x_bd, **hyper, **progress)

    quickly = functools.partial(jax.jit, compiler_options=quick_options())
    return autoencoder, quickly(autoencoder.init), quickly(jax.value_and_grad(loss, has_aux=True))


@pytest.fixture
def x_bd():
    return jnp.asarray(np.random.default_rng(0).uniform(0.05, 0.95, (INPUTS, INPUTS)), jnp.float32)


@contract
def test_shapes_and_dtypes(net, build, hyper, x_bd):
    autoencoder, init, loss_and_gradients = made(net, build)
    params = init(jax.random.key(0))
    z_bk = jax.eval_shape(autoencoder.encode, params, x_bd)
    reconstruction_bd = jax.eval_shape(autoencoder.decode, params, z_bk)
    (loss, metrics), _ = loss_and_gradients(params, x_bd, hyper)
    assert (z_bk.shape, z_bk.dtype) == ((INPUTS, 3), jnp.float32)
    assert (reconstruction_bd.shape, reconstruction_bd.dtype) == (x_bd.shape, jnp.float32)
    assert (loss.shape, loss.dtype) == ((), jnp.float32)
    assert {"error", autoencoder.criterion, *autoencoder.recorded_metrics} <= set(metrics)
    assert all(value.shape == () for name, value in metrics.items() if name != "memory")
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(params))


@contract
def test_equal_keys_give_equal_values_and_other_keys_other_values(net, build, hyper, x_bd):
    _, init, loss_and_gradients = made(net, build)
    first, again, other = (init(jax.random.key(seed)) for seed in (5, 5, 6))
    assert jax.tree.all(jax.tree.map(lambda a, b: bool(np.array_equal(a, b)), first, again))
    assert not jax.tree.all(jax.tree.map(lambda a, b: bool(np.array_equal(a, b)), first, other))
    values = [loss_and_gradients(params, x_bd, hyper)[0][0] for params in (first, again, other)]
    assert values[0] == values[1] != values[2]


@contract
def test_every_parameter_gets_a_gradient(net, build, hyper, x_bd):
    _, init, loss_and_gradients = made(net, build)
    _, gradients = loss_and_gradients(init(jax.random.key(0)), x_bd, hyper)
    memory = gradients.pop("memory", {})
    assert not any(np.any(gradient) for gradient in jax.tree.leaves(memory)), "memory is not trained"
    for path, gradient in jax.tree_util.tree_leaves_with_path(gradients):
        assert np.isfinite(gradient).all(), path
        assert np.any(gradient), path


@once
def test_loss_falls_and_the_second_fit_compiles_nothing(net, build, hyper):
    autoencoder = build(net())
    dataset = small_dataset(inputs=INPUTS)
    smaller_last_batch = net in ODD_NETS.values() or "error" in getattr(build, "keywords", {})
    settings = {"epochs": 9, "batch_size": 16 if smaller_last_batch else 24, "learning_rate": 0.01, **hyper}
    first = train.fit(autoencoder, dataset, seed=0, **settings)
    with compiles() as count:
        second = train.fit(build(net()), dataset, seed=1, **settings)
    assert count() == 0
    for fit in (first, second):
        assert fit.status == "completed"
        assert fit.history["train_loss"][-1] < fit.history["train_loss"][0]
    assert not np.array_equal(first.history["train_loss"], second.history["train_loss"])


def check_finite_at_1e4(net, build, hyper, sign, part):
    """Loss and gradients are finite for constant and one-hot inputs when the last bias of a part is +1e4 or -1e4."""
    _, init, loss_and_gradients = made(net, build)
    params = init(jax.random.key(0))
    last = f"layer_{len(params[part]) - 1}" if part == "decoder" else list(params[part])[-1]
    bias = {"bias": jnp.full_like(params[part][last]["bias"], sign * 1e4)}
    extreme = {**params, part: {**params[part], last: {**params[part][last], **bias}}}
    if "idle" in params.get("memory", {}):  # every unit is dead, so their revival is part of the loss
        extreme["memory"] = {**params["memory"], "idle": jnp.full_like(params["memory"]["idle"], 500.0)}
    for x_bd in (jnp.zeros((INPUTS, INPUTS)), jnp.ones((INPUTS, INPUTS)), jnp.eye(INPUTS)):
        (value, _), gradients = loss_and_gradients(extreme, x_bd, hyper)
        assert np.isfinite(value)
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradients))


@contract
@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("part", ["decoder", "encoder"])
def test_losses_are_finite_for_logits_of_1e4_and_constant_or_one_hot_inputs(net, build, hyper, part, sign):
    """The large bias is in the last layer of the decoder, or of the encoder before an activation or a gate."""
    check_finite_at_1e4(net, build, hyper, sign, part)


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("name", WITH_A_LIKELIHOOD_OF_THEIR_OWN)
def test_losses_are_finite_for_log_variances_of_1e4(name, sign):
    build, hyper = VARIANTS[name]
    check_finite_at_1e4(NETS["stacked"], build, hyper, sign, "posterior")


@each_variant
def test_unknown_or_missing_hyper_parameters_are_named_before_anything_compiles(net, build, hyper):
    autoencoder = build(net())
    dataset = small_dataset(inputs=INPUTS)
    settings = {"seed": 0, "epochs": 1, "batch_size": 16, "learning_rate": 0.01, **hyper}
    with compiles() as count:
        with pytest.raises(ConfigError, match=r"hyper\.l22: .*did you mean l2\?"):
            train.fit(autoencoder, dataset, **settings, l22=1.0)
        with pytest.raises(ConfigError, match=r"hyper\.l2: missing"):
            train.fit(autoencoder, dataset, **{k: v for k, v in settings.items() if k != "l2"})
    assert count() == 0


def test_every_variant_is_in_the_table():
    assert {getattr(build, "func", build) for build, _ in VARIANTS.values()} == set(variants.VARIANTS.values())


def test_every_variant_and_net_is_built_once_for_equal_arguments():
    """`build_once` is tested in test_memoise: it also keeps 1 and True apart."""
    wrapper = build_once(abs).__code__  # pyright: ignore[reportFunctionMemberAccess]
    builders: list[Any] = [*variants.VARIANTS.values(), nets.tied]
    builders += [inspect.getattr_static(net, "__wrapped__") for net in nets.NETS.values()]
    assert all(builder.__code__ is wrapper for builder in builders)
    for build, _ in VARIANTS.values():
        net = NETS["linear"]
        assert build(net()) is build(net())


@pytest.mark.slow
@pytest.mark.parametrize("name", EACH)
def test_a_population_trains_under_one_vmap(name):
    """The members differ in seed and in every hyper-parameter, all of which are traced."""
    build, hyper = VARIANTS[name]
    autoencoder = build(NETS[net_of(name)]())
    dataset = small_dataset(inputs=INPUTS)
    points: list[dict[str, Any]] = [
        {"learning_rate": 0.01 * (1 + seed), **{n: v * (1 + seed) / 2 for n, v in hyper.items()}} for seed in (0, 1)
    ]
    settings: dict[str, Any] = {"epochs": 2, "batch_size": 24}
    fits = train.fit_population(autoencoder, dataset, [*enumerate(points)], **settings, how="vmap", width=2).fits
    alone = train.fit(autoencoder, dataset, seed=1, **settings, **points[1])
    assert [fit.status for fit in fits] == ["completed"] * 2
    np.testing.assert_allclose(fits[1].history["train_loss"], alone.history["train_loss"], rtol=1e-3)
    assert not np.array_equal(fits[0].history["train_loss"], fits[1].history["train_loss"])


MASKED = {name: hyper for name, (_, _, hyper) in (ON_ANY_NET | ON_DICTIONARIES).items()}
del MASKED["matryoshka"]  # its prefixes depend on the number of codings, and it cannot be masked
MASKED["hashing"] = {"noise": 0.0, "l2": 1e-3}  # the noise has the shape of the codings


@pytest.mark.parametrize("name", MASKED)
def test_a_masked_loss_is_that_of_the_smaller_net(name, x_bd):
    """A net of five codings, two of them masked, has the loss and the metrics of the net sliced to three codings."""
    build = VARIANTS[name][0]
    hidden = () if name in ON_DICTIONARIES else (8,)
    wide, small = (build(nets.mlp(INPUTS, (*hidden, codings))) for codings in (5, 3))
    params = wide.init(jax.random.key(0), jnp.asarray(3))
    if "idle" in params.get("memory", {}):
        params["memory"]["idle"] = jnp.asarray([0.0, 500.0, 0.0, 500.0, 500.0])  # one dead unit is not masked
    progress = {"progress": 0.5} if "progress" in variants.keyword_names(wide.loss) else {}
    masked, metrics = wide.loss(params, jax.random.key(1), x_bd, **MASKED[name], **progress)
    smaller = nets.slice_codings(params, wide.coding_axes, 3)
    expected, other = small.loss(smaller, jax.random.key(1), x_bd, **MASKED[name], **progress)
    np.testing.assert_allclose(masked, expected, rtol=1e-5)
    for metric in metrics.keys() - {"memory"}:
        np.testing.assert_allclose(metrics[metric], other[metric], rtol=1e-5, atol=1e-7, err_msg=metric)


def test_a_gate_needs_biases():
    with pytest.raises(ConfigError, match="bias"):
        variants.gated(nets.mlp(INPUTS, (3,), bias=False))


def test_cross_entropy_needs_a_sigmoid():
    with pytest.raises(ConfigError, match="sigmoid"):
        variants.plain(nets.mlp(INPUTS, (3,)), error=cross_entropy)
