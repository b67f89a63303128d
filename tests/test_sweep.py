"""`Sweep`, `--set` and experiment files: checks, identity, and one-line errors with field, value and fix."""

import dataclasses
import inspect
import json
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from aejax import nets, variants
from aejax.config import experiment_file, overrides, run_identity
from aejax.config.sweep import Sweep, check_all, from_config
from aejax.runtime.errors import ConfigError, DataError
from aejax.training import greedy, optimisers, schedules
from aejax.variants.penalties import cross_entropy
from support import small_dataset

GOOD = {
    "dataset": "digits",
    "widths": (8, 3),
    "epochs": 2,
    "batch_size": 32,
    "hyper": {"learning_rate": 0.01, "l2": 0.0},
}


def hyper(**values):
    return {"hyper": {**GOOD["hyper"], **values}}


BAD = {  # name: (fields, pattern of the message)
    "misspelt field": ({"batchsize": 3}, r"Sweep\.batchsize: unknown field; did you mean batch_size\?"),
    "unlike any field": ({"zzz": 3}, r"Sweep\.zzz: unknown field; allowed: dataset, "),
    "unknown dataset": ({"dataset": "mnits"}, r"dataset: .*mnits.*mnist"),
    "dataset of a wrong type": ({"dataset": 3}, r"dataset: 3"),
    "misspelt hyper-parameter": (hyper(l3=1.0), r"Sweep\.hyper\.l3: unknown hyper-parameter; did you mean l2\?"),
    "missing hyper-parameter": ({"hyper": {"learning_rate": 0.1}}, r"Sweep\.hyper\.l2: missing"),
    "missing learning rate": ({"hyper": {"l2": 0.1}}, r"Sweep\.hyper\.learning_rate: missing"),
    "hyper is not a dict": ({"hyper": 0.1}, r"Sweep\.hyper: 0\.1 \(float\); give a dict"),
    "text for a number": (hyper(l2="0.1"), r"Sweep\.hyper\.l2: '0\.1' \(str\)"),
    "bool for a number": (hyper(l2=True), r"Sweep\.hyper\.l2: True \(bool\)"),
    "NaN": (hyper(l2=float("nan")), r"Sweep\.hyper\.l2: nan; give a finite number"),
    "infinity": (hyper(learning_rate=float("inf")), r"Sweep\.hyper\.learning_rate: inf; give a finite number"),
    "negative penalty": (
        hyper(l2=-1.0),
        r"Sweep\.hyper\.l2: -1\.0; give a finite number of at least 0, within float32's range",
    ),
    "no learning": (hyper(learning_rate=0), r"Sweep\.hyper\.learning_rate: 0; give a finite number above 0"),
    "one bad number in a grid": (hyper(l2=(0.0, -2)), r"Sweep\.hyper\.l2: -2"),
    "empty grid": (hyper(l2=()), r"Sweep\.hyper\.l2: empty: a sweep of zero runs"),
    "text for a whole number": ({"batch_size": "128"}, r"Sweep\.batch_size: '128' \(str\); give a whole number"),
    "fraction for a whole number": ({"batch_size": 128.7}, r"Sweep\.batch_size: 128\.7 \(float\)"),
    "True for a whole number": ({"epochs": True}, r"Sweep\.epochs: True \(bool\)"),
    "zero where positive": ({"epochs": 0}, r"Sweep\.epochs: 0; give a whole number from 1 to 10000000"),
    "negative where positive": ({"batch_size": -5}, r"Sweep\.batch_size: -5"),
    "width of zero": ({"widths": (8, 0)}, r"Sweep\.widths\[1\]: 0"),
    "widths are not a tuple": ({"widths": 8}, r"Sweep\.widths: 8 \(int\); give a tuple"),
    "no widths": ({"widths": ()}, r"Sweep\.widths: empty"),
    "seed too large": ({"seeds": (0, 2**32)}, r"Sweep\.seeds\[1\]: 4294967296; .* from 0 to 4294967295"),
    "seed negative": ({"seeds": (-1,)}, r"Sweep\.seeds\[0\]: -1"),
    "no seeds": ({"seeds": ()}, r"Sweep\.seeds: empty: a sweep of zero runs"),
    "data seed": ({"data_seed": -1}, r"Sweep\.data_seed: -1"),
    "tied is not a bool": ({"tied": 1}, r"Sweep\.tied: 1; give True or False"),
    "function by name": ({"activation": "relu"}, r"Sweep\.activation: 'relu'; write the function relu"),
    "misspelt function": ({"activation": "rellu"}, r"Sweep\.activation: 'rellu'; did you mean relu\?"),
    "a user's function for an error": (
        {"error": np.hypot},
        r"Sweep\.error: hypot; allowed: squared_error, cross_entropy",
    ),
    "activation that is not elementwise": (
        {"activation": jnp.sum},
        r"Sweep\.activation: sum gives 0\.0; give an elementwise",
    ),
    "activation that fails": ({"activation": json.loads}, r"Sweep\.activation: loads gives TypeError"),
    "activation in a list": ({"activation": [jax.nn.relu]}, r"Sweep\.activation: \[.*; "),
    "a schedule already made": (
        {"schedule": optax.constant_schedule(1.0)},
        r"Sweep\.schedule: .*lambda n: optax\.cosine",
    ),
    "a function that is not a schedule": ({"schedule": optax.adam}, r"Sweep\.schedule: adam gives TypeError"),
    "a schedule that gives NaN": ({"schedule": lambda n: lambda step: step * jnp.nan}, r"Sweep\.schedule: .*nan"),
    "huge epochs": ({"epochs": 99999999999}, r"Sweep\.epochs: 99999999999; give a whole number from 1 to"),
    "huge width": ({"widths": (10**20, 2)}, r"Sweep\.widths\[0\]: 1000"),
    "too small for float32": (hyper(learning_rate=1e-60), r"Sweep\.hyper\.learning_rate: 1e-60; .*float32"),
    "too large for float32": (hyper(l2=1e39), r"Sweep\.hyper\.l2: 1e\+39; .*float32"),
    "too large for a float": (hyper(l2=10**400), r"Sweep\.hyper\.l2: 1000"),
    "blank label": ({"label": " "}, r"Sweep\.label: ' '"),
    "precision": ({"precision": "hihg"}, r"Sweep\.precision: 'hihg'; did you mean high\?"),
    "keep": ({"keep": "lst"}, r"Sweep\.keep: 'lst'; did you mean last\?"),
    "a user's optimiser": ({"optimiser": optax.adam}, r"Sweep\.optimiser: adam; allowed: adam, sgd, nesterov"),
    "no steps": ({"batch_size": None, "full_batch_steps": 0}, r"Sweep\.full_batch_steps: 0"),
    "steps of a full batch with others": ({"full_batch_steps": 5}, r"full_batch_steps: 5, with batches of 32 rows"),
    "label": ({"label": 3}, r"Sweep\.label: 3"),
    "tied decoder that is not a mirror": (
        {"tied": True, "decoder_widths": (9,)},
        r"decoder_widths: \(9,\) do not mirror widths \(8, 3\)",
    ),
    "cross-entropy without sigmoid": ({"error": cross_entropy}, r"error: cross_entropy .*; set output to sigmoid"),
}


