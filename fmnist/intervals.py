"""Statistics over seeds: intervals, paired differences, curves with bands. scipy is imported for them only."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import nan
from statistics import fmean, stdev


@dataclass(frozen=True)
class Interval:
    """n values: mean, standard deviation, and the interval of the mean by Student's t. nan where n is too small."""

    n: int
    mean: float
    sd: float
    low: float
    high: float


@dataclass(frozen=True)
class Curve:
    """A figure by epoch over n runs: mean, smallest and largest, as far as all of the runs go."""

    epochs: list[int]
    mean: list[float]
    low: list[float]
    high: list[float]
    n: int


def interval(values: Sequence[float], level: float = 0.95) -> Interval:
    """Mean, standard deviation (n - 1) and Student's t interval of the mean."""
    n = len(values)
    if n < 2:
        return Interval(n, values[0] if n else nan, nan, nan, nan)
    from scipy.special import stdtrit  # the quantile of Student's t: scipy.stats.t.ppf, a hundred times as fast

    mean, sd = fmean(values), stdev(values)
    half = float(stdtrit(n - 1, (1 + level) / 2)) * sd / n**0.5
    return Interval(n, mean, sd, mean - half, mean + half)


def paired(pairs: Sequence[tuple[float, float]]) -> tuple[Interval, float]:
    """The differences a - b of pairs: the interval of their mean, and p by the paired t test (scipy.stats.ttest_rel,
    two-sided; nan for fewer than two pairs or differences that are all equal)."""
    difference = interval([a - b for a, b in pairs])
    if difference.n < 2 or difference.sd <= 1e-12 * abs(difference.mean):
        return difference, nan
    from scipy import stats

    return difference, float(stats.ttest_rel(*zip(*pairs, strict=True)).pvalue)


def curve(series: Sequence[dict[int, float]]) -> Curve:
    """Several runs' values by epoch, those without any left out. The runs of one configuration record the same epochs,
    but may stop early: the curve ends where the first of them does."""
    series = [own for own in series if own]
    epochs = sorted(set.intersection(*map(set, series))) if series else []
    columns = [[own[epoch] for own in series] for epoch in epochs]
    return Curve(epochs, [*map(fmean, columns)], [*map(min, columns)], [*map(max, columns)], len(series))


def rank_correlation(xs: Sequence[float], ys: Sequence[float]) -> float:
    """Spearman's, in [-1, 1] (scipy.stats.spearmanr)."""
    from scipy import stats

    return float(stats.spearmanr(xs, ys).statistic)
