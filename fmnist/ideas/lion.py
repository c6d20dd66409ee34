"""Lion: the sign of a running mean of the gradient (Chen et al. 2023). Its knobs: fmnist.config.schema.LionConfig."""

from typing import Any

import torch
from torch import Tensor

from fmnist.nn.optim import RULES, Rule


def lion(
    parameters: list[Tensor], gradients: list[Tensor], means: list[Tensor], lr: float, settings: dict[str, Any],
    steps: Tensor,
) -> None:  # fmt: skip
    """p -= lr (sign(beta1 m + (1 - beta1) g) + decay p), then m = beta2 m + (1 - beta2) g (Chen et al. 2023)."""
    beta1, beta2 = settings["betas"]
    for p, g, m in zip(parameters, gradients, means, strict=True):
        p.mul_(1 - lr * (settings["weight_decay"] or 0.0)).sub_(torch.lerp(m, g, 1 - beta1).sign_(), alpha=lr)
        m.lerp_(g, 1 - beta2)


RULES["lion"] = Rule(("exp_avg",), lion)
