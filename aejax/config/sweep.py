"""`Sweep`: the runs of one compiled program, declared in a plain Python file.

Fields are fixed for all runs of a sweep; `seeds` and `hyper` vary within the program. A sweep is checked when it is
made, before any data is read: every error names the field, the value and the fix.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax

from aejax import datasets, nets, variants
from aejax.config import points, registry, validate_sweep
from aejax.config.run_identity import DEFAULTS_LEFT_OUT, decode_config, run_id
from aejax.datasets import SPLITS, moments
from aejax.evaluation import scores
from aejax.runtime import validate
from aejax.runtime.errors import ConfigError, DataError, suggest
from aejax.training import greedy, optimisers, schedules
from aejax.variants import penalties

MAX_WIDTH = 1_000_000
MAX_STEPS = 2**31 - 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sweep:
    """One architecture on one dataset, trained for every seed and every combination of hyper-parameters.

    Raises ConfigError for a value that cannot be run, naming the field, the value and the fix.

    Fields:
        dataset: Name of the data: a built-in set (`digits`), `tfds:NAME` or `file:PATH`.
        widths: Numbers of units of the encoder's layers; the last is the number of codings k. One width and the
            identity as `coding_activation` make a linear autoencoder.
        epochs: Number of passes over the training rows.
        batch_size: Number of training rows per step; None trains on the full batch.
        hyper: Hyper-parameters: `learning_rate` and every hyper-parameter of the variant's loss. Either a dict from
            name to a number or a tuple of numbers (all combinations are trained), or a tuple of points
            (`aejax.points`). `codings` may be among them: a run then trains that many codings of the net and masks the
            others, so that one program trains a whole error curve.
        seeds: Seeds of initialisation, batch order and noise, one run each. Default (0,).
        variant: Function that adds the loss to a net (`aejax.variants`). Default `plain`.
        tied: Whether the decoder uses the transposed kernels of the encoder. Default False.
        activation: Elementwise function after every hidden layer. Default `jax.nn.elu`.
        coding_activation: Elementwise function of the codings. Default identity.
        output: Function after the last decoder layer: identity (default) or `jax.nn.sigmoid`.
        error: Reconstruction error, mean over rows and inputs: `squared_error` (default) or `cross_entropy`
            (`aejax.penalties`).
        decoder_widths: Numbers of units of the decoder's hidden layers. Default None mirrors the encoder.
        schedule: Function from the number of steps to an optax schedule, whose value multiplies the learning rate
            (`aejax.schedules`). Default `constant`.
        precision: Precision of matrix products as JAX names it: "default", "high" or "highest".
        data_seed: Seed of the split into training, validation and test rows. Default 0.
        label: Name of the sweep in tables and figures. Default "" derives one, such as "tied stacked".
        net: Function that makes the net (`aejax.nets`). Default `mlp`.
        options: Options of the variant and the net by name. Default {}.
        scores: Scores measured on every trained run besides its error (`aejax.scores`). Default ().
        moments: Whether to train on d + 1 rows that have the mean and covariance of all rows. This gives the same loss
            for an affine net with a quadratic loss and a full batch, and is allowed only there. Default False.
        pretraining: Layer-by-layer training with Adam before the whole net is trained (`aejax.greedy`). Default None.
        optimiser: Function that makes the optimiser (`aejax.optimisers`). Default `adam`.
        full_batch_steps: Number of full-batch steps that count as one epoch. Default 1.
        keep: Which parameters a run stores: "best" (the epoch with the lowest validation criterion, the default) or
            "last".
    """

    dataset: str
    widths: tuple[int, ...]
    epochs: int
    batch_size: int | None
    hyper: Mapping[str, float | Sequence[float]] | Sequence[Mapping[str, float]]
    seeds: tuple[int, ...] = (0,)
    variant: Callable = variants.plain
    tied: bool = False
    activation: Callable = jax.nn.elu
    coding_activation: Callable = nets.identity
    output: Callable = nets.identity
    error: Callable = penalties.squared_error
    decoder_widths: tuple[int, ...] | None = None
    schedule: Callable = schedules.constant
    precision: str = "default"
    data_seed: int = 0
    label: str = ""
    net: Callable = nets.mlp
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    scores: Sequence[scores.Score] = ()
    moments: bool = False
    pretraining: greedy.Greedy | None = None
    optimiser: Callable = optimisers.adam
    full_batch_steps: int = 1
    keep: str = "best"

    def __new__(cls, *_: object, **given: object) -> Sweep:
        """Raise ConfigError for an unknown or missing field, before the dataclass raises its TypeError."""
        fields = dataclasses.fields(cls)
        names = [f.name for f in fields]
        required = [f.name for f in fields if f.default is f.default_factory is dataclasses.MISSING]
        for name in given:
            if name not in names:
                raise ConfigError(f"Sweep.{name}", "unknown field", suggest(name, names))
        for name in required:
            if given and name not in given:
                raise ConfigError(f"Sweep.{name}", "missing", f"a Sweep needs {', '.join(required)}")
        return super().__new__(cls)

    def __post_init__(self) -> None:
        """Check every field, first alone and then together with the others, and store the checked values."""
        validate.text("Sweep.dataset", self.dataset)
        datasets.check_name(self.dataset)
        self._check("widths", validate.whole_numbers, minimum=1, maximum=MAX_WIDTH)
        if self.decoder_widths is not None:
            self._check("decoder_widths", validate.whole_numbers, minimum=1, maximum=MAX_WIDTH, empty=None)
        self._check("epochs", validate.whole_number, minimum=1, maximum=greedy.MOST_EPOCHS)
        if self.batch_size is not None:
            self._check("batch_size", validate.whole_number, minimum=1)
        self._check("seeds", validate.whole_numbers, minimum=0, maximum=validate.MAX_SEED, empty=validate_sweep.NO_RUNS)
        self._check("data_seed", validate.whole_number, minimum=0, maximum=validate.MAX_SEED)
        self._check("full_batch_steps", validate.whole_number, minimum=1, maximum=greedy.MOST_EPOCHS)
        if self.full_batch_steps > 1 and self.batch_size is not None:
            problem = f"{self.full_batch_steps}, with batches of {self.batch_size} rows"
            raise ConfigError("Sweep.full_batch_steps", problem, "leave it out, or set batch_size=None")
        for name, flag in (("tied", self.tied), ("moments", self.moments)):
            if not isinstance(flag, bool):
                raise ConfigError(f"Sweep.{name}", repr(flag), "give True or False")
        for name in registry.CHOICES:
            validate_sweep.check_function(name, getattr(self, name))
        for name, words in registry.TEXT_CHOICES.items():
            word = getattr(self, name)
            if word not in words:
                raise ConfigError(f"Sweep.{name}", repr(word), suggest(word, words))
        self._set("scores", validate_sweep.scores(self.scores))
        if self.label != "":
            validate.text("Sweep.label", self.label)
        self._check_fields_together()

    def _check_fields_together(self) -> None:
        mirrored = self.widths[-2::-1]
        if self.tied and self.decoder_widths not in (None, mirrored):
            problem = f"{self.decoder_widths} do not mirror widths {self.widths} of a tied net"
            fix = f"leave decoder_widths out (the mirror is {mirrored}), or set tied=False"
            raise ConfigError("Sweep.decoder_widths", problem, fix)
        allowed = (*_option_names(self.variant, "output", "error"), *_option_names(self.net, *nets.COMMON_ARGUMENTS))
        self._set("options", validate_sweep.options(self.options, allowed))
        autoencoder = self._example()
        if self.moments and not (self.linear and autoencoder.quadratic and self.batch_size is None):
            problem = "True, where the loss depends on more than the mean and covariance of the rows"
            fix = "leave it out, or use an affine net, a squared error and batch_size=None"
            raise ConfigError("Sweep.moments", problem, fix)
        if autoencoder.activates_codings and self.coding_activation is not nets.identity:
            name = registry.function_name("coding_activation", self.coding_activation)
            problem = f"{name}, but the variant activates the codings itself"
            raise ConfigError("Sweep.coding_activation", problem, "leave it out")
        validate_sweep.check_pretraining(self, autoencoder)
        loss_names = variants.hyper_names(autoencoder)
        self._set("hyper", validate_sweep.hyper(self.hyper, loss_names, self.codings, autoencoder.hyper_ranges))
        # The variant's own range for `active` is that of the full net; a point may train fewer codings.
        for point in self.points():
            if point.get("active", 0) > self.codings_of(point):
                problem = f"{point['active']:g} active codings of {self.codings_of(point)}"
                raise ConfigError("Sweep.hyper.active", problem, "give at most as many as there are codings")

    def _set(self, name: str, value: object) -> None:
        object.__setattr__(self, name, value)

    def _check(self, name: str, check: Callable[..., object], **limits: Any) -> None:
        """Replace a field by its checked value."""
        self._set(name, check(f"Sweep.{name}", getattr(self, name), **limits))

    @property
    def codings(self) -> int:
        """Number of codings k of the net. A point of `hyper` may train fewer of them."""
        return self.widths[-1]

    def codings_of(self, hyper: Mapping[str, float]) -> int:
        """Number of codings of the run with these hyper-parameters."""
        return int(hyper["codings"]) if "codings" in hyper else self.codings

    def widths_of(self, hyper: Mapping[str, float]) -> tuple[int, ...]:
        """Encoder widths of the run with these hyper-parameters."""
        return (*self.widths[:-1], self.codings_of(hyper))

    @property
    def linear(self) -> bool:
        """Whether encoder and decoder are affine maps: then the decoder's subspace is compared with PCA's."""
        affine_layers = {self.coding_activation, self.output} == {nets.identity}
        one_layer = self.net is nets.mlp and len(self.widths) == 1 and not self.decoder_widths
        return affine_layers and one_layer and not self._example().activates_codings

    @property
    def name(self) -> str:
        """The label, or a description where there is none, such as "tied stacked" or "linear"."""
        if self.label:
            return self.label
        kind = "linear" if self.linear else "stacked" if len(self.widths) > 1 else "shallow"
        kind = kind if self.net is nets.mlp else registry.function_name("net", self.net)
        variant = registry.function_name("variant", self.variant)
        parts = ("greedy" * bool(self.pretraining), "tied" * self.tied, variant * (variant != "plain"), kind)
        return " ".join(part for part in parts if part)

    def build(self, inputs: int, image_shape: tuple[int, ...] | None = None) -> variants.Autoencoder:
        """The autoencoder for rows of `inputs` columns, which are images of `image_shape` where it is given.

        Equal sweeps give the same object, so that it compiles once. Raises ConfigError where the net needs images and
        the rows are not images.
        """
        net_names = _option_names(self.net, *nets.COMMON_ARGUMENTS)
        net_options = {name: value for name, value in self.options.items() if name in net_names}
        variant_options = {name: value for name, value in self.options.items() if name not in net_names}
        if self._needs_images:
            if image_shape is None:
                problem = f"{registry.function_name('net', self.net)}, but the rows of {self.dataset} are not images"
                raise ConfigError("Sweep.net", problem, "set net to mlp, or give data of images")
            net_options["image_shape"] = tuple(image_shape)
        for name in ("activation", "coding_activation", "decoder_widths", "precision"):
            net_options[name] = getattr(self, name)
        net = self.net(inputs, self.widths, **net_options)
        net = nets.tied(net) if self.tied else net
        return self.variant(net, output=self.output, error=self.error, **variant_options)

    @property
    def _needs_images(self) -> bool:
        return registry.function_name("net", self.net) in nets.IMAGE_NETS

    def _example(self) -> variants.Autoencoder:
        """The autoencoder for data of a valid shape, to read properties that do not depend on the shape."""
        return self.build(32 * 32, (32, 32)) if self._needs_images else self.build(self.codings + 1)

    def training_data(self, dataset: datasets.Dataset) -> datasets.Dataset:
        """The dataset, or with `moments` a dataset of fewer rows with the same mean and covariance."""
        return moments.condense(dataset) if self.moments else dataset

    def check_shape(self, train_rows: int, inputs: int) -> None:
        """Raise ConfigError where this sweep does not fit data of `train_rows` training rows and `inputs` columns."""
        if self.codings >= inputs and not self._example().overcomplete:
            problem = f"{self.codings} codings for the {inputs} inputs of {self.dataset}, with an undercomplete variant"
            raise ConfigError("Sweep.widths", problem, f"end widths in at most {inputs - 1}")
        if self.batch_size is not None and self.batch_size > train_rows:
            problem = f"{self.batch_size}, but {self.dataset} has {train_rows} training rows"
            fix = f"set batch_size to at most {train_rows}, or None for the full batch"
            raise ConfigError("Sweep.batch_size", problem, fix)
        steps = self.steps(train_rows)
        if steps > MAX_STEPS:
            problem = f"{self.epochs}, which makes {steps} steps"
            raise ConfigError("Sweep.epochs", problem, f"give at most {MAX_STEPS} steps")

    def steps(self, train_rows: int) -> int:
        """Number of optimiser steps of a run on `train_rows` training rows."""
        batch_size = self.batch_size or train_rows
        return self.epochs * (self.full_batch_steps if batch_size == train_rows else -(-train_rows // batch_size))

    def check_data(self, dataset: datasets.Dataset) -> None:
        """Raise ConfigError or DataError where this sweep does not fit the dataset."""
        self.check_shape(len(dataset.x_train), dataset.inputs)
        autoencoder = self.build(dataset.inputs, dataset.image_shape)
        for score in self.scores:
            if score.needs_labels and (dataset.y_train is None or dataset.y_test is None):
                fix = "leave that score out, or give data with labels"
                raise DataError(self.dataset, f"no labels, which the score {score.name} needs", fix)
        rows = len(dataset.x_train) + len(dataset.x_validation)
        if rows < self.codings and not autoencoder.overcomplete:
            problem = f"{rows} training and validation rows, fewer than the {self.codings} codings"
            fix = f"PCA needs at least {self.codings} rows: give more data or fewer codings"
            raise DataError(self.dataset, problem, fix)
        if self.output is not jax.nn.sigmoid:
            return
        for split in SPLITS:
            x_nd = getattr(dataset, f"x_{split}")
            low = float(x_nd.min()) / dataset.unit
            high = float(x_nd.max()) / dataset.unit
            if low < 0 or high > 1:
                problem = f"{split} values from {low:g} to {high:g} with a sigmoid output, which gives 0 to 1"
                fix = "set output=identity, or scale the data into [0, 1] (file:PATH?scale=VALUE divides by VALUE)"
                raise DataError(dataset.name, problem, fix)

    def points(self) -> list[dict[str, float]]:
        """The hyper-parameters of every setting: all combinations of a grid, or the points in their order."""
        settings = points.grid(**self.hyper) if isinstance(self.hyper, Mapping) else self.hyper
        return [dict(point) for point in settings]

    def runs(self) -> list[tuple[int, dict[str, float]]]:
        """(seed, hyper) of every run: each point with every seed."""
        return [(seed, dict(point)) for point in self.points() for seed in self.seeds]

    def smoke(self) -> Sweep:
        """The same sweep cut to two epochs, two seeds and one point, to test that it runs.

        Where the number of codings varies there are two points: one with the first number and one with the last.
        """
        first, *others = self.points()
        last = [point for point in others if self.codings_of(point) != self.codings_of(first)][-1:]
        counts = {"epochs": min(self.epochs, 2), "full_batch_steps": min(self.full_batch_steps, 2)}
        if self.batch_size is not None:
            counts["batch_size"] = min(self.batch_size, 64)
        pretraining = self.pretraining and self.pretraining.smoke()
        return dataclasses.replace(self, **counts, seeds=self.seeds[:2], hyper=(first, *last), pretraining=pretraining)

    def config(self) -> dict[str, Any]:
        """All fields except `seeds` and `hyper` as JSON values; functions by name."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name not in ("seeds", "hyper")}
        values["scores"] = [score.config() for score in self.scores]
        values["pretraining"] = self.pretraining and self.pretraining.config()
        values["options"] = _tuples_to_lists(self.options)
        values |= {name: registry.function_name(name, values[name]) for name in registry.CHOICES}
        for name, default in DEFAULTS_LEFT_OUT.items():
            if values[name] == default:
                del values[name]
        custom = [name for name in registry.CUSTOM_FUNCTION_FIELDS if values[name] not in registry.CHOICES[name]]
        values["digests"] = {name: registry.function_digest(name, getattr(self, name)) for name in custom}
        return _tuples_to_lists(values)


