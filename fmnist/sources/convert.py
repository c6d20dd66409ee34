"""`python -m fmnist.data convert`: arrays and pictures as the IDX files that data=idx reads. No torch.

Arrays: an .npz, or a folder of .npy files as MNIST-C has them (Mu and Gilmer 2019, arXiv:1906.02337). Pictures: PNG or
JPEG files in a folder for each class. Labels that are whole numbers stay as they are. Names become 0, 1, ... in their
order, and classes.txt has them.
"""

import logging
import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageOps

from fmnist import UserError
from fmnist.program.files import replacing
from fmnist.program.reading import opened
from fmnist.sources.idx import MOST, find_exactly
from fmnist.sources.source import FILES, TEST, TRAIN

log = logging.getLogger(__name__)

PICTURES = (".png", ".jpg", ".jpeg")
ARRAYS = {  # part: how its images and labels may be named; "" is not parted
    "train": (("x_train", "y_train"), ("train_images", "train_labels")),
    "test": (("x_test", "y_test"), ("test_images", "test_labels")),
    "": (("images", "labels"), ("x", "y")),
}
FOLDERS = {"train": ("train", "training"), "test": ("test", "testing")}


class Part(NamedTuple):
    """images: (n, height, width) uint8; labels: (n,), whole numbers or names."""

    images: Any
    labels: Any


def convert(source: Path, target: Path, share: float | None, seed: int, size: tuple[int, int] | None) -> list[Path]:
    """Write IDX files, and return them. share: of images that are not parted, how many of each class are for testing.
    seed: of their choice, and of the order of training pictures. size: (height, width) of pictures, or of rows of
    numbers. Errors: UserError that names a file or an array, before anything is written; OSError."""
    if not source.exists():
        raise UserError(f"{source}: there is no such file or folder")
    if share is not None and not 0 < share < 1:
        raise UserError(f"--test-share must be in (0, 1), got {share:g}")
    pictures = source.is_dir() and not any(source.glob("*.npy"))
    if pictures and (inner := next(source.glob("*/*.npy"), None)):
        raise UserError(f"{source}: its folders have .npy files: name one of them, as in {inner.parent}")
    parts = _of_pictures(source, size, seed) if pictures else _of_arrays(source, size)
    if "test" in parts and share is not None:
        raise UserError(f"--test-share must be left out: {source} has test images of its own")
    if "test" not in parts:
        if share is None:
            raise UserError(f"{source}: has no images for testing: --test-share 0.2 sets a fifth of each class aside")
        (whole,) = parts.values()
        parts = parted(whole, share, seed)
    return _write(parts, target)


# --- arrays


def _of_arrays(source: Path, size: tuple[int, int] | None) -> dict[str, Part]:
    """The parts of an .npz, or of a folder of .npy files."""
    arrays, parts = _read_arrays(source), dict[str, Part]()
    others = set(arrays)
    for part, names in ARRAYS.items():
        pair = next((pair for pair in names if arrays.keys() >= {*pair}), None)
        if pair and (part or not parts):
            images, labels = grey_levels(pair[0], arrays[pair[0]], size), labels_of(pair[1], arrays[pair[1]])
            if len(images) != len(labels):
                raise UserError(f"{source}: {pair[0]} has {len(images)} images, but {pair[1]} {len(labels)} labels")
            parts[part] = Part(images, labels)
            others -= {*pair}
    if not parts:
        known = ", ".join(" and ".join(pair) for names in ARRAYS.values() for pair in names)
        raise UserError(f"{source}: has the arrays {', '.join(arrays) or 'none'}; must have {known}")
    _tell_of_others(others)
    return parts


def _read_arrays(source: Path) -> dict[str, Any]:
    """All arrays by their names in small letters."""
    found: dict[str, Any] = {}
    file = source
    try:
        if source.is_dir():
            for file in sorted(source.glob("*.npy")):
                found[file.stem.lower()] = np.load(file)
        else:
            with np.load(source) as archive:
                found = {name.lower(): archive[name] for name in archive.files}
    except Exception as error:  # whatever a damaged file makes of numpy
        raise UserError(f"{file}: cannot be read as arrays of numbers or text: {error}") from None
    return found


