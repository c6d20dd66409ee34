"""The mean of the weights of finished runs, as a network and as a run."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fmnist import UserError
from fmnist.config.parse import config_hash, parse
from fmnist.config.schema import Config
from fmnist.data.dataset import as_input
from fmnist.nn.layers import BatchNorm
from fmnist.record import checkpoint
from fmnist.record.result import read_result, write_result
from fmnist.train.restore import restore
from fmnist.train.stack import Stack
from fmnist.view.answers import Answers, answers

ROWS = 1000  # training rows of a batch by which statistics are estimated anew
START = ("seed", "init", "init_scale", "skip_scale", "model")  # what decides the weights with which a run begins
STATUS = "averaged"  # of a record whose weights were not trained: reports and sweeps leave it out


class WeightSum:
    """Sums the weights of runs as they are loaded: see `ask`. `agree` says whether all are of one network."""

    def __init__(self) -> None:
        self.count, self.agree, self.total = 0, True, dict[str, Tensor]()

    def __call__(self, place: int, stack: Stack, run: int) -> None:
        """Add the weights of a run of a stack."""
        own = {name: value.double().cpu() for name, value in stack.weights(run).items()}
        shapes = [{name: value.shape for name, value in each.items()} for each in (own, self.total or own)]
        self.agree = self.agree and shapes[0] == shapes[1]
        if self.agree:
            self.total = {name: value + self.total.get(name, 0) for name, value in own.items()}
            self.count += 1

    def mean(self, like: dict[str, Tensor]) -> dict[str, Tensor]:
        """The mean, in the types of these weights."""
        return {name: (self.total[name] / self.count).to(value.dtype) for name, value in like.items()}


def starts(configs: Sequence[Config]) -> int:
    """From how many different initial weights runs have begun."""
    return len({repr([getattr(config, name) for name in START]) for config in configs})


def averaged(directory: Path, summed: WeightSum, data: str | None) -> tuple[Stack, dict[str, Answers]]:
    """The network with the mean of the members' weights, and what it says of the parts. directory: of a member, whose
    data it has. Statistics of batch normalisation are estimated anew."""
    stack = restore(directory, data=data)
    stack.load_weights(0, summed.mean(stack.weights(0)))
    estimate_statistics(stack)
    parts = {"validation": stack.dataset.validation, "test": stack.dataset.test}
    return stack, {part: answers(stack, part, split)[0] for part, split in parts.items() if split}


def normalisations(stack: Stack) -> list[BatchNorm]:
    """The layers of batch normalisation, which have statistics."""
    return [layer for layer in stack.model.modules() if isinstance(layer, BatchNorm)]


@torch.no_grad()
def estimate_statistics(stack: Stack) -> None:
    """Set the statistics of batch normalisation to their means over batches of the training rows, in training mode, as
    torch.optim.swa_utils.update_bn does (Izmailov et al. 2018)."""
    layers = normalisations(stack)
    if not layers:
        return
    momentum = [layer.momentum for layer in layers]
    stack.start_noise("statistics")
    stack.model.train()
    batches = [rows for rows in torch.split(stack.dataset.train.images, ROWS) if len(rows) > 1]
    for number, rows in enumerate(batches, start=1):
        for layer in layers:
            layer.momentum = 1 / number  # the mean of the batches so far
        stack.model(as_input(rows, stack.dtype))
    stack.model.eval()
    for layer, before in zip(layers, momentum, strict=True):
        layer.momentum = before


def check_new(directory: Path) -> None:
    """Raise UserError where a directory holds a run already."""
    if read_result(directory) is not None:
        raise UserError(f"--save must name a new directory: {directory} holds a run")


def save(directory: Path, stack: Stack, said: dict[str, Answers], first: Path, members: Sequence[Path]) -> None:
    """Write the network as a run that commands can read, with the config of the first run and a list of all members."""
    config = parse(asdict(stack.configs[0]) | {"select": "last", "ema": None, "patience": None})
    result: dict[str, Any] = read_result(first) or {}
    metrics = {f"{part}/{name}": value for part, own in said.items() for name, value in own.means().items()}
    names = [str(member.absolute()) for member in members]
    directory.mkdir(parents=True, exist_ok=True)
    checkpoint.save(directory / "last.safetensors", {"weights": stack.weights(0), "members": names})
    changes = {"status": STATUS, "error": None, "objective": metrics.get("validation/accuracy"), "metrics": metrics,
               "best": None, "seconds": 0.0, "config": asdict(config), "config_hash": config_hash(config),
               "members": names}  # fmt: skip
    write_result(directory, result | changes)
