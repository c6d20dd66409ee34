"""Pictures with their captions: curves with bands, panels of lines, means in a row.

Readable in print and by the colour-blind: Okabe and Ito's colours with a marker and a line style each.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite, log10
from textwrap import fill
from typing import Any

import matplotlib
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter

from fmnist.program.output import printable
from fmnist.report.axes import Scale
from fmnist.report.comparison import Comparison, Configuration, Result
from fmnist.report.intervals import Interval
from fmnist.report.words import PARTS, in_words, knob_in_words, metric_in_words, sentence

STYLES: list[Any] = [  # colour, line, marker
    ("#0072B2", "-", "o"), ("#D55E00", "--", "s"), ("#009E73", "-.", "^"), ("#CC79A7", ":", "D"),
    ("#56B4E9", (0, (5, 1)), "v"), ("#E69F00", (0, (3, 1, 1, 1)), "P"), ("#000000", (0, (1, 1)), "X"),
]  # fmt: skip
WIDTH = 6.8  # inches: the text of a page
WIDE = 20  # a scale over more than this ratio is logarithmic
STYLE: Any = {
    "font.size": 9, "axes.titlesize": 9, "axes.grid": True, "grid.color": "#dddddd", "grid.linewidth": 0.6,
    "axes.axisbelow": True, "axes.spines.top": False, "axes.spines.right": False, "legend.frameon": False,
    "lines.markersize": 4.5, "lines.linewidth": 1.5, "svg.hashsalt": "fmnist",
}  # fmt: skip


@dataclass(frozen=True)
class Picture:
    """What is drawn, the name of its file without suffix, and its caption."""

    name: str
    figure: Figure
    caption: str

    def svg(self) -> str:
        """The picture as text; the same picture gives the same text."""
        file = io.StringIO()
        with matplotlib.rc_context(STYLE):
            self.figure.savefig(file, format="svg", metadata={"Date": None})
        return file.getvalue()


def literal(text: str) -> str:
    """Text that matplotlib shows as it is: between two dollars it would read a formula."""
    return printable(text).replace("$", r"\$")


def shown(comparison: Comparison) -> list[Configuration]:
    """The configurations that a picture has styles for: all, or the best ones and the worst."""
    finished = comparison.finished
    return finished if len(finished) <= len(STYLES) else [*finished[: len(STYLES) - 1], finished[-1]]


def curves(comparison: Comparison, metric: str) -> Picture | None:
    """A metric by epoch, training and validation, with bands over seeds; None where no run recorded it."""
    chosen = shown(comparison)
    parts = [part for part in PARTS if any(c.curve(f"{part}/{metric}").epochs for c in chosen)]
    if not parts:
        return None
    panels = [parts] if len(chosen) == 1 else [[part] for part in parts]
    labels = [PARTS[part] for part in parts] if len(panels) == 1 else [fill(literal(c.label), 85) for c in chosen]
    columns = 1 if max(map(len, labels)) > 32 else 2
    with matplotlib.rc_context(STYLE):
        height = 2.9 + 0.19 * sum(label.count("\n") + 1 for label in labels) / columns
        figure = Figure(figsize=(WIDTH, height), layout="constrained")
        row = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
        values: list[float] = []
        for axes, panel in zip(row, panels, strict=True):
            lines = [c.curve(f"{part}/{metric}") for c in chosen for part in panel]
            for index, (own, label) in enumerate(zip(lines, labels, strict=True)):
                colour, line, marker = STYLES[index]
                every = max(1, len(own.epochs) // 8)
                axes.plot(own.epochs, own.mean, color=colour, linestyle=line, marker=marker, label=label,
                          markevery=(min(index, every - 1), every))  # fmt: skip
                axes.fill_between(own.epochs, own.low, own.high, color=colour, alpha=0.18, linewidth=0)
                values += own.low + own.high
            full = all(run.knobs.get("batch_size") is None for run in comparison.runs)
            axes.set_xlabel("iteration (full batch)" if full else "epoch (pass over the training rows)")
            axes.xaxis.get_major_locator().set_params(integer=True)
            axes.set_title("" if len(panels) == 1 else PARTS[panel[0]])
        name_y(row[0], metric_in_words(metric, comparison.shared), values)
        figure.legend(*row[0].get_legend_handles_labels(), loc="outside lower center", ncols=columns, handlelength=3.5)
    return Picture(f"curves_{metric}", figure, _caption_of_curves(comparison, metric, chosen))


def _caption_of_curves(comparison: Comparison, metric: str, chosen: list[Configuration]) -> str:
    caption = [f"{sentence(metric_in_words(metric, comparison.shared).split(' (')[0])} by epoch."]
    if len(chosen) < len(comparison.finished):
        best = f"The best {len(chosen) - 1} of {len(comparison.finished)} configurations"
        caption += [f"{best} by {in_words(comparison.judged_by)}, and the worst."]
    counts = sorted({len(c.done) for c in chosen})
    if counts[-1] > 1:
        n = str(counts[0]) + (f" to {counts[-1]}" if len(counts) > 1 else "")
        caption += [f"Lines are means over the seeds (n = {n}), bands go from the smallest to the largest."]
    caption += ["Training metrics are taken while the epoch trains, noise and dropout on; validation metrics after it."]
    if any(len({run.rows[-1]["epoch"] for run in c.done if run.rows}) > 1 for c in chosen):
        caption += ["A curve ends where the first of its runs stopped."]
    return " ".join(caption)


def as_x(axes: Any, scale: Scale, most: int = 10) -> None:
    """Make a knob's scale the x axis, with room for `most` short texts side by side."""
    positions, texts = scale.ticks(most)
    long = sum(len(text) + 1 for text in texts) > 6 * most
    axes.set_xticks(positions, map(literal, texts), rotation=30 if long else 0, ha="right" if long else "center")
    axes.set_xlim(-0.06, 1.06)
    axes.set_xlabel(knob_in_words(scale.name) + (", log scale" if scale.kind == "log" else ""))