def grey_levels(name: str, array: Any, size: tuple[int, int] | None) -> Any:
    """Images as bytes, (n, height, width). Bytes stay as they are, and so do whole numbers in 0..255. Truth values, and
    fractions in [0, 1], are multiplied by 255 and rounded."""
    shape = array.shape
    if array.ndim == 4 and 1 in (shape[1], shape[3]):
        array = array.reshape(shape[0], *(shape[1:3] if shape[3] == 1 else shape[2:]))
    elif array.ndim == 2 and size and shape[1] == size[0] * size[1]:
        array = array.reshape(shape[0], *size)
    if array.ndim != 3 or not array.size or array.dtype.kind not in "buif":
        remedy = "grey images x height x width (--size HxW for images that are rows of numbers)"
        raise UserError(f"{name}: is {'x'.join(map(str, shape))} of type {array.dtype}, must be {remedy}")
    if array.dtype == np.uint8:
        return array
    low, high = float(array.min()), float(array.max())
    if array.dtype.kind in "bf" and 0 <= low <= high <= 1:
        return np.rint(array.astype(np.float64) * 255).astype(np.uint8)
    if 0 <= low <= high <= 255 and (array == np.rint(array)).all():
        return array.astype(np.uint8)
    levels = "grey levels, whole numbers in 0..255, or fractions in [0, 1]"
    raise UserError(f"{name}: its values are {low:g} to {high:g} of type {array.dtype}, must be {levels}")


def labels_of(name: str, array: Any) -> Any:
    """Labels (n,), as whole numbers or as names."""
    flat = array.reshape(-1) if array.ndim == 2 and array.shape[1] == 1 else array
    if flat.ndim == 1 and flat.dtype.kind in "USbui":
        return flat.astype(np.int64) if flat.dtype.kind in "bui" else flat.astype(str)
    if flat.ndim == 1 and flat.dtype.kind == "f" and (flat == np.rint(flat)).all():
        return flat.astype(np.int64)
    shape = "x".join(map(str, array.shape))
    raise UserError(f"{name}: is {shape} of type {array.dtype}, must be a whole number or a name for each image")


# --- pictures


def _of_pictures(source: Path, size: tuple[int, int] | None, seed: int) -> dict[str, Part]:
    """The parts of a folder of pictures: train/CLASS and test/CLASS, or CLASS. Those to train on are shuffled: sorted
    by class, the last of them, which validate, would be of few classes."""
    folders = {part: source / name for part, names in FOLDERS.items() for name in names if (source / name).is_dir()}
    listed = {part: _by_class(folder) for part, folder in (folders or {"": source}).items()}
    if folders:
        _tell_of_others(path for path in source.iterdir() if path not in folders.values())
    like = next(file for files in listed.values() for file, _ in files)
    height, width = size or grey(like).size[::-1]
    parts = {}
    for part, files in listed.items():
        order = range(len(files)) if part == "test" else np.random.default_rng(seed).permutation(len(files))
        images = np.stack([_pixels(files[place][0], (width, height), None if size else like) for place in order])
        parts[part] = Part(images, np.array([files[place][1] for place in order]))
    return parts


def _by_class(folder: Path) -> list[tuple[Path, str]]:
    """Pictures and the names of their classes, which are those of the folders that they are in."""
    found = []
    for inner in sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")):
        files = [path for path in sorted(inner.iterdir()) if path.suffix.lower() in PICTURES]
        if not files:
            raise UserError(f"{inner}: holds no PNG or JPEG files, as the folder of a class must")
        _tell_of_others(path for path in inner.iterdir() if path not in files)
        found += [(path, inner.name) for path in files]
    if not found:
        raise UserError(f"{folder}: holds no .npy files, and no folder of PNG or JPEG files for each class")
    return found


def _pixels(path: Path, size: tuple[int, int], like: Path | None) -> Any:
    """A picture as bytes (height, width). size: width and height that it is brought to, or has as another picture."""
    picture = grey(path)
    if like is None:
        picture = picture.resize(size, Image.Resampling.LANCZOS)
    elif picture.size != size:
        own, other = (f"{height}x{width}" for width, height in (picture.size, size))
        raise UserError(f"{path}: is {own}, but {like} is {other}: --size {other} brings all to one size")
    return np.asarray(picture)


