"""Pictures of what models make of single images: mistakes, confusion, calibration, reconstructions, disagreement."""

from collections.abc import Callable, Sequence
from itertools import combinations
from pathlib import Path
from textwrap import fill
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from fmnist.data.dataset import Dataset
from fmnist.view.answers import Answers
from fmnist.view.calibration import Bin, calibration_error, reliability
from fmnist.view.pictures import write

MOST = 24  # images of a picture
ACROSS = 8  # images in a row
BESIDE = 12  # images of one class that were taken for another
INCHES = 1.25  # the width of an image
GAP = 1.06  # from one image to the next, in widths
NUMBERED = 20  # more classes than these have no numbers in their squares
BLUE, ORANGE = "#0072B2", "#D55E00"  # which the colour-blind can tell apart (Okabe and Ito)
Pictures = dict[str, Callable[[], Figure]]  # by name


def of_classifier(dataset: Dataset, said: Answers, counts: Sequence[Sequence[int]], temperature: float) -> Pictures:
    """Pictures of what a classifier says of the test images, by name. counts: of class i taken for class j."""
    drawn: Pictures = {"confusion": lambda: confusion(counts, dataset.names)}
    if said.logits is not None and said.logits.isfinite().all():
        drawn["reliability"] = lambda: reliabilities(said, temperature)
        if not said.right.all():
            drawn["mistakes"] = lambda: mistakes(dataset, said)
            drawn["confused"] = lambda: confused(dataset, said, counts)
    return drawn


def draw(pictures: Pictures, folder: Path) -> list[Path]:
    """Write pictures into a folder; their files."""
    return [write(figure, name, folder) for name, figure in pictures.items()]


