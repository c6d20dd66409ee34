"""How each layer and model is written on a tape: the formula of its forward pass and of its backward pass.

The layers' own formulas under autograd are the truth; tests compare the two. A layer without a rule here is done by
autograd, which is right for anything that has a forward, and slower. A rule says `tape.keep` of all that its backward
pass needs: whatever is not kept may be overwritten by the next layer.
"""

import copy
from collections.abc import Callable
from functools import singledispatch
from typing import Any

import torch
from torch import Tensor, nn

from fmnist.nn.layers import Activation, BatchNorm, Dropout, LayerNorm, Linear, Residual
from fmnist.nn.losses import Criterion
from fmnist.nn.models import VAE, Autoencoder, Encoded
from fmnist.nn.noise import Corrupt
from fmnist.speed.tape import Tape

# Writes the backward pass: gradient of the output -> gradient of the input, or None where that is the data. It may
# overwrite what it is given.
Back = Callable[[Any], Any]
aten = torch.ops.aten


@singledispatch
def write(module: nn.Module, tape: Tape, x: Tensor) -> tuple[Any, Back]:
    """Write a module's forward pass on x; its output and what writes its backward pass.

    This is for modules that have no rule: autograd does them when the tape is replayed. Nothing of the module happens
    while the tape is written: the shape of its output is found with a copy, so that its statistics and generators are
    left alone.
    """
    inner, add = x is not tape.data, tape.add
    parameters = list(module.parameters())
    with torch.no_grad():
        y = tape.new(*copy.deepcopy(module)(torch.zeros_like(x)).shape)
    dx = tape.like(x) if inner else None
    held: dict[str, Tensor] = {}

    def forward() -> None:
        with torch.enable_grad():
            held["x"] = x.detach().requires_grad_(inner)
            held["y"] = module(held["x"])
        y.copy_(held["y"])

    def backward(g: Tensor) -> None:
        wanted = [*parameters, held["x"]] if inner else parameters
        gradients = torch.autograd.grad(held["y"], wanted, g, allow_unused=True)
        for p, gradient in zip(parameters, gradients, strict=False):
            assert p.grad is not None
            used = torch.zeros_like(p) if gradient is None else gradient
            p.grad.add_(used) if add else p.grad.copy_(used)
        if dx is not None:
            dx.zero_() if gradients[-1] is None else dx.copy_(gradients[-1])

    def back(g: Tensor) -> Tensor | None:
        if parameters or inner:
            tape(backward, g)
        return dx

    tape.keep(x)
    tape(forward)
    return y, back


def for_all_runs(x: Tensor, parameter: Tensor) -> Tensor:
    """x (batch, features), which K runs share, as (K, batch, features): a view that must not be written to."""
    return x if x.dim() == parameter.dim() else x.expand(*parameter.shape[:-2], *x.shape[-2:])


def in_chunks(model: nn.Module, criterion: Criterion) -> bool:
    """Whether a batch may be cut into chunks: rows see one another only in layers that write a barrier."""
    unknown = write.dispatch(nn.Module)
    coupling = [layer for layer in model.modules() if getattr(layer, "couples_rows", False)]
    return not criterion.couples_rows and all(write.dispatch(type(layer)) is not unknown for layer in coupling)


def multiplies_only(model: nn.Module) -> bool:
    """Whether all that a model does with its input is to multiply matrices with it."""
    if isinstance(model, nn.Sequential):
        return multiplies_only(model[0])
    if isinstance(model, Residual):
        return model.projection is not None and multiplies_only(model.inner)
    return isinstance(model, Linear)


@write.register
def _(layer: Linear, tape: Tape, x: Tensor) -> tuple[Tensor, Back]:
    weight, bias = layer.weight.detach(), layer.bias.detach()
    d_weight, d_bias = layer.weight.grad, layer.bias.grad
    assert d_weight is not None
    assert d_bias is not None
    of_data = x is tape.data
    shape = (*weight.shape[:-2], x.shape[-2], weight.shape[-2])
    y = tape.by_row(*shape) if layer is tape.compared else tape.new(*shape)
    tape.keep(x)
    tape.product(weight, x.mT, y.mT, fixed=True, images="pixels" if of_data else None)
    tape(y.add_, bias[..., None, :])

    def back(g: Tensor) -> Tensor | None:
        tape.product(g.mT, x, d_weight, add=tape.add, images="rows" if of_data else None)
        tape.sum(g, -2, d_bias)
        if of_data:
            return None
        dx = tape.like(x)
        tape.product(weight.mT, g.mT, dx.mT, fixed=True)
        return dx

    return y, back


