"""Figures of predictions, with optional leading run axes."""

import torch
from torch import Tensor


def confusion(predicted: Tensor, labels: Tensor, classes: int) -> Tensor:
    """Counts of class i taken for class j: predicted (*runs, n), labels (n,) -> (*runs, classes, classes)."""
    cells = labels * classes + predicted
    counts = torch.zeros(*predicted.shape[:-1], classes * classes, dtype=torch.int64, device=predicted.device)
    counts.scatter_add_(-1, cells, torch.ones_like(cells))
    return counts.view(*predicted.shape[:-1], classes, classes)


def recall(counts: Tensor) -> Tensor:
    """The accuracy on each class: confusion (*runs, classes, classes) -> (*runs, classes); nan if absent."""
    return counts.diagonal(dim1=-2, dim2=-1) / counts.sum(-1)


def precision(counts: Tensor) -> Tensor:
    """The share of right ones among what was taken for a class: like `recall`; nan for a class never predicted."""
    return counts.diagonal(dim1=-2, dim2=-1) / counts.sum(-2)
