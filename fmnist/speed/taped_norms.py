"""How the normalising layers are written on a tape; see fmnist.speed.taped."""

import torch
from torch import Tensor

from fmnist.nn.layers import BatchNorm, LayerNorm
from fmnist.speed.tape import Tape
from fmnist.speed.taped import Back, rule


def for_all_runs(x: Tensor, parameter: Tensor) -> Tensor:
    """x (batch, features), which K runs share, as (K, batch, features): a view that must not be written to."""
    return x if x.dim() == parameter.dim() else x.expand(*parameter.shape[:-2], *x.shape[-2:])


@rule.register
def _(layer: BatchNorm, tape: Tape, x: Tensor) -> tuple[Tensor, Back]:
    if tape.rows < 2:
        raise ValueError("batch normalisation needs at least 2 examples a batch in training, got 1")
    gamma, beta = (p.detach()[..., None, :] for p in (layer.weight, layer.bias))
    d_gamma, d_beta = layer.weight.grad, layer.bias.grad
    assert d_gamma is not None
    assert d_beta is not None
    means, variances = (tape.common(len(tape.sizes), *gamma.shape) for _ in range(2))  # by chunk
    inverse, scale, slope = (tape.common(*gamma.shape) for _ in range(3))
    x = for_all_runs(x, gamma)
    centred = tape.own(x)
    tape(torch.mean, x, -2, keepdim=True, out=means[tape.chunk])
    tape(torch.sub, x, means[tape.chunk], out=centred)
    with tape.scratch():
        squares = tape.like(centred)
        tape(torch.mul, centred, centred, out=squares)
        tape(torch.mean, squares, -2, keepdim=True, out=variances[tape.chunk])
    tape.barrier()
    if tape.chunk == 0:
        mean, variance = _moments(tape, means, variances)
        tape(layer.running_mean.lerp_, mean.squeeze(-2), layer.momentum)
        tape(torch.add, variance, layer.eps, out=inverse)
        tape(inverse.rsqrt_)
        tape(torch.mul, gamma, inverse, out=scale)
        tape(variance.mul_, tape.rows / (tape.rows - 1))
        tape(layer.running_var.lerp_, variance.squeeze(-2), layer.momentum)
        tape(layer.num_batches_tracked.add_, 1)
    if len(tape.sizes) > 1:
        tape(centred.add_, means[tape.chunk])
    y = tape.like(centred)
    tape(torch.mul, centred, scale, out=y)
    tape(y.add_, beta)

    def back(g: Tensor) -> Tensor:
        # dx = gamma / deviation (g - mean(g) - normal mean(g normal)), normal = centred / deviation (Ioffe & Szegedy)
        with tape.scratch():
            product = tape.like(g)
            tape(torch.mul, g, centred, out=product)
            tape.sum(product, -2, d_gamma)
        tape.sum(g, -2, d_beta)
        tape.barrier()
        if tape.chunk == 0:
            tape(d_gamma.mul_, inverse.squeeze(-2))
            tape(torch.mul, d_gamma[..., None, :], inverse, out=slope)
        tape(g.addcmul_, centred, slope, value=-1 / tape.rows)
        tape(g.sub_, d_beta[..., None, :], alpha=1 / tape.rows)
        tape(g.mul_, scale)
        return g

    return y, back


def _moments(tape: Tape, means: Tensor, variances: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance of all rows from those of the chunks, (chunks, ...), by Chan, Golub & LeVeque 1979. What
    remains in `means` is how far each is from the mean."""
    if len(tape.sizes) == 1:
        return means[0], variances[0]
    shares = (
        torch.tensor(tape.sizes, dtype=tape.dtype, device=means.device).view(-1, *[1] * (means.dim() - 1)) / tape.rows
    )
    mean, variance, work = torch.empty_like(means[0]), torch.empty_like(means[0]), torch.empty_like(means)
    tape(torch.mul, means, shares, out=work)
    tape(torch.sum, work, 0, out=mean)
    tape(means.sub_, mean)
    tape(torch.mul, means, means, out=work)
    tape(work.add_, variances)
    tape(work.mul_, shares)
    tape(torch.sum, work, 0, out=variance)
    return mean, variance


@rule.register
def _(layer: LayerNorm, tape: Tape, x: Tensor) -> tuple[Tensor, Back]:
    gamma, beta = (p.detach()[..., None, :] for p in (layer.weight, layer.bias))
    d_gamma, d_beta = layer.weight.grad, layer.bias.grad
    assert d_gamma is not None
    assert d_beta is not None
    x = for_all_runs(x, gamma)
    normal = tape.own(x)
    mean, inverse, share = (tape.new(*normal.shape[:-1], 1) for _ in range(3))
    tape(torch.mean, x, -1, keepdim=True, out=mean)
    tape(torch.sub, x, mean, out=normal)
    with tape.scratch():
        squares = tape.like(normal)
        tape(torch.mul, normal, normal, out=squares)
        tape(torch.mean, squares, -1, keepdim=True, out=inverse)
    tape(inverse.add_, layer.eps)
    tape(inverse.rsqrt_)
    tape(normal.mul_, inverse)
    y = tape.like(normal)
    tape(torch.mul, normal, gamma, out=y)
    tape(y.add_, beta)

    def back(g: Tensor) -> Tensor:
        # dx = (h - mean(h) - normal mean(h normal)) / deviation with h = gamma g (Ba, Kiros & Hinton)
        tape.sum(g, -2, d_beta)
        with tape.scratch():
            product = tape.like(g)
            tape(torch.mul, g, normal, out=product)
            tape.sum(product, -2, d_gamma)
            tape(g.mul_, gamma)
            tape(torch.mul, g, normal, out=product)
            tape(torch.mean, product, -1, keepdim=True, out=share)
            tape(torch.mul, normal, share, out=product)
            tape(torch.mean, g, -1, keepdim=True, out=mean)
            tape(g.sub_, mean)
            tape(g.sub_, product)
        tape(g.mul_, inverse)
        return g

    return y, back
