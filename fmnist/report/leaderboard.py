"""The runs of a sweep, ranked: leaderboard.csv and a table for the console, from their records alone. No torch.

Validation chooses: configurations are ranked by the mean objective of their finished runs over seeds, the test metric
stands beside it. The CSV keeps every run in a line of its own, with the n, mean and deviation of its configuration.
"""

import atexit
import math
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from fmnist.config.schema import SEEDS
from fmnist.program.files import locked, replacing
from fmnist.report.comparison import Comparison, Result, comparisons, once, read_one
from fmnist.report.tables import Table, csv_knobs, csv_text, knob_cells, spread
from fmnist.report.words import counted, in_words, natural, short

SHOWN = 20  # configurations in the table
DECIMALS = 4  # of the metrics in the table
LOCK = ".leaderboard.lock"  # held by the process that writes the file
PAUSE = 1.0  # seconds between two writings of the file, at least, while runs end in quick succession
SHARE = 0.05  # of the time, at most, goes into writing it: of ten thousand runs it takes a second


def table(found: Sequence[Comparison]) -> str:
    """The best configurations for a person: only the knobs that differ, mean and deviation over seeds."""
    return "\n\n".join(map(_table, found)) if found else "no run has a record yet"


def _table(comparison: Comparison) -> str:
    header = ["", "n", *map(in_words, (comparison.judged_by, comparison.test)), *map(short, comparison.varying)]
    rows = []
    for rank, c in enumerate(comparison.configurations[:SHOWN], start=1):
        states = sorted({f"({run.status})" for run in c.others})
        objective, test = (spread(c.interval(tag), DECIMALS) for tag in ("objective", comparison.test))
        cells = [str(rank), str(len(c.done)), " ".join([objective, *states]).strip(), test]
        rows.append(cells + knob_cells(comparison, c))
    more = len(comparison.configurations) - SHOWN
    rest = f"\nand {counted(more, 'more configuration')} in leaderboard.csv" if more > 0 else ""
    return Table(header, rows).text() + rest


def rows(found: Sequence[Comparison], sweep: Path) -> Iterator[dict[str, object]]:
    """A row of the CSV for every run, the best configuration first; each comparison has its own ranks."""
    names = dict.fromkeys(name for comparison in found for name in comparison.varying)
    for comparison in found:
        for rank, c in enumerate(comparison.configurations, start=1):
            objective, test = c.interval("objective"), c.interval(comparison.test)
            for run in sorted([*c.done, *c.others], key=lambda run: (run.seed, natural(run.directory))):
                yield {
                    "rank": rank, **dict.fromkeys(names, ""), **csv_knobs(c.knobs), "n": len(c.done),
                    "objective_mean": objective.mean, "objective_sd": objective.sd,
                    "test_mean": test.mean, "test_sd": test.sd, **dict(zip(SEEDS, run.seed, strict=True)),
                    "comparison": comparison.title, "metric": in_words(comparison.judged_by),
                    "objective": run.metrics.get("objective"),
                    "test": run.metrics.get(comparison.test) if run.status == "done" else None, "status": run.status,
                    "error": run.error, "epoch": run.epoch, "seconds": run.seconds,
                    "run": str(run.directory.relative_to(sweep)),
                }  # fmt: skip


class Leaderboard:
    """The leaderboard of one sweep's folder."""

    def __init__(self, sweep: Path) -> None:
        self.sweep = sweep
        self.known: dict[Path, tuple[tuple[int, int, int], Result]] = {}  # only what has changed is read again
        self.next, self.registered = -math.inf, False  # when it may be written again

    def comparisons(self) -> list[Comparison]:
        """Its runs, as far as their records can be read: the others say more when they are run again."""
        before, self.known = self.known, {}
        for directory in _runs(self.sweep):
            file = os.stat(directory / "result.json")
            version = (file.st_mtime_ns, file.st_ino, file.st_size)
            known = before.get(directory)
            self.known[directory] = known if known and known[0] == version else (version, read_one(directory))
        return comparisons(once(result for _, result in self.known.values()))

    def write(self) -> list[Comparison]:
        """Bring leaderboard.csv up to date; what it shows. Of several processes the last has seen all runs."""
        if not self.sweep.exists() or not any(_runs(self.sweep)):
            return []
        start = time.monotonic()
        with locked(self.sweep / LOCK):
            found = self.comparisons()
            if found:
                with replacing(self.sweep / "leaderboard.csv") as file:
                    file.write(csv_text([*rows(found, self.sweep)]))
        now = time.monotonic()
        self.next = now + max(PAUSE, (now - start) / SHARE)
        return found

    def write_soon(self) -> None:
        """Write it, but not more often than every second or so, and once more at the end of the program.

        A full disk, say, must not end a sweep: this error is raised by `write`, which is called once it has ended.
        """
        if not self.registered:
            atexit.register(self._write_or_not)
            self.registered = True
        if time.monotonic() > self.next:
            self._write_or_not()

    def _write_or_not(self) -> None:
        with suppress(OSError):
            self.write()


def _runs(folder: Path) -> Iterator[Path]:
    """The directories of the runs below a folder that have a record; what lies in a run's directory is the run's. No
    link is followed: it could lead in a circle."""
    folders = (path for path in folder.iterdir() if path.is_dir() and not path.is_symlink())
    for path in sorted(path for path in folders if not path.name.startswith(".")):
        if (path / "result.json").exists():
            yield path
        elif not (path / ".hydra").exists():
            yield from _runs(path)
