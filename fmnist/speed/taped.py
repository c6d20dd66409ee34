"""How each layer and model is recorded on a tape: the formula of its forward pass and, written out, its backward.

The layers' own formulas under autograd are the truth; tests compare the two. Whatever is not registered
here is recorded by way of autograd, which is right for anything that has a forward, and slower.
"""

from collections.abc import Callable
from functools import singledispatch
from typing import Any

import torch
from torch import Tensor, nn

from fmnist.nn.layers import ACTIVATIONS, Activation, BatchNorm, Dropout, Linear, Residual
from fmnist.nn.losses import Criterion
from fmnist.nn.models import VAE, Autoencoder, Encoded
from fmnist.nn.noise import Corrupt
from fmnist.speed.tape import Tape

# Records the backward pass: gradient of the output -> gradient of the input, or None where that is the data. It may
# overwrite what it is given.
Back = Callable[[Any], Any]
aten = torch.ops.aten


@singledispatch
def record(module: nn.Module, do: Tape, x: Tensor) -> tuple[Any, Back]:
    """Record a module's forward pass on x; its output and what records its backward pass."""
    inner, add = x is not do.data, do.add
    parameters = list(module.parameters())
    with torch.no_grad():
        y = do.new(*module(x).shape)
    dx = do.like(x) if inner else None
    held: dict[str, Tensor] = {}

    def forward() -> None:
        with torch.enable_grad():
            held["x"] = x.detach().requires_grad_(inner)
            held["y"] = module(held["x"])
        y.copy_(held["y"])

    def backward(g: Tensor) -> None:
        gradients = torch.autograd.grad(held["y"], [*parameters, held["x"]] if inner else parameters, g)
        for p, gradient in zip(parameters, gradients, strict=False):
            assert p.grad is not None
            p.grad.add_(gradient) if add else p.grad.copy_(gradient)
        if dx is not None:
            dx.copy_(gradients[-1])

    def back(g: Tensor) -> Tensor | None:
        if parameters or inner:
            do(backward, g)
        return dx

    do.keep(x)
    do(forward)
    return y, back


def in_chunks(model: nn.Module, criterion: Criterion) -> bool:
    """Whether a batch may be recorded in chunks: rows see one another only in layers that record a barrier."""
    unknown = record.dispatch(nn.Module)
    coupling = [layer for layer in model.modules() if getattr(layer, "couples_rows", False)]
    return not criterion.couples_rows and all(record.dispatch(type(layer)) is not unknown for layer in coupling)


def multiplies_only(model: nn.Module) -> bool:
    """Whether all that a model does with its input is to multiply matrices with it."""
    if isinstance(model, nn.Sequential):
        return multiplies_only(model[0])
    if isinstance(model, Residual):
        return model.projection is not None and multiplies_only(model.inner)
    return isinstance(model, Linear)


@record.register
def _(layer: Linear, do: Tape, x: Tensor) -> tuple[Tensor, Back]:
    weight, bias = layer.weight.detach(), layer.bias.detach()
    d_weight, d_bias = layer.weight.grad, layer.bias.grad
    assert d_weight is not None
    assert d_bias is not None
    shape = (*weight.shape[:-2], x.shape[-2], weight.shape[-2])
    y = do.by_row(*shape) if layer is do.compared else do.new(*shape)
    do.product(weight, x.mT, y.mT, fixed=True)
    do(y.add_, bias[..., None, :])

    def back(g: Tensor) -> Tensor | None:
        do.product(g.mT, x, d_weight, add=do.add)
        do.sum(g, -2, d_bias)
        if x is do.data:
            return None
        dx = do.like(x)
        do.product(weight.mT, g.mT, dx.mT, fixed=True)
        return dx

    return y, back


