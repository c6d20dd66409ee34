"""The files of a data set: found or fetched, verified, kept for the next start.

No torch is imported here: these files are read in a thread while torch is imported, which takes as long.
Fashion-MNIST: Xiao, Rasul and Vollgraf 2017, arXiv:1708.07747.
"""

import contextlib
import glob
import logging
import os
import tempfile
import threading
from concurrent.futures import Future
from dataclasses import dataclass, replace
from pathlib import Path

from fmnist import ROOT, UserError
from fmnist.program.files import replacing
from fmnist.sources import sums
from fmnist.sources.idx import File, find_exactly, read, read_file
from fmnist.sources.mirrors import SOURCES
from fmnist.sources.source import FILES, Source, digest_of, joined, test_set_of

log = logging.getLogger(__name__)

DATA = ROOT / "data"
SUMS = (  # of Fashion-MNIST's files: SHA-256 of their decompressed bytes (those of a .gz depend on who packed it)
    "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
)
FASHION = dict(zip(FILES, SUMS, strict=True))
NAMES: tuple[str, ...] = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat")
NAMES += ("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")


@dataclass(frozen=True)
class Reading:
    """source: what is being read; keep: whether it may be taken more than once."""

    source: Future[Source]
    keep: bool

    @property
    def failed(self) -> bool:
        """Whether it is over, with an error."""
        return self.source.done() and self.source.exception() is not None


_ahead: dict[tuple[str, str | None], Reading] = {}


def files(name: str, dir: str | None) -> Source:
    """A data set, "fashion" or "idx". Errors: UserError; after one, the next call reads again."""
    begun = _ahead.get((name, dir))
    if begun is None:
        return _read(name, dir)
    try:
        return begun.source.result()
    finally:
        if not begun.keep or begun.failed:
            _ahead.pop((name, dir), None)


def read_ahead(name: str, dir: str | None, keep: bool = False) -> None:
    """Begin to read, in a thread, the data set that `files` will be asked for.

    keep: `files` will be asked for it more than once. It is read and verified once, and kept until another data set is
    to be kept. Errors: none here; `files` raises them.
    """
    begun = _ahead.get((name, dir))
    if keep and begun and not begun.failed:
        return
    if keep:
        _ahead.clear()
    future: Future[Source] = Future()

    def read() -> None:
        try:
            future.set_result(_read(name, dir))
        except BaseException as error:
            future.set_exception(error)

    _ahead[name, dir] = Reading(future, keep)
    threading.Thread(target=read, daemon=True).start()  # a daemon: after Ctrl-C, nobody waits for a download


def _read(name: str, dir: str | None) -> Source:
    if name == "fashion":
        return joined(fashion(dir), None, NAMES)
    found = joined(idx(dir), place(dir))
    sums.keep()
    return found


def digest(name: str, dir: str | None) -> str:
    """Which bytes a data set is, as `Source.digest`; what is known of them is not read again. Errors: UserError."""
    return sums.short(*FASHION.values()) if name == "fashion" else digest_of(place(dir))


def fetch_missing(name: str, dir: str | None) -> None:
    """Fetch what is not at hand, before several processes ask for it at the same time.

    Errors: none here; those processes meet the same one and raise it.
    """
    root = DATA if dir is None else Path(os.path.expanduser(dir))
    there = (find_exactly(root / "fashion-mnist", "", file) or find_exactly(root, "", file) for file in FASHION)
    if name == "fashion" and not all(there):
        with contextlib.suppress(UserError):
            fashion(dir)


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


def place(dir: str | None, knob: str = "data.dir") -> Path:
    """Where IDX files are, as `find` takes it. Errors: UserError that names the knob where nothing is there."""
    if dir is None:
        raise UserError(f"{knob} must name the folder of the IDX files with data=idx, got null")
    path = os.path.expanduser(dir)
    if os.path.isdir(path) or glob.glob(f"{glob.escape(path)}[-_. ]*"):
        return Path(path)
    raise UserError(f"{knob} must be an existing folder, got {dir!r}")


def idx(dir: str | None) -> dict[str, File]:
    """The four files of any IDX data set, by Fashion-MNIST's names for them. Errors: UserError."""
    return {name: read_file(place(dir), name, None) for name in FASHION}


def test_set(dir: str, labels: tuple[int, ...], names: tuple[str, ...]) -> tuple[File, File]:
    """See `test_set_of`."""
    return test_set_of(place(dir, "--test"), labels, names)


def fashion(dir: str | None) -> dict[str, File]:
    """Fashion-MNIST's four files by name, verified, fetched if need be.

    A bad file in fashion-mnist/, which this project wrote, is replaced. A bad file in `dir` itself is the user's and is
    refused. Errors: UserError.
    """
    root = DATA if dir is None else _folder(dir)
    cache = root / "fashion-mnist"
    files: dict[str, File] = {}
    for name, sha256 in FASHION.items():
        if (file := _cached(cache, name)) is None and dir is not None and (path := find_exactly(root, "", name)):
            file = read(path, "images" in name, sha256)
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
    while path := find_exactly(cache, "", name):
        try:
            return read(path, "images" in name, FASHION[name])
        except UserError as error:
            if getattr(error.__cause__, "errno", None) is not None:  # the system's refusal: the file may well be good
                raise
            log.warning("%s; renamed to %s.bad, to be fetched again", error, path.name)
        try:
            os.replace(path, f"{path}.bad")
        except OSError:
            break
    return None
