"""How each layer, model and loss is recorded on a tape: the formula of its forward pass and, written out, its backward.

The layers' and losses' own formulas under autograd are the truth; tests compare the two. Whatever is not registered
here is recorded by way of autograd, which is right for anything that has a forward, and slower.
"""

from collections.abc import Callable
from functools import singledispatch
from typing import Any

import torch
from torch import Tensor, nn

from fmnist.layers import ACTIVATIONS, Activation, BatchNorm, Corrupt, Dropout, Linear, Residual
from fmnist.losses import Classification, Criterion, NegativeELBO, Reconstruction
from fmnist.models import VAE, Autoencoder, Encoded
from fmnist.tape import Tape

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


@record.register
def _(layer: Linear, do: Tape, x: Tensor) -> tuple[Tensor, Back]:
    weight, bias = layer.weight.detach(), layer.bias.detach()
    d_weight, d_bias = layer.weight.grad, layer.bias.grad
    assert d_weight is not None
    assert d_bias is not None
    y = do.new(*weight.shape[:-2], x.shape[-2], weight.shape[-2])
    do.product(weight, x.mT, y.mT)
    do(y.add_, bias[..., None, :])

    def back(g: Tensor) -> Tensor | None:
        do.product(g.mT, x, d_weight, add=do.add)
        do.sum(g, -2, d_bias)
        if x is do.data:
            return None
        dx = do.like(x)
        do.product(weight.mT, g.mT, dx.mT)
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
    y = do.new(len(layer.noise.generators), *x.mT.shape[-2:]).mT  # row after row, like the data
    do(lambda: y.copy_(layer(x)))
    do.data = y  # whatever comes next sees this as the data
    do.keep(y)
    return y, lambda g: None


@record.register
def _(layer: BatchNorm, do: Tape, x: Tensor) -> tuple[Tensor, Back]:
    batch = x.shape[-2]
    if batch < 2:
        raise ValueError("batch normalisation needs at least 2 examples a batch in training, got 1")
    gamma, beta = (p.detach()[..., None, :] for p in (layer.weight, layer.bias))
    d_gamma, d_beta = layer.weight.grad, layer.bias.grad
    assert d_gamma is not None
    assert d_beta is not None
    mean, variance, inverse, scale = (do.new(*gamma.shape) for _ in range(4))
    do(torch.mean, x, -2, keepdim=True, out=mean)
    normal = do.own(x) if x.dim() == gamma.dim() else do.new(*gamma.shape[:-2], *x.shape[-2:])
    squares = do.like(normal)
    do(torch.sub, x, mean, out=normal)
    do(torch.mul, normal, normal, out=squares)
    do(torch.mean, squares, -2, keepdim=True, out=variance)
    do(torch.add, variance, layer.eps, out=inverse)
    do(inverse.rsqrt_)
    do(normal.mul_, inverse)
    y = squares  # its values are not needed any more
    do(torch.addcmul, beta, normal, gamma, out=y)
    do(layer.running_mean.lerp_, mean.squeeze(-2), layer.momentum)
    do(variance.mul_, batch / (batch - 1))
    do(layer.running_var.lerp_, variance.squeeze(-2), layer.momentum)
    do(layer.num_batches_tracked.add_, 1)

    def back(g: Tensor) -> Tensor:
        # dx = gamma / (batch deviation) (batch g - sum g - normal sum(g normal)), Ioffe & Szegedy 2015
        product = do.like(g)
        do(torch.mul, g, normal, out=product)
        do.sum(product, -2, d_gamma)
        do.sum(g, -2, d_beta)
        do(torch.mul, normal, d_gamma[..., None, :], out=product)
        do(product.add_, d_beta[..., None, :])
        do(g.sub_, product, alpha=1 / batch)
        do(torch.mul, gamma, inverse, out=scale)
        do(g.mul_, scale)
        return g

    return y, back


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
    return record(nn.Sequential(model.corrupt, model.encoder, model.decoder), do, x)


@record.register
def _(model: VAE, do: Tape, x: Tensor) -> tuple[Encoded, Back]:
    both, encoder_back = record(nn.Sequential(model.corrupt, model.encoder), do, x)
    mean, log_variance = both.chunk(2, -1)
    drawn = do.new(*mean.mT.shape).mT  # row after row, as VAE.sample draws it
    half, z = do.like(log_variance), do.like(log_variance)
    do(model.noise.normal, drawn)
    do(torch.div, log_variance, 2, out=half)
    do(half.exp_)
    do(torch.mul, half, drawn, out=half)
    do(torch.add, mean, half, out=z)
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
    image, error, work = do.like(output), do.like(output), do.like(output)
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
    """The sums whose sum is that of losses.bernoulli: log(1 + exp(-|z|)), and max(z, 0) - x z."""
    do(torch.abs, logits, out=work)
    do(work.neg_)
    do(work.exp_)
    do(work.add_, 1)
    do(work.log_)
    first = do.summed(work)
    do(torch.clamp_min, logits, 0, out=work)
    do(work.addcmul_, logits, x, value=-1)
    return [first, do.summed(work)]


@record_loss.register
def _(criterion: NegativeELBO, do: Tape, output: Encoded, x: Tensor, labels: Tensor, batch: int) -> Encoded:
    logits, mean, log_variance = output
    g, work = do.like(logits), do.like(logits)
    nll = _bernoulli(do, logits, x, work)
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
    for tag in ("loss", "nll", "negative_elbo"):
        for part in nll:
            do.figure(tag, part)
    do(torch.mul, mean, beta, out=d_mean)
    do(d_mean.mul_, 1 / batch)
    do(d_log_variance.mul_, beta)
    do(d_log_variance.mul_, 0.5 / batch)
    return Encoded(g, d_mean, d_log_variance)
