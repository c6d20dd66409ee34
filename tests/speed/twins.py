"""Two stacks alike, one that steps by autograd and one by the tape, and what must be the same of them."""

from collections.abc import Sequence

import pytest
import torch

from fmnist.config.schema import Config
from fmnist.data.dataset import Dataset
from fmnist.nn.step import Step
from fmnist.train.stack import Stack

CLASSIFIERS = [{"model": "mlp", "model.hidden": [20, 12]}, {"model": "deep", "model.width": 12, "model.depth": 4}]
AUTOENCODERS = [{"model": "autoencoder", "model.hidden": [20, 6]},
                {"model": "vae", "model.hidden": [20], "model.latent": 4}]  # fmt: skip
MODELS = [*CLASSIFIERS, *AUTOENCODERS]


def twins(configs: Sequence[Config], dataset: Dataset, device: torch.device | str = "cpu") -> list[Stack]:
    """The one that steps by autograd comes first."""
    stacks = [Stack(configs, dataset.to(device), torch.device(device)) for _ in range(2)]
    slow = stacks[0]
    slow.step = Step(slow.model, slow.criterion, slow.optimizer, configs[0].precision)  # type: ignore[assignment]
    return stacks


def assert_same_steps(
    configs: Sequence[Config], dataset: Dataset, device: torch.device | str = "cpu", rtol: float = 1e-11,
    atol: float = 1e-12, epochs: int = 2,
) -> None:  # fmt: skip
    """The first step's gradient and, after some epochs, weights, running statistics and metrics agree."""
    slow, fast = twins(configs, dataset, device)
    for stack in (slow, fast):
        stack.start_noise(1)
        stack.step.gradient(next(stack.feed.epoch(1)))
    scale = slow.optimizer.flat.grad.abs().max()
    torch.testing.assert_close(fast.optimizer.flat.grad / scale, slow.optimizer.flat.grad / scale, rtol=rtol, atol=atol)
    for epoch in range(1, epochs + 1):
        metrics = [stack.train_epoch(epoch) for stack in (slow, fast)]
        assert metrics[0].keys() == metrics[1].keys()
        for tag, values in metrics[0].items():
            assert metrics[1][tag] == pytest.approx(values, rel=rtol * 100, abs=1e-12), tag
    torch.testing.assert_close(fast.model.state_dict(), slow.model.state_dict(), rtol=rtol * 1e4, atol=atol * 1e4)
