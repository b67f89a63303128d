"""Greedy pretraining of a stack: one shallow autoencoder at a time. Training of the whole net starts from the result.

A stack of L encoder layers and their mirror is L pairs: encoder layer i and the decoder layer that mirrors it, the
outermost pair first. Phase i trains pair i to reconstruct h_i, the output of encoder layer i - 1 (h_0 is the data). The
layers outside pair i are frozen, so h_i is computed once and kept, in float32. Each phase keeps the parameters of its
best epoch by validation error. Each decoder layer is followed by the activation it has in the whole net: the output
activation in the first pair, the hidden activation in the others.

`way="separate"`: every pair is a shallow autoencoder with initial parameters of its own; the stack is assembled
afterwards. `way="inner"`: the whole net exists from the start, and phase i trains two of its layers to match a hidden
layer while all others are frozen. The mathematics of a phase is the same; the initial parameters differ.

Hinton & Salakhutdinov 2006; Bengio et al. 2007; Géron, *Hands-On Machine Learning*, "Training one autoencoder at a
time".
"""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from aejax import nets, variants
from aejax.datasets.base import Dataset
from aejax.nets import Activation, Params
from aejax.runtime import validate
from aejax.runtime.errors import ConfigError, suggest
from aejax.training import train
from aejax.training.layout import Runs
from aejax.training.loop import Fit, Initialiser, InitialParams, Optimiser, ProgressCallback, init_key
from aejax.variants import Autoencoder, penalties

WAYS = ("separate", "inner")
MOST_EPOCHS = 10_000_000
CACHE_ROWS = 8192
_PHASES = 4  # the key of a seed is folded with this for its phases; `loop` folds it with 0 to 3


@dataclass(frozen=True, kw_only=True)
class Greedy:
    """How the phases are trained: epochs of each, learning rate of Adam, L2 weight of each pair's kernels, the way.

    Phases are plain autoencoders, whatever the variant of the whole net; a summary says so. Batch size and schedule are
    those of the training that follows. Raises ConfigError naming the field.
    """

    epochs: int
    learning_rate: float
    l2: float = 0.0
    way: str = "separate"

    def __post_init__(self) -> None:
        validate.whole_number("Greedy.epochs", self.epochs, minimum=1, maximum=MOST_EPOCHS)
        for name in ("learning_rate", "l2"):
            value = validate.number(f"Greedy.{name}", getattr(self, name), positive=name == "learning_rate")
            object.__setattr__(self, name, value + 0.0)
        if self.way not in WAYS:
            raise ConfigError("Greedy.way", repr(self.way), suggest(str(self.way), WAYS))

    def config(self) -> dict[str, Any]:
        """The fields as JSON values."""
        return {"name": "greedy", **dataclasses.asdict(self)}

    def smoke(self) -> Greedy:
        """The same with one epoch a phase."""
        return dataclasses.replace(self, epochs=1)


def from_config(config: Mapping[str, Any] | None) -> Greedy | None:
    """The pretraining of a stored config, None where it has none."""
    return None if config is None else Greedy(**{name: value for name, value in config.items() if name != "name"})


class Stack(NamedTuple):
    """A net of dense layers and its mirror as `nets.mlp` takes it, with output activation and error."""

    inputs: int
    widths: tuple[int, ...]
    tied: bool = False
    activation: Activation = jax.nn.elu
    coding_activation: Activation = nets.identity
    output: Activation = nets.identity
    error: Callable[[jax.Array, jax.Array], jax.Array] = penalties.squared_error
    precision: str = "default"

    @property
    def layers(self) -> int:
        """Number of pairs."""
        return len(self.widths)

    def net(self) -> nets.Net:
        """The whole net."""
        return self._mlp(self.inputs, self.widths, self.coding_activation)

    def shallow(self, i: int) -> Autoencoder:
        """The plain autoencoder of pair i alone, on rows h_i. The same stack gives the same record."""
        last = i == self.layers - 1
        net = self._mlp(
            (self.inputs, *self.widths)[i], self.widths[i : i + 1], self.coding_activation if last else self.activation
        )
        if i == 0:
            return variants.plain(net, output=self.output, error=self.error)
        return variants.plain(net, output=self.activation)

    def _mlp(self, inputs: int, widths: tuple[int, ...], coding_activation: Activation) -> nets.Net:
        net = nets.mlp(
            inputs, widths, activation=self.activation, coding_activation=coding_activation, precision=self.precision
        )
        return nets.tied(net) if self.tied else net


