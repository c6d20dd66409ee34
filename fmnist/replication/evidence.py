"""What runs say for or against a statement: samples over seeds, paired studies, verdicts. No torch."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import inf, isnan, nan
from typing import Any

from fmnist.report.comparison import Configuration, Result
from fmnist.report.intervals import Interval, interval, paired
from fmnist.report.plots import Line, Picture
from fmnist.report.tables import Table, p_value, spread

GAPS = {"accuracy": 0.01, "loss": 0.05}  # from which a gap counts as open: a point of accuracy, 0.05 nats
EPOCH = 100  # iterations: the small studies of the claims train 12,800 rows in batches of 128
Sample = dict[Any, float]  # a figure by the seed of its run


@dataclass(frozen=True)
class Part:
    """One statement that can be true or false, what was measured with n seeds, and whether that bears it out."""

    statement: str
    holds: bool
    measured: str
    n: int


@dataclass(frozen=True)
class Finding:
    """What the runs of a claim's studies say: parts decide; at_size: the same once at the report's own size."""

    parts: list[Part]
    pictures: list[Picture]
    tables: list[Table] = field(default_factory=list)
    at_size: list[Part] = field(default_factory=list)

    @property
    def pattern(self) -> str:
        """Which parts hold, and which at the report's own size: y or n for each, "yn/y"."""
        return "/".join("".join("y" if part.holds else "n" for part in own) for own in (self.parts, self.at_size))

    @property
    def in_short(self) -> str:
        """supported, not supported, or how many parts hold."""
        count = sum(part.holds for part in self.parts)
        if count == len(self.parts):
            return "supported"
        return f"depends: {count} of {len(self.parts)} parts hold" if count else "not supported"

    @property
    def at_size_in_short(self) -> str:
        """How many parts hold at the report's own size, of those with runs."""
        tried = [part for part in self.at_size if part.n]
        return f"{sum(part.holds for part in tried)} of {len(tried)} parts hold" if tried else ""

    @property
    def which(self) -> str:
        """Which parts hold, or which do not, whichever are fewer; nothing where all are alike."""
        holding, failing = ([part.statement for part in self.parts if part.holds == wanted] for wanted in (True, False))
        if not (holding and failing):
            return ""
        return "only: " + "; ".join(holding) if len(holding) < len(failing) else "not: " + "; ".join(failing)

    @property
    def verdict(self) -> str:
        """Both."""
        return ", ".join(filter(None, [self.in_short, self.which]))


class Runs:
    """The finished runs of a study, to be chosen from by their knobs."""

    def __init__(self, results: Iterable[Result]) -> None:
        self.results = [result for result in results if result.status == "done"]

    def where(self, **knobs: Any) -> Configuration:
        """The runs with these values, `model__depth` for model.depth; they differ in their seeds alone."""
        wanted = {name.replace("__", "."): value for name, value in knobs.items()}
        chosen = [r for r in self.results if all(r.knobs.get(name) == value for name, value in wanted.items())]
        return Configuration(wanted, chosen, [])


Of = Mapping[str, Runs]  # the runs of each study


def at(runs: Configuration, tag: str, epoch: int) -> Sample:
    """A figure as recorded after an epoch."""
    return {run.seed: row[tag] for run in runs.done for row in run.rows if row["epoch"] == epoch and tag in row}


def gap_of(row: dict[str, float], measure: str = "accuracy") -> float:
    """How much better the training rows fare than the validation rows; training figures without noise if there are."""
    seen = row[f"fit/{measure}" if f"fit/{measure}" in row else f"train/{measure}"]
    return (seen - row[f"validation/{measure}"]) * (1 if measure == "accuracy" else -1)


def gap(runs: Configuration, epoch: int, measure: str = "accuracy") -> Sample:
    """`gap_of` by seed after an epoch."""
    return {run.seed: gap_of(row, measure) for run in runs.done for row in run.rows if row["epoch"] == epoch}


def first(runs: Configuration, met: Callable[[dict[str, float]], bool], for_good: bool = False) -> Sample:
    """The first recorded epoch at which a row meets a condition (for_good: and all later ones do). Where none does, the
    one that would have been recorded next: the least that it can be."""
    found: Sample = {}
    for run in runs.done:
        epochs = [row["epoch"] for row in run.rows]
        missed = [row["epoch"] for row in run.rows if not met(row)]
        after = max(missed, default=-inf) if for_good else -inf
        beyond = 2 * epochs[-1] - (epochs[-2] if len(epochs) > 1 else 0)
        found[run.seed] = min((epoch for epoch in epochs if epoch > after and epoch not in missed), default=beyond)
    return found


