"""`python -m fmnist.export`: a finished run's network for others, kept only where it answers as the run does."""

import argparse
import json
import runpy
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import fmnist.launch.threads  # noqa: F401 - before torch

import torch
from torch import Tensor, nn

from fmnist import UserError
from fmnist.config.parse import parse
from fmnist.config.schema import Config
from fmnist.data.dataset import as_input
from fmnist.formats import graph, script, weights
from fmnist.formats.network import all_answers, answers, network
from fmnist.nn.step import MEASURED, autocast, evaluating
from fmnist.program.arguments import typed_path, which_weights
from fmnist.program.files import replacing
from fmnist.program.output import printable, run_command
from fmnist.record.result import defined, read_result
from fmnist.report.tables import Table
from fmnist.train.restore import restore
from fmnist.train.stack import Stack

LARGEST = 1e-5  # difference from the run's own answers, in units of the largest of them where that is above 1
FORMATS = {"onnx": "model.onnx", "safetensors": "model.safetensors", "torch": "torch"}  # with their places in a run
WEIGHTS, SCRIPT = "model.safetensors", "load.py"  # the files of --to torch


class Unlike(UserError):
    """A file that does not answer as the run does."""


@dataclass(frozen=True)
class Trained:
    """A run's network without its run axis; the images it is checked on, as grey levels (n, pixels); what the run
    itself answers to them; and what one must know of it, by name."""

    config: Config
    network: nn.Module
    size: tuple[int, int]
    images: Tensor
    own: dict[str, Tensor]
    facts: dict[str, Any]
    remarks: list[str]

    def input(self, dtype: torch.dtype) -> Tensor:
        """The images as numbers in [0, 1]."""
        return as_input(self.images, dtype)


def trained(directory: Path, which: str | None, data: str | None) -> Trained:
    """A run's network and its own answers to all its test images. which: see `weights_of`; None: the weights that
    it was tested with. data: where its data lie now. Errors: those of `restore`."""
    stack, result = restore(directory, which, data), read_result(directory) or {}
    config, dataset = stack.common, stack.dataset
    size = dataset.height, dataset.width
    metrics = {tag: value for tag, value in (result["metrics"] or {}).items() if tag.startswith("test/")}
    if not metrics or which not in (None, config.select):  # those that are recorded are of other weights
        metrics = {tag: values[0] for tag, values in stack.measure("test", dataset.test).items()}
    own, remarks = own_answers(stack)
    if result["status"] != "done":
        remarks.insert(0, f"the run is not done: status={result['status']}, epoch {result['epoch']}")
    facts = {
        "description": f"{config.model.name}, trained on {size[0]}x{size[1]} images of {dataset.classes} classes",
        "config": asdict(config), "config_hash": result["config_hash"], "weights": which or config.select,
        "image_size": size, "class_names": dataset.names, "metrics": defined(metrics), "commit": result.get("commit"),
        "input": "grey levels / 255, rows from above", "outputs": [*own],
    }  # fmt: skip
    model = network(config, stack.weights(0), dataset.height * dataset.width, dataset.classes)
    return Trained(config, model, size, dataset.test.images.cpu(), own, facts, remarks)


def own_answers(stack: Stack) -> tuple[dict[str, Tensor], list[str]]:
    """What a run answers to its test images, by its own layers and kernels, and in what that is not how it is measured.

    Its products are those of float32 where precision=bfloat16: so a file of its weights is to answer.
    """
    config, images, ask = stack.common, stack.input(stack.dataset.test), answers(stack.common, stack.model)
    with evaluating(stack.model):
        own = {name: value[0] for name, value in all_answers(ask, images, MEASURED).items()}
        remarks = []
        if config.precision == "bfloat16":
            with autocast(images.device, config.precision):
                rounded = {name: value[0].float() for name, value in all_answers(ask, images, MEASURED).items()}
            far = max(float((rounded[name] - value).abs().max()) for name, value in own.items())
            remarks.append("precision=bfloat16: the run is measured with products in bfloat16; this file computes in "
                           f"float32, and answers up to {far:.1g} apart from that")  # fmt: skip
    if config.noise or config.mask:
        remarks.append("noise, mask: the run is measured on images that are changed; this file takes them as they are")
    if "log_variance" in own:
        remarks.append("the reconstruction is decoded from the mean; the run is measured by one from a sample")
    if config.loss == "report_rows":
        remarks.append("loss=report_rows: the run is measured by its softmax over images; the probabilities here are "
                       "each image's own")  # fmt: skip
    return own, remarks


def differences(found: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, float]:
    """The largest absolute difference of each answer."""
    if {name: value.shape for name, value in found.items()} != {name: value.shape for name, value in own.items()}:
        raise Unlike(f"it answers {', '.join(found)}, the run {', '.join(own)}")
    return {name: float((found[name] - value).abs().max()) for name, value in own.items()}


def check(found: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, float]:
    """The differences. Raises Unlike where one is larger than LARGEST in units of the largest answer of its kind."""
    apart = differences(found, own)
    for name, value in apart.items():
        unit = max(1.0, float(own[name].abs().max()))
        if not value <= LARGEST * unit:
            raise Unlike(f"it differs from the run: {name} by {value:.2g}, at most {LARGEST * unit:.2g} is allowed")
    return apart


def to_onnx(run: Trained, folder: Path) -> Callable[[Tensor], Mapping[str, Tensor]]:
    """Write model.onnx, in float32; what it answers to images (n, pixels)."""
    path, model = folder / FORMATS["onnx"], run.network.float()
    graph.write(path, model, answers(run.config, model), run.size, run.facts)
    return graph.runner(path, run.size)


