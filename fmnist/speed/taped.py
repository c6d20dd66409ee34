"""How each layer and model is written on a tape: the formula of its forward pass and of its backward pass.

The layers' own formulas under autograd are the truth; tests compare the two. A layer without a rule is done by
autograd, which is right for anything that has a forward, and slower. A rule says `tape.keep` of all that its backward
pass needs: whatever is not kept may be overwritten by the next layer.
"""

import copy
from collections.abc import Callable, Sequence
from functools import singledispatch
from itertools import zip_longest
from typing import Any

import torch
from torch import Tensor, nn

from fmnist.nn.layers import Activation, Dropout, Gated, Linear, Residual
from fmnist.nn.losses import Criterion
from fmnist.nn.noise import Corrupt
from fmnist.speed.tape import Tape

# Writes the backward pass: gradient of the output -> gradient of the input, or None where the input is constant. It
# may overwrite what it is given.
Back = Callable[[Any], Any]
aten = torch.ops.aten


@singledispatch
def rule(module: nn.Module, tape: Tape, x: Tensor) -> tuple[Any, Back]:
    """Write a module's forward pass on x. Returns its output, and what writes its backward pass.

    This is for modules that have no rule: autograd does them when the tape is replayed. The module is not called while
    the tape is written: a copy of it gives the shape of its output, so that its statistics and all generators are left
    alone.
    """
    y, back = by_formula(module, tape, x)
    return y, lambda g: back(g)[0]


def by_formula(f: Callable[..., Any], tape: Tape, *given: Tensor) -> tuple[Any, Callable[[Any], list[Tensor | None]]]:
    """Write f of some tensors: a module, or a function that draws nothing; its output is a tensor or a tuple of them.
    Returns the output, and what writes the backward pass: from its gradient, alike, to those of the given tensors, None
    for constant ones. Autograd differentiates f when the tape is replayed."""
    wanted, add = [not tape.constant(x) for x in given], tape.add
    parameters = [p for p in f.parameters() if p.requires_grad] if isinstance(f, nn.Module) else []
    with torch.no_grad(), torch.random.fork_rng([x.device for x in given[:1] if x.is_cuda]):
        shown = copy.deepcopy(f)(*map(torch.zeros_like, given))
    y = like_parts(shown, [tape.new(*part.shape) for part in parts(shown)])
    gradients = [tape.like(x) if needed else None for x, needed in zip(given, wanted, strict=True)]
    held: dict[str, list[Tensor]] = {}

    def forward() -> None:
        with torch.enable_grad():
            held["x"] = [x.detach().requires_grad_(needed) for x, needed in zip(given, wanted, strict=True)]
            held["y"] = parts(f(*(x.clone() for x in held["x"])))  # it may write over its input
        for kept, part in zip(parts(y), held["y"], strict=True):
            kept.copy_(part)

    def backward(*g: Tensor) -> None:
        inner = [x for x in held["x"] if x.requires_grad]
        passing = [number for number, part in enumerate(held["y"]) if part.requires_grad]
        outer, incoming = [held["y"][number] for number in passing], [g[number] for number in passing]
        found = torch.autograd.grad(outer, [*parameters, *inner], incoming, allow_unused=True) if passing else ()
        by_parameter, by_input = found[: len(parameters)], found[len(parameters) :]
        for p, gradient in zip_longest(parameters, by_parameter):
            assert p.grad is not None
            used = torch.zeros_like(p) if gradient is None else gradient
            p.grad.add_(used) if add else p.grad.copy_(used)
        for buffer, gradient in zip_longest([own for own in gradients if own is not None], by_input):
            buffer.zero_() if gradient is None else buffer.copy_(gradient)

    def back(g: Any) -> list[Tensor | None]:
        if parameters or any(wanted):
            tape(backward, *parts(g))
        return gradients

    for x in given:
        tape.keep(x)
    tape(forward)
    return y, back


def parts(output: Any) -> list[Tensor]:
    """The tensors of an output: itself, or those of a tuple."""
    return [*output] if isinstance(output, tuple) else [output]


def like_parts(output: Any, tensors: Sequence[Tensor]) -> Any:
    """An output of the same kind, of other tensors."""
    if not isinstance(output, tuple):
        return tensors[0]
    return type(output)(*tensors) if hasattr(output, "_fields") else tuple(tensors)


def rule_of(rules: Any, kind: type, method: str) -> Callable[..., Any]:
    """The rule of a class: that of its nearest base that has one, if `method` is that base's own; else autograd's. So
    a class that computes something else is never given the formula of its base."""
    base = next(base for base in kind.__mro__ if base in rules.registry)
    found: Callable[..., Any] = rules.registry[base if getattr(kind, method) is getattr(base, method, None) else object]
    return found


def by_autograd(module: nn.Module) -> bool:
    """Whether a module has no rule."""
    return rule_of(rule, type(module), "forward") is rule.dispatch(object)


def write(module: nn.Module, tape: Tape, x: Tensor) -> tuple[Any, Back]:
    """Write a module's forward pass on x by its rule. Returns its output, and what writes its backward pass."""
    written: tuple[Any, Back] = rule_of(rule, type(module), "forward")(module, tape, x)
    return written


def in_chunks(model: nn.Module, criterion: Criterion) -> bool:
    """Whether a batch may be cut into chunks: rows see one another only in layers that write a barrier."""

    def divisible(module: nn.Module) -> bool:
        if by_autograd(module):
            return not any(getattr(layer, "couples_rows", False) for layer in module.modules())
        return all(map(divisible, module.children()))

    return not criterion.couples_rows and divisible(model)


