"""Models composed of the layers: `build` makes K runs of one at once."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from fmnist.layers import Activation, BatchNorm, Dropout, Linear, Noise, Residual


@dataclass
class Parts:
    """What all layers of a model have in common, and the switches that compose onto its hidden layers.

    dropout: None, or one probability per run. runs: the run axes. factory: dtype and device.
    """

    activation: str = "relu"
    dropout: Sequence[float] | None = None
    batch_norm: bool = False
    skip: bool = False
    runs: tuple[int, ...] = ()
    noise: Noise = field(default_factory=lambda: Noise(1))
    factory: dict[str, Any] = field(default_factory=dict)

    def linear(self, inputs: int, outputs: int) -> Linear:
        return Linear(inputs, outputs, self.runs, **self.factory)

    def hidden(self, inputs: int, outputs: int, skip: bool = True) -> list[nn.Module]:
        """One hidden layer: product, batch norm, activation, dropout; with a skip connection around it."""
        layers: list[nn.Module] = [self.linear(inputs, outputs)]
        if self.batch_norm:
            layers.append(BatchNorm(outputs, self.runs, **self.factory))
        layers.append(Activation(self.activation))
        if self.dropout is not None:
            layers.append(Dropout(self.dropout, self.noise))
        if not (self.skip and skip):
            return layers
        return [Residual(nn.Sequential(*layers), None if inputs == outputs else self.linear(inputs, outputs))]


class MLP(nn.Sequential):
    """x (*runs, batch, inputs) -> logits (*runs, batch, outputs) through the hidden layers."""

    def __init__(self, parts: Parts, inputs: int, outputs: int, hidden: Sequence[int]) -> None:
        widths = [inputs, *hidden]
        layers = [layer for i, o in zip(widths, hidden, strict=False) for layer in parts.hidden(i, o)]
        super().__init__(*layers, parts.linear(widths[-1], outputs))


class Deep(nn.Sequential):
    """A stem to `width`, depth - 1 hidden layers of that width, and a linear head. The stem has no skip connection,
    so that all others are identities and skips cost no parameter."""

    def __init__(self, parts: Parts, inputs: int, outputs: int, width: int, depth: int) -> None:
        layers = parts.hidden(inputs, width, skip=False)
        for _ in range(depth - 1):
            layers += parts.hidden(width, width)
        super().__init__(*layers, parts.linear(width, outputs))


MODELS: dict[str, Callable[..., nn.Module]] = {"mlp": MLP, "deep": Deep}


def build(name: str, parts: Parts, inputs: int, outputs: int, **sizes: Any) -> nn.Module:
    """The model called `name`, all weights zero. sizes: what that model takes (hidden; width and depth; ...)."""
    return MODELS[name](parts, inputs, outputs, **sizes)
