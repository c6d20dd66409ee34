"""A data set as uint8 tensors: read, and split into training, validation and test rows."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from fmnist import UserError
from fmnist.sources import fetch, teacher
from fmnist.sources.idx import File, sideways
from fmnist.sources.source import lacking

digest, taught = fetch.digest, teacher.taught


@dataclass(frozen=True, eq=False)
class Split:
    """images: (n, height*width) uint8, contiguous, grey levels 0..255, row-major; labels: (n,) int64. places: (n,)
    int64, of the rows in their file, where they are known. soft: (n, classes), a teacher's probabilities of them."""

    images: Tensor
    labels: Tensor
    places: Tensor | None = None
    soft: Tensor | None = None

    def to(self, device: torch.device | str) -> "Split":
        return replace(self, images=self.images.to(device), labels=self.labels.to(device))


@dataclass(frozen=True, eq=False)
class Dataset:
    """A data set's parts; height and width in pixels; names: one per class; labels, digest, remarks: see Source;
    teacher: the digest of the one whose probabilities the training rows have."""

    train: Split
    validation: Split | None
    test: Split
    height: int
    width: int
    classes: int
    names: tuple[str, ...]
    labels: tuple[int, ...] = ()
    digest: str = ""
    remarks: tuple[str, ...] = ()
    teacher: str = ""
    mixed: Split | None = None  # the validation rows of all classes, where only some are trained on
    grey: "Dataset | None" = None  # the same before its pixels were binarised

    def to(self, device: torch.device | str) -> "Dataset":
        return self._each(lambda part: part.to(device), self.grey and self.grey.to(device))

    def binarised(self) -> "Dataset":
        """The same with its pixels binarised, by the same numbers each time."""
        return self._each(lambda part: replace(part, images=binarised(part.images)), self)

    def _each(self, change: Callable[[Split], Split], grey: "Dataset | None") -> "Dataset":
        validation, mixed = (part and change(part) for part in (self.validation, self.mixed))
        return replace(
            self, train=change(self.train), validation=validation, test=change(self.test), mixed=mixed, grey=grey
        )


def load(
    *, name: str, dir: str | None, split: float, split_by: str, split_seed: int, limit: int | None,
    only: Sequence[int] = (), numbered: bool = False, binarise: bool | None = None,
) -> Dataset:  # fmt: skip
    """Read, verify and split a data set.

    name: "fashion" (fetched if it is nowhere at hand, checksums verified) or "idx" (any IDX files in `dir`).
    dir: an existing folder, or None for the project's data/. Fashion-MNIST is kept in its fashion-mnist/. For "idx"
    it may also be a folder with the beginning of its files' names.
    split: share of the training file's rows to train on; the rest is validation, None if split is 1.
    split_by: "tail" (validation is the end of the file) or "stratified" (each class in proportion, drawn by
    split_seed, rows in the file's order).
    limit: use only that many first rows of the training file (before it is split) and of the test file.
    only: keep just these classes among the training and validation rows, if any are named; the test rows stay whole.
    numbered: see `Source.numbered`. binarise: see `Dataset.binarised`.
    Errors: UserError with one line that names the file or the knob.
    """
    source = fetch.files(name, dir).numbered() if numbered else fetch.files(name, dir)
    images, labels, test_images, test_labels = (values(file)[:limit] for file in source.files.values())
    height, width = images.shape[1:]
    rows, test = Split(images.flatten(1), labels.long()), Split(test_images.flatten(1), test_labels.long())
    chosen = _choose(rows.labels, split, split_by, split_seed)
    places = torch.arange(len(rows.labels))
    train, validation = (Split(rows.images[part], rows.labels[part], places[part]) for part in chosen)
    trained, held_out = (torch.bincount(part.labels, minlength=len(source.names)) for part in (train, validation))
    remarks = lacking(trained.tolist(), held_out.tolist(), source.names) if split < 1 and split_by == "tail" else ()
    mixed = validation if only and split < 1 else None
    if only:
        train, validation = (_of_classes(part, only, len(source.names)) for part in (train, validation))
    classes = len(source.names), source.names, source.labels
    dataset = Dataset(train, validation if split < 1 else None, test, height, width, *classes, source.digest,
                      source.remarks + remarks, mixed=mixed)  # fmt: skip
    return dataset.binarised() if binarise else dataset


def derive(seed: int, *what: str | int) -> int:
    """A 63-bit seed, a function of its arguments alone; neighbouring arguments give unrelated seeds."""
    digest = hashlib.blake2b(repr((int(seed), *what)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def as_input(images: Tensor, dtype: torch.dtype) -> Tensor:
    """uint8 pixels (rows, features) -> [0, 1] in dtype, divided by 255 as in the report."""
    return images.to(dtype).div_(255)


def binarised(images: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """uint8 pixels of any shape, each made 0 or 255; 255 with its grey level / 255 as the probability (Salakhutdinov &
    Murray 2008). The generator, of the CPU, draws them one after another; None: the same ones each time."""
    generator = generator or torch.Generator().manual_seed(derive(0, "binarise"))
    drawn = torch.empty(images.shape, dtype=torch.uint8).random_(0, 255, generator=generator)  # 0 to 254
    return (images > drawn.to(images.device)).to(torch.uint8).mul_(255)


def values(file: File) -> Tensor:
    """What a file holds, in its shape: labels, or images upright."""
    found = torch.frombuffer(file.content, dtype=torch.uint8, offset=file.start).view(file.shape)
    return found.mT if sideways(file.path) else found


def _of_classes(split: Split, only: Sequence[int], classes: int) -> Split:
    chosen = torch.isin(split.labels, torch.tensor(only))
    if max(only) >= classes:
        raise UserError(f"anomaly.normal must be a class, 0 to {classes - 1}, got {max(only)}")
    if len(split.labels) and not chosen.any():
        named = only[0] if len(only) == 1 else [*only]
        remedy = "raise data.limit or set data.split_by=stratified"
        raise UserError(f"anomaly.normal={named} leaves no rows to train on or to validate with: {remedy}")
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
