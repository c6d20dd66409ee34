"""Optimizers over flat buffers, with hyper-parameters of each run's own, and learning rate schedules."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Rule:
    """How an optimizer updates parameters, in place.

    update(parameters, gradients, *states, lr=..., settings=..., steps=...) is given lists of tensors of equal shapes;
    states: the names of what it keeps for each number, zero at the start (torch.optim's names where it has them);
    settings: the keyword arguments of torch.optim's class, or the optimizer's own knobs; steps: how many updates there
    have been, this one included, as a tensor. An elementwise rule is given all numbers of runs that share lr and
    settings at once, whatever they belong to. Another is given each parameter as a block (K, ...), a matrix as (K, out,
    in), and lr and settings as lists, one per run: what it does with a batch of matrices serves K runs at once.
    """

    states: tuple[str, ...]
    update: Callable[..., None]
    elementwise: bool = True


def _sgd(
    parameters: list[Tensor], gradients: list[Tensor], moments: list[Tensor], lr: float, settings: dict[str, Any],
    steps: Tensor,
) -> None:  # fmt: skip
    torch._fused_sgd_(
        parameters, gradients, moments if settings["momentum"] else [], lr=lr, momentum=settings["momentum"],
        weight_decay=settings["weight_decay"] or 0.0, dampening=0.0, nesterov=bool(settings["nesterov"]),
        maximize=False, is_first_step=False,
    )  # fmt: skip


def _adam(fused: Callable[..., None]) -> Callable[..., None]:
    def update(
        parameters: list[Tensor], gradients: list[Tensor], means: list[Tensor], squares: list[Tensor], lr: float,
        settings: dict[str, Any], steps: Tensor,
    ) -> None:  # fmt: skip
        beta1, beta2 = settings["betas"]
        fused(
            parameters, gradients, means, squares, [], [steps] * len(parameters), lr=lr, beta1=beta1, beta2=beta2,
            weight_decay=settings["weight_decay"] or 0.0, eps=settings["eps"], amsgrad=False, maximize=False,
        )  # fmt: skip

    return update


def norms(blocks: Sequence[Tensor]) -> Tensor:
    """The Euclidean norm of each run's part of some blocks (K, ...) together, (K,)."""
    return torch.stack([block.flatten(1).square().sum(1) for block in blocks]).sum(0).sqrt()


RULES: dict[str, Rule] = {
    "sgd": Rule(("momentum_buffer",), _sgd),
    "adam": Rule(("exp_avg", "exp_avg_sq"), _adam(torch._fused_adam_)),
    "adamw": Rule(("exp_avg", "exp_avg_sq"), _adam(torch._fused_adamw_)),
}


class Optimizer:
    """One update for all runs where their hyper-parameters agree, else one for each run.

    name: one of RULES. settings: per run, what its rule takes.
    """

    def __init__(self, name: str, flat: Flat, settings: Sequence[dict[str, Any]]) -> None:
        self.rule, self.flat, self.settings = RULES[name], flat, settings
        self.states = {state: torch.zeros_like(flat.data) for state in self.rule.states}
        self.steps = torch.zeros((), device=flat.data.device)
        self.bounds = dict[tuple[float | None, ...], Tensor]()
        buffers = [flat.data, flat.grad, *self.states.values()]
        self.whole = [[buffer] for buffer in buffers]
        self.blocks = [flat.views(buffer) for buffer in buffers]
        self.by_run = [[[block[run] for block in blocks] for blocks in self.blocks] for run in range(len(settings))]

    @torch.no_grad()
    def step(self, lr: Sequence[float]) -> None:
        """Update all parameters from their gradients. lr: one per run."""
        self.steps += 1
        if not self.rule.elementwise:
            self.rule.update(*self.blocks, lr=lr, settings=self.settings, steps=self.steps)
        elif all(rate == lr[0] for rate in lr) and all(s == self.settings[0] for s in self.settings):
            self.rule.update(*self.whole, lr=lr[0], settings=self.settings[0], steps=self.steps)
        else:
            for lists, rate, settings in zip(self.by_run, lr, self.settings, strict=True):
                self.rule.update(*lists, lr=rate, settings=settings, steps=self.steps)

    def clip(self, limits: Sequence[float | None]) -> None:
        """Scale each run's gradient to a norm of at most its limit (None: leave it)."""
        if all(limit is None for limit in limits):
            return
        blocks = self.flat.views(self.flat.grad)
        found = norms(blocks)
        bounds = self.bounds.get(key := tuple(limits))
        if bounds is None:  # copied to a GPU once
            numbers = torch.tensor([math.inf if limit is None else limit for limit in limits], dtype=torch.float64)
            bounds = self.bounds[key] = numbers.to(found)
        scale = (bounds / (found + 1e-6)).clamp(max=1.0)
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


class Average:
    """A running average of the weights of K runs (Polyak & Juditsky 1992): after step t it is decay times what it was,
    plus 1 - decay times the weights, with min(decay, (1 + t) / (10 + t)) for decay: so the initial weights are soon
    forgotten. The statistics of batch normalisation are averaged alike. decays: one per run.
    """

    def __init__(self, model: nn.Module, flat: Flat, decays: Sequence[float]) -> None:
        self.model, self.flat, self.decays = model, flat, decays
        self.alike = all(decay == decays[0] for decay in decays)
        self.apart = torch.tensor(decays, dtype=torch.float64).to(flat.data.device)  # copied to a GPU once
        statistics = [buffer for buffer in model.buffers() if buffer.is_floating_point()]
        self.sources = ([flat.data] if self.alike else flat.views(flat.data)) + statistics
        self.data = flat.data.clone()
        averages = [self.data] if self.alike else flat.views(self.data)
        self.statistics = [buffer.clone() for buffer in statistics]
        self.averages = averages + self.statistics

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Move the averages towards the weights as they are after a step, counted from 1."""
        most = (1 + step) / (10 + step)
        if self.alike:
            for average, now in zip(self.averages, self.sources, strict=True):
                average.lerp_(now, 1 - min(self.decays[0], most))
            return
        weights = (1 - self.apart.clamp(max=most)).to(self.data.dtype)
        for average, now in zip(self.averages, self.sources, strict=True):
            average.lerp_(now, weights.view(-1, *[1] * (now.dim() - 1)))

    def _named(self) -> dict[str, Tensor]:
        """The averages, by the names that the model's state dict has for the same tensors."""
        floating = [name for name, buffer in self.model.named_buffers() if buffer.is_floating_point()]
        named = dict(zip(self.flat.named, self.flat.views(self.data), strict=True))
        return named | dict(zip(floating, self.statistics, strict=True))

    def state_of(self, run: int) -> dict[str, Tensor]:
        """One run's averages as a state dict of its solo model; what is not averaged is copied from the model."""
        own = self.model.state_dict() | self._named()
        return {name: value[run].clone() for name, value in own.items()}

    @torch.no_grad()
    def load_state_of(self, run: int, state: dict[str, Tensor]) -> None:
        """Put back what `state_of` gave."""
        for name, value in self._named().items():
            value[run].copy_(state[name])


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