@record.register
def _(layer: Activation, do: Tape, x: Tensor) -> tuple[Tensor, Back]:
    if layer.name == "identity":
        return x, lambda g: g
    y = do.like(x) if layer.name == "gelu" else do.own(x)  # gelu's gradient needs its input, the others' their output
    if layer.name == "relu":
        do(torch.clamp_min, x, 0, out=y)
    elif layer.name == "gelu":
        do(aten.gelu.out, x, out=y)
    else:
        do(ACTIVATIONS[layer.name], x, out=y)

    def back(g: Tensor) -> Tensor:
        if layer.name == "relu":
            do(aten.threshold_backward.grad_input, g, y, 0, grad_input=g)
        elif layer.name == "gelu":
            do(aten.gelu_backward.grad_input, g, x, grad_input=g)
        elif layer.name == "sigmoid":
            do(aten.sigmoid_backward.grad_input, g, y, grad_input=g)
        else:
            do(aten.tanh_backward.grad_input, g, y, grad_input=g)
        return g

    return y, back


@record.register
def _(layer: Dropout, do: Tape, x: Tensor) -> tuple[Tensor, Back]:
    if not any(layer.p):
        return x, lambda g: g
    mask = do.new(len(layer.p), *x.shape[-2:])
    y = do.like(mask)
    do(layer.noise.keep_mask, mask.mT, [1 - p for p in layer.p], layer.rescale)
    do(torch.mul, x, mask, out=y)

    def back(g: Tensor) -> Tensor | None:
        do(g.mul_, mask)
        return g if x is not do.data else None

    return y, back


@record.register
def _(layer: Corrupt, do: Tape, x: Tensor) -> tuple[Tensor, Back]:
    y = do.by_row(len(layer.noise.generators), *x.shape[-2:])
    do(lambda: y.copy_(layer(x)))
    do.data, do.pixels = y, None  # whatever comes next sees this as the data
    do.keep(y)
    return y, lambda g: None


@record.register
def _(layer: BatchNorm, do: Tape, x: Tensor) -> tuple[Tensor, Back]:
    if do.rows < 2:
        raise ValueError("batch normalisation needs at least 2 examples a batch in training, got 1")
    gamma, beta = (p.detach()[..., None, :] for p in (layer.weight, layer.bias))
    d_gamma, d_beta = layer.weight.grad, layer.bias.grad
    assert d_gamma is not None
    assert d_beta is not None
    means, variances = (do.common(len(do.sizes), *gamma.shape) for _ in range(2))  # by chunk
    inverse, scale, slope = (do.common(*gamma.shape) for _ in range(3))
    centred = do.own(x) if x.dim() == gamma.dim() else do.new(*gamma.shape[:-2], *x.shape[-2:])
    do(torch.mean, x, -2, keepdim=True, out=means[do.chunk])
    do(torch.sub, x, means[do.chunk], out=centred)
    with do.scratch():
        squares = do.like(centred)
        do(torch.mul, centred, centred, out=squares)
        do(torch.mean, squares, -2, keepdim=True, out=variances[do.chunk])
    do.barrier()
    if do.chunk == 0:
        mean, variance = _moments(do, means, variances)
        do(layer.running_mean.lerp_, mean.squeeze(-2), layer.momentum)
        do(torch.add, variance, layer.eps, out=inverse)
        do(inverse.rsqrt_)
        do(torch.mul, gamma, inverse, out=scale)
        do(variance.mul_, do.rows / (do.rows - 1))
        do(layer.running_var.lerp_, variance.squeeze(-2), layer.momentum)
        do(layer.num_batches_tracked.add_, 1)
    if len(do.sizes) > 1:
        do(centred.add_, means[do.chunk])
    y = do.like(centred)
    do(torch.mul, centred, scale, out=y)
    do(y.add_, beta)

    def back(g: Tensor) -> Tensor:
        # dx = gamma / deviation (g - mean(g) - normal mean(g normal)), normal = centred / deviation (Ioffe & Szegedy)
        with do.scratch():
            product = do.like(g)
            do(torch.mul, g, centred, out=product)
            do.sum(product, -2, d_gamma)
        do.sum(g, -2, d_beta)
        do.barrier()
        if do.chunk == 0:
            do(d_gamma.mul_, inverse.squeeze(-2))
            do(torch.mul, d_gamma[..., None, :], inverse, out=slope)
        do(g.addcmul_, centred, slope, value=-1 / do.rows)
        do(g.sub_, d_beta[..., None, :], alpha=1 / do.rows)
        do(g.mul_, scale)
        return g

    return y, back


