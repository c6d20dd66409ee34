"""TensorBoard's mirror of a record."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fmnist.config.parse import flat
from fmnist.config.schema import MODELS, NOT_HASHED, Config

if TYPE_CHECKING:
    from torch import Tensor


class Mirror:
    """TensorBoard's mirror of the record: its events file is written anew from the rows whenever a run starts."""

    def __init__(self, config: Config, directory: Path, rows: list[dict[str, float]]) -> None:
        from tensorboard.plugins.hparams import summary_v2 as hparams
        from torch.utils.tensorboard import SummaryWriter

        for old in directory.glob("events.out.tfevents.*"):
            old.unlink()
        self.writer = SummaryWriter(str(directory))
        charts = {name: [f"train/{name}", f"validation/{name}"] for name in MODELS[config.model.name].charts}
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
