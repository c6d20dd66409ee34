"""One training step by autograd, as the formulas say it; evaluation."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from fmnist.data.batches import Batch
from fmnist.nn.losses import Criterion
from fmnist.nn.optim import Optimizer
from fmnist.nn.totals import Totals

MEASURED = 1000  # rows that are worked through at a time in evaluation


def chunk_rows(device: torch.device) -> int:
    """Rows of a batch that are worked through at a time: on a CPU those whose activations stay in its caches; more on
    a GPU, where the number of operations counts. The runs may not change it: their noise is drawn chunk by chunk."""
    return 2000 if device.type == "cpu" else 16_000


def couples_rows(model: nn.Module, criterion: Criterion) -> bool:
    """Whether in training the loss of a row depends on the other rows of its batch."""
    return criterion.couples_rows or any(getattr(layer, "couples_rows", False) for layer in model.modules())


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """Within it, bfloat16 precision runs the products in bfloat16 and leaves all else, the weights too, in float32."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16")


class Step:
    """Trains on one batch per call through autograd, and adds the batch's metrics to `totals`. It is the reference that
    a faster one is checked against.

    A call takes a batch, and lr and clip, one per run. It does not wait for the device.
    """

    takes_pixels = False  # whether batches may be the images' pixels instead of numbers in [0, 1]

    def __init__(self, model: nn.Module, criterion: Criterion, optimizer: Optimizer, precision: str) -> None:
        self.model, self.criterion, self.optimizer, self.precision = model, criterion, optimizer, precision
        self.totals = Totals(optimizer.flat.data.device)
        self.one_chunk = couples_rows(model, criterion)  # whether a batch can only be worked through as a whole

    def __call__(self, batch: Batch, lr: Sequence[float], clip: Sequence[float | None]) -> None:
        self.gradient(batch)
        self.optimizer.clip(clip)
        self.optimizer.step(lr)

    def gradient(self, batch: Batch) -> None:
        """Put the gradient of the batch's mean loss into the flat buffer, and its metrics into the totals."""
        self.optimizer.flat.grad.zero_()
        for chunk in self.chunks(batch):
            x = chunk.x
            with autocast(x.device, self.precision):
                output = self.model(x)
            metrics = self.criterion.metrics(output, x, chunk.labels, training=True, **chunk.others)
            (metrics["loss"].sum() / batch.x.shape[-2]).backward()  # type: ignore[no-untyped-call]
            self.totals.add(metrics)

    def chunks(self, batch: Batch) -> Iterator[Batch]:
        """The chunks of rows that a batch is worked through in."""
        rows = batch.x.shape[-2]
        size = rows if self.one_chunk else chunk_rows(batch.x.device)
        return (batch.chunk(start, start + size) for start in range(0, rows, size))

    def settings(self) -> dict[str, Any]:
        """What decides the last bits of a step. It is recorded, and a resumed run is given it again."""
        return {}

    def go_on_with(self, settings: dict[str, Any]) -> None:
        """Use the settings that the run began with, if they work here. To be called before the first step."""

    def renew(self) -> None:
        """Take over the criterion's values. To be called when they are other ones."""


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Within it the model is in evaluation mode and has no gradients; then it is as before."""
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        model.train(training)


def outputs(
    model: nn.Module, criterion: Criterion, x: Tensor, labels: Tensor, precision: str
) -> Iterator[tuple[Any, Tensor, Tensor]]:
    """The model's output in evaluation mode, chunk by chunk, with the rows it belongs to: (output, x, labels)."""
    rows = len(x) if criterion.couples_rows else MEASURED
    for chunk, targets in zip(torch.split(x, rows), torch.split(labels, rows), strict=True):
        with evaluating(model), autocast(x.device, precision):
            output = model(chunk)
        yield output, chunk, targets


@torch.no_grad()
def means(model: nn.Module, criterion: Criterion, x: Tensor, labels: Tensor, precision: str) -> dict[str, Tensor]:
    """Means over the rows per run, "loss" first, each (K,), in evaluation mode. x (rows, features) for all runs."""
    sums: dict[str, Tensor] = {}
    for chunk in outputs(model, criterion, x, labels, precision):
        metrics = criterion.metrics(*chunk) | criterion.evaluation_only(*chunk)
        for tag, metric in metrics.items():
            sums[tag] = sums.get(tag, torch.zeros((), device=x.device)) + metric.sum(-1, dtype=torch.float64)
    return {tag: total / len(x) for tag, total in sums.items()}


def by_tag(prefix: str, metrics: dict[str, Tensor]) -> dict[str, list[float]]:
    """Metrics of K runs (K,) as numbers, their tags with a prefix. It waits for the device once."""
    together = torch.stack([metric.double() for metric in metrics.values()]).tolist()
    return {prefix + tag: values for tag, values in zip(metrics, together, strict=True)}
