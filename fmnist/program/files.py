"""Files that are written whole or not at all, and files that one process at a time may write. No torch."""

import errno
import fcntl
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

log = logging.getLogger(__name__)

LOCK = ".train.lock"  # in the directory of a run or a sweep: held by the command that trains there
NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)  # what file systems without locks answer
_told: set[int] = set()  # the devices of those of which a warning has said so


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Let an OSError within it name this file where it names none (a full disk) or a file to be renamed."""
    try:
        yield
    except OSError as error:
        if error.errno and str(error.filename or f"{path}.").startswith(f"{path}."):
            error.filename = str(path)
        raise


@contextmanager
def replacing(path: Path, mode: str = "w", writer: str = "") -> Iterator[IO[Any]]:
    """A file to write to that takes the place of `path` at the end: a crash leaves the old one or the new one.

    mode: "w" (UTF-8) or "wb". writer: a name that tells apart those who may write the same file at the same time.
    """
    part = path.with_name(f"{path.name}{writer and '.' + writer}.part")
    with naming(path):
        try:
            part.unlink(missing_ok=True)  # it may be a link, and what it leads to is not ours
            with open(part, mode, encoding=None if "b" in mode else "utf-8") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.replace(part, path)
            sync_folder(path.parent)
        except BaseException:
            with suppress(OSError):  # such as of a read-only file system: what is raised is the first error
                part.unlink()
            raise


def cache() -> Path | None:
    """The project's part of the user's cache folder, which may not be there yet; None without a home."""
    folder = os.environ.get("XDG_CACHE_HOME", "")
    folder = folder if os.path.isabs(folder) else os.path.expanduser("~/.cache")
    return Path(folder, "fmnist") if os.path.isabs(folder) else None


def sync_folder(folder: Path) -> None:
    """Make sure that the new name is on the disk, where the folder can be read and its file system can do that."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextmanager
def locked(path: Path, wait: bool = True, shared: bool = False) -> Iterator[int]:
    """Hold the lock of a file, which is made if it is not there: its descriptor. The end of the block or of the process
    releases it. shared: several processes may hold it so. wait: for another to release it; otherwise BlockingIOError is
    raised. A file system may have no locks, as Lustre is often mounted: then a warning says so once, and nothing is
    locked. NFS needs a writable descriptor.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
    try:
        try:
            fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB))
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise
            if (device := os.fstat(descriptor).st_dev) not in _told:
                _told.add(device)
                log.warning(f"{path.parent}: its file system knows no locks: let no two commands write there")
        yield descriptor
    finally:
        os.close(descriptor)
