"""Metrics of runs by the seed of the run. No torch.

A metric that a run does not have, or that is not finite, is missing from a sample: it is never the largest or the
smallest.
"""

from collections.abc import Callable
from math import inf, isfinite, nan

from fmnist.replication.evidence import Metric, Row, Runs, Sample
from fmnist.report.comparison import Result

OPEN = {"accuracy": 0.01, "loss": 0.05}  # a generalisation gap over this is open: a point of accuracy, 0.05 nats
EPOCH = 100  # iterations, in the small studies: they train on 12,800 rows in batches of 128
OfRow = Callable[[Row], float]


def of_tag(tag: str) -> OfRow:
    """The metric of a row that has this tag, nan where there is none."""
    return lambda row: row.get(tag, nan)


ACCURACY = of_tag("validation/accuracy")
ACCURACIES = {"training": of_tag("train/accuracy"), "validation": ACCURACY}


def error(row: Row) -> float:
    """The share of training rows that the network gets wrong."""
    return 1 - ACCURACIES["training"](row)


def generalisation_gap(row: Row, measure: str = "accuracy") -> float:
    """How much better the network does on training rows than on validation rows. Training rows count as measured
    without dropout and noise where they were (`fit`). A guess has no gap: nan."""
    seen = row.get(f"fit/{measure}", row.get(f"train/{measure}", nan))
    difference = seen - row.get(f"validation/{measure}", nan)
    return nan if "guess" in row else difference if measure == "accuracy" else -difference


def each(value: Callable[[Result], float]) -> Metric:
    """The metric that is this value of each run."""

    def metric(runs: Runs) -> Sample:
        values = {run.seed: value(run) for run in runs.counted}
        return {seed: known for seed, known in values.items() if isfinite(known)}

    return metric


def final(tag: str) -> Metric:
    """A metric of the finished run."""
    return each(lambda run: run.metrics.get(tag, nan))


TEST = final("test/accuracy")


def at(epoch: int, value: OfRow = ACCURACY) -> Metric:
    """A metric as recorded after an epoch."""
    return each(lambda run: next((value(row) for row in run.rows if row["epoch"] == epoch), nan))


def after(iterations: int, value: OfRow = ACCURACY) -> Metric:
    """A metric of the small studies after some iterations."""
    return at(iterations // EPOCH, value)


def average(tag: str) -> Metric:
    """A metric of the rows, averaged over training."""
    return each(lambda run: sum(map(of_tag(tag), run.rows)) / len(run.rows) if run.rows else nan)


def first(met: Callable[[Row], bool], for_good: bool = False, scale: float = 1.0) -> Metric:
    """The first recorded epoch, times scale, whose row meets a condition (for_good: and all later rows do). Where no
    row does, the epoch that would have been recorded next: the least that it can be."""

    def epoch(run: Result) -> float:
        epochs = [row["epoch"] for row in run.rows]
        if not epochs:
            return nan
        missed = {row["epoch"] for row in run.rows if not met(row)}
        start = max(missed, default=-inf) if for_good else -inf
        beyond = 2 * epochs[-1] - (epochs[-2] if len(epochs) > 1 else 0)
        return scale * min((epoch for epoch in epochs if epoch > start and epoch not in missed), default=beyond)

    return each(epoch)


def reaching(accuracy: float, value: OfRow, scale: float = 1.0) -> Metric:
    """The first epoch, times scale, with this accuracy or a higher one."""
    return first(lambda row: value(row) >= accuracy, scale=scale)


def gap_over(bound: float, measure: str = "accuracy") -> Metric:
    """From which recorded epoch on the generalisation gap stays above a bound. A guess has no such epoch."""
    stays = first(lambda row: generalisation_gap(row, measure) > bound, for_good=True)
    return lambda runs: stays(Runs([run for run in runs.counted if run.status == "done"]))


def opening(measure: str = "accuracy") -> Metric:
    """From which recorded epoch on the generalisation gap stays open."""
    return gap_over(OPEN[measure], measure)
