"""Layers over hand-made `nn.Parameter` matrices; with leading run axes, one layer is that layer of K runs at once.

Shapes: x (*runs, batch, features); weight (*runs, out, in); bias (*runs, out). runs = () is the textbook layer. An x
without the run axes is shared by all runs.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from fmnist.config.schema import INITS
from fmnist.nn.noise import Noise


def product_with_images(weight: Tensor, images: Tensor) -> Tensor:
    """weight @ images.mT / 255: weight (*runs, out, in), uint8 images (*runs, batch, in) -> (*runs, out, batch)."""
    return weight @ (images.to(weight.dtype) / 255).mT


class Linear(nn.Module):
    """y = W x + b for each example: x (*runs, batch, in) -> (*runs, batch, out). Starts at zero: see `initialise`.
    x may be 8-bit images: a grey level of 255 is 1. `of_images` computes their product; a faster one may be put in its
    place.

    The product is written W @ x.T, so that activations lie feature-major in memory and K runs that share x are one
    product: (K out, in) @ (in, batch).
    """

    def __init__(self, inputs: int, outputs: int, runs: Sequence[int] = (), **factory: Any) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(*runs, outputs, inputs, **factory))
        self.bias = nn.Parameter(torch.zeros(*runs, outputs, **factory))
        self.of_images: Callable[[Tensor, Tensor], Tensor] = product_with_images

    def forward(self, x: Tensor) -> Tensor:
        product = self.of_images(self.weight, x) if x.dtype == torch.uint8 else self.weight @ x.mT
        return (product + self.bias[..., None]).mT

    def extra_repr(self) -> str:
        return f"{self.weight.shape[-1]} -> {self.weight.shape[-2]}, runs {tuple(self.weight.shape[:-2])}"


@dataclass(frozen=True)
class Elementwise:
    """An activation: a function of each number by itself. `f` alone is enough: autograd differentiates it.

    What follows makes it fast. forward: an operation that writes f(x) into a buffer, and its further arguments, called
    as op(x, *arguments, out=y). backward: one that turns the gradient by the output into that by the input, called as
    op(g, kept, *arguments, grad_input=g), where `kept` is the "input" or the "output", as `of` says.
    """

    f: Callable[[Tensor], Tensor]
    forward: tuple[Any, ...] = ()
    backward: tuple[Any, ...] = ()
    of: str = "output"

    def __post_init__(self) -> None:
        if self.of not in ("input", "output"):
            raise ValueError(f"of must be input or output, got {self.of!r}")


aten = torch.ops.aten
SLOPE = 0.01  # of leaky_relu where x < 0, as in torch.nn.LeakyReLU
ACTIVATIONS: dict[str, Elementwise] = {
    "relu": Elementwise(torch.relu, (torch.clamp_min, 0), (aten.threshold_backward.grad_input, 0)),
    "leaky_relu": Elementwise(
        functional.leaky_relu, (aten.leaky_relu.out, SLOPE), (aten.leaky_relu_backward.grad_input, SLOPE, True)
    ),
    "gelu": Elementwise(functional.gelu, (aten.gelu.out,), (aten.gelu_backward.grad_input,), of="input"),
    "silu": Elementwise(functional.silu, (aten.silu.out,), (aten.silu_backward.grad_input,), of="input"),
    "sigmoid": Elementwise(torch.sigmoid, (torch.sigmoid,), (aten.sigmoid_backward.grad_input,)),
    "tanh": Elementwise(torch.tanh, (torch.tanh,), (aten.tanh_backward.grad_input,)),
}


class Activation(nn.Module):
    """An elementwise function by its name in ACTIVATIONS; gelu is the exact one. Keeps the shape."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name, self.function = name, ACTIVATIONS[name]

    def forward(self, x: Tensor) -> Tensor:
        return self.function.f(x)

    def extra_repr(self) -> str:
        return self.name