def from_config(config: Mapping[str, Any], hyper: Mapping[str, float], seed: int) -> Sweep:
    """The sweep of one stored run, rebuilt from its JSON record. Runs no code from the record.

    A run that trained fewer codings than its net has becomes the smaller net, as its parameters were stored. The scores
    are left out, and so is a user's schedule. Raises ConfigError for a run whose net has a user's function.
    """
    fields = {**decode_config(config), "scores": ()}
    for name, choices in registry.CHOICES.items():
        if name == "schedule" and fields[name] not in choices:
            fields[name] = "constant"
        if fields[name] not in choices:
            fix = "build the net in Python and read parameters.safetensors of the run with safetensors"
            raise ConfigError(f"config.{name}", f"{fields[name]!r} is not a function of aejax", fix)
        fields[name] = choices[fields[name]]
    full_net = Sweep(**fields, hyper=dict(hyper), seeds=(seed,))
    loss_hyper = {name: value for name, value in hyper.items() if name != "codings"}
    return dataclasses.replace(full_net, widths=full_net.widths_of(hyper), hyper=loss_hyper)


def check_all(sweeps: Sequence[Sweep]) -> None:
    """Raise ConfigError where two runs of the sweeps are the same.

    Also checks each sweep against the shape of its dataset, where that is known without reading it.
    """
    first_place: dict[str, str] = {}
    for i, sweep in enumerate(sweeps):
        shape = datasets.known_shape(sweep.dataset)
        if shape is not None:
            sweep.check_shape(*shape)
        config = sweep.config()
        for seed, hyper in sweep.runs():
            place = f"SWEEPS[{i}] seed {seed} {hyper}"
            identity_of_run = run_id(config, hyper, seed, "")
            if identity_of_run in first_place:
                problem = f"the same run twice: {first_place[identity_of_run]} and {place}"
                raise ConfigError(f"SWEEPS[{i}]", problem, "remove one of them")
            first_place[identity_of_run] = place


def _tuples_to_lists(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}


def _option_names(function: Callable, *common: str) -> tuple[str, ...]:
    """Names of a function's keyword-only arguments, without the common ones."""
    return tuple(name for name in variants.keyword_names(function) if name not in common)
