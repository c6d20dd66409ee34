"""The pictures of a report, by how many knobs vary: response, heat map, parallel coordinates, marginals, curves.

Where colours tell how good a configuration is, darker is better, in even lightness. gallery.py says how to add one.
"""

from math import nan, prod
from statistics import median
from typing import Any

import matplotlib
import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from fmnist.config.schema import kind
from fmnist.report.axes import Scale
from fmnist.report.comparison import Comparison
from fmnist.report.gallery import suits
from fmnist.report.plots import STYLE, STYLES, WIDTH, Picture, as_x, curves, literal, name_y
from fmnist.report.words import PARTS, in_words, knob_in_words, metric_in_words, tag_in_words

GREY = "#666666"
FAN = 0.14  # how far the lines through one value are spread, of an axis of length 1
BOX = {"facecolor": "white", "edgecolor": "none", "alpha": 0.85, "pad": 1.0}
LIGHTEST = "Values more than twice as far from the best as the median share the lightest colour."


class Colours:
    """Colours of the mean objective: darker is better, and the lightest are left out, because paper swallows them.

    They distinguish the good configurations: LIGHTEST says what becomes of the bad ones.
    """

    def __init__(self, comparison: Comparison) -> None:
        self.comparison = comparison
        self.means = [c.interval("objective").mean for c in comparison.finished]
        best, middle = comparison.better(self.means), median(self.means)
        worst = comparison.better(2 * middle - best, min(self.means) if comparison.better is max else max(self.means))
        low, high = sorted((best, worst)) if best != middle else (min(self.means), max(self.means))
        self.low, self.high = low, high
        whole = matplotlib.colormaps["viridis_r" if comparison.better is max else "viridis"]
        start, end = (0.06, 1.0) if comparison.better is max else (0.0, 0.94)
        self.map = LinearSegmentedColormap.from_list("part", whole(np.linspace(start, end, 256)))

    def share(self, mean: float) -> float:
        """Where a value lies between the ends of the colours, in [0, 1]."""
        span = self.high - self.low
        return min(1.0, max(0.0, (mean - self.low) / span)) if span else 0.5

    def of(self, mean: float) -> tuple[float, float, float, float]:
        """The colour of a value."""
        return self.map(self.share(mean))

    def bar(self, figure: Figure, axes: Any) -> None:
        """Their legend, with arrows where values lie beyond its ends."""
        scale = ScalarMappable(Normalize(self.low, self.high), self.map)
        beyond = "min" if min(self.means) < self.low else "max" if max(self.means) > self.high else "neither"
        words = tag_in_words(self.comparison.judged_by, self.comparison.shared).replace(" (", "\n(")
        direction = "higher" if self.comparison.better is max else "lower"
        figure.colorbar(scale, ax=axes, extend=beyond, pad=0.02, label=f"{words}\n{direction} is better")


def is_grid(comparison: Comparison) -> bool:
    """Whether runs cover at least half of the combinations of the values of two knobs."""
    cells = prod(len(Scale.of(name, comparison.configurations).values) for name in comparison.varying)
    return len(comparison.varying) == 2 and len(comparison.configurations) >= cells / 2


def is_scattered(comparison: Comparison) -> bool:
    """Whether more knobs vary than a response or a heat map can show."""
    return len(comparison.varying) > 1 and not is_grid(comparison)