class Dropout(nn.Module):
    """Inverted dropout (Srivastava et al. 2014): in training each unit is zeroed with probability p, kept ones divided
    by 1 - p; in evaluation, and for p = 0, the identity, which draws no random number.

    p holds one probability per run, in the order of noise's generators; x is (*runs, batch, features). Without rescale
    kept units stay as they are: then evaluation sees larger activations than training did. What is in p may change.
    """

    share, whole = 1.0, False  # of p; whether an example is dropped as a whole

    def __init__(self, p: Sequence[float], noise: Noise, rescale: bool = True) -> None:
        super().__init__()
        if not all(0 <= value < 1 for value in p):
            raise ValueError(f"dropout must be in [0, 1), got {list(p)}")
        self.p, self.on = p, any(p)
        self.noise = noise
        self.rescale = rescale

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or not self.on:
            return x
        features, batch = 1 if self.whole else x.shape[-1], x.shape[-2]
        mask = torch.empty(len(self.p), features, batch, dtype=x.dtype, device=x.device)  # feature-major, like x
        self.keep_mask(mask)
        own = len(self.p) * batch == x[..., 0].numel()  # else runs share x
        return x * (mask.mT.view(*x.shape[:-1], features) if own else mask.mT)

    def keep_mask(self, mask: Tensor) -> None:
        """Fill a mask (K, features, batch), by the probabilities as they are now."""
        self.noise.keep_mask(mask, [1 - self.share * p for p in self.p], self.rescale)

    def extra_repr(self) -> str:
        return f"p={list(self.p)}" + ("" if self.rescale else ", not rescaled")


class DropPath(Dropout):
    """Stochastic depth (Huang et al. 2016): dropout of F(x) as a whole for each example; block l of L has share l/L."""

    whole = True


class BatchNorm(nn.Module):
    """y = gamma (x - mean) / sqrt(variance + eps) + beta over the batch (Ioffe & Szegedy 2015); gamma is `weight`, beta
    `bias`. Evaluation uses running statistics: mean, and the unbiased variance, as torch.nn.BatchNorm1d keeps them.

    x (*runs, batch, features) -> the same shape. Raises ValueError for a batch of one in training.
    """

    couples_rows = True  # in training an example's output depends on the others of its batch

    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor

    def __init__(
        self, features: int, runs: Sequence[int] = (), eps: float = 1e-5, momentum: float = 0.1, **factory: Any
    ) -> None:
        super().__init__()
        self.eps, self.momentum = eps, momentum
        self.weight = nn.Parameter(torch.ones(*runs, features, **factory))
        self.bias = nn.Parameter(torch.zeros(*runs, features, **factory))
        self.register_buffer("running_mean", torch.zeros(*runs, features, **factory))
        self.register_buffer("running_var", torch.ones(*runs, features, **factory))
        counter = factory | {"dtype": torch.int64}
        self.register_buffer("num_batches_tracked", torch.zeros(tuple(runs), **counter))

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            mean, variance = self.running_mean[..., None, :], self.running_var[..., None, :]
            return self._scale(x - mean, variance)
        batch = x.shape[-2]
        if batch < 2:
            raise ValueError("batch normalisation needs at least 2 examples a batch in training, got 1")
        mean = x.mean(-2, keepdim=True)
        centred = x - mean
        variance = centred.square().mean(-2, keepdim=True)
        with torch.no_grad():
            self.running_mean.lerp_(mean.squeeze(-2), self.momentum)
            self.running_var.lerp_(variance.squeeze(-2) * (batch / (batch - 1)), self.momentum)
            self.num_batches_tracked += 1
        return self._scale(centred, variance)

    def _scale(self, centred: Tensor, variance: Tensor) -> Tensor:
        scale = self.weight[..., None, :] * (variance + self.eps).rsqrt()
        return centred * scale + self.bias[..., None, :]

    def extra_repr(self) -> str:
        return f"{self.weight.shape[-1]}, runs {tuple(self.weight.shape[:-1])}"


