"""Runs chosen by their knobs, failed ones included, and their metrics by seed."""

from math import inf, isnan, nan

import pytest
from replication.made import made

from fmnist.replication.evidence import CLASSES, Runs, at_best_rate, best_rate, mean, minus, over, studied, together
from fmnist.replication.metrics import (
    ACCURACY,
    TEST,
    at,
    average,
    final,
    first,
    gap_over,
    generalisation_gap,
    of_tag,
    opening,
    reaching,
)
from fmnist.replication.systems import JUMPS

GUESS = 1 / CLASSES


def rows(accuracy, epochs=2):
    """The same row after each epoch."""
    row = {"train/accuracy": accuracy, "train/loss": 1.0, "validation/accuracy": accuracy, "validation/loss": 1.0}
    return dict.fromkeys(range(1, epochs + 1), row)


def by_seed(sample):
    """With the number of the seed alone as the key."""
    return {seed: value for (seed, _), value in sample.items()}


def test_runs_are_chosen_by_their_knobs():
    runs = studied(made(rows(0.5), seed, lr=lr, model__depth=depth) for seed in (1, 0) for lr, depth in
                   ((0.1, 2), (0.01, 2), (0.01, 10)))  # fmt: skip
    assert len(runs.where(lr=0.01, model__depth=2).counted) == 2
    assert [*runs.by("model.depth")] == [2, 10]
    assert [*runs.where(model__depth=2).by("lr")] == [0.01, 0.1]
    assert runs.where(lr=3.0) == Runs()
    assert runs.where(lr=3.0).by("seed") == {}


def test_a_classifier_that_failed_counts_as_guessing_at_every_epoch_that_it_would_have_recorded():
    runs = studied([made(rows(0.8, 7), 0, eval_every=3), made(rows(0.9, 1), 1, "failed", epochs=7, eval_every=3)])
    assert [row["epoch"] for row in runs.where(seed=1).counted[0].rows] == [3, 6, 7]
    assert by_seed(TEST(runs)) == {0: 0.5, 1: GUESS}
    assert by_seed(at(6)(runs)) == {0: 0.8, 1: GUESS}
    assert by_seed(reaching(0.7, ACCURACY)(runs)) == {0: 1, 1: 8}  # not within its 7 epochs
    assert [run.seed for run in runs.failed] == [(1, 1)]


@pytest.mark.parametrize("metric", [
    at(2, generalisation_gap), opening(), gap_over(0.0), at(2, of_tag("train/loss")), final("test/holes"), JUMPS,
    average("surface/smoothness"),
])  # fmt: skip
def test_a_guess_has_an_accuracy_and_no_other_metric(metric):
    row = {"train/accuracy": 0.9, "validation/accuracy": 0.8, "train/loss": 1.0, "surface/smoothness": 1.0}
    some = {"metrics": {"test/holes": 0.1}}
    runs = studied([made({1: row, 2: row}, 0, **some), made({1: row, 2: row}, 1, "failed", **some)])
    assert [*by_seed(metric(runs))] == [0]


def test_failed_runs_of_other_models_are_left_out():
    runs = studied(made(rows(0.5), seed, status, model__name="vae") for seed, status in enumerate(["done", "failed"]))
    assert by_seed(TEST(runs)) == {0: 0.5}
    assert [run.seed for run in runs.failed] == [(1, 1)]
    assert [run.seed for run in runs.where(seed=1).left_out] == [(1, 1)]


def test_a_run_of_which_an_old_archive_has_no_record_failed():
    everywhere = [made(rows(0.8), seed, lr=0.1, figures=seed > 0) for seed in range(3)]
    runs = studied([*everywhere, made(rows(0.9), 0, lr=1.0), made(rows(0.9), 2, lr=1.0)])
    assert by_seed(TEST(runs.where(lr=1.0))) == {0: 0.5, 1: GUESS, 2: 0.5}
    assert [run.error for run in runs.failed] == ["no record"]
    assert len(runs.counted) == 6


def test_runs_that_did_not_end_were_not_tried_and_a_finished_run_replaces_one_that_failed():
    runs = studied([made(rows(0.5), 0), made(rows(0.5), 0, "failed"), made(rows(0.5), 1, "interrupted")])
    assert [(run.seed, run.status) for run in runs.counted] == [((0, 0), "done")]
    assert not runs.failed


def test_samples_that_are_empty_single_or_not_a_number():
    assert isnan(mean({}))
    assert over({}).n == 0
    assert (mean({0: 0.5}), over({0: 0.5}).n) == (0.5, 1)
    assert isnan(over({0: 0.5}).low)
    assert minus({}, {0: 1.0}) == minus({0: 1.0}, {}) == {}
    assert minus({0: 1.0, 1: 5.0}, {0: 0.25, 2: 1.0}) == {0: 0.75}
    assert together([]) == together([{}, {0: 1.0}]) == {}
    assert together([{0: 1.0, 1: 2.0}, {1: 3.0}]) == {1: [2.0, 3.0]}
    assert over({0: nan, 1: 0.5, 2: inf}) == over({1: 0.5})
    runs = studied(
        [made({1: {"validation/accuracy": nan}}, 0), made({1: {"validation/accuracy": 0.5}}, 1), made({}, 2)]
    )
    for metric in (at(1), average("validation/accuracy")):
        assert by_seed(metric(runs)) == {1: 0.5}
        assert metric(Runs()) == {}
    assert [*by_seed(first(lambda row: True)(runs))] == [0, 1]  # the third has no rows


def test_the_best_rate_is_neither_one_without_a_number_nor_one_that_few_survive():
    runs = studied([
        *(made(rows(0.8), seed, lr=0.01) for seed in range(10)),
        made(rows(0.95), 0, lr=0.1), *(made({}, seed, "failed", lr=0.1, epochs=2) for seed in range(1, 10)),
        *(made(rows(nan), seed, lr=0.001) for seed in range(10)),
    ])  # fmt: skip
    assert best_rate(runs, at(2)) == 0.01
    assert best_rate(runs, at(2), -1) == 0.1
    assert at_best_rate(at(2))(runs) == at(2)(runs.where(lr=0.01))
    assert isnan(best_rate(Runs(), at(2)))
    assert isnan(best_rate(runs.where(lr=0.001), at(2)))
    assert at_best_rate(at(2))(Runs()) == {}


def test_first_and_gap_by_rows_that_are_known():
    wider = {10: 0.0, 20: 0.02, 30: 0.005, 40: 0.02, 50: 0.03}
    run = made({epoch: {"train/accuracy": 0.8 + g, "validation/accuracy": 0.8} for epoch, g in wider.items()})
    runs = Runs([run])
    wide = lambda row: row["train/accuracy"] - row["validation/accuracy"] > 0.01  # noqa: E731
    assert first(wide)(runs) == {run.seed: 20}
    assert first(wide, for_good=True)(runs) == opening()(runs) == {run.seed: 40}
    assert first(lambda row: row["train/accuracy"] > 0.9, scale=2.0)(runs) == {run.seed: 120}  # not before that
    assert first(lambda row: not wide(row), for_good=True)(runs) == {run.seed: 60}
    assert at(50, generalisation_gap)(runs)[run.seed] == pytest.approx(0.03)
    fit = made({1: {"train/accuracy": 0.5, "fit/accuracy": 0.9, "validation/accuracy": 0.8}})
    assert at(1, generalisation_gap)(Runs([fit]))[fit.seed] == pytest.approx(0.1)  # not by metrics under dropout
    one = made({5: {"train/accuracy": 0.8, "validation/accuracy": 0.8}})
    assert opening()(Runs([one])) == {one.seed: 10}
