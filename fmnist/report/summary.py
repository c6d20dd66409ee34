"""The recorded test metrics of runs, by configuration: mean, deviation and range; and what a report compares."""

from collections.abc import Sequence
from math import isnan, nan
from pathlib import Path
from typing import Any

from fmnist import UserError
from fmnist.program.output import printable
from fmnist.report.against import baselines, paired_with
from fmnist.report.comparison import Comparison, Configuration, Result, comparisons, read
from fmnist.report.intervals import Interval
from fmnist.report.tables import Table, fixed


def summarised(directories: Sequence[Path]) -> dict[str, Any]:
    """ "configurations", each with its "comparison", "configuration" (in words), "knobs" and "metrics", by tag their n,
    mean, std, min and max; and the runs that are "not_counted". Raises UserError where no run is finished."""
    found = read(directories)
    configurations = [
        {"comparison": comparison.title, "configuration": own.label, "knobs": own.knobs, "metrics": _spread(own)}
        for comparison in comparisons(found) for own in comparison.finished
    ]  # fmt: skip
    others = not_counted(found)
    if not configurations:
        raise UserError(f"no run is finished: {'; '.join(map(why, others))}")
    return {"configurations": configurations, "not_counted": others}


def compared(directories: Sequence[Path], baseline: Sequence[str] = ()) -> dict[str, Any]:
    """What a report says in numbers: "comparisons", and the runs that are "not_counted".

    Each comparison has its "groups", the best first: runs that differ in their seeds alone, with n, mean, std and 95 %
    interval of each final metric, "objective" among them. "paired" are the tests against its "baseline": the best, or
    the one that is asked for, see `baselines`. Raises UserError where there is nothing to compare or no such baseline.
    """
    results = read(directories)
    found = comparisons(results)
    wanted = baselines(found, baseline)
    return {
        "comparisons": [_numbers(comparison, own) for comparison, own in zip(found, wanted, strict=True)],
        "not_counted": not_counted(results),
    }


def _numbers(comparison: Comparison, wanted: Configuration | None) -> dict[str, Any]:
    reference = wanted or next(iter(comparison.finished), None)
    groups = [
        {"configuration": own.label, "knobs": own.knobs, "n": len(own.done), "left_out": len(own.others),
         "runs": [str(run.directory) for run in own.done],
         "metrics": {tag: _interval(own.interval(tag)) for tag in ["objective", *comparison.tags]} if own.done else {}}
        for own in comparison.configurations
    ]  # fmt: skip
    return {
        "comparison": comparison.title, "judged_by": comparison.judged_by, "shared": comparison.shared,
        "groups": groups, "baseline": reference and reference.label,
        "paired": _tests(comparison, reference) if reference else [],
    }  # fmt: skip


def _interval(interval: Interval) -> dict[str, float]:
    return {"n": interval.n, "mean": interval.mean, "std": interval.sd, "low": interval.low, "high": interval.high}


def _tests(comparison: Comparison, baseline: Configuration) -> list[dict[str, Any]]:
    tests = paired_with(comparison, baseline)
    return [
        {"configuration": own.label, "metrics": {
            tag: _interval(difference) | {"p": p, "p_bonferroni": min(p * len(tests), 1.0)}
            for tag, (difference, p) in found.items()}}
        for own, found in tests
    ]  # fmt: skip


def not_counted(found: Sequence[Result]) -> list[dict[str, str]]:
    """The runs that are not finished: "run", its "status", and the "error" if there is one."""
    return [{"run": str(run.directory), "status": run.status, "error": run.error or ""}
            for run in found if run.status != "done"]  # fmt: skip


def why(other: dict[str, str]) -> str:
    """A run that does not count, in words."""
    return printable(f"{other['run']}: {other['status']}{', ' * bool(other['error'])}{other['error']}")


def listed(others: Sequence[dict[str, str]]) -> list[str]:
    """A paragraph about the runs that do not count; none where all do."""
    return ["\n".join(["not counted:", *map(why, others)])] if others else []


def summary(directories: Sequence[Path]) -> str:
    """`summarised`, for a person: a table for each configuration, then the runs that do not count."""
    found = summarised(directories)
    heads = [printable(f"{own['comparison']}, {own['configuration']}") for own in found["configurations"]]
    tables = [_table(own["metrics"]) for own in found["configurations"]]
    blocks = [f"{head}\n{table}" for head, table in zip(heads, tables, strict=True)]
    return "\n\n".join([*blocks, *listed(found["not_counted"])])


def _spread(configuration: Configuration) -> dict[str, dict[str, float]]:
    """The test metrics of a configuration's finished runs, by tag."""
    tags = (tag for run in configuration.done for tag in [*run.metrics, *run.undefined] if tag.startswith("test/"))
    spread = {}
    for tag in dict.fromkeys(tags):
        values, seen = configuration.values(tag).values(), configuration.interval(tag)
        spread[tag] = {"n": seen.n, "undefined": sum(tag in run.undefined for run in configuration.done),
                       "mean": seen.mean, "std": seen.sd, "min": min(values, default=nan),
                       "max": max(values, default=nan)}  # fmt: skip
    return spread


def _table(metrics: dict[str, dict[str, float]]) -> str:
    rows: list[list[str]] = []
    for tag, own in metrics.items():
        count = f"{own['n']}, {own['undefined']} undefined" if own["undefined"] else str(own["n"])
        numbers = (own[name] for name in ("mean", "std", "min", "max"))
        rows.append([tag, count, *("" if isnan(value) else fixed(value, 4) for value in numbers)])
    return Table(["", "n", "mean", "std", "min", "max"], rows).text()