@pytest.mark.parametrize("name", BAD)
def test_the_error_of_a_bad_value_names_field_value_and_fix(name):
    fields, message = BAD[name]
    with pytest.raises(ConfigError, match=message) as caught:
        Sweep(**{**GOOD, **fields})
    assert "\n" not in str(caught.value)


def test_the_docstring_describes_every_field():
    described = re.findall(r"^    (\w+): ", inspect.getdoc(Sweep) or "", re.MULTILINE)
    assert described == [field.name for field in dataclasses.fields(Sweep)]


@pytest.mark.parametrize("name", ["dataset", "widths", "epochs", "batch_size", "hyper"])
def test_a_missing_field_is_named(name):
    with pytest.raises(ConfigError, match=rf"Sweep\.{name}: missing"):
        Sweep(**{key: value for key, value in GOOD.items() if key != name})


def test_codings_must_be_fewer_than_inputs():
    with pytest.raises(ConfigError, match=r"Sweep\.widths: 64 codings for the 64 inputs of digits"):
        check_all([Sweep(**{**GOOD, "widths": (64,)})])


def test_a_batch_must_fit_the_training_rows():
    with pytest.raises(ConfigError, match=r"Sweep\.batch_size: 5000, but digits has 1258 training rows"):
        check_all([Sweep(**{**GOOD, "batch_size": 5000})])


