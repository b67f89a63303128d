"""One contract over one table: every variant on every net it is meant for."""

import functools
import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aejax import nets, train, variants
from aejax.errors import ConfigError
from aejax.penalties import cross_entropy
from support import compiles, small_dataset

INPUTS = 12
NETS = {
    "linear": lambda: nets.mlp(INPUTS, (3,)),
    "stacked": lambda: nets.mlp(INPUTS, (8, 3)),
    "deep": lambda: nets.mlp(INPUTS, (9, 7, 5, 3), activation=jax.nn.gelu, coding_activation=jax.nn.tanh),
}
NETS |= {f"tied {name}": (lambda build=build: nets.tied(build())) for name, build in NETS.items()}
ODD_NETS = {
    "overlong": lambda: nets.mlp(INPUTS, (6, 3), decoder_widths=(10, 7)),
    "precise": lambda: nets.mlp(INPUTS, (8, 3), precision="highest"),
    "tied convolutional": lambda: nets.tied(nets.conv(INPUTS, (4, 3), image_shape=(2, 2, 3))),
    "recurrent": lambda: nets.recurrent(INPUTS, (8, 3), image_shape=(3, 4)),
    "one-layer decoder": lambda: nets.mlp(INPUTS, (8, 3), decoder_widths=()),
}
VARIANTS = {
    "plain": (lambda net: variants.plain(net), {"l2": 1e-3}),
    "plain sigmoid": (lambda net: variants.plain(net, output=jax.nn.sigmoid), {"l2": 0.0}),
    "plain cross-entropy": (lambda net: variants.plain(net, output=jax.nn.sigmoid, error=cross_entropy), {"l2": 1e-4}),
    "denoising": (lambda net: variants.denoising(net), {"level": 0.5, "l2": 1e-3}),
    "denoising salt and pepper": (
        lambda net: variants.denoising(net, output=jax.nn.sigmoid, error=cross_entropy, noise="salt_and_pepper"),
        {"level": 0.3, "l2": 1e-3},
    ),
    "variational": (
        lambda net: variants.variational(net),
        {"beta": 1.0, "warmup": 0.5, "free_bits": 0.01, "sigma": 0.5, "l2": 1e-3},
    ),
    "variational cross-entropy": (
        lambda net: variants.variational(net, output=jax.nn.sigmoid, error=cross_entropy, binarise=True),
        {"beta": 1.0, "warmup": 0.0, "free_bits": 0.0, "l2": 1e-3},
    ),
    "variational learned": (
        lambda net: variants.variational(net, variance="learned"),
        {"beta": 1.0, "warmup": 0.0, "free_bits": 0.0, "l2": 1e-3},
    ),
    "variational optimal": (
        lambda net: variants.variational(net, variance="optimal", output=jax.nn.sigmoid, samples=2),
        {"beta": 0.5, "warmup": 0.0, "l2": 1e-3},
    ),
    "hashing": (
        lambda net: variants.hashing(net, output=jax.nn.sigmoid, error=cross_entropy),
        {"noise": 1, "l2": 1e-3},
    ),
    "kl_sparse": (
        lambda net: variants.kl_sparse(net, output=jax.nn.sigmoid, error=cross_entropy),
        {"sparsity": 1e-3, "target": 0.2, "l2": 1e-3},
    ),
    "l1_sparse": (lambda net: variants.l1_sparse(net), {"l1": 1e-3, "l2": 1e-3}),
    "topk": (lambda net: variants.topk(net, dead_after=2), {"active": 2.0, "revive": 0.03, "l2": 1e-3}),
    "topk cross-entropy": (
        lambda net: variants.topk(net, output=jax.nn.sigmoid, error=cross_entropy),
        {"active": 2.0, "revive": 0.03, "l2": 0.0},
    ),
    "batch_topk": (lambda net: variants.batch_topk(net, dead_after=2), {"active": 2.0, "revive": 0.03, "l2": 1e-3}),
    "jump_relu": (lambda net: variants.jump_relu(net), {"l0": 1e-3, "bandwidth": 0.5, "l2": 1e-3}),
    "gated": (lambda net: variants.gated(net), {"l1": 1e-3, "l2": 1e-3}),
    "matryoshka": (lambda net: variants.matryoshka(net), {"active": 2.0, "revive": 0.03, "l2": 1e-3}),
    "contractive": (lambda net: variants.contractive(net), {"contraction": 1e-3, "l2": 1e-3}),
    "nonuniform L2": (lambda net: variants.nonuniform_l2(net), {"l2": 1e-3, "l2_spread": 1e-2}),
    "nested dropout": (lambda net: variants.nested_dropout(net), {"continuation": 0.7, "l2": 1e-3}),
    "nested dropout sampled": (
        lambda net: variants.nested_dropout(net, prefixes="sampled", output=jax.nn.sigmoid, error=cross_entropy),
        {"continuation": 0.7, "l2": 1e-3},
    ),
    "rotation-augmented": (lambda net: variants.rotation_augmented(net), {"rotation": 1.0, "l2": 1e-3}),
    "marginalised masking": (
        lambda net: variants.marginalised_denoising(net, noise="masking"),
        {"level": 0.3, "l2": 1e-3},
    ),
}
ON_AFFINE_NETS = ("marginalised masking",)
PLAIN = [name for name in VARIANTS if name.startswith("plain")]
ON_ONE_NET = {
    "variational": "tied stacked",
    "variational cross-entropy": "stacked",
    "variational learned": "linear",
    "variational optimal": "stacked",
    "kl_sparse": "tied stacked",
}
DICTIONARIES = {  # these want a decoder of one dense layer
    "l1_sparse": "tied linear",
    "topk": "one-layer decoder",
    "topk cross-entropy": "tied linear",
    "batch_topk": "linear",
    "jump_relu": "tied linear",
    "gated": "linear",
    "matryoshka": "linear",
}
ON_ONE_NET |= DICTIONARIES
PAIRS = [*itertools.product(NETS, PLAIN), *((net, "plain") for net in ODD_NETS if net != "one-layer decoder")]
PAIRS += itertools.product(
    ("stacked", "tied stacked"), [name for name in VARIANTS if name not in (*PLAIN, *ON_ONE_NET, *ON_AFFINE_NETS)]
)
PAIRS += itertools.product(("linear", "tied linear"), (*ON_AFFINE_NETS, "nested dropout"))
PAIRS += [(net, name) for name, net in ON_ONE_NET.items()]
TABLE = [pytest.param((NETS | ODD_NETS)[net], *VARIANTS[name], id=f"{net} × {name}") for net, name in PAIRS]
contract = pytest.mark.parametrize(("net", "build", "hyper"), TABLE)