@suits(varying=1)
def response(comparison: Comparison) -> Picture:
    """The objective and the same metric of the test rows against the knob that varies: means with intervals, and runs
    as dots."""
    (name,) = comparison.varying
    scale = Scale.of(name, comparison.finished)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 3.4), layout="constrained")
        axes = figure.subplots()
        values: list[float] = []
        parts = {"objective": comparison.judged_by, comparison.test: comparison.test}
        for (tag, words), (colour, line, marker), side in zip(parts.items(), STYLES, (-1, 1), strict=False):
            spans = {scale.position(c): c.interval(tag) for c in comparison.finished}
            xs = sorted(spans)
            bars = [(spans[x].high - spans[x].low) / 2 if spans[x].n > 2 else nan for x in xs]
            axes.errorbar([x + 0.008 * side for x in xs], [spans[x].mean for x in xs], bars, color=colour,
                          linestyle=line if scale.ordered else "none", marker=marker, capsize=3,
                          label=PARTS[words.split("/")[0]])  # fmt: skip
            for c in comparison.finished:
                own = [*c.values(tag).values()]
                axes.scatter([scale.position(c) + 0.022 * side] * len(own), own, s=9, color=colour, alpha=0.6,
                             linewidths=0)  # fmt: skip
                values += own
        as_x(axes, scale)
        name_y(axes, metric_in_words(comparison.metric, comparison.shared), values)
        figure.legend(loc="outside lower center", ncols=3)
    lost = [c.label for c in comparison.configurations if not c.done]
    missing = f" No finished run: {'; '.join(lost)}." if lost else ""
    return Picture(
        "response",
        figure,
        f"Response to {knob_in_words(name)}. Means, with 95 % intervals (Student's t) where there are three runs or "
        f"more; dots are runs.{missing}",
    )


@suits(varying=2, when=is_grid)
def heat_map(comparison: Comparison) -> Picture:
    """The mean objective in the cells of a grid of the two knobs that vary."""
    down, across = sorted(
        (Scale.of(name, comparison.configurations) for name in comparison.varying), key=lambda scale: len(scale.values)
    )
    colours = Colours(comparison)
    with matplotlib.rc_context(STYLE | {"axes.grid": False}):
        figure = Figure(figsize=(WIDTH, max(2.6, 1.2 + 0.42 * len(down.values))), layout="constrained")
        axes = figure.subplots()
        axes.set(xlim=(-0.5, len(across.values) - 0.5), ylim=(-0.5, len(down.values) - 0.5))
        for c in comparison.configurations:
            x, y, mean = across.index(c), down.index(c), c.interval("objective").mean
            colour = colours.of(mean) if c.done else (1.0, 1.0, 1.0, 1.0)
            hatch = None if c.done else "////"
            axes.add_patch(Rectangle((x - 0.5, y - 0.5), 1, 1, facecolor=colour, hatch=hatch, edgecolor="#bbbbbb"))
            dark = np.dot(colour[:3], (0.299, 0.587, 0.114)) < 0.5
            text = f"{mean:#.3g}".removesuffix(".") if c.done else "none done"
            axes.text(x, y, text, ha="center", va="center", fontsize=8, color="white" if dark else "black",
                      bbox=None if c.done else BOX)  # fmt: skip
            if c is comparison.finished[0]:
                axes.add_patch(Rectangle((x - 0.46, y - 0.46), 0.92, 0.92, fill=False, edgecolor="#E69F00",
                                         linewidth=2.5, zorder=3))  # fmt: skip
        for ticks, scale in ((axes.set_xticks, across), (axes.set_yticks, down)):
            ticks(range(len(scale.texts)), map(literal, scale.texts))
        axes.set_xlabel(knob_in_words(across.name))
        axes.set_ylabel(knob_in_words(down.name))
        colours.bar(figure, axes)
    return Picture(
        "heat_map",
        figure,
        f"Mean {in_words(comparison.judged_by)} by {knob_in_words(across.name)} and {knob_in_words(down.name)}. Darker "
        f"is better; the frame marks the best. {LIGHTEST}",
    )


