"""The optimizer's update as instructions of the native library: the last part of a step's last program."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from fmnist.nn.optim import RULES, Optimizer
from fmnist.speed.native import CODES, Instruction, Operand
from fmnist.speed.programs import ALONE, Known


class Update:
    """Adam's or AdamW's update of all parameters of K runs, each run with hyper-parameters of its own."""

    def __init__(self, optimizer: Optimizer) -> None:
        self.optimizer, self.decoupled = optimizer, optimizer.rule is RULES["adamw"]
        self.numbers = torch.zeros(len(optimizer.settings), 7, dtype=torch.float64)  # see adam in native/elementwise.c
        self.instructions = [self._of(*blocks) for blocks in zip(*optimizer.blocks, strict=True)]

    @classmethod
    def of(cls, optimizer: Optimizer) -> "Update | None":
        """The update, or None: the optimizer has another rule."""
        known = optimizer.flat.data.dtype == torch.float32 and optimizer.rule in (RULES["adam"], RULES["adamw"])
        return cls(optimizer) if known else None

    def _of(self, *blocks: Tensor) -> Known:
        """The instruction for the blocks (K, ...) of one parameter: values, gradients, means and squares."""
        runs, size = len(blocks[0]), blocks[0][0].numel()
        found = Instruction(CODES["adam"], runs=runs, features=size, rows=1)
        for place, block in enumerate(blocks):
            found.operand[place] = Operand(block.data_ptr(), size, 1, 0)
        found.operand[4] = Operand(self.numbers.data_ptr(), self.numbers.shape[1], 0, 0)
        return Known(found, (*blocks, self.numbers), ALONE)

    def prepare(self, lr: Sequence[float]) -> None:
        """Count a step, and set its numbers. lr: one per run."""
        self.optimizer.steps += 1
        step, runs = int(self.optimizer.steps), zip(lr, self.optimizer.settings, strict=True)
        self.numbers.copy_(torch.tensor([self._numbers(rate, step, **s) for rate, s in runs], dtype=torch.float64))

    def _numbers(
        self, lr: float, step: int, betas: Sequence[float], eps: float, weight_decay: float | None, **_: Any
    ) -> list[float]:
        decay, (beta1, beta2) = weight_decay or 0.0, betas
        of_gradient, kept = (0.0, 1 - lr * decay) if self.decoupled else (decay, 1.0)
        return [lr / (1 - beta1**step), 1 - beta1, 1 - beta2, (1 - beta2**step) ** -0.5, eps, of_gradient, kept]
