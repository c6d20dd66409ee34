"""A data set as uint8 tensors: read, and split into training, validation and test rows."""

import hashlib
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from fmnist import UserError
from fmnist.sources import fetch

NAMES: tuple[str, ...] = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat")
NAMES += ("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")


@dataclass(frozen=True, eq=False)
class Split:
    """images: (n, height*width) uint8, contiguous, grey levels 0..255, row-major; labels: (n,) int64."""

    images: Tensor
    labels: Tensor

    def to(self, device: torch.device | str) -> "Split":
        return Split(self.images.to(device), self.labels.to(device))


@dataclass(frozen=True, eq=False)
class Dataset:
    """The parts of a data set; height and width in pixels; names: one per class."""

    train: Split
    validation: Split | None
    test: Split
    height: int
    width: int
    classes: int
    names: tuple[str, ...]

    def to(self, device: torch.device | str) -> "Dataset":
        validation = self.validation and self.validation.to(device)
        return replace(self, train=self.train.to(device), validation=validation, test=self.test.to(device))


def load(
    *,
    name: str,
    dir: str | None,
    split: float,
    split_by: str,
    split_seed: int,
    limit: int | None,
    only: int | None = None,
) -> Dataset:
    """Read, verify and split a data set.

    name: "fashion" (fetched if it is nowhere at hand, checksums verified) or "idx" (any IDX files in `dir`).
    dir: an existing folder, or None for the project's data/. Fashion-MNIST is kept in its fashion-mnist/.
    split: share of the training file's rows to train on; the rest is validation, None if split is 1.
    split_by: "tail" (validation is the end of the file) or "stratified" (each class in proportion, drawn by
    split_seed, rows in the file's order).
    limit: use only that many first rows of the training file (before it is split) and of the test file.
    only: keep just this class among the training and validation rows; the test rows stay whole.
    Errors: UserError with one line that names the file or the knob.
    """
    files = fetch.files(name, dir)
    images, labels, test_images, test_labels = (files[key] for key in fetch.FASHION)
    height, width = images.shape[1:]
    if test_images.shape[1:] != (height, width):
        size = "x".join(map(str, test_images.shape[1:]))
        raise UserError(f"{test_images.path}: images are {size}, but {height}x{width} in {images.path.name}")
    names = NAMES if name == "fashion" else tuple(map(str, range(int(_values(labels).max()) + 1)))
    rows = _pair(images, labels, len(names), limit)
    test = _pair(test_images, test_labels, len(names), limit)
    chosen = _choose(rows.labels, split, split_by, split_seed)
    parts = [Split(rows.images[part], rows.labels[part]) for part in chosen]
    if only is not None:
        parts = [_of_class(part, only, len(names)) for part in parts]
    train, validation = parts
    return Dataset(train, validation if split < 1 else None, test, height, width, len(names), names)


def derive(seed: int, *what: str | int) -> int:
    """A 63-bit seed, a function of its arguments alone; neighbouring arguments give unrelated seeds."""
    digest = hashlib.blake2b(repr((int(seed), *what)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def as_input(images: Tensor, dtype: torch.dtype) -> Tensor:
    """uint8 pixels (rows, features) -> [0, 1] in dtype, divided by 255 as in the report."""
    return images.to(dtype).div_(255)


def _values(file: fetch.File) -> Tensor:
    return torch.frombuffer(file.content, dtype=torch.uint8, offset=file.start).view(file.shape)


def _pair(images: fetch.File, labels: fetch.File, classes: int, limit: int | None) -> Split:
    if images.shape[0] != labels.shape[0]:
        counts = f"{labels.shape[0]} labels, must be {images.shape[0]}"
        raise UserError(f"{labels.path}: {counts} as the images in {images.path.name}")
    pixels, classes_of = _values(images), _values(labels)
    if (highest := int(classes_of.max())) >= classes:
        raise UserError(f"{labels.path}: label {highest}, must be in 0..{classes - 1}")
    return Split(pixels[:limit].flatten(1), classes_of[:limit].long())


def _of_class(split: Split, only: int, classes: int) -> Split:
    chosen = split.labels == only
    if only >= classes:
        raise UserError(f"anomaly.normal must be a class, 0 to {classes - 1}, got {only}")
    if len(split.labels) and not chosen.any():
        raise UserError(f"anomaly.normal={only} leaves no rows to train on or to validate with: raise data.limit")
    return Split(split.images[chosen], split.labels[chosen])


def _choose(labels: Tensor, split: float, by: str, seed: int) -> tuple[slice, slice] | tuple[Tensor, Tensor]:
    """Index of the training rows and of the validation rows, each ascending."""
    n = len(labels)
    count = round(n * split)  # not int(): 0.57 * 100 is 56.99999999999999
    if count == 0 or (count == n and split < 1):
        raise UserError(f"data.split={split} of {n} rows leaves no {'validation' if count else 'training'} rows")
    if by == "tail" or split == 1:
        return slice(0, count), slice(count, n)
    # The largest remainders are rounded up: the total is exact, and each class within one of its share.
    shares = [size * split for size in torch.bincount(labels).tolist()]
    counts = [int(share) for share in shares]
    for c in sorted(range(len(shares)), key=lambda c: counts[c] - shares[c])[: count - sum(counts)]:
        counts[c] += 1
    shuffled = torch.randperm(n, generator=torch.Generator().manual_seed(derive(seed, "split")))
    train = torch.zeros(n, dtype=torch.bool)
    for c, size in enumerate(counts):
        train[shuffled[labels[shuffled] == c][:size]] = True
    return train, ~train
