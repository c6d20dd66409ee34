"""Models composed of the layers: `build` makes K runs of one at once."""

import importlib
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from fmnist.config.schema import Config, kind
from fmnist.nn.layers import Activation, BatchNorm, Dropout, DropPath, Gated, LayerNorm, Linear, Residual
from fmnist.nn.losses import kl
from fmnist.nn.noise import Corrupt, Noise

NORMS: dict[str, Callable[..., nn.Module]] = {"batch": BatchNorm, "layer": LayerNorm}


@dataclass
class Parts:
    """What all layers of a model have in common, and the switches that compose onto its hidden layers.

    dropout, drop_path, noise_deviation, mask: None, or one value per run. runs: run axes. factory: dtype and device.
    """

    activation: str = "relu"
    dropout: Sequence[float] | None = None
    dropout_rescale: bool = True
    norm: str | None = None
    skip: bool = False
    drop_path: Sequence[float] | None = None
    gate: str | None = None
    noise_deviation: Sequence[float] | None = None
    mask: Sequence[float] | None = None
    runs: tuple[int, ...] = ()
    noise: Noise = field(default_factory=lambda: Noise(1))
    factory: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, configs: Sequence[Config], noise: Noise, **factory: Any) -> "Parts":
        """The parts of K runs that agree in all but their per-run knobs. noise: has a generator for each of them."""
        common = configs[0]

        def per_run(name: str) -> list[float] | None:
            values = [getattr(config, name) for config in configs]
            return None if values[0] is None else values

        return cls(
            getattr(common.model, "activation", "relu"), per_run("dropout"), common.dropout_rescale, common.norm,
            bool(common.skip), per_run("drop_path"), common.gate, per_run("noise"), per_run("mask"), (len(configs),),
            noise, factory,
        )  # fmt: skip

    def linear(self, inputs: int, outputs: int) -> Linear:
        """A linear layer: inputs -> outputs."""
        return Linear(inputs, outputs, self.runs, **self.factory)

    def corrupt(self, training_only: bool = False) -> list[nn.Module]:
        """What stands before a denoising autoencoder or, in training, a classifier; nothing where noise and mask are
        off."""
        if self.noise_deviation is None and self.mask is None:
            return []
        return [Corrupt(self.noise_deviation, self.mask, self.noise, training_only)]

    def hidden(self, inputs: int, outputs: int, skip: bool = True, activation: str | None = None) -> list[nn.Module]:
        """One hidden layer: product, normalisation, activation, gate, dropout; with a skip connection around it."""
        norm = [] if self.norm is None else [NORMS[self.norm](outputs, self.runs, **self.factory)]
        act, gate = (nn.Identity() if name in (None, "identity") else Activation(name)
                     for name in (activation or self.activation, self.gate))  # fmt: skip
        layers: list[nn.Module] = [self.linear(inputs, outputs), *norm, act]
        if self.gate is not None:
            layers = [Gated(nn.Sequential(*layers), nn.Sequential(self.linear(inputs, outputs), gate))]
        if self.dropout is not None:
            layers.append(Dropout(self.dropout, self.noise, self.dropout_rescale))
        if not (self.skip and skip):
            return layers
        if self.drop_path is not None:
            layers.append(DropPath(self.drop_path, self.noise))
        return [Residual(nn.Sequential(*layers), None if inputs == outputs else self.linear(inputs, outputs))]


class MLP(nn.Sequential):
    """x (*runs, batch, inputs) -> logits (*runs, batch, outputs) through the hidden layers; softmax regression without
    any."""

    def __init__(self, parts: Parts, inputs: int, outputs: int, hidden: Sequence[int] = ()) -> None:
        widths = [inputs, *hidden]
        layers = [layer for i, o in pairwise(widths) for layer in parts.hidden(i, o)]
        super().__init__(*parts.corrupt(training_only=True), *layers, parts.linear(widths[-1], outputs))


class Deep(nn.Sequential):
    """A stem to `width`, depth - 1 hidden layers of that width, and a linear head. The stem has no skip connection,
    so that all others are identities and skips cost no parameter."""

    def __init__(self, parts: Parts, inputs: int, outputs: int, width: int, depth: int) -> None:
        layers = parts.corrupt(training_only=True) + parts.hidden(inputs, width, skip=False)
        for _ in range(depth - 1):
            layers += parts.hidden(width, width)
        super().__init__(*layers, parts.linear(width, outputs))


