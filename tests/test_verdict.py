"""The verdict of a summary on every label, on rows made by hand."""

import pytest

from fabricated import make, read_csv, terminal, verdict


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ((25.0, 25.4, 25.8), "loses to PCA ~: SSE 25.40 ± 0.99 against 10.00 (ratio 2.54), 0 of 3 seeds win;"),
        ((5.0, 5.1, 5.2), "wins against PCA ~: SSE 5.100 ± 0.25 against 10.00 (ratio 0.510), 3 of 3 seeds win"),
        ((9.0, 9.5, 12.0), "is undecided against PCA ~: SSE 10.17 ± 4.0 against 10.00 (ratio 1.02), 2 of 3"),
        ((9.0, 11.0, 11.0), "is undecided against PCA ~: SSE 10.33 ± 2.9 against 10.00 (ratio 1.03), 1 of 3"),
        ((9.999, 10.001), "matches PCA to 0.1% ~"),
        ((9.999, 12.0), "is undecided against PCA ~: SSE 11.00"),  # one seed that matches
        ((9.95, 9.952), "wins against PCA ~: SSE 9.951"),  # by half a per cent
        ((9.9, 5.0), "wins against PCA in every completed seed, yet within the 95 % interval, ~"),
        ((8.0,), "wins against PCA ~: SSE 8.000 against 10.00 (ratio 0.800), 1 of 1 seed wins; it is worth 8.00"),
    ],
)
def test_verdict(tmp_path, values, words):
    said = verdict(tmp_path, [make(seed=i, sse=sse) for i, sse in enumerate(values)])
    assert said.startswith(f"**stacked** on blobs {words.replace('~', 'at 7 codings')}")


@pytest.mark.parametrize(
    ("pca", "ours", "words"),
    [
        (
            0.0,
            (3.0, 3.0),
            "PCA is exact at 12 codings; the autoencoder's SSE is 3.000 ± 0; it is worth 10.5 components.",
        ),
        (2e-11, (1e-11, 3.0), "PCA is exact at 12 codings; the autoencoder's SSE is 1.500 ± 19; it is worth"),
        (
            2e-11,
            (1e-11, 1e-11),
            "both are exact at 12 codings; the autoencoder's SSE is 1.000e-11 ± 0; it is worth 12.0 components.",
        ),
    ],
)
def test_nothing_wins_or_loses_against_an_exact_pca(tmp_path, capsys, pca, ours, words):
    rows = [make("a", i, sse, codings=12, pca_sse_test=pca, sse_ratio=None) for i, sse in enumerate(ours)]
    assert verdict(tmp_path, rows).startswith(f"**a** on blobs: {words}")
    assert read_csv(tmp_path)[0]["seeds_winning"] == "0"
    more = [make("a", sse=1.0, codings=k) for k in (1, 2, 3)]
    exactly, *_ = words.split(" at 12")
    said = verdict(tmp_path, [*more, *rows, make("a", dataset="moons", codings=12)])
    assert said.startswith(f"**a** on blobs wins against PCA at 1, 2, 3 codings; {exactly} at 12 codings. It wins")
    assert f". {words[0].upper()}{words[1:]}" in said
    assert said.endswith(
        " On moons: PCA is exact at 12 codings; the autoencoder's SSE is 8.000; it is worth 8.00 components."
    )
    ((*_, ratio, _, wins),) = terminal(tmp_path, rows, capsys)
    assert (ratio, wins) == ("", "0 of 2")


def test_verdict_on_many_codings_and_several_labels(tmp_path):
    rows = [make(sse=sse, codings=k) for k, sse in ((1, 3.0), (2, 30.0), (3, 4.0), (10, 4.5), (11, 9.0))]
    said = verdict(tmp_path, [*rows, make("tied", sse=1.0)])
    assert said.startswith(
        "**stacked** on blobs wins against PCA at 1, 3 codings; loses to PCA at 2, 10, 11 codings. It"
    )
    assert "It wins against PCA at 1 coding: SSE 3.000" in said
    assert "It loses to PCA at 11 codings: SSE 9.000" in said
    assert "\n\n**tied** on blobs wins against PCA at 7 codings" in (tmp_path / "summary.md").read_text("utf-8")


