"""A model as a graph: its layers, and what each is given."""

from collections.abc import Generator

from torch import nn

from fmnist.nn.layers import Gated, Linear, Residual

Node = tuple[str, str, list[str], str]  # name, in which "/" makes groups; operation; nodes before it; shape in words


def graph(model: nn.Module, inputs: int) -> list[Node]:
    """The layers of one run of a model, in their order, from an image with so many pixels."""
    nodes: list[Node] = [("images", "Input", [], f"{inputs}")]
    nodes += _layers(model, "", "images")
    return [*nodes, ("output", "Output", [nodes[-1][0]], "")]


def _layers(module: nn.Module, path: str, before: str) -> Generator[Node, None, str]:
    """The nodes of a module's own modules, one after another; gives the name of the last."""
    for number, (name, layer) in enumerate(module.named_children(), start=1):
        own = f"{path}{number:02d}_{_operation(layer)}" if name.isdigit() else f"{path}{name}"
        if isinstance(layer, Residual):
            before = yield from _residual(layer, own, before)
        elif isinstance(layer, Gated):
            before = yield from _gated(layer, own, before)
        elif isinstance(layer, nn.Sequential):
            before = yield from _layers(layer, f"{own}/", before)
        else:
            yield own, _operation(layer), [before], _shape(layer)
            before = own
    return before


def _residual(layer: Residual, own: str, before: str) -> Generator[Node, None, str]:
    inner, shortcut = (yield from _layers(layer.inner, f"{own}/", before)), before
    if layer.projection is not None:
        shortcut = f"{own}/projection"
        yield shortcut, "Linear", [before], _shape(layer.projection)
    yield f"{own}/sum", "Add", [shortcut, inner], ""
    return f"{own}/sum"


def _gated(layer: Gated, own: str, before: str) -> Generator[Node, None, str]:
    inner = yield from _layers(layer.inner, f"{own}/", before)
    gate = yield from _layers(layer.gate, f"{own}/gate/", before)
    yield f"{own}/product", "Mul", [inner, gate], ""
    return f"{own}/product"


def _operation(layer: nn.Module) -> str:
    return str(getattr(layer, "name", layer.__class__.__name__))


def _shape(layer: nn.Module) -> str:
    return f"{layer.weight.shape[-1]} -> {layer.weight.shape[-2]}" if isinstance(layer, Linear) else ""
