"""What a variant may have besides its loss: progress, what is watched, the criterion, and what follows each step."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aejax import nets, variants
from aejax.config import run_identity
from aejax.config.sweep import Sweep
from aejax.evaluation import scores
from aejax.evaluation.scores import Score
from aejax.runner import scoring
from aejax.runtime.errors import ConfigError, DataError
from aejax.runtime.signals import Interrupted
from aejax.training import train
from support import small_dataset

NET = nets.mlp(12, (4, 3))
DATASET = small_dataset()
SETTINGS = {"epochs": 3, "batch_size": 18, "learning_rate": 0.01}
STEPS = 12


def counting():
    """A variant that counts its steps, keeps its decoder's rows at length 1, and prefers early epochs."""

    def init(key, codings=None):
        return NET.init(key, codings) | {"memory": {"steps": jnp.zeros(()), "progress": jnp.zeros(())}}

    def loss(params, key, x_bd, *, progress):
        reconstruction_bd = NET.decode(params, NET.encode(params, x_bd))
        error = jnp.mean(jnp.square(reconstruction_bd - x_bd))
        return error, {"error": error, "age": params["memory"]["steps"], "progress": jnp.asarray(progress)}

    def settle(params, metrics):
        steps = {"steps": params["memory"]["steps"] + 1, "progress": params["memory"]["progress"] + metrics["progress"]}
        layer = params["decoder"]["layer_0"]
        kernel = layer["kernel"] / jnp.linalg.norm(layer["kernel"], axis=1, keepdims=True)
        decoder = {**params["decoder"], "layer_0": {**layer, "kernel": kernel}}
        return {**params, "decoder": decoder, "memory": steps}

    plain = variants.plain(NET)
    return plain._replace(
        init=init, loss=loss, post_update=settle, recorded_metrics=("age", "progress"), criterion="age", coding_axes=()
    )


AUTOENCODER = counting()


def test_progress_is_no_hyper_parameter_and_runs_from_0_to_1():
    assert variants.hyper_names(AUTOENCODER) == ()
    fit = train.fit(AUTOENCODER, DATASET, seed=0, **SETTINGS)
    told = sum(step / STEPS for step in range(STEPS))
    assert float(fit.last_params["memory"]["progress"]) == pytest.approx(told)
    np.testing.assert_array_equal(fit.history["validation_progress"], 1.0)  # an evaluation is at the end


def test_settle_follows_every_step_and_its_memory_is_kept_with_the_parameters():
    fit = train.fit(AUTOENCODER, DATASET, seed=0, **SETTINGS)
    assert float(fit.last_params["memory"]["steps"]) == STEPS
    assert float(fit.params["memory"]["steps"]) == STEPS / 3
    lengths = np.linalg.norm(fit.params["decoder"]["layer_0"]["kernel"], axis=1)
    np.testing.assert_allclose(lengths, 1.0, rtol=1e-6)


def test_the_epoch_is_chosen_by_the_criterion():
    fit = train.fit(AUTOENCODER, DATASET, seed=0, **SETTINGS)
    assert fit.history["validation_error"].argmin() == 2
    assert fit.best_epoch == 0
    assert fit.best_error == 4
    np.testing.assert_array_equal(fit.history["validation_age"], [4, 8, 12])


def test_the_last_epoch_instead_of_the_best():
    fit = train.fit(AUTOENCODER, DATASET, seed=0, **SETTINGS)
    last = fit.last("age")
    assert (last.best_epoch, last.best_error) == (2, 12)
    assert float(last.params["memory"]["steps"]) == STEPS
    assert float(fit.params["memory"]["steps"]) == STEPS / 3


def test_a_population_of_it_has_the_numbers_of_each_alone():
    runs = [(seed, {"learning_rate": 0.01}) for seed in (0, 1, 2)]
    fits = train.fit_population(AUTOENCODER, DATASET, runs, epochs=3, batch_size=18, how="vmap").fits
    alone = train.fit(AUTOENCODER, DATASET, seed=1, **SETTINGS)
    np.testing.assert_allclose(fits[1].history["train_loss"], alone.history["train_loss"], rtol=1e-4)
    assert float(fits[2].last_params["memory"]["steps"]) == STEPS


def _codings_of(trained, power):
    return {"half_codings": trained.codings / power}, {"score/one": np.ones(2)}


