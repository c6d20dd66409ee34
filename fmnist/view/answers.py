"""What trained models say of each image of a split, on the CPU."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from fmnist.data.dataset import Split
from fmnist.nn.losses import Classification
from fmnist.nn.step import outputs
from fmnist.view.measure import Seen


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


def _pixels(output: Any) -> Tensor:
    """The images of an autoencoder's output, as grey levels: (K, rows, pixels) uint8."""
    logits: Tensor = getattr(output, "logits", output)
    return (logits.sigmoid() * 255).round().to(torch.uint8)
