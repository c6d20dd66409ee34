"""The runs of a sweep, compared: leaderboard.csv and a table, made from their result.json files alone. No torch.

Validation chooses: configurations are ranked by the mean objective of their finished runs over seeds, the test figure
stands beside it. The csv keeps every run in a line of its own, with the n, mean and deviation of its configuration.
"""

import atexit
import csv
import fcntl
import json
import math
import os
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from fmnist import UserError
from fmnist.config import Callback, flat, read_result
from fmnist.files import replacing
from fmnist.schema import JUDGED_BY, NOT_HASHED, SEEDS

SHOWN = 20  # configurations in the table
PAUSE = 1.0  # seconds between two writings of the file, while runs end in quick succession


@dataclass(frozen=True)
class Entry:
    """A run: its directory's name in the sweep, its record, its knobs and, apart from them, its seeds."""

    name: str
    result: dict[str, Any]
    knobs: dict[str, Any]
    seeds: dict[str, Any]

    @property
    def measure(self) -> str:
        """What it is judged by."""
        return JUDGED_BY[self.knobs["model.name"]][0]

    @property
    def objective(self) -> float | None:
        """Its validation figure, None until it is done."""
        return self.result["objective"] if self.result["status"] == "done" else None

    @property
    def test(self) -> float | None:
        """Its test figure by the same measure."""
        return self.result["metrics"].get(f"test/{self.measure}") if self.objective is not None else None


@dataclass(frozen=True)
class Configuration:
    """The runs that differ in their seeds only."""

    entries: list[Entry]

    def figures(self, what: str) -> list[float]:
        """The "objective" or "test" of the finished ones."""
        return [value for entry in self.entries if (value := getattr(entry, what)) is not None]

    def rank_by(self) -> tuple[str, float]:
        """Sorts the best first, and what has no figure last."""
        first = self.entries[0]
        better = JUDGED_BY[first.knobs["model.name"]][1]
        found = self.figures("objective")
        value = mean(found) if found else math.nan
        return first.measure, math.inf if math.isnan(value) else -value if better is max else value


def entries(sweep: Path, kept: dict[Path, tuple[float, Entry]]) -> list[Entry]:
    """All runs below a folder. kept: what was read before, by directory; only what has changed is read again."""
    for directory in _runs(sweep):
        try:
            changed = (directory / "result.json").stat().st_mtime
            if directory in kept and kept[directory][0] == changed:
                continue
            result = read_result(directory)
        except (UserError, OSError):  # damaged, or just removed: what it says when it is run again tells more
            continue
        if result is not None and "metrics" in result:
            knobs = {key: value for key, value in flat(result["config"]).items() if key not in NOT_HASHED}
            seeds = {key: knobs.pop(key) for key in SEEDS if key in knobs}
            kept[directory] = changed, Entry(str(directory.relative_to(sweep)), result, knobs, seeds)
    return [entry for _, entry in kept.values()]


def _runs(folder: Path) -> Iterator[Path]:
    for path in sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")):
        if (path / "result.json").exists():
            yield path
        elif not (path / ".hydra").exists():
            yield from _runs(path)


def configurations(found: Iterable[Entry]) -> list[Configuration]:
    """Runs by configuration, the best first."""
    together: dict[str, list[Entry]] = {}
    for entry in found:
        together.setdefault(json.dumps(entry.knobs, sort_keys=True), []).append(entry)
    several = [Configuration(sorted(own, key=lambda e: (*e.seeds.values(), e.name))) for own in together.values()]
    return sorted(several, key=Configuration.rank_by)


def varied(found: Iterable[Entry]) -> list[str]:
    """The knobs in which runs differ, seeds left out."""
    values: dict[str, set[str]] = {}
    all_knobs = [entry.knobs for entry in found]
    keys = dict.fromkeys(key for knobs in all_knobs for key in knobs)
    for knobs in all_knobs:
        for key in keys:
            values.setdefault(key, set()).add(json.dumps(knobs.get(key)))
    return [key for key, different in values.items() if len(different) > 1]


def spread(values: list[float]) -> tuple[float | None, float | None]:
    """(mean, standard deviation), None where there are too few values."""
    return (mean(values) if values else None), (stdev(values) if len(values) > 1 else None)


