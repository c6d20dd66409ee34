"""Layers in any order, for comparing the tape with autograd: toy layers that have no rule, and models drawn at random.

An order is a list of tuples that begin with a name: ("linear", 5), ("relu",), ("residual", [...], True), ("gated",
[...], [...]).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor, nn

from fmnist.nn.layers import ACTIVATIONS, Activation, BatchNorm, Dropout, DropPath, Gated, LayerNorm, Linear, Residual
from fmnist.nn.noise import Noise

F64 = {"dtype": torch.float64}


class Learnt(nn.Module):
    """A layer without a rule, with a parameter."""

    def __init__(self, features: int, runs: Sequence[int]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(*runs, features, **F64))

    def forward(self, x: Tensor) -> Tensor:
        return torch.sin(x * self.weight[..., None, :]) + x


class Plain(nn.Module):
    """A layer without a rule and without a parameter."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.cos(x) * x


class Constant(nn.Module):
    """A layer without a rule, through which no gradient passes."""

    def forward(self, x: Tensor) -> Tensor:
        return x.detach() + 0.1


class Doubled(Linear):
    """A layer whose base class has a rule, which is not its own."""

    def forward(self, x: Tensor) -> Tensor:
        return 2 * super().forward(x)


class Jitter(nn.Module):
    """A layer without a rule that draws numbers from a generator of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.generator = torch.Generator()

    def forward(self, x: Tensor) -> Tensor:
        return x * (1 + torch.rand(x.shape[-1:], generator=self.generator)).to(x.dtype)


class Tracking(nn.Module):
    """A layer without a rule that keeps a running mean, and through which rows see one another."""

    couples_rows = True
    running: Tensor

    def __init__(self, features: int, runs: Sequence[int]) -> None:
        super().__init__()
        self.register_buffer("running", torch.zeros(*runs, features, **F64))

    def forward(self, x: Tensor) -> Tensor:
        mean = x.mean(-2)
        with torch.no_grad():
            self.running.lerp_(mean, 0.1)
        return x - mean[..., None, :]


Spec = tuple[Any, ...]
LEAVES: dict[str, Callable[[int, Sequence[int], Noise], nn.Module]] = {
    "identity": lambda width, runs, noise: nn.Identity(),
    "batch norm": lambda width, runs, noise: BatchNorm(width, runs, **F64),
    "layer norm": lambda width, runs, noise: LayerNorm(width, runs, **F64),
    "learnt": lambda width, runs, noise: Learnt(width, runs),
    "plain": lambda width, runs, noise: Plain(),
    "constant": lambda width, runs, noise: Constant(),
    "jitter": lambda width, runs, noise: Jitter(),
    "tracking": lambda width, runs, noise: Tracking(width, runs),
}


def specs(depth: int) -> st.SearchStrategy[list[Spec]]:
    """Up to 8 layers, one inside another `depth` times at most."""
    leaf = st.sampled_from([(name,) for name in [*LEAVES, *ACTIVATIONS]])
    wide = st.tuples(st.sampled_from(["linear", "linear", "doubled"]), st.integers(2, 5))
    dropout = st.tuples(
        st.sampled_from(["dropout", "drop path"]), st.lists(st.sampled_from([0.0, 0.3, 0.6]), min_size=3, max_size=3)
    )
    choices = [leaf, wide, dropout]
    if depth:
        choices.append(st.tuples(st.just("residual"), specs(depth - 1).filter(bool), st.booleans()))
        bounded = specs(depth - 1).map(lambda gate: [*gate, ("tanh",)])  # products of products would lose all digits
        choices.append(st.tuples(st.just("gated"), specs(depth - 1), bounded))
    return st.lists(st.one_of(choices), max_size=8 if depth == 2 else 4)


@dataclass
class Made:
    """A model of some runs, and what it draws its numbers from."""

    model: nn.Sequential
    noise: Noise
    width: int

    def start(self, seed: int) -> None:
        """Begin all noise anew."""
        self.noise.start([seed + run for run in range(len(self.noise.generators))])
        for layer in self.model.modules():
            if isinstance(layer, Jitter):
                layer.generator.manual_seed(seed)


def make(order: list[Spec], inputs: int, runs: int, seed: int) -> Made:
    """The model of an order, its parameters drawn. A linear layer comes last where the runs would share the output, or
    where there would be nothing to train."""
    noise = Noise(runs)
    layers, width = _layers(order, inputs, (runs,), noise)
    made = Made(nn.Sequential(*layers), noise, width)
    made.start(0)
    output = made.model(torch.rand(2, inputs, **F64))
    if output.dim() < 3 or not output.requires_grad:
        made.model.append(Linear(width, 3, (runs,), **F64))
        made.width = 3
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in made.model.parameters():
            drawn = torch.randn(p.shape, generator=generator, **F64)
            p.copy_(drawn * 0.6 if p.dim() == 3 else p + drawn / 2)
        for buffer in made.model.buffers():
            buffer.zero_()
    return made


def _layers(order: list[Spec], width: int, runs: tuple[int, ...], noise: Noise) -> tuple[list[nn.Module], int]:
    layers: list[nn.Module] = []
    for name, *given in order:
        if name in ("linear", "doubled"):
            layers.append((Linear if name == "linear" else Doubled)(width, given[0], runs, **F64))
            width = given[0]
        elif name in ("dropout", "drop path"):
            layers.append((Dropout if name == "dropout" else DropPath)(given[0][: runs[0]], noise))
        elif name == "residual":
            inner, after = _layers(given[0], width, runs, noise)
            projected = given[1] or after != width
            layers.append(Residual(nn.Sequential(*inner), Linear(width, after, runs, **F64) if projected else None))
            width = after
        elif name == "gated":
            (inner, after), (gate, other) = (_layers(each, width, runs, noise) for each in given)
            fitting = [] if after == other else [Linear(other, after, runs, **F64)]
            layers.append(Gated(nn.Sequential(*inner), nn.Sequential(*gate, *fitting)))
            width = after
        else:
            layers.append(LEAVES[name](width, runs, noise) if name in LEAVES else Activation(name))
    return layers, width
