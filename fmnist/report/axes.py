"""Knobs as axes: where the values of a knob lie, and which of them are written there."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from math import inf, log
from statistics import fmean, pstdev
from typing import Any

from fmnist.report.comparison import Configuration
from fmnist.report.words import in_order, value_in_words

TICKS = 8  # values written along an axis at most
ROOM, LONGEST = 6, 30  # characters of a number, and of any other value
FAR = 30  # positive values over more than this ratio lie on a logarithmic axis, unless they are spread evenly


@dataclass(frozen=True)
class Scale:
    """Where a knob's values lie along an axis of length 1. kind: linear, log, or categories at even distances."""

    values: list[Any]
    positions: list[float]
    kind: str
    name: str

    @classmethod
    def of(cls, name: str, configurations: Sequence[Configuration]) -> "Scale":
        """The scale of the values that configurations have; a knob that one of them lacks counts as none."""
        values = in_order([configuration.knobs.get(name) for configuration in configurations], name)
        numeric = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
        kind = "categories" if not numeric or len(values) < 2 else "log" if _far_apart(values) else "linear"
        raw = [*range(len(values))] if kind == "categories" else [*map(log, values)] if kind == "log" else values
        span = raw[-1] - raw[0]
        return cls(values, [(place - raw[0]) / span if span else 0.5 for place in raw], kind, name)

    @property
    def ordered(self) -> bool:
        """Whether it makes sense to join what lies next to one another: numbers, with or without none."""
        return not any(isinstance(value, bool | str | list) for value in self.values)

    @cached_property
    def _places(self) -> dict[str, int]:
        return {repr(value): place for place, value in enumerate(self.values)}

    def index(self, configuration: Configuration) -> int:
        """The number of a configuration's value in their order."""
        return self._places[repr(configuration.knobs.get(self.name))]

    def position(self, configuration: Configuration) -> float:
        """Where a configuration's value lies, in [0, 1]."""
        return self.positions[self.index(configuration)]

    @cached_property
    def texts(self) -> list[str]:
        """The values in words, long ones without their middle: a path is shown by its two ends."""
        words = [value_in_words(value, self.name) for value in self.values]
        return [text if len(text) <= LONGEST else f"{text[: LONGEST // 3]}…{text[-LONGEST // 2 :]}" for text in words]

    def ticks(self, most: int = TICKS) -> tuple[list[float], list[str]]:
        """Positions and texts of all categories, or of as many numbers as there is room for, the ends among them."""
        if self.kind == "categories":
            return self.positions, self.texts
        last = len(self.values) - 1
        shown = [0]
        for place in range(1, last):
            before, after = self.positions[place] - self.positions[shown[-1]], 1 - self.positions[place]
            shown += [place] * (min(before, after) >= 1 / most)
        shown.append(last)
        return [self.positions[i] for i in shown], [_brief(self.values[i]) for i in shown]


def _brief(value: float) -> str:
    """A number, to two digits where it has more than there is room for: a search drew it at random."""
    text = value_in_words(value)
    return text if len(text) <= ROOM else value_in_words(float(f"{value:.2g}"))


def _far_apart(values: Sequence[float]) -> bool:
    """Whether ascending numbers belong on a logarithmic axis.

    They do where their logarithms are spread more evenly than they are. They also do where the largest is many times
    the smallest and a quarter of them or more would crowd together in the first tenth of a linear axis: a search may
    have tried one end of a logarithmic range more often than the other.
    """
    if values[0] <= 0:
        return False
    if _unevenness([*map(log, values)]) < _unevenness(values):
        return True
    crowded = sum(value < values[-1] / 10 for value in values)
    return values[-1] / values[0] > FAR and crowded >= len(values) / 4


def _unevenness(values: Sequence[float]) -> float:
    steps = [after - before for before, after in pairwise(values)]
    return pstdev(steps) / mean if (mean := fmean(steps)) else inf  # no steps: equal, but for rounding
