"""The record of a run, written: metrics.jsonl and result.json are the truth, TensorBoard and console mirror them."""

import functools
import json
import logging
import os
import platform
import subprocess
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from fmnist import ROOT
from fmnist.config.parse import config_hash
from fmnist.config.schema import Config
from fmnist.record.board import Mirror
from fmnist.record.files import replacing
from fmnist.record.result import defined, read_rows, write_result


class Record:
    """What one run leaves in its directory. Made for a new run, or for one that goes on after `epoch` epochs.

    No file stays open between two calls. A metric that is not defined (nan) is null in the files.
    """

    def __init__(self, config: Config, directory: Path, epoch: int = 0, log: logging.Logger | None = None) -> None:
        self.config, self.directory = config, directory
        directory.mkdir(parents=True, exist_ok=True)
        self.log = log or logging.getLogger("train")
        rows = [row for row in read_rows(directory) if row["epoch"] <= epoch]
        self.rows = directory / "metrics.jsonl"
        with replacing(self.rows) as file:
            file.writelines(_line(row) for row in rows)
        expected = epoch if epoch == config.epochs else epoch - epoch % config.eval_every
        if expected and (not rows or rows[-1]["epoch"] != expected):
            self.log.warning(f"rows are missing in {self.rows}: the last is not of epoch {expected}")
        self.mirror = Mirror(config, directory, rows)
        self.result: dict[str, Any] = {
            "status": "running", "error": None, "epoch": epoch, "metrics": rows[-1] if rows else {}, "best": None,
            "seconds": 0.0, "config_hash": config_hash(config), "config": asdict(config), "commit": commit(),
            "versions": versions(), "kernels": {},
        }  # fmt: skip

    def add(self, row: dict[str, float]) -> None:
        """Append the metrics of one epoch: "epoch" and the tags."""
        with open(self.rows, "a", encoding="utf-8") as file:
            file.write(_line(row))
        self.mirror.row(row)
        self.result["metrics"] = row

    @property
    def metrics(self) -> dict[str, float]:
        """The metrics of the last recorded epoch or, at the end, the final ones, by tag."""
        return {tag: value for tag, value in self.result["metrics"].items() if tag != "epoch"}

    def say(self, text: str) -> None:
        """Write a line to the console and to the run's log."""
        self.log.info(text)

    def sync(self) -> None:
        """Make sure that the rows are on the disk, before anything that must not be there without them."""
        descriptor = os.open(self.rows, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def save(self, **changes: Any) -> None:
        """Write result.json anew, with these changes; the rows are on the disk before it."""
        self.sync()
        self.result |= changes
        write_result(self.directory, self.result | {"metrics": self.metrics})

    def finish(self, status: str, **changes: Any) -> None:
        """Record the end of the run. status: done, failed, interrupted or paused."""
        self.save(status=status, **changes)
        self.mirror.end(self.result["epoch"], self.result["metrics"], status)


def _line(row: dict[str, float]) -> str:
    return json.dumps(defined(row)) + "\n"


@functools.cache
def commit() -> str | None:
    """The project's commit, with "+" where files differ from it; None outside a checkout. fmnist.train.run asks for it
    when the code is imported, so that a worker that lives for hours records the code that it runs."""
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty=+", "--abbrev=40", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


@functools.cache
def versions() -> dict[str, str]:
    """The versions of Python and of the packages that decide the metrics."""
    packages = {name: version(name) for name in ("torch", "hydra-core", "tensorboard")}
    return {"python": platform.python_version(), **packages}
