"""How far long work has come: drawn in place at the end of a terminal; elsewhere a line a minute."""

import locale
import logging
import os
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

EVERY = 60.0  # seconds between two lines where nothing is drawn
AGAIN = 0.2  # seconds between two drawings
RECENT = 64  # the pace is that of so many steps
ROOM = 6  # columns that are left free at the end of the last line
NARROW = 60  # columns of a terminal below which only the most important is shown


class Pace:
    """How long one of many equal steps takes, by the newest ones."""

    def __init__(self) -> None:
        self.seen = deque[tuple[int, float]](maxlen=RECENT)

    def note(self, number: int, now: float) -> None:
        """So many steps are done at that time."""
        if not self.seen or number > self.seen[-1][0]:
            self.seen.append((number, now))

    @property
    def seconds(self) -> float | None:
        """Of a step; None before there are two notes."""
        if not self.seen:
            return None
        (first, began), (last, ended) = self.seen[0], self.seen[-1]
        return (ended - began) / (last - first) if last > first else None


def duration(seconds: float) -> str:
    """A time in words."""
    minutes, hours = seconds / 60, seconds / 3600
    return f"{hours:.1f} h" if hours > 2 else f"{minutes:.0f} min" if minutes > 2 else f"{seconds:.0f} s"


def is_terminal(stream: Any) -> bool:
    """Whether lines can be drawn anew on a stream."""
    return stream is not None and stream.isatty() and os.environ.get("TERM") not in ("dumb", "unknown")