def table(ranked: list[Configuration]) -> str:
    """The best configurations for a person: only the knobs that differ, mean and deviation over seeds."""
    if not ranked:
        return "no run has a record yet"
    knobs = varied(entry for c in ranked for entry in c.entries)
    measures = list(dict.fromkeys(c.entries[0].measure for c in ranked))
    by = measures[0] if len(measures) == 1 else "figure"
    lines = [["", "n", f"validation {by}", f"test {by}", *knobs]]
    for rank, c in enumerate(ranked[:SHOWN], start=1):
        objective, test = c.figures("objective"), c.figures("test")
        states = sorted({entry.result["status"] for entry in c.entries} - {"done"})
        told = _told(objective) + "".join(f" ({state})" for state in states)
        values = [c.entries[0].knobs.get(key) for key in knobs]
        lines.append([str(rank), str(len(objective)), told.strip(), _told(test), *map(_value, values)])
    width = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    text = ["  ".join(cell.ljust(w) for cell, w in zip(line, width, strict=True)).rstrip() for line in lines]
    if len(ranked) > SHOWN:
        text.append(f"and {len(ranked) - SHOWN} more configurations in leaderboard.csv")
    return "\n".join(text)


def _told(values: list[float]) -> str:
    middle, deviation = spread(values)
    return "" if middle is None else f"{middle:.4f}" + (f" ± {deviation:.4f}" if deviation is not None else "")


def _value(value: Any) -> str:
    return "null" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def lines(ranked: list[Configuration]) -> Iterator[dict[str, Any]]:
    """A line of the csv for every run, the best configuration first."""
    knobs = varied(entry for c in ranked for entry in c.entries)
    for rank, c in enumerate(ranked, start=1):
        objective, test = spread(c.figures("objective")), spread(c.figures("test"))
        for entry in c.entries:
            yield {
                "rank": rank, **{key: _value(entry.knobs.get(key)) for key in knobs}, "n": len(c.figures("objective")),
                "objective_mean": objective[0], "objective_sd": objective[1], "test_mean": test[0], "test_sd": test[1],
                **entry.seeds, "measure": entry.measure, "objective": entry.objective, "test": entry.test,
                "status": entry.result["status"], "error": entry.result["error"], "epoch": entry.result["epoch"],
                "seconds": entry.result["seconds"], "run": entry.name,
            }  # fmt: skip


class Board:
    """The leaderboard of one sweep's folder."""

    def __init__(self, sweep: Path) -> None:
        self.sweep = sweep
        self.kept: dict[Path, tuple[float, Entry]] = {}
        self.written = -math.inf

    def ranked(self) -> list[Configuration]:
        """Its configurations, the best first."""
        return configurations(entries(self.sweep, self.kept))

    def write(self) -> list[Configuration]:
        """Bring leaderboard.csv up to date, and give what is in it. Of several processes the last has seen all runs."""
        if not self.sweep.exists():
            return []
        with _alone(self.sweep):
            ranked = self.ranked()
            told = list(lines(ranked))
            if told:
                with replacing(self.sweep / "leaderboard.csv") as file:
                    rows = csv.DictWriter(file, list(told[0]))
                    rows.writeheader()
                    rows.writerows(told)
        self.written = time.monotonic()
        return ranked

    def write_soon(self) -> None:
        """The same, but not more often than every second, and once more at the end of the program."""
        if self.written == -math.inf:
            atexit.register(self.write)
        if time.monotonic() - self.written > PAUSE:
            self.write()


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    lock = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


class Leaderboard(Callback):
    """Hydra callback: keeps the leaderboard of a sweep while its runs end, whichever launcher starts them."""

    def __init__(self) -> None:
        self.boards: dict[Path, Board] = {}

    def _board(self, config: Any) -> Board:
        sweep = Path(str(config.hydra.sweep.dir)).absolute()
        return self.boards.setdefault(sweep, Board(sweep))

    def on_job_end(self, config: Any, **_: Any) -> None:
        """A run of a sweep has ended."""
        if config.hydra.mode.name == "MULTIRUN":
            self._board(config).write_soon()

    def on_multirun_end(self, config: Any, **_: Any) -> None:
        """All runs have ended, none of them badly."""
        board = self._board(config)
        if ranked := board.write():
            print(f"\n{table(ranked)}\n\n{board.sweep / 'leaderboard.csv'}")
