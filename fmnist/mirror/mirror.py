"""TensorBoard's mirror of a record: it is written anew from the rows whenever a run starts or goes on."""

import logging
import os
import socket
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fmnist.config.schema import Config
from fmnist.mirror import layers, projector, summaries
from fmnist.program.files import sync_folder

# The folders of a run that have events. Each is a run to TensorBoard, with a colour of its own: so the curves of
# training and of validation have the same tags, stand in one chart and are told apart by their colour.
PARTS = ("train", "validation", "fit")
EVENTS = "events.out.tfevents.*"


def erase(directory: Path) -> None:
    """Remove the mirror of the run in `directory`, that of older versions included."""
    for folder in (directory, *(directory / part for part in PARTS)):
        for old in folder.glob(EVENTS):
            old.unlink()


class Mirror:
    """TensorBoard's mirror of the record of one run.

    Its files are opened for each row and closed again, so that a stack of a thousand runs does not hold a thousand
    open. Where one cannot be written, a warning says so and training goes on: what is missing is written with the next
    row. What is shown of a run beside its curves stands with those of validation or, without such, of training.
    """

    def __init__(self, config: Config, directory: Path, rows: Sequence[dict[str, Any]], log: logging.Logger) -> None:
        erase(directory)
        self.config, self.directory, self.log = config, directory, log
        self.name = f"events.out.tfevents.{time.time():.6f}.{socket.gethostname()}"
        self.main = "validation" if config.data.split < 1 else "train"
        self.waiting: dict[str, list[dict[str, Any]]] = {}  # events that could not be written, by part
        self.sizes: dict[str, int] = {}  # bytes of each file that are whole events
        start = rows[0]["time"] if rows and "time" in rows[0] else time.time()
        about = [{"summary": summary} for summary in summaries.of_config(config, directory, start)]
        events = {self.main: [{"wall_time": start, **event} for event in about]}
        for row in rows:
            for part, event in summaries.of_row(config, self.main, row).items():
                events.setdefault(part, []).append(event)
        for seen in layers.kept(directory, int(rows[-1]["epoch"]) if rows else 0):
            events.setdefault("train", []).append(self._seen(seen["epoch"], seen))
        for part, own in events.items():
            self._write(part, *own)

    def _write(self, part: str, *events: dict[str, Any], sync: bool = False) -> None:
        """Append events, each given by its fields."""
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.summary.writer.record_writer import RecordWriter

        told, missing, file = any(self.waiting.values()), self.waiting.get(part), self.directory / part / self.name
        new = [] if part in self.sizes or missing else [{"file_version": "brain.Event:2"}]
        self.waiting[part] = [*(missing or []), *new, *events]
        try:
            file.parent.mkdir(exist_ok=True)
            with open(file, "ab") as stream:
                if missing:
                    stream.truncate(self.sizes.get(part, 0))  # nothing is read that follows half an event
                writer = RecordWriter(stream)
                for event in self.waiting[part]:
                    writer.write(Event(**{"wall_time": time.time(), **event}).SerializeToString())
                stream.flush()
                if sync:
                    os.fsync(stream.fileno())
                self.sizes[part], self.waiting[part] = stream.tell(), []
        except OSError as error:
            if not told:
                self.log.warning(f"{file} cannot be written: {error.strerror}; the next row tries again")

    def show(self, *shown: Any, step: int) -> None:
        """Show summaries of the run beside its curves."""
        self._write(self.main, *({"summary": summary, "step": step} for summary in shown))

    def row(self, row: dict[str, Any]) -> None:
        """Mirror one row of the record."""
        for part, event in summaries.of_row(self.config, self.main, row).items():
            self._write(part, event)

    def layers(self, epoch: int, seen: dict[str, Any]) -> None:
        """Show what was seen of the layers in an epoch, and keep it: see fmnist.view.histograms."""
        try:
            layers.add(self.directory, epoch, seen)
        except OSError as error:
            self.log.warning(f"{self.directory / layers.NAME} cannot be written: {error.strerror}")
        self._write("train", self._seen(epoch, seen))

    @staticmethod
    def _seen(epoch: int, seen: dict[str, Any]) -> dict[str, Any]:
        return {"summary": summaries.of_layers(seen), "step": epoch}

    def picture(self, tag: str, png: bytes, step: int) -> None:
        """Show a PNG."""
        self.show(summaries.picture(tag, png), step=step)

    def curves(self, tag: str, counts: Any, step: int) -> None:
        """Show a curve of precision by recall: see `summaries.precision_recall`."""
        self.show(summaries.precision_recall(tag, counts), step=step)

    def graph(self, nodes: Sequence[tuple[str, str, Sequence[str], str]]) -> None:
        """Show a model: see `summaries.graph`."""
        self._write(self.main, {"graph_def": summaries.graph(nodes)})

    def embedding(self, points: Any, labels: Sequence[str], thumbnails: Any) -> None:
        """Show points (n, numbers) with labels and pictures (n, height, width; uint8) in the projector."""
        projector.write(self.directory / self.main, points, labels, thumbnails)

    def end(self, result: dict[str, Any]) -> None:
        """Mirror the test metrics and the status, for TensorBoard's table of runs. All is on the disk then."""
        test = {tag: value for tag, value in result["metrics"].items() if tag.startswith("test/")}
        row = {"epoch": result["epoch"], **test}
        events = summaries.of_row(self.config, self.main, row).values()
        self._write(self.main, *events, {"summary": summaries.ended(result["status"])}, sync=True)
        for part in self.waiting:
            if part != self.main or self.waiting[part]:
                self._write(part, sync=True)
            sync_folder(self.directory / part)
