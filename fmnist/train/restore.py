"""A stack from a run's directory."""

from dataclasses import asdict
from pathlib import Path

from fmnist import UserError
from fmnist.config.schema import Config
from fmnist.data.dataset import Dataset, load
from fmnist.record import checkpoint
from fmnist.record.result import of_run
from fmnist.train.stack import Stack, pick_device


def restore(directory: Path, weights: str | None = None) -> tuple[Config, Stack, Dataset]:
    """A run's config, its model as a stack of one, and its data. weights: last or best; None: those it was tested with.

    Raises UserError where there is no such run or no such file.
    """
    config = of_run(directory)
    file = directory / f"{weights or config.select}.pt"
    if not file.exists():
        raise UserError(f"no weights in {directory}: {file.name} is missing")
    device = pick_device(config.device)
    dataset = load(**asdict(config.data)).to(device)
    stack = Stack([config], dataset, device)
    stack.load_weights(0, checkpoint.load(file)["weights"])
    return config, stack, dataset