def _moments(do: Tape, means: Tensor, variances: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance of all rows from those of the chunks, (chunks, ...), by Chan, Golub & LeVeque 1979. What
    remains in `means` is how far each is from the mean."""
    if len(do.sizes) == 1:
        return means[0], variances[0]
    shares = torch.tensor(do.sizes, dtype=do.dtype, device=means.device).view(-1, *[1] * (means.dim() - 1)) / do.rows
    mean, variance, work = torch.empty_like(means[0]), torch.empty_like(means[0]), torch.empty_like(means)
    do(torch.mul, means, shares, out=work)
    do(torch.sum, work, 0, out=mean)
    do(means.sub_, mean)
    do(torch.mul, means, means, out=work)
    do(work.add_, variances)
    do(work.mul_, shares)
    do(torch.sum, work, 0, out=variance)
    return mean, variance


@record.register
def _(layer: nn.Sequential, do: Tape, x: Tensor) -> tuple[Tensor, Back]:
    backs = []
    for module in layer:
        x, back = record(module, do, x)
        backs.append(back)

    def all_back(g: Tensor) -> Tensor | None:
        gradient: Tensor | None = g
        for back in reversed(backs):
            if gradient is not None:
                gradient = back(gradient)
        return gradient

    return x, all_back


@record.register
def _(layer: Residual, do: Tape, x: Tensor) -> tuple[Tensor, Back]:
    do.keep(x)
    inner, inner_back = record(layer.inner, do, x)
    shortcut, shortcut_back = (x, None) if layer.projection is None else record(layer.projection, do, x)
    y = do.like(inner)
    do(torch.add, shortcut, inner, out=y)

    def back(g: Tensor) -> Tensor | None:
        copy = do.like(g)
        do(copy.copy_, g)
        dx: Tensor | None = inner_back(copy)
        straight = g if shortcut_back is None else shortcut_back(g)
        if dx is not None:
            do(dx.add_, straight)
        return dx

    return y, back


@record.register
def _(model: Autoencoder, do: Tape, x: Tensor) -> tuple[Tensor, Back]:
    do.compared = model.decoder[-1]
    return record(nn.Sequential(model.corrupt, model.encoder, model.decoder), do, x)


@record.register
def _(model: VAE, do: Tape, x: Tensor) -> tuple[Encoded, Back]:
    both, encoder_back = record(nn.Sequential(model.corrupt, model.encoder), do, x)
    mean, log_variance = both.chunk(2, -1)
    drawn = do.by_row(*mean.shape)  # as VAE.sample draws it
    half, z = do.like(log_variance), do.like(log_variance)
    do(model.noise.normal, drawn)
    do(torch.div, log_variance, 2, out=half)
    do(half.exp_)
    do(torch.mul, half, drawn, out=half)
    do(torch.add, mean, half, out=z)
    do.compared = model.decoder[-1]
    logits, decoder_back = record(model.decoder, do, z)

    def back(g: Encoded) -> None:
        dz = decoder_back(g.logits)
        d_both = do.like(both)
        d_mean, d_log_variance = d_both.chunk(2, -1)
        do(torch.add, g.mean, dz, out=d_mean)
        do(torch.mul, dz, half, out=d_log_variance)  # half = deviation * noise; d z / d log variance is half of it
        do(torch.add, g.log_variance, d_log_variance, alpha=0.5, out=d_log_variance)
        encoder_back(d_both)

    return Encoded(logits, mean, log_variance), back
