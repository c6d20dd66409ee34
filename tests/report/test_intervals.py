"""Statistics over seeds and images, by known answers."""

import math
from math import isnan

import numpy as np
import pytest
from scipy import stats

from fmnist.report.intervals import bootstrap, curve, interval, mcnemar, paired


def test_interval_has_a_known_answer():
    known = interval([0.80, 0.82, 0.87])  # t(0.975, 2) = 4.302653
    assert (known.n, known.mean) == (3, pytest.approx(0.83))
    assert known.sd == pytest.approx(0.0360555, abs=1e-7)
    assert (known.low, known.high) == (pytest.approx(0.740433, abs=1e-6), pytest.approx(0.919567, abs=1e-6))


def test_one_value_has_no_interval_and_equal_values_have_an_empty_one():
    assert interval([0.5]).mean == 0.5
    assert isnan(interval([0.5]).sd)
    assert isnan(interval([]).mean)
    same = interval([0.5] * 4)
    assert (same.sd, same.low, same.high) == (0.0, 0.5, 0.5)


def test_paired_differences_are_those_of_students_sleep_data():
    """Student 1908, The probable error of a mean: the answer is that of R's t.test(paired = TRUE)."""
    one = [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0]
    two = [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4]
    difference, p = paired(list(zip(one, two, strict=True)))
    assert difference.mean == pytest.approx(-1.58)
    assert (difference.low, difference.high) == (pytest.approx(-2.4598858), pytest.approx(-0.7001142))
    assert p == pytest.approx(0.002833, abs=1e-6)


@pytest.mark.parametrize("pairs", [[], [(1.0, 2.0)], [(0.3, 0.1), (0.4, 0.2)], [(0.5, 0.5)] * 3])
def test_without_spread_there_is_no_p(pairs):
    assert isnan(paired(pairs)[1])


def test_a_curve_has_mean_and_range_and_ends_with_the_first_run():
    of = curve([{1: 0.1, 2: 0.2, 3: 0.3}, {1: 0.3, 2: 0.4}, {}])
    assert of.epochs == [1, 2]
    assert of.mean == pytest.approx([0.2, 0.3])
    assert (of.low, of.high) == ([0.1, 0.2], [0.3, 0.4])


def test_mcnemar_is_the_exact_binomial_test():
    for only_a, only_b in ((5, 15), (12, 3), (7, 7)):
        fewer, n = min(only_a, only_b), only_a + only_b
        tail = sum(math.comb(n, k) for k in range(fewer + 1)) / 2**n
        assert mcnemar(only_a, only_b) == pytest.approx(min(1.0, 2 * tail))
    assert mcnemar(0, 0) == 1


def test_the_bootstrap_interval_is_that_of_drawing_the_images():
    right = np.array([1] * 40 + [1] * 30 + [0] * 10 + [0] * 20)
    also = np.array([1] * 40 + [0] * 30 + [1] * 10 + [0] * 20)
    found = bootstrap(30, 10, 100)
    same = stats.bootstrap((right, also), lambda a, b, axis: a.mean(axis) - b.mean(axis), paired=True, vectorized=True,
                           n_resamples=5000, method="percentile", rng=1).confidence_interval  # fmt: skip
    assert found == pytest.approx((same.low, same.high), abs=0.015)
    assert found[0] < 0.2 < found[1]
    assert bootstrap(0, 0, 100) == (0, 0)