class Screen:
    """The last lines of a terminal, drawn anew in place. What is printed or logged meanwhile goes above them, and at
    the end they are gone. Where there is no terminal, `say` is called with a line a minute.

    draw: gives what is drawn, as rich takes it, for so many columns. line: the same in words. Of two screens only the
    outer one is seen.
    """

    drawn = False  # whether one is drawn

    def __init__(
        self, draw: Callable[[int], Any], line: Callable[[], str], say: Callable[[str], Any],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self.draw, self.line, self.say, self.clock = draw, line, say, clock
        self.last = clock()
        self.closing = ExitStack()
        self.live: Any = None

    def __enter__(self) -> "Screen":
        self.last = self.clock()
        if is_terminal(sys.stderr) and not Screen.drawn:
            self.live = self.closing.enter_context(_drawing(self.draw))
        return self

    def __exit__(self, *error: Any) -> None:
        self.closing.close()
        self.live = None

    def look(self) -> None:
        """Draw anew, or say a line, if it is time to. To be called often."""
        now = self.clock()
        if now - self.last < (EVERY if self.live is None else AGAIN):
            return
        self.last = now
        if self.live is not None:
            self.live.refresh()
        elif not Screen.drawn:
            self.say(self.line())


@contextmanager
def _drawing(draw: Callable[[int], Any]) -> Iterator[Any]:
    """Something with a `refresh` that draws on the terminal; afterwards the terminal is as it was."""
    from rich.console import Console
    from rich.live import Live

    class Terminal(Console):
        """A console that knows the characters of the locale: Python takes a terminal in the locale C for UTF-8. It does
        not hide the cursor, which Ctrl-Z or SIGKILL would leave hidden."""

        encoding = locale.getencoding().lower()

        def show_cursor(self, show: bool = True) -> bool:
            return False

    console = Terminal(file=sys.stderr, force_terminal=True)
    live = Live(console=console, get_renderable=lambda: draw(console.width), auto_refresh=False, transient=True,
                redirect_stdout=False, redirect_stderr=False)  # fmt: skip
    with _above(console), live:
        Screen.drawn = True
        try:
            live.refresh()
            yield live
        finally:
            Screen.drawn = False


@contextmanager
def _above(console: Any) -> Iterator[None]:
    """Within it all that Python writes to the terminal goes above what is drawn there."""
    before = sys.stdout, sys.stderr
    every = [logging.getLogger(), *map(logging.getLogger, [*logging.Logger.manager.loggerDict])]
    handlers = [each for log in every for each in log.handlers if type(each) is logging.StreamHandler]
    moved = [(each, each.stream) for each in handlers if is_terminal(each.stream)]
    above = _Above(console, sys.stderr)
    if is_terminal(sys.stdout):
        sys.stdout = above
    sys.stderr = above
    for handler, _ in moved:
        handler.setStream(above)
    try:
        yield
    finally:
        above.end()
        sys.stdout, sys.stderr = before
        for handler, stream in moved:
            handler.setStream(stream)


class _Above:
    """Stands in for a stream of the terminal. Lines are printed whole, and as long as they are."""

    def __init__(self, console: Any, stream: Any) -> None:
        self.console, self.stream, self.begun = console, stream, ""

    def write(self, text: str) -> int:
        """Print the lines that are complete."""
        *lines, self.begun = (self.begun + text).split("\n")
        if lines:
            self.console.print("\n".join(lines), markup=False, highlight=False, emoji=False, soft_wrap=True)
        return len(text)

    def end(self) -> None:
        """Print what is left."""
        if self.begun:
            self.write("\n")

    def flush(self) -> None:
        """Does nothing: lines are printed at once."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


def row(width: int, share: float, *words: str) -> Any:
    """A bar that is full to this share, between words. It leaves room at its end for what the terminal shows of keys: a
    ^C must not begin a new line."""
    from rich.constrain import Constrain
    from rich.progress_bar import ProgressBar
    from rich.table import Table

    found = Table.grid(padding=(0, 1), expand=True)
    found.add_column(no_wrap=True)
    found.add_column(ratio=1)
    for _ in words[1:]:
        found.add_column(no_wrap=True)
    found.add_row(words[0], ProgressBar(total=1.0, completed=share), *words[1:])
    return Constrain(found, width - ROOM)


class Bar:
    """Steps of long work: how many are done, how fast, and the time left. total: all; n: those that are done."""

    def __init__(self, total: int, start: int, unit: str, clock: Callable[[], float] = time.monotonic) -> None:
        self.total, self.n, self.unit, self.clock = total, start, unit, clock
        self.pace = Pace()
        self.pace.note(start, clock())
        self.screen = Screen(self._drawn, self._line, lambda line: print(line, file=sys.stderr), clock)

    def update(self, gained: int = 1) -> None:
        """So many more are done."""
        self.n += gained
        self.pace.note(self.n, self.clock())
        self.screen.look()

    def write(self, text: str) -> None:
        """Print a line; on a terminal it goes above the bar."""
        print(text)

    def _left(self) -> str:
        seconds = self.pace.seconds
        return "" if seconds is None else f"about {duration(seconds * (self.total - self.n))} left"

    def _drawn(self, width: int) -> Any:
        seconds = self.pace.seconds
        rate = "" if not seconds else f"{1 / seconds:.3g}/s" if seconds < 1 else f"{seconds:.3g} s each"
        return row(
            width,
            self.n / max(1, self.total),
            f"{self.unit} {self.n:,}/{self.total:,}",
            rate if width >= NARROW else "",
            self._left(),
        )

    def _line(self) -> str:
        return ", ".join(filter(None, [f"{self.unit} {self.n:,} of {self.total:,}", self._left()]))


@contextmanager
def progress(total: int, start: int = 0, unit: str = "epoch") -> Iterator[Bar]:
    """A bar over so many steps, of which some are done already; its `update` is to be called after each."""
    bar = Bar(total, start, unit)
    with bar.screen:
        yield bar


@contextmanager
def lines(total: int, unit: str, say: Callable[[str], Any]) -> Iterator[Bar]:
    """The same where nothing is to be drawn: `say` is given a line a minute."""
    bar = Bar(total, 0, unit)
    bar.screen.say = say
    yield bar
