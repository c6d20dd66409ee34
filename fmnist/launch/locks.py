"""One command at a time trains in a directory: any other is told which one. No torch.

The lock is a file in the directory of the run or of the sweep. Its holder writes into it who it is. The file stays
there when the command ends, as one that is killed leaves it: what counts is whether a process holds its lock.
"""

import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from fmnist import UserError
from fmnist.launch.runs import make_folder
from fmnist.program.files import LOCK, locked

SHOWN = 200  # characters of what the file says
_ours: set[str] = set()  # the directories whose locks this process holds


@contextmanager
def alone(directory: Path) -> Iterator[None]:
    """Keep other commands from training in a directory, which is made if it is not there. The end of the block or of
    the process lets them in. The process that holds the lock may enter again.

    Raises UserError, which says who trains there, and OSError where the file cannot be written. Where the file system
    has no locks nobody is kept out: see `locked`.
    """
    place = os.path.realpath(directory)
    if place in _ours:
        yield
        return
    make_folder(directory)
    with ExitStack() as holding:
        with _told_who(directory):
            descriptor = holding.enter_context(locked(directory / LOCK, wait=False))
        who = f"process {os.getpid()} on {os.uname().nodename}, since {time.strftime('%Y-%m-%d %H:%M:%S')}".encode()
        with suppress(OSError):  # such as a full disk
            os.pwrite(descriptor, who, 0)
            os.ftruncate(descriptor, len(who))
        _ours.add(place)
        holding.callback(_ours.discard, place)
        yield


def check_free(*directories: Path) -> None:
    """Raise UserError, which says who, if another command trains in one of the directories. Nothing is written."""
    for directory in directories:
        file = directory / LOCK
        if os.path.exists(file) and os.path.realpath(directory) not in _ours:
            with suppress(OSError), _told_who(directory), locked(file, wait=False, shared=True):
                pass  # shared: several commands may ask at the same time


@contextmanager
def _told_who(directory: Path) -> Iterator[None]:
    """Say who holds the lock of a directory, where it cannot be had."""
    try:
        yield
    except BlockingIOError:
        with open(directory / LOCK, encoding="utf-8", errors="replace") as file:
            who = file.read(SHOWN)
        told = f": {who}" if who and who.isprintable() else ""  # it has the lock, and has not yet written who it is
        raise UserError(f"another command is training in {directory}{told}") from None