def to_safetensors(run: Trained, folder: Path) -> Callable[[Tensor], Mapping[str, Tensor]]:
    """Write model.safetensors; what a network of its config answers with the weights that are read from it."""
    path, (height, width) = folder / WEIGHTS, run.size
    weights.write(path, run.network.state_dict(), run.facts)
    found, texts = weights.read(path)
    config = parse(json.loads(texts["config"]))
    return answers(config, network(config, found, height * width, len(json.loads(texts["class_names"]))))


def to_torch(run: Trained, folder: Path) -> Callable[[Tensor], Mapping[str, Tensor]]:
    """Write model.safetensors and load.py; what the latter's `model` answers."""
    dtype = "float64" if run.config.precision == "float64" else "float32"
    classifies = "logits" in run.own
    given = "logits, whose softmax(-1) are the probabilities of CLASSES" if classifies else ", ".join(run.own)
    says = (
        f"{run.facts['description']}; written by fmnist.export.\n\nmodel(images) gives {given}.\n"
        f"images: (n, {run.size[0] * run.size[1]}) {dtype}, {run.facts['input']}.\n"
    )
    text = script.script(run.network, says, run.facts["class_names"] if classifies else (), WEIGHTS, dtype)
    weights.write(folder / WEIGHTS, run.network.state_dict(), run.facts)
    (folder / SCRIPT).write_text(text, encoding="utf-8")
    model = runpy.run_path(str(folder / SCRIPT))["model"]

    def ask(images: Tensor) -> dict[str, Tensor]:
        found = model(images)
        return dict(zip(run.own, (found, found.softmax(-1)) if classifies else found, strict=True))

    return ask


WRITERS = {"onnx": to_onnx, "safetensors": to_safetensors, "torch": to_torch}


def export(
    directory: Path, to: str = "onnx", out: Path | None = None, which: str | None = None, data: str | None = None
) -> dict[str, Any]:
    """Write a run's network for others: what was written, and how far its answers are from the run's own.

    to: one of FORMATS. out: the file, or of "torch" the folder; None: in the run's directory, below export/. which,
    data: see `trained`. Raises Unlike where the answers differ: then nothing is kept.
    """
    run, target = trained(directory, which, data), out or directory / "export" / FORMATS[to]
    if narrow := to == "onnx" and run.config.precision == "float64":
        run.remarks.append("precision=float64: this file computes in float32; onnxruntime lacks some layers in float64")
    with tempfile.TemporaryDirectory() as scratch:
        ask = WRITERS[to](run, Path(scratch))
        dtype = torch.float32 if narrow or run.config.precision != "float64" else torch.float64
        apart = check(all_answers(ask, run.input(dtype), MEASURED), run.own)
        sizes = {}
        for file in sorted(Path(scratch).iterdir()):
            path = target / file.name if to == "torch" else target
            path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(path, "wb") as stream:
                stream.write(file.read_bytes())
            sizes[str(path)] = file.stat().st_size
    return {
        "run": str(directory), "to": to, "weights": run.facts["weights"], "files": sizes, "images": len(run.images),
        "differences": apart, "largest": {name: float(value.abs().max()) for name, value in run.own.items()},
        "metrics": run.facts["metrics"], "remarks": run.remarks,
    }  # fmt: skip


def in_words(found: Mapping[str, Any]) -> str:
    """What was written, for a person."""
    rows = [[name, f"{value:.1e}", f"{found['largest'][name]:.3g}"] for name, value in found["differences"].items()]
    table = Table([f"on {found['images']:,} test images", "largest difference", "largest answer"], rows).text()
    files = [printable(f"{path}: {size:,} bytes") for path, size in found["files"].items()]
    which = printable(f"the {found['weights']} weights of {found['run']}")
    lines = [*found["remarks"], "", *files, which, "", table]
    if found["to"] == "torch":
        (place,) = (path for path in found["files"] if path.endswith(SCRIPT))
        lines += ["", printable(f"{place}:"), "", Path(place).read_text(encoding="utf-8")]
    return "\n".join(lines).strip()


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m fmnist.export",
        description="A finished run's network for others. It is kept only if it gives what the run itself gives,\n"
        f"to {LARGEST:g}, or to that share of the largest answer above 1, for all its test images.",
        epilog="examples:\n"
        "  python -m fmnist.export outputs/mine                        outputs/mine/export/model.onnx\n"
        "  python -m fmnist.export outputs/mine --to torch             a script of torch.nn alone, with its weights\n"
        "  python -m fmnist.export outputs/mine --to safetensors --weights best --out mine.safetensors\n",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("run", type=typed_path, metavar="RUN", help="the directory of a finished run")
    parser.add_argument("--to", choices=FORMATS, default="onnx",
                        help="onnx: a graph for onnxruntime and others, which takes images (n, height, width) float32, "
                        "grey levels / 255 (default). safetensors: the weights, with config, image size, class names "
                        "and test metrics in the metadata. torch: these, and the lines of Python that load them into "
                        "torch.nn, without this project")  # fmt: skip
    parser.add_argument("--out", type=typed_path, metavar="PATH",
                        help="the file, of torch the folder; default: in RUN/export/")  # fmt: skip
    parser.add_argument("--weights", type=which_weights, metavar="last|best|average|snapshot-N",
                        help="default: those the run was tested with")  # fmt: skip
    parser.add_argument("--data", metavar="DIR", help="where the run's data lie now, if they were moved")
    parser.add_argument("--json", action="store_true", help="print what was written, differences and sizes as JSON")
    given = parser.parse_args()
    try:
        found = export(given.run, given.to, given.out, given.weights, given.data)
    except Unlike as error:
        print(printable(f"error: {error}: nothing is kept"), file=sys.stderr)
        return 1
    print(json.dumps(found, indent=1) if given.json else in_words(found))
    return 0


if __name__ == "__main__":
    run_command(main)