@suits(when=is_scattered)
def parallel(comparison: Comparison) -> Picture:
    """One line a configuration through its values, one axis a knob; the objective is the last axis, and the colour."""
    scales = [Scale.of(name, comparison.finished) for name in comparison.varying]
    colours = Colours(comparison)
    with matplotlib.rc_context(STYLE | {"axes.grid": False}):
        end = len(scales)
        figure = Figure(figsize=(max(WIDTH, 1.1 * (end + 2)), 3.8), layout="constrained")
        axes = figure.subplots()
        thin = 1.0 if len(comparison.finished) < 200 else 0.4
        for c in reversed(comparison.finished):  # the best on top
            mean = c.interval("objective").mean
            height = colours.share(mean)
            aside = FAN * (height - 0.5)  # lines through one value lie side by side in the order of the objective
            best = c is comparison.finished[0]
            axes.plot(
                range(end + 1),
                [*(scale.position(c) + aside for scale in scales), height],
                color=colours.of(mean),
                linewidth=2.8 if best else thin,
                marker="o" if best else None,
            )
        for x, scale in enumerate(scales):
            for y, text in zip(*scale.ticks(), strict=True):
                axes.text(x + 0.05, y, literal(text), fontsize=8, va="center", bbox=BOX, zorder=4)
        for x in range(end + 1):
            axes.axvline(x, color="black", linewidth=0.8, zorder=1)
        names = [knob_in_words(s.name).replace(" (", "\n(") + "\nlog scale" * (s.kind == "log") for s in scales]
        axes.set_xticks(range(end + 1), [*names, in_words(comparison.judged_by).replace(" ", "\n")], fontsize=8)
        axes.set_xlim(-0.15, end + 0.05)
        axes.set_yticks([])
        for spine in axes.spines.values():
            spine.set_visible(False)
        axes.tick_params(length=0)
        colours.bar(figure, axes)
    side = "above" if comparison.better is max else "below"
    return Picture(
        "parallel",
        figure,
        f"All {len(comparison.finished)} finished configurations. A line is a configuration through its knobs' values, "
        f"coloured by its mean {in_words(comparison.judged_by)}: darker is better, the best is thick. Where lines "
        f"share a value, the better ones lie {side} the worse. {LIGHTEST}",
    )


@suits(when=is_scattered)
def marginals(comparison: Comparison) -> Picture:
    """The objective against each knob that varies, whatever the others are: every configuration, median and best."""
    columns = min(3, len(comparison.varying))
    rows = -(-len(comparison.varying) // columns)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 0.4 + 2.3 * rows), layout="constrained")
        grid = figure.subplots(rows, columns, sharey=True, squeeze=False)
        for axes, name in zip(grid.flat, comparison.varying, strict=False):
            scale = Scale.of(name, comparison.finished)
            means: dict[float, list[float]] = {}
            for c in comparison.finished:
                means.setdefault(scale.position(c), []).append(c.interval("objective").mean)
            dots = [(x, mean) for x, own in means.items() for mean in own]
            axes.scatter(*zip(*dots, strict=True), s=12, color=GREY, alpha=0.5, linewidths=0, label="a configuration")
            lines = {"best": comparison.better, "median": median}
            xs = sorted(means) if 2 * len(means) <= len(dots) else []  # numbers drawn at random hardly occur twice
            for (colour, line, marker), (label, function) in zip(STYLES, lines.items(), strict=False):
                ys = [function(means[x]) for x in xs]
                joined = line if scale.ordered else "none"
                axes.plot(xs, ys, color=colour, linestyle=joined, marker=marker, label=label)
            as_x(axes, scale, most=4)
        for axes in grid.flat[len(comparison.varying) :]:
            axes.set_visible(False)
        for axes in grid[:, 0]:
            values = [c.interval("objective").mean for c in comparison.finished]
            name_y(axes, tag_in_words(comparison.judged_by, comparison.shared), values)
        figure.legend(*grid[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return Picture(
        "marginals",
        figure,
        "Each knob by itself. A dot is a configuration's mean; marked are the best and the median over whatever "
        "the other knobs are, where values occur several times.",
    )


@suits(finished=1)
def all_curves(comparison: Comparison) -> list[Picture]:
    """The curves of every metric that the charts of the models have."""
    models = dict.fromkeys(run.knobs["model.name"] for run in comparison.runs)
    metrics = dict.fromkeys(metric for model in models for metric in kind(model).charts)
    return [picture for metric in metrics if (picture := curves(comparison, metric))]