def name_y(axes: Any, words: str, values: Sequence[float]) -> None:
    """Name the y axis, and make it logarithmic where values other than shares lie far apart."""
    known = [value for value in values if isfinite(value)]
    far = bool(known) and min(known) > 0 and max(known) / min(known) > WIDE and "share" not in words
    if far:
        axes.set_yscale("log")
    axes.set_ylabel(fill(words + ", log scale" * far, 36))


class PlainLog(LogFormatter):
    """Labels of a logarithmic axis as 0.04, not as 4e-02; all as powers of ten where some would need them."""

    def __call__(self, x: float, pos: int | None = None) -> str:
        if not super().__call__(x, pos) or self.axis is None:
            return ""
        low, high = self.axis.get_view_interval()
        return f"{x:g}" if low > 1e-5 and high < 1e6 else f"$10^{{{log10(x):.0f}}}$"


@dataclass(frozen=True)
class Line:
    """Values over x with a band; nan leaves a hole."""

    label: str
    xs: Sequence[float]
    ys: Sequence[float]
    low: Sequence[float] = ()
    high: Sequence[float] = ()


@dataclass(frozen=True)
class Panel:
    """Lines in one pair of axes."""

    title: str
    x: str
    y: str
    lines: Sequence[Line]
    log_x: bool = False
    log_y: bool = False


