"""The runs of a study, the failed ones included, chosen by their knobs; samples over seeds. No torch.

A classifier that failed counts as guessing: its accuracy is 1 / classes whenever it is asked for, and it has no other
metric. A failed run of another model has no metric at all. The verdicts say how many runs failed.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import isfinite, isnan, nan
from typing import Any

from fmnist.config.schema import MODELS, NOT_HASHED, SEEDS
from fmnist.report.comparison import Result
from fmnist.report.intervals import Interval, interval
from fmnist.report.words import in_order

CLASSES = 10  # of Fashion-MNIST, on which all studies train
GUESS = {f"{part}/accuracy": 1 / CLASSES for part in ("train", "fit", "validation", "test")}


@dataclass(frozen=True)
class Runs:
    """Runs of a study. counted: finished runs, and guesses in place of classifiers that failed, whose status says so;
    left_out: failed runs of other models."""

    counted: list[Result] = field(default_factory=list)
    left_out: list[Result] = field(default_factory=list)

    def where(self, **knobs: Any) -> "Runs":
        """The runs with these values; `model__depth` is model.depth."""
        wanted = {name.replace("__", "."): value for name, value in knobs.items()}
        return Runs(*([run for run in own if all(run.knobs.get(name) == value for name, value in wanted.items())]
                      for own in (self.counted, self.left_out)))  # fmt: skip

    def by(self, knob: str) -> dict[Any, "Runs"]:
        """The runs for each value of a knob, in the order of the values."""
        values = in_order((run.knobs.get(knob) for run in [*self.counted, *self.left_out]), knob)
        return {value: self.where(**{knob: value}) for value in values}

    @property
    def failed(self) -> list[Result]:
        """The runs that failed, those that count as guesses and those that are left out."""
        return [run for run in self.counted if run.status == "failed"] + self.left_out


Row = Mapping[str, float]  # what a run recorded after an epoch, by tag
Sample = dict[Any, float]  # a metric by the seed of its run
Metric = Callable[[Runs], Sample]
Of = Mapping[str, Runs]  # the runs of each study


def studied(results: Iterable[Result]) -> Runs:
    """The runs of a study. All of its configurations were tried with all of its seeds: where there is no record of a
    run (archives once kept finished runs alone), it failed."""
    tried = sorted((run for run in results if run.status in ("failed", "done")), key=lambda run: run.status == "done")
    configurations: dict[str, dict[Any, Result]] = {}
    for run in tried:  # finished runs come last: they replace an attempt that failed
        knobs = {name: value for name, value in run.knobs.items() if name not in (*SEEDS, *NOT_HASHED)}
        configurations.setdefault(repr(sorted(knobs.items())), {})[run.seed] = run
    counted, left_out = [], []
    for own in configurations.values():
        some = next(iter(own.values()))
        for seed in sorted({run.seed for run in tried}):
            run = own.get(seed) or _without_record(some, seed)
            if run.status == "done":
                counted.append(run)
            elif MODELS[run.knobs["model.name"]].classifies:
                counted.append(_guess(run))
            else:
                left_out.append(run)
    return Runs(counted, left_out)


def _without_record(other: Result, seed: tuple[Any, ...]) -> Result:
    knobs = other.knobs | dict(zip(SEEDS, seed, strict=True))
    return replace(other, status="failed", error="no record", knobs=knobs, metrics={}, known_rows=[])


def _guess(run: Result) -> Result:
    """A failed classifier with the accuracies of one that guesses, at all epochs that it would have recorded."""
    every, last = run.knobs["eval_every"], run.knobs["epochs"]
    epochs = [*range(every, last, every), last]
    rows = [{"epoch": epoch, "guess": 1.0, **GUESS} for epoch in epochs]
    return replace(run, metrics={"objective": 1 / CLASSES, **GUESS}, seconds=nan, known_rows=rows)


def minus(a: Sample, b: Sample) -> Sample:
    """The differences, seed by seed."""
    return {seed: value - b[seed] for seed, value in a.items() if seed in b}


def together(samples: Sequence[Sample]) -> dict[Any, list[float]]:
    """The values of several samples, for the seeds that all of them have."""
    seeds = sorted(set.intersection(*map(set, samples))) if samples else []
    return {seed: [sample[seed] for sample in samples] for seed in seeds}


def over(sample: Sample) -> Interval:
    """Mean, deviation and interval of a sample, of its finite values."""
    return interval([value for value in sample.values() if isfinite(value)])


def mean(sample: Sample) -> float:
    """The mean of a sample, nan if it is empty."""
    return over(sample).mean


def best_rate(runs: Runs, metric: Metric, sign: int = 1) -> float:
    """The learning rate at which a metric is largest on average (sign -1: smallest), nan if there is none."""
    means = {rate: sign * mean(metric(own)) for rate, own in runs.by("lr").items()}
    return max((rate for rate, value in means.items() if not isnan(value)), key=means.__getitem__, default=nan)


def at_best_rate(metric: Metric, sign: int = 1) -> Metric:
    """A metric at the learning rate that is best for it."""
    return lambda runs: metric(runs.where(lr=best_rate(runs, metric, sign)))
