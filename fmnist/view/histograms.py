"""What `histograms=true` shows of each layer while a model trains: its weights, its gradient, its activations, and how
many of its units are dead. Always on the same batch; it changes nothing of the training."""

from functools import partial
from typing import Any

import torch
from torch import Tensor

from fmnist.data.dataset import as_input
from fmnist.nn.layers import Activation, Gated, Linear
from fmnist.view.measure import Seen
from fmnist.view.watch import ROWS, _left_alone, _slope

BARS = 30  # of a histogram


def histograms(stack: Seen) -> list[dict[str, Any]]:
    """For each run "histograms", by tag [smallest, largest, counts], and "by layer", by tag a number of each layer.

    Layers are numbered from the input on; a gate counts as the one after that which it gates. Activations of a gated
    layer are those behind its gate. A unit is dead if its activation is 0 for all rows of the batch.
    """
    train, model = stack.dataset.train, stack.model
    x, labels = as_input(train.images[:ROWS], stack.dtype), train.labels[:ROWS]
    linear = [layer for layer in model.modules() if isinstance(layer, Linear)]
    inside = {layer for gated in model.modules() if isinstance(gated, Gated) for layer in gated.modules()}
    active = [
        layer for layer in model.modules()
        if isinstance(layer, Gated) or (isinstance(layer, Activation) and layer not in inside)
    ]  # fmt: skip
    outputs: dict[int, Tensor] = {}

    def keep(number: int, layer: Any, given: Any, output: Tensor) -> None:
        outputs[number] = output.detach()

    hooks = [layer.register_forward_hook(partial(keep, number)) for number, layer in enumerate(active, start=1)]
    weights = [layer.weight for layer in linear]
    try:
        with _left_alone(model):
            _, gradients = _slope(model, stack.criterion, x, labels, weights, partial(stack.start_noise, "watch"))
    finally:
        for hook in hooks:
            hook.remove()
    shown: dict[str, Tensor] = {}
    for number, (weight, gradient) in enumerate(zip(weights, gradients, strict=True), start=1):
        name = f"{number:02d}_{weight.shape[-1]}_to_{weight.shape[-2]}"
        shown |= {f"weights/{name}": weight.detach(), f"gradients/{name}": gradient}
    shown |= {f"activations/{number:02d}_of_{output.shape[-1]}": output for number, output in sorted(outputs.items())}
    dead = [(output == 0).all(-2).double().mean(-1) for _, output in sorted(outputs.items())]
    return [
        {
            "histograms": {tag: bars for tag, values in sorted(shown.items()) if (bars := _bars(values[run]))},
            "by layer": {"share of dead units by layer": [float(share[run]) for share in dead]} if dead else {},
        }
        for run in range(len(stack.configs))
    ]


def _bars(values: Tensor) -> list[Any] | None:
    """A histogram as [smallest, largest, counts]; None where a value is no number."""
    values = values.flatten().float().cpu()
    low, high = map(float, values.aminmax())
    if not (torch.isfinite(values).all() and low <= high):
        return None
    margin = 0.0 if low < high else max(abs(low), 1.0) * 1e-3
    counts = torch.histc(values, BARS, low - margin, high + margin)
    return [low - margin, high + margin, [int(count) for count in counts]]