@functools.cache
def initial(autoencoder, seed=0):
    """Starting parameters."""
    return jax.jit(autoencoder.init)(jax.random.key(seed))


def loss_of(autoencoder, hyper):
    """(params, x_bd) -> loss and metrics, halfway through training."""
    progress = {"progress": 0.5} if "progress" in variants.keywords(autoencoder.loss) else {}
    return lambda params, x_bd: autoencoder.loss(params, jax.random.key(1), x_bd, **hyper, **progress)


@pytest.fixture
def x_bd():
    return jnp.asarray(np.random.default_rng(0).uniform(0.05, 0.95, (16, INPUTS)), jnp.float32)


@contract
def test_shapes_and_dtypes(net, build, hyper, x_bd):
    autoencoder = build(net())
    params = initial(autoencoder)
    z_bk = autoencoder.encode(params, x_bd)
    reconstruction_bd = autoencoder.decode(params, z_bk)
    loss, metrics = loss_of(autoencoder, hyper)(params, x_bd)
    assert (z_bk.shape, z_bk.dtype) == ((16, 3), jnp.float32)
    assert (reconstruction_bd.shape, reconstruction_bd.dtype) == (x_bd.shape, jnp.float32)
    assert (loss.shape, loss.dtype) == ((), jnp.float32)
    assert {"error", autoencoder.criterion, *autoencoder.watched} <= set(metrics)
    assert all(value.shape == () for name, value in metrics.items() if name != "memory")
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(params))


@contract
def test_same_key_same_answer_and_other_key_another(net, build, hyper, x_bd):
    autoencoder = build(net())
    init = jax.jit(autoencoder.init)
    first, again, other = (init(jax.random.key(seed)) for seed in (5, 5, 6))
    assert jax.tree.all(jax.tree.map(lambda a, b: bool((a == b).all()), first, again))
    assert not jax.tree.all(jax.tree.map(lambda a, b: bool((a == b).all()), first, other))
    values = [loss_of(autoencoder, hyper)(first, x_bd)[0] for _ in range(2)]
    assert values[0] == values[1]


