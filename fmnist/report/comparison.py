"""Records of runs, read and grouped over seeds: what can be compared with what. Needs no torch."""

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import inf
from pathlib import Path
from typing import Any

from fmnist import UserError
from fmnist.config.schema import BY_NAME, NOT_HASHED, SEEDS, kind
from fmnist.record.result import read_result
from fmnist.report import records
from fmnist.report.intervals import Curve, Interval, curve, interval, paired
from fmnist.report.words import natural, short, value_in_words


@dataclass(frozen=True)
class Result:
    """One run, as its record has it.

    status: done, failed, interrupted, paused, pruned or running; or unreadable, unstarted, duplicate. error: why, if
    there is a reason. knobs: its config, flat. metrics: the final ones by tag, and "objective", by which it is ranked.
    A metric that is not defined (null or nan in the record) is missing. seconds: of training, of this run alone.
    commit: of the code that ended it. earlier: those of all code that had trained it before, oldest first.
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
    data: str = ""  # the digest of its data; older records have none
    earlier: tuple[str, ...] = ()

    @property
    def seed(self) -> tuple[Any, ...]:
        """What pairs it with the runs of other configurations."""
        return tuple(self.knobs.get(name) for name in SEEDS)

    @property
    def held_out(self) -> bool:
        """Whether it has validation rows to be ranked by; without any, it is ranked by its training rows."""
        return self.knobs.get("data.split") != 1

    @cached_property
    def rows(self) -> list[dict[str, float]]:
        """One dict for each recorded epoch: "epoch" and the metrics that are defined. Raises ValueError and OSError
        where they cannot be read."""
        return records.rows(self.directory) if self.known_rows is None else self.known_rows

    @cached_property
    def undefined(self) -> list[str]:
        """The tags of the final metrics that are not defined. Raises ValueError and OSError where its directory has no
        record."""
        return records.undefined(self.directory)


@dataclass(frozen=True)
class Configuration:
    """Runs that differ in their seeds alone.

    knobs: those that vary in its comparison, with its values. done: the runs that count. others: those that do not.
    """

    knobs: dict[str, Any]
    done: list[Result]
    others: list[Result]

    @property
    def label(self) -> str:
        """Its knobs in words: "lr 0.001, dropout none"."""
        words = [f"{short(name)} {value_in_words(value, name)}" for name, value in self.knobs.items()]
        return ", ".join(words) or "all runs"

    def values(self, tag: str) -> dict[tuple[Any, ...], float]:
        """A final metric of its finished runs, by seed."""
        return {run.seed: run.metrics[tag] for run in self.done if tag in run.metrics}

    def interval(self, tag: str) -> Interval:
        """The mean of a final metric over its finished runs, with its interval."""
        return interval([*self.values(tag).values()])

    def minus(self, other: "Configuration", tag: str) -> tuple[Interval, float]:
        """Its mean difference from another in a final metric, over the seeds that both have, and p (see `paired`)."""
        ours, theirs = self.values(tag), other.values(tag)
        return paired([(value, theirs[seed]) for seed, value in ours.items() if seed in theirs])

    def curve(self, tag: str) -> Curve:
        """A metric by epoch over its finished runs."""
        return curve([{int(row["epoch"]): row[tag] for row in run.rows if tag in row} for run in self.done])


@dataclass(frozen=True)
class Comparison:
    """Configurations that are ranked by the same metric, the best first, those without a finished run last.

    judged_by: the tag of that metric, "validation/accuracy"; better: max or min. varying: the knobs that differ;
    shared: those that do not.
    """

    title: str
    judged_by: str
    better: Callable[..., float]
    varying: list[str]
    shared: dict[str, Any]
    configurations: list[Configuration]

    @property
    def metric(self) -> str:
        """The metric that ranks, without the part of the data: accuracy or loss."""
        return self.judged_by.partition("/")[2]

    @property
    def test(self) -> str:
        """The tag of the same metric on the test rows."""
        return f"test/{self.metric}"

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
        """Of all final metrics, in the order of the records."""
        return list(dict.fromkeys(tag for run in self.runs for tag in run.metrics if tag != "objective"))


def find(directories: Iterable[Path]) -> list[Path]:
    """The directories of all runs in or below some directories, in natural order (2 before 10), each once.

    A job of a sweep whose config was refused has Hydra's files and no record: it is a run too. Raises UserError for a
    directory that is not there or has no runs.
    """
    found: dict[Path, Path] = {}
    for directory in directories:
        if not os.path.isdir(directory):  # Path.is_dir raises an error where the folder around it may not be entered
            raise UserError(f"DIR must be a directory with runs in or below it: there is no directory {directory}")
        own = []
        for folder, folders, files in os.walk(directory):
            if "result.json" in files or ".hydra" in folders:
                own.append(Path(folder))
            folders[:] = [name for name in folders if not name.startswith(".")]
        if not own:
            raise UserError(f"DIR must be a directory with runs in or below it: {directory} has none")
        for run in own:
            found.setdefault(run.resolve(), run)
    return sorted(found.values(), key=natural)


def newest_sweep() -> Path:
    """The directory of the sweep that was started last, those with debug=true aside. Raises UserError where there is
    none."""
    root = Path("outputs")
    marks = [mark for sweep in ("*", "*/*") for mark in root.glob(f"{sweep}/multirun.yaml") if mark.parts[1] != "debug"]
    if not marks:
        raise UserError("there is no sweep in outputs/: name directories of runs, python -m fmnist.report DIR")
    return max(marks, key=lambda mark: mark.stat().st_mtime).parent


def read(directories: Iterable[Path]) -> list[Result]:
    """All runs in or below some directories, with their rows, each config `once`.

    What cannot be read becomes a Result that says so. Raises UserError where there are no runs.
    """
    results: list[Result] = []
    for directory in find(directories):
        result = read_one(directory)
        try:
            _ = result.rows
        except (UserError, OSError, ValueError) as problem:
            result = Result(directory, "unreadable", f"metrics.jsonl: {problem}")
        results.append(result)
    return once(results)


def once(results: Iterable[Result]) -> list[Result]:
    """The same results; but a finished run whose config, seeds included, and data have finished before becomes a
    duplicate."""
    found: list[Result] = []
    known: dict[tuple[str, str], Path] = {}
    for result in results:
        if result.status == "done":
            first = known.setdefault((result.config_hash, result.data), result.directory)
            if first != result.directory:
                result = replace(result, status="duplicate", error=f"the same run as {first}")
        found.append(result)
    return found


def read_one(directory: Path) -> Result:
    """The run of one directory, whatever state its record is in; its rows are read when they are asked for."""
    try:
        raw = read_result(directory)
        if raw is None:
            return Result(directory, "unstarted", "no result.json; train.log may say why")
        return _result(directory, raw)
    except UserError as problem:
        return Result(directory, "unreadable", str(problem))
    except KeyError as problem:
        return Result(directory, "unreadable", f"result.json: it has no {problem}")
    except (OSError, ValueError, RecursionError) as problem:
        return Result(directory, "unreadable", f"result.json: {problem}")


def _result(directory: Path, raw: dict[str, Any]) -> Result:
    """A record that has been parsed. Raises KeyError and ValueError where it is not what a run writes."""
    knobs = records.knobs(raw["config"])
    status, error = str(raw["status"]), None if raw["error"] is None else str(raw["error"])
    metrics = records.metrics(raw["metrics"], "metrics")
    if status == "done":
        objective = records.number(raw["objective"], "objective")
        if objective is None:
            status, error = "failed", "its objective is not defined"
        else:
            metrics["objective"] = objective
    seconds, epoch = (records.number(raw[name], name) or 0.0 for name in ("seconds", "epoch"))
    commit, commits = None if raw["commit"] is None else str(raw["commit"]), raw.get("commits", [])
    if not isinstance(commits, list):
        raise ValueError(f"commits must be a list, got {commits!r:.40}")
    earlier = tuple(one for one in map(str, commits) if one != commit)
    hash, data = str(raw["config_hash"]), str(raw.get("data") or "")
    return Result(directory, status, error, knobs, metrics, seconds, hash, commit, None, int(epoch), data, earlier)


def comparisons(results: Sequence[Result]) -> list[Comparison]:
    """The readable runs by what they are ranked by, and each such group by configuration.

    The losses of two models, or losses of two names, cannot be compared; nor can the metrics of validation rows with
    those of training rows, by which runs are ranked that held no rows out.
    """
    kinds: dict[tuple[str, bool], list[Result]] = {}
    for result in _placed([result for result in results if result.knobs]):
        model = result.knobs["model.name"]
        title = "classifiers" if kind(model).classifies else f"{model}, loss {result.knobs.get('loss')}"
        title += "" if result.held_out else ", without validation rows"
        kinds.setdefault((title, result.held_out), []).append(result)
    return [_comparison(title, "validation" if held_out else "train", own) for (title, held_out), own in kinds.items()]


def _placed(results: Sequence[Result]) -> list[Result]:
    """The same runs, with a data.dir that differs where their data do, and nowhere else: their digests tell."""
    places: dict[str, Any] = {}
    placed = []
    for result in results:
        if result.data:  # older records have none
            place = result.knobs.get("data.dir")
            other = place in places.values()
            place = places.setdefault(result.data, f"{place} ({result.data:.6})" if other else place)
            result = replace(result, knobs=result.knobs | {"data.dir": place})
        placed.append(result)
    return placed


def _comparison(title: str, part: str, results: list[Result]) -> Comparison:
    model = kind(results[0].knobs["model.name"])
    apart = {*NOT_HASHED, *SEEDS}
    if all("norm" in result.knobs for result in results):
        apart.add("batch_norm")  # norm=batch is another way to say it
    names = dict.fromkeys(name for result in results for name in result.knobs if name not in apart)
    off = {name: None for name in names if name.startswith(BY_NAME)}  # where a record does not name it
    results = [replace(result, knobs=off | result.knobs) for result in results]
    varying, shared = [], {}
    for name in names:
        # a knob that some runs do not have follows from the group that they have chosen: that one is named already
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
    sign = -1 if model.better is max else 1

    def rank(configuration: Configuration) -> float:
        return sign * configuration.interval("objective").mean if configuration.done else inf

    judged_by = f"{part}/{model.judged_by}"
    return Comparison(title, judged_by, model.better, varying, shared, sorted(configurations, key=rank))
