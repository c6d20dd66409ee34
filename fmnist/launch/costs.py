"""What a run costs in work and memory, by its config alone. No torch."""

import math
from itertools import pairwise

from fmnist.config.schema import MODELS, Config

ROWS, TEST_ROWS, FEATURES, CLASSES = 60_000, 10_000, 784, 10  # Fashion-MNIST's; of other data they are a guess
PIECE = 6_000  # rows whose activations are counted: generously, those of a chunk of fmnist.nn.step
STATES = 5  # numbers kept per parameter: itself, its gradient, two moments, the best so far
PROCESS = 0.5e9  # bytes of a process before it has any data: Python and torch
SPEED = 4e10  # multiply-adds a second of a core, where nothing is measured
START = 3.0  # seconds until a process trains
PASSES = 6  # numbers kept per activation and row: forward, backward, noise and what is between


def widths(config: Config) -> list[int]:
    """The widths of a model's layers, input and output included."""
    return MODELS[config.model.name].widths(config.model, FEATURES, CLASSES)


def parameters(config: Config) -> int:
    """Weights of a model, nearly: what switches and other data add or take is left out."""
    sizes = widths(config)
    return sum(a * b + b for a, b in pairwise(sizes))


def rows(config: Config) -> tuple[int, int]:
    """Training and validation rows."""
    given = min(config.data.limit or ROWS, ROWS)
    train = round(given * config.data.split)
    share = 1 if config.anomaly.normal is None else CLASSES
    return train // share, (given - train) // share


def work(config: Config) -> float:
    """Multiply-adds of a whole run: forward and backward in training, forward in validation."""
    train, held_out = rows(config)
    return parameters(config) * config.epochs * (3.0 * train + held_out / config.eval_every)


def steps(config: Config) -> int:
    """Updates of a whole run."""
    train, _ = rows(config)
    return config.epochs * math.ceil(train / (config.batch_size or max(train, 1)))


def memory(config: Config) -> float:
    """Bytes that a run adds to its stack: states, and the activations of a batch or of a piece of evaluation."""
    train, _ = rows(config)
    batch = min(config.batch_size or train, train)
    size = 8 if config.precision == "float64" else 4
    inner = sum(widths(config)[1:])
    activations = max(PASSES * min(batch, PIECE) * inner, 2 * PIECE * inner)
    return float(size * (STATES * parameters(config) + activations + batch * FEATURES))


def data_memory(config: Config) -> float:
    """Bytes of the images as bytes and of the largest part as numbers."""
    size = 8 if config.precision == "float64" else 4
    train, held_out = rows(config)
    return float(FEATURES * (train + held_out + TEST_ROWS + size * max(held_out, TEST_ROWS)))


def duration(seconds: float) -> str:
    """A time for a person."""
    minutes, hours = seconds / 60, seconds / 3600
    return f"{hours:.1f} h" if hours > 2 else f"{minutes:.0f} min" if minutes > 2 else f"{seconds:.0f} s"
