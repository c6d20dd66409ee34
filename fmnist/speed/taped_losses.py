"""How each loss is written on a tape: the gradient of a batch's mean by the output, and the metrics of its rows.

The losses' own formulas under autograd are the truth; tests compare the two.
"""

from functools import singledispatch
from typing import Any

import torch
from torch import Tensor

from fmnist.nn.losses import (
    Classification,
    Criterion,
    Mix,
    NegativeELBO,
    Reconstruction,
    absolute,
    bernoulli,
    cross_entropy,
    squared,
)
from fmnist.nn.models import Encoded
from fmnist.speed.tape import Tape
from fmnist.speed.taped import like_parts, parts, rule_of

aten = torch.ops.aten


@singledispatch
def loss_rule(
    criterion: Criterion, tape: Tape, output: Any, x: Tensor, labels: Tensor, batch: int, **others: Any
) -> Any:
    """Write, for these rows of a batch, the gradient of its mean loss by their output, and their metrics. others: see
    `Batch.others`.

    This is for criteria and losses that have no rule: autograd does them when the tape is replayed.
    """
    g = [tape.like(part) for part in parts(output)]

    def loss() -> None:
        with torch.enable_grad():
            z = [part.detach().requires_grad_() for part in parts(output)]
            metrics = criterion.metrics(like_parts(output, z), x, labels, training=True, **others)
            for buffer, gradient in zip(g, torch.autograd.grad(metrics["loss"].sum() / batch, z), strict=True):
                buffer.copy_(gradient)
        tape.totals.add(metrics)

    tape(loss)
    return like_parts(output, g)


def write_loss(criterion: Criterion, *given: Any, **others: Any) -> Any:
    """Write the gradient of a loss by its rule. given: the arguments of `loss_rule` after the first."""
    return rule_of(loss_rule, type(criterion), "metrics")(criterion, *given, **others)


@loss_rule.register
def _(
    criterion: Classification, tape: Tape, output: Tensor, x: Tensor, labels: Tensor, batch: int,
    mix: Mix | None = None, soft: Tensor | None = None,
) -> Tensor:  # fmt: skip
    if criterion.loss is not cross_entropy:
        mixed = {} if mix is None else {"mix": mix}
        by_autograd: Tensor = loss_rule.dispatch(object)(criterion, tape, output, x, labels, batch, **mixed)
        return by_autograd
    # All on (K, classes, batch), in which the tensors are contiguous.
    runs, rows, classes = output.shape
    log_p, g = (tape.new(*output.shape) for _ in range(2))
    tape(aten._log_softmax.out, output.mT, -2, False, out=log_p.mT)
    targets = (labels, *(mix or ()), *(() if soft is None else (soft.mT,)))

    def metrics(kept: Tensor, own: Tensor, *others: Tensor) -> dict[str, Tensor]:
        mixed = (others[0], others[1]) if mix is not None else None
        return criterion.metrics(kept, x, own, True, mixed, None if soft is None else others[-1].mT)

    tape.later(metrics, log_p, *targets)  # the logits but for a constant
    tape(torch.exp, log_p, out=g)
    weight = torch.full((runs, 1, rows), -1.0, dtype=g.dtype, device=g.device)
    if criterion.label_smoothing is not None:
        smoothing = criterion.label_smoothing[:, None, None]
        spread = torch.empty_like(smoothing)
        tape.derive(torch.div, smoothing, classes, out=spread)
        tape.derive(torch.sub, smoothing.expand_as(weight), 1, out=weight)
        tape(g.sub_, spread)

    def take(share: Tensor, label: Tensor) -> None:
        tape(g.mT.scatter_add_, -2, label.expand(runs, rows)[:, None, :], share)

    if mix is None:
        take(weight, labels)
    else:
        other, share = mix
        own, rest = torch.empty_like(weight), torch.empty_like(weight)
        tape(torch.mul, weight, share.expand(runs, rows)[:, None, :], out=own)
        tape(torch.sub, weight, own, out=rest)
        take(own, labels)
        take(rest, other)
    if soft is not None:
        share, temperature = criterion.teacher
        with tape.scratch():
            away = tape.like(output)  # from the teacher: softmax(logits / T) - q, which T makes the gradient
            tape(torch.mul, log_p, 1 / temperature, out=away)
            tape(aten._softmax.out, away.mT, -2, False, out=away.mT)
            tape(away.sub_, soft)
            tape(away.mul_, share[..., None] * temperature)
            tape(g.mul_, 1 - share[..., None])
            tape(g.add_, away)
    tape(g.mul_, 1 / batch)
    return g