def pair(params: Params, i: int) -> Params:
    """The parameters of shallow autoencoder i, out of those of a stack."""
    return {part: {"layer_0": params[part][name]} for part, name in _places(params, i)}


def with_pair(params: Params, i: int, new: Params) -> Params:
    """The parameters of a stack with those of shallow autoencoder i replaced; all others are the same arrays."""
    changed = {part: {**params[part], name: new[part]["layer_0"]} for part, name in _places(params, i)}
    return {**params, **changed}


@functools.lru_cache(maxsize=256, typed=True)
def inner(stack: Stack, i: int) -> Autoencoder:
    """Phase i as an autoencoder with the whole net's parameters: the loss of pair i, with zero gradients elsewhere."""
    net = stack.net()
    shallow = stack.shallow(i)
    axes = net.coding_axes if i == stack.layers - 1 else ()

    def encode(params: Params, h_bd: jax.Array) -> jax.Array:
        return shallow.encode(pair(params, i), h_bd)

    def decode(params: Params, z_bk: jax.Array) -> jax.Array:
        return shallow.decode(pair(params, i), z_bk)

    def loss(params: Params, key: jax.Array, h_bd: jax.Array, *, l2: jax.Array):
        return shallow.loss(pair(params, i), key, h_bd, l2=l2)

    return Autoencoder(net.init, encode, decode, loss, axes)


@functools.lru_cache(maxsize=256, typed=True)
def only_pair(layers: int, i: int) -> Optimiser:
    """Adam for pair i of a stack of so many layers; all other parameters are frozen."""

    def labels(params: Params) -> Params:
        marked = jax.tree.map(lambda _: "frozen", params)
        return with_pair(marked, i, jax.tree.map(lambda _: "trained", pair(params, i)))

    def optimiser(schedule: optax.Schedule) -> optax.GradientTransformation:
        return optax.multi_transform({"trained": optax.adam(schedule), "frozen": optax.set_to_zero()}, labels)

    return optimiser


class Phases(NamedTuple):
    """The result of all phases: parameters of the whole net, all NaN where a phase diverged, and the fit of each phase.

    `caching_seconds` is the time that computing the outputs of frozen layers took.
    """

    params: Params
    fits: list[Fit]
    caching_seconds: float


def phase_seed(seed: int, i: int) -> int:
    """The seed of phase i. Its randomness differs from that of other phases and of the training that follows."""
    key = jax.random.fold_in(jax.random.fold_in(train.make_key(seed), _PHASES), i)
    return int(jax.random.bits(key))


def train_phases(
    greedy: Greedy,
    stack: Stack,
    initial: Params,
    dataset: Dataset,
    *,
    seed: int,
    codings: int | None = None,
    **options: Any,
) -> Phases:
    """Train every pair in turn. `initial` are parameters of the whole net; "inner" trains the pairs from them.

    With `codings` the last pair has that many codings, and zeros for the others. No phase follows one that diverged.
    `options` are `batch_size` and other arguments of `train.fit`.
    """
    rows = dataset
    fits: list[Fit] = []
    caching_seconds = 0.0
    options |= {"epochs": greedy.epochs, "learning_rate": greedy.learning_rate, "l2": greedy.l2}
    whole = {part: initial[part] for part in ("encoder", "decoder")}
    for i in range(stack.layers):
        autoencoder = stack.shallow(i)
        if codings is not None and i == stack.layers - 1:
            options["codings"] = codings
        if greedy.way == "separate":
            fit = train.fit(autoencoder, rows, seed=phase_seed(seed, i), **options)
            pair_params = fit.params
        else:
            inner_options = {"start": train.start_from(whole), "optimiser": only_pair(stack.layers, i)}
            fit = train.fit(inner(stack, i), rows, seed=phase_seed(seed, i), **inner_options, **options)
            pair_params = pair(fit.params, i)
        fits.append(fit)
        if fit.status != "completed":
            return Phases(jax.tree.map(lambda leaf: np.full_like(leaf, np.nan), initial), fits, caching_seconds)
        whole = with_pair(whole, i, jax.tree.map(_pad_codings, pair_params, pair(whole, i)))
        if i < stack.layers - 1:
            began = time.perf_counter()
            rows = encode_dataset(autoencoder, pair(whole, i), rows)
            caching_seconds += time.perf_counter() - began
    return Phases({**initial, **jax.tree.map(np.asarray, whole)}, fits, caching_seconds)


