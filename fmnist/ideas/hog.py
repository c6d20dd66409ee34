"""Histograms of oriented gradients (Dalal & Triggs 2005) in front of a classifier: fixed features, and the pixels."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from fmnist import UserError
from fmnist.config import schema
from fmnist.config.schema import COUNT, classifier, knob
from fmnist.nn.models import Parts
from fmnist.speed.tape import Tape
from fmnist.speed.taped import Back, rule

BLOCK = 2  # cells along each side of a block
CUT = 0.2  # of a normalised histogram: what is above is cut off, and the block normalised again


@dataclass
class HogConfig:
    """[histograms, pixels] - hidden - classes, of square images."""

    name: str = "hog"
    cells: list[int] = knob([4, 7], "[2, inf)")
    orientations: int = knob(9, "[2, inf)")
    hidden: list[int] = knob([512, 256], COUNT)
    activation: str = knob("relu", schema.ACTIVATIONS)


def features(cells: Sequence[int], orientations: int, side: int) -> int:
    """How many numbers describe an image of side x side pixels."""
    return sum(orientations * (BLOCK * max(0, side // cell - BLOCK + 1)) ** 2 for cell in cells)


class Hog(nn.Module):
    """x (*runs, batch, side^2) in [0, 1] -> (*runs, batch, features + side^2): for each size of cell the histograms of
    its blocks, and then x itself.

    A pixel's gradient (half the difference of its neighbours) gives its length to the two orientations, of [0, pi),
    that it lies between, in shares. The histograms are sums over cells of cell x cell pixels. Each block of 2 x 2 cells
    is divided by its Euclidean norm, cut off at 0.2, and divided again. Raises UserError for images that are not
    square, or have fewer than two cells a side.
    """

    def __init__(self, inputs: int, cells: Sequence[int], orientations: int) -> None:
        super().__init__()
        self.side, self.cells, self.orientations = math.isqrt(inputs), tuple(cells), orientations
        if self.side**2 != inputs:
            raise UserError(f"model=hog needs square images, got {inputs} pixels")
        if any(cell * BLOCK > self.side for cell in cells):
            raise UserError(f"model.cells must be at most half the side of an image, {self.side}, got {list(cells)}")

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        images = x.reshape(-1, 1, self.side, self.side)
        padded = functional.pad(images, (1, 1, 1, 1), "replicate")
        across = (padded[..., 1:-1, 2:] - padded[..., 1:-1, :-2]) / 2
        down = (padded[..., 2:, 1:-1] - padded[..., :-2, 1:-1]) / 2
        place = torch.atan2(down, across) % math.pi * (self.orientations / math.pi)
        centres = torch.arange(self.orientations, dtype=x.dtype, device=x.device)[:, None, None]
        apart = (place - centres).abs()
        share = (1 - torch.minimum(apart, self.orientations - apart)).clamp_min(0)  # orientations go round
        votes = share * (across.square() + down.square()).sqrt()
        described = [self.blocks(functional.avg_pool2d(votes, cell)) for cell in self.cells]
        return torch.cat([*described, images.flatten(1)], 1).view(*x.shape[:-1], -1)

    @staticmethod
    def blocks(histograms: Tensor) -> Tensor:
        """(n, orientations, rows, columns) of cells -> (n, numbers), block by block."""
        blocks = functional.unfold(histograms, BLOCK).mT  # (n, blocks, numbers)
        cut = functional.normalize(blocks, dim=-1, eps=1e-3).clamp_max(CUT)
        return functional.normalize(cut, dim=-1, eps=1e-3).flatten(1)

    def extra_repr(self) -> str:
        return f"cells {list(self.cells)}, {self.orientations} orientations"


@rule.register
def _(layer: Hog, tape: Tape, x: Tensor) -> tuple[Tensor, Back]:
    y = tape.by_row(*x.shape[:-1], layer.side**2 + features(layer.cells, layer.orientations, layer.side))
    tape(lambda: y.copy_(layer(x)))
    tape.data, tape.pixels = y, None  # whatever comes next sees this as the data
    tape.keep(y)
    return y, lambda g: None


class HogMLP(nn.Sequential):
    """x (*runs, batch, inputs) -> logits (*runs, batch, outputs) through the histograms and the hidden layers."""

    def __init__(
        self, parts: Parts, inputs: int, outputs: int, cells: Sequence[int], orientations: int, hidden: Sequence[int]
    ) -> None:  # fmt: skip
        described = Hog(inputs, cells, orientations)
        widths = [inputs + features(cells, orientations, described.side), *hidden]
        layers = [layer for i, o in zip(widths, hidden, strict=False) for layer in parts.hidden(i, o)]
        super().__init__(*parts.corrupt(training_only=True), described, *layers, parts.linear(widths[-1], outputs))


def _widths(model: HogConfig, inputs: int, classes: int) -> list[int]:
    described = features(model.cells, model.orientations, math.isqrt(inputs))
    return [inputs + described, *model.hidden, classes]


schema.MODELS["hog"] = replace(
    classifier(HogConfig, "fmnist.ideas.hog:HogMLP", lambda model: model.hidden), widths=_widths
)
