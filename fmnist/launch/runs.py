"""What launchers write into the directories of runs: lines of their logs, and that nobody trains them any more."""

import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from fmnist import UserError
from fmnist.launch.trouble import FULL, trouble
from fmnist.mirror.mirror import erase
from fmnist.program.files import naming, sync_folder
from fmnist.record.result import Outcome, read_result, write_result

LOG = "train.log"  # as Hydra names it, by conf/config.yaml
LOG_FORMAT = "[%(asctime)s] %(message)s"  # as there: a run's log looks the same however it was started


def make_folder(path: Path) -> None:
    """Make a folder, and those above it that are missing. Their names are on the disk then: without its name, a folder
    is lost with all that is in it."""
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    path.mkdir(parents=True, exist_ok=True)
    for folder in missing:
        sync_folder(folder.parent)


class RunLog(logging.Handler):
    """Appends lines to a file that is open only meanwhile: thousands of runs must not hold a descriptor each.

    Tracebacks are left out: what a stack stumbles over is no run's failure until none of its halves can be trained.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path, self.broken = path, False
        self.setFormatter(logging.Formatter(LOG_FORMAT))

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line. Where that fails, say so once: training goes on."""
        if record.exc_info:
            return
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with open(self.path, "a", encoding="utf-8", errors="backslashreplace") as file:
                file.write(self.format(record) + "\n")
        except OSError as error:
            if not self.broken:
                print(f"warning: {self.path} cannot be written: {error.strerror}", file=sys.stderr)
            self.broken = True


def run_log(directory: Path) -> logging.Logger:
    """A logger that writes to a run's train.log, and nowhere else."""
    log = logging.Logger("train", logging.INFO)
    log.addHandler(RunLog(directory / LOG))
    return log


def correct(directory: Path, status: str, reason: str | None, was: Sequence[str] = ("running",)) -> None:
    """Correct the record of a run that nobody trains any more. was: the states that are wrong.

    On a full disk TensorBoard's mirror makes room: it is made anew when the run goes on. A record that cannot be read
    or written stays as it is.
    """
    with suppress(UserError, OSError, AttributeError):  # the last where its metrics are no dict
        result = read_result(directory)
        if result is None or result["status"] not in was:
            return
        result |= {"status": status, "error": reason}
        try:
            write_result(directory, result)
        except OSError:
            erase(directory)
            write_result(directory, result)


@contextmanager
def corrected(directory: Path) -> Iterator[None]:
    """Correct the record of the run that is trained within it, where it could not be closed: for want of room, or
    because a second signal came while it was opened or closed."""
    try:
        yield
    except OSError as error:
        correct(directory, "failed", trouble(error).text)
        raise
    except SystemExit:
        correct(directory, "interrupted", None)
        raise


@contextmanager
def reason_last() -> Iterator[None]:
    """Within it the console is not told why a run has failed, but its log is: the command's last line says it."""
    consoles = [each for each in logging.getLogger().handlers if not isinstance(each, logging.FileHandler)]

    def kept(record: logging.LogRecord) -> bool:
        return not record.getMessage().startswith("failed: ")

    for console in consoles:
        console.addFilter(kept)
    try:
        yield
    finally:
        for console in consoles:
            console.removeFilter(kept)


def give_up(directory: Path, status: str, reason: str, trace: str = "") -> Outcome:
    """End a run for something that happened around it: its log says what, and its record no longer that it trains.

    trace: where it happened, for the log.
    """
    log = run_log(directory)
    if trace:
        log.error("%s", trace.rstrip())
    log.error("error: %s", reason)
    correct(directory, status, reason, was=("running", "interrupted"))
    return Outcome(None, {}, reason)


@contextmanager
def writing_to(knob: str, directory: Path) -> Iterator[None]:
    """Raise UserError, which names the knob, where the directory that it sets cannot be written to. A full disk is no
    mistake of the knob's: that OSError stays one."""
    try:
        with naming(directory):
            yield
    except OSError as error:
        if error.errno in FULL:
            raise
        raise UserError(f"{knob} must be a folder to write to, got {directory}: {error.strerror}") from None


@contextmanager
def one_line() -> Iterator[None]:
    """End the command in one line: with status 2 for a user's mistake, 1 for a file that cannot be read or written."""
    try:
        yield
    except (UserError, OSError) as error:
        if isinstance(error, OSError) and error.errno is None:  # Hydra's MissingConfigException is one
            raise
        print(f"error: {trouble(error).text}", file=sys.stderr)
        raise SystemExit(2 if isinstance(error, UserError) else 1) from None
