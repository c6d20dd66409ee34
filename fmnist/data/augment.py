"""Augmentations: training images changed anew in each epoch, as bytes, so that fast products with images stay possible.

An entry of AUGMENT is a function f(images, strength, u) that gives images of the same shape. images: (rows, height,
width) uint8. strength: the value of the knob augment.NAME. u: (rows, DRAWS), for each image some numbers drawn
uniformly from [0, 1).
"""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from fmnist.data.dataset import binarised, derive

DRAWS = 4
Strengths = Mapping[str, float | None]  # by name; None and 0 are off


def shift(images: Tensor, strength: float, u: Tensor) -> Tensor:
    """Move each image by a whole number of pixels in [-strength, strength], down and across; what comes in is black."""
    most = int(strength)
    rows, height, width = images.shape
    padded = functional.pad(images, (most,) * 4)
    down, across = (u[:, :2] * (2 * most + 1)).long().unbind(1)
    lines = (down[:, None] + torch.arange(height, device=images.device)) * padded.shape[2] + across[:, None]
    lines += torch.arange(rows, device=images.device)[:, None] * padded[0].numel()  # where each line of pixels begins
    windows = padded.view(-1).as_strided((padded.numel() - width + 1, width), (1, 1))
    return windows.index_select(0, lines.flatten()).view(images.shape)


def flip(images: Tensor, strength: float, u: Tensor) -> Tensor:
    """Turn each image left to right with a probability of `strength`."""
    chosen = (u[:, 0] < strength).to(torch.uint8)[:, None, None] * 255
    return images ^ ((images ^ images.flip(-1)) & chosen)  # several times as fast as torch.where on bytes


def cutout(images: Tensor, strength: float, u: Tensor) -> Tensor:
    """Make a square of side `strength` black, its centre anywhere in the image (DeVries & Taylor 2017)."""
    side, outside = int(strength), []
    for number, size in enumerate(images.shape[1:]):
        start = (u[:, number] * size).long()[:, None] - side // 2
        places = torch.arange(size, device=images.device)
        outside.append(((places < start) | (places >= start + side)).to(torch.uint8) * 255)
    return images & (outside[0][:, :, None] | outside[1][:, None, :])


AUGMENT: dict[str, Callable[[Tensor, float, Tensor], Tensor]] = {"shift": shift, "flip": flip, "cutout": cutout}


class Augmenter:
    """The augmentations of runs that share an order. (order_seed, epoch) decides them: a resumed run needs no state.

    size: height and width. binarise: whether pixels are binarised, too. A row's numbers belong to its place in the
    order of the epoch, not to the rows with which it is gathered.
    """

    def __init__(self, size: tuple[int, int], order_seed: int, binarise: bool = False) -> None:
        self.size, self.seed, self.binarise = size, order_seed, binarise

    def start(self, epoch: int, rows: int, batches: int, device: torch.device, asked: Strengths) -> None:
        """Draw the numbers of an epoch of so many rows and batches. asked: done in this order; "mixup" comes last."""
        self.asked = {name: strength for name, strength in asked.items() if strength and name != "mixup"}
        self.drawn = {name: torch.rand(rows, DRAWS, generator=self._generator(name, epoch)).to(device)
                      for name in self.asked}  # fmt: skip
        self.bits = self._generator("binarise", epoch)
        self.shares = torch.ones(batches, device=device)
        if alpha := asked.get("mixup"):
            generator, size = self._generator("mixup", epoch), (2, batches)
            gamma = torch._standard_gamma(torch.full(size, alpha + 1, dtype=torch.float64), generator=generator)
            uniform = torch.rand(size, generator=generator, dtype=torch.float64)
            one, two = gamma.log() + uniform.log() / alpha  # logarithms: with a small alpha the numbers underflow
            share = (one - two).sigmoid()  # from Beta(alpha, alpha)
            self.shares = torch.maximum(share, 1 - share).float().to(device)

    def _generator(self, name: str, epoch: int) -> torch.Generator:
        return torch.Generator().manual_seed(derive(self.seed, "augment", name, epoch))

    def change(self, pixels: Tensor, place: slice) -> Tensor:
        """Augment the images (rows, pixels) at these places of the order, which are asked for one after another."""
        images = pixels.view(-1, *self.size)
        for name, strength in self.asked.items():
            images = AUGMENT[name](images, strength, self.drawn[name][place])
        return (binarised(images, self.bits) if self.binarise else images).reshape(pixels.shape)

    def mix(self, pixels: Tensor, labels: Tensor, first: int) -> tuple[Tensor, Tensor, Tensor]:
        """Mix each image of some batches with the next one of its batch (Zhang et al. 2018): pixels (batches, rows,
        pixels), labels (batches, rows), the first of the batches in the epoch -> pixels, other labels, share of the own
        label, which is at least a half."""
        share = self.shares[first : first + len(pixels), None]
        weights = (share[..., None] * 256).round().int()
        mixed = (pixels.int() * weights + pixels.roll(1, 1).int() * (256 - weights)) >> 8
        return mixed.to(torch.uint8), labels.roll(1, 1), share.expand(labels.shape)


def augmenters(asked: Strengths, size: tuple[int, int], orders: Sequence[int], binarise: bool) -> list[Augmenter]:
    """One augmenter for each order; [] where no augmentation is on."""
    return [Augmenter(size, seed, binarise) for seed in orders] if binarise or any(asked.values()) else []
