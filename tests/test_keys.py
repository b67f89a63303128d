"""Random keys, recorded while programs run: no step, epoch, seed or phase uses the key of another."""

import collections

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aejax import nets, variants
from aejax.training import greedy, train
from aejax.training.layout import make_layout, place_data
from aejax.training.loop import fit_program
from every_variant import EACH, INPUTS, NETS, VARIANTS, net_of
from support import small_dataset

DATASET = small_dataset(rows=50, inputs=INPUTS)
SEEDS = (0, 1, 5)
EPOCHS = 3
BATCH_SIZE = 16
STEPS_PER_EPOCH = 4
HYPER = {"learning_rate": 0.01, "l2": 0.0}


class Recorder:
    """Keys by what they were used for, in the order of their use."""

    def __init__(self):
        self.keys = collections.defaultdict(list)

    def record(self, use, key, **numbers):
        """Note this key, as two words, when the compiled program comes to it."""

        def note(data, **numbers):
            name = "validation" if numbers.get("progress") == 1.0 else use
            self.keys[name].append(tuple(np.asarray(data).tolist()))

        jax.debug.callback(note, jax.random.key_data(key), **numbers)

    def watch(self, autoencoder):
        """The same autoencoder; the keys of its `init` and its `loss` are recorded."""

        def init(key, *codings):
            self.record("init", key)
            return autoencoder.init(key, *codings)

        def loss(params, key, x_bd, *, l2, progress):
            self.record("step", key, progress=progress)
            return autoencoder.loss(params, key, x_bd, l2=l2)

        return autoencoder._replace(init=init, loss=loss)


@pytest.fixture
def recorder(monkeypatch):
    recorder = Recorder()
    permutation = jax.random.permutation

    def recorded(key, rows):
        recorder.record("order", key)
        return permutation(key, rows)

    monkeypatch.setattr(jax.random, "permutation", recorded)
    return recorder


@pytest.mark.parametrize("how", ["loop", "map", "vmap"])
def test_every_step_and_every_epoch_of_every_seed_has_a_key_of_its_own(recorder, how):
    autoencoder = recorder.watch(variants.plain(nets.mlp(INPUTS, (3,))))
    runs = [(seed, HYPER) for seed in SEEDS]
    train.fit_population(autoencoder, DATASET, runs, epochs=EPOCHS, batch_size=BATCH_SIZE, how=how)
    jax.effects_barrier()
    keys = recorder.keys
    assert len(keys["init"]) == len(set(keys["init"])) == len(SEEDS)
    assert len(set(keys["order"])) == len(SEEDS) * EPOCHS  # a chunk that starts within an epoch draws its order again
    assert len(keys["step"]) == len(set(keys["step"])) == len(SEEDS) * EPOCHS * STEPS_PER_EPOCH
    assert set(collections.Counter(keys["validation"]).values()) == {EPOCHS}  # so that epochs can be compared
    assert len(set(keys["validation"])) == len(SEEDS)
    assert len(set().union(*keys.values())) == sum(len(set(uses)) for uses in keys.values())


def test_two_members_of_one_seed_have_the_same_keys(recorder):
    """They differ in a hyper-parameter alone: what differs between their results is its effect."""
    autoencoder = recorder.watch(variants.plain(nets.mlp(INPUTS, (3,))))
    runs = [(0, {**HYPER, "learning_rate": rate}) for rate in (0.01, 0.02)]
    train.fit_population(autoencoder, DATASET, runs, epochs=EPOCHS, batch_size=BATCH_SIZE, how="vmap")
    jax.effects_barrier()
    for use in ("init", "step"):
        assert set(collections.Counter(recorder.keys[use]).values()) == {2}, use


@pytest.mark.parametrize("way", ["separate", "inner"])
def test_every_phase_of_greedy_training_has_a_seed_of_its_own(monkeypatch, way):
    seeds = []
    fit = train.fit

    def recorded(*arguments, seed, **options):
        seeds.append(seed)
        return fit(*arguments, seed=seed, **options)

    monkeypatch.setattr(train, "fit", recorded)
    stack = greedy.Stack(INPUTS, (8, 3))
    phases = greedy.Greedy(way=way, epochs=1, learning_rate=0.01, l2=0.0)
    initial = stack.net().init(jax.random.key(0))
    for seed in SEEDS:
        greedy.train_phases(phases, stack, initial, DATASET, seed=seed, batch_size=BATCH_SIZE)
    assert len(seeds) == len(set(seeds)) == len(SEEDS) * stack.layers
    assert not set(seeds) & set(SEEDS)


def trace(autoencoder, hyper):
    """Trace a fit of this autoencoder; JAX raises an error where a key is used twice."""
    program = fit_program(autoencoder, rows=50, batch_size=BATCH_SIZE, epochs=EPOCHS, unit=DATASET.unit)
    hyper = {name: jnp.float32(value) for name, value in {"learning_rate": 0.01, **hyper}.items()}
    data = place_data(DATASET, make_layout("loop", 1, devices=1))
    with jax.debug_key_reuse(True):
        jax.jit(program.fit).lower(jax.random.key(0), data, hyper)


@pytest.mark.parametrize("name", EACH)
def test_no_step_uses_a_key_twice(name):
    build, hyper = VARIANTS[name]
    trace(build(NETS[net_of(name)]()), hyper)


def test_a_key_that_is_used_twice_is_seen():
    """The control of the test above."""
    plain = variants.plain(NETS["linear"]())

    def loss(params, key, x_bd, *, l2):
        noise_bd = jax.random.normal(key, x_bd.shape) + jax.random.uniform(key, x_bd.shape)
        return plain.loss(params, key, x_bd + noise_bd, l2=l2)

    with pytest.raises(jax.errors.KeyReuseError):
        trace(plain._replace(loss=loss), {"l2": 0.0})
