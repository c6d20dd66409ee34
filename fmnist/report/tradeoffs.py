"""What a better result costs: the objective against training time and against the number of parameters."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import nan
from statistics import fmean
from typing import Any

import matplotlib
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

from fmnist.report import records
from fmnist.report.comparison import Comparison, Configuration
from fmnist.report.gallery import suits
from fmnist.report.landscapes import GREY, Colours
from fmnist.report.plots import STYLE, STYLES, WIDE, WIDTH, Picture, PlainLog
from fmnist.report.words import counted, tag_in_words

APART = 1.2  # with a smaller ratio between the largest and the smallest cost there is nothing to show
NEAR = 1.05  # costs that differ by a smaller ratio are the same: normalisation adds a few parameters
SAME = "No configuration costs much less than another, as far as is known: neither in training time nor in parameters."


@dataclass(frozen=True)
class Point:
    """A configuration by what it costs and what it reaches. rank: among all, from 1 on, the best first."""

    rank: int
    cost: float
    mean: float


def front(points: Sequence[Point]) -> list[Point]:
    """The Pareto front, the cheapest first: no point that costs as little or less is better, by its rank.

    Of costs that are NEAR to one another the better point counts.
    """
    found: list[Point] = []
    for point in sorted(points, key=lambda point: (point.cost, point.rank)):
        if found and point.rank > found[-1].rank:
            continue
        while found and point.cost <= NEAR * found[-1].cost:
            found.pop()
        found.append(point)
    return found


def _parameters(configuration: Configuration) -> float:
    """The mean number of parameters of its finished runs; nan where none of them has weights at hand."""
    known = [found for run in configuration.done if (found := records.parameters(run.directory))]
    return fmean(known) if known else nan


def _seconds(configuration: Configuration) -> float:
    """The mean training time of its finished runs."""
    return fmean(run.seconds for run in configuration.done)


COSTS = {"training time of a run (s)": _seconds, "parameters": _parameters}


@suits()
def tradeoffs(comparison: Comparison) -> "Picture | str":
    """The mean objective of all finished configurations against each cost that differs between them, with the Pareto
    front."""
    panels = {}
    for words, cost in COSTS.items():
        points = [
            Point(rank, cost(c), c.interval("objective").mean) for rank, c in enumerate(comparison.finished, start=1)
        ]
        known = [point for point in points if point.cost > 0]
        if known and max(point.cost for point in known) > APART * min(point.cost for point in known):
            panels[words] = known
    return _drawn(comparison, panels) if panels else SAME


def _drawn(comparison: Comparison, panels: dict[str, list[Point]]) -> Picture:
    colours = Colours(comparison)
    (colour, _, marker), words = STYLES[0], tag_in_words(comparison.judged_by, comparison.shared)
    room = 0.08 * (colours.high - colours.low) or 0.01
    low, high = colours.low - room, colours.high + room
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 3.4), layout="constrained")
        row: Any = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
        for axes, (name, points) in zip(row, panels.items(), strict=True):
            best = front(points)
            costs = [point.cost for point in points]
            axes.scatter(costs, [point.mean for point in points], s=14, color=GREY, alpha=0.55, linewidths=0,
                         label="a configuration")  # fmt: skip
            edge = max(costs)
            axes.step([point.cost for point in best] + [edge], [point.mean for point in best] + [best[-1].mean],
                      where="post", color=colour, marker=marker, markevery=[*range(len(best))],
                      label="Pareto front, with ranks")  # fmt: skip
            for point in best:
                if low <= point.mean <= high:
                    axes.annotate(str(point.rank), (point.cost, point.mean), xytext=(4, -9 if comparison.better is max
                                  else 4), textcoords="offset points", fontsize=8, color=colour)  # fmt: skip
            far = max(costs) / min(costs) > WIDE
            if far:
                axes.set_xscale("log")
            formatter = EngFormatter(sep="") if name == "parameters" else PlainLog() if far else None
            if formatter:
                axes.xaxis.set_major_formatter(formatter)
            axes.set_xlabel(name + ", log scale" * far)
        row[0].set_ylim(low, high)
        row[0].set_ylabel(words)
        figure.legend(*row[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return Picture("tradeoffs", figure, _caption(comparison, panels, low, high))


def _caption(comparison: Comparison, panels: dict[str, list[Point]], low: float, high: float) -> str:
    costs = " and ".join(name.partition(" (")[0].replace("training time of a run", "training time") for name in panels)
    parts = [f"What a better result costs: {tag_in_words(comparison.judged_by, comparison.shared)} against {costs}."]
    parts += ["On the line (Pareto front) are the configurations that no cheaper one matches; the numbers are their "
              "ranks in the table."]  # fmt: skip
    points = next(iter(panels.values()))
    if beyond := sum(not low <= point.mean <= high for point in points):
        parts += [f"{counted(beyond, 'configuration')} far from the best lie outside of the picture."]
    for name, known in panels.items():
        if missing := len(comparison.finished) - len(known):
            parts += [f"{counted(missing, 'configuration')} without {'weights' if name == 'parameters' else 'a time'} "
                      "have no place in it."]  # fmt: skip
    if any(name != "parameters" for name in panels):
        parts += ["Time is that of a run's own training, of a stack its share, as the machine was busy then."]
    return " ".join(parts)