@loss_rule.register
def _(
    criterion: Reconstruction, tape: Tape, output: Tensor, x: Tensor, labels: Tensor, batch: int,
    mix: Mix | None = None,
) -> Tensor:  # fmt: skip
    if criterion.loss not in (absolute, squared, bernoulli):
        by_autograd: Tensor = loss_rule.dispatch(object)(criterion, tape, output, x, labels, batch)
        return by_autograd
    pixels = output.shape[-1]
    error = tape.like(output)
    with tape.scratch():
        image, work = tape.like(output), tape.like(output)
        tape(torch.sigmoid, output, out=image)
        tape(torch.sub, image, x, out=error)
        tape(torch.abs, error, out=work)
        far = tape.summed(work)
        tape(torch.mul, error, error, out=work)
        square = tape.summed(work)
        loss = {absolute: [far], squared: [square]}.get(criterion.loss) or _bernoulli(tape, output, x, work)
        for term in loss:
            tape.metric("loss", term)
        tape.metric("mae", far, 1 / pixels)
        tape.metric("mse", square, 1 / pixels)
        if criterion.loss is absolute:
            tape(error.sign_)
        tape(error.mul_, (2 if criterion.loss is squared else 1) / batch)
        if criterion.loss is not bernoulli:
            tape(aten.sigmoid_backward.grad_input, error, image, grad_input=error)
    return error


def _bernoulli(tape: Tape, logits: Tensor, x: Tensor, work: Tensor) -> list[Tensor]:
    """The sums whose sum is that of losses.bernoulli: log(1 + exp(-|z|)) = -log sigmoid(|z|), and max(z, 0) - x z."""
    tape(torch.abs, logits, out=work)
    tape(work.sigmoid_)
    tape(work.log_)
    first = tape.summed(work)
    tape(first.neg_)
    tape(torch.clamp_min, logits, 0, out=work)
    tape(work.addcmul_, logits, x, value=-1)
    return [first, tape.summed(work)]


@loss_rule.register
def _(
    criterion: NegativeELBO, tape: Tape, output: Any, x: Tensor, labels: Tensor, batch: int,
    mix: Mix | None = None,
) -> Any:  # fmt: skip
    logits = output.logits
    g = tape.like(logits)
    with tape.scratch():
        nll = _bernoulli(tape, logits, x, tape.like(logits))
        for tag in ("loss", "nll", "negative_elbo"):
            for term in nll:
                tape.metric(tag, term)
    tape(torch.sigmoid, logits, out=g)
    tape(g.sub_, x)
    tape(g.mul_, 1 / batch)
    if isinstance(output, Encoded):
        return Encoded(g, *_closed_form(criterion, tape, output, batch))
    _, log_ratio = output
    d_ratio = tape.like(log_ratio)
    _weighed(criterion, tape, tape.summed(log_ratio), 1)
    tape(d_ratio.fill_, 1 / batch)
    tape(d_ratio.mul_, criterion.beta)
    return type(output)(g, d_ratio)


def _weighed(criterion: NegativeELBO, tape: Tape, divergence: Tensor, factor: float) -> None:
    """Add the divergence of a batch, times a factor, to the totals of the metrics that have it."""
    weight = torch.as_tensor(criterion.beta, dtype=divergence.dtype, device=divergence.device).flatten()
    weighted = torch.empty_like(weight)
    tape.derive(torch.mul, weight, factor, out=weighted)
    for tag, share in (("loss", weighted), ("kl", factor), ("negative_elbo", factor)):
        tape.metric(tag, divergence, share)


def _closed_form(criterion: NegativeELBO, tape: Tape, output: Encoded, batch: int) -> tuple[Tensor, Tensor]:
    """The divergence (mean^2 + exp(log variance) - 1 - log variance) / 2: its gradient by mean and log variance."""
    _, mean, log_variance = output
    d_mean, d_log_variance = tape.like(mean), tape.like(mean)
    beta = criterion.beta[..., None] if isinstance(criterion.beta, Tensor) else criterion.beta
    tape(torch.mul, mean, mean, out=d_mean)
    tape(torch.exp, log_variance, out=d_log_variance)
    tape(d_log_variance.sub_, 1)
    tape(d_mean.add_, d_log_variance)
    tape(d_mean.sub_, log_variance)
    _weighed(criterion, tape, tape.summed(d_mean), 0.5)
    tape(torch.mul, mean, beta, out=d_mean)
    tape(d_mean.mul_, 1 / batch)
    tape(d_log_variance.mul_, beta)
    tape(d_log_variance.mul_, 0.5 / batch)
    return d_mean, d_log_variance
