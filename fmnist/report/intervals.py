"""Statistics over seeds and over images: intervals, paired differences, power, curves with bands, rank correlation.

scipy is imported only when one is computed.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import nan
from statistics import fmean, stdev

SURE = 50.0  # standard errors between two means: even two values each show that


@dataclass(frozen=True)
class Interval:
    """The mean of n values with its 95 % interval by Student's t; sd is the standard deviation (n - 1).

    What n is too small for is nan: the mean needs one value, the deviation and the interval need two.
    """

    n: int
    mean: float
    sd: float

    @cached_property
    def half(self) -> float:
        """Half the width of the interval."""
        if self.n < 2:
            return nan
        from scipy.special import stdtrit  # the quantile of Student's t: scipy.stats.t.ppf, a hundred times as fast

        return float(stdtrit(self.n - 1, 0.975) * self.sd / math.sqrt(self.n))

    @property
    def low(self) -> float:
        """The lower end of the interval."""
        return self.mean - self.half

    @property
    def high(self) -> float:
        """The upper end of the interval."""
        return self.mean + self.half


@dataclass(frozen=True)
class Curve:
    """A metric by epoch over several runs: mean, smallest and largest value, as far as all of the runs go."""

    epochs: list[int]
    mean: list[float]
    low: list[float]
    high: list[float]


def interval(values: Sequence[float]) -> Interval:
    """The mean of some values with its 95 % interval."""
    n = len(values)
    return Interval(n, fmean(values) if n else nan, stdev(values) if n > 1 else nan)


def paired(pairs: Sequence[tuple[float, float]]) -> tuple[Interval, float]:
    """The mean difference a - b of pairs with its interval, and p by the paired t test (scipy.stats.ttest_rel).

    p is two-sided; it is nan for fewer than two pairs and for differences that are all equal.
    """
    difference = interval([a - b for a, b in pairs])
    if difference.n < 2 or difference.sd <= 1e-12 * abs(difference.mean):
        return difference, nan
    from scipy import stats

    return difference, float(stats.ttest_rel(*zip(*pairs, strict=True)).pvalue)


def pooled(samples: Sequence[Sequence[float]]) -> tuple[float, int]:
    """The standard deviation that several samples share, each around its own mean, and its degrees of freedom; nan and
    0 where no sample has two values."""
    degrees = sum(len(sample) - 1 for sample in samples if len(sample) > 1)
    squares = sum((len(sample) - 1) * stdev(sample) ** 2 for sample in samples if len(sample) > 1)
    return (math.sqrt(squares / degrees) if degrees else nan), degrees


def power(difference: float, sd: float, n: int, pairs: bool) -> float:
    """The probability that a two-sided t test at 5 % finds a true difference between two means (Cohen 1988).

    pairs: n differences of pairs with standard deviation sd; otherwise two samples of n values with sd each. By the
    noncentral t distribution, scipy.stats.nct.
    """
    from scipy.stats import nct, t

    degrees, spread = (n - 1, sd) if pairs else (2 * n - 2, sd * math.sqrt(2))
    shift, limit = abs(difference) / spread * math.sqrt(n), float(t.ppf(0.975, degrees))
    if shift > SURE:
        return 1.0
    return float(nct.sf(limit, degrees, shift) + nct.cdf(-limit, degrees, shift))


def needed(difference: float, sd: float, pairs: bool, wanted: float = 0.8, most: int = 10_000) -> int | None:
    """The smallest n with which a difference is found with the probability that is wanted; see `power`. None where it
    is above `most`."""
    low, high = 1, 2
    while power(difference, sd, high, pairs) < wanted:
        low, high = high, 2 * high
        if low >= most:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if power(difference, sd, middle, pairs) >= wanted else (middle, high)
    return high if high <= most else None


def mcnemar(only_a: int, only_b: int) -> float:
    """p of McNemar's exact test (1947) that two classifiers are equally often right, of the examples that only one of
    them has right: two-sided, by the binomial distribution; 1 where there are none."""
    from scipy import stats

    return float(stats.binomtest(only_a, only_a + only_b).pvalue) if only_a + only_b else 1.0


def bootstrap(only_a: int, only_b: int, n: int, draws: int = 10_000, seed: int = 0) -> tuple[float, float]:
    """The 95 % interval of the difference of two accuracies on the same n examples, by the paired bootstrap (Efron
    1979) with percentiles. only_a, only_b: how many examples only one of the two has right.

    To draw n examples with replacement is to draw how many of the three kinds there are: a multinomial.
    """
    import numpy as np

    shares = [only_a / n, only_b / n, max(0.0, 1 - (only_a + only_b) / n)]
    drawn = np.random.default_rng(seed).multinomial(n, shares, size=draws)
    low, high = np.quantile((drawn[:, 0] - drawn[:, 1]) / n, [0.025, 0.975])
    return float(low), float(high)


def curve(series: Sequence[dict[int, float]]) -> Curve:
    """One curve of several runs' values by epoch; runs without values are left out.

    The runs of one configuration record the same epochs, but may stop early: the curve ends where the first one ends.
    """
    series = [own for own in series if own]
    epochs = sorted(set.intersection(*map(set, series))) if series else []
    columns = [[own[epoch] for own in series] for epoch in epochs]
    return Curve(epochs, [*map(fmean, columns)], [*map(min, columns)], [*map(max, columns)])


def ranks(values: Sequence[float]) -> list[float]:
    """The place of each value in ascending order, from 1 on; equal values share the mean of their places."""
    from scipy import stats

    return [float(rank) for rank in stats.rankdata(values)]


def rank_correlation(xs: Sequence[float], ys: Sequence[float]) -> float:
    """Spearman's rank correlation, in [-1, 1] (scipy.stats.spearmanr)."""
    from scipy import stats

    return float(stats.spearmanr(xs, ys).statistic)