@write.register
def _(layer: nn.Identity, tape: Tape, x: Tensor) -> tuple[Tensor, Back]:
    return x, lambda g: g


@write.register
def _(layer: Activation, tape: Tape, x: Tensor) -> tuple[Tensor, Back]:
    function = layer.function
    if not (function.forward and function.backward):
        return write.dispatch(nn.Module)(layer, tape, x)
    y = tape.like(x) if function.of == "input" else tape.own(x)
    kept = x if function.of == "input" else y
    (forward, *given), (backward, *also) = function.forward, function.backward
    tape.keep(kept)
    tape(forward, x, *given, out=y)

    def back(g: Tensor) -> Tensor:
        tape(backward, g, kept, *also, grad_input=g)
        return g

    return y, back


@write.register
def _(layer: Dropout, tape: Tape, x: Tensor) -> tuple[Tensor, Back]:
    if not any(layer.p):
        return x, lambda g: g
    mask = tape.new(len(layer.p), *x.shape[-2:])
    y = tape.like(mask)
    tape(layer.noise.keep_mask, mask.mT, [1 - p for p in layer.p], layer.rescale)
    tape(torch.mul, x, mask, out=y)

    def back(g: Tensor) -> Tensor | None:
        tape(g.mul_, mask)
        return g if x is not tape.data else None

    return y, back


@write.register
def _(layer: Corrupt, tape: Tape, x: Tensor) -> tuple[Tensor, Back]:
    y = tape.by_row(len(layer.noise.generators), *x.shape[-2:])
    tape(lambda: y.copy_(layer(x)))
    tape.data, tape.pixels = y, None  # whatever comes next sees this as the data
    tape.keep(y)
    return y, lambda g: None


@write.register
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


@write.register
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


@write.register
def _(layer: nn.Sequential, tape: Tape, x: Tensor) -> tuple[Tensor, Back]:
    backs = []
    for module in layer:
        x, back = write(module, tape, x)
        backs.append(back)

    def all_back(g: Tensor) -> Tensor | None:
        gradient: Tensor | None = g
        for back in reversed(backs):
            if gradient is not None:
                gradient = back(gradient)
        return gradient

    return x, all_back


@write.register
def _(layer: Residual, tape: Tape, x: Tensor) -> tuple[Tensor, Back]:
    tape.keep(x)
    inner, inner_back = write(layer.inner, tape, x)
    shortcut, shortcut_back = (x, None) if layer.projection is None else write(layer.projection, tape, x)
    y = tape.like(inner)
    tape(torch.add, shortcut, inner, out=y)

    def back(g: Tensor) -> Tensor | None:
        copy = tape.like(g)
        tape(copy.copy_, g)
        dx: Tensor | None = inner_back(copy)
        straight = g if shortcut_back is None else shortcut_back(g)
        if dx is not None:
            tape(dx.add_, straight)
        return dx

    return y, back


@write.register
def _(model: Autoencoder, tape: Tape, x: Tensor) -> tuple[Tensor, Back]:
    tape.compared = model.decoder[-1]
    return write(nn.Sequential(model.corrupt, model.encoder, model.decoder), tape, x)


@write.register
def _(model: VAE, tape: Tape, x: Tensor) -> tuple[Encoded, Back]:
    both, encoder_back = write(nn.Sequential(model.corrupt, model.encoder), tape, x)
    mean, log_variance = both.chunk(2, -1)
    drawn = tape.by_row(*mean.shape)  # as VAE.sample draws it
    half, z = tape.like(log_variance), tape.like(log_variance)
    tape(model.noise.normal, drawn)
    tape(torch.div, log_variance, 2, out=half)
    tape(half.exp_)
    tape(torch.mul, half, drawn, out=half)
    tape(torch.add, mean, half, out=z)
    tape.compared = model.decoder[-1]
    logits, decoder_back = write(model.decoder, tape, z)

    def back(g: Encoded) -> None:
        dz = decoder_back(g.logits)
        d_both = tape.like(both)
        d_mean, d_log_variance = d_both.chunk(2, -1)
        tape(torch.add, g.mean, dz, out=d_mean)
        tape(torch.mul, dz, half, out=d_log_variance)  # half = deviation * noise; d z / d log variance is half of it
        tape(torch.add, g.log_variance, d_log_variance, alpha=0.5, out=d_log_variance)
        encoder_back(d_both)

    return Encoded(logits, mean, log_variance), back
