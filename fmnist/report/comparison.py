"""Run records read back and grouped over seeds: what can be compared with what. Needs no torch."""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import inf, isfinite
from pathlib import Path
from typing import Any

from fmnist import UserError
from fmnist.config.parse import flat
from fmnist.config.schema import MODELS, NOT_HASHED, SEEDS
from fmnist.record.result import read_result, read_rows
from fmnist.report.intervals import Curve, Interval, curve, interval, paired


@dataclass(frozen=True)
class Result:
    """One run as its record tells it.

    status: done, failed, interrupted or running; or unreadable, unstarted, duplicate. error: why, where there is one.
    knobs: its config, flat. figures: the final ones by tag, and "objective", what it is judged by.
    """

    directory: Path
    status: str
    error: str | None = None
    knobs: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    config_hash: str = ""
    commit: str | None = None
    known_rows: list[dict[str, float]] | None = None  # where they need not be read from the directory
    epoch: int = 0

    @property
    def seed(self) -> tuple[Any, ...]:
        """What pairs it with the runs of other configurations."""
        return tuple(self.knobs.get(name) for name in SEEDS)

    @cached_property
    def rows(self) -> list[dict[str, float]]:
        """One dict per recorded epoch, none where they cannot be read."""
        if self.known_rows is not None:
            return self.known_rows
        try:
            return [row for row in read_rows(self.directory) if isinstance(row, dict) and "epoch" in row]
        except (OSError, ValueError):
            return []


@dataclass(frozen=True)
class Configuration:
    """Runs that differ in their seeds alone. knobs: those that vary in its comparison. others: runs that do not count."""

    knobs: dict[str, Any]
    done: list[Result]
    others: list[Result]

    @property
    def label(self) -> str:
        """Its knobs in words: "lr 0.001, dropout none"."""
        return (
            ", ".join(f"{short(name)} {value_in_words(value, name)}" for name, value in self.knobs.items())
            or "all runs"
        )

    def values(self, tag: str) -> dict[tuple[Any, ...], float]:
        """A final figure of its finished runs, by seed."""
        return {run.seed: run.metrics[tag] for run in self.done if tag in run.metrics}

    def interval(self, tag: str) -> Interval:
        """Of a final figure over its finished runs."""
        return interval([*self.values(tag).values()])

    def minus(self, other: "Configuration", tag: str) -> tuple[Interval, float]:
        """Its difference from another in a final figure, over the seeds that both have, and p (see `paired`)."""
        ours, theirs = self.values(tag), other.values(tag)
        return paired([(value, theirs[seed]) for seed, value in ours.items() if seed in theirs])

    def curve(self, tag: str) -> Curve:
        """A figure by epoch over its finished runs."""
        return curve([{int(row["epoch"]): row[tag] for row in run.rows if tag in row} for run in self.done])


@dataclass(frozen=True)
class Comparison:
    """Configurations that are judged by the same figure, the best first, those without a finished run last.

    judged: the tag of that figure; better: max or min. varying: the knobs that differ, shared: those that do not.
    """

    title: str
    judged: str
    better: Callable[..., float]
    varying: list[str]
    shared: dict[str, Any]
    configurations: list[Configuration]

    @property
    def measure(self) -> str:
        """What it is judged by, without the part of the data: accuracy or loss."""
        return self.judged.partition("/")[2]

    @property
    def test(self) -> str:
        """The tag of the same figure on the test rows."""
        return f"test/{self.measure}"

    @property
    def finished(self) -> list[Configuration]:
        """The configurations with at least one finished run, best first."""
        return [configuration for configuration in self.configurations if configuration.done]

    @property
    def runs(self) -> list[Result]:
        """All runs that count."""
        return [run for configuration in self.configurations for run in configuration.done]

    @property
    def tags(self) -> list[str]:
        """Of all final figures, in the order of the records."""
        return list(dict.fromkeys(tag for run in self.runs for tag in run.metrics if tag != "objective"))


def find(directories: Iterable[Path]) -> list[Path]:
    """The directories of all runs in or below some directories, in natural order (2 before 10), each once.

    Raises UserError for a directory that is not there or has no runs.
    """
    found: dict[Path, Path] = {}
    for directory in directories:
        if not directory.is_dir():
            raise UserError(f"DIR must be a directory with runs in or below it: there is no directory {directory}")
        # a job of a sweep whose config was refused has Hydra's files and no record
        marks = [*directory.rglob("result.json"), *directory.rglob(".hydra")]
        if not marks:
            raise UserError(f"DIR must be a directory with runs in or below it: {directory} has none")
        for mark in marks:
            found.setdefault(mark.parent.resolve(), mark.parent)
    return sorted(found.values(), key=natural)


