"""The files of a data set: found or fetched, verified, kept for the next start.

No torch is imported here: these files are read in a thread while torch is imported, which takes as long.
IDX: two zero bytes, a byte for the type, the rank, a big-endian uint32 per dimension, then the values, big-endian too.
Fashion-MNIST: Xiao, Rasul and Vollgraf 2017, arXiv:1708.07747. QMNIST: Yadav and Bottou 2019, arXiv:1905.10498.
"""

import contextlib
import gzip
import hashlib
import logging
import math
import os
import re
import sys
import tempfile
import threading
import zlib
from array import array
from concurrent.futures import Future
from dataclasses import dataclass, replace
from pathlib import Path

from fmnist import ROOT, UserError
from fmnist.record.files import replacing
from fmnist.sources.mirrors import SOURCES

log = logging.getLogger(__name__)

DATA = ROOT / "data"
TYPES = {  # an IDX file's byte for its type: the type's name, its code in Python's array
    0x08: ("unsigned byte", "B"), 0x09: ("signed byte", "b"), 0x0B: ("short", "h"), 0x0C: ("int", "i"),
    0x0D: ("float", "f"), 0x0E: ("double", "d"),
}  # fmt: skip
QMNIST = 8  # numbers that QMNIST has for a label: the class, then who wrote the digit and where it comes from
FASHION = {  # file: SHA-256 of its decompressed bytes (those of a .gz depend on who packed it)
    "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}


@dataclass(frozen=True, eq=False)
class File:
    """path: where it was read or is kept. content: from `start` on, values of that shape, one unsigned byte each."""

    path: Path
    content: bytearray
    start: int
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Reading:
    """files: what is being read; keep: whether it may be taken more than once."""

    files: Future[dict[str, File]]
    keep: bool


_ahead: dict[tuple[str, str | None], Reading] = {}


def files(name: str, dir: str | None) -> dict[str, File]:
    """The four files of a data set, "fashion" or "idx", by Fashion-MNIST's names for them. Errors: UserError."""
    begun = _ahead.get((name, dir))
    if begun is None:
        return _files(name, dir)
    if not begun.keep:
        del _ahead[name, dir]
    return begun.files.result()


def read_ahead(name: str, dir: str | None, keep: bool = False) -> None:
    """Begin to read, in a thread, the data set that `files` will be asked for.

    keep: `files` will be asked for it more than once. It is read and verified once, and kept until another data set is
    to be kept. Errors: none here; `files` raises them.
    """
    if keep and (name, dir) in _ahead:
        return
    if keep:
        _ahead.clear()
    future: Future[dict[str, File]] = Future()

    def read() -> None:
        try:
            future.set_result(_files(name, dir))
        except BaseException as error:
            future.set_exception(error)

    _ahead[name, dir] = Reading(future, keep)
    threading.Thread(target=read, daemon=True).start()  # a daemon: after Ctrl-C, nobody waits for a download


def _files(name: str, dir: str | None) -> dict[str, File]:
    return fashion(dir) if name == "fashion" else idx(dir)


def fetch_missing(name: str, dir: str | None) -> None:
    """Fetch what is not at hand, before several processes ask for it at the same time.

    Errors: none here; those processes meet the same one and raise it.
    """
    root = DATA if dir is None else Path(os.path.expanduser(dir))
    if name == "fashion" and not all(find(root / "fashion-mnist", file) or find(root, file) for file in FASHION):
        with contextlib.suppress(UserError):
            fashion(dir)


def find(folder: Path, name: str) -> Path | None:
    """The file that a folder has under an official name or a common variant of it; a raw one rather than a .gz."""
    part, kind, *_ = name.split("-")
    part = "t10k|test" if part == "t10k" else part
    pattern = re.compile(rf"({part})[-_. ]{kind}([-_. ]idx\d[-_. ](ubyte|byte|short|int|float|double))?(\.gz)?")
    found = [path for path in folder.glob(f"*{kind}*") if pattern.fullmatch(path.name) and path.is_file()]
    return min(found, key=lambda path: (path.suffix == ".gz", path.name != name, path.name), default=None)


def read_file(folder: Path, name: str, sha256: str | None) -> File:
    """Read and check one file of a folder; shape (n, height, width) or (n,). Errors: UserError."""
    path = find(folder, name)
    if path is None:
        other = f" or {name.replace('t10k', 'test')}" if name.startswith("t10k") else ""
        raise UserError(f"{folder}: holds no {name}{other}, raw or .gz")
    try:
        if path.suffix == ".gz":
            content = bytearray(gzip.decompress(path.read_bytes()))
        else:
            content = bytearray(path.stat().st_size)  # filled in place: 47 MB are not copied twice
            with open(path, "rb") as stream:
                del content[stream.readinto(content) :]
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path}: cannot be read: {error}") from error
    start, shape = _header(path, content, "images" in name)
    if sha256 and (found := hashlib.sha256(content).hexdigest()) != sha256:
        raise UserError(f"{path}: not Fashion-MNIST's: SHA-256 {found[:12]}..., must be {sha256[:12]}...")
    if "labels" in name and (content[2] != 0x08 or len(shape) > 1):
        return File(path, _one_byte_each(path, content, start, shape), 0, shape[:1])
    return File(path, content, start, shape)


