"""How far a sweep has come: a bar on a terminal, elsewhere a line a minute."""

import logging
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

from fmnist.launch.costs import duration
from fmnist.program.progress import progress
from fmnist.record.result import Outcome
from fmnist.report.words import counted

log = logging.getLogger(__name__)

EVERY = 60.0  # seconds between two lines


class Progress:
    """Counts the epochs of a sweep's runs while they train, each run by its place.

    totals: the epochs that each run is to have in the end; begun: those that it has already; before: those of the runs
    that were done when the sweep was started; ended: is called with a run and how it ended. clock: in seconds. names:
    of the runs; by default their places. remarks: what was said before, and is not to be said again.
    """

    def __init__(
        self, totals: Sequence[int], begun: Sequence[int], before: int, ended: Callable[[int, Outcome], None],
        clock: Callable[[], float] = time.monotonic, names: Sequence[str] = (),
        remarks: set[str] | None = None,
    ) -> None:  # fmt: skip
        self.totals, self.before, self._ended, self.clock = totals, before, ended, clock
        self.epochs = list(map(min, begun, totals))  # a run may be beyond where it is now to pause
        self.start, self.started = sum(self.epochs), clock()
        self.said = self.started
        self.names = names or [str(run) for run in range(len(totals))]
        self.remarks = set() if remarks is None else remarks
        self.finished: set[int] = set()
        self.closing = ExitStack()
        self.bar: Any = None

    def __enter__(self) -> "Progress":
        self.bar = self.closing.enter_context(progress(self.before + sum(self.totals), self.before + self.start))
        return self

    def __exit__(self, *error: Any) -> None:
        self.closing.close()

    def reached(self, runs: Sequence[int], epoch: int) -> None:
        """These runs have trained that epoch. A stack that is halved begins again: epochs count once."""
        gained = 0
        for run in runs:
            gained += max(0, min(epoch, self.totals[run]) - self.epochs[run])
            self.epochs[run] = max(min(epoch, self.totals[run]), self.epochs[run])
        self.bar.update(gained)

    def ended(self, run: int, outcome: Outcome) -> None:
        """A run has failed, is done or is paused: it will train no more."""
        self.finished.add(run)
        self.reached([run], self.totals[run])
        self._ended(run, outcome)

    def halved(self, runs: Sequence[int], what: str, why: str) -> None:
        """These runs, which trained as one stack, go on in two: say so. what: has become of the stack."""
        first, last, small = self.names[runs[0]], self.names[runs[-1]], len(runs) // 2
        halves = f"stacks of {small} and {len(runs) - small}"
        log.warning(f"a stack of {len(runs)} runs, {first} to {last}, {what}: they go on as {halves} ({why})")

    def remarked(self, text: str) -> None:
        """Runs' logs warn of something that concerns others too: say so, once."""
        if text not in self.remarks:
            self.remarks.add(text)
            log.warning(text)

    def look(self) -> None:
        """Say how far it has come, if there is no bar and the last line was a minute ago. To be called often."""
        now = self.clock()
        if not self.bar.disable or now - self.said < EVERY:
            return
        self.said = now
        trained, total = sum(self.epochs), sum(self.totals)
        left = (now - self.started) * (total - trained) / (trained - self.start) if trained > self.start else None
        share = (self.before + trained) / (self.before + total)
        log.info(
            f"{self.before + trained:,} of {self.before + total:,} epochs ({share:.0%}), "
            f"{len(self.finished):,} of {counted(len(self.totals), 'run')} ended"
            f"{f', about {duration(left)} left' if left is not None else ''}"
        )
