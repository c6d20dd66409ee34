"""IDX files: found in a folder under the names that practice has, read and checked. No torch.

IDX: two zero bytes, a byte for the type, the rank, a big-endian uint32 per dimension, then the values, big-endian too.
QMNIST: Yadav and Bottou 2019, arXiv:1905.10498. EMNIST: Cohen, Afshar, Tapson and van Schaik 2017, arXiv:1702.05373.
"""

import gzip
import hashlib
import math
import os
import re
import shlex
import sys
import zlib
from array import array
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fmnist import UserError
from fmnist.program.reading import memory, opened
from fmnist.sources import sums

TYPES = {  # an IDX file's byte for its type: the type's name, its code in Python's array
    0x08: ("unsigned byte", "B"), 0x09: ("signed byte", "b"), 0x0B: ("short", "h"), 0x0C: ("int", "i"),
    0x0D: ("float", "f"), 0x0E: ("double", "d"),
}  # fmt: skip
RANKS = ((1, 2), (3,))  # how many dimensions files of labels have, and those of images
HEADER = 16  # bytes: those of an IDX file of images, the longest
QMNIST = 8  # numbers that QMNIST has for a label: the class, then who wrote the digit and where it comes from
MOST = 256  # classes: each is one byte
CHUNK = 1 << 22  # bytes that are read at a time
NAME = re.compile(r"(?:(.+)[-_. ])?(train|t10k|test)[-_. ](images|labels)"
                  r"(?:[-_. ]idx\d[-_. ](?:ubyte|byte|short|int|float|double))?(?:\.gz)?")  # fmt: skip


@dataclass(frozen=True, eq=False)
class File:
    """path: where it was read or is kept. content: from `start` on, values of that shape, one unsigned byte each.

    sha256: of the file's bytes, unpacked. labels: of a file of labels, what they are; its values are their places here.
    """

    path: Path
    content: bytearray
    start: int
    shape: tuple[int, ...]
    sha256: str
    labels: tuple[int, ...] = ()


def sideways(path: Path) -> bool:
    """Whether a file has images that are stored column by column, as EMNIST has them; its name alone tells."""
    return path.name.lower().startswith("emnist") and "images" in path.name


def find(place: Path, name: str) -> Path | None:
    """The file that a place has under an official name, "t10k-images-idx3-ubyte", or a common variant of it; a raw one
    rather than a .gz.

    place: a folder, or with the beginning of its files' names: FOLDER/emnist-letters. See `split` for its errors.
    """
    return find_exactly(*split(place), name)


def find_exactly(folder: Path, beginning: str, name: str) -> Path | None:
    """The same among the files whose names begin in this way; "" for plain names."""
    part, kind, *_ = name.split("-")
    parts = ("t10k", "test") if part == "t10k" else (part,)
    found = [path for path, own, p, k in _named(folder) if (own, k) == (beginning, kind) and p in parts]
    return min(found, key=lambda path: (path.suffix == ".gz", path.name != name, path.name), default=None)


def _named(folder: Path) -> list[tuple[Path, str, str, str]]:
    """A folder's files with names of IDX files: how the name begins; train, t10k or test; images or labels."""
    matches = [(path, NAME.fullmatch(path.name)) for kind in ("images", "labels") for path in folder.glob(f"*{kind}*")]
    return [(path, match[1] or "", match[2], match[3]) for path, match in matches if match and path.is_file()]


def split(place: Path) -> tuple[Path, str]:
    """A place as a folder and how the names of its files begin.

    A folder may hold several data sets, of which plain names are taken. Errors: UserError where there are none.
    """
    if not os.path.isdir(place):
        return place.parent, place.name.rstrip("-_. ")
    beginnings = sorted({beginning for _, beginning, *_ in _named(place)})
    if len(beginnings) > 1 and "" not in beginnings:
        raise UserError(f"{place}: holds several data sets, {', '.join(beginnings)}: name one, as in "
                        f"{place / beginnings[0]}")  # fmt: skip
    return place, "" if "" in beginnings or not beginnings else beginnings[0]


def locate(place: Path, name: str) -> Path:
    """What `find` finds. Errors: UserError where there is no such file."""
    if path := find(place, name):
        return path
    other = f" or {name.replace('t10k', 'test')}" if name.startswith("t10k") else ""
    raise UserError(f"{place}: holds no {name}{other}, raw or .gz{_hint(place)}")


def read_file(place: Path, name: str, sha256: str | None) -> File:
    """Find, read and check one file. See `read`. Errors: UserError."""
    return read(locate(place, name), "images" in name, sha256)


def _hint(place: Path) -> str:
    """What helps where a folder holds images in another format."""
    others = any(any(place.glob(f"{below}*.{kind}")) for below in ("", "*/") for kind in ("np[yz]", "png", "jp*g"))
    return f"; python -m fmnist.data convert {shlex.quote(str(place))} TARGET makes IDX files" if others else ""


