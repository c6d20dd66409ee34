"""Knobs and measures as axes: their names and units in words, and where a knob's values lie."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import inf
from typing import Any

import numpy as np

from fmnist.report.comparison import Comparison, Configuration, in_order, short, value_in_words

TICKS = 8  # values written along an axis at most
MEASURES = {
    "accuracy": "accuracy (share of images)", "mae": "mean absolute error (grey level, 0 to 1)",
    "mse": "mean squared error (grey level², 0 to 1)", "nll": "negative log likelihood (nats an image)",
    "kl": "KL divergence (nats an image)", "negative_elbo": "negative ELBO (nats an image)",
    "psnr": "peak signal-to-noise ratio (dB)", "within_16th": "share of pixels within 1/16",
    "accuracy_ceiling": "ceiling of the accuracy", "auroc": "AUROC",
}  # fmt: skip
LOSSES = {
    "cross_entropy": "cross-entropy (nats an image)", "report": "the report's loss (nats an image)",
    "report_rows": "the report's loss by rows (nats an image)", "mae": "absolute error summed over pixels",
    "mse": "squared error summed over pixels", "bce": "binary cross-entropy (nats an image)",
    "negative_elbo": "-ELBO with weight beta (nats an image)",
}  # fmt: skip
KNOBS = {
    "lr": "learning rate (lr)", "batch_size": "batch size (rows a step)", "dropout": "dropout (probability)",
    "epochs": "epochs (passes over the training rows)", "init_scale": "scale of the initial weights (init_scale)",
    "grad_clip": "largest gradient norm (grad_clip)", "noise": "input noise (standard deviation)",
    "mask": "input mask (share of pixels)", "model.hidden": "hidden widths (model.hidden)",
    "model.depth": "depth (layers, model.depth)", "model.width": "width (units, model.width)",
    "data.limit": "images of the training file (data.limit)", "data.split": "share of rows for training (data.split)",
}  # fmt: skip
PARTS = {"train": "training", "fit": "training, without noise", "validation": "validation", "test": "test"}


def measure_in_words(comparison: Comparison, measure: str) -> str:
    """A measure with its unit; "loss" is what the comparison's runs have as their loss."""
    if measure == "loss":
        loss = "negative_elbo" if comparison.shared.get("model.name") == "vae" else comparison.shared.get("loss")
        return LOSSES.get(str(loss), "loss")
    return MEASURES.get(measure, measure.replace("_", " "))


def tag_in_words(comparison: Comparison, tag: str) -> str:
    """A tag with its unit: "validation/loss" -> "validation cross-entropy (nats an image)"."""
    part, _, measure = tag.partition("/")
    return f"{PARTS.get(part, part)} {measure_in_words(comparison, measure)}"


def in_words(tag: str) -> str:
    """A tag for a header: "test/within_16th" -> "test within 16th"."""
    return tag.replace("train/", "training ").replace("/", " ").replace("_", " ")


def knob_in_words(name: str) -> str:
    """A knob as the title of an axis."""
    return KNOBS.get(name, short(name).replace("_", " "))


@dataclass(frozen=True)
class Scale:
    """Where a knob's values lie along an axis of length 1. kind: linear, log, or categories at even distances."""

    values: list[Any]
    positions: list[float]
    kind: str
    name: str

    @classmethod
    def of(cls, name: str, configurations: Sequence[Configuration]) -> "Scale":
        """Of the values that configurations have; log where their logarithms are spaced more evenly than they are."""
        values = in_order([configuration.knobs.get(name) for configuration in configurations], name)
        numeric = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
        kind = "categories" if not numeric or len(values) < 2 else "linear"
        if kind == "linear" and min(values) > 0 and _unevenness(np.log(values)) < _unevenness(np.array(values)):
            kind = "log"
        raw = np.arange(len(values)) if kind == "categories" else np.log(values) if kind == "log" else np.array(values)
        span = raw[-1] - raw[0]
        return cls(values, ((raw - raw[0]) / span).tolist() if span else [0.5] * len(values), kind, name)

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

    def ticks(self, most: int = TICKS) -> tuple[list[float], list[str]]:
        """Positions and texts of all categories, or of as many numbers as there is room for, the ends among them."""
        if self.kind == "categories":
            return self.positions, [value_in_words(value, self.name) for value in self.values]
        last = len(self.values) - 1
        shown = [0]
        for place in range(1, last):
            before, after = self.positions[place] - self.positions[shown[-1]], 1 - self.positions[place]
            shown += [place] * (min(before, after) >= 1 / most)
        shown.append(last)
        rounded = len(self.values) > TICKS  # then they were drawn at random, and are no round numbers
        texts = [f"{self.values[i]:.2g}" if rounded else value_in_words(self.values[i]) for i in shown]
        return [self.positions[i] for i in shown], texts


def _unevenness(values: np.ndarray) -> float:
    steps = np.diff(values)
    return float(steps.std() / steps.mean()) if steps.any() else inf  # no steps: equal, but for rounding
