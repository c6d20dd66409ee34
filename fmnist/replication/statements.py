"""Statements about runs, the rows of the claims' tables, and the one loop that judges them. No torch."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from math import isfinite, isnan

from fmnist.replication.evidence import Metric, Runs, Sample, minus, over
from fmnist.report.intervals import paired
from fmnist.report.tables import p_value


@dataclass(frozen=True)
class Judged:
    """A statement, whether it holds, what was measured, and with how many seeds."""

    statement: str
    holds: bool
    measured: str
    n: int


@dataclass(frozen=True)
class Exceeds:
    """The statement that a metric of runs `a` exceeds that of runs `b`, compared seed by seed.

    of_b: another metric for b. unit: of the metric; points are hundredths. note: what stands before the numbers.
    """

    statement: str
    a: Runs
    b: Runs
    metric: Metric
    of_b: Metric | None = None
    unit: str = "points"
    note: str = ""

    def judge(self) -> Judged:
        """Compare the two samples."""
        a, b = self.metric(self.a), (self.of_b or self.metric)(self.b)
        found = exceeds(self.statement, a, b, self.unit)
        return replace(found, measured=self.note + found.measured + failures([(self.a, a), (self.b, b)]))


@dataclass(frozen=True)
class Lies:
    """The statement that a metric of some runs, shown in `unit`, lies between two bounds."""

    statement: str
    runs: Runs
    metric: Metric
    low: float
    high: float
    unit: str = ""

    def judge(self) -> Judged:
        """Compare the sample with the bounds."""
        sample = self.metric(self.runs)
        found = lies(self.statement, sample, self.low, self.high, self.unit)
        return replace(found, measured=found.measured + failures([(self.runs, sample)]))


Statement = Exceeds | Lies
Tables = tuple[Sequence[Statement], Sequence[Statement]]  # those that decide, those at the report's own size


@dataclass(frozen=True)
class Finding:
    """What runs say of a claim. tried: the statements that decide; at_size: those on runs at the report's own size,
    which stand beside them."""

    tried: list[Judged]
    at_size: list[Judged] = field(default_factory=list)

    @property
    def holding(self) -> set[str]:
        """The statements that hold, those at the report's own size included."""
        return {one.statement for one in [*self.tried, *self.at_size] if one.holds}

    @property
    def in_short(self) -> str:
        """supported, not supported, or how many statements hold; without any: not tried."""
        if not self.tried:
            return "not tried"
        count = sum(one.holds for one in self.tried)
        if count == len(self.tried):
            return "supported"
        return f"depends: {count} of {len(self.tried)} statements hold" if count else "not supported"

    @property
    def at_size_in_short(self) -> str:
        """How many statements hold at the report's own size, of those with runs."""
        measured = [one for one in self.at_size if one.n]
        return f"{sum(one.holds for one in measured)} of {len(measured)} statements hold" if measured else ""

    @property
    def which(self) -> str:
        """The statements that hold, or those that do not, whichever are fewer; nothing where all are alike."""
        holding, failing = ([one.statement for one in self.tried if one.holds == wanted] for wanted in (True, False))
        if not (holding and failing):
            return ""
        return "only: " + "; ".join(holding) if len(holding) < len(failing) else "not: " + "; ".join(failing)

    @property
    def verdict(self) -> str:
        """In short, and which statements hold."""
        return ", ".join(filter(None, [self.in_short, self.which]))


def judge(tables: Tables) -> Finding:
    """What the runs say of each statement."""
    tried, at_size = ([statement.judge() for statement in table] for table in tables)
    return Finding(tried, at_size)


def exceeds(statement: str, a: Sample, b: Sample, unit: str = "points") -> Judged:
    """Whether a is larger than b, compared seed by seed: the 95 % interval of the mean difference lies above 0.

    A single pair, as at the report's own size, counts by its sign. Points are hundredths.
    """
    points = unit == "points"
    scale = 100.0 if points else 1.0
    pairs = [(a[seed] * scale, b[seed] * scale) for seed, difference in minus(a, b).items() if isfinite(difference)]
    if not pairs:
        return Judged(statement, False, "no runs to compare", 0)
    difference, p = paired(pairs)
    means = " against ".join(_digits(sum(side) / len(side)) for side in zip(*pairs, strict=True))
    measured = f"{means} {'%' if points else unit}".strip() + f": {difference.mean:+.3g}{' points' * points}"
    if difference.n == 1:
        return Judged(statement, difference.mean > 0, f"{measured} (n = 1)", 1)
    bounds = f" [{difference.low:+.3g}, {difference.high:+.3g}], n = {difference.n}"
    measured += bounds + ("" if isnan(p) else f", p {_p(p)}")
    return Judged(statement, difference.low > 0, measured, difference.n)


def lies(statement: str, sample: Sample, low: float, high: float, unit: str) -> Judged:
    """Whether the whole 95 % interval of a mean lies between two bounds; of a single value, this value."""
    seen = over(sample)
    if not seen.n:
        return Judged(statement, False, "no runs to measure", 0)
    start, end = (seen.mean, seen.mean) if seen.n == 1 else (seen.low, seen.high)
    bounds = "" if seen.n == 1 else f" [{_digits(start)}, {_digits(end)}]"
    measured = f"{_digits(seen.mean)}{bounds} {unit}".strip() + f", n = {seen.n}"
    return Judged(statement, low <= start and end <= high, measured, seen.n)


def failures(sides: Sequence[tuple[Runs, Sample]]) -> str:
    """In words, how many of the runs failed, and how many of these the samples count as guesses or leave out."""
    failed = {id(run) for runs, _ in sides for run in runs.failed}
    guesses = failed & {id(run) for runs, sample in sides for run in runs.counted if run.seed in sample}
    lost = failed - guesses
    words = [f"{len(guesses)} failed run{' counts as a guess' if len(guesses) == 1 else 's count as guesses'}"]
    words += [f"{len(lost)} failed run{' is' if len(lost) == 1 else 's are'} left out"]
    said = [text for text, own in zip(words, (guesses, lost), strict=True) if own]
    return f" ({', '.join(said)})" if said else ""


def _digits(value: float) -> str:
    return f"{value:.4g}"


def _p(p: float) -> str:
    text = p_value(p)
    return text if text.startswith("<") else f"= {text}"
