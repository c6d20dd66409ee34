"""PNG, JPEG, .npy and IDX files as images of a run's size: grey, bright on dark, in 256 levels.

A picture that is dark on light is turned over, since the images of all data sets here are bright on dark. The rule:
the median of the outermost pixels is greater than the mean of the others, in the size of the run. Of Fashion-MNIST's
10,000 test images it takes none for dark on light, and all when they are turned over. The level of the outermost pixels
becomes black then, and black becomes white.
"""

import io
import math
import os
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from fmnist import UserError
from fmnist.program.reading import contents, memory, opened
from fmnist.sources import idx
from fmnist.sources.convert import PICTURES, grey, grey_levels
from fmnist.sources.idx import sideways

STDIN = "-"
MAGIC = {b"\x89PNG": "picture", b"\xff\xd8": "picture", b"\x93NUMPY": "npy", b"\x1f\x8b": "gz", b"\0\0": "idx"}
HEADER = 10_000  # bytes that the header of an .npy may have
CHUNK = 1 << 20  # bytes of standard input that are read at a time


class Images(NamedTuple):
    """images: (n, height, width) uint8; inverted: how many of them were dark on light."""

    images: Any
    inverted: int


def files(given: Iterable[str | Path]) -> tuple[list[Path], int]:
    """The files that are meant: a folder stands for all pictures, .npy and IDX files of images in it and below it, in
    the order of their names. Also how many others there are, hidden ones not counted."""
    found, others = list[Path](), 0
    for place in map(Path, given):
        if not os.path.isdir(place):
            found.append(place)
            continue
        inside = sorted(Path(folder, name) for folder, folders, names in os.walk(place) if _shown(folders)
                        for name in names if not name.startswith("."))  # fmt: skip
        meant = [path for path in inside if _is_meant(path)]
        found += meant
        others += len(inside) - len(meant)
    return found, others


def _shown(folders: list[str]) -> bool:
    """Leave hidden folders out of those that os.walk goes into."""
    folders[:] = [name for name in folders if not name.startswith(".")]
    return True


def _is_meant(path: Path) -> bool:
    named = idx.NAME.fullmatch(path.name)
    return path.suffix.lower() in (*PICTURES, ".npy") or bool(named and named[3] == "images")


def read(path: Path, height: int, width: int, as_is: bool = False) -> Images:
    """The images of one file, "-" for standard input, in this size: others are brought to it, without distortion and
    on black. as_is: whether what is dark on light stays so. Raises UserError that names the file, and OSError."""
    with _named(path) as file:
        what = _kind(file, path)
        if what == "picture":
            return _together([fitted(grey(file, _ground), height, width, as_is)])
        if what == "npy":
            images = _images_of(path, read_npy(file), height, width)
        else:
            images = _upright(idx.read(file, images=True))
    inverted = not as_is and dark_on_light(images).mean() > 0.5  # the images of one file are alike
    if inverted:
        images = turned_over(images)
    if images.shape[1:] != (height, width):
        images = np.stack([fitted(Image.fromarray(image), height, width, True)[0] for image in images])
    return Images(images, len(images) if inverted else 0)


def fitted(picture: Image.Image, height: int, width: int, as_is: bool) -> tuple[Any, bool]:
    """A grey picture in this size, in the middle of black, and whether it was dark on light."""
    if picture.size != (width, height):
        scale = min(width / picture.width, height / picture.height)
        size = [min(most, max(1, round(own * scale))) for own, most in zip(picture.size, (width, height), strict=True)]
        picture = picture.resize((size[0], size[1]), Image.Resampling.LANCZOS, reducing_gap=3)
    levels = np.asarray(picture)
    dark = not as_is and bool(dark_on_light(levels[None])[0])
    if dark:
        levels = turned_over(levels[None])[0]
    image = np.zeros((height, width), np.uint8)
    top, left = (height - levels.shape[0]) // 2, (width - levels.shape[1]) // 2
    image[top : top + levels.shape[0], left : left + levels.shape[1]] = levels
    return image, dark


def dark_on_light(images: Any) -> Any:
    """Which of the images (n, height, width) are dark on light, (n,): the median of the outermost pixels is greater
    than the mean of the others. Images of less than 3 pixels to a side are not."""
    if min(images.shape[1:]) < 3:
        return np.zeros(len(images), dtype=bool)
    return _level(images) > images[:, 1:-1, 1:-1].mean((1, 2))