def panels(name: str, shown: Sequence[Panel], caption: str, same_y: bool = True) -> Picture:
    """Panels side by side, up to three in a row, with one legend for lines of the same name."""
    columns = min(3, len(shown))
    rows = -(-len(shown) // columns)
    labels = list(dict.fromkeys(line.label for panel in shown for line in panel.lines))
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 0.5 + 2.5 * rows + 0.19 * -(-len(labels) // 2)), layout="constrained")
        grid = figure.subplots(rows, columns, sharey=same_y, squeeze=False)
        handles: dict[str, Any] = {}
        for axes, panel in zip(grid.flat, shown, strict=False):
            for line in panel.lines:
                colour, dashes, marker = STYLES[labels.index(line.label) % len(STYLES)]
                every = max(1, len(line.xs) // 8)
                (handle,) = axes.plot(line.xs, line.ys, color=colour, linestyle=dashes, marker=marker,
                                      markevery=every, label=line.label)  # fmt: skip
                handles.setdefault(line.label, handle)
                if len(line.low):
                    axes.fill_between(line.xs, line.low, line.high, color=colour, alpha=0.18, linewidth=0)
            axes.set_title(panel.title)
            axes.set_xlabel(fill(panel.x + ", log scale" * panel.log_x, 44 // columns + 8))
            if panel.log_x:
                axes.set_xscale("log")
            if panel.log_y:
                axes.set_yscale("log")
                for which in (axes.yaxis.set_major_formatter, axes.yaxis.set_minor_formatter):
                    which(PlainLog(minor_thresholds=(2, 0.4)))
        for axes in grid.flat[len(shown) :]:
            axes.set_visible(False)
        for number, axes in enumerate(grid.flat[: len(shown)]):
            if number % columns == 0 or not same_y:
                axes.set_ylabel(fill(shown[number].y + ", log scale" * shown[number].log_y, 36))
        if len(labels) > 1:
            figure.legend([*handles.values()], [*handles], loc="outside lower center", ncols=2, handlelength=3.5)
    return Picture(name, figure, caption)


def two_curves(one: Result, other: Result, tags: Sequence[str]) -> Figure:
    """The curves of two runs by epoch: a panel for each metric, a colour for each run, a line for each part."""
    metrics = list(dict.fromkeys(tag.partition("/")[2] for tag in tags))
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 3.6), layout="constrained")
        row = figure.subplots(1, len(metrics), squeeze=False)[0]
        for axes, metric in zip(row, metrics, strict=True):
            values: list[float] = []
            for run, (colour, _, marker) in zip((one, other), STYLES, strict=False):
                for part, dashes in (("train", ":"), ("validation", "-")):
                    points = [(r["epoch"], r[f"{part}/{metric}"]) for r in run.rows if f"{part}/{metric}" in r]
                    label = literal(f"{shorten(str(run.directory), 60)}, {PARTS[part]}")
                    axes.plot([x for x, _ in points], [y for _, y in points], color=colour, linestyle=dashes,
                              marker=marker, markevery=max(1, len(points) // 8), label=label)  # fmt: skip
                    values += [y for _, y in points]
            axes.set_xlabel("epoch")
            axes.xaxis.get_major_locator().set_params(integer=True)
            name_y(axes, metric_in_words(metric, one.knobs), values)
        figure.legend(*row[0].get_legend_handles_labels(), loc="outside lower center", handlelength=3.5)
    return figure


def shorten(text: str, most: int) -> str:
    """The end of a long text, with dots before it."""
    return text if len(text) <= most else f"…{text[1 - most :]}"


def dots(name: str, groups: dict[str, dict[str, Interval]], x: str, caption: str) -> Picture:
    """Means with their 95 % intervals, one line a name, in named groups under one another."""
    names = [(group, label) for group, own in groups.items() for label in own]
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 0.9 + 0.27 * (len(names) + len(groups))), layout="constrained")
        axes = figure.subplots()
        ticks: list[tuple[float, str]] = []
        height = 0.0
        for (group, own), (colour, _, marker) in zip(groups.items(), STYLES, strict=False):
            axes.text(0.0, height, group, transform=axes.get_yaxis_transform(), fontweight="bold", va="center")
            for label, span in own.items():
                height -= 1
                half = (span.high - span.low) / 2
                axes.errorbar([span.mean], [height], xerr=[half if isfinite(half) else 0.0], color=colour,
                              marker=marker, capsize=3)  # fmt: skip
                ticks.append((height, label))
            height -= 1.2
        axes.set_yticks([place for place, _ in ticks], [label for _, label in ticks])
        axes.set_ylim(height + 0.6, 0.8)
        axes.set_xlabel(x)
    return Picture(name, figure, caption)