def natural(path: Path) -> list[tuple[bool, float, str]]:
    """A sort key by which numbers in names count as numbers."""
    words = re.findall(r"\d+|\D+", str(path))
    return [(not word.isdecimal(), float(word) if word.isdecimal() else 0.0, word) for word in words]


def read(directories: Iterable[Path]) -> list[Result]:
    """All runs in or below some directories. What cannot be read becomes a Result that says so, and so does a finished
    run that was counted already (the same config, seeds included). Raises UserError where there are no runs."""
    results: list[Result] = []
    known: dict[str, Path] = {}
    for directory in find(directories):
        result = read_one(directory)
        if result.status == "done" and result.config_hash in known:
            same = f"the same run as {known[result.config_hash]}"
            result = replace(result, status="duplicate", error=same)
        elif result.status == "done":
            known[result.config_hash] = directory
        results.append(result)
    return results


def read_one(directory: Path) -> Result:
    """The run of one directory, which need not be in order."""
    try:
        raw = read_result(directory)
        if raw is None:
            return Result(directory, "unstarted", "no result.json; train.log may say why")
        knobs = flat(raw["config"])
        if knobs["model.name"] not in MODELS:
            raise ValueError(f"unknown model {knobs['model.name']!r}")
        status, error = str(raw["status"]), raw["error"]
        metrics = {tag: float(value) for tag, value in raw["metrics"].items()}
        if status == "done":
            metrics["objective"] = float(raw["objective"])
            if not isfinite(metrics["objective"]):
                status, error = "failed", f"its objective is {metrics['objective']}"
        seconds, identity, epoch = float(raw["seconds"]), str(raw["config_hash"]), int(raw["epoch"])
        return Result(directory, status, error, knobs, metrics, seconds, identity, raw["commit"], epoch=epoch)
    except UserError as problem:
        return Result(directory, "unreadable", str(problem))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as problem:
        return Result(directory, "unreadable", f"result.json: {type(problem).__name__}: {problem}")


def comparisons(results: Sequence[Result]) -> list[Comparison]:
    """The readable runs by what they are judged by, and each such group by configuration."""
    kinds: dict[str, list[Result]] = {}
    for result in (result for result in results if result.knobs):
        model = result.knobs["model.name"]  # the losses of two models, or of two names, cannot be compared
        kind = "classifiers" if MODELS[model].classifies else f"{model}, loss {result.knobs.get('loss')}"
        kinds.setdefault(kind, []).append(result)
    return [_comparison(kind, own) for kind, own in kinds.items()]


def _comparison(title: str, results: list[Result]) -> Comparison:
    kind = MODELS[results[0].knobs["model.name"]]
    held_out = any(tag.startswith("validation/") for result in results for tag in result.metrics)
    names = list(dict.fromkeys(name for result in results for name in result.knobs if name not in NOT_HASHED))
    varying, shared = [], {}
    for name in (name for name in names if name not in SEEDS):
        # a knob that some runs do not have follows from the group they have chosen: that one is named already
        values = {repr(result.knobs[name]): result.knobs[name] for result in results if name in result.knobs}
        if len(values) > 1:
            varying.append(name)
        else:
            shared[name] = next(iter(values.values()))
    groups: dict[str, list[Result]] = {}
    for result in results:
        groups.setdefault(repr([result.knobs.get(name, "-") for name in varying]), []).append(result)
    configurations = [
        Configuration(
            {name: own[0].knobs[name] for name in varying if name in own[0].knobs},
            done=[result for result in own if result.status == "done"],
            others=[result for result in own if result.status != "done"],
        )
        for own in groups.values()
    ]
    sign = -1 if kind.better is max else 1

    def worse(configuration: Configuration) -> float:
        return sign * configuration.interval("objective").mean if configuration.done else inf

    judged = f"{'validation' if held_out else 'train'}/{kind.judged_by}"
    return Comparison(title, judged, kind.better, varying, shared, sorted(configurations, key=worse))


def short(name: str) -> str:
    """A knob as the user types it: the choice of a group by the group's name."""
    return name.removesuffix(".name")


def value_in_words(value: Any, name: str = "") -> str:
    """A knob's value as a user writes it; null is "none", but the batch of all rows is "full"."""
    if value is None:
        return "full" if name == "batch_size" else "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return f"[{','.join(map(value_in_words, value))}]"
    return f"{value:g}" if isinstance(value, float) else str(value)


def in_order(values: Iterable[Any], name: str = "") -> list[Any]:
    """A knob's values, each once: none first (the full batch last), numbers by size, then lists, then names."""

    def key(value: Any) -> tuple[int, Any]:
        if value is None:
            return (1, inf) if name == "batch_size" else (0, 0)
        return (1, value) if isinstance(value, int | float) else (2, value) if isinstance(value, list) else (3, value)

    return sorted({repr(value): value for value in values}.values(), key=key)
