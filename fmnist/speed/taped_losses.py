"""How each loss is recorded on a tape: the gradient of a batch's mean by the output, and the figures of its rows.

The losses' own formulas under autograd are the truth; tests compare the two.
"""

from functools import singledispatch
from typing import Any

import torch
from torch import Tensor

from fmnist.nn.losses import Classification, Criterion, NegativeELBO, Reconstruction
from fmnist.nn.models import Encoded
from fmnist.speed.tape import Tape

aten = torch.ops.aten


@singledispatch
def record_loss(criterion: Criterion, do: Tape, output: Any, x: Tensor, labels: Tensor, batch: int) -> Any:
    """Record the gradient of the batch's mean loss by the output, from these rows of it, and their figures."""
    raise NotImplementedError(type(criterion).__name__)


def _loss_by_autograd(criterion: Criterion, do: Tape, output: Tensor, x: Tensor, labels: Tensor, batch: int) -> Tensor:
    g = do.like(output)

    def loss() -> None:
        with torch.enable_grad():
            z = output.detach().requires_grad_()
            figures = criterion.figures(z, x, labels)
            g.copy_(torch.autograd.grad(figures["loss"].sum() / batch, z)[0])
        do.totals.add(figures)

    do(loss)
    return g


@record_loss.register
def _(criterion: Classification, do: Tape, output: Tensor, x: Tensor, labels: Tensor, batch: int) -> Tensor:
    if criterion.name != "cross_entropy":
        return _loss_by_autograd(criterion, do, output, x, labels, batch)
    # All on (K, classes, batch), in which the tensors are contiguous.
    runs, rows, classes = output.shape
    index = labels.expand(runs, rows)[:, None, :]
    log_p, g = do.like(output), do.like(output)
    do(aten._log_softmax.out, output.mT, -2, False, out=log_p.mT)
    do.later(lambda kept, of: criterion.figures(kept, x, of), log_p, labels)  # the logits but for a constant
    do(torch.exp, log_p, out=g)
    smoothing = criterion.label_smoothing
    if isinstance(smoothing, Tensor):
        spread = smoothing[:, None, None]
        do(g.sub_, spread / classes)
        do(g.mT.scatter_add_, -2, index, (spread - 1).expand(runs, 1, rows).contiguous())
    else:
        do(g.mT.scatter_add_, -2, index, torch.full((runs, 1, rows), -1.0, dtype=g.dtype, device=g.device))
    do(g.mul_, 1 / batch)
    return g


@record_loss.register
def _(criterion: Reconstruction, do: Tape, output: Tensor, x: Tensor, labels: Tensor, batch: int) -> Tensor:
    pixels = output.shape[-1]
    error = do.like(output)
    with do.scratch():
        image, work = do.like(output), do.like(output)
        do(torch.sigmoid, output, out=image)
        do(torch.sub, image, x, out=error)
        do(torch.abs, error, out=work)
        absolute = do.summed(work)
        do(torch.mul, error, error, out=work)
        squared = do.summed(work)
        loss = {"mae": [absolute], "mse": [squared]}.get(criterion.name) or _bernoulli(do, output, x, work)
        for part in loss:
            do.figure("loss", part)
        do.figure("mae", absolute, 1 / pixels)
        do.figure("mse", squared, 1 / pixels)
        if criterion.name == "mae":
            do(error.sign_)
        do(error.mul_, (2 if criterion.name == "mse" else 1) / batch)
        if criterion.name != "bce":
            do(aten.sigmoid_backward.grad_input, error, image, grad_input=error)
    return error


def _bernoulli(do: Tape, logits: Tensor, x: Tensor, work: Tensor) -> list[Tensor]:
    """The sums whose sum is that of losses.bernoulli: log(1 + exp(-|z|)) = -log sigmoid(|z|), and max(z, 0) - x z."""
    do(torch.abs, logits, out=work)
    do(work.sigmoid_)
    do(work.log_)
    first = do.summed(work)
    do(first.neg_)
    do(torch.clamp_min, logits, 0, out=work)
    do(work.addcmul_, logits, x, value=-1)
    return [first, do.summed(work)]


@record_loss.register
def _(criterion: NegativeELBO, do: Tape, output: Encoded, x: Tensor, labels: Tensor, batch: int) -> Encoded:
    logits, mean, log_variance = output
    g = do.like(logits)
    with do.scratch():
        nll = _bernoulli(do, logits, x, do.like(logits))
        for tag in ("loss", "nll", "negative_elbo"):
            for part in nll:
                do.figure(tag, part)
    do(torch.sigmoid, logits, out=g)
    do(g.sub_, x)
    do(g.mul_, 1 / batch)
    d_mean, d_log_variance = do.like(mean), do.like(mean)
    beta = criterion.beta[..., None] if isinstance(criterion.beta, Tensor) else criterion.beta
    # kl = (mean^2 + exp(log variance) - 1 - log variance) / 2
    do(torch.mul, mean, mean, out=d_mean)
    do(torch.exp, log_variance, out=d_log_variance)
    do(d_log_variance.sub_, 1)
    do(d_mean.add_, d_log_variance)
    do(d_mean.sub_, log_variance)
    divergence = do.summed(d_mean)
    weight = criterion.beta.flatten() if isinstance(criterion.beta, Tensor) else criterion.beta
    for tag, share in (("loss", weight / 2), ("kl", 0.5), ("negative_elbo", 0.5)):
        do.figure(tag, divergence, share)
    do(torch.mul, mean, beta, out=d_mean)
    do(d_mean.mul_, 1 / batch)
    do(d_log_variance.mul_, beta)
    do(d_log_variance.mul_, 0.5 / batch)
    return Encoded(g, d_mean, d_log_variance)
