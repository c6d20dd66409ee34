"""How far a sweep has come: on a terminal a table that is drawn in place, elsewhere a line a minute."""

import logging
import time
from collections.abc import Callable, Hashable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from fmnist import UserError
from fmnist.config.schema import Config, kind
from fmnist.launch.costs import SPEED, beside, work
from fmnist.launch.estimate import Estimate, Part, Stack
from fmnist.launch.groups import kind_of
from fmnist.program.progress import NARROW, Screen, duration, row
from fmnist.program.reading import opened, parsed
from fmnist.record.result import Outcome
from fmnist.report.words import in_words

log = logging.getLogger(__name__)

POLL = 1.0  # seconds between two looks at what runs have written
ROWS = 16  # workers that are shown at most


def judged_by(config: Config) -> tuple[str, Callable[..., Any]]:
    """The tag of the metric by which a run is ranked, and what is better, max or min. Raises KeyError for a model that
    there is not."""
    model = kind(config.model.name)
    return f"{'train' if config.data.split == 1 else 'validation'}/{model.judged_by}", model.better


class Bests:
    """The best that runs have reached so far, for each metric by which they are judged: its tag, the value, the run."""

    def __init__(self) -> None:
        self.found: dict[str, tuple[float, str]] = {}

    def note(self, config: Config, name: str, value: float | None) -> None:
        """A run has reached a value."""
        tag, better = judged_by(config)
        if value is not None and (tag not in self.found or better(value, self.found[tag][0]) != self.found[tag][0]):
            self.found[tag] = value, name

    def in_words(self, named: bool = True) -> str:
        """All of them."""
        return ", ".join(f"{in_words(tag)} {value:.4f}{f' ({name})' if named else ''}"
                         for tag, (value, name) in self.found.items())  # fmt: skip


