"""Losses per example, from the model's raw output: output (*runs, batch, n) -> (*runs, batch)."""

import torch
from torch import Tensor


def cross_entropy(logits: Tensor, labels: Tensor, label_smoothing: Tensor | float = 0.0) -> Tensor:
    """-sum_c q_c log softmax(logits)_c with q = (1 - s) onehot + s / classes, in nats.

    logits (*runs, batch, classes); labels (batch,) or (*runs, batch) integers; label_smoothing a number or one per run.
    """
    log_p = logits.log_softmax(-1)
    own = -log_p.gather(-1, labels.expand(log_p.shape[:-1])[..., None]).squeeze(-1)
    if isinstance(label_smoothing, float) and label_smoothing == 0:
        return own
    smoothing = torch.as_tensor(label_smoothing, dtype=own.dtype, device=own.device)[..., None]
    return torch.lerp(own, -log_p.mean(-1), smoothing.expand(own.shape))


def report(logits: Tensor, labels: Tensor, over_rows: bool = False) -> Tensor:
    """The report's loss: -sum_c [t log p + (1 - t) log(1 - p)], binary cross-entropy summed over the classes, in nats.

    p is the softmax over classes or, with over_rows, over the rows of the batch, as the report has it by mistake: then
    each class is a distribution over the batch and the loss of one example depends on the others.
    """
    log_p = logits.log_softmax(-2 if over_rows else -1)
    # log(1 - p) from log p; the bound keeps it finite where p rounds to 1 (Maechler 2012)
    log_not_p = torch.log(-torch.expm1(log_p.clamp_max(-torch.finfo(log_p.dtype).eps)))
    target = labels.expand(log_p.shape[:-1])[..., None]
    return -(log_not_p.sum(-1) + (log_p.gather(-1, target) - log_not_p.gather(-1, target)).squeeze(-1))


class Classification:
    """What a classifier is trained and measured by. name: cross_entropy, report or report_rows."""

    monitor = ("accuracy", max)  # what validation is judged by

    def __init__(self, name: str, label_smoothing: Tensor | None = None) -> None:
        self.name = name
        self.label_smoothing: Tensor | float = 0.0 if label_smoothing is None else label_smoothing
        self.couples_rows = name == "report_rows"  # such a batch cannot be cut into chunks

    def loss(self, output: Tensor, x: Tensor, labels: Tensor) -> Tensor:
        """Per example, (*runs, batch)."""
        if self.name == "cross_entropy":
            return cross_entropy(output, labels, self.label_smoothing)
        return report(output, labels, over_rows=self.couples_rows)

    def measures(self, output: Tensor, x: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Further figures per example, (*runs, batch): accuracy as 0 or 1."""
        return {"accuracy": (self.predict(output) == labels).to(output.dtype)}

    def predict(self, output: Tensor) -> Tensor:
        """The class each example is taken for, (*runs, batch)."""
        return (output.log_softmax(-2) if self.couples_rows else output).argmax(-1)
