"""What TensorBoard wants events to be: summaries of curves, knobs, text, pictures, histograms, a graph."""

import json
import math
import re
import shlex
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fmnist import UserError
from fmnist.config.parse import flat
from fmnist.config.schema import BY_NAME, NOT_HASHED, Config, kind
from fmnist.program.output import encodable
from fmnist.program.reading import contents

CURVES = ("train", "validation", "fit")  # what a row has of curves; each has a folder of its own
LARGEST = 1 << 20  # bytes of the overrides of a run
CHOICES = ("model", "data", "optim", "experiment")  # overrides that choose a file of knobs


def overrides(directory: Path) -> dict[str, str]:
    """What was typed for the run in a directory, by knob, as Hydra has written it down; nothing for other runs."""
    with suppress(OSError, UserError, UnicodeDecodeError):
        lines = contents(directory / ".hydra" / "overrides.yaml", LARGEST).decode().splitlines()
        words = [line[2:].strip("'\"") for line in lines if line.startswith("- ")]
        return {key.lstrip("+"): value for key, _, value in (word.partition("=") for word in words)}
    return {}


def knobs(config: Config, directory: Path) -> dict[str, bool | float | str]:
    """The knobs of a run as HPARAMS lists them.

    TensorBoard joins those of all runs, and puts first the ones that differ. A knob that is null is one that a run has
    not: else each table would list all that there are. But where null was typed, as in a sweep, it is a value.
    """
    typed = overrides(directory)
    off = {key: None for key in typed if key.startswith(BY_NAME)}  # no config has those that are null
    found: dict[str, Any] = {key: value for key, value in (off | flat(asdict(config))).items() if key not in NOT_HASHED}
    found = {key: "null" if value is None and typed.get(key) == "null" else value for key, value in found.items()}
    if config.order_seed == config.seed:
        del found["order_seed"]
    for group in ("model", "data", "optim"):
        found[group] = found.pop(f"{group}.name")
    found |= {key: value for key, value in typed.items() if key in CHOICES and value != "null"}
    return {key: value if isinstance(value, bool | int | float) else encodable(str(value))
            for key, value in found.items() if value is not None}  # fmt: skip


def of_config(config: Config, directory: Path, start: float) -> list[Any]:
    """What is shown of a run before it trains: which curves share a chart, its knobs, and its config as text."""
    from tensorboard.plugins.hparams import summary_v2 as hparams
    from torch.utils.tensorboard.summary import custom_scalars, text

    layout: dict[str, Any] = {"curves": {name: ["Multiline", [f"^{name}$"]] for name in charts(config)}}
    if config.watch == "inputs":
        layout["inputs of the last hidden layer"] = {
            f"unit {unit}: median, 15 % to 85 %": ["Margin", [f"input/{unit}_{share}" for share in (50, 15, 85)]]
            for unit in range(10)
        }
    return [
        custom_scalars(layout),  # type: ignore[no-untyped-call]
        hparams.hparams_pb(knobs(config, directory), encodable("/".join(directory.absolute().parts[-2:])), start),
        text("run", about(config, directory)),  # type: ignore[no-untyped-call]
    ]


def charts(config: Config) -> list[str]:
    """The metrics that have training and validation in one chart."""
    return [_name(config, name) for name in kind(config.model.name).charts]


def _name(config: Config, metric: str) -> str:
    """A metric's name here. What the report calls the accuracy of an autoencoder is not that of a classifier: in one
    chart, or in one column of HPARAMS, they would be compared."""
    return "report_accuracy" if metric == "accuracy" and not kind(config.model.name).classifies else metric


def about(config: Config, directory: Path) -> str:
    """A run in words, as Markdown: blocks of code, in which nothing is interpreted."""
    typed = shlex.join(f"{key}={value}" for key, value in overrides(directory).items())
    sweep = (directory.parent / "multirun.yaml").is_file()
    report = "../report/index.html" if sweep else "report/index.html"
    blocks = {
        "Command": [f"python train.py {typed}".strip()],
        "Config": [f"{key}: {json.dumps(value)}" for key, value in flat(asdict(config)).items()],
        "Its report, once `python -m fmnist.report` has written it": [report],
    }
    lines = [line for title, block in blocks.items() for line in (f"{title}:", "", *map(_code, block), "")]
    return "\n".join(lines)


def _code(line: str) -> str:
    return "    " + "".join(c if c.isprintable() else repr(c)[1:-1] for c in line)