def turned_over(images: Any) -> Any:
    """Images that are dark on light as bright on dark: the level of the outermost pixels becomes black, black becomes
    white. Where the outermost pixels are white this is 255 - images."""
    level = np.maximum(_level(images), 1)[:, None, None]
    return np.rint(np.clip((level - images) / level, 0, 1) * 255).astype(np.uint8)


def _level(images: Any) -> Any:
    """The median of the outermost pixels of each image."""
    frame = np.ones(images.shape[1:], dtype=bool)
    frame[1:-1, 1:-1] = False
    return np.median(images[:, frame], axis=1)


def _ground(picture: Image.Image) -> str:
    """What is behind a picture (RGBA) with transparent parts: white behind dark things, black behind bright ones."""
    seen = np.asarray(picture.getchannel("A"), dtype=np.float64)
    light = (np.asarray(picture.convert("RGB").convert("L")) * seen).sum() / max(1.0, seen.sum())
    return "white" if light < 128 else "black"


def _together(found: list[tuple[Any, bool]]) -> Images:
    return Images(np.stack([image for image, _ in found]), sum(dark for _, dark in found))


def _upright(file: idx.File) -> Any:
    images = np.frombuffer(file.content, np.uint8, offset=file.start).reshape(file.shape)
    return images.swapaxes(1, 2) if sideways(file.path) else images


@contextmanager
def _named(path: Path) -> Iterator[Path]:
    """A file to be read: `path`, or a copy of standard input. Errors name what was asked for."""
    if str(path) != STDIN:
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="fmnist-") as folder:
        copy = Path(folder, "input")
        _copy_input(copy)
        packed = copy.read_bytes()[:2] == b"\x1f\x8b"
        copy = copy.rename(copy.with_suffix(".gz")) if packed else copy  # by which IDX files are known
        try:
            yield copy
        except UserError as error:
            raise UserError(str(error).replace(str(copy), "standard input")) from None


def _copy_input(copy: Path) -> None:
    """Write standard input to a file. Raises UserError for more than memory has room for."""
    left = memory()
    with open(copy, "wb") as file:
        while chunk := sys.stdin.buffer.read(CHUNK):
            if (left := left - len(chunk)) < 0:
                raise UserError(f"standard input must have at most {memory():,} bytes")
            file.write(chunk)


def _kind(file: Path, path: Path) -> str:
    """What a file is by its first bytes: "picture", "npy", "gz" or "idx"."""
    with opened(file) as stream:
        start = stream.read(8)
    for magic, what in MAGIC.items():
        if start.startswith(magic):
            return what
    raise UserError(f"{'standard input' if str(path) == STDIN else path} must be a PNG, JPEG, .npy or IDX file")


def read_npy(path: Path) -> Any:
    """The array of an .npy file. Nothing is unpickled, and what its header promises must be there: no memory is taken
    for more. Raises UserError."""
    content = contents(path)
    stream = io.BytesIO(content)
    try:
        version = np.lib.format.read_magic(stream)
        header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = header(stream, max_header_size=HEADER)
        if dtype.hasobject or dtype.kind not in "buif":
            raise ValueError(f"it holds no numbers but {dtype}")
        promised, there = math.prod(shape) * dtype.itemsize, len(content) - stream.tell()
        if promised != there or min(shape, default=1) < 0:
            raise ValueError(f"its header promises {promised:,} bytes of numbers, there are {there:,}")
        array = np.frombuffer(content, dtype, offset=stream.tell()) if promised else np.empty(0, dtype)
        return array.reshape(shape, order="F" if fortran else "C")
    except Exception as error:  # whatever a damaged file makes of numpy
        raise UserError(f"{path}: cannot be read as an array: {' '.join(str(error).split())}") from None


def _images_of(path: Path, array: Any, height: int, width: int) -> Any:
    """An array as images in 256 grey levels, (n, height, width): rows of pixels are of the run's size."""
    if array.ndim == 2:
        array = array.reshape(-1, height, width) if array.shape[1] == height * width else array[None]
    if 0 in array.shape:
        raise UserError(f"{path}: has no images: its shape is {array.shape}")
    images = grey_levels(str(path), array, None)
    return np.ascontiguousarray(images)
