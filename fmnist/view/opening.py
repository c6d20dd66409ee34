"""The first line of a run's log: what is trained, on which data."""

from collections.abc import Callable
from itertools import groupby

import torch

from fmnist.config.schema import Config, kind
from fmnist.view.measure import Seen

SLOW = ", which this processor emulates: expect many times the time of float32"
DEBUG = "; debug=true: two steps an epoch by autograd, which checks each number"


def opening(stack: Seen, config: Config, epoch: int, emulates: Callable[[torch.device], bool]) -> str:
    """The line for one run of a stack. epoch: after which it goes on. emulates: whether bfloat16 is
    emulated on a device."""
    data, model = stack.dataset, config.model
    held_out = len(data.validation.labels) if data.validation else 0
    parameters = [*stack.model.parameters()]
    weights = sum(parameter.numel() for parameter in parameters) // len(stack.configs)
    device = parameters[0].device
    slow = SLOW if config.precision == "bfloat16" and emulates(device) else ""
    units = kind(model.name).widths(model, data.height * data.width, data.classes)
    return (
        f"{model.name} ({widths_in_words(units)}): {weights:,} parameters, {len(data.train.labels):,} training, "
        f"{held_out:,} validation and {len(data.test.labels):,} test images, {config.precision} on {device}{slow}"
        f"{f', going on after epoch {epoch}' if epoch else ''}{DEBUG if config.debug else ''}"
    )


def widths_in_words(units: list[int]) -> str:
    """The widths of all layers: "784-300-100-10"; of equal neighbours how many there are: "784-[50 x 32]-10"."""
    runs = [(width, len([*same])) for width, same in groupby(units)]
    return "-".join(f"[{count} x {width}]" if count > 2 else "-".join([str(width)] * count) for width, count in runs)
