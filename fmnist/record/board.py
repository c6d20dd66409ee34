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
    Where it cannot be written, a warning says so: the rows are in the record, and training goes on. What is missing is
    written with the next row.
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
        knobs = {key: _in_words(value) for key, value in flat(asdict(config)).items() if key not in NOT_HASHED}
        metrics = [hparams.Metric(f"{part}/{name}") for name in reversed(charts)
                   for part in ("validation", "test", "train")]  # fmt: skip
        summaries = [custom_scalars(layout),  # type: ignore[no-untyped-call]
                     hparams.hparams_config_pb([hparams.HParam(key) for key in knobs], metrics),
                     hparams.hparams_pb(knobs)]  # fmt: skip
        version = "brain.Event:2"  # readers recognise a file of events by it
        self._write({"file_version": version}, *({"summary": each} for each in summaries), *map(_scalars, rows))

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
                self.log.warning(f"{self.file} cannot be written: {error.strerror}; it is tried again with the next row")

    def row(self, row: dict[str, float]) -> None:
        """Mirror one row of the record."""
        self._write(_scalars(row))

    def picture(self, tag: str, file: Path, step: int) -> None:
        """Show a PNG file."""
        from tensorboard.compat.proto.summary_pb2 import Summary

        png = file.read_bytes()
        width, height = (int.from_bytes(png[at : at + 4], "big") for at in (16, 20))
        image = Summary.Image(height=height, width=width, colorspace=4, encoded_image_string=png)
        self._write({"summary": Summary(value=[Summary.Value(tag=tag, image=image)]), "step": step})

    def embedding(self, codes: "Tensor", labels: list[str], thumbnails: "Tensor") -> None:
        """Show points (n, code) with their labels and pictures (n, 1, height, width) in the projector."""
        from torch.utils.tensorboard import SummaryWriter

        try:
            with SummaryWriter(str(self.directory), filename_suffix=".projector") as writer:
                writer.add_embedding(codes, labels, thumbnails, tag="codes")
        finally:
            for empty in self.directory.glob("events.out.tfevents.*.projector"):
                empty.unlink()

    def end(self, epoch: int, metrics: dict[str, float], status: str) -> None:
        """Mirror the test metrics and the status; all is on the disk then."""
        test = {tag: value for tag, value in metrics.items() if tag.startswith("test/")}
        self._write(_scalars(test | {"epoch": epoch}), {"summary": _session_end(status)}, sync=True)
        if self.waiting:
            self._write(sync=True)


def _scalars(row: dict[str, float]) -> dict[str, Any]:
    """A row as an event of its time."""
    from tensorboard.compat.proto.summary_pb2 import Summary

    values = [Summary.Value(tag=tag, simple_value=value) for tag, value in row.items() if tag not in FACTS]
    when = {"wall_time": row["time"]} if "time" in row else {}
    return {"summary": Summary(value=values), "step": int(row["epoch"]), **when}


def _in_words(value: Any) -> bool | float | str:
    """A knob's value as TensorBoard's table can hold it."""
    return value if isinstance(value, bool | int | float) else "null" if value is None else str(value)


def _session_end(status: str) -> Any:
    """The summary by which TensorBoard's table of hyper-parameters shows how a run ended."""
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.plugins.hparams import api_pb2, metadata, plugin_data_pb2

    code = {"done": api_pb2.STATUS_SUCCESS, "failed": api_pb2.STATUS_FAILURE}.get(status, api_pb2.STATUS_UNKNOWN)
    data = plugin_data_pb2.HParamsPluginData(session_end_info=plugin_data_pb2.SessionEndInfo(status=code))
    about = metadata.create_summary_metadata(data)
    return Summary(value=[Summary.Value(tag=metadata.SESSION_END_INFO_TAG, metadata=about)])