def grey(path: Path, ground: Callable[[Image.Image], str] = lambda picture: "black") -> Image.Image:
    """A PNG or JPEG picture in 256 grey levels, upright; of 16 bits the upper 8. ground: the colour behind what is
    transparent, a function of the picture in RGBA. Raises UserError for a file that is none, or that has more pixels
    than Pillow takes for an honest picture."""
    try:
        with opened(path) as file, warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(file, formats=("PNG", "JPEG")) as found:
                picture = ImageOps.exif_transpose(found)
            if picture.mode.startswith("I;16"):
                return Image.fromarray((np.asarray(picture) >> 8).astype(np.uint8))
            if picture.has_transparency_data:
                picture = picture.convert("RGBA")
                picture = Image.alpha_composite(Image.new("RGBA", picture.size, ground(picture)), picture)
            return picture.convert("L")
    except UserError:
        raise
    except Exception as error:  # whatever a damaged file makes of Pillow
        raise UserError(f"{path}: cannot be read as a picture: {error}") from None


# --- the files


def _tell_of_others(paths: Iterable[Path | str]) -> None:
    """Say what is not converted."""
    if names := sorted(str(path) for path in paths if not Path(path).name.startswith(".")):
        log.warning("left out: %s%s", ", ".join(names[:5]), f" and {len(names) - 5} more" if len(names) > 5 else "")


def parted(whole: Part, share: float, seed: int) -> dict[str, Part]:
    """Images as two parts, of each class its share drawn for testing; each part in the order of the whole."""
    generator = np.random.default_rng(seed)
    testing = np.zeros(len(whole.labels), dtype=bool)
    for label in np.unique(whole.labels):
        rows = generator.permutation(np.flatnonzero(whole.labels == label))
        testing[rows[: min(round(len(rows) * share), len(rows) - 1)]] = True
    if not testing.any():
        raise UserError(f"--test-share {share:g} of {len(testing)} images leaves none for testing")
    return {part: Part(*(values[rows] for values in whole)) for part, rows in (("train", ~testing), ("test", testing))}


def _write(parts: Mapping[str, Part], target: Path) -> list[Path]:
    """Write all parts, or nothing."""
    files = dict(contents(parts))
    there = [find_exactly(target, "", name) for name in FILES] + list(target.glob("classes.txt"))
    if any(there):
        raise UserError(f"{target}: holds {next(filter(None, there)).name} already: choose another TARGET")
    target.mkdir(parents=True, exist_ok=True)
    written: list[Path] = []
    try:
        for name, content in files.items():
            with replacing(target / name, "wb") as stream:
                stream.write(content)
            written.append(target / name)
    except BaseException:
        for path in written:
            path.unlink()
        raise
    return written


def contents(parts: Mapping[str, Part]) -> Iterator[tuple[str, bytes]]:
    """Names and contents of all files."""
    sizes = {part: "x".join(map(str, images.shape[1:])) for part, (images, _) in parts.items()}
    if len(set(sizes.values())) > 1:
        raise UserError(f"images must have one size: {', '.join(f'{part} {size}' for part, size in sizes.items())}")
    given = {part: [str(label) for label in labels.tolist()] for part, (_, labels) in parts.items()}
    names = sorted(set().union(*given.values()))
    if "train" in given and (only := set(names) - set(given["train"])):
        raise UserError(f"class {min(only)} has images for testing only")
    if len(names) > MOST:
        raise UserError(f"there are {len(names)} different labels, at most {MOST} can be classes")
    numbers = {name: int(name) for name in names if re.fullmatch("0|-?[1-9][0-9]{0,8}", name)}
    if len(numbers) < len(names):
        numbers = {name: number for number, name in enumerate(names)}
        yield "classes.txt", "".join(f"{name}\n" for name in names).encode(errors="replace")
    wide = not all(0 <= number <= 255 for number in numbers.values())
    for part, (images, labels) in (("train", TRAIN), ("test", TEST)):
        if part in parts:
            yield images, _header(0x08, parts[part].images.shape) + parts[part].images.tobytes()
            values = np.array([numbers[name] for name in given[part]], ">i4" if wide else "u1")
            name = labels.replace("ubyte", "int") if wide else labels
            yield name, _header(0x0C if wide else 0x08, values.shape) + values.tobytes()


def _header(kind: int, shape: tuple[int, ...]) -> bytes:
    """The beginning of an IDX file of this type."""
    return bytes([0, 0, kind, len(shape)]) + b"".join(size.to_bytes(4, "big") for size in shape)