def tiles(dataset: Dataset, pixels: Tensor, captions: Sequence[str], title: str, across: int = ACROSS) -> Figure:
    """Images (n, pixels) uint8, row after row, each below a caption."""
    tall = _row_height(dataset, captions) * INCHES / dataset.width
    figure = Figure(figsize=(INCHES * across * GAP, tall * -(-len(captions) // across) + 0.5), layout="constrained")
    axes = figure.subplots()
    axes.set_title(title, fontsize=10, parse_math=False)
    mosaic(axes, dataset, pixels, captions, across)
    return figure


def mosaic(axes: Any, dataset: Dataset, pixels: Tensor, captions: Sequence[str], across: int) -> None:
    """Images (n, pixels) uint8 with their captions in one pair of axes, which is many times as fast as one for each."""
    tall = _row_height(dataset, captions)
    for place, (image, caption) in enumerate(zip(pixels.cpu(), captions, strict=True)):
        x, y = place % across * dataset.width * GAP, place // across * tall
        extent = (x, x + dataset.width, y, y - dataset.height)
        axes.imshow(image.view(dataset.height, dataset.width).numpy(), cmap="gray", vmin=0, vmax=255, extent=extent)
        axes.text(x + dataset.width / 2, y - 1.02 * dataset.height, caption, fontsize=7, ha="center", va="bottom",
                  parse_math=False)  # fmt: skip
    down = max(1, -(-len(captions) // across))
    axes.set_xlim(0, across * dataset.width * GAP)
    axes.set_ylim((down - 1) * tall, -tall)
    axes.set_axis_off()


def _row_height(dataset: Dataset, captions: Sequence[str]) -> float:
    """Of a row of images with captions above them, in pixels of the images."""
    lines = max((caption.count("\n") + 1 for caption in captions if caption), default=0)
    return dataset.height + (0.14 * lines + 0.1) * dataset.width / INCHES


def mistakes(dataset: Dataset, said: Answers) -> Figure:
    """The test images that are wrong with the greatest confidence, with the class they were taken for and their own."""
    wrong = (~said.right).nonzero().flatten()
    rows = wrong[said.certainty[wrong].argsort(descending=True, stable=True)[:MOST]]
    captions = [
        f"{dataset.names[said.predicted[row]]} {said.certainty[row]:.0%}\nis {dataset.names[said.labels[row]]}"
        for row in rows.tolist()
    ]
    title = f"the most confident of {len(wrong):,} mistakes among {len(said.labels):,} images"
    return tiles(dataset, dataset.test.images[rows], captions, title)


def most_confused(counts: Sequence[Sequence[int]]) -> tuple[int, int]:
    """The two classes that are most often taken for one another."""
    return max(
        combinations(range(len(counts)), 2), key=lambda pair: counts[pair[0]][pair[1]] + counts[pair[1]][pair[0]]
    )


def confused(dataset: Dataset, said: Answers, counts: Sequence[Sequence[int]]) -> Figure:
    """The pair of classes that is most confused, side by side: images of the one taken for the other, surest first."""
    pair = most_confused(counts)
    figure = Figure(figsize=(11, 5.2), layout="constrained")
    for axes, (own, other) in zip(figure.subplots(1, 2), (pair, pair[::-1]), strict=True):
        rows = ((said.labels == own) & (said.predicted == other)).nonzero().flatten()
        rows = rows[said.certainty[rows].argsort(descending=True, stable=True)[:BESIDE]]
        title = f"{dataset.names[own]} taken for {dataset.names[other]}: {counts[own][other]} of {sum(counts[own])}"
        axes.set_title(title, fontsize=10, parse_math=False)
        captions = [f"{said.certainty[row]:.0%} sure" for row in rows.tolist()]
        mosaic(axes, dataset, dataset.test.images[rows], captions, across=4)
    return figure


def confusion(counts: Sequence[Sequence[int]], names: Sequence[str]) -> Figure:
    """How many images of each class were taken for each; colours are shares of the class."""
    table = np.array(counts, dtype=float)
    shares = table / np.maximum(table.sum(1, keepdims=True), 1)
    size = max(4.5, 0.55 * len(names)) if len(names) <= NUMBERED else 10.0
    figure = Figure(figsize=(size + 1.2, size), layout="constrained")
    axes = figure.subplots()
    shown = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    small = 8 if len(names) <= NUMBERED else 5
    places = range(len(names))
    axes.set_xticks(places, names, rotation=45, ha="right", rotation_mode="anchor", fontsize=small, parse_math=False)
    axes.set_yticks(places, names, fontsize=small, parse_math=False)
    axes.set_xlabel("taken for")
    axes.set_ylabel("class")
    if len(names) <= NUMBERED:
        for own in places:
            for other in places:
                colour = "white" if shares[own, other] > 0.5 else "black"
                axes.text(other, own, str(counts[own][other] or ""), ha="center", va="center", fontsize=7, color=colour)
    figure.colorbar(shown, label="share of the class", shrink=0.8)
    return figure


def reliabilities(said: Answers, temperature: float) -> Figure:
    """How often images are right by how sure the model is of them, as they are and at a temperature, if it is known."""
    assert said.logits is not None
    drawn: list[tuple[str, Tensor]] = [("as trained", said.logits)]
    if temperature == temperature:  # no nan
        drawn.append((f"at temperature {temperature:.3g}", said.logits / temperature))
    figure = Figure(figsize=(4.2 * len(drawn), 4.6), layout="constrained")
    grid = figure.subplots(2, len(drawn), sharex=True, squeeze=False, height_ratios=(3, 1))
    for (curve, amount), (title, logits) in zip(grid.T, drawn, strict=True):
        bins = reliability(logits, said.labels)
        curve.plot([0, 1], [0, 1], color="#888888", linestyle="--", linewidth=1)
        _bars(curve, bins, [own.accuracy for own in bins], BLUE)
        curve.plot([own.confidence for own in bins], [own.accuracy for own in bins], "o", color=ORANGE, markersize=4)
        curve.set_title(f"{title}: ECE {calibration_error(logits, said.labels):.4f}", fontsize=9)
        curve.set_xlim(0, 1)
        curve.set_ylim(0, 1)
        _bars(amount, bins, [own.examples / len(said.labels) for own in bins], "#888888")
        amount.set_xlabel("confidence (probability of the class it is taken for)", fontsize=8)
    grid[0, 0].set_ylabel("share that is right", fontsize=8)
    grid[1, 0].set_ylabel("share of images", fontsize=8)
    return figure


def _bars(axes: Any, bins: Sequence[Bin], heights: Sequence[float], colour: str) -> None:
    widths = [own.high - own.low for own in bins]
    axes.bar([own.low for own in bins], heights, widths, align="edge", color=colour, alpha=0.6, edgecolor="white")


def worst(dataset: Dataset, said: Answers, by: str = "loss") -> Figure:
    """The test images that an autoencoder reconstructs worst, the worst first: above the image, below what it made."""
    assert said.pictures is not None
    rows = said.metrics[by].nan_to_num(torch.inf).argsort(descending=True, stable=True)[:ACROSS]
    captions = [f"{dataset.names[said.labels[row]]}\n{by} {said.metrics[by][row]:.4g}" for row in rows.tolist()]
    images = torch.cat([dataset.test.images[rows].cpu(), said.pictures[rows]])
    middle = float(said.metrics[by].median())
    title = f"the worst of {len(said.labels):,} images (the median {by} is {middle:.4g}); below, their reconstructions"
    return tiles(dataset, images, [*captions, *[""] * len(rows)], title, across=max(1, len(rows)))


def most_different(one: Answers, other: Answers) -> list[int]:
    """The rows of the images of which two models say the most different things. Classifiers: those that are taken for
    two classes, the greatest sum of the certainties first. Autoencoders: the greatest difference of mse first."""
    if one.logits is not None:
        apart = (one.predicted != other.predicted).nonzero().flatten()
        found = apart[(one.certainty + other.certainty)[apart].argsort(descending=True, stable=True)]
    else:
        found = (one.metrics["mse"] - other.metrics["mse"]).abs().argsort(descending=True, stable=True)
    rows: list[int] = found[:MOST].tolist()
    return rows


def disagreement(dataset: Dataset, one: Answers, other: Answers, names: tuple[str, str]) -> Figure:
    """The test images of which two models say the most different things; autoencoders with both reconstructions."""
    heading = fill(f"one: {names[0]}; other: {names[1]}", 110)
    if one.logits is None:
        return _reconstructed(dataset, one, other, heading)
    rows = most_different(one, other)
    captions = [
        f"is {dataset.names[one.labels[row]]}\none: {dataset.names[one.predicted[row]]} {one.certainty[row]:.0%}\n"
        f"other: {dataset.names[other.predicted[row]]} {other.certainty[row]:.0%}"
        for row in rows
    ]
    many = int((one.predicted != other.predicted).sum())
    title = f"the surest of {many:,} images that are taken for two classes, of {len(one.labels):,}"
    return tiles(dataset, dataset.test.images[rows], captions, f"{title}\n{heading}", across=6)


def _reconstructed(dataset: Dataset, one: Answers, other: Answers, heading: str) -> Figure:
    assert one.pictures is not None
    assert other.pictures is not None
    rows = most_different(one, other)[:ACROSS]
    captions = [dataset.names[one.labels[row]] for row in rows]
    for said in (one, other):
        captions += [f"mse {said.metrics['mse'][row]:.4f}" for row in rows]
    images = torch.cat([dataset.test.images[rows].cpu(), one.pictures[rows], other.pictures[rows]])
    title = f"the most different of {len(one.labels):,} reconstructions: the image, then the one's, then the other's"
    return tiles(dataset, images, captions, f"{title}\n{heading}", across=max(1, len(rows)))
