"""TensorBoard's mirror of a record."""

import logging
import os
import socket
import time
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fmnist.config.parse import flat
from fmnist.config.schema import NOT_HASHED, Config, kind
from fmnist.record.result import FACTS, read_rows

if TYPE_CHECKING:
    from torch import Tensor


class Mirror:
    """TensorBoard's mirror of the record: its events file is written anew from the rows whenever a run starts.

    The file is opened for each row and closed again, so that a stack of a thousand runs does not hold a thousand open.
    Where it cannot be written, a warning says so once and it is removed: half an event hides all that follow. The rows
    are in the record, training goes on, and the end of the run tries once more.
    """

    def __init__(self, config: Config, directory: Path, rows: list[dict[str, float]], log: logging.Logger) -> None:
        self.config, self.directory, self.log = config, directory, log
        self.file = directory / f"events.out.tfevents.{time.time():.6f}.{socket.gethostname()}"
        self.pictures: list[tuple[str, Path, int]] = []
        self.lost = False
        self._begin(rows)

    def _begin(self, rows: list[dict[str, float]]) -> None:
        """Write the file anew."""
        from tensorboard.plugins.hparams import summary_v2 as hparams
        from torch.utils.tensorboard.summary import custom_scalars

        charts = {name: [f"train/{name}", f"validation/{name}"] for name in kind(self.config.model.name).charts}
        layout = {"curves": {name: ["Multiline", tags] for name, tags in charts.items()}}
        knobs = {key: _in_words(value) for key, value in flat(asdict(self.config)).items() if key not in NOT_HASHED}
        metrics = [hparams.Metric(f"{part}/{name}") for name in reversed(charts)
                   for part in ("validation", "test", "train")]  # fmt: skip
        summaries = [custom_scalars(layout),  # type: ignore[no-untyped-call]
                     hparams.hparams_config_pb([hparams.HParam(key) for key in knobs], metrics),
                     hparams.hparams_pb(knobs)]  # fmt: skip
        version = "brain.Event:2"  # readers recognise a file of events by it
        self._write({"file_version": version}, *({"summary": each} for each in summaries), *map(_scalars, rows),
                    *(_picture(*each) for each in self.pictures), anew=True)  # fmt: skip

    def _write(self, *events: dict[str, Any], anew: bool = False, sync: bool = False) -> None:
        """Append events, each given by its fields. anew: in place of all files of events that there are."""
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.summary.writer.record_writer import RecordWriter

        if self.lost and not anew:
            return
        try:
            for old in self.directory.glob("events.out.tfevents.*") if anew else ():
                old.unlink()
            with open(self.file, "ab") as stream:
                writer = RecordWriter(stream)
                for event in events:
                    writer.write(Event(**{"wall_time": time.time(), **event}).SerializeToString())
                if sync:
                    stream.flush()
                    os.fsync(stream.fileno())
            self.lost = False
        except OSError as error:
            if not self.lost:
                self.log.warning(f"{self.file} cannot be written: {error.strerror}; it is made anew at the run's end")
            self.lost = True
            with suppress(OSError):
                self.file.unlink()

    def row(self, row: dict[str, float]) -> None:
        """Mirror one row of the record."""
        self._write(_scalars(row))

    def picture(self, tag: str, file: Path, step: int) -> None:
        """Show a PNG file."""
        self.pictures.append((tag, file, step))
        self._write(_picture(tag, file, step))

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
        """Mirror the test metrics and the status, on the disk. What was lost of a run that is done is written now: it
        will not go on."""
        test = {tag: value for tag, value in metrics.items() if tag.startswith("test/")}
        ending = _scalars(test | {"epoch": epoch}), {"summary": _session_end(status)}
        self._write(*ending, sync=True)
        if self.lost and status == "done":
            self._begin([*filter(None, read_rows(self.directory))])
            self._write(*ending, sync=True)


def _scalars(row: dict[str, float]) -> dict[str, Any]:
    """A row as an event of its time."""
    from tensorboard.compat.proto.summary_pb2 import Summary

    values = [Summary.Value(tag=tag, simple_value=value) for tag, value in row.items() if tag not in FACTS]
    when = {"wall_time": row["time"]} if "time" in row else {}
    return {"summary": Summary(value=values), "step": int(row["epoch"]), **when}


def _picture(tag: str, file: Path, step: int) -> dict[str, Any]:
    """A PNG file as an event."""
    from tensorboard.compat.proto.summary_pb2 import Summary

    png = file.read_bytes()
    width, height = (int.from_bytes(png[at : at + 4], "big") for at in (16, 20))
    image = Summary.Image(height=height, width=width, colorspace=4, encoded_image_string=png)
    return {"summary": Summary(value=[Summary.Value(tag=tag, image=image)]), "step": step}


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