def halved(power=2):
    headers = (("half_codings", "half", "half the number of codings"),)
    return Score("halved", (("power", power),), _codings_of, headers, needs_labels=True)


TINY = {"dataset": "digits", "widths": (4, 3), "epochs": 1, "batch_size": 64}
TINY |= {"hyper": {"learning_rate": 0.01, "l2": 0.0}}


def test_scores_stand_in_the_row_and_in_the_identity(monkeypatch):
    monkeypatch.setitem(scores.SCORES, "halved", halved)
    one = Sweep(**TINY, scores=(halved(4),))
    assert one.config()["scores"] == [{"name": "halved", "power": 4}]
    assert run_identity.decode_config(one.config())["scores"] == (halved(4),)
    fit = train.fit(one.build(12), DATASET, seed=0, epochs=1, batch_size=18, learning_rate=0.01, l2=0.0)
    row, _, arrays = scoring.score_run(one, 0, {"learning_rate": 0.01, "l2": 0.0}, DATASET, fit)
    assert row["scores"] == {"half_codings": 0.75}
    assert arrays["score/one"].shape == (2,)


def test_a_number_that_is_not_finite_fails_the_run(monkeypatch):
    broken = Score("halved", (), lambda trained: ({"half_codings": float("nan")}, {}))
    one = Sweep(**TINY, scores=(broken,))
    fit = train.fit(one.build(12), DATASET, seed=0, epochs=1, batch_size=18, learning_rate=0.01, l2=0.0)
    row, _, _ = scoring.score_run(one, 0, {"learning_rate": 0.01, "l2": 0.0}, DATASET, fit)
    assert (row["status"], row["reason"]) == ("failed", "half_codings not finite")


def test_a_score_that_takes_long_can_be_stopped():
    def ask(trained):
        trained.check()
        return {}, {}

    def stop():
        raise Interrupted(2)

    one = Sweep(**TINY, scores=(Score("asking", (), ask),))
    fit = train.fit(one.build(12), DATASET, seed=0, epochs=1, batch_size=18, learning_rate=0.01, l2=0.0)
    arguments = one, 0, {"learning_rate": 0.01, "l2": 0.0}, DATASET, fit
    with pytest.raises(Interrupted):
        scoring.score_run(*arguments, stop)
    assert scoring.score_run(*arguments)[0]["status"] == "completed"


def test_what_is_no_score_or_no_option_is_named(refused):
    refused(ConfigError, "Sweep.scores[0]", "likelihood", call=lambda: Sweep(**{**TINY, "scores": ("likelihood",)}))
    refused(ConfigError, "Sweep.scores[1]", "twice", call=lambda: Sweep(**TINY, scores=(halved(), halved())))
    refused(ConfigError, "Sweep.options.k", "unknown option", call=lambda: Sweep(**TINY, options={"k": 3}))
    refused(ConfigError, "Sweep.options", "dict", call=lambda: Sweep(**{**TINY, "options": 3}))
    unlabelled = DATASET.__class__(**{**vars(DATASET), "y_train": None})
    call = Sweep(**TINY, scores=(halved(),)).check_data
    refused(DataError, "no labels", "halved", call=lambda: call(unlabelled))


def test_a_run_that_keeps_the_last_epoch_is_scored_by_it():
    numbers = {}
    hyper: dict[str, Any] = {"learning_rate": 0.01, "l2": 0.0}
    for keep in ("best", "last"):
        one = Sweep(**{**TINY, "epochs": 3}, keep=keep)
        fit = train.fit(one.build(12), DATASET, seed=0, epochs=3, batch_size=18, **hyper)
        worse = fit._replace(best_epoch=0, params=one.build(12).init(jax.random.key(0)))
        numbers[keep], params, _ = scoring.score_run(one, 0, hyper, DATASET, worse)
    np.testing.assert_array_equal(params["encoder"]["layer_0"]["bias"], fit.last_params["encoder"]["layer_0"]["bias"])
    assert (numbers["best"]["best_epoch"], numbers["last"]["best_epoch"]) == (1, 3)
    assert numbers["last"]["sse_test"] < numbers["best"]["sse_test"]


def test_a_config_without_them_keeps_the_identity_it_had():
    assert not set(run_identity.DEFAULTS_LEFT_OUT) & set(Sweep(**TINY).config())
    assert Sweep(**TINY, scores=(halved(),)).config() != Sweep(**TINY).config()
