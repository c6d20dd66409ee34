"""The training step of `debug=true`: slow, and exact about where a number goes wrong."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from fmnist.data.batches import Batch
from fmnist.nn.losses import Criterion
from fmnist.nn.optim import Optimizer
from fmnist.nn.step import Step


class DebugStep(Step):
    """See Step: each gradient comes from autograd. Raises RuntimeError, which names the first layer whose output is not
    finite, or the operation whose gradient is not a number; torch warns then where that was called."""

    def __init__(self, model: nn.Module, criterion: Criterion, optimizer: Optimizer, precision: str, *_: Any) -> None:
        super().__init__(model, criterion, optimizer, precision)
        for name, layer in model.named_modules():
            if not [*layer.children()]:
                layer.register_forward_hook(_checked(name))

    def gradient(self, batch: Batch) -> None:
        """See Step."""
        with torch.autograd.set_detect_anomaly(True):
            super().gradient(batch)


def _checked(name: str) -> Callable[[nn.Module, Any, Any], None]:
    """A hook for the layer of that name."""

    def check(layer: nn.Module, _: Any, output: Any) -> None:
        if isinstance(output, Tensor) and not output.isfinite().all():
            raise RuntimeError(f"the layer {name} ({type(layer).__name__}) gives numbers that are not finite")

    return check
