"""One training step for every model: forward, backward, update, and the figures of the batch."""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from fmnist.losses import Criterion, bernoulli
from fmnist.models import VAE
from fmnist.optim import Optimizer

CHUNK = 6000  # rows whose activations stay in the caches; a larger batch is worked through in such pieces


def chunk_rows(model: nn.Module, criterion: Criterion, batch: int) -> int:
    """Rows that can be worked through at a time: all of them where the rows of a batch see one another in training."""
    couples = criterion.couples_rows or any(getattr(layer, "couples_rows", False) for layer in model.modules())
    return batch if couples else CHUNK


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """Within it, bfloat16 precision runs the products in bfloat16 and leaves all else, the weights too, in float32."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16")


class AutogradStep:
    """The step as its formulas say it, through autograd: the reference, and the fallback for every model.

    Calling it trains on one batch: x (*runs, batch, features) or (batch, features) shared by the runs, labels
    (*runs, batch) or (batch,), lr and clip one per run. It returns the batch's sums per run, "loss" first, each (K,),
    and does not wait for the device.
    """

    def __init__(self, model: nn.Module, criterion: Criterion, optimizer: Optimizer, precision: str) -> None:
        self.model, self.criterion, self.optimizer, self.precision = model, criterion, optimizer, precision

    def __call__(
        self, x: Tensor, labels: Tensor, lr: Sequence[float], clip: Sequence[float | None]
    ) -> dict[str, Tensor]:
        batch = x.shape[-2]
        rows = chunk_rows(self.model, self.criterion, batch)
        self.optimizer.flat.grad.zero_()
        sums: dict[str, Tensor] = {}
        for start in range(0, batch, rows):
            piece = slice(start, start + rows)
            figures = self._gradient(x[..., piece, :], labels[..., piece], batch)
            sums = {tag: sums[tag] + figure if sums else figure for tag, figure in figures.items()}
        self.optimizer.clip(clip)
        self.optimizer.step(lr)
        return sums

    def _gradient(self, x: Tensor, labels: Tensor, batch: int) -> dict[str, Tensor]:
        """Add the gradient of the batch's mean loss from these rows; their sums by tag."""
        with autocast(x.device, self.precision):
            output = self.model(x)
        figures = self.criterion.figures(output, x, labels)
        (figures["loss"].sum() / batch).backward()  # type: ignore[no-untyped-call]
        return {tag: figure.detach().sum(-1) for tag, figure in figures.items()}


@torch.no_grad()
def outputs(
    model: nn.Module, criterion: Criterion, x: Tensor, labels: Tensor, precision: str
) -> Iterator[tuple[Any, Tensor, Tensor]]:
    """The model's output in evaluation mode, piece by piece, with the rows it belongs to: (output, x, labels)."""
    rows = len(x) if criterion.couples_rows else CHUNK
    model.eval()
    for start in range(0, len(x), rows):
        piece = slice(start, start + rows)
        with autocast(x.device, precision):
            output = model(x[piece])
        yield output, x[piece], labels[piece]
    model.train()


@torch.no_grad()
def evaluate(model: nn.Module, criterion: Criterion, x: Tensor, labels: Tensor, precision: str) -> dict[str, Tensor]:
    """Means over the rows per run, "loss" first, each (K,), in evaluation mode. x (rows, features) for all runs."""
    sums: dict[str, Tensor] = {}
    for piece in outputs(model, criterion, x, labels, precision):
        figures = criterion.figures(*piece) | criterion.closer(*piece)
        for tag, figure in figures.items():
            sums[tag] = sums.get(tag, torch.zeros((), device=x.device)) + figure.sum(-1, dtype=torch.float64)
    return {tag: total / len(x) for tag, total in sums.items()}


@torch.no_grad()
def negative_iwae(model: VAE, x: Tensor, samples: int) -> Tensor:
    """-log (1/S) sum_s p(x, z_s) / q(z_s|x), the importance-weighted bound (Burda et al. 2016), mean over x (rows,
    features), in nats: (K,). It is never above the negative ELBO, and nearer to -log p(x) the more samples it has."""
    total = torch.zeros((), device=x.device)
    model.eval()
    for piece in torch.split(x, CHUNK):
        mean, log_variance = model.posterior(piece)
        weights = []
        for _ in range(samples):
            z = model.sample(mean, log_variance)
            log_q = -((z - mean).square() / log_variance.exp() + log_variance).sum(-1) / 2  # both without the
            log_p = -z.square().sum(-1) / 2  # constant log(2 pi) / 2 per number, which cancels
            weights.append(-bernoulli(model.decode(z), piece) + log_p - log_q)
        total = total - (torch.stack(weights).logsumexp(0) - math.log(samples)).sum(-1, dtype=torch.float64)
    model.train()
    return total / len(x)
