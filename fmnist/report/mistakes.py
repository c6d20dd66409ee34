"""What the best configuration of classifiers gets wrong: its confusion matrix, and its worst test images."""

from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from fmnist import UserError
from fmnist.config.schema import kind
from fmnist.report import records
from fmnist.report.comparison import Comparison, Configuration, Result
from fmnist.report.gallery import suits
from fmnist.report.plots import STYLE, WIDTH, Picture, literal
from fmnist.report.records import Mistakes
from fmnist.report.words import counted

ROW = 8  # images side by side
LONGEST = 14  # characters of a class's name
NUMBERED = 20  # classes: with more, the cells have no room for numbers
UNKNOWN = (
    "What the best configuration gets wrong is not shown: its runs have left no mistakes.json that can be read. The "
    "command python -m fmnist.figures RUN writes it where weights and data are at hand."
)
ORANGE = LinearSegmentedColormap.from_list("orange", ["#ffffff", "#D55E00"])


def classifies(comparison: Comparison) -> bool:
    """Whether its runs are classifiers."""
    return all(kind(run.knobs["model.name"]).classifies for run in comparison.runs)


@suits(finished=1, when=classifies)
def mistakes(comparison: Comparison) -> "list[Picture | str]":
    """The confusion matrix of the best configuration, and the worst images of its best run."""
    best = comparison.finished[0]
    left = [(run, found) for run in best.done if (found := _left(run))]
    left = [(run, found) for run, found in left if found.classes == left[0][1].classes]
    if not left:
        return [UNKNOWN]
    reached = comparison.better(run.metrics["objective"] for run, _ in left)
    run, found = next((run, found) for run, found in left if run.metrics["objective"] == reached)
    return [confusion(best, [found for _, found in left]), worst(best, run, found)]


def _left(run: Result) -> Mistakes | None:
    """What a run has left of its mistakes; None where there is no such file, or none that can be read."""
    try:
        return records.mistakes(run.directory, run.epoch)
    except (UserError, OSError, ValueError):
        return None


def confusion(best: Configuration, found: Sequence[Mistakes]) -> Picture:
    """Which classes are taken for which, in percent, on the mean over the runs of a configuration."""
    counts = np.array([each.confusion for each in found], dtype=float)
    of_class = np.maximum(counts.sum(-1, keepdims=True), 1)
    shares = (100 * counts / of_class).mean(0)
    classes = len(shares)
    names = [_shortened(name) for name in found[0].classes]
    wrong = shares * (1 - np.eye(classes))
    with matplotlib.rc_context(STYLE | {"axes.grid": False}):
        figure = Figure(figsize=(WIDTH, 0.84 * WIDTH), layout="constrained")
        axes = figure.subplots()
        image = axes.imshow(wrong, cmap=ORANGE, vmin=0, vmax=max(wrong.max(), 1e-9))
        for number in range(classes):
            axes.add_patch(matplotlib.patches.Rectangle((number - 0.5, number - 0.5), 1, 1, facecolor="#e6e6e6"))
        if classes <= NUMBERED:
            for row, column in np.argwhere(shares >= 0.05):
                value = shares[row, column]
                dark = row != column and value > 0.8 * wrong.max()
                axes.text(column, row, f"{value:.1f}" if value < 99.95 else "100", ha="center", va="center",
                          fontsize=8 if classes <= 12 else 6, color="white" if dark else "black",
                          fontweight="bold" if row == column else "normal")  # fmt: skip
        size = 8 if classes <= NUMBERED else max(3, 240 / classes)
        axes.set_xticks(range(classes), names, rotation=45, ha="right", rotation_mode="anchor", fontsize=size)
        axes.set_yticks(range(classes), names, fontsize=size)
        axes.set_xlabel("is taken for")
        axes.set_ylabel("is")
        axes.tick_params(length=0)
        figure.colorbar(image, ax=axes, pad=0.02, label="share of the class, % (mistakes alone)")
    mean = f", mean over {counted(len(found), 'run')}" if len(found) > 1 else ""
    images = f"{int(counts[0].sum()):,} test images"
    return Picture(
        "confusion",
        figure,
        f"What the best configuration ({best.label}) takes for what. In percent of the images of a class{mean}, "
        f"{images}; on the diagonal what is right. Shares below 0.05 % are left out.",
    )


def worst(best: Configuration, run: Result, found: Mistakes) -> "Picture | str":
    """The test images that a run is wrong about and most sure of."""
    if not found.worst:
        return f"The best configuration ({best.label}) gets no test image wrong."
    columns = min(ROW, len(found.worst))
    rows = -(-len(found.worst) // columns)
    height, width = found.size
    names = [_shortened(name) for name in found.classes]
    with matplotlib.rc_context(STYLE | {"axes.grid": False}):
        figure = Figure(
            figsize=(WIDTH, 0.2 + rows * (0.5 + WIDTH / ROW * min(height / width, 2))), layout="constrained"
        )
        grid: Any = figure.subplots(rows, ROW, squeeze=False)
        for axes in grid.flat:
            axes.set_axis_off()
        for axes, each in zip(grid.flat, found.worst, strict=False):
            axes.imshow(np.frombuffer(each.pixels, np.uint8).reshape(height, width), cmap="gray", vmin=0, vmax=255)
            axes.set_title(f"{names[each.label]}\n→ {names[each.predicted]}", fontsize=6.5, pad=3)
            axes.text(0.5, -0.04, _percent(each.probability), transform=axes.transAxes, ha="center", va="top",
                      fontsize=6.5)  # fmt: skip
    return Picture(
        "mistakes",
        figure,
        f"The {len(found.worst)} worst mistakes of the best run ({run.directory.name}) of the best configuration: the "
        "test images that it is wrong about and most sure of. Above an image stands its class → the class "
        "that it was taken for, below it the probability that the run gave to that.",
    )


def _percent(probability: float) -> str:
    return "> 99.9 %" if probability > 0.9995 else f"{100 * probability:.1f} %"


def _shortened(name: str) -> str:
    return literal(name if len(name) <= LONGEST else f"{name[: LONGEST - 1]}…")
