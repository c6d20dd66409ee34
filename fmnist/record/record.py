"""The record of a run: metrics.jsonl and result.json are the truth, TensorBoard and the console mirror them."""

import json
import logging
import os
import platform
import subprocess
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fmnist import ROOT
from fmnist.config.parse import config_hash
from fmnist.config.schema import Config
from fmnist.record.board import Mirror
from fmnist.record.files import replacing
from fmnist.record.result import read_result, read_rows

if TYPE_CHECKING:
    pass


class Record:
    """What one run leaves in its directory. Made for a new run, or for one that goes on after `epoch` epochs."""

    def __init__(self, config: Config, directory: Path, epoch: int = 0, log: logging.Logger | None = None) -> None:
        self.config, self.directory = config, directory
        directory.mkdir(parents=True, exist_ok=True)
        self.log = log or logging.getLogger("train")
        rows = [row for row in read_rows(directory) if row["epoch"] <= epoch]
        with replacing(directory / "metrics.jsonl") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows)
        self.rows = open(directory / "metrics.jsonl", "a")  # noqa: SIM115 - closed by `close`
        self.mirror = Mirror(config, directory, rows)
        self.result: dict[str, Any] = {
            "status": "running", "error": None, "epoch": epoch, "metrics": rows[-1] if rows else {}, "best": None,
            "seconds": 0.0, "config_hash": config_hash(config), "config": asdict(config), "commit": commit(),
            "versions": versions(),
        }  # fmt: skip

    def epoch(self, row: dict[str, float]) -> None:
        """Keep the figures of one epoch: "epoch" and the tags."""
        self.rows.write(json.dumps(row) + "\n")
        self.rows.flush()
        self.mirror.scalars(row)
        self.result["metrics"] = row

    @property
    def metrics(self) -> dict[str, float]:
        """The figures of the last recorded epoch or, at the end, the final ones, by tag."""
        return {tag: value for tag, value in self.result["metrics"].items() if tag != "epoch"}

    def say(self, text: str) -> None:
        """A line for the console and the run's log."""
        self.log.info(text)

    def save(self, **changes: Any) -> None:
        """Bring result.json up to date; what was recorded before is on the disk first."""
        os.fsync(self.rows.fileno())
        self.result |= changes
        with replacing(self.directory / "result.json") as file:
            file.write(json.dumps(self.result | {"metrics": self.metrics}, indent=1) + "\n")

    def finish(self, status: str, **changes: Any) -> None:
        """The run's end: status is done, failed or interrupted."""
        self.save(status=status, **changes)
        self.mirror.end(self.result["epoch"], self.result["metrics"], status)
        self.close()

    def close(self) -> None:
        """Close the files, as they are if the run has not ended."""
        self.rows.close()
        self.mirror.writer.close()


def restate(directory: Path, status: str) -> None:
    """Give a run that has stopped another status than it ended with."""
    result = read_result(directory)
    with replacing(directory / "result.json") as file:
        file.write(json.dumps((result or {}) | {"status": status}, indent=1) + "\n")


def commit() -> str | None:
    """The project's commit, "+" behind it where files differ from it; None outside a checkout."""
    root = ROOT
    try:
        told = subprocess.run(
            ["git", "-C", str(root), "describe", "--always", "--dirty=+", "--abbrev=40", "--exclude=*"],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
    except (OSError, subprocess.CalledProcessError):
        return None
    return told.stdout.strip()


def versions() -> dict[str, str]:
    """Of Python and of the packages that decide the figures."""
    packages = {name: version(name) for name in ("torch", "hydra-core", "tensorboard")}
    return {"python": platform.python_version(), **packages}