def of_row(config: Config, main: str, row: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """A row of the record as events of its time, by the folder in which each belongs. main: where all goes that is
    measured once."""
    values: dict[str, list[dict[str, Any]]] = {}
    gradients = []
    for tag, value in row.items():
        part, _, name = tag.partition("/")
        if part == "gradient":
            gradients.append(value)
        elif part in CURVES:
            values.setdefault(part, []).append({"tag": _name(config, name), "simple_value": value})
        elif name:
            where = main if part == "test" else "train"
            values.setdefault(where, []).append({"tag": f"{part}/{_name(config, name)}", "simple_value": value})
    if gradients:
        values.setdefault("train", []).append(by_layer("gradients by layer", gradients))
    when = {"wall_time": row["time"]} if "time" in row else {}
    return {part: {"summary": {"value": own}, "step": int(row["epoch"]), **when} for part, own in values.items()}


def by_layer(tag: str, numbers: Sequence[float]) -> dict[str, Any]:
    """A number of each layer as one chart: a bar for each, from the input on."""
    return {"tag": tag, "histo": histogram(0.5, len(numbers) + 0.5, numbers)}


def histogram(low: float, high: float, counts: Iterable[float]) -> dict[str, Any]:
    """A histogram with bars of one width from low to high."""
    bars = [count if math.isfinite(count) else 0.0 for count in counts]
    width = (high - low) / len(bars)
    return {"min": low, "max": high, "num": sum(bars), "bucket": bars,
            "bucket_limit": [*(low + width * place for place in range(1, len(bars))), high]}  # fmt: skip


def of_layers(seen: dict[str, Any]) -> dict[str, Any]:
    """Histograms, by tag [low, high, counts], and numbers by layer, by tag a list."""
    values = [{"tag": tag, "histo": histogram(*given)} for tag, given in seen["histograms"].items()]
    return {"value": [*values, *(by_layer(tag, numbers) for tag, numbers in seen["by layer"].items())]}


def picture(tag: str, png: bytes) -> dict[str, Any]:
    """A PNG as an image."""
    width, height = (int.from_bytes(png[at : at + 4], "big") for at in (16, 20))
    image = {"height": height, "width": width, "colorspace": 3, "encoded_image_string": png}
    return {"value": [{"tag": tag, "image": image}]}


def precision_recall(tag: str, counts: Any) -> Any:
    """A curve of precision by recall: true and false positives, true and false negatives, by rising thresholds from 0
    to 1, as a tensor (4, thresholds)."""
    from torch.utils.tensorboard.summary import pr_curve_raw

    positive, false, _, missed = counts.double()
    precision = positive / (positive + false).clamp(min=1)
    recall = positive / (positive + missed).clamp(min=1)
    data = dict(zip(("tp", "fp", "tn", "fn"), counts.numpy(), strict=True))
    data |= {"precision": precision.numpy(), "recall": recall.numpy(), "num_thresholds": counts.shape[1]}
    return pr_curve_raw(tag, **data)  # type: ignore[no-untyped-call]


def graph(nodes: Sequence[tuple[str, str, Sequence[str], str]]) -> bytes:
    """A model as TensorFlow's graph: of each node its name, in which "/" makes groups, its operation, the names of
    the nodes before it, and its shape in words."""
    from tensorboard.compat.proto.attr_value_pb2 import AttrValue
    from tensorboard.compat.proto.graph_pb2 import GraphDef
    from tensorboard.compat.proto.node_def_pb2 import NodeDef
    from tensorboard.compat.proto.versions_pb2 import VersionDef

    defs = [NodeDef(name=re.sub(r"[^A-Za-z0-9_./-]", "_", name), op=operation, input=inputs,
                    attr={"shape": AttrValue(s=shape.encode())})
            for name, operation, inputs, shape in nodes]  # fmt: skip
    content: bytes = GraphDef(node=defs, versions=VersionDef(producer=22)).SerializeToString()
    return content


def ended(status: str) -> dict[str, Any]:
    """How a run ended, for HPARAMS."""
    from tensorboard.plugins.hparams import api_pb2, metadata, plugin_data_pb2

    codes = {"done": api_pb2.STATUS_SUCCESS, "failed": api_pb2.STATUS_FAILURE}
    code = codes.get(status, api_pb2.STATUS_UNKNOWN)
    data = plugin_data_pb2.HParamsPluginData(session_end_info=plugin_data_pb2.SessionEndInfo(status=code))
    return {"value": [{"tag": metadata.SESSION_END_INFO_TAG, "metadata": metadata.create_summary_metadata(data)}]}