def multiplies_only(model: nn.Module) -> bool:
    """Whether all that a model does with its input is to multiply matrices with it."""
    if by_autograd(model):
        return False
    if isinstance(model, nn.Sequential):
        return len(model) > 0 and multiplies_only(model[0])
    if isinstance(model, Residual):
        return model.projection is not None and multiplies_only(model.inner)
    if isinstance(model, Gated):
        return multiplies_only(model.inner) and multiplies_only(model.gate)
    return isinstance(model, Linear)


@rule.register
def _(layer: Linear, tape: Tape, x: Tensor) -> tuple[Tensor, Back]:
    weight, bias = layer.weight.detach(), layer.bias.detach()
    d_weight, d_bias = layer.weight.grad, layer.bias.grad
    assert d_weight is not None
    assert d_bias is not None
    of_data = x is tape.data
    shape = (*weight.shape[:-2], x.shape[-2], weight.shape[-2])
    y = tape.by_row(*shape) if layer is tape.compared else tape.new(*shape)
    tape.keep(x)
    tape.product(weight, x.mT, y.mT, fixed=True, images="pixels" if of_data else None)
    tape(y.add_, bias[..., None, :])

    def back(g: Tensor) -> Tensor | None:
        tape.product(g.mT, x, d_weight, add=tape.add, images="rows" if of_data else None)
        tape.sum(g, -2, d_bias)
        if tape.constant(x):
            return None
        dx = tape.like(x)
        tape.product(weight.mT, g.mT, dx.mT, fixed=True)
        return dx

    return y, back


@rule.register
def _(layer: nn.Identity, tape: Tape, x: Tensor) -> tuple[Tensor, Back]:
    return x, lambda g: g


@rule.register
def _(layer: Activation, tape: Tape, x: Tensor) -> tuple[Tensor, Back]:
    function = layer.function
    if not (function.forward and function.backward):
        return rule.dispatch(object)(layer, tape, x)
    y = tape.like(x) if function.of == "input" else tape.own(x)
    kept = x if function.of == "input" else y
    (forward, *given), (backward, *also) = function.forward, function.backward
    tape.keep(kept)
    tape(forward, x, *given, out=y)

    def back(g: Tensor) -> Tensor | None:
        if tape.constant(x):
            return None
        tape(backward, g, kept, *also, grad_input=g)
        return g

    return y, back


@rule.register
def _(layer: Dropout, tape: Tape, x: Tensor) -> tuple[Tensor, Back]:
    if not layer.on:
        return x, lambda g: g
    mask = tape.new(len(layer.p), x.shape[-2], 1 if layer.whole else x.shape[-1])
    y = tape.new(len(layer.p), *x.shape[-2:])
    tape(layer.keep_mask, mask.mT)
    tape(torch.mul, x, mask, out=y)

    def back(g: Tensor) -> Tensor:
        tape(g.mul_, mask)
        return g

    return y, back


@rule.register
def _(layer: Corrupt, tape: Tape, x: Tensor) -> tuple[Tensor, Back]:
    y = tape.by_row(len(layer.noise.generators), *x.shape[-2:])
    tape(lambda: y.copy_(layer(x)))
    tape.data, tape.pixels = y, None  # whatever comes next sees this as the data
    tape.keep(y)
    return y, lambda g: None


@rule.register
def _(layer: nn.Sequential, tape: Tape, x: Tensor) -> tuple[Tensor, Back]:
    backs = []
    for module in layer:
        x, back = write(module, tape, x)
        backs.append(back)

    def all_back(g: Tensor) -> Tensor | None:
        gradient: Tensor | None = g
        for back in reversed(backs):
            if gradient is not None:
                gradient = back(gradient)
        return gradient

    return x, all_back


@rule.register
def _(layer: Residual, tape: Tape, x: Tensor) -> tuple[Tensor, Back]:
    tape.keep(x)
    inner, inner_back = write(layer.inner, tape, x)
    shortcut, shortcut_back = (x, None) if layer.projection is None else write(layer.projection, tape, x)
    y = tape.like(max(inner, shortcut, key=Tensor.dim))
    tape(torch.add, shortcut, inner, out=y)

    def back(g: Tensor) -> Tensor | None:
        copy = tape.like(g)
        tape(copy.copy_, g)
        dx: Tensor | None = inner_back(copy)
        straight = g if shortcut_back is None else shortcut_back(g)
        if dx is None or straight is None:
            return None
        tape(dx.add_, straight)
        return dx

    return y, back


@rule.register
def _(layer: Gated, tape: Tape, x: Tensor) -> tuple[Tensor, Back]:
    tape.keep(x)
    inner, inner_back = write(layer.inner, tape, x)
    tape.keep(inner)
    gate, gate_back = write(layer.gate, tape, x)
    tape.keep(gate)
    y = tape.like(max(inner, gate, key=Tensor.dim))
    tape(torch.mul, inner, gate, out=y)

    def back(g: Tensor) -> Tensor | None:
        of_gate = tape.like(g)
        tape(torch.mul, g, inner, out=of_gate)
        tape(g.mul_, gate)
        dx: Tensor | None = inner_back(g)
        through_gate = gate_back(of_gate)
        if dx is None or through_gate is None:
            return None
        tape(dx.add_, through_gate)
        return dx

    return y, back
