"""What went wrong, as data: it can be sent between processes. Unlike an exception it does not keep the frames, and with
them the whole stack of runs, in memory."""

import errno
import os
import traceback
from dataclasses import dataclass

from fmnist import ESCAPES, UserError

SHORT = (errno.ENOMEM, errno.EMFILE, errno.ENFILE)  # of memory; of open files, in this process or on this machine
FULL = (errno.ENOSPC, errno.EDQUOT)  # a disk that is full, or at its quota
# A disk that is full, read-only, broken or, as NFS can be, interrupted; a machine with too many processes.
MACHINE = (*FULL, errno.EROFS, errno.EIO, errno.EINTR, errno.EAGAIN)
# What torch says where it raises no error of its own kind for it, and Python where there is no room for a thread.
TOO_LITTLE = (
    "can't allocate memory", "Cannot allocate memory", "not enough memory", "out of memory", "std::bad_alloc",
    "ALLOC_FAILED", "can't start new thread",
)  # fmt: skip
UNSTARTED = "worker processes can be started"  # told before the reason why there are too few


@dataclass(frozen=True)
class Trouble:
    """text: one line for a person. too_large: half of the runs may fit where all of them did not. trace: where it
    happened; "" for a user's mistake and for what this machine lacks, of which the line says all. mistake: whether it
    is a user's, the same for all runs of a stack."""

    text: str
    too_large: bool = False
    trace: str = ""
    mistake: bool = False


def trouble(error: BaseException) -> Trouble:
    """What an exception says."""
    if isinstance(error, UserError):
        return Trouble(str(error), mistake=True)
    large, first = _too_large(error), (str(error).splitlines() or [""])[0]
    text = f"{type(error).__name__}: {first}".removesuffix(": ")
    if isinstance(error, OSError):
        named = f"{error.filename}: {error.strerror}" if error.filename else text
        return Trouble(named.translate(ESCAPES), large)
    if large:
        return Trouble(f"too little memory ({text})", large)
    return Trouble(text, trace="".join(traceback.format_exception(error)))


def _too_large(error: BaseException) -> bool:
    """Whether it is about memory or open files: torch.OutOfMemoryError is a RuntimeError that says so, a library that
    cannot be mapped is an ImportError."""
    if isinstance(error, OSError):
        return error.errno in SHORT
    if isinstance(error, RuntimeError | ImportError):
        return any(words in str(error) for words in TOO_LITTLE)
    return isinstance(error, MemoryError)


def of_the_machine(text: str) -> bool:
    """Whether a failed run's last words are of a disk, of want of processes, or that no worker could be started: the
    run is not to blame, and may train another time."""
    return UNSTARTED in text or text.endswith(tuple(map(os.strerror, MACHINE)))


def ending(status: int) -> str:
    """How a process has ended: by a signal where its status is below 0."""
    return f"signal {-status}" if status < 0 else f"status {status}"


def died(how: str) -> str:
    """A run's last words where its worker died alone with it. how: "signal 9", say."""
    return f"its worker process died ({how})"


def of_a_kill(text: str) -> bool:
    """Whether a failed run's last words are that a signal has ended its worker."""
    return text.startswith(died("signal ")[:-1])


class Unmeasured(Exception):
    """A pace that could not be measured. too_large: with fewer runs or workers it may."""

    def __init__(self, text: str, too_large: bool = False) -> None:
        super().__init__(text)
        self.too_large = too_large
