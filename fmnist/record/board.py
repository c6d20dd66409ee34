"""TensorBoard's mirror of a record."""

import logging
import os
import socket
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fmnist.config.parse import flat
from fmnist.config.schema import NOT_HASHED, Config, kind
from fmnist.record.result import FACTS

if TYPE_CHECKING:
    from torch import Tensor


class Mirror:
    """TensorBoard's mirror of the record: its events file is written anew from the rows whenever a run starts.

    The file is opened for each row and closed again, so that a stack of a thousand runs does not hold a thousand open.
    Where it cannot be written, a warning says so and training goes on: what is missing is written with the next row.
    """

    def __init__(self, config: Config, directory: Path, rows: list[dict[str, float]], log: logging.Logger) -> None:
        from tensorboard.plugins.hparams import summary_v2 as hparams
        from torch.utils.tensorboard.summary import custom_scalars

        for old in directory.glob("events.out.tfevents.*"):
            old.unlink()
        self.directory, self.log = directory, log
        self.waiting: list[dict[str, Any]] = []  # events that could not be written
        self.size = 0  # bytes of the file that are whole events
        self.file = directory / f"events.out.tfevents.{time.time():.6f}.{socket.gethostname()}"
        charts = {name: [f"train/{name}", f"validation/{name}"] for name in kind(config.model.name).charts}
        layout = {"curves": {name: ["Multiline", tags] for name, tags in charts.items()}}
        knobs = {key: value if isinstance(value, bool | int | float) else "null" if value is None else str(value)
                 for key, value in flat(asdict(config)).items() if key not in NOT_HASHED}  # fmt: skip
        metrics = [hparams.Metric(f"{part}/{name}") for name in reversed(charts)
                   for part in ("validation", "test", "train")]  # fmt: skip
        summaries = [custom_scalars(layout),  # type: ignore[no-untyped-call]
                     hparams.hparams_config_pb([hparams.HParam(key) for key in knobs], metrics),
                     hparams.hparams_pb(knobs)]  # fmt: skip
        self._write({"file_version": "brain.Event:2"}, *({"summary": each} for each in summaries), *map(_scalars, rows))

    def _write(self, *events: dict[str, Any], sync: bool = False) -> None:
        """Append events, each given by its fields."""
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.summary.writer.record_writer import RecordWriter

        missing, self.waiting = bool(self.waiting), [*self.waiting, *events]
        try:
            with open(self.file, "ab") as stream:
                if missing:
                    stream.truncate(self.size)  # nothing is read that follows half an event
                writer = RecordWriter(stream)
                for event in self.waiting:
                    writer.write(Event(**{"wall_time": time.time(), **event}).SerializeToString())
                stream.flush()
                if sync:
                    os.fsync(stream.fileno())
                self.size, self.waiting = stream.tell(), []
        except OSError as error:
            if not missing:
                self.log.warning(f"{self.file} cannot be written: {error.strerror}; the next row tries again")

    def row(self, row: dict[str, float]) -> None:
        """Mirror one row of the record."""
        self._write(_scalars(row))

    def picture(self, tag: str, file: Path, step: int) -> None:
        """Show a PNG file."""
        png = file.read_bytes()
        width, height = (int.from_bytes(png[at : at + 4], "big") for at in (16, 20))
        image = {"height": height, "width": width, "colorspace": 4, "encoded_image_string": png}
        self._write({"summary": {"value": [{"tag": tag, "image": image}]}, "step": step})

    def embedding(self, codes: "Tensor", labels: list[str], thumbnails: "Tensor") -> None:
        """Show points (n, code) with their labels and pictures (n, 1, height, width) in the projector."""
        from torch.utils.tensorboard import SummaryWriter

        try:
            with SummaryWriter(str(self.directory), filename_suffix=".projector") as writer:
                writer.add_embedding(codes, labels, thumbnails, tag="codes")
        finally:
            for empty in self.directory.glob("events.out.tfevents.*.projector"):
                empty.unlink()

    def end(self, result: dict[str, Any]) -> None:
        """Mirror the test metrics and the status, for TensorBoard's table of runs. All is on the disk then."""
        from tensorboard.plugins.hparams import api_pb2, metadata, plugin_data_pb2

        test = {tag: value for tag, value in result["metrics"].items() if tag.startswith("test/")}
        codes = {"done": api_pb2.STATUS_SUCCESS, "failed": api_pb2.STATUS_FAILURE}
        code = codes.get(result["status"], api_pb2.STATUS_UNKNOWN)
        data = plugin_data_pb2.HParamsPluginData(session_end_info=plugin_data_pb2.SessionEndInfo(status=code))
        how = {"tag": metadata.SESSION_END_INFO_TAG, "metadata": metadata.create_summary_metadata(data)}
        self._write(_scalars(test | {"epoch": result["epoch"]}), {"summary": {"value": [how]}}, sync=True)
        if self.waiting:
            self._write(sync=True)


def _scalars(row: dict[str, float]) -> dict[str, Any]:
    """A row as an event of its time."""
    values = [{"tag": tag, "simple_value": value} for tag, value in row.items() if tag not in FACTS]
    when = {"wall_time": row["time"]} if "time" in row else {}
    return {"summary": {"value": values}, "step": int(row["epoch"]), **when}