def read(path: Path, images: bool, sha256: str | None = None) -> File:
    """Read and check a file of images, shape (n, height, width), or of labels, shape (n,). sha256: what the sum of its
    bytes must be; then they are summed whatever is known of them. Errors: UserError."""
    content, status = _read_bytes(path, images)
    start, shape = _header(path, content, images)
    found = hashlib.sha256(content).hexdigest() if sha256 else sums.of(path, status, content)
    if sha256 and found != sha256:
        raise UserError(f"{path}: not Fashion-MNIST's: SHA-256 {found[:12]}..., must be {sha256[:12]}...")
    file = File(path, content, start, shape, found)
    return file if images else _classes(file)


def _read_bytes(path: Path, images: bool) -> tuple[bytearray, os.stat_result]:
    """A file's bytes, unpacked, and its status when they were read. A byte more than its header promises tells that
    there are more: they are not read, since a few packed bytes can be any number. Errors: UserError."""
    try:
        with opened(path, sys.maxsize) as file:
            stream: Any = gzip.GzipFile(fileobj=file) if path.suffix == ".gz" else file
            content, status = bytearray(stream.read(HEADER)), os.fstat(file.fileno())
            if (size := _promised(content, images)) > memory():
                raise UserError(f"{path}: its header promises {size:,} bytes, more than there is memory")
            while chunk := stream.read(min(CHUNK, size + 1 - len(content))):
                content += chunk
            return content, status
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path}: cannot be read: {error}") from error


def _promised(content: bytearray, images: bool) -> int:
    """How many bytes an IDX file has, by the beginning of it; as many as these if it is none."""
    _, _, kind, rank = content[:4] if len(content) == HEADER else bytes(4)
    sizes = [int.from_bytes(content[at : at + 4], "big") for at in range(4, 4 + 4 * rank, 4)]
    known = kind in TYPES and rank in RANKS[images]
    return max(len(content), 4 + 4 * rank + math.prod(sizes) * array(TYPES[kind][1]).itemsize if known else 0)


def _header(path: Path, content: bytearray, images: bool) -> tuple[int, tuple[int, ...]]:
    """Where an IDX file's values start, and their shape. Errors: UserError for a file that is not as it must be."""
    ranks, what = RANKS[images], "unsigned bytes in three dimensions" if images else "integers in one dimension"
    if len(content) < (least := 4 + 4 * ranks[0]):
        raise UserError(f"{path}: truncated: {len(content)} bytes, its header alone must have {least}")
    _, _, kind, rank = magic = content[:4]
    if magic[:2] != b"\0\0" or kind not in TYPES or rank not in ranks:
        raise UserError(f"{path}: wrong magic {magic.hex()}, must be 000008{ranks[0]:02x} (IDX of {what})")
    name, code = TYPES[kind]
    if images and kind != 0x08:
        raise UserError(f"{path}: its values are of type {name}, those of images must be of type {TYPES[0x08][0]}")
    if code in "fd":
        raise UserError(f"{path}: its values are of type {name}, those of labels must be of an integer type")
    start = 4 + 4 * rank
    shape = tuple(int.from_bytes(content[at : at + 4], "big") for at in range(4, start, 4))
    if len(content) != (size := start + math.prod(shape) * array(code).itemsize):
        fault = f"truncated: {len(content)}" if len(content) < size else "trailing bytes: more"
        raise UserError(f"{path}: {fault} bytes, must be {size} by its header")
    if 0 in shape:
        raise UserError(f"{path}: empty: its header says {'x'.join(map(str, shape))}")
    if not images and shape[1:] not in ((), (QMNIST,)):
        raise UserError(f"{path}: {shape[1]} numbers for a label, must be 1, or {QMNIST} as QMNIST has them")
    return start, shape


def _classes(file: File) -> File:
    """A file of labels of any integer type, perhaps beside other numbers, as classes: 0 for the smallest of its labels,
    1 for the next. Errors: UserError for too many."""
    values: Any = file.content[file.start :]
    if file.content[2] != 0x08:
        values = array(TYPES[file.content[2]][1], values)
        if sys.byteorder == "little":
            values.byteswap()
    values = values[:: math.prod(file.shape[1:])]
    labels = tuple(sorted(set(values)))
    if len(labels) > MOST:
        raise UserError(f"{file.path}: {len(labels)} different labels, at most {MOST} can be classes")
    if len(values) == len(file.content) - file.start and labels == tuple(range(len(labels))):
        return replace(file, labels=labels)  # they are classes, a byte each
    return _with(file, values, labels)


def _with(file: File, values: Iterable[int], labels: tuple[int, ...]) -> File:
    """A file of labels with these values, each by its place among `labels`."""
    place = {label: number for number, label in enumerate(labels)}
    content = bytearray(map(place.__getitem__, values))
    return replace(file, content=content, start=0, shape=(len(content),), labels=labels)


def among(file: File, labels: tuple[int, ...]) -> File:
    """A file of labels with its values as places among these. Errors: UserError where one of them is not there."""
    if others := [label for label in file.labels if label not in labels]:
        first, last = labels[0], labels[-1]
        allowed = f"{first}..{last}" if last - first == len(labels) - 1 else ", ".join(map(str, labels))
        raise UserError(f"{file.path}: label {others[-1]}, must be in {allowed}")
    if file.labels == labels[: len(file.labels)]:
        return file
    return _with(file, (file.labels[value] for value in file.content[file.start :]), labels)
