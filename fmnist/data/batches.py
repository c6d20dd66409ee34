"""The batches of an epoch, gathered from a part of the data in an order of its own."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from fmnist.data.augment import Strengths, augmenters
from fmnist.data.dataset import Dataset, as_input, derive

GATHERED = 512  # rows that are gathered at a time, small batches several together: a call costs as much as 20 rows


def order(n: int, seed: int, epoch: int) -> Tensor:
    """The order of n rows in an epoch: (n,) int64 permutation on the CPU, a function of (n, seed, epoch)."""
    return torch.randperm(n, generator=torch.Generator().manual_seed(derive(seed, "order", epoch)))


class Batch(NamedTuple):
    """x (*runs, rows, features) in [0, 1] or the pixels themselves, labels (*runs, rows), and the pixels, uint8. The
    runs' axis is there only where the runs differ in their order. mix: for mixed images, the other label of each row
    and the share of its own. soft: a teacher's probabilities of the classes, (*runs, rows, classes)."""

    x: Tensor
    labels: Tensor
    pixels: Tensor
    mix: tuple[Tensor, Tensor] | None = None
    soft: Tensor | None = None

    @property
    def others(self) -> dict[str, Any]:
        """What a criterion is given beside the labels: "mix" and "soft", where they are."""
        return {name: value for name in ("mix", "soft") if (value := getattr(self, name)) is not None}

    def chunk(self, start: int, stop: int) -> "Batch":
        """The rows from start to stop."""
        rows = slice(start, stop)
        mix = self.mix and (self.mix[0][..., rows], self.mix[1][..., rows])
        soft = None if self.soft is None else self.soft[..., rows, :]
        return Batch(self.x[..., rows, :], self.labels[..., rows], self.pixels[..., rows, :], mix, soft)


class Batches:
    """The batches of each epoch.

    The images stay uint8 on the device; each batch is gathered into the same buffers, and overwritten by the next. The
    order of an epoch depends on (order_seed, epoch) alone, and so do augmentations; a full batch has the file's order.
    batch_size: rows, None for all of them. dtype: that of x; as uint8 it is the pixels. augment: strengths by name.
    """

    def __init__(
        self, dataset: Dataset, batch_size: int | None, order_seeds: Sequence[int], dtype: torch.dtype,
        augment: Strengths | None = None,
    ) -> None:  # fmt: skip
        part = dataset.train
        self.images, self.labels, self.soft, self.dtype = part.images, part.labels, part.soft, dtype
        if dataset.grey is not None:  # each epoch makes its own of them
            self.images = dataset.grey.train.images
        shared = all(seed == order_seeds[0] for seed in order_seeds)
        self.seeds = list(order_seeds[:1] if shared else order_seeds)
        self.runs = () if shared else (len(order_seeds),)
        rows, self.shuffled = len(self.labels), batch_size is not None
        self.size = min(batch_size or rows, rows)
        self.count = -(-rows // self.size)  # batches
        self.asked = augment or {}
        self.augmenters = augmenters(self.asked, (dataset.height, dataset.width), self.seeds, bool(dataset.grey))
        self.full = None
        if not self.shuffled and not self.augmenters:
            x = part.images if dtype == torch.uint8 else as_input(part.images, dtype)
            self.full = Batch(x, part.labels, part.images, None, part.soft)
            return
        orders = len(self.seeds)
        step, even = max(1, GATHERED // (self.size * orders)) * self.size, rows // self.size * self.size
        self.gathers = [(start, min(start + step, even)) for start in range(0, even, step)]
        if even < rows:
            self.gathers.append((even, rows))
        most, device = max(stop - start for start, stop in self.gathers) * orders, self.images.device
        pixels = torch.empty(most, self.images.shape[1], dtype=torch.uint8, device=device)
        x = pixels if dtype == torch.uint8 else torch.empty_like(pixels, dtype=dtype)
        labels, other = (torch.empty(most, dtype=torch.int64, device=device) for _ in range(2))
        mix = (other, torch.empty(most, device=device)) if self.asked.get("mixup") else None
        soft = None if self.soft is None else self.soft.new_empty(most, self.soft.shape[1])
        self.buffers = Batch(x, labels, pixels, mix, soft)

    def epoch(self, epoch: int, augment: Strengths | None = None) -> Iterator[Batch]:
        """The epoch's batches. augment: its strengths, where they are not those that were given first, the largest."""
        if self.full is not None:
            yield self.full
            return
        rows, device = len(self.labels), self.labels.device
        orders = torch.stack([order(rows, seed, epoch) if self.shuffled else torch.arange(rows) for seed in self.seeds])
        orders = orders.to(device)
        for augmenter in self.augmenters:
            augmenter.start(epoch, rows, self.count, device, self.asked if augment is None else augment)
        for start, stop in self.gathers:
            length = min(self.size, stop - start)
            index = orders[:, start:stop].reshape(len(orders), -1, length).transpose(0, 1).flatten()
            gathered = self.buffers.chunk(0, len(index))
            torch.index_select(self.images, 0, index, out=gathered.pixels)
            torch.index_select(self.labels, 0, index, out=gathered.labels)
            if self.soft is not None:
                torch.index_select(self.soft, 0, index, out=gathered.soft)
            self._augment(gathered, start, stop, length)
            if self.dtype != torch.uint8:
                gathered.x.copy_(gathered.pixels).div_(255)
            yield from self._cut(gathered, length)

    def _augment(self, gathered: Batch, start: int, stop: int, length: int) -> None:
        """Augment, in the buffers, the images from places start to stop of each order, each by its own augmenter."""
        shape = (-1, len(self.seeds), length)
        for run, augmenter in enumerate(self.augmenters):
            pixels = gathered.pixels.view(*shape, gathered.pixels.shape[-1])[:, run]
            changed = augmenter.change(pixels.reshape(stop - start, -1), slice(start, stop)).view(pixels.shape)
            if gathered.mix is not None:
                labels = gathered.labels.view(shape)[:, run]
                changed, other, share = augmenter.mix(changed, labels, start // self.size)
                for buffer, values in zip(gathered.mix, (other, share), strict=True):
                    buffer.view(shape)[:, run] = values
                if gathered.soft is not None:
                    soft = gathered.soft.view(*shape, gathered.soft.shape[-1])[:, run]
                    soft.copy_(torch.lerp(soft.roll(1, 1), soft, share[..., None].to(soft.dtype)))
            pixels.copy_(changed)

    def _cut(self, gathered: Batch, length: int) -> Iterator[Batch]:
        """Cut what was gathered into its batches."""
        shape = (-1, *self.runs, length)

        def by_batch(values: Tensor) -> Tensor:
            return values.view(*shape, *values.shape[1:])

        mixes = [None] * self.count if gathered.mix is None else zip(*map(by_batch, gathered.mix), strict=True)
        soft = [None] * self.count if gathered.soft is None else by_batch(gathered.soft)
        x, labels, pixels = map(by_batch, gathered[:3])
        for batch in zip(x, labels, pixels, mixes, soft, strict=False):
            yield Batch(*batch)
