"""The runs of a sweep, compared: leaderboard.csv and a table, made from their records alone. No torch.

Validation chooses: configurations are ranked by the mean objective of their finished runs over seeds, the test figure
stands beside it. The csv keeps every run in a line of its own, with the n, mean and deviation of its configuration.
"""

import atexit
import csv
import fcntl
import math
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fmnist.config.schema import SEEDS
from fmnist.record.files import replacing
from fmnist.report.comparison import Comparison, Result, comparisons, natural, read_one
from fmnist.report.intervals import Interval

SHOWN = 20  # configurations in the table
PAUSE = 1.0  # seconds between two writings of the file, while runs end in quick succession


def table(found: Sequence[Comparison]) -> str:
    """The best configurations for a person: only the knobs that differ, mean and deviation over seeds."""
    return "\n\n".join(map(_block, found)) if found else "no run has a record yet"


def _block(comparison: Comparison) -> str:
    lines = [["", "n", *(tag.replace("/", " ") for tag in (comparison.judged, comparison.test)), *comparison.varying]]
    for rank, c in enumerate(comparison.configurations[:SHOWN], start=1):
        states = sorted({run.status for run in c.others})
        told = _told(c.interval("objective")) + "".join(f" ({state})" for state in states)
        values = [_value(c.knobs[name]) if name in c.knobs else "" for name in comparison.varying]
        lines.append([str(rank), str(len(c.done)), told.strip(), _told(c.interval(comparison.test)), *values])
    width = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    text = ["  ".join(cell.ljust(w) for cell, w in zip(line, width, strict=True)).rstrip() for line in lines]
    if len(comparison.configurations) > SHOWN:
        text.append(f"and {len(comparison.configurations) - SHOWN} more configurations in leaderboard.csv")
    return "\n".join(text)


def _told(figure: Interval) -> str:
    deviation = "" if math.isnan(figure.sd) else f" ± {figure.sd:.4f}"
    return f"{figure.mean:.4f}{deviation}" if figure.n else ""


def _value(value: Any) -> str:
    return "null" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def rows(found: Sequence[Comparison], sweep: Path) -> Iterator[dict[str, Any]]:
    """A row of the csv for every run, the best configuration first; what cannot be compared is ranked by itself."""
    knobs = list(dict.fromkeys(name for comparison in found for name in comparison.varying))
    for comparison in found:
        for rank, c in enumerate(comparison.configurations, start=1):
            objective, test = c.interval("objective"), c.interval(comparison.test)
            values = {name: _value(c.knobs[name]) if name in c.knobs else "" for name in knobs}
            for run in sorted([*c.done, *c.others], key=lambda run: (run.seed, natural(run.directory))):
                done = run.status == "done"
                yield {
                    "rank": rank, **values, "n": len(c.done), "objective_mean": _cell(objective.mean),
                    "objective_sd": _cell(objective.sd), "test_mean": _cell(test.mean), "test_sd": _cell(test.sd),
                    **dict(zip(SEEDS, run.seed, strict=True)), "measure": comparison.measure,
                    "objective": run.metrics.get("objective"), "test": run.metrics.get(comparison.test) if done else None,
                    "status": run.status, "error": run.error, "epoch": run.epoch, "seconds": run.seconds,
                    "run": str(run.directory.relative_to(sweep)),
                }  # fmt: skip


def _cell(value: float) -> float | None:
    return None if math.isnan(value) else value


class Leaderboard:
    """The leaderboard of one sweep's folder."""

    def __init__(self, sweep: Path) -> None:
        self.sweep = sweep
        self.kept: dict[Path, tuple[float, Result]] = {}  # by directory: only what has changed is read again
        self.written = -math.inf

    def comparisons(self) -> list[Comparison]:
        """Its runs, as far as their records can be read: the others say more when they are run again."""
        for directory in _runs(self.sweep):
            changed = (directory / "result.json").stat().st_mtime
            if directory not in self.kept or self.kept[directory][0] != changed:
                self.kept[directory] = changed, read_one(directory)
        return comparisons([result for _, result in self.kept.values()])

    def write(self) -> list[Comparison]:
        """Bring leaderboard.csv up to date, and give what is in it. Of several processes the last has seen all runs."""
        if not self.sweep.exists():
            return []
        with _alone(self.sweep):
            found = self.comparisons()
            told = list(rows(found, self.sweep))
            if told:
                with replacing(self.sweep / "leaderboard.csv") as file:
                    writer = csv.DictWriter(file, list(told[0]))
                    writer.writeheader()
                    writer.writerows(told)
        self.written = time.monotonic()
        return found

    def write_soon(self) -> None:
        """The same, but not more often than every second, and once more at the end of the program."""
        if self.written == -math.inf:
            atexit.register(self.write)
        if time.monotonic() - self.written > PAUSE:
            self.write()


def _runs(folder: Path) -> Iterator[Path]:
    for path in sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")):
        if (path / "result.json").exists():
            yield path
        elif not (path / ".hydra").exists():
            yield from _runs(path)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    lock = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)
