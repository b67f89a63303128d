"""Optional parts of a variant: progress, recorded metrics, the criterion and the post-update. Scores of a sweep."""

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

    def post_update(params, metrics):
        steps = {"steps": params["memory"]["steps"] + 1, "progress": params["memory"]["progress"] + metrics["progress"]}
        layer = params["decoder"]["layer_0"]
        kernel = layer["kernel"] / jnp.linalg.norm(layer["kernel"], axis=1, keepdims=True)
        decoder = {**params["decoder"], "layer_0": {**layer, "kernel": kernel}}
        return {**params, "decoder": decoder, "memory": steps}

    plain = variants.plain(NET)
    return plain._replace(
        init=init,
        loss=loss,
        post_update=post_update,
        recorded_metrics=("age", "progress"),
        criterion="age",
        coding_axes=(),
    )


AUTOENCODER = counting()


def test_progress_is_not_a_hyper_parameter_and_rises_from_0_to_1():
    assert variants.hyper_names(AUTOENCODER) == ()
    fit = train.fit(AUTOENCODER, DATASET, seed=0, **SETTINGS)
    total = sum(step / STEPS for step in range(STEPS))
    assert float(fit.last_params["memory"]["progress"]) == pytest.approx(total)
    np.testing.assert_array_equal(fit.history["validation_progress"], 1.0)  # evaluation passes 1


@pytest.mark.parametrize("batch_size", [18, 20])
def test_post_update_follows_every_step_and_its_memory_is_kept_with_the_parameters(batch_size):
    """Four steps an epoch; with batches of 20 of 72 rows the last one is smaller."""
    fit = train.fit(AUTOENCODER, DATASET, seed=0, **{**SETTINGS, "batch_size": batch_size})
    assert float(fit.last_params["memory"]["steps"]) == STEPS
    assert float(fit.params["memory"]["steps"]) == STEPS / 3
    lengths = np.linalg.norm(fit.params["decoder"]["layer_0"]["kernel"], axis=1)
    np.testing.assert_allclose(lengths, 1.0, rtol=1e-6)


def test_the_criterion_chooses_the_best_epoch():
    fit = train.fit(AUTOENCODER, DATASET, seed=0, **SETTINGS)
    assert fit.history["validation_error"].argmin() == 2
    assert fit.best_epoch == 0
    assert fit.best_error == 4
    np.testing.assert_array_equal(fit.history["validation_age"], [4, 8, 12])


def test_last_gives_the_last_epoch_instead_of_the_best():
    fit = train.fit(AUTOENCODER, DATASET, seed=0, **SETTINGS)
    last = fit.last("age")
    assert (last.best_epoch, last.best_error) == (2, 12)
    assert float(last.params["memory"]["steps"]) == STEPS
    assert float(fit.params["memory"]["steps"]) == STEPS / 3


def test_each_member_of_a_population_equals_the_run_alone():
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


def test_scores_are_stored_in_the_row_and_in_the_config(monkeypatch):
    monkeypatch.setitem(scores.SCORES, "halved", halved)
    sweep = Sweep(**TINY, scores=(halved(4),))
    assert sweep.config()["scores"] == [{"name": "halved", "power": 4}]
    assert run_identity.decode_config(sweep.config())["scores"] == (halved(4),)
    fit = train.fit(sweep.build(12), DATASET, seed=0, epochs=1, batch_size=18, learning_rate=0.01, l2=0.0)
    scored = scoring.score_run(sweep, 0, {"learning_rate": 0.01, "l2": 0.0}, DATASET, fit)
    row = scored.row
    arrays = scored.arrays
    assert row["scores"] == {"half_codings": 0.75}
    assert arrays["score/one"].shape == (2,)


def test_a_score_that_is_not_finite_fails_the_run(monkeypatch):
    broken = Score("halved", (), lambda trained: ({"half_codings": float("nan")}, {}))
    sweep = Sweep(**TINY, scores=(broken,))
    fit = train.fit(sweep.build(12), DATASET, seed=0, epochs=1, batch_size=18, learning_rate=0.01, l2=0.0)
    row = scoring.score_run(sweep, 0, {"learning_rate": 0.01, "l2": 0.0}, DATASET, fit).row
    assert (row["status"], row["reason"]) == ("failed", "half_codings not finite")


def test_a_running_score_can_be_interrupted():
    def check_for_interruption(trained):
        trained.check_interrupt()
        return {}, {}

    def stop():
        raise Interrupted(2)

    sweep = Sweep(**TINY, scores=(Score("asking", (), check_for_interruption),))
    fit = train.fit(sweep.build(12), DATASET, seed=0, epochs=1, batch_size=18, learning_rate=0.01, l2=0.0)
    arguments = sweep, 0, {"learning_rate": 0.01, "l2": 0.0}, DATASET, fit
    with pytest.raises(Interrupted):
        scoring.score_run(*arguments, stop)
    assert scoring.score_run(*arguments).row["status"] == "completed"


def test_invalid_scores_and_options_are_refused(refused):
    refused(ConfigError, "Sweep.scores[0]", "likelihood", call=lambda: Sweep(**{**TINY, "scores": ("likelihood",)}))
    refused(ConfigError, "Sweep.scores[1]", "twice", call=lambda: Sweep(**TINY, scores=(halved(), halved())))
    refused(ConfigError, "Sweep.options.k", "unknown option", call=lambda: Sweep(**TINY, options={"k": 3}))
    refused(ConfigError, "Sweep.options", "dict", call=lambda: Sweep(**{**TINY, "options": 3}))
    unlabelled = DATASET.__class__(**{**vars(DATASET), "y_train": None})
    call = Sweep(**TINY, scores=(halved(),)).check_data
    refused(DataError, "no labels", "halved", call=lambda: call(unlabelled))


def test_a_run_that_keeps_the_last_epoch_is_scored_with_its_parameters():
    scored = {}
    hyper: dict[str, Any] = {"learning_rate": 0.01, "l2": 0.0}
    for keep in ("best", "last"):
        sweep = Sweep(**{**TINY, "epochs": 3}, keep=keep)
        fit = train.fit(sweep.build(12), DATASET, seed=0, epochs=3, batch_size=18, **hyper)
        worse = fit._replace(best_epoch=0, params=sweep.build(12).init(jax.random.key(0)))
        scored[keep] = scoring.score_run(sweep, 0, hyper, DATASET, worse)
    np.testing.assert_array_equal(
        scored["last"].params["encoder"]["layer_0"]["bias"], fit.last_params["encoder"]["layer_0"]["bias"]
    )
    assert (scored["best"].row["best_epoch"], scored["last"].row["best_epoch"]) == (1, 3)
    assert scored["last"].row["sse_test"] < scored["best"].row["sse_test"]


def test_default_fields_and_no_scores_are_left_out_of_the_config():
    assert not set(run_identity.DEFAULTS_LEFT_OUT) & set(Sweep(**TINY).config())
    assert Sweep(**TINY, scores=(halved(),)).config() != Sweep(**TINY).config()
