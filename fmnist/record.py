"""The record of a run: metrics.jsonl and result.json are the truth, TensorBoard and the console mirror them."""

import json
import logging
import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fmnist.config import config_hash, flat, read_result
from fmnist.files import replacing
from fmnist.schema import NOT_HASHED, Config

if TYPE_CHECKING:
    from torch import Tensor

# The figures that have training and validation in one chart, by model.
CHARTS = {
    "mlp": ("loss", "accuracy"), "deep": ("loss", "accuracy"),
    "autoencoder": ("loss", "mae", "mse"), "vae": ("loss", "nll", "kl"),
}  # fmt: skip


@dataclass(frozen=True)
class Outcome:
    """How a run ended: its objective (the validation figure it is judged by), its final metrics by tag, its error."""

    objective: float | None
    metrics: dict[str, float]
    error: str | None = None


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
        self.board = Board(config, directory, rows)
        self.result: dict[str, Any] = {
            "status": "running", "error": None, "epoch": epoch, "metrics": rows[-1] if rows else {}, "best": None,
            "seconds": 0.0, "config_hash": config_hash(config), "config": asdict(config), "commit": commit(),
            "versions": versions(),
        }  # fmt: skip

    def epoch(self, row: dict[str, float]) -> None:
        """Keep the figures of one epoch: "epoch" and the tags."""
        self.rows.write(json.dumps(row) + "\n")
        self.rows.flush()
        self.board.scalars(row)
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
        self.board.end(self.result["epoch"], self.result["metrics"], status)
        self.close()

    def close(self) -> None:
        """Close the files, as they are if the run has not ended."""
        self.rows.close()
        self.board.writer.close()


class Board:
    """TensorBoard's mirror of the record: its events file is written anew from the rows whenever a run starts."""

    def __init__(self, config: Config, directory: Path, rows: list[dict[str, float]]) -> None:
        from tensorboard.plugins.hparams import summary_v2 as hparams
        from torch.utils.tensorboard import SummaryWriter

        for old in directory.glob("events.out.tfevents.*"):
            old.unlink()
        self.writer = SummaryWriter(str(directory))
        charts = {name: [f"train/{name}", f"validation/{name}"] for name in CHARTS[config.model.name]}
        self.writer.add_custom_scalars({"curves": {name: ["Multiline", tags] for name, tags in charts.items()}})
        knobs = {key: _told(value) for key, value in flat(asdict(config)).items() if key not in NOT_HASHED}
        parts = ("validation", "test", "train")
        metrics = [hparams.Metric(f"{part}/{name}") for name in reversed(charts) for part in parts]
        self._add(hparams.hparams_config_pb([hparams.HParam(key) for key in knobs], metrics))
        self._add(hparams.hparams_pb(knobs))
        for row in rows:
            self.scalars(row)

    def _add(self, summary: Any, step: int | None = None) -> None:
        self.writer._get_file_writer().add_summary(summary, step)  # type: ignore[no-untyped-call]

    def picture(self, tag: str, file: Path, step: int) -> None:
        """Show a PNG file."""
        from tensorboard.compat.proto.summary_pb2 import Summary

        png = file.read_bytes()
        width, height = (int.from_bytes(png[at : at + 4], "big") for at in (16, 20))
        image = Summary.Image(height=height, width=width, colorspace=4, encoded_image_string=png)
        self._add(Summary(value=[Summary.Value(tag=tag, image=image)]), step)

    def embedding(self, codes: "Tensor", labels: list[str], thumbnails: "Tensor") -> None:
        """Show points (n, code) with their labels and pictures (n, 1, height, width) in the projector."""
        self.writer.add_embedding(codes, labels, thumbnails, tag="codes")

    def scalars(self, row: dict[str, float]) -> None:
        """Mirror one row of the record."""
        for tag, value in row.items():
            if tag != "epoch":
                self.writer.add_scalar(tag, value, int(row["epoch"]))

    def end(self, epoch: int, metrics: dict[str, float], status: str) -> None:
        """Mirror the test figures and the status."""
        self.scalars({tag: value for tag, value in metrics.items() if tag.startswith("test/")} | {"epoch": epoch})
        self._add(_session_end(status))


def _told(value: Any) -> bool | float | str:
    """A knob's value as TensorBoard's table can hold it."""
    return value if isinstance(value, bool | int | float) else "null" if value is None else str(value)


def _session_end(status: str) -> Any:
    """The summary by which TensorBoard's table of hyper-parameters shows how a run ended."""
    from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
    from tensorboard.plugins.hparams import api_pb2, metadata, plugin_data_pb2

    code = {"done": api_pb2.STATUS_SUCCESS, "failed": api_pb2.STATUS_FAILURE}.get(status, api_pb2.STATUS_UNKNOWN)
    info = plugin_data_pb2.SessionEndInfo(status=code)
    content = plugin_data_pb2.HParamsPluginData(version=metadata.PLUGIN_DATA_VERSION, session_end_info=info)
    plugin = SummaryMetadata.PluginData(plugin_name=metadata.PLUGIN_NAME, content=content.SerializeToString())
    value = Summary.Value(tag=metadata.SESSION_END_INFO_TAG, metadata=SummaryMetadata(plugin_data=plugin))
    return Summary(value=[value])


def told(metrics: dict[str, float]) -> str:
    """The figures as words: "train loss 0.41 accuracy 0.85  validation loss ..."."""
    groups: dict[str, list[str]] = {}
    for tag, value in metrics.items():
        group, _, name = tag.partition("/")
        if name:
            groups.setdefault(group, []).append(f"{name} {value:.4f}")
    return "  ".join(f"{group} {' '.join(names)}" for group, names in groups.items())


def read_rows(directory: Path) -> list[dict[str, float]]:
    """The rows of metrics.jsonl, up to a line that a crash cut short."""
    try:
        lines = (directory / "metrics.jsonl").read_text().splitlines()
    except FileNotFoundError:
        return []
    rows = []
    for line in lines:
        try:
            rows.append(json.loads(line))
        except ValueError:
            break
    return rows


def restate(directory: Path, status: str) -> None:
    """Give a run that has stopped another status than it ended with."""
    result = read_result(directory)
    with replacing(directory / "result.json") as file:
        file.write(json.dumps((result or {}) | {"status": status}, indent=1) + "\n")


def commit() -> str | None:
    """The project's commit, "+" behind it where files differ from it; None outside a checkout."""
    root = Path(__file__).parents[1]
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


@contextmanager
def progress(epochs: int, start: int) -> Iterator[Any]:
    """A progress bar over epochs, with speed and time left, on a terminal only; log lines go above it."""
    from tqdm import tqdm
    from tqdm.contrib.logging import logging_redirect_tqdm

    with tqdm(total=epochs, initial=start, unit="epoch", disable=not sys.stderr.isatty(), dynamic_ncols=True) as bar:
        if bar.disable:
            yield bar
        else:
            with logging_redirect_tqdm():
                yield bar
