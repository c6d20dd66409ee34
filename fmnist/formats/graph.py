"""A network as an ONNX file (https://onnx.ai), and what onnxruntime makes of it.

A rule writes each of torch.nn's layers as nodes. A network with a layer that has no rule, as ideas may bring, is
written by torch's own exporter: it knows nearly all operations of torch, and takes seconds.
"""

import logging
import warnings
from collections.abc import Callable, Mapping
from functools import singledispatch
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fmnist import UserError
from fmnist.formats.network import one_gaussian
from fmnist.formats.weights import as_texts
from fmnist.nn.layers import Gated, Residual
from fmnist.nn.models import Autoencoder
from fmnist.program.files import replacing

INPUT, OPSET, IR = "images", 20, 10  # IR: the version of the file's format, which goes with the opset
NEEDED = "pip install -e '.[export]' brings what ONNX needs"
Ask = Callable[[Tensor], Mapping[str, Tensor]]


class NoRule(Exception):
    """A layer that no rule writes."""


class Nodes:
    """The nodes of a graph as they are written. A value is known by its name; weights have those of the network."""

    def __init__(self, network: nn.Module) -> None:
        self.nodes: list[Any] = []
        self.weights: dict[str, Tensor] = {}
        named = [*network.named_parameters(), *network.named_buffers()]
        self.names = {id(tensor): name for name, tensor in named}

    def add(self, operator: str, *inputs: str | Tensor, outputs: int = 1, **attributes: Any) -> Any:
        """A node; the name of its output, or their names where it has more."""
        import onnx

        names = [value if isinstance(value, str) else self.weight(value) for value in inputs]
        made = [f"{operator.lower()}_{len(self.nodes)}{'abc'[k] if outputs > 1 else ''}" for k in range(outputs)]
        self.nodes.append(onnx.helper.make_node(operator, names, made, **attributes))
        return made if outputs > 1 else made[0]

    def weight(self, value: Tensor) -> str:
        """The name of a weight, or of a constant."""
        name = self.names.get(id(value), f"constant_{len(self.weights)}")
        self.weights[name] = value.detach()
        return name


@singledispatch
def rule(layer: nn.Module, nodes: Nodes, x: str) -> str:
    """Write what a layer makes of a value (n, features); the name of the result. Raises NoRule."""
    if type(layer).forward is not nn.Sequential.forward:
        raise NoRule
    for inner in layer.children():
        x = rule(inner, nodes, x)
    return x


@rule.register
def _(layer: nn.Linear, nodes: Nodes, x: str) -> str:
    return str(nodes.add("Gemm", x, layer.weight, layer.bias, transB=1))


@rule.register
def _(layer: nn.BatchNorm1d, nodes: Nodes, x: str) -> str:
    assert layer.running_mean is not None
    assert layer.running_var is not None
    statistics = layer.running_mean, layer.running_var
    return str(nodes.add("BatchNormalization", x, layer.weight, layer.bias, *statistics, epsilon=layer.eps))


@rule.register
def _(layer: nn.LayerNorm, nodes: Nodes, x: str) -> str:
    return str(nodes.add("LayerNormalization", x, layer.weight, layer.bias, axis=-1, epsilon=layer.eps))


@rule.register
def _(layer: Residual, nodes: Nodes, x: str) -> str:
    shortcut = x if layer.projection is None else rule(layer.projection, nodes, x)
    return str(nodes.add("Add", shortcut, rule(layer.inner, nodes, x)))


@rule.register
def _(layer: Gated, nodes: Nodes, x: str) -> str:
    return str(nodes.add("Mul", rule(layer.inner, nodes, x), rule(layer.gate, nodes, x)))


@rule.register
def _(layer: nn.LeakyReLU, nodes: Nodes, x: str) -> str:
    return str(nodes.add("LeakyRelu", x, alpha=layer.negative_slope))


@rule.register
def _(layer: nn.SiLU, nodes: Nodes, x: str) -> str:
    return str(nodes.add("Mul", x, nodes.add("Sigmoid", x)))


@rule.register(nn.Identity)
@rule.register(nn.Dropout)  # in evaluation
def _(layer: nn.Module, nodes: Nodes, x: str) -> str:
    return x


def _named(operator: str) -> Callable[[nn.Module, Nodes, str], str]:
    """The rule of an elementwise function that ONNX has."""
    return lambda layer, nodes, x: str(nodes.add(operator, x))


for _kind, _operator in ((nn.ReLU, "Relu"), (nn.GELU, "Gelu"), (nn.Sigmoid, "Sigmoid"), (nn.Tanh, "Tanh")):
    rule.register(_kind)(_named(_operator))


