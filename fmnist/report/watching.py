"""A report that is kept up to date while its runs are trained."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from fmnist import UserError
from fmnist.program.files import LOCK, locked
from fmnist.program.output import printable
from fmnist.record.result import read_result
from fmnist.report.comparison import find
from fmnist.report.page import Page, compose

EVERY = 5.0  # seconds between two looks
SHARE = 0.2  # of the time, at most, goes into looking and drawing
QUIET = 120.0  # seconds after which a run that says it trains, and has written nothing, counts as killed


class Runs:
    """The runs in or below some directories, and how they stand."""

    def __init__(self, directories: Sequence[Path]) -> None:
        self.directories = directories
        self.known: dict[Path, tuple[tuple[int, int, int], str]] = {}  # only what has changed is read again
        self.latest = 0.0  # when a run that trains has last written its record, in seconds since 1970

    def statuses(self) -> dict[Path, str]:
        """Of each run the status that its record has. None yet is none: {}."""
        before, self.known, self.latest = self.known, {}, 0.0
        try:
            directories = find(self.directories)
        except UserError:
            return {}
        for directory in directories:
            try:
                file = (directory / "result.json").stat()
                version = (file.st_mtime_ns, file.st_ino, file.st_size)
                known = before.get(directory)
                status = known[1] if known and known[0] == version else str((read_result(directory) or {})["status"])
            except (UserError, OSError, KeyError):
                continue
            self.known[directory] = version, status
            if status == "running":
                self.latest = max(self.latest, file.st_mtime)
        return {directory: status for directory, (_, status) in self.known.items()}

    def in_training(self) -> bool:
        """Whether a command trains in these directories, around or below them. To be asked before `statuses`: what ends
        in between is then seen."""
        around = {place for directory in self.directories for place in (directory, *directory.resolve().parents)}
        below = {place for directory in self.known for place in (directory, directory.parent)}
        if any(_is_held(place / LOCK) for place in around | below):
            return True
        return time.time() - self.latest < QUIET  # on another machine, whose locks are not seen here


def _is_held(file: Path) -> bool:
    """Whether a command holds a lock. One that may not be asked for counts as free."""
    try:
        if file.is_file():
            with locked(file, wait=False, shared=True):
                pass
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def watch(
    directories: Sequence[Path], output: Path, baseline: Sequence[str] = (), command: str = "", every: float = EVERY,
    say: Callable[[str], object] = print, pause: Callable[[float], object] = time.sleep,
) -> None:  # fmt: skip
    """Write the report anew whenever a run has begun or ended, until no command trains there any more, or Ctrl-C.

    Meanwhile the page loads itself again. every: seconds between two looks. say: is told the main points in one line.
    Raises UserError where a report of what there is in the end would. What cannot be reported before is waited for.
    """
    runs, page, before, waiting = Runs(directories), None, None, ""
    runs.statuses()
    try:
        while True:
            start = time.monotonic()
            training = runs.in_training()
            statuses = runs.statuses()
            if statuses != before or (waiting and not training):
                before = statuses
                try:
                    page = compose(directories, baseline, command)
                    page.write(output, every if training else None)
                    say(_line(page))
                    waiting = ""
                except UserError as problem:
                    if not training:
                        raise
                    if waiting != str(problem):
                        waiting = str(problem)
                        say(printable(f"waiting: {problem}"))
            elif page and not training:
                page.write(output)
            if not training:
                return
            pause(max(every, (time.monotonic() - start) * (1 / SHARE - 1)))
    except KeyboardInterrupt:
        if page:
            page.write(output)


def _line(page: Page) -> str:
    return f"{time.strftime('%H:%M:%S')}  {'; '.join(page.said)}"
