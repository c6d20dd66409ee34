"""Files of strangers: opened only where they are plain files, and read only as far as they should go."""

import gzip
import json
import os
import resource
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import chain
from pathlib import Path
from typing import IO, Any

from fmnist import UserError

DEEPEST = 20  # JSON within JSON


def memory() -> int:
    """Bytes that this process can have at most: the machine's memory, or the limit of the process."""
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    return machine if limit == resource.RLIM_INFINITY else min(limit, machine)


@contextmanager
def opened(path: Path, most: int | None = None) -> Iterator[IO[bytes]]:
    """A file to be read. Raises UserError where it has more than `most` bytes (None: than memory has), and where it is
    no plain file: a pipe or a device may never end. Raises OSError where it cannot be opened."""
    with open(path, "rb", opener=_without_waiting) as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise UserError(f"{path} must be a plain file")
        check_size(path, status.st_size, memory() if most is None else most)
        yield file


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)  # a pipe that nobody writes to


def check_size(path: Path, size: int, most: int) -> None:
    """Raise UserError where a file has more bytes than it may have."""
    if size > most:
        raise UserError(f"{path} must have at most {most:,} bytes, got {size:,} or more")


def contents(path: Path, most: int | None = None) -> bytes:
    """The bytes of a file. Errors: those of `opened`."""
    with opened(path, most) as file:
        return file.read()


def gunzipped(path: Path, most: int) -> bytes:
    """The bytes of a gzip file, at most so many when they are unpacked. Errors: those of `opened` and of gzip."""
    with opened(path, most) as packed, gzip.GzipFile(fileobj=packed) as stream:
        content = stream.read(most + 1)
    check_size(path, len(content), most)
    return content


def parsed(content: bytes) -> Any:
    """JSON. Raises ValueError where it is none, and where it is nested deeper than any file of ours."""
    try:
        found = level = json.loads(content.decode())
    except RecursionError:
        raise ValueError("nested too deeply") from None
    level = [found]
    for _ in range(DEEPEST):
        if not level:
            return found
        inner = (each.values() if isinstance(each, dict) else each for each in level if isinstance(each, dict | list))
        level = [*chain.from_iterable(inner)]
    raise ValueError("nested too deeply")


def numeric(values: Iterable[Any]) -> bool:
    """Whether all are numbers as records have them: also nan and infinity, but no whole number that is no float."""
    return all(type(value) is float or (type(value) is int and abs(value) < 1 << 53) for value in values)


def _within(path: Path) -> Iterator[Path]:
    """A path and all below it. It is asked for what is below a path only when that is known to be no link."""
    yield path
    for folder, folders, files in os.walk(path):
        yield from (Path(folder, name) for name in (*folders, *files))


def check_plain(directory: Path, names: Iterable[str]) -> None:
    """Raise UserError where a name in a directory, or a name below it, is of something else than a file or a folder. A
    link leads elsewhere: what is written to it would change another's files. One could wait for a pipe for ever."""
    for path in chain.from_iterable(map(_within, map(directory.joinpath, names))):
        with suppress(OSError):  # what is not there, and what may not be seen: nothing is written to it
            mode = path.lstat().st_mode
            if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
                raise UserError(f"{path} must be a plain file or folder, and is a link, a pipe or a device: remove it")
