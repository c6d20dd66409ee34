"""Two runs that were tested on the same images: is the one better than the other?"""

from typing import Any

import torch

from fmnist.finished.load import Asked
from fmnist.report.intervals import bootstrap, mcnemar, paired
from fmnist.view.answers import Answers

PER_PIXEL = ("mse", "mae")  # metrics that any two models of images have in common


def not_comparable(one: Asked, other: Asked) -> str:
    """Why there is no paired test of two runs; "" where there is one. Where one was tested on the first of the other's
    images, these are compared."""
    if (one.test.logits is None) != (other.test.logits is None):
        return "a classifier and an autoencoder have no metric in common"
    n = min(len(one.test.labels), len(other.test.labels))
    for images in ("images", "labels"):
        mine, theirs = (getattr(asked.dataset.test, images)[:n] for asked in (one, other))
        if mine is not theirs and not torch.equal(mine, theirs):
            return f"they were tested on other {images}"
    return "" if n else "there are no test images"


def first(said: Answers, n: int) -> Answers:
    """What was said of the first n images."""
    return Answers(
        said.labels[:n], {name: metric[:n] for name, metric in said.metrics.items()},
        None if said.logits is None else said.logits[:n], None if said.pictures is None else said.pictures[:n],
    )  # fmt: skip


def together(one: Asked, other: Asked) -> tuple[Answers, Answers]:
    """What two comparable runs say of the test images that both have."""
    n = min(len(one.test.labels), len(other.test.labels))
    return first(one.test, n), first(other.test, n)


def tested(one: Asked, other: Asked) -> dict[str, Any]:
    """The paired test of two comparable runs; a difference is the one's number less the other's.

    n images. Of classifiers: accuracy difference with its 95 % interval by the paired bootstrap (low, high), how many
    images both have right, only one of them, or neither, and p by McNemar's exact test. Of autoencoders: for each
    metric that they share the mean difference over the images, its 95 % interval and p by the paired t test.
    """
    mine, theirs = together(one, other)
    n = len(mine.labels)
    if mine.logits is None:
        shared = [name for name in mine.metrics if name in theirs.metrics and _same(name, one, other)]
        return {"n": n, "metrics": {name: _t_test(mine, theirs, name) for name in shared}}
    right, also = mine.right, theirs.right
    only_one, only_other = int((right & ~also).sum()), int((~right & also).sum())
    low, high = bootstrap(only_one, only_other, n)
    return {
        "n": n, "difference": (only_one - only_other) / n, "low": low, "high": high, "both": int((right & also).sum()),
        "only_one": only_one, "only_other": only_other, "neither": int((~right & ~also).sum()),
        "p": mcnemar(only_one, only_other),
    }  # fmt: skip


def _same(name: str, one: Asked, other: Asked) -> bool:
    """Whether a metric of two autoencoders means the same: their losses do only if they have one model and one loss."""
    a, b = one.config, other.config
    return name in PER_PIXEL or (name == "loss" and (a.model.name, a.loss) == (b.model.name, b.loss))


def _t_test(one: Answers, other: Answers, name: str) -> dict[str, float]:
    pairs = [*zip(one.metrics[name].tolist(), other.metrics[name].tolist(), strict=True)]
    difference, p = paired(pairs)
    return {"difference": difference.mean, "low": difference.low, "high": difference.high, "p": p}