class Progress:
    """Counts the epochs of a sweep's runs while they train, each run by its place.

    totals: the epochs that each run is to have in the end; begun: those that it has already; before: those of the runs
    that were done when the sweep was started, and done: how many these are; ended: is called with a run and how it
    ended. clock: in seconds. names: of the runs; by default their places. configs and directories: theirs, by which the
    best so far and the time left are known. remarks: what was said before, and is not to be said again. say: is given a
    line a minute where there is no terminal.
    """

    def __init__(
        self, totals: Sequence[int], begun: Sequence[int], before: int, ended: Callable[[int, Outcome], None],
        clock: Callable[[], float] = time.monotonic, names: Sequence[str] = (),
        configs: Sequence[Config] = (), directories: Sequence[Path] = (), done: int = 0,
        remarks: set[str] | None = None, say: Callable[[str], Any] = log.info,
    ) -> None:  # fmt: skip
        self.totals, self.before, self._ended, self.clock, self.done = totals, before, ended, clock, done
        self.epochs = list(map(min, begun, totals))  # a run may be beyond where it is now to pause
        self.names = names or [str(run) for run in range(len(totals))]
        self.configs, self.directories = configs, directories
        self.kinds = [kind_of(config) for config in configs] or [""] * len(totals)
        self.remarks = set() if remarks is None else remarks
        self.finished: set[int] = set()
        self.failed: set[int] = set()
        self.bests = Bests()
        self.best_of: dict[int, Bests] = {run: Bests() for run in range(len(totals))}
        self.read = [0] * len(totals)  # bytes of the rows of each run
        self.polled = clock()
        self.estimate = Estimate(self._left_of, self._parts)
        self.screen = Screen(self._drawn, self.line, say, clock)

    def __enter__(self) -> "Progress":
        self.screen.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self.screen.__exit__(*error)

    def _left_of(self, run: int) -> int:
        """The epochs that a run still has to train."""
        return 0 if run in self.finished else self.totals[run] - self.epochs[run]

    def _parts(self, runs: Sequence[int]) -> list[Part]:
        """What a stack of runs consists of: those that have stopped at the same epoch go on together."""
        found: dict[int, list[int]] = {}
        for run in runs:
            found.setdefault(self.epochs[run], []).append(run)
        return [Part(own, self.kinds[own[0]], self._work(own)) for own in found.values()]

    def _work(self, runs: Sequence[int]) -> float:
        """Seconds of an epoch of a stack, nearly."""
        if not self.configs:
            return float(len(runs))
        first = self.configs[runs[0]]
        return (sum(work(self.configs[run]) for run in runs) / SPEED + beside(first)) / first.epochs

    def planned(self, stacks: Sequence[Sequence[int]], workers: int) -> None:
        """These stacks are to be trained by so many workers."""
        self.estimate.planned(stacks, workers)

    def handed(self, worker: Hashable, runs: Sequence[int]) -> None:
        """A worker is given a stack of these runs."""
        self.estimate.handed(worker, runs, self.clock())

    def lost(self, worker: Hashable) -> None:
        """A worker has died."""
        self.estimate.returned(worker, self.clock(), gone=True)

    def reached(self, runs: Sequence[int], epoch: int) -> None:
        """These runs have trained that epoch. A stack that is halved begins again: epochs count once."""
        for run in runs:
            self.epochs[run] = max(min(epoch, self.totals[run]), self.epochs[run])
        self.estimate.reached(runs, epoch, self.clock())

    def ended(self, run: int, outcome: Outcome) -> None:
        """A run has failed, is done or is paused: it will train no more."""
        self.finished.add(run)
        if outcome.error is not None:
            self.failed.add(run)
        self.epochs[run] = self.totals[run]
        if self.configs:
            self.bests.note(self.configs[run], self.names[run], outcome.objective)
        for worker, stack in [*self.estimate.training.items()]:
            if run in stack.runs and self.finished.issuperset(stack.runs):
                self.estimate.returned(worker, self.clock())
        self._ended(run, outcome)

    def halved(self, runs: Sequence[int], what: str, why: str) -> None:
        """These runs, which trained as one stack, go on in two: say so. what: has become of the stack."""
        self.estimate.halved(runs)
        first, last, small = self.names[runs[0]], self.names[runs[-1]], len(runs) // 2
        halves = f"stacks of {small} and {len(runs) - small}"
        log.warning(f"a stack of {len(runs)} runs, {first} to {last}, {what}: they go on as {halves} ({why})")

    def remarked(self, text: str) -> None:
        """Runs' logs warn of something that concerns others too: say so, once."""
        if text not in self.remarks:
            self.remarks.add(text)
            log.warning(text)

    def look(self) -> None:
        """Show how far it has come, if it is time to. To be called often."""
        now = self.clock()
        if self.configs and self.directories and now - self.polled >= POLL:
            self.polled = now
            stacks = [*self.estimate.training.values(), *self.estimate.waiting[: self.estimate.workers]]
            for run in [run for stack in stacks for run in stack.runs if run not in self.finished]:
                self._poll(run)
        self.screen.look()

    def _poll(self, run: int) -> None:
        """Read the rows that a run has written since the last look."""
        try:
            with opened(self.directories[run] / "metrics.jsonl") as file:
                if file.seek(0, 2) < self.read[run]:
                    self.read[run] = 0  # a run that goes on has left out rows after its checkpoint
                file.seek(self.read[run])
                rows = file.read().rpartition(b"\n")[0]
        except (OSError, UserError):
            return
        self.read[run] += len(rows) + bool(rows)
        config = self.configs[run]
        for line in rows.splitlines():
            with suppress(ValueError, KeyError, TypeError, AttributeError):  # of a line that is damaged
                written = parsed(line)
                for bests in (self.bests, self.best_of[run]):
                    bests.note(config, self.names[run], written.get(judged_by(config)[0]))
                if (epoch := int(written["epoch"])) > self.epochs[run]:
                    self.reached([run], epoch)

    @property
    def share(self) -> float:
        """Of all epochs, those that are done."""
        return (self.before + sum(self.epochs)) / max(1, self.before + sum(self.totals))

    def left(self) -> str:
        """The time left in words; "" where it is not known."""
        seconds = self.estimate.left(self.clock())
        return "" if seconds is None else f"about {duration(seconds)} left"

    def counts(self) -> dict[str, int]:
        """Runs by their state."""
        training = sum(run not in self.finished for stack in self.estimate.training.values() for run in stack.runs)
        done = self.done + len(self.finished - self.failed)
        waiting = len(self.totals) - len(self.finished) - training
        return {"done": done, "failed": len(self.failed), "training": training, "waiting": waiting}

    def line(self) -> str:
        """How far it has come, in one line."""
        epochs = f"{self.before + sum(self.epochs):,} of {self.before + sum(self.totals):,} epochs ({self.share:.0%})"
        runs = ", ".join(f"{count:,} {state}" for state, count in self.counts().items() if count)
        best = self.bests.in_words()
        return "; ".join(filter(None, [epochs, runs, best and f"best {best}", self.left()]))

    def _drawn(self, width: int) -> Any:
        """The table: a line for each worker, then all runs in words and as a bar."""
        from rich.console import Group
        from rich.text import Text

        counted = Text(", ").join(
            Text(f"{count:,} {state}", style="red" if state == "failed" else "")
            for state, count in self.counts().items() if count
        )  # fmt: skip
        parts: list[Any] = [self._table(width >= NARROW), counted] if self.estimate.training else [counted]
        if best := self.bests.in_words(named=width >= NARROW):
            parts.append(Text(f"best so far: {best}", no_wrap=True, overflow="crop"))
        return Group(*parts, row(width, self.share, f"{self.share:.0%}", self.left()))

    def _table(self, wide: bool) -> Any:
        """wide: whether there is room for more than the runs, their epoch and the best of them."""
        from rich.table import Table

        numbers = self.estimate.numbers
        training = sorted(self.estimate.training.items(), key=lambda pair: numbers.get(pair[0], 0))
        shown = [[str(numbers.get(worker, "")), *self._in_words(stack, wide)] for worker, stack in training[:ROWS]]
        columns = dict(zip(("worker", "runs", "epoch", "left", "best so far"), zip(*shown, strict=True), strict=True))
        for name in () if wide else ("worker", "left"):
            del columns[name]
        found = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
        for name, cells in columns.items():
            best = name == "best so far"  # the one that is cut where there is too little room
            found.add_column(name, no_wrap=True, overflow="crop", justify="left" if best else "right",
                             min_width=None if best else max(map(len, (name, *cells))))  # fmt: skip
        for cells in zip(*columns.values(), strict=True):
            found.add_row(*cells)
        if len(training) > ROWS:
            found.add_row(*[""] * (len(columns) - 1), f"and {len(training) - ROWS:,} more workers")
        return found

    def _in_words(self, stack: Stack, wide: bool) -> tuple[str, str, str, str]:
        """A stack that trains: its runs, its epoch, the time left, the best of its runs so far."""
        training = [run for run in stack.runs if run not in self.finished] or stack.runs
        reached, total = max(self.epochs[run] for run in training), max(self.totals[run] for run in training)
        state = f"{reached:,}/{total:,}" if stack.first is not None else "starts"
        best = Bests()
        for run in stack.runs:
            for value, name in self.best_of[run].found.values():
                best.note(self.configs[run], name, value)
        values = ", ".join(f"{value:.4f}" for value, _ in best.found.values())  # below, their metrics have names
        seconds = self.estimate.left_of_stack(stack, self.clock())
        left = "" if seconds is None else duration(seconds)
        return f"{len(stack.runs):,}", state, left, best.in_words() if wide else values
