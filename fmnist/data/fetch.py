"""The files of a data set: found or fetched, verified, kept for the next start. No torch: it can be read meanwhile.

IDX: two zero bytes, a type byte (8: unsigned), the rank, a big-endian uint32 per dimension, then the values.
Fashion-MNIST: Xiao, Rasul and Vollgraf 2017, arXiv:1708.07747.
"""

import contextlib
import gzip
import hashlib
import io
import logging
import math
import os
import re
import subprocess
import tempfile
import threading
import zlib
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from fmnist import ROOT, UserError
from fmnist.record.files import replacing

log = logging.getLogger(__name__)

DATA = ROOT / "data"
SYSTEM = Path("/usr/share/datasets/fashion-mnist")  # where the Debian package puts its files
PACKAGE = "dataset-fashion-mnist"
PATIENCE = 8.0  # seconds without one new byte after which a download counts as hanging
FASHION = {  # file: SHA-256 of its decompressed bytes (those of a .gz depend on who packed it)
    "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}


@dataclass(frozen=True, eq=False)
class File:
    """path: where it was read or is kept; content: its decompressed bytes, values of that shape from `start` on."""

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
    """Begin to read in a thread what `files` will be asked for, while something else, such as an import, takes time.

    keep: it will be asked for again: read and verify it once, and keep it until another data set is to be kept.
    """
    if keep and (name, dir) in _ahead:
        return
    if keep:
        _ahead.clear()
    pool = ThreadPoolExecutor(1)
    _ahead[name, dir] = Reading(pool.submit(_files, name, dir), keep)
    pool.shutdown(wait=False)


def _files(name: str, dir: str | None) -> dict[str, File]:
    return fashion(dir) if name == "fashion" else idx(dir)


def fetch_missing(name: str, dir: str | None) -> None:
    """Fetch what is not at hand, before several processes ask for it at the same time. They tell what goes wrong."""
    root = DATA if dir is None else Path(dir)
    if name == "fashion" and not all(_find(root / "fashion-mnist", file) or _find(root, file) for file in FASHION):
        with contextlib.suppress(UserError):
            fashion(dir)


def _find(folder: Path, name: str) -> Path | None:
    """The file a folder holds under an official name or a common variant of it; raw before .gz."""
    part, kind, rank, _ = name.split("-")
    part = "t10k|test" if part == "t10k" else part
    pattern = re.compile(rf"({part})[-_. ]{kind}([-_. ]{rank}[-_. ]ubyte)?(\.gz)?")
    found = [path for path in folder.glob(f"*{kind}*") if pattern.fullmatch(path.name) and path.is_file()]
    return min(found, key=lambda path: (path.suffix == ".gz", path.name != name, path.name), default=None)


def _read(folder: Path, name: str, sha256: str | None) -> File:
    """Read and check one file of a folder; shape (n, height, width) or (n,). Errors: UserError."""
    path = _find(folder, name)
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
    rank = 3 if "images" in name else 1
    start = 4 + 4 * rank
    if len(content) < start:
        raise UserError(f"{path}: truncated: {len(content)} bytes, its header alone must have {start}")
    if content[:4] != bytes((0, 0, 8, rank)):
        raise UserError(f"{path}: wrong magic {content[:4].hex()}, must be 000008{rank:02x} (IDX of bytes)")
    shape = [int.from_bytes(content[at : at + 4], "big") for at in range(4, start, 4)]
    if len(content) != (size := start + math.prod(shape)):
        fault = "truncated" if len(content) < size else "trailing bytes"
        raise UserError(f"{path}: {fault}: {len(content)} bytes, must be {size} by its header")
    if size == start:
        raise UserError(f"{path}: empty: its header says {'x'.join(map(str, shape))}")
    if sha256 and (found := hashlib.sha256(content).hexdigest()) != sha256:
        raise UserError(f"{path}: not Fashion-MNIST's: SHA-256 {found[:12]}..., must be {sha256[:12]}...")
    return File(path, content, start, tuple(shape))


def _keep(file: File, target: Path) -> File:
    """Write a verified file to the cache, whole or not at all; a cache that cannot be written is no error."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with replacing(target, "wb", writer=str(os.getpid())) as stream:
            stream.write(file.content)
    except OSError as error:
        log.warning("%s cannot be kept for the next start: %s", target, error.strerror)
        return file
    return replace(file, path=target)


def _folder(dir: str) -> Path:
    if not (folder := Path(dir).expanduser()).is_dir():
        raise UserError(f"data.dir must be an existing folder, got {dir!r}")
    return folder


def idx(dir: str | None) -> dict[str, File]:
    """The four files of any IDX data set, by Fashion-MNIST's names for them. Errors: UserError."""
    if dir is None:
        raise UserError("data.dir must name the folder of the IDX files with data=idx, got null")
    return {name: _read(_folder(dir), name, None) for name in FASHION}


def fashion(dir: str | None) -> dict[str, File]:
    """Fashion-MNIST's four files by name, verified, fetched if need be.

    What lies in fashion-mnist/ is ours to mend; what lies in `dir` is not. Errors: UserError.
    """
    root = DATA if dir is None else _folder(dir)
    cache = root / "fashion-mnist"
    files: dict[str, File] = {}
    for name, sha256 in FASHION.items():
        if (file := _cached(cache, name)) is None and dir is not None and _find(root, name):
            file = _read(root, name, sha256)
        if file is not None:
            files[name] = _keep(file, cache / name) if file.path.suffix == ".gz" else file
    tried = []
    for source, fetch in SOURCES.items():
        if not (missing := [name for name in FASHION if name not in files]):
            break
        log.info("Fashion-MNIST: looking for %d files, %s", len(missing), source)
        # An abandoned download may still be writing when its folder is removed.
        with tempfile.TemporaryDirectory(prefix="fashion-mnist-", ignore_cleanup_errors=True) as scratch:
            try:
                folder = fetch(Path(scratch))
                fetched = [_read(folder, name, FASHION[name]) for name in missing]
            except (UserError, OSError, ImportError, subprocess.SubprocessError) as error:
                tried.append(f"{source}: {' '.join(str(error).split())}")
            else:
                files |= {key: _keep(file, cache / key) for key, file in zip(missing, fetched, strict=True)}
    if len(files) < len(FASHION):
        remedy = f"put its four IDX files, raw or .gz, into {cache}"
        raise UserError(f"Fashion-MNIST is not in {root} and not to be had ({'; '.join(tried)}): {remedy}")
    return files


def _cached(cache: Path, name: str) -> File | None:
    """The cache's file, None if it has no good one; a bad one is set aside so that a good one can follow."""
    while path := _find(cache, name):
        try:
            return _read(cache, name, FASHION[name])
        except UserError as error:
            log.warning("%s; set aside as %s.bad, to be fetched again", error, path.name)
        try:
            os.replace(path, f"{path}.bad")
        except OSError:
            break
    return None


def _mirrors(scratch: Path) -> Path:
    """Torchvision's downloader has no time limit anywhere: it works in a thread that is left if it hangs."""
    from torchvision.datasets import FashionMNIST

    failures: list[Exception] = []

    def download() -> None:
        try:
            FashionMNIST(scratch, download=True)
        except Exception as error:
            failures.append(error)

    worker = threading.Thread(target=download, daemon=True)
    before, now = -1, 0
    with contextlib.redirect_stderr(io.StringIO()):  # one progress bar per file
        worker.start()
        while worker.is_alive() and before < now:
            worker.join(PATIENCE)
            before, now = now, sum(path.stat().st_size for path in scratch.rglob("*.gz"))
    if worker.is_alive():
        raise OSError(f"no answer within {PATIENCE:g} s")
    if failures:
        raise OSError(str(failures[0]))
    return scratch / "FashionMNIST" / "raw"


def _package(scratch: Path) -> Path:
    """Download and unpack the Debian package without installing it: that needs no root."""

    def run(*command: str) -> None:
        done = subprocess.run(command, cwd=scratch, capture_output=True, text=True, timeout=300)
        if done.returncode:
            raise OSError((done.stderr.strip() or f"{command[0]} failed").splitlines()[-1])

    apt_get = ("apt-get", "-q", "-o", "Acquire::http::Timeout=10", "-o", "Acquire::https::Timeout=10")
    try:
        run(*apt_get, "download", PACKAGE)
    except OSError:
        if os.geteuid() != 0:
            raise
        run(*apt_get, "update")  # a fresh container has no package lists yet
        run(*apt_get, "download", PACKAGE)
    run("dpkg-deb", "-x", *(path.name for path in scratch.glob("*.deb")), ".")
    return scratch / SYSTEM.relative_to("/")


SOURCES: dict[str, Callable[[Path], Path]] = {  # each gets a scratch folder and returns where its files are
    "the system's copy": lambda scratch: SYSTEM,
    "the official mirrors": _mirrors,
    "the Debian package": _package,
}
