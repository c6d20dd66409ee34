"""Muon: momentum, made orthogonal (Jordan et al. 2024). Its knobs: fmnist.config.schema.MuonConfig."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from fmnist.nn.optim import RULES, Rule

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)  # coefficients of the quintic iteration (Jordan et al. 2024)


def orthogonalised(matrices: Tensor, iterations: int = 5) -> Tensor:
    """U V^T of the singular value decompositions U S V^T of matrices (K, n, m), nearly: by Newton-Schulz iterations the
    singular values come to lie between about 0.7 and 1.2 (Jordan et al. 2024)."""
    a, b, c = NEWTON_SCHULZ
    x: Tensor = matrices.mT if matrices.shape[-2] > matrices.shape[-1] else matrices
    x = x / (x.flatten(1).norm(dim=1).view(-1, 1, 1) + 1e-7)
    for _ in range(iterations):
        square = x @ x.mT
        x = a * x + (b * square + c * square @ square) @ x
    return x.mT if matrices.shape[-2] > matrices.shape[-1] else x


def muon(
    parameters: list[Tensor], gradients: list[Tensor], moments: list[Tensor], squares: list[Tensor],
    lr: Sequence[float], settings: Sequence[dict[str, Any]], steps: Tensor,
) -> None:  # fmt: skip
    """Matrices: m = mu m + g, p -= lr (0.2 sqrt(max(out, in)) O(g + mu m) + decay p), O = `orthogonalised` (Jordan et
    al. 2024). The factor (Liu et al. 2025) gives updates the size of AdamW's, so that one lr serves all. What is no
    matrix is updated by AdamW."""
    for p, g, m, v in zip(parameters, gradients, moments, squares, strict=True):
        shape = (-1, *[1] * (p.dim() - 1))
        rate, decay, momentum = (
            torch.tensor(values, dtype=p.dtype, device=p.device).view(shape)
            for values in (lr, [s["weight_decay"] or 0.0 for s in settings], [s["momentum"] for s in settings])
        )
        if p.dim() == 3:
            m.mul_(momentum).add_(g)
            direction = orthogonalised(g + momentum * m) * (0.2 * math.sqrt(max(p.shape[1:])))
            p.mul_(1 - rate * decay).sub_(rate * direction)
            continue
        for run, own in enumerate(settings):
            RULES["adamw"].update(
                [p[run]], [g[run]], [m[run]], [v[run]], lr=lr[run], settings=own, steps=steps,
            )  # fmt: skip


RULES["muon"] = Rule(("momentum_buffer", "exp_avg_sq"), muon, elementwise=False)