class Autoencoder(nn.Module):
    """x (*runs, batch, inputs) -> logits of its reconstruction, the same shape: sigmoid(logits) is the image.

    hidden: the encoder's widths, of which the last is the code's; the decoder has them in reverse.
    """

    def __init__(self, parts: Parts, inputs: int, outputs: int, hidden: Sequence[int], code: str) -> None:
        super().__init__()
        widths = [inputs, *hidden]
        activations = [None] * (len(hidden) - 1) + [code]
        steps = zip(widths, hidden, activations, strict=False)
        self.corrupt = nn.Sequential(*parts.corrupt())
        self.encoder = nn.Sequential(*[m for i, o, a in steps for m in parts.hidden(i, o, activation=a)])
        back = widths[::-1]
        inner = pairwise(back[:-1])
        self.decoder = nn.Sequential(*[m for i, o in inner for m in parts.hidden(i, o)], parts.linear(back[-2], inputs))

    def encode(self, x: Tensor) -> Tensor:
        """The code, (*runs, batch, hidden[-1])."""
        code: Tensor = self.encoder(self.corrupt(x))
        return code

    def decode(self, code: Tensor) -> Tensor:
        """Logits of the images, (*runs, batch, inputs)."""
        logits: Tensor = self.decoder(code)
        return logits

    def forward(self, x: Tensor) -> Tensor:
        return self.decode(self.encode(x))


class Encoded(NamedTuple):
    """A VAE's output: logits of the image decoded from a sample z; mean and log variance of q(z|x)."""

    logits: Tensor
    mean: Tensor
    log_variance: Tensor

    def divergence(self) -> Tensor:
        """KL(q(z|x) || N(0, 1)), (*runs, batch)."""
        return kl(self.mean, self.log_variance)


def reparametrised(mean: Tensor, log_variance: Tensor, normal: Tensor) -> Tensor:
    """A sample of N(mean, exp(log variance)), made of standard normal numbers: gradients reach both (Kingma & Welling
    2014)."""
    return mean + (log_variance / 2).exp() * normal


class VAE(nn.Module):
    """Variational autoencoder (Kingma & Welling 2014): Gaussian q(z|x), Bernoulli p(x|z) with a logit per pixel.

    x (*runs, batch, inputs) -> Encoded. z is sampled, mean + deviation * noise, in training and in evaluation. A model
    with another q or p(z) is a subclass; `width` is the length of its codes, and tuples of tensors stand for q and p.
    """

    def __init__(self, parts: Parts, inputs: int, outputs: int, hidden: Sequence[int], latent: int) -> None:
        super().__init__()
        self.noise, self.width = parts.noise, latent
        self.corrupt = nn.Sequential(*parts.corrupt())
        down, up = [inputs, *hidden], [latent, *reversed(hidden)]
        encode = [m for i, o in pairwise(down) for m in parts.hidden(i, o)]
        self.encoder = nn.Sequential(*encode, parts.linear(down[-1], 2 * latent))
        decode = [m for i, o in pairwise(up) for m in parts.hidden(i, o)]
        self.decoder = nn.Sequential(*decode, parts.linear(up[-1], inputs))

    def posterior(self, x: Tensor) -> tuple[Tensor, ...]:
        """q(z|x), tensors (*runs, batch, n): mean and log variance."""
        mean, log_variance = self.encoder(self.corrupt(x)).chunk(2, -1)
        return mean, log_variance

    def prior(self) -> tuple[Tensor, ...]:
        """p(z), tensors (*runs, ...): none for N(0, 1)."""
        return ()

    def draw(self, q: tuple[Tensor, ...], p: tuple[Tensor, ...], normal: Tensor) -> tuple[Tensor, Tensor]:
        """z ~ q(z|x), made of standard normal numbers of its shape (*runs, batch, width); log q(z|x) - log p(z)."""
        z = reparametrised(q[0], q[1], normal)
        return z, (z.square() - normal.square() - q[1]).sum(-1) / 2

    def from_prior(self, normal: Tensor, generator: torch.Generator) -> Tensor:
        """z ~ p(z), made of standard normal numbers (n, width) and the generator's: (n, width) or (*runs, n, width)."""
        return normal

    def encode(self, x: Tensor) -> Tensor:
        """The mean of q(z|x)."""
        return self.posterior(x)[0]

    def decode(self, code: Tensor) -> Tensor:
        """Logits of the images, (*runs, batch, inputs)."""
        logits: Tensor = self.decoder(code)
        return logits

    def normal(self, q: tuple[Tensor, ...]) -> Tensor:
        """Standard normal numbers for `draw`."""
        drawn = q[0].new_empty(*q[0].shape[:-1], self.width)
        self.noise.normal(drawn.view(len(self.noise.generators), *drawn.shape[-2:]))
        return drawn

    def forward(self, x: Tensor) -> Any:
        mean, log_variance = q = self.posterior(x)
        return Encoded(self.decode(reparametrised(mean, log_variance, self.normal(q))), mean, log_variance)


def imported(reference: str) -> Any:
    """What "module:name" refers to."""
    module, _, name = reference.partition(":")
    return getattr(importlib.import_module(module), name)


def build(model: Any, parts: Parts, inputs: int, outputs: int) -> nn.Module:
    """Make the model of a config, all weights zero. Its class gets those knobs that its parameters name."""
    made = imported(kind(model.name).build)
    asked = inspect.signature(made).parameters
    own = {knob: value for knob, value in vars(model).items() if knob in asked}
    built: nn.Module = made(parts, inputs, outputs, **own)
    paths = [layer for layer in built.modules() if isinstance(layer, DropPath)]
    for number, path in enumerate(paths, start=1):
        path.share = number / len(paths)
    return built
