"""The network of one run, without the run axis and in evaluation mode, of torch.nn's own layers where it has them."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import singledispatch
from typing import TypeGuard

import torch
from torch import Tensor, nn

from fmnist.config.schema import Config, kind
from fmnist.nn.layers import Activation, BatchNorm, Dropout, DropPath, LayerNorm, Linear
from fmnist.nn.models import VAE, Autoencoder, Parts, build
from fmnist.nn.noise import Corrupt, Noise

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU, "leaky_relu": nn.LeakyReLU, "gelu": nn.GELU, "silu": nn.SiLU, "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
}  # fmt: skip


def network(config: Config, weights: Mapping[str, Tensor], inputs: int, classes: int) -> nn.Module:
    """The network of a run, with these weights: images (n, inputs) in [0, 1] -> what its model gives, without a run
    axis. The names of its weights are those of the run. What torch.nn lacks, as ideas may, stays a layer of ours.
    Raises RuntimeError for the weights of another network."""
    dtype = torch.float64 if config.precision == "float64" else torch.float32
    model = build(config.model, replace(Parts.of([config], Noise(1), dtype=dtype), runs=()), inputs, classes)
    model.load_state_dict({name: value.detach().cpu() for name, value in weights.items()}, assign=True)
    return plain(model).eval()


@singledispatch
def plain(layer: nn.Module) -> nn.Module:
    """A layer of one run as torch.nn has it, with the same weights by the same names. One that torch.nn lacks stays,
    and those inside it are replaced."""
    for name, inner in layer.named_children():
        setattr(layer, name, plain(inner))
    return layer


def _holding(made: nn.Module, layer: nn.Module) -> nn.Module:
    made.load_state_dict(layer.state_dict(), assign=True)
    return made


@plain.register
def _(layer: Linear) -> nn.Module:
    outputs, inputs = layer.weight.shape
    return _holding(nn.Linear(inputs, outputs, device="meta"), layer)


@plain.register
def _(layer: BatchNorm) -> nn.Module:
    return _holding(nn.BatchNorm1d(len(layer.weight), layer.eps, layer.momentum, device="meta"), layer)


@plain.register
def _(layer: LayerNorm) -> nn.Module:
    return _holding(nn.LayerNorm(len(layer.weight), layer.eps, device="meta"), layer)


@plain.register
def _(layer: Activation) -> nn.Module:
    return ACTIVATIONS[layer.name]() if layer.name in ACTIVATIONS else layer


@plain.register(Corrupt)
@plain.register(DropPath)
def _(layer: nn.Module) -> nn.Module:
    return nn.Identity()  # torch.nn has none, and they are for training


@plain.register
def _(layer: Dropout) -> nn.Module:
    return nn.Dropout(layer.p[0]) if layer.rescale else nn.Identity()  # torch.nn has none that does not rescale


def answers(config: Config, model: nn.Module) -> Callable[[Tensor], dict[str, Tensor]]:
    """What a model gives for images (n, pixels), as a function of them: by name, each (*runs, n, ...). It is the same
    whenever it is asked: no noise is added to the images from now on, and a VAE decodes the mean and no sample.

    A classifier: "logits" and "probabilities". An autoencoder: "code" and "reconstruction", a VAE: "mean",
    "log_variance" and "reconstruction"; images (n, pixels) in [0, 1]. A VAE of several levels is as an autoencoder.
    """
    if hasattr(model, "corrupt"):
        model.corrupt = nn.Sequential()

    def classified(images: Tensor) -> dict[str, Tensor]:
        logits = model(images)
        return {"logits": logits, "probabilities": logits.softmax(-1)}

    def varied(images: Tensor) -> dict[str, Tensor]:
        assert isinstance(model, VAE)
        mean, log_variance = model.posterior(images)
        return {"mean": mean, "log_variance": log_variance, "reconstruction": model.decode(mean).sigmoid()}

    def coded(images: Tensor) -> dict[str, Tensor]:
        assert isinstance(model, Autoencoder | VAE)
        code = model.encode(images)
        return {"code": code, "reconstruction": model.decode(code).sigmoid()}

    def reconstructed(images: Tensor) -> dict[str, Tensor]:
        return {"reconstruction": model(images).sigmoid()}

    if kind(config.model.name).classifies:
        return classified
    return varied if one_gaussian(model) else coded if isinstance(model, Autoencoder | VAE) else reconstructed


def one_gaussian(model: nn.Module) -> TypeGuard[VAE]:
    """Whether a model is a VAE whose encoder gives mean and log variance of a single Gaussian."""
    return isinstance(model, VAE) and type(model).posterior is VAE.posterior


@torch.no_grad()
def all_answers(ask: Callable[[Tensor], Mapping[str, Tensor]], images: Tensor, rows: int) -> dict[str, Tensor]:
    """The answers to all images, so many at a time, on the CPU: by name, each (*runs, n, ...)."""
    parts = [ask(chunk) for chunk in torch.split(images, rows)]
    return {name: torch.cat([part[name].cpu() for part in parts], -2) for name in parts[0]}