class LayerNorm(nn.Module):
    """y = gamma (x - mean) / sqrt(variance + eps) + beta over the features of each example (Ba, Kiros & Hinton 2016),
    in training and in evaluation; gamma is `weight`, beta `bias`; as torch.nn.LayerNorm. Keeps the shape of x (*runs,
    batch, features)."""

    def __init__(self, features: int, runs: Sequence[int] = (), eps: float = 1e-5, **factory: Any) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(*runs, features, **factory))
        self.bias = nn.Parameter(torch.zeros(*runs, features, **factory))

    def forward(self, x: Tensor) -> Tensor:
        centred = x - x.mean(-1, keepdim=True)
        normal = centred * (centred.square().mean(-1, keepdim=True) + self.eps).rsqrt()
        return normal * self.weight[..., None, :] + self.bias[..., None, :]

    def extra_repr(self) -> str:
        return f"{self.weight.shape[-1]}, runs {tuple(self.weight.shape[:-1])}"


class Residual(nn.Module):
    """y = S x + F(x) (He et al. 2015): S is the identity, or a projection where F changes the width."""

    def __init__(self, inner: nn.Module, projection: nn.Module | None = None) -> None:
        super().__init__()
        self.inner = inner
        self.projection = projection

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.projection is None else self.projection(x)
        y: Tensor = shortcut + self.inner(x)
        return y


class Gated(nn.Module):
    """y = F(x) * G(x), elementwise (Dauphin et al. 2017): F and G, the gate, give the same shape."""

    def __init__(self, inner: nn.Module, gate: nn.Module) -> None:
        super().__init__()
        self.inner, self.gate = inner, gate

    def forward(self, x: Tensor) -> Tensor:
        return torch.mul(self.inner(x), self.gate(x))


# The report's weights by depth, (mean, standard deviation); deeper layers go on with the last.
REPORT_WEIGHTS = ((0.0, 0.05), (0.1, 0.08), (0.2, 0.03))


def initialise(
    model: nn.Module, run: int, kind: str, scale: float, generator: torch.Generator, skip_scale: str = "none"
) -> None:
    """Draw the weights of one run of a model with run axes (K,), in the order of its Linear layers.

    kind: "he" N(0, 2/in) (He et al. 2015), "glorot" N(0, 2/(in + out)) (Glorot & Bengio 2010), both with zero biases;
    "report" the report's own, biases from N(0, 1), "report_weights" and "report_biases" one of the two and the other as
    in he. scale multiplies the weights. skip_scale="depth" divides the weights inside residual blocks by the square
    root of the number of blocks: then what they carry does not double with each of them (Hayou et al. 2021).
    The numbers are drawn on the CPU in float64, so that they are the same for every device and precision.
    """
    if kind not in INITS:
        raise ValueError(f"init must be one of {', '.join(INITS)}, got {kind!r}")
    blocks = [layer for layer in model.modules() if isinstance(layer, Residual)]
    inside = {layer for block in blocks for layer in block.inner.modules()} if skip_scale == "depth" else set()
    linears = [layer for layer in model.modules() if isinstance(layer, Linear)]
    for depth, layer in enumerate(linears):
        out, inputs = layer.weight.shape[-2:]
        drawn = torch.randn(out, inputs, generator=generator, dtype=torch.float64)
        if kind in ("report", "report_weights"):
            mean, deviation = REPORT_WEIGHTS[min(depth, len(REPORT_WEIGHTS) - 1)]
        else:
            mean, deviation = 0.0, math.sqrt(2 / (inputs + out if kind == "glorot" else inputs))
        bias = torch.zeros(out)
        if kind in ("report", "report_biases"):
            bias = torch.randn(out, generator=generator, dtype=torch.float64)
        own = scale / math.sqrt(len(blocks)) if layer in inside else scale
        with torch.no_grad():
            layer.weight[run].copy_((mean + deviation * drawn) * own)
            layer.bias[run].copy_(bias)