@pytest.mark.parametrize(
    "repeated", [[{}, {}], [{"seeds": (1, 1)}], [{"seeds": (0, 1)}, {"seeds": (1, 2)}], [hyper(l2=(0.0, 0.0))]]
)
def test_the_error_of_a_repeated_run_names_both_places(repeated):
    with pytest.raises(ConfigError, match=r"the same run twice: SWEEPS\[0\] seed \d.* and SWEEPS\[\d\] seed \d"):
        check_all([Sweep(**{**GOOD, **fields}) for fields in repeated])


def test_a_sigmoid_output_needs_data_between_zero_and_one():
    dataset = small_dataset()
    scaled = type(dataset)(**{**vars(dataset), "unit": 100.0})
    sweep = Sweep(**{**GOOD, "output": jax.nn.sigmoid})
    sweep.check_data(dataset)
    with pytest.raises(DataError, match=r"train values from [\d.]+ to [12]\.\d+ with a sigmoid output"):
        sweep.check_data(scaled)


def test_runs_are_the_grid_times_the_seeds():
    sweep = Sweep(**{**GOOD, **hyper(learning_rate=(0.1, 0.2), l2=(0, 1, 2)), "seeds": (4, 5)})
    runs = sweep.runs()
    assert len(runs) == 12
    assert {(seed, h["learning_rate"], h["l2"]) for seed, h in runs} == {
        (seed, lr, l2) for seed in (4, 5) for lr in (0.1, 0.2) for l2 in (0.0, 1.0, 2.0)
    }


def test_a_sweep_rebuilt_from_json_builds_the_same_autoencoder():
    sweep = Sweep(**{**GOOD, "tied": True, "activation": jax.nn.gelu, "output": jax.nn.sigmoid, "precision": "highest"})
    config = json.loads(json.dumps(sweep.config(), allow_nan=False))
    rebuilt = from_config(config, sweep.runs()[0][1], 0)
    assert rebuilt.config() == sweep.config()
    assert rebuilt.build(64) is sweep.build(64)


NOT_DEFAULT = {
    "net": {"net": nets.conv, "widths": (4, 3)},
    "options": {"options": {"initialiser": "glorot", "bias": False}},
    "moments": {"widths": (3,), "batch_size": None, "moments": True},
    "pretraining": {"pretraining": greedy.Greedy(epochs=2, learning_rate=0.1)},
    "optimiser": {"optimiser": optimisers.sgd},
    "full_batch_steps": {"batch_size": None, "full_batch_steps": 5},
    "keep": {"keep": "last"},
}


@pytest.mark.parametrize("name", [name for name in run_identity.DEFAULTS_LEFT_OUT if name != "scores"])
def test_a_field_that_a_config_may_leave_out_is_rebuilt_as_it_was(name):
    """`from_config` leaves out the scores."""
    sweep = Sweep(**{**GOOD, **NOT_DEFAULT[name]})
    config = json.loads(json.dumps(sweep.config(), allow_nan=False))
    assert name in config
    assert from_config(config, GOOD["hyper"], 0) == sweep


def test_a_stored_config_can_name_only_functions_that_aejax_knows():
    config = {**Sweep(**GOOD).config(), "activation": "os.system"}
    with pytest.raises(ConfigError, match=r"config\.activation: 'os\.system'"):
        from_config(config, GOOD["hyper"], 0)