def _header(path: Path, content: bytearray, images: bool) -> tuple[int, tuple[int, ...]]:
    """Where an IDX file's values start, and their shape. Errors: UserError for a file that is not as it must be."""
    ranks, what = ((3,), "unsigned bytes in three dimensions") if images else ((1, 2), "integers in one dimension")
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
        fault = "truncated" if len(content) < size else "trailing bytes"
        raise UserError(f"{path}: {fault}: {len(content)} bytes, must be {size} by its header")
    if 0 in shape:
        raise UserError(f"{path}: empty: its header says {'x'.join(map(str, shape))}")
    if not images and shape[1:] not in ((), (QMNIST,)):
        raise UserError(f"{path}: {shape[1]} numbers for a label, must be 1, or {QMNIST} as QMNIST has them")
    return start, shape


def _one_byte_each(path: Path, content: bytearray, start: int, shape: tuple[int, ...]) -> bytearray:
    """The classes that a file of labels has in another integer type, or beside other numbers, as (n,) bytes."""
    labels = array(TYPES[content[2]][1], bytes(content[start:]))
    if sys.byteorder == "little":
        labels.byteswap()
    classes = labels[:: math.prod(shape[1:])]
    if min(classes) < 0 or max(classes) > 255:
        raise UserError(f"{path}: labels are {min(classes)} to {max(classes)}, must be in 0..255")
    return bytearray(classes.tolist())


def _keep(file: File, target: Path) -> File:
    """Write a verified file to the cache, whole or not at all. Errors: none; without a cache, it is fetched again."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with replacing(target, "wb", writer=str(os.getpid())) as stream:
            stream.write(file.content)
    except OSError as error:
        log.warning("%s cannot be kept for the next start: %s", target, error.strerror)
        return file
    return replace(file, path=target)


def _folder(dir: str) -> Path:
    if not os.path.isdir(folder := os.path.expanduser(dir)):
        raise UserError(f"data.dir must be an existing folder, got {dir!r}")
    return Path(folder)


def idx(dir: str | None) -> dict[str, File]:
    """The four files of any IDX data set, by Fashion-MNIST's names for them. Errors: UserError."""
    if dir is None:
        raise UserError("data.dir must name the folder of the IDX files with data=idx, got null")
    return {name: read_file(_folder(dir), name, None) for name in FASHION}


def fashion(dir: str | None) -> dict[str, File]:
    """Fashion-MNIST's four files by name, verified, fetched if need be.

    A bad file in fashion-mnist/, which this project wrote, is replaced. A bad file in `dir` itself is the user's and is
    refused. Errors: UserError.
    """
    root = DATA if dir is None else _folder(dir)
    cache = root / "fashion-mnist"
    files: dict[str, File] = {}
    for name, sha256 in FASHION.items():
        if (file := _cached(cache, name)) is None and dir is not None and find(root, name):
            file = read_file(root, name, sha256)
        if file is not None:
            files[name] = _keep(file, cache / name) if file.path.suffix == ".gz" else file
    tried = []
    for source, fetch in SOURCES.items():
        if not (missing := [name for name in FASHION if name not in files]):
            break
        log.info("Fashion-MNIST: %d files are missing; looking for them in %s", len(missing), source)
        try:
            # After Ctrl-C, a download may still be writing when its folder is removed.
            with tempfile.TemporaryDirectory(prefix="fashion-mnist-", ignore_cleanup_errors=True) as scratch:
                folder = fetch(Path(scratch))
                fetched = {name: read_file(folder, name, FASHION[name]) for name in missing}
        except (UserError, OSError) as error:
            tried.append(f"{source}: {' '.join(str(error).split())}")
        else:
            files |= {name: _keep(file, cache / name) for name, file in fetched.items()}
    if len(files) < len(FASHION):
        remedy = f"put its four IDX files, raw or .gz, into {cache}"
        raise UserError(f"Fashion-MNIST is not in {root} and cannot be fetched ({'; '.join(tried)}): {remedy}")
    return files


def _cached(cache: Path, name: str) -> File | None:
    """The cache's file, None if it has no good one. A bad one is renamed, so that a good one can take its place."""
    while path := find(cache, name):
        try:
            return read_file(cache, name, FASHION[name])
        except UserError as error:
            if getattr(error.__cause__, "errno", None) is not None:  # the system's refusal: the file may well be good
                raise
            log.warning("%s; renamed to %s.bad, to be fetched again", error, path.name)
        try:
            os.replace(path, f"{path}.bad")
        except OSError:
            break
    return None
