"""Statements about runs: judged by intervals over the seeds, failed runs counted and named."""

from dataclasses import replace
from math import inf, nan

import pytest
from hypothesis import given
from hypothesis import strategies as st
from replication.made import made

from fmnist.replication.evidence import Runs, studied
from fmnist.replication.metrics import TEST, at, final, generalisation_gap
from fmnist.replication.statements import Exceeds, Finding, Judged, Lies, exceeds, judge, lies

SEEDS = [(seed, seed) for seed in range(10)]


def near(mean, wobble=0.01):
    """A sample of ten seeds around a mean."""
    return {seed: mean + wobble * (-1) ** number for number, seed in enumerate(SEEDS)}


def test_a_difference_counts_only_if_its_interval_is_above_zero():
    assert exceeds("", near(0.9), near(0.8)).holds
    assert not exceeds("", near(0.8), near(0.9)).holds
    noisy = {seed: 0.8 + 0.05 * (number % 3 - 1) for number, seed in enumerate(SEEDS)}
    assert not exceeds("", noisy, near(0.8, 0.0)).holds
    assert exceeds("", {0: 0.9}, {0: 0.8}).holds  # once, at the report's size: by its sign
    assert not exceeds("", {0: 0.8}, {0: 0.9}).holds
    assert exceeds("", {0: 0.9}, {0: 0.8}).measured == "90 against 80 %: +10 points (n = 1)"


def test_without_samples_nothing_holds():
    for a, b in (({}, {}), ({}, near(0.8)), (near(0.8), {}), ({0: 1.0}, {1: 0.0})):
        assert exceeds("", a, b) == Judged("", False, "no runs to compare", 0)
    assert lies("", {}, -1.0, 1.0, "") == Judged("", False, "no runs to measure", 0)


@pytest.mark.parametrize("value", [nan, inf, -inf])
def test_a_value_that_is_not_finite_does_not_count(value):
    assert exceeds("", {0: value, 1: value}, {0: 0.1, 1: 0.2}).n == 0
    assert exceeds("", {0: 0.9, 1: 0.5}, {0: 0.1, 1: value}).n == 1
    assert lies("", {0: value, 1: 0.5}, 0.0, 1.0, "") == lies("", {1: 0.5}, 0.0, 1.0, "")
    assert lies("", {0: value, 1: value}, -inf, inf, "").n == 0


def test_a_single_seed_lies_between_bounds_by_its_value():
    assert lies("", {0: 0.5}, 0.0, 1.0, "points") == Judged("", True, "0.5 points, n = 1", 1)
    assert not lies("", {0: 1.5}, 0.0, 1.0, "").holds


@given(st.lists(st.floats(0, 1), min_size=2, max_size=20), st.floats(0, 1), st.floats(0, 1))
def test_an_interval_lies_between_bounds_only_if_its_mean_does(values, low, high):
    judged = lies("", dict(enumerate(values)), low, high, "")
    mean = sum(values) / len(values)
    assert not judged.holds or low - 1e-9 <= mean <= high + 1e-9


def test_a_verdict_follows_from_the_statements():
    yes, no = Judged("this", True, "", 10), Judged("that", False, "", 10)
    assert Finding([]).verdict == "not tried"
    assert Finding([yes, yes]).verdict == "supported"
    assert Finding([no, no]).verdict == "not supported"
    assert Finding([no, yes, no]).verdict == "depends: 1 of 3 statements hold, only: this"
    assert Finding([yes, no]).verdict == "depends: 1 of 2 statements hold, not: that"
    sized = Finding([yes, no], at_size=[Judged("at size", True, "", 1), replace(no, n=0)])
    assert sized.at_size_in_short == "1 of 1 statements hold"
    assert sized.holding == {"this", "at size"}
    assert Finding([yes], at_size=[replace(no, n=0)]).at_size_in_short == ""


def classifiers(accuracy, failed=0):
    """Ten runs, the last of which failed."""
    for seed in range(10):
        row = {"fit/accuracy": accuracy + 0.1, "validation/accuracy": accuracy + 0.001 * seed}
        yield made({1: row}, seed, "failed" if seed >= 10 - failed else "done", metrics={"test/accuracy": accuracy})


def test_failed_classifiers_count_as_guesses_and_are_named():
    sound, shaky = studied(classifiers(0.8)), studied(classifiers(0.85, failed=4))
    better = Exceeds("shaky is better", shaky, sound, at(1)).judge()
    assert not better.holds  # the six that survived are
    assert better.n == 10
    assert better.measured.endswith("(4 failed runs count as guesses)")
    assert Exceeds("", studied(classifiers(0.85)), sound, at(1)).judge().holds
    gap = Exceeds("", shaky, sound, at(1, generalisation_gap)).judge()
    assert gap.n == 6
    assert gap.measured.endswith("(4 failed runs are left out)")
    both = Exceeds("", shaky, shaky, TEST).judge()  # the same runs on both sides are named once
    assert both.measured.endswith("(4 failed runs count as guesses)")
    one = Lies("", studied(classifiers(0.85, failed=1)), TEST, 0.0, 1.0).judge()
    assert one.measured.endswith("n = 10 (1 failed run counts as a guess)")


def test_failed_autoencoders_are_left_out_and_are_named():
    runs = studied(made({}, seed, "failed" if seed == 3 else "done", model__name="vae", metrics={"test/holes": 0.02})
                   for seed in range(5))  # fmt: skip
    judged = Lies("few holes", runs, final("test/holes"), 0.0, 0.05, "of the space").judge()
    assert judged == Judged("few holes", True, "0.02 [0.02, 0.02] of the space, n = 4 (1 failed run is left out)", 4)


def test_a_failed_autoencoder_is_no_guess_where_another_run_has_its_seed():
    runs = studied(made({}, seed, "failed" if loss == "mse" and seed == 1 else "done", model__name="vae", loss=loss)
                   for seed in range(2) for loss in ("mse", "mae"))  # fmt: skip
    assert Lies("", runs, TEST, 0.0, 1.0).judge().measured.endswith("n = 2 (1 failed run is left out)")


def test_one_loop_judges_both_tables_and_a_note_stands_before_the_numbers():
    a, b = Runs([made({}, 0, metrics={"test/accuracy": 0.9})]), Runs([made({}, 0, metrics={"test/accuracy": 0.8})])
    finding = judge(([Exceeds("a", a, b, TEST, note="to 0.5: "), Exceeds("b", b, a, TEST)], [Lies("c", a, TEST, 0, 1)]))
    assert [(one.statement, one.holds) for one in finding.tried] == [("a", True), ("b", False)]
    assert finding.tried[0].measured == "to 0.5: 90 against 80 %: +10 points (n = 1)"
    assert finding.holding == {"a", "c"}
    other = Exceeds("", a, b, TEST, final("objective"), unit="a run").judge()
    assert other.measured == pytest.approx("0.9 against 0.5 a run: +0.4 (n = 1)")
