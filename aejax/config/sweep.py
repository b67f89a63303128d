"""Sweep: what one compiled program trains, as a frozen dataclass in a plain Python file.

Static choices are fields; what may vary within a program is in `seeds` and `hyper`. A config is checked when it is
made, before any data is read: every error names the field, the value and the fix.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax

from aejax import datasets, nets, variants
from aejax.config import points, registry
from aejax.config.run_identity import DEFAULTS_LEFT_OUT, decode_config, run_id
from aejax.datasets import moments
from aejax.evaluation import scores
from aejax.nets import identity
from aejax.runtime import validate
from aejax.runtime.errors import ConfigError, DataError, suggest
from aejax.training import greedy, optimisers, schedules
from aejax.variants import penalties

MOST_WIDTH, MOST_EPOCHS = 1_000_000, 10_000_000


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """One architecture on one dataset, trained for every seed and every combination of hyper-parameters.

    `widths` are the encoder's layer sizes, the last one the number of codings; one entry is the linear autoencoder
    when `coding_activation` is the identity. `hyper` maps `learning_rate` and every hyper-parameter of the variant's
    loss to a number, or to a tuple of numbers to try each; or it is a tuple of points, as `aejax.points` makes them.
    `codings` among them trains the net with that many of its codings, the others masked: one program for a whole
    curve. `batch_size=None` is the full batch. `data_seed` decides the splits. `label` names the sweep in tables and
    figures (by default what it is: "tied stacked"). `net` is the kind of net; `options` are those of the variant and of
    the net, by name. `scores` are measured of every trained run besides its error (`aejax.scores`). `moments` trains
    an affine net on d + 1 rows with the mean and covariance of all rows, which a full-batch quadratic loss cannot tell
    from them. `pretraining` trains layer by layer first, with Adam. `full_batch_steps` steps of a full batch make an
    epoch. `keep` says which epoch's parameters a run has: "best", by the criterion on validation, or "last". Raises
    ConfigError on any value it cannot run with.
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
    coding_activation: Callable = identity
    output: Callable = identity
    error: Callable = penalties.squared_error
    decoder_widths: tuple[int, ...] | None = None
    schedule: Callable = schedules.constant
    precision: str = "default"
    data_seed: int = 0
    label: str = field(default="")
    net: Callable = nets.mlp
    options: Mapping[str, Any] = field(default_factory=dict)
    scores: Sequence[scores.Score] = ()
    moments: bool = False
    pretraining: greedy.Greedy | None = None
    optimiser: Callable = optimisers.adam
    full_batch_steps: int = 1
    keep: str = "best"

    def __new__(cls, *_: object, **given: object) -> Sweep:
        """Name an unknown or missing field before the dataclass complains in its own way."""
        names = [f.name for f in dataclasses.fields(cls)]
        required = [f.name for f in dataclasses.fields(cls) if f.default is f.default_factory is dataclasses.MISSING]
        for name in given:
            if name not in names:
                raise ConfigError(f"Sweep.{name}", "unknown field", suggest(name, names))
        for name in required:
            if given and name not in given:
                raise ConfigError(f"Sweep.{name}", "missing", f"a Sweep needs {', '.join(required)}")
        return super().__new__(cls)

    def __post_init__(self) -> None:
        validate.text("Sweep.dataset", self.dataset)
        datasets.check_name(self.dataset)
        _set(self, "widths", validate.whole_numbers("Sweep.widths", self.widths, minimum=1, maximum=MOST_WIDTH))
        if self.decoder_widths is not None:
            limits: dict[str, Any] = {"minimum": 1, "maximum": MOST_WIDTH, "empty": None}
            hidden = validate.whole_numbers("Sweep.decoder_widths", self.decoder_widths, **limits)
            _set(self, "decoder_widths", hidden)
        _set(self, "epochs", validate.whole_number("Sweep.epochs", self.epochs, minimum=1, maximum=MOST_EPOCHS))
        if self.batch_size is not None:
            _set(self, "batch_size", validate.whole_number("Sweep.batch_size", self.batch_size, minimum=1))
        none = "empty: a sweep of zero runs"
        _set(
            self,
            "seeds",
            validate.whole_numbers("Sweep.seeds", self.seeds, minimum=0, maximum=validate.MAX_SEED, empty=none),
        )
        _set(
            self,
            "data_seed",
            validate.whole_number("Sweep.data_seed", self.data_seed, minimum=0, maximum=validate.MAX_SEED),
        )
        _set(self, "full_batch_steps", registry.full_batch_steps(self.full_batch_steps, self.batch_size))
        if not isinstance(self.tied, bool):
            raise ConfigError("Sweep.tied", f"{self.tied!r}", "give True or False")
        for name in registry.CHOICES:
            registry.function(name, getattr(self, name))
        for name in registry.TEXTS:
            registry.text(name, getattr(self, name))
        mirrored = self.widths[-2::-1]
        if self.tied and self.decoder_widths not in (None, mirrored):
            raise ConfigError(
                "Sweep.decoder_widths",
                f"{self.decoder_widths} do not mirror widths {self.widths} of a tied net",
                f"leave decoder_widths out (it is {mirrored} then), or set tied=False",
            )
        known = (
            *self._options_of(self.variant, "output", "error"),
            *self._options_of(self.net, *nets.COMMON_ARGUMENTS),
        )
        _set(self, "options", registry.options(self.options, known))
        _set(self, "scores", registry.measures(self.scores))
        if not isinstance(self.moments, bool):
            raise ConfigError("Sweep.moments", f"{self.moments!r}", "give True or False")
        built = self.build(*self._example_shape())
        if self.moments and not (self.linear and built.quadratic and self.batch_size is None):
            found = "True, where the loss depends on more than the mean and covariance of the rows"
            fix = "leave it out, or take an affine net, a squared error and batch_size=None"
            raise ConfigError("Sweep.moments", found, fix)
        if built.activates_codings and self.coding_activation is not identity:
            found = f"{registry.function_name('coding_activation', self.coding_activation)}, with a variant of its own"
            raise ConfigError("Sweep.coding_activation", found, "leave it out: the variant says what activates codings")
        greedy.check(self, built)
        names = variants.hyper_names(built)
        _set(self, "hyper", registry.hyper(self.hyper, names, self.codings, built.hyper_ranges))
        for point in self.points():  # of codings that are swept there may be fewer than the variant knows of
            if point.get("active", 0) > self.codings_of(point):
                found = f"{point['active']:g} active codings of {self.codings_of(point)}"
                raise ConfigError("Sweep.hyper.active", found, "give at most as many as there are codings")
        if self.label != "":
            validate.text("Sweep.label", self.label)

    @property
    def codings(self) -> int:
        """Number of codings k of the net; `hyper` may train fewer of them."""
        return self.widths[-1]

    def codings_of(self, hyper: Mapping[str, float]) -> int:
        """Number of codings of a run with these hyper-parameters."""
        return int(hyper["codings"]) if "codings" in hyper else self.codings

    def widths_of(self, hyper: Mapping[str, float]) -> tuple[int, ...]:
        """The encoder's layer sizes of a run with these hyper-parameters."""
        return (*self.widths[:-1], self.codings_of(hyper))

    @property
    def linear(self) -> bool:
        """Whether encoder and decoder are affine maps, so that the net can be compared with PCA's subspace."""
        affine = {self.coding_activation, self.output} == {identity}
        affine = affine and self.net is nets.mlp and len(self.widths) == 1 and not self.decoder_widths
        return affine and not self.build(*self._example_shape()).activates_codings

    @property
    def name(self) -> str:
        """The label, or where there is none what the sweep is: "tied stacked", "linear"."""
        if self.label:
            return self.label
        kind = "linear" if self.linear else "stacked" if len(self.widths) > 1 else "shallow"
        kind = kind if self.net is nets.mlp else registry.function_name("net", self.net)
        variant = registry.function_name("variant", self.variant)
        parts = ("greedy" * bool(self.pretraining), "tied" * self.tied, variant * (variant != "plain"), kind)
        return " ".join(part for part in parts if part)

    def build(self, inputs: int, image_shape: tuple[int, ...] | None = None) -> variants.Autoencoder:
        """The autoencoder for rows of `inputs` columns, which are images where a shape is given.

        The same sweep gives the same record, so it compiles once. Raises ConfigError where the net wants images.
        """
        of_net = self._options_of(self.net, *nets.COMMON_ARGUMENTS)
        given = {name: value for name, value in self.options.items() if name in of_net}
        others = {name: value for name, value in self.options.items() if name not in of_net}
        if self._wants_images:
            if image_shape is None:
                found = f"{registry.function_name('net', self.net)}, for {self.dataset}, whose rows are no images"
                raise ConfigError("Sweep.net", found, "set net to mlp, or give data of images")
            given["image_shape"] = tuple(image_shape)
        net = self.net(
            inputs,
            self.widths,
            activation=self.activation,
            coding_activation=self.coding_activation,
            decoder_widths=self.decoder_widths,
            precision=self.precision,
            **given,
        )
        return self.variant(nets.tied(net) if self.tied else net, output=self.output, error=self.error, **others)

    @property
    def _wants_images(self) -> bool:
        return registry.function_name("net", self.net) in nets.IMAGE_NETS

    def _options_of(self, function: Callable, *standard: str) -> tuple[str, ...]:
        return tuple(name for name in variants.keyword_names(function) if name not in standard)

    def _example_shape(self) -> tuple[int, tuple[int, ...] | None]:
        """Inputs and image shape of data that would do, for what does not depend on them."""
        return (32 * 32, (32, 32)) if self._wants_images else (self.codings + 1, None)

    def training_data(self, dataset: datasets.Dataset) -> datasets.Dataset:
        """What it is trained on: the dataset, or with `moments` fewer rows with its mean and covariance."""
        return moments.condense(dataset) if self.moments else dataset

    def check_shape(self, train_rows: int, inputs: int) -> None:
        """Raise ConfigError where this sweep does not fit data of that shape."""
        overcomplete = self.build(*self._example_shape()).overcomplete
        if self.codings >= inputs and not overcomplete:
            raise ConfigError(
                "Sweep.widths",
                f"{self.codings} codings for the {inputs} inputs of {self.dataset}, with an undercomplete variant",
                f"end widths in at most {inputs - 1}",
            )
        if self.batch_size is not None and self.batch_size > train_rows:
            raise ConfigError(
                "Sweep.batch_size",
                f"{self.batch_size}, but {self.dataset} has {train_rows} training rows",
                f"set batch_size to at most {train_rows}, or None for the full batch",
            )
        steps = self.steps(train_rows)
        if steps >= 2**31:
            found = f"{self.epochs}, which makes {steps} steps"
            raise ConfigError("Sweep.epochs", found, "stay below 2147483648 steps")

    def steps(self, train_rows: int) -> int:
        """Steps of the optimiser on so many training rows."""
        batch_size = self.batch_size or train_rows
        return self.epochs * (self.full_batch_steps if batch_size == train_rows else -(-train_rows // batch_size))

    def check_data(self, data: datasets.Dataset) -> None:
        """Raise ConfigError or DataError where this sweep does not fit the data."""
        self.check_shape(len(data.x_train), data.inputs)
        built = self.build(data.inputs, data.image_shape)
        for score in self.scores:
            if score.needs_labels and (data.y_train is None or data.y_test is None):
                fix = "leave that score out, or give data with labels"
                raise DataError(self.dataset, f"no labels, which the score {score.name} needs", fix)
        rows = len(data.x_train) + len(data.x_validation)
        if rows < self.codings and not built.overcomplete:
            found = f"{rows} training and validation rows, fewer than the {self.codings} codings"
            fix = f"PCA needs at least {self.codings} rows: give more data or fewer codings"
            raise DataError(self.dataset, found, fix)
        if self.output is jax.nn.sigmoid:
            registry.from_zero_to_one(data)

    def points(self) -> list[dict[str, float]]:
        """Hyper-parameters of every setting: all combinations of a grid, or the points as they were given."""
        if not isinstance(self.hyper, Mapping):
            return [dict(point) for point in self.hyper]
        return [dict(point) for point in points.grid(**self.hyper)]

    def runs(self) -> list[tuple[int, dict[str, float]]]:
        """(seed, hyper) of every run: each point with every seed."""
        return [(seed, dict(point)) for point in self.points() for seed in self.seeds]

    def smoke(self) -> Sweep:
        """The same sweep cut to two epochs, two seeds and one point: for finding out whether it runs.

        Where the number of codings is swept there are two points, with the first and the last number.
        """
        first, *others = self.points()
        last = [one for one in others if self.codings_of(one) != self.codings_of(first)][-1:]
        hyper = (first, *last)
        batch_size = None if self.batch_size is None else min(self.batch_size, 64)
        shrunk = {"epochs": min(self.epochs, 2), "full_batch_steps": min(self.full_batch_steps, 2)}
        shrunk |= {"pretraining": self.pretraining and self.pretraining.smoke()}
        return dataclasses.replace(self, **shrunk, seeds=self.seeds[:2], hyper=hyper, batch_size=batch_size)

    def config(self) -> dict[str, Any]:
        """Everything but seeds and hyper-parameters as JSON values; functions by name."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name not in ("seeds", "hyper")}
        values["scores"] = [score.config() for score in self.scores]
        values["pretraining"] = self.pretraining and self.pretraining.config()
        values["options"] = {n: list(v) if isinstance(v, tuple) else v for n, v in self.options.items()}
        for name in registry.CHOICES:
            values[name] = registry.function_name(name, values[name])
        for name, default in DEFAULTS_LEFT_OUT.items():
            if values[name] == default:
                del values[name]
        digests = {name: registry.digest(name, getattr(self, name)) for name in registry.CUSTOM_FUNCTION_FIELDS}
        values["digests"] = {name: one for name, one in digests.items() if one is not None}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}


def from_config(config: Mapping[str, Any], hyper: Mapping[str, float], seed: int) -> Sweep:
    """The sweep of one stored run, from its JSON. Runs no code of the run's own; a schedule is not needed again.

    A run of fewer codings than its net has is the smaller net: its parameters were stored so. Raises ConfigError for a
    run whose net has a function of its owner's.
    """
    values = {**decode_config(config), "scores": ()}
    for name, choices in registry.CHOICES.items():
        if name == "schedule" and values[name] not in choices:
            values[name] = "constant"
        if values[name] not in choices:
            fix = "build the net in Python and take the parameters with results.read_run"
            raise ConfigError(f"config.{name}", f"{values[name]!r} is not aejax's own", fix)
        values[name] = choices[values[name]]
    own = Sweep(**values, hyper=dict(hyper), seeds=(seed,))
    widths, kept = own.widths_of(hyper), {name: value for name, value in hyper.items() if name != "codings"}
    return dataclasses.replace(own, widths=widths, hyper=kept)


def check_all(sweeps: Sequence[Sweep]) -> None:
    """Raise ConfigError when one run is asked for twice; check shapes of datasets that are known without reading."""
    seen: dict[str, str] = {}
    for i, sweep in enumerate(sweeps):
        known = datasets.known_shape(sweep.dataset)
        if known is not None:
            sweep.check_shape(*known)
        config = sweep.config()
        for seed, hyper in sweep.runs():
            where, twin = f"SWEEPS[{i}] seed {seed} {hyper}", run_id(config, hyper, seed, "")
            if twin in seen:
                raise ConfigError(f"SWEEPS[{i}]", f"the same run twice: {seen[twin]} and {where}", "remove one of them")
            seen[twin] = where


def _set(sweep: Sweep, name: str, value: object) -> None:
    object.__setattr__(sweep, name, value)
