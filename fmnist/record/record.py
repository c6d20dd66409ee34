"""The record of a run, written: metrics.jsonl and result.json are the truth, TensorBoard and console mirror them."""

import json
import logging
import os
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fmnist.config.parse import config_hash, flat
from fmnist.config.schema import Config
from fmnist.mirror.mirror import Mirror
from fmnist.program.files import naming, replacing
from fmnist.program.version import commit, versions
from fmnist.record.result import FACTS, defined, read_result, read_rows, write_result

DECIDING = ("commit", "versions", "machine", "kernels")  # the bits of a run, beside its config and data


class Record:
    """What one run leaves in its directory. Made for a new run, or for one that goes on after `epoch` epochs.

    facts: what else decides its bits, such as kernels. If that, the code or a version has changed, the log says so.
    No file stays open between two calls. A metric that is not defined (nan) is null in the files.
    """

    def __init__(
        self, config: Config, directory: Path, epoch: int = 0, log: logging.Logger | None = None, **facts: Any
    ) -> None:
        self.config, self.directory = config, directory
        directory.mkdir(parents=True, exist_ok=True)
        self.log = log or logging.getLogger("train")
        rows = [row for row in read_rows(directory) if row and row["epoch"] <= epoch]
        self.rows = directory / "metrics.jsonl"
        with replacing(self.rows) as file:
            file.writelines(_line(row) for row in rows)
        missing = {e for e in range(1, epoch + 1) if config.measured(e)} - {row["epoch"] for row in rows}
        if missing:
            self.log.warning(f"{self.rows}: rows are missing or damaged, the first of epoch {min(missing)}")
        self.mirror = Mirror(config, directory, rows, self.log)
        metrics = {tag: value for tag, value in rows[-1].items() if tag not in FACTS} if rows else {}
        past = (read_result(directory) or {}) if epoch else {}  # how it was trained so far
        commits = dict.fromkeys(map(str, filter(None, [*(past.get("commits") or [past.get("commit")]), commit()])))
        self.result: dict[str, Any] = {
            "status": "running", "error": None, "epoch": epoch, "metrics": metrics, "best": None,
            "seconds": 0.0, "config_hash": config_hash(config), "config": asdict(config), "commit": commit(),
            "commits": [*filter(None, commits)], "versions": versions(), **facts,
        }  # fmt: skip
        then, now = (flat({name: known.get(name) for name in DECIDING}) for known in (past, self.result))
        for name, value in now.items():
            if then.get(name) not in (None, value):
                said = f"{name} was {then[name]} and is {value or 'unknown'} now"
                self.log.warning(f"{said}: this run may end with other bits than if it had not been stopped")

    def add(self, epoch: int, metrics: dict[str, float]) -> None:
        """Append the metrics of one epoch, by tag."""
        row = {"epoch": epoch, "time": round(time.time(), 3), **metrics}
        with naming(self.rows), open(self.rows, "a", encoding="utf-8") as file:
            file.write(_line(row))
        self.mirror.row(row)
        self.result["metrics"] = metrics

    @property
    def metrics(self) -> dict[str, float]:
        """The metrics of the last recorded epoch or, at the end, the final ones, by tag."""
        return self.result["metrics"]  # type: ignore[no-any-return]

    def say(self, text: str) -> None:
        """Write a line to the console and to the run's log."""
        self.log.info(text)

    def sync(self) -> None:
        """Make sure that the rows are on the disk, before anything that must not be there without them."""
        with naming(self.rows), open(self.rows, "rb") as file:
            os.fsync(file.fileno())

    def save(self, **changes: Any) -> None:
        """Write result.json anew, with these changes; the rows are on the disk before it."""
        self.sync()
        result = self.result | changes
        write_result(self.directory, result)
        self.result = result  # only now: a signal may end the writing

    def written(self) -> str:
        """The status on the disk: a signal may end `save` when the file is written and `result` is not yet changed."""
        return str((read_result(self.directory) or self.result)["status"])

    def finish(self, status: str, **changes: Any) -> None:
        """Record how the run ended: done, failed, interrupted or paused. The mirror first: nobody opens it again."""
        self.mirror.end(self.result | changes | {"status": status})
        self.save(status=status, **changes)


def _line(row: dict[str, float]) -> str:
    return json.dumps(defined(row)) + "\n"