def scored(name, numbers, *, label="a", seed=0, sse=8.0, hyper=None, **changes):
    """A row with a score's numbers."""
    config = {"dataset": "blobs", "scores": [{"name": name}]}
    return make(label, seed, sse, hyper=hyper, scores=numbers, config=config, **changes)


@pytest.mark.parametrize(
    ("ours", "outcome", "ratio", "wins"),
    [
        ((5.4, 5.6), "wins against", "0.550", "2 of 2 seeds win"),
        ((5.0, 12.0), "is undecided against", "0.850", "1 of 2"),
    ],
)
def test_denoising_is_judged_first_by_the_error_on_noisy_rows(tmp_path, ours, outcome, ratio, wins):
    numbers = [{"denoised_sse_test": value, "pca_best_denoised_sse_test": 10.0} for value in ours]
    said = verdict(tmp_path, [scored("denoising", values, seed=i, sse=20.0) for i, values in enumerate(numbers)])
    first, second = said.split(". On clean rows ")
    assert first.startswith(f"**a** on blobs {outcome} PCA with its best number of components on noisy rows: SSE ")
    assert f"against 10.00 (ratio {ratio}), {wins}" in first
    assert second.startswith("it loses to PCA at 7 codings: SSE 20.00 ± 0 against 10.00")


def test_a_win_within_the_interval_is_named_as_such(tmp_path):
    numbers = [{"denoised_sse_test": value, "pca_best_denoised_sse_test": 10.0} for value in (5.0, 9.0)]
    said = verdict(tmp_path, [scored("denoising", values, seed=i) for i, values in enumerate(numbers)])
    assert "noisy rows in every completed seed, yet within the 95 % interval: SSE 7.000" in said


def test_the_interval_is_that_of_the_differences_of_each_seed(tmp_path):
    """Seeds may differ far more from each other than from the baseline: then the difference is clear all the same."""
    rows = [
        scored("denoising", {"denoised_sse_test": theirs - 1, "pca_best_denoised_sse_test": theirs}, seed=seed)
        for seed, theirs in enumerate((6.0, 10.0))
    ]
    assert "noisy rows: SSE 7.000 ± 25 from the clean ones against 8.000" in verdict(tmp_path, rows)


def test_sparse_codings_are_judged_at_every_sparsity_by_the_number_of_active_ones(tmp_path):
    rows = [
        scored("sparsity", {"l0": l0}, sse=sse, hyper={"l1": l1})  # worth 12 - sse / 2 components
        for l0, sse, l1 in ((9.0, 8.0, 0.1), (3.0, 16.0, 0.9))
    ]
    said = verdict(tmp_path, rows)
    assert said.startswith("**a** on blobs is at some of its settings better than PCA at equal R² (which codings")
    assert "counted): 3.000 active codings against 4.000 components (ratio 0.750), 1 of 1 seed wins; 9.000 act" in said
    assert "against 8.000 components (ratio 1.12), 0 of 1 seed wins. With a component for every unit it wins" in said
    said = verdict(tmp_path, rows[1:])
    assert said.startswith("**a** on blobs wins against PCA at equal R²")


@pytest.mark.parametrize(
    ("first", "second", "outcome"),
    [
        ((0.2, 0.21), (0.15, 0.9), "is at none of its settings better than"),  # the second within the interval
        ((0.05, 0.2), (0.3, 0.31), "is at none of its settings better than"),  # one seed wins at the first
        ((0.05, 0.051), (0.05, 0.0999), "wins against"),
        ((0.05, 0.06), (0.2, 0.21), "is at some of its settings better than"),
        ((0.05, 0.06), (0.2, None), "is at some of its settings better than"),
    ],
)
def test_settings_that_all_lose_or_win_are_not_called_better_at_some(tmp_path, first, second, outcome):
    theirs = {"pca_coding_sensitivity": 0.1, "equal_pca_coding_sensitivity": 0.01}
    rows = [
        scored("contraction", {"coding_sensitivity": ours, **(theirs if ours else {})}, seed=seed, hyper=hyper)
        for values, hyper in ((first, {"l1": 0.1}), (second, {"l1": 0.9}))
        for seed, ours in enumerate(values)
    ]
    said = verdict(tmp_path, rows)
    assert said.startswith(f"**a** on blobs {outcome} PCA with as many components in the steadiness of codings")
    assert ("(1 of 2 have no such number)" in said) == (None in second)
    assert "did not complete" not in said
    assert ("at every setting, at some within the 95 % interval: " in said) == (second == (0.05, 0.0999))