def test_the_identity_depends_on_the_values_of_a_users_function():
    def warm(steps):
        return {"schedule": lambda total: optax.linear_schedule(0.0, 1.0, steps)}

    def leaky(slope):
        return {"activation": lambda x: jnp.where(x > 0, x, slope * x)}

    for make, values in ((warm, (10, 90)), (leaky, (0.1, 0.1001))):
        first, again, other = (Sweep(**{**GOOD, **make(value)}) for value in (values[0], *values))
        assert first.config() == again.config() != other.config()
        check_all([first, other])
        with pytest.raises(ConfigError, match="the same run twice"):
            check_all([first, again])
    config = Sweep(**{**GOOD, **leaky(0.1)}).config()
    with pytest.raises(
        ConfigError, match=r"config\.activation: '.*leaky.*' is not a function of aejax; build the net in Python"
    ):
        from_config(config, GOOD["hyper"], 0)
    assert from_config(Sweep(**{**GOOD, **warm(10)}).config(), GOOD["hyper"], 0).widths == (8, 3)


def test_numpy_numbers_and_ranges_are_accepted():
    fields = {"widths": [np.int64(8), 3], "seeds": range(3), "epochs": np.int32(2), **hyper(l2=np.float32(0.5))}
    sweep = Sweep(**{**GOOD, **fields})
    assert (sweep.widths, sweep.seeds, sweep.epochs, sweep.points()[0]["l2"]) == ((8, 3), (0, 1, 2), 2, 0.5)
    json.dumps(sweep.config(), allow_nan=False)


def test_more_steps_than_a_counter_holds_are_refused():
    with pytest.raises(ConfigError, match=r"Sweep\.epochs: 10000000, which makes 12580000000 steps"):
        check_all([Sweep(**{**GOOD, "epochs": 10_000_000, "batch_size": 1})])


def test_identity_changes_with_everything_that_decides_the_numbers():
    def identity(fields, hyper=GOOD["hyper"], seed=0, data="a"):
        return run_identity.run_id(Sweep(**{**GOOD, **fields}).config(), hyper, seed, data)

    first_schedule = {"schedule": lambda steps: lambda step: 0.5}
    other_schedule = {"schedule": lambda steps: lambda step: 0.25}
    changes = [{"epochs": 3}, {"widths": (9, 3)}, {"tied": True}, {"batch_size": None}, {"schedule": schedules.cosine}]
    changes += [{"activation": jax.nn.relu}, {"data_seed": 1}, {"precision": "highest"}, first_schedule, other_schedule]
    changes += [{"optimiser": optimisers.sgd}, {"keep": "last"}, {"batch_size": None, "full_batch_steps": 2}]
    ids = [identity({}), *map(identity, changes), identity({}, seed=1), identity({}, data="b")]
    ids.append(identity({}, hyper={**GOOD["hyper"], "l2": 0.5}))
    assert len(set(ids)) == len(ids)
    assert identity({"seeds": (0, 1)}) == identity({})
    assert all(len(run_id) == 12 for run_id in ids)


@pytest.mark.parametrize(
    ("assignment", "field", "value"),
    [
        ("epochs=20", "epochs", 20),
        ("batch_size=None", "batch_size", None),
        ("widths=30,10", "widths", (30, 10)),
        ("widths=[30,10]", "widths", (30, 10)),
        ("widths=7", "widths", (7,)),
        ("seeds=1,2,3", "seeds", (1, 2, 3)),
        ("tied=true", "tied", True),
        ("activation=relu", "activation", jax.nn.relu),
        ("dataset=file:a,b.npy", "dataset", "file:a,b.npy"),
        ("activation=mish", "activation", jax.nn.mish),
        ("schedule=cosine", "schedule", schedules.cosine),
        ("optimiser=nesterov", "optimiser", optimisers.nesterov),
        ("keep=last", "keep", "last"),
        ("coding_activation=identity", "coding_activation", nets.identity),
        ("label=my label, 2", "label", "my label, 2"),
        ("hyper.l2=0,0.5", "hyper", {"learning_rate": 0.01, "l2": (0.0, 0.5)}),
        ("hyper.learning_rate=1e-3", "hyper", {"learning_rate": 0.001, "l2": 0.0}),
    ],
)
def test_set_changes_a_field_of_every_sweep(assignment, field, value):
    changed = overrides.override([Sweep(**GOOD), Sweep(**{**GOOD, "data_seed": 3})], [assignment])
    assert [getattr(sweep, field) for sweep in changed] == [value, value]


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("epochs", r"--set: 'epochs'; write field=value"),
        ("epoch=3", r"--set epoch: unknown field; did you mean epochs\?"),
        ("l2=3", r"--set l2: unknown field; did you mean hyper\.l2\?"),
        ("hyper.l=3", r"Sweep\.hyper\.l: unknown hyper-parameter; did you mean l2\?"),
        ("hyper=3", r"--set hyper: '3'; set one of hyper\.learning_rate, hyper\.l2"),
        ("epochs=many", r"Sweep\.epochs: 'many' \(str\)"),
        ("activation=rellu", r"--set activation: 'rellu'; did you mean relu\?"),
        ("widths=8,,4", r"Sweep\.widths: '8,,4' \(str\); give a tuple"),
        ('activation={"a": 1}', r"--set activation: '{\"a\": 1}'; allowed: "),
        ("hyper.l2=", r"Sweep\.hyper\.l2: '' \(str\)"),
        ("hyper.l2=NaN", r"Sweep\.hyper\.l2: nan"),
    ],
)
def test_the_error_of_a_bad_assignment_names_it(assignment, message):
    with pytest.raises(ConfigError, match=message):
        overrides.override([Sweep(**GOOD)], [assignment])


