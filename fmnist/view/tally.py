"""What classifiers take images for, counted: confusion, calibration, precision by recall, the worst mistakes."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fmnist.data.dataset import Split
from fmnist.nn.losses import Classification
from fmnist.nn.step import outputs
from fmnist.view.calibration import BINS, bins
from fmnist.view.measure import Seen

THRESHOLDS = 51  # of a curve of precision by recall, from 0 to 1
WORST = 24  # mistakes that are kept


@dataclass
class Tally:
    """Counts over the rows of a split, of K runs.

    confusion: (K, C, C), rows of class i that were taken for class j. buckets: (K, C, 2, THRESHOLDS), rows by their
    probability of a class, those of other classes first. bins: (K, BINS, 3), by the probability of the class that was
    chosen: rows, sum of that probability, rows that were right. The most confident mistakes, (K, WORST) each, most
    confident first: row (-1 where there are fewer), the class that it was taken for, and its probability.
    """

    confusion: Tensor
    buckets: Tensor
    bins: Tensor
    worst: Tensor
    taken: Tensor
    confidence: Tensor

    def precision_recall(self, run: int, c: int) -> Tensor:
        """True and false positives, true and false negatives of a class, by rising thresholds: (4, THRESHOLDS)."""
        others, own = self.buckets[run, c].flip(-1).cumsum(-1).flip(-1)  # those at or above each threshold
        return torch.stack([own, others, others[0] - others, own[0] - own]).cpu()


@torch.no_grad()
def tally(stack: Seen, split: Split) -> Tally:
    """Counts over a split for all runs of a stack of classifiers, with the weights that they have now."""
    assert isinstance(stack.criterion, Classification)
    stack.start_noise("test")
    x, runs, classes = stack.input(split), len(stack.configs), stack.dataset.classes
    count: Any
    number: Any
    count, number = ({"dtype": dtype, "device": x.device} for dtype in (torch.int64, torch.float64))
    seen = Tally(
        confusion=torch.zeros(runs, classes, classes, **count),
        buckets=torch.zeros(runs, classes, 2, THRESHOLDS, **count),
        bins=torch.zeros(runs, BINS, 3, **number),
        worst=torch.full((runs, WORST), -1, **count),
        taken=torch.zeros(runs, WORST, **count),
        confidence=torch.full((runs, WORST), -1.0, **number),
    )
    first = 0
    for output, _, labels in outputs(stack.model, stack.criterion, x, split.labels, stack.common.precision):
        probability = stack.criterion.logits(output).double().softmax(-1).nan_to_num(0.0)
        _count(seen, probability, stack.criterion.predict(output), labels, first)
        first += len(labels)
    return seen


def _count(seen: Tally, probability: Tensor, predicted: Tensor, labels: Tensor, first: int) -> None:
    """Add a chunk: probability (K, rows, C), predicted (K, rows), labels (rows,)."""
    runs, _, classes = probability.shape
    run = torch.arange(runs, device=labels.device)[:, None]
    confidence = probability.gather(-1, predicted[..., None])[..., 0]
    right = predicted == labels
    seen.confusion += _counts((run * classes + labels) * classes + predicted, seen.confusion)
    own = torch.nn.functional.one_hot(labels, classes)
    place = (run[..., None] * classes + torch.arange(classes, device=labels.device)) * 2 + own
    bucket = (probability * (THRESHOLDS - 1)).long()
    seen.buckets += _counts(place * THRESHOLDS + bucket, seen.buckets)
    each = torch.stack([torch.ones_like(confidence), confidence, right.double()], -1)
    seen.bins.scatter_add_(1, bins(confidence)[..., None].expand(each.shape), each)
    sure = torch.cat([seen.confidence, confidence.masked_fill(right, -1.0)], 1)
    rows = torch.arange(first, first + len(labels), device=labels.device).expand(runs, -1)
    seen.confidence, at = sure.topk(WORST, 1)
    seen.taken = torch.cat([seen.taken, predicted], 1).gather(1, at)
    seen.worst = torch.cat([seen.worst, rows], 1).gather(1, at).masked_fill(seen.confidence < 0, -1)


def _counts(places: Tensor, like: Tensor) -> Tensor:
    return torch.bincount(places.flatten(), minlength=like.numel()).view(like.shape)