def _answers(network: nn.Module, nodes: Nodes, images: str, classifies: bool) -> dict[str, str]:
    """Write what a network answers to images (n, pixels): the names of the values, by those of the answers."""
    if classifies:
        logits = rule(network, nodes, images)
        return {"logits": logits, "probabilities": nodes.add("Softmax", logits, axis=-1)}
    if one_gaussian(network):
        mean, log_variance = nodes.add("Split", rule(network.encoder, nodes, images), outputs=2, axis=-1, num_outputs=2)
        found, code = {"mean": mean, "log_variance": log_variance}, mean
    elif isinstance(network, Autoencoder):
        code = rule(network.encoder, nodes, images)
        found = {"code": code}
    else:
        raise NoRule
    return {**found, "reconstruction": nodes.add("Sigmoid", rule(network.decoder, nodes, code))}


def _built(network: nn.Module, shapes: Mapping[str, tuple[int, ...]], size: tuple[int, int]) -> Any:
    """The ONNX model of a network by the rules. shapes: of an image's answers. Raises NoRule."""
    import onnx
    from onnx.helper import make_tensor_value_info as described

    nodes, number = Nodes(network), onnx.TensorProto.FLOAT
    found = _answers(network, nodes, nodes.add("Flatten", INPUT, axis=1), "logits" in shapes)
    if "reconstruction" in found:
        found["reconstruction"] = nodes.add("Reshape", found["reconstruction"], torch.tensor([-1, *size]))
    final = {value: name for name, value in found.items()}
    for node in nodes.nodes:
        node.input[:] = [final.get(name, name) for name in node.input]
        node.output[:] = [final.get(name, name) for name in node.output]
    weights = [onnx.numpy_helper.from_array(value.numpy(), name) for name, value in nodes.weights.items()]
    images = described(INPUT, number, ["n", *size])
    outputs = [described(name, number, ["n", *shapes[name]]) for name in found]
    graph = onnx.helper.make_graph(nodes.nodes, "network", [images], outputs, weights)
    opset = onnx.helper.make_opsetid("", OPSET)
    return onnx.helper.make_model(graph, opset_imports=[opset], ir_version=IR, producer_name="fmnist")


class _Module(nn.Module):
    """images (n, height, width) -> the answers to them, one after another; images among these have the same shape."""

    def __init__(self, network: nn.Module, ask: Ask) -> None:
        super().__init__()
        self.network, self.ask = network, ask  # the former, so that its weights are found

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        found = self.ask(images.flatten(1))
        return tuple(value.view_as(images) if name == "reconstruction" else value for name, value in found.items())


def _traced(network: nn.Module, ask: Ask, names: list[str], size: tuple[int, int]) -> Any:
    """The ONNX model of a network by torch's own exporter."""
    import onnxscript  # noqa: F401 - torch asks for it

    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch's own parts, about one another
        made = torch.onnx.export(
            _Module(network, ask), (torch.zeros(2, *size),), input_names=[INPUT], output_names=names,
            dynamic_shapes=({0: torch.export.Dim("n")},), opset_version=OPSET, dynamo=True, verbose=False,
        )  # fmt: skip
    assert made is not None
    model = made.model_proto
    for part in (model.graph, *model.graph.node, *model.graph.input, *model.graph.output, *model.graph.value_info):
        part.ClearField("metadata_props")  # lines of source files, with their places on this machine
    return model


def write(path: Path, network: nn.Module, ask: Ask, size: tuple[int, int], facts: Mapping[str, Any]) -> None:
    """Write what a network answers to `images`, float32 (n, height, width) in [0, 1], any n, as an ONNX file. Its
    outputs have the names of the answers; a reconstruction is (n, height, width).

    ask: from images (n, pixels) to the answers. facts: by name, become texts in the metadata. Raises UserError where a
    library is missing.
    """
    with torch.no_grad():
        shapes = {name: (*value.shape[1:],) for name, value in ask(torch.zeros(2, size[0] * size[1])).items()}
    if "reconstruction" in shapes:
        shapes["reconstruction"] = size
    try:
        import onnx

        try:
            model = _built(network, shapes, size)
        except NoRule:
            model = _traced(network, ask, [*shapes], size)
    except ImportError as error:
        raise UserError(f"{error.name} is missing: {NEEDED}") from None
    onnx.helper.set_model_props(model, as_texts(facts))
    onnx.checker.check_model(model, full_check=True)
    with replacing(path, "wb") as file:
        file.write(model.SerializeToString(deterministic=True))


def runner(path: Path, size: tuple[int, int]) -> Ask:
    """What onnxruntime answers to images (n, pixels), by the file: each (n, numbers). Raises UserError where it is
    missing."""
    try:
        import onnxruntime
    except ImportError:
        raise UserError(f"onnxruntime is missing: {NEEDED}") from None
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]

    def ask(images: Tensor) -> dict[str, Tensor]:
        answers = session.run(names, {INPUT: images.view(-1, *size).numpy()})
        return {name: torch.from_numpy(value).flatten(1) for name, value in zip(names, answers, strict=True)}

    return ask
