"""What can be watched while a model trains, always on the same batch. It changes nothing of the training.

Each function takes the model of K runs, its criterion, x (rows, features), labels (rows,), and the runs' learning
rates; it gives metrics by tag, each (K,). The model is as it is in training; its running statistics stay as they are.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn

from fmnist import UserError
from fmnist.data.dataset import as_input
from fmnist.nn.layers import Activation, Gated, Linear
from fmnist.nn.losses import Criterion
from fmnist.nn.optim import norms
from fmnist.nn.step import by_tag
from fmnist.view.measure import Seen

Start = Callable[[], None]  # seeds the noise anew
ROWS = 1000  # of the training rows, the first ones
UNITS = 10  # of the last hidden layer, whose inputs are watched
PERCENTILES = (15, 50, 85)
STEPS = (0.5, 1.0, 2.0, 4.0)  # lengths along the gradient, in learning rates


@contextmanager
def _left_alone(model: nn.Module) -> Iterator[list[nn.Parameter]]:
    """Gives the model's parameters; at the end all parameters and buffers are put back as they were."""
    parameters = list(model.parameters())
    kept = [(tensor, tensor.detach().clone()) for tensor in (*parameters, *model.buffers())]
    try:
        yield parameters
    finally:
        with torch.no_grad():
            for tensor, before in kept:
                tensor.copy_(before)


def _slope(
    model: nn.Module, criterion: Criterion, x: Tensor, labels: Tensor, parameters: Sequence[Tensor], noise: Start
) -> tuple[Tensor, list[Tensor]]:
    """The mean loss of each run, (K,), and its gradient, of the parameters' shapes; with the same noise each time."""
    noise()
    with torch.enable_grad():
        loss = criterion.metrics(model(x), x, labels, training=True)["loss"].mean(-1)
        gradient = torch.autograd.grad(loss.sum(), parameters)
    return loss.detach(), list(gradient)


def gradients(
    model: nn.Module, criterion: Criterion, x: Tensor, labels: Tensor, lr: Sequence[float], noise: Start
) -> dict[str, Tensor]:
    """gradient/NNN: the norm of the loss's gradient by the weights of each linear layer, from the input on; that of a
    gate comes after that which it gates."""
    with _left_alone(model):
        weights = [layer.weight for layer in model.modules() if isinstance(layer, Linear)]
        _, gradient = _slope(model, criterion, x, labels, weights, noise)
    return {f"gradient/{number:03d}": norms([block]) for number, block in enumerate(gradient, start=1)}


def inputs(
    model: nn.Module, criterion: Criterion, x: Tensor, labels: Tensor, lr: Sequence[float], noise: Start
) -> dict[str, Tensor]:
    """input/UNIT_P: percentiles over the rows of what goes into the last hidden activation, for its first units (as in
    figure 1 of Ioffe & Szegedy 2015); the activation of a gate counts where there is no other. Raises UserError for a
    model without activations."""
    gates = {layer for gated in model.modules() if isinstance(gated, Gated) for layer in gated.gate.modules()}
    found_all = [layer for layer in model.modules() if isinstance(layer, Activation)]
    activations = [layer for layer in found_all if layer not in gates] or found_all
    if not activations:
        raise UserError("watch must not be inputs for this model: it has no activation")
    seen: list[Tensor] = []
    hook = activations[-1].register_forward_pre_hook(lambda layer, given: seen.append(given[0]))
    try:
        with _left_alone(model), torch.no_grad():
            noise()
            model(x)
    finally:
        hook.remove()
    shares = torch.tensor(PERCENTILES, dtype=seen[0].dtype, device=x.device) / 100
    found = torch.quantile(seen[0][..., :UNITS].contiguous(), shares, dim=-2)  # (percentiles, K, units)
    return {
        f"input/{unit}_{percentile}": found[place, :, unit]
        for unit in range(found.shape[-1])
        for place, percentile in enumerate(PERCENTILES)
    }


def surface(
    model: nn.Module, criterion: Criterion, x: Tensor, labels: Tensor, lr: Sequence[float], noise: Start
) -> dict[str, Tensor]:
    """How smooth the loss is along its gradient (figure 4 of Santurkar et al. 2018), over STEPS of gradient descent.

    surface/loss_range: largest less smallest loss, relative to the loss at the start; surface/gradient_change: the
    largest distance of the gradient from that at the start, relative to its norm; surface/smoothness: the largest
    distance of gradients by the distance of the weights ("effective beta-smoothness", smaller is smoother).
    """
    with _left_alone(model) as parameters:
        start, gradient = _slope(model, criterion, x, labels, parameters, noise)
        before = [p.detach().clone() for p in parameters]
        length = norms(gradient)
        losses, changes, smoothness = [start], [], []
        for step in STEPS:
            rates = step * torch.as_tensor(lr, dtype=start.dtype, device=start.device)
            with torch.no_grad():
                for p, origin, block in zip(parameters, before, gradient, strict=True):
                    p.copy_(origin - rates.view(-1, *[1] * (p.dim() - 1)) * block)
            loss, there = _slope(model, criterion, x, labels, parameters, noise)
            change = norms([a - b for a, b in zip(there, gradient, strict=True)])
            losses.append(loss)
            changes.append(change / length)
            smoothness.append(change / (rates * length))
    seen = torch.stack(losses)
    return {
        "surface/loss_range": (seen.max(0).values - seen.min(0).values) / start,
        "surface/gradient_change": torch.stack(changes).max(0).values,
        "surface/smoothness": torch.stack(smoothness).max(0).values,
    }


WATCHES: dict[str, Callable[..., dict[str, Tensor]]] = {"gradients": gradients, "inputs": inputs, "surface": surface}


def watch(stack: Seen) -> dict[str, list[float]]:
    """The metrics that the knob `watch` asks for, by tag, one per run; "fit" measures the training rows."""
    common, train = stack.common, stack.dataset.train
    if common.watch == "fit":
        return stack.measure("fit", train)
    x = as_input(train.images[:ROWS], stack.dtype)
    lr = [c.lr for c in stack.configs]
    start_noise = partial(stack.start_noise, "watch")
    return by_tag("", WATCHES[str(common.watch)](stack.model, stack.criterion, x, train.labels[:ROWS], lr, start_noise))
