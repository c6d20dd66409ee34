"""Optimizers over flat buffers, with hyper-parameters of each run's own, and learning rate schedules."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn


class Flat:
    """All parameters of a model as views of one buffer, and their gradients of another; layer after layer, so that each
    parameter is one contiguous block (K, ...).

    Nothing may rebind a parameter or its gradient afterwards; copy into them.
    """

    def __init__(self, model: nn.Module) -> None:
        self.named = dict(model.named_parameters())
        parameters = list(self.named.values())
        self.data = torch.cat([p.detach().reshape(-1) for p in parameters])
        self.grad = torch.zeros_like(self.data)
        for p, values, gradients in zip(parameters, self.views(self.data), self.views(self.grad), strict=True):
            p.data, p.grad = values, gradients

    def views(self, buffer: Tensor) -> list[Tensor]:
        """The blocks of a buffer laid out like the parameters, each in its parameter's shape."""
        sizes = [p.numel() for p in self.named.values()]
        blocks = torch.split(buffer, sizes)
        return [block.view(p.shape) for block, p in zip(blocks, self.named.values(), strict=True)]


# What torch.optim calls the moments it keeps.
STATES = {"sgd": ("momentum_buffer",), "adam": ("exp_avg", "exp_avg_sq"), "adamw": ("exp_avg", "exp_avg_sq")}


class Optimizer:
    """One torch fused update for all runs where their hyper-parameters agree, else one per run over its slices.

    name: sgd, adam or adamw. settings: per run, its keyword arguments as torch.optim's class of that name takes them
    (adam, adamw: betas, eps, weight_decay; sgd: momentum, nesterov, weight_decay). The arithmetic is torch.optim's.
    """

    def __init__(self, name: str, flat: Flat, settings: Sequence[dict[str, Any]]) -> None:
        self.name, self.flat, self.settings = name, flat, settings
        self.states = {state: torch.zeros_like(flat.data) for state in STATES[name]}
        self.steps = torch.zeros((), device=flat.data.device)
        buffers = [flat.data, flat.grad, *self.states.values()]
        self.whole = [[buffer] for buffer in buffers]
        views = [flat.views(buffer) for buffer in buffers]
        self.slices = [[[block[run] for block in blocks] for blocks in views] for run in range(len(settings))]

    @torch.no_grad()
    def step(self, lr: Sequence[float]) -> None:
        """Update all parameters from their gradients. lr: one per run."""
        self.steps += 1
        if all(rate == lr[0] for rate in lr) and all(s == self.settings[0] for s in self.settings):
            self._update(self.whole, lr[0], self.settings[0])
            return
        for lists, rate, settings in zip(self.slices, lr, self.settings, strict=True):
            self._update(lists, rate, settings)

    def _update(self, lists: list[list[Tensor]], lr: float, settings: dict[str, Any]) -> None:
        weight_decay = settings["weight_decay"] or 0.0
        if self.name == "sgd":
            parameters, gradients, moments = lists
            torch._fused_sgd_(
                parameters, gradients, moments if settings["momentum"] else [], lr=lr, weight_decay=weight_decay,
                momentum=settings["momentum"], dampening=0.0, nesterov=bool(settings["nesterov"]), maximize=False,
                is_first_step=False,
            )  # fmt: skip
            return
        update = torch._fused_adam_ if self.name == "adam" else torch._fused_adamw_
        beta1, beta2 = settings["betas"]
        parameters, gradients, means, squares = lists
        update(
            parameters, gradients, means, squares, [], [self.steps] * len(parameters), lr=lr, beta1=beta1, beta2=beta2,
            weight_decay=weight_decay, eps=settings["eps"], amsgrad=False, maximize=False,
        )  # fmt: skip

    def clip(self, limits: Sequence[float | None]) -> None:
        """Scale each run's gradient to a norm of at most its limit (None: leave it)."""
        if all(limit is None for limit in limits):
            return
        blocks = self.flat.views(self.flat.grad)
        squares = torch.stack([block.flatten(1).square().sum(1) for block in blocks]).sum(0)
        bounds = torch.tensor([math.inf if limit is None else limit for limit in limits], dtype=torch.float64)
        scale = (bounds.to(squares) / (squares.sqrt() + 1e-6)).clamp(max=1.0)
        for block in blocks:
            block *= scale.view(-1, *[1] * (block.dim() - 1))

    def state_of(self, run: int) -> dict[str, Any]:
        """One run's state, as a solo run would have it: steps, and the moments by parameter name."""
        named = {s: dict(zip(self.flat.named, self.flat.views(b), strict=True)) for s, b in self.states.items()}
        moments = {s: {name: block[run].clone() for name, block in blocks.items()} for s, blocks in named.items()}
        return {"steps": int(self.steps), **moments}

    @torch.no_grad()
    def load_state_of(self, run: int, state: dict[str, Any]) -> None:
        """Put back what `state_of` gave."""
        self.steps.fill_(state["steps"])
        for name, buffer in self.states.items():
            for parameter, block in zip(self.flat.named, self.flat.views(buffer), strict=True):
                block[run].copy_(state[name][parameter])


def schedule(name: str, lr: float, step: int, steps: int) -> float:
    """The learning rate of step `step` (from 0) of `steps`.

    constant; cosine from lr to 0 (Loshchilov & Hutter 2017); one_cycle, torch.optim's OneCycleLR with its defaults:
    cosine from lr/25 up to lr in the first 30 % of the steps, then down to lr/250,000 (Smith & Topin 2018).
    """
    if name == "constant":
        return lr
    if name == "cosine":
        return _cosine(lr, 0.0, step / steps)
    if name == "one_cycle":
        top = 0.3 * steps - 1
        if step <= top:
            return _cosine(lr / 25, lr, step / top if top > 0 else 1.0)
        return _cosine(lr, lr / 25e4, (step - top) / max(steps - 1 - top, 1))
    raise ValueError(f"schedule must be constant, cosine or one_cycle, got {name!r}")


def _cosine(start: float, end: float, share: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * share)) / 2