def test_a_density_is_judged_in_nats_and_only_beside_another(tmp_path):
    density = scored("likelihood", {"nll_test": -513.5, "ppca_nll_test": -517.5})
    said = verdict(tmp_path, [density])
    assert "loses to probabilistic PCA as a density: -513.5 nats against -517.5 (difference 4.0), 0 of 1" in said
    assert ". In squared error it wins against PCA at 7 codings" in said
    exact = scored("likelihood", {"nll_test": -509.0, "exact_nll_test": -520.0, "ppca_nll_test": -517.5})
    said = verdict(tmp_path, [exact])
    assert "wins against probabilistic PCA as a density: -520.0 nats against -517.5" in said
    binary = scored("likelihood", {"nll_test": 92.0, "ppca_nll_test": None})
    assert verdict(tmp_path, [binary]).startswith("**a** on blobs wins against PCA at 7 codings")


def test_sensitivity_is_compared_with_pca_of_as_many_components_and_of_no_more_error(tmp_path):
    numbers = {"coding_sensitivity": 0.05, "pca_coding_sensitivity": 0.06, "equal_pca_coding_sensitivity": 0.04}
    said = verdict(tmp_path, [scored("contraction", numbers, sse=20.0)])
    assert said.startswith("**a** on blobs wins against PCA with as many components in the steadiness of codings: sens")
    assert "It loses to PCA with no more error in the steadiness of codings: sensitivity 0.05000 against 0.04" in said
    assert ". In squared error it loses to PCA at 7 codings" in said
    without_pca = numbers | {"equal_pca_coding_sensitivity": None}
    assert "steadiness" not in verdict(tmp_path, [scored("contraction", without_pca)])


def test_classifiers_are_judged_at_every_number_of_labels(tmp_path):
    accuracies = {
        "logistic_codings": 0.8,
        "logistic_pca": 0.9,
        "neighbours_codings": 0.7,
        "neighbours_pca": 0.6,
        "finetuned": 0.95,
        "scratch": 0.9,
    }
    numbers = {f"accuracy_{n}_{name}": value for n in (100, 1000) for name, value in accuracies.items()}
    said = verdict(tmp_path, [scored("classification", numbers | {"accuracy_1000_scratch": None})])
    assert "loses to as many principal components as features of logistic regression, with 100 labels: acc" in said
    assert "accuracy 0.8000 against 0.9000" in said
    assert "It wins against the same net from scratch as a classifier, with 100 labels: accuracy 0.9500 ag" in said
    assert "It wins against as many principal components as features of nearest neighbours, with 1000 labels" in said
    assert "as a classifier, with 1000 labels" not in said


def test_the_higher_precision_wins_and_only_bits_are_compared_with_bits(tmp_path):
    means = {"": 0.6, "_itq": 0.5, "_pca": 0.7}
    numbers = {f"mean_average_precision{name}": value for name, value in means.items()}
    said = verdict(tmp_path, [scored("retrieval", numbers | {"bit_entropy": 1.0})])
    assert said.startswith("**a** on blobs wins against ITQ's bits of as many components in retrieval: mean average")
    assert ". It loses to distances of as many components in retrieval: mean average precision 0.6000 ag" in said
    said = verdict(tmp_path, [scored("retrieval", numbers | {"bit_entropy": None})])
    assert said.startswith("**a** on blobs loses to distances")


def test_scores_come_first_at_several_numbers_of_codings_too(tmp_path):
    numbers = {"denoised_sse_test": 5.0, "pca_best_denoised_sse_test": 10.0}
    said = verdict(tmp_path, [scored("denoising", numbers, codings=k) for k in (1, 2, 3, 7)])
    assert said.count("with its best number of components on noisy rows at ") == 2
    assert "noisy rows at 1 coding: SSE" in said
    assert "It wins against PCA with its best number of components on noisy rows at 7 codings: SSE" in said
    assert "On clean rows it wins against PCA at 1, 2, 3, 7 codings." in said
