"""The batches of an epoch, gathered from a split in an order of its own."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from fmnist.data.dataset import Split, as_input, derive


def order(n: int, seed: int, epoch: int) -> Tensor:
    """The order of n rows in an epoch: (n,) int64 permutation on the CPU, a function of (n, seed, epoch)."""
    return torch.randperm(n, generator=torch.Generator().manual_seed(derive(seed, "order", epoch)))


def slices(n: int, batch_size: int | None) -> list[slice]:
    """Slices that cut n rows into batches, one if None (full batch); the last may be shorter, none is empty."""
    size = batch_size or max(n, 1)
    return [slice(start, min(start + size, n)) for start in range(0, n, size)]


GATHERED = 512  # rows that are gathered at a time, small batches several together: a call costs as much as 20 rows


class Batch(NamedTuple):
    """x (*runs, rows, features) in [0, 1] or the pixels themselves, labels (*runs, rows), and the pixels, uint8. The
    runs' axis is there only where the runs differ in their order."""

    x: Tensor
    labels: Tensor
    pixels: Tensor


class Batches:
    """The batches of each epoch.

    The images stay uint8 on the device; each batch is gathered into the same buffers, and overwritten by the next. The
    order of an epoch depends on (order_seed, epoch) alone. dtype: that of x; as uint8 it is the pixels.
    """

    def __init__(self, split: Split, batch_size: int | None, order_seeds: Sequence[int], dtype: torch.dtype) -> None:
        self.images, self.labels, self.dtype = split.images, split.labels, dtype
        shared = all(seed == order_seeds[0] for seed in order_seeds)
        self.seeds = list(order_seeds[:1] if shared else order_seeds)
        self.runs = () if shared else (len(order_seeds),)
        self.slices = slices(len(split.labels), batch_size)
        self.whole = None
        if batch_size is None:
            x = split.images if dtype == torch.uint8 else as_input(split.images, dtype)
            self.whole = Batch(x, split.labels, split.images)
            return
        rows, size, orders = len(self.labels), self.slices[0].stop, len(self.seeds)
        step, even = max(1, GATHERED // (size * orders)) * size, rows // size * size
        self.blocks = [(start, min(start + step, even)) for start in range(0, even, step)]
        if even < rows:
            self.blocks.append((even, rows))
        count, device = max(stop - start for start, stop in self.blocks) * orders, self.images.device
        pixels = torch.empty(count, self.images.shape[1], dtype=torch.uint8, device=device)
        x = pixels if dtype == torch.uint8 else torch.empty_like(pixels, dtype=dtype)
        self.buffers = Batch(x, torch.empty(count, dtype=torch.int64, device=device), pixels)

    def epoch(self, epoch: int) -> Iterator[Batch]:
        """The epoch's batches."""
        if self.whole is not None:
            yield self.whole
            return
        rows = len(self.labels)
        orders = torch.stack([order(rows, seed, epoch) for seed in self.seeds]).to(self.labels.device)
        for start, stop in self.blocks:
            length = min(self.slices[0].stop, stop - start)
            index = orders[:, start:stop].reshape(len(orders), -1, length).transpose(0, 1).flatten()
            gathered = Batch(*(buffer[: len(index)] for buffer in self.buffers))
            torch.index_select(self.images, 0, index, out=gathered.pixels)
            torch.index_select(self.labels, 0, index, out=gathered.labels)
            if self.dtype != torch.uint8:
                gathered.x.copy_(gathered.pixels).div_(255)
            shape = (-1, *self.runs, length)
            parts = [part.view(*shape, *part.shape[1:]) for part in gathered]
            yield from map(Batch, *parts)
