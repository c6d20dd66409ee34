"""Knobs, their values and metrics in words; names and values in the order in which a reader expects them."""

import re
from collections.abc import Iterable, Mapping
from math import inf
from pathlib import Path
from typing import Any

from fmnist.config.schema import kind

METRICS = {
    "accuracy": "accuracy (share of images)", "mae": "mean absolute error (grey level, 0 to 1)",
    "mse": "mean squared error (grey level², 0 to 1)", "nll": "negative log likelihood (nats an image)",
    "kl": "KL divergence (nats an image)",
}  # fmt: skip
LOSSES = {
    "cross_entropy": "cross-entropy (nats an image)", "report": "the report's loss (nats an image)",
    "report_rows": "the report's loss by rows (nats an image)", "mae": "absolute error summed over pixels",
    "mse": "squared error summed over pixels", "bce": "binary cross-entropy (nats an image)",
    "negative_elbo": "-ELBO with weight beta (nats an image)", "brier": "Brier score",
}  # fmt: skip
KNOBS = {
    "lr": "learning rate (lr)", "batch_size": "batch size (rows a step)", "dropout": "dropout (probability)",
    "epochs": "epochs (passes over the training rows)", "init_scale": "scale of the initial weights (init_scale)",
    "grad_clip": "largest gradient norm (grad_clip)", "noise": "input noise (standard deviation)",
    "mask": "input mask (share of pixels)", "model.hidden": "hidden widths (model.hidden)",
    "model.depth": "depth (layers, model.depth)", "model.width": "width (units, model.width)",
    "data.binarise": "binarised images (data.binarise)",
    "data.limit": "images of the training file (data.limit)", "data.split": "share of rows for training (data.split)",
}  # fmt: skip
PARTS = {"train": "training", "fit": "training, without noise", "validation": "validation", "test": "test"}


def short(name: str) -> str:
    """A knob as one types it: the choice of a group is named by the group (model, not model.name)."""
    return name.removesuffix(".name")


def value_in_words(value: Any, name: str = "") -> str:
    """A knob's value for a reader: null is "none", but the batch of all rows is "full"."""
    if value is None:
        return "full" if name == "batch_size" else "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return f"[{','.join(map(value_in_words, value))}]"
    return f"{value:g}" if isinstance(value, float) else str(value)


def counted(number: int, what: str) -> str:
    """A number of things in words: "1 run", "2 runs"."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def sentence(text: str) -> str:
    """Text as a sentence begins: its first letter is large, the others stay as they are."""
    return text[:1].upper() + text[1:]


def in_order(values: Iterable[Any], name: str = "") -> list[Any]:
    """A knob's values, each once: none first (the full batch last), numbers by size, then lists, then names."""

    def key(value: Any) -> tuple[int, Any]:
        if value is None:
            return (1, inf) if name == "batch_size" else (0, 0)
        if isinstance(value, list):
            return (2, [key(element) for element in value])
        return (1, value) if isinstance(value, int | float) else (3, value)

    return sorted({repr(value): value for value in values}.values(), key=key)


def natural(path: Path) -> list[tuple[bool, float, str]]:
    """A sort key by which numbers in names count as numbers."""
    words = re.findall(r"\d+|\D+", str(path))
    return [(not word.isdecimal(), float(word) if word.isdecimal() else 0.0, word) for word in words]


def metric_in_words(metric: str, knobs: Mapping[str, Any]) -> str:
    """A metric with its unit. "loss" is the loss that runs with these knobs have, if they all have one."""
    if metric == "loss":
        model = knobs.get("model.name")
        loss = "negative_elbo" if model and "kl" in kind(model).charts else knobs.get("loss")
        return LOSSES.get(str(loss), "loss")
    return METRICS.get(metric, metric.replace("_", " "))


def tag_in_words(tag: str, knobs: Mapping[str, Any]) -> str:
    """A tag with its unit: "validation/loss" -> "validation cross-entropy (nats an image)"."""
    part, _, metric = tag.partition("/")
    return f"{PARTS.get(part, part)} {metric_in_words(metric, knobs)}"


def in_words(tag: str) -> str:
    """A tag for a header: "test/within_16th" -> "test within 16th"."""
    return tag.replace("train/", "training ").replace("/", " ").replace("_", " ")


def knob_in_words(name: str) -> str:
    """A knob as the title of an axis."""
    return KNOBS.get(name, short(name).replace("_", " "))
