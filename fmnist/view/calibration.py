"""What the probabilities of a classifier are worth: proper scores, calibration error, temperature.

logits (n, classes) of any kind whose softmax gives the probabilities; labels (n,) integers. A number that is not
defined is nan: without rows, and for logits that are no numbers.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

BINS = 15  # as in Guo et al. 2017
COLDEST, HOTTEST = 0.01, 100.0  # temperatures between which the best is looked for


class Bin(NamedTuple):
    """The examples whose confidence lies in (low, high]: how many, their mean confidence, the share that is right."""

    low: float
    high: float
    examples: int
    confidence: float
    accuracy: float


def bins(confidence: Tensor) -> Tensor:
    """The number of the bin that each probability lies in; one on an edge belongs to the bin below."""
    return torch.bucketize(confidence, _edges(confidence)[1:-1])


def reliability(logits: Tensor, labels: Tensor) -> list[Bin]:
    """Examples by their confidence, the probability of the class they are taken for; bins of equal width, those without
    examples left out."""
    confidence, predicted = logits.double().softmax(-1).max(-1)
    right = (predicted == labels).double()
    edges, place = _edges(confidence), bins(confidence)
    found = []
    for number in sorted(set(place.tolist())):
        own = place == number
        low, high = edges[number : number + 2].tolist()
        found.append(Bin(low, high, int(own.sum()), float(confidence[own].mean()), float(right[own].mean())))
    return found


def calibration_error(logits: Tensor, labels: Tensor) -> float:
    """The expected calibration error (Naeini et al. 2015; Guo et al. 2017): the mean over the examples of the distance
    between confidence and accuracy of their bin."""
    if not _defined(logits):
        return math.nan
    return sum(own.examples * abs(own.confidence - own.accuracy) for own in reliability(logits, labels)) / len(labels)


def log_loss(logits: Tensor, labels: Tensor) -> float:
    """The mean of -log p(label), in nats."""
    log_p = logits.double().log_softmax(-1).gather(-1, labels[:, None])
    return float(-log_p.mean())


def brier(logits: Tensor, labels: Tensor) -> float:
    """The mean of sum_c (p_c - t_c)^2 (Brier 1950), in [0, 2]."""
    p = logits.double().softmax(-1)
    return float((p.square().sum(-1) - 2 * p.gather(-1, labels[:, None]).squeeze(-1) + 1).mean())


def top(logits: Tensor, labels: Tensor, k: int = 2) -> float:
    """The share of examples whose label is among the k most probable classes; of equals, those with lower numbers are
    taken first."""
    if not _defined(logits):
        return math.nan
    own = logits.gather(-1, labels[:, None])
    lower = torch.arange(logits.shape[-1], device=logits.device) < labels[:, None]
    before = (logits > own) | ((logits == own) & lower)
    return float((before.sum(-1) < k).double().mean())


def scores(logits: Tensor, labels: Tensor) -> dict[str, float]:
    """All of the above, by name."""
    return {
        "accuracy": top(logits, labels, 1), "top_2_accuracy": top(logits, labels), "log_loss": log_loss(logits, labels),
        "brier": brier(logits, labels), "ece": calibration_error(logits, labels),
    }  # fmt: skip


def temperature(logits: Tensor, labels: Tensor) -> float:
    """The number by which to divide logits so that their log loss is least (temperature scaling, Guo et al. 2017).

    It is to be chosen on rows that were not trained on, and measured on others. One between COLDEST and HOTTEST: where
    all examples are right, no finite one is best.
    """
    if not _defined(logits):
        return math.nan
    from scipy.optimize import minimize_scalar

    bounds = (math.log(COLDEST), math.log(HOTTEST))  # the loss is convex in 1/T, so it has one minimum in log T as well
    found = minimize_scalar(lambda log_t: log_loss(logits / math.exp(log_t), labels), bounds=bounds, method="bounded",
                            options={"xatol": 1e-6})  # fmt: skip
    return math.exp(float(found.x))


def _edges(confidence: Tensor) -> Tensor:
    return torch.linspace(0, 1, BINS + 1, dtype=torch.float64, device=confidence.device)


def _defined(logits: Tensor) -> bool:
    return len(logits) > 0 and bool(logits.isfinite().all())