def test_assignments_are_applied_together():
    (sweep,) = overrides.override([Sweep(**GOOD)], ["error=cross_entropy", "output=sigmoid", "tied=true", "widths=9,3"])
    assert (sweep.error, sweep.output, sweep.widths) == (cross_entropy, jax.nn.sigmoid, (9, 3))


def test_a_default_label_follows_the_changed_fields():
    changed = overrides.override([Sweep(**GOOD), Sweep(**{**GOOD, "label": "mine"})], ["tied=true"])
    assert [sweep.name for sweep in changed] == ["tied stacked", "mine"]
    assert Sweep(**{**GOOD, "widths": (3,)}).name == "linear"
    assert Sweep(**{**GOOD, "widths": (3,), "coding_activation": jax.nn.relu}).name == "shallow"


def test_only_a_net_of_two_affine_maps_is_linear():
    affine = {**GOOD, "widths": (3,)}
    assert Sweep(**affine).linear
    assert Sweep(**affine, tied=True).linear
    changes = [{"output": jax.nn.sigmoid}, {"coding_activation": jax.nn.relu}, {"decoder_widths": (8,)}]
    changes += [{"widths": (8, 3)}, {"net": nets.conv, "widths": (4, 3)}]
    changes += [{"variant": variants.topk, **hyper(active=2, revive=0.0)}]  # it activates the codings itself
    for fields in changes:
        assert not Sweep(**{**affine, **fields}).linear, fields


def test_the_autoencoder_has_the_layers_and_functions_of_the_fields():
    functions = {"activation": jnp.tanh, "coding_activation": jax.nn.softplus, "output": jax.nn.sigmoid}
    autoencoder = Sweep(**{**GOOD, **functions, "decoder_widths": (5,)}).build(6)
    params = autoencoder.init(jax.random.key(0))
    params = jax.tree.map(np.asarray, params)
    encoder = [params["encoder"][f"layer_{i}"] for i in range(2)]
    decoder = [params["decoder"][f"layer_{i}"] for i in range(2)]
    x_bd = np.random.default_rng(0).uniform(size=(4, 6)).astype(np.float32)

    def affine(rows, layer):
        return rows @ layer["kernel"] + layer["bias"]

    z_bk = np.log1p(np.exp(affine(np.tanh(affine(x_bd, encoder[0])), encoder[1])))
    wanted_bd = 1 / (1 + np.exp(-affine(np.tanh(affine(z_bk, decoder[0])), decoder[1])))
    assert decoder[0]["kernel"].shape == (3, 5)
    np.testing.assert_allclose(autoencoder.encode(params, jnp.asarray(x_bd)), z_bk, rtol=1e-4)
    np.testing.assert_allclose(autoencoder.decode(params, jnp.asarray(z_bk)), wanted_bd, rtol=1e-4)