def opening(runs: Configuration, measure: str = "accuracy") -> Sample:
    """From which recorded epoch on the gap stays open."""
    return first(runs, lambda row: gap_of(row, measure) > GAPS[measure], for_good=True)


def over(sample: Sample) -> Interval:
    """Mean, deviation and interval of a sample."""
    return interval([*sample.values()])


def mean(sample: Sample) -> float:
    """The mean of a sample."""
    return over(sample).mean


def exceeds(statement: str, a: Sample, b: Sample, unit: str = "points", scale: float = 100.0) -> Part:
    """Whether a is larger than b, compared seed by seed: the 95 % interval of the mean difference lies above 0.

    A single pair, as at the report's own size, counts by its sign.
    """
    pairs = [(value * scale, b[seed] * scale) for seed, value in a.items() if seed in b]
    if not pairs:
        return Part(statement, False, "no runs to compare", 0)
    difference, p = paired(pairs)
    means = " against ".join(_told(sum(side) / len(side)) for side in zip(*pairs, strict=True))
    points = unit == "points"
    measured = f"{means} {'%' if points else unit}".strip() + f": {difference.mean:+.3g}{' points' * points}"
    if difference.n == 1:
        return Part(statement, difference.mean > 0, f"{measured} (n = 1)", 1)
    bounds = f" [{difference.low:+.3g}, {difference.high:+.3g}], n = {difference.n}"
    measured += bounds + (f", p {_p(p)}" if not isnan(p) else "")
    return Part(statement, difference.low > 0, measured, difference.n)


def lies(statement: str, sample: Sample, low: float, high: float, unit: str) -> Part:
    """Whether the whole 95 % interval of a mean lies between two bounds."""
    seen = over(sample)
    inside = seen.n > 0 and low <= (seen.mean if isnan(seen.low) else seen.low)
    inside = inside and (seen.mean if isnan(seen.high) else seen.high) <= high
    bounds = "" if isnan(seen.low) else f" [{_told(seen.low)}, {_told(seen.high)}]"
    return Part(statement, inside, f"{_told(seen.mean)}{bounds} {unit}".strip() + f", n = {seen.n}", seen.n)


def best(candidates: Sequence[Configuration], value: Callable[[Configuration], float]) -> Configuration:
    """The one with the largest value: what a knob is tuned by."""
    return max(candidates, key=lambda c: -inf if not c.done or isnan(v := value(c)) else v)


def _told(value: float) -> str:
    return f"{value:.4g}"


def _p(p: float) -> str:
    text = p_value(p)
    return text if text.startswith("<") else f"= {text}"


def percent(sample: Sample) -> str:
    """Mean and deviation of shares, in per cent."""
    return spread(over({seed: 100 * value for seed, value in sample.items()}))


def line(label: str, runs: Configuration, value: Callable[[dict[str, float]], float], x: float = 1.0) -> Line:
    """The mean of a figure of the rows over the seeds, by epoch times x, with the band from smallest to largest."""
    by_epoch: dict[float, list[float]] = {}
    for run in runs.done:
        for row in run.rows:
            by_epoch.setdefault(row["epoch"] * x, []).append(value(row))
    kept = {epoch: values for epoch, values in sorted(by_epoch.items()) if len(values) == len(runs.done)}
    values = [*kept.values()]
    return Line(label, [*kept], [sum(v) / len(v) for v in values], [*map(min, values)], [*map(max, values)])


def of_tag(tag: str) -> Callable[[dict[str, float]], float]:
    """What `line` is to draw: a figure of a row, nan where there is none."""
    return lambda row: row.get(tag, nan)


ACCURACY = of_tag("validation/accuracy")


def spans(label: str, samples: Mapping[float, Sample]) -> Line:
    """Means with their 95 % intervals as a band, over what the samples belong to."""
    seen = {x: over(sample) for x, sample in samples.items()}
    low, high = ([getattr(i, end) for i in seen.values()] for end in ("low", "high"))
    return Line(label, [*seen], [i.mean for i in seen.values()], low, high)