def encode_dataset(autoencoder: Autoencoder, params: Params, dataset: Dataset) -> Dataset:
    """The dataset with training and validation rows replaced by their codings, as float32."""

    def codings(x_nd: np.ndarray) -> np.ndarray:
        blocks = range(0, len(x_nd), CACHE_ROWS)
        return np.concatenate([_encode(autoencoder, params, x_nd[i : i + CACHE_ROWS], dataset.unit) for i in blocks])

    parts = {f"x_{split}": codings(getattr(dataset, f"x_{split}")) for split in ("train", "validation")}
    return dataclasses.replace(dataset, **parts, unit=1.0, image_shape=None)


def start(greedy: Greedy, stack: Stack, autoencoder: Autoencoder, dataset: Dataset, **options: Any) -> Initialiser:
    """An initialiser for `fit_population(start=…)`: every member begins with the result of the phases of its seed.

    Members with one seed and number of codings share it, whatever their other hyper-parameters. Further parameters of a
    variant (heads, memory) begin as they do without pretraining. A member with a phase that diverged begins with NaN
    and so diverges. `options` are those of `train_phases`.
    """

    def begin(runs: Runs, report: ProgressCallback | None) -> InitialParams:
        phases: dict[tuple[int, int | None], Phases] = {}
        init = jax.jit(autoencoder.init)
        members = [(seed, int(hyper["codings"]) if "codings" in hyper else None) for seed, hyper in runs]
        for seed, codings in dict.fromkeys(members):
            masked = () if codings is None else (np.float32(codings),)
            initial = jax.tree.map(np.asarray, init(init_key(train.make_key(seed)), *masked))
            phases[seed, codings] = train_phases(
                greedy, stack, initial, dataset, seed=seed, codings=codings, report=report, **options
            )
        train_seconds = 0.0
        compile_seconds = 0.0
        for result in phases.values():
            train_seconds += sum(fit.train_seconds for fit in result.fits) + result.caching_seconds
            compile_seconds = max(compile_seconds, sum(fit.compile_seconds for fit in result.fits))
        return InitialParams([phases[member].params for member in members], train_seconds, compile_seconds)

    return begin


def stack_of(sweep: Any, inputs: int) -> Stack:
    """The stack of a Sweep for rows of so many inputs."""
    return Stack(inputs, sweep.widths, **{name: getattr(sweep, name) for name in Stack._fields[2:]})


def diverged(fit: Fit) -> bool:
    """Whether a phase before this fit diverged: the initial parameters were NaN then."""
    return fit.bad_step == 0 and any(np.isnan(leaf).any() for leaf in jax.tree.leaves(fit.last_params))


@functools.partial(jax.jit, static_argnames=("autoencoder", "unit"))
def _encode(autoencoder: Autoencoder, params: Params, x_bd: jax.Array, unit: float) -> jax.Array:
    return autoencoder.encode(params, x_bd.astype(jnp.float32) / unit)


def _pad_codings(leaf: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """The array with zeros for the codings that were not trained, in the shape of `whole`."""
    return np.pad(leaf, [(0, most - size) for size, most in zip(leaf.shape, whole.shape, strict=True)])


def _places(params: Params, i: int) -> tuple[tuple[str, str], ...]:
    """Part and layer name of both layers of pair i."""
    return ("encoder", f"layer_{i}"), ("decoder", f"layer_{len(params['encoder']) - 1 - i}")