@pytest.mark.parametrize("precision", ["high", "highest"])
def test_the_matrix_products_of_the_autoencoder_have_the_precision_of_the_field(precision):
    autoencoder = Sweep(**{**GOOD, "precision": precision}).build(6)
    params = autoencoder.init(jax.random.key(0))
    program = str(jax.make_jaxpr(autoencoder.encode)(params, np.zeros((4, 6), np.float32)))
    assert program.count(f"Precision.{precision.upper()}, Precision.{precision.upper()}") == 2


FILES = {
    "syntax error": ("SWEEPS = [\n  oops oops\n]", r"x\.py:2: SyntaxError: .*; fix that line"),
    "raises": ("import math\n\nmath.sqrt(-1)\n", r"x\.py:3: ValueError: .*; fix that line"),
    "exits": ("import sys\nsys.exit(3)\n", r"x\.py:2: SystemExit: 3"),
    "missing import": ("import no_such_module_here\n", r"x\.py:1: ModuleNotFoundError"),
    "no SWEEPS": ("SWEPS = []\n", r"x\.py: has no SWEEPS; end it in SWEEPS"),
    "SWEEPS that are not a list": ("SWEEPS = 3\n", r"SWEEPS: of type int; make it a list of Sweep"),
    "empty SWEEPS": ("SWEEPS = []\n", r"SWEEPS: empty: a sweep of zero runs"),
    "SWEEPS of something else": (
        "SWEEPS = [{'dataset': 'digits'}]\n",
        r"SWEEPS\[0\]: of type dict; make it a Sweep",
    ),
    "bad field": (
        "from aejax import Sweep\n\nSWEEPS = [\n    Sweep(dataset='digits', batchsize=3)\n]\n",
        r"x\.py:4: Sweep\.batchsize: unknown field; did you mean batch_size\?",
    ),
}


@pytest.mark.parametrize("name", FILES)
def test_the_error_of_a_bad_experiment_file_names_file_and_line(name, tmp_path):
    text, message = FILES[name]
    path = tmp_path / "x.py"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message) as caught:
        experiment_file.load(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["missing.py", "a folder", "notes.txt", "two words.py", "..py"])
def test_a_path_that_is_not_an_experiment_is_refused(name, tmp_path):
    path = tmp_path / name
    if name == "a folder":
        path.mkdir()
    elif name != "missing.py":
        path.write_text("SWEEPS = []")
    with pytest.raises(ConfigError):
        experiment_file.load(path)


def test_the_error_names_the_line_for_a_relative_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("x.py").write_text(FILES["bad field"][0])
    with pytest.raises(ConfigError, match=r"^x\.py:4: Sweep\.batchsize"):
        experiment_file.load(Path("x.py"))


def test_a_syntax_error_in_an_imported_file_names_that_file(tmp_path):
    (tmp_path / "beside.py").write_text("a = = 1\n")
    (tmp_path / "x.py").write_text("\n\nimport beside\n")
    with pytest.raises(ConfigError, match=r"beside\.py:1: SyntaxError"):
        experiment_file.load(tmp_path / "x.py")


def test_an_edited_file_is_compiled_again_and_leaves_no_byte_code(tmp_path):
    path = tmp_path / "x.py"
    epochs_read = []
    for epochs in (2, 3):  # both files have the same size and modification time
        path.write_text(
            "from __future__ import annotations\nfrom dataclasses import dataclass\nfrom aejax import Sweep\n\n"
            "@dataclass\nclass Mine:\n    x: int = 1\n\n"
            f"SWEEPS = [Sweep(**{ ({**GOOD, 'epochs': epochs})!r})]\n"
        )
        epochs_read.append(experiment_file.load(path)[1][0].epochs)
    assert epochs_read == [2, 3]
    assert [entry.name for entry in tmp_path.iterdir()] == ["x.py"]


def test_load_returns_name_and_sweeps(tmp_path):
    path = tmp_path / "my-sweep_2.py"
    path.write_text(f"from aejax import Sweep\nSWEEPS = (Sweep(**{GOOD!r}),)\n")
    name, sweeps = experiment_file.load(path)
    assert name == "my-sweep_2"
    assert sweeps == [Sweep(**GOOD)]
    assert isinstance(path, Path)
