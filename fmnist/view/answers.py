"""What trained models say of each image of a split, on the CPU."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from fmnist import UserError
from fmnist.data.dataset import Split
from fmnist.nn.losses import Classification
from fmnist.nn.step import outputs
from fmnist.program.progress import progress
from fmnist.view.measure import Seen
from fmnist.view.views import Views


@dataclass(frozen=True)
class Answers:
    """What one model says of n images.

    labels: (n,) int64. metrics: of each image by name, (n,), "loss" first. logits: (n, classes) of a classifier, whose
    softmax gives the probabilities. pictures: (n, pixels) uint8, what an autoencoder makes of the images, if asked for.
    """

    labels: Tensor
    metrics: Mapping[str, Tensor]
    logits: Tensor | None = None
    pictures: Tensor | None = None

    @cached_property
    def probabilities(self) -> Tensor:
        """(n, classes) float64, of a classifier."""
        assert self.logits is not None
        return self.logits.double().softmax(-1)

    @cached_property
    def predicted(self) -> Tensor:
        """(n,) the class each image is taken for, of a classifier."""
        assert self.logits is not None
        return self.logits.max(-1).indices

    @property
    def right(self) -> Tensor:
        """(n,) bool."""
        return self.predicted == self.labels

    @property
    def certainty(self) -> Tensor:
        """(n,) the probability of the class that each image is taken for."""
        return self.probabilities.gather(-1, self.predicted[:, None]).squeeze(-1)

    def means(self) -> dict[str, float]:
        """The means of all metrics over the images, by name."""
        return {name: float(metric.mean(dtype=torch.float64)) for name, metric in self.metrics.items()}


@torch.no_grad()
def answers(stack: Seen, part: str, split: Split, pictures: bool = False) -> list[Answers]:
    """What each run of a stack says of a split, by the same noise as `Stack.measure`. pictures: whether to keep what
    autoencoders make of the images."""
    stack.start_noise(part)
    criterion = stack.criterion if isinstance(stack.criterion, Classification) else None
    metrics: dict[str, list[Tensor]] = {}
    kept: list[Tensor] = []
    for output, x, labels in outputs(
        stack.model, stack.criterion, stack.input(split), split.labels, stack.common.precision
    ):
        found = stack.criterion.metrics(output, x, labels) | stack.criterion.evaluation_only(output, x, labels)
        for name, metric in found.items():
            metrics.setdefault(name, []).append(metric.cpu())
        if criterion:
            kept.append(criterion.logits(output).cpu())
        elif pictures:
            kept.append(_pixels(output).cpu())
    runs, labels = range(len(stack.configs)), split.labels.cpu()
    whole = {name: torch.cat(chunks, -1) for name, chunks in metrics.items()}
    own = torch.cat(kept, -2) if kept else None
    return [
        Answers(labels, {name: metric[run] for name, metric in whole.items()},
                own[run] if own is not None and criterion else None,
                own[run] if own is not None and not criterion else None)
        for run in runs
    ]  # fmt: skip


@torch.no_grad()
def over_views(stack: Seen, split: Split, views: Views) -> list[Answers]:
    """What each run of a stack of classifiers says of a split by the mean of its probabilities over views of each
    image. The logits, float64, are the logarithms of these means; there are no metrics. Raises UserError for another
    model."""
    if not isinstance(criterion := stack.criterion, Classification):
        raise UserError(f"views are for classifiers, and {stack.common.model.name} is none")
    each = views.of(stack.dataset.height, stack.dataset.width)
    total: Tensor | None = None
    with progress(len(each), 0, "view") as bar:
        for view in each:
            x = stack.input(replace(split, images=view(split.images)))
            chunks = outputs(stack.model, criterion, x, split.labels, stack.common.precision)
            log_p = torch.cat([criterion.logits(output) for output, *_ in chunks], -2).double().log_softmax(-1)
            total = log_p if total is None else torch.logaddexp(total, log_p)
            bar.update()
    assert total is not None
    return [Answers(split.labels.cpu(), {}, own) for own in (total - math.log(len(each))).cpu()]


def _pixels(output: Any) -> Tensor:
    """The images of an autoencoder's output, as grey levels: (K, rows, pixels) uint8."""
    logits: Tensor = getattr(output, "logits", output)
    return (logits.sigmoid() * 255).round().to(torch.uint8)
