"""Configurations against one of them, paired by seed: which one that is, and the tests."""

import json
from collections.abc import Sequence
from typing import Any

from fmnist import UserError
from fmnist.report.comparison import Comparison, Configuration
from fmnist.report.intervals import Interval
from fmnist.report.words import short


def paired_with(
    comparison: Comparison, baseline: Configuration
) -> list[tuple[Configuration, dict[str, tuple[Interval, float]]]]:
    """The finished configurations that share two seeds or more with one of them, the best first, each with its mean
    difference from that one and p, of the objective and of the same metric on the test rows."""
    tags = ("objective", comparison.test)
    others = [own for own in comparison.finished if own is not baseline]
    found = [(own, {tag: own.minus(baseline, tag) for tag in tags}) for own in others]
    return [(own, tests) for own, tests in found if tests["objective"][0].n > 1]


def baselines(all_comparisons: Sequence[Comparison], wanted: Sequence[str]) -> list[Configuration | None]:
    """For each comparison the configuration that is asked for, KNOB=VALUE each, None where it has none.

    Raises UserError where no comparison has it, and where one has several.
    """
    if not wanted:
        return [None] * len(all_comparisons)
    pairs = [text.partition("=") for text in wanted]
    knobs = {name: _value(value) for name, _, value in pairs}
    found: list[Configuration | None] = []
    for comparison in all_comparisons:
        names = {short(name): name for name in comparison.varying} | {name: name for name in comparison.varying}
        fits = [c for c in comparison.finished if all(
            names.get(name) in c.knobs and c.knobs[names[name]] == value for name, value in knobs.items())]  # fmt: skip
        if len(fits) > 1:
            options = "; ".join(c.label for c in fits[:5])
            raise UserError(f"--baseline must name one configuration, {' '.join(wanted)} fits {len(fits)}: {options}")
        found.append(fits[0] if fits else None)
    if not any(found):
        options = "; ".join(c.label for comparison in all_comparisons for c in comparison.finished[:5])
        raise UserError(f"--baseline must name a finished configuration, got {' '.join(wanted)}; there are {options}")
    return found


def _value(text: str) -> Any:
    """A knob's value as typed: null or none, a number, true or false, a list, else a name."""
    try:
        return json.loads(text)
    except ValueError:
        return None if text in ("none", "full") else text