@contract
def test_every_parameter_gets_a_gradient(net, build, hyper, x_bd):
    autoencoder = build(net())
    params = initial(autoencoder)
    gradients = jax.grad(lambda p: loss_of(autoencoder, hyper)(p, x_bd)[0])(params)
    remembered = gradients.pop("memory", {})
    assert not any(np.any(gradient) for gradient in jax.tree.leaves(remembered)), "memory is not trained"
    for path, gradient in jax.tree_util.tree_leaves_with_path(gradients):
        assert np.isfinite(gradient).all(), path
        assert np.any(gradient), path


@contract
def test_loss_falls_and_the_second_fit_compiles_nothing(net, build, hyper):
    autoencoder, dataset = build(net()), small_dataset(inputs=INPUTS)
    settings = {"epochs": 6, "batch_size": 16, "learning_rate": 0.01, **hyper}
    first = train.fit(autoencoder, dataset, seed=0, **settings)
    with compiles() as count:
        second = train.fit(build(net()), dataset, seed=1, **settings)
    assert count() == 0
    for fit in (first, second):
        assert fit.status == "completed"
        assert fit.history["train_loss"][-1] < fit.history["train_loss"][0]
    assert not np.array_equal(first.history["train_loss"], second.history["train_loss"])


@contract
@pytest.mark.parametrize("sign", [1, -1])
def test_losses_are_finite_for_outputs_of_1e4_and_constant_or_one_hot_inputs(net, build, hyper, sign):
    autoencoder = build(net())
    params = initial(autoencoder)
    last = f"layer_{len(params['decoder']) - 1}"
    bias = {"bias": jnp.full_like(params["decoder"][last]["bias"], sign * 1e4)}  # outputs, or logits, of about ±1e4
    extreme = {**params, "decoder": {**params["decoder"], last: {**params["decoder"][last], **bias}}}
    loss = jax.value_and_grad(lambda p, x: loss_of(autoencoder, hyper)(p, x)[0])
    for x_bd in (jnp.zeros((4, INPUTS)), jnp.ones((4, INPUTS)), jnp.eye(INPUTS)):
        value, gradients = loss(extreme, x_bd)
        assert np.isfinite(value)
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradients))


@contract
def test_unknown_or_missing_hyper_parameters_are_named_before_anything_compiles(net, build, hyper):
    autoencoder, dataset = build(net()), small_dataset(inputs=INPUTS)
    settings = {"seed": 0, "epochs": 1, "batch_size": 16, "learning_rate": 0.01, **hyper}
    with compiles() as count:
        with pytest.raises(ConfigError, match=r"hyper\.l22: .*did you mean l2\?"):
            train.fit(autoencoder, dataset, **settings, l22=1.0)
        with pytest.raises(ConfigError, match=r"hyper\.l2: missing"):
            train.fit(autoencoder, dataset, **{k: v for k, v in settings.items() if k != "l2"})
    assert count() == 0


@pytest.mark.parametrize("name", VARIANTS)
def test_a_population_trains_under_one_vmap(name):
    """Members with other seeds and other hyper-parameters, every one of them traced."""
    (build, hyper), net = VARIANTS[name], NETS["linear" if name in (*DICTIONARIES, *ON_AFFINE_NETS) else "stacked"]()
    autoencoder, dataset = build(net), small_dataset(inputs=INPUTS)
    points: list[dict[str, Any]] = [
        {"learning_rate": 0.01 * (1 + seed), **{n: v * (1 + seed) / 2 for n, v in hyper.items()}} for seed in (0, 1)
    ]
    settings: dict[str, Any] = {"epochs": 2, "batch_size": 24}
    fits = train.fit_population(autoencoder, dataset, [*enumerate(points)], **settings, how="vmap", width=2).fits
    alone = train.fit(autoencoder, dataset, seed=1, **settings, **points[1])
    assert [fit.status for fit in fits] == ["completed"] * 2
    np.testing.assert_allclose(fits[1].history["train_loss"], alone.history["train_loss"], rtol=1e-3)
    assert not np.array_equal(fits[0].history["train_loss"], fits[1].history["train_loss"])


def test_cross_entropy_needs_a_sigmoid():
    with pytest.raises(ConfigError, match="sigmoid"):
        variants.plain(nets.mlp(INPUTS, (3,)), error=cross_entropy)
