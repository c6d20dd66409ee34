"""What a run costs in work and memory, by its config alone. No torch."""

import functools
import gzip
import math
import os
import zlib
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from fmnist import UserError
from fmnist.config.schema import Config, kind
from fmnist.sources import fetch, idx

CHUNK = 6_000  # rows whose activations are counted: generously, those of a chunk of fmnist.nn.step on a CPU
STATES = 5  # numbers kept per parameter: itself, its gradient, two moments, the best so far
PROCESS = 0.5e9  # bytes of a process before it has any data: Python and torch
SPEED = 4e10  # multiply-adds a second of a core, where nothing is measured
START = 3.0  # seconds until a process trains
# Seconds beside the training: of the command for a run, of a worker for a run and for a stack, and of pictures. They
# follow from the times of these commands with N=32 and 128, S=1 and 32, and of an autoencoder with figures and without:
# python train.py -m "seed=range(0,N)" model=mlp "model.hidden=[4]" data.limit=50 epochs=1 hydra.launcher.workers=1
# hydra.launcher.stack=S
HERE, RUN, STACK, PICTURES = 0.02, 0.02, 0.06, 1.1
# Seconds of a core beside the products: of a step, of each of its layers, of each layer that is normalised too. They
# follow from the processor's time of steps of 128 rows on one thread of an AMD EPYC with AVX2: linear 273 us, deep with
# 50 layers 1,148 us, with norm=batch and skip=true 2,749 us, where the products alone should take 82, 803, 803.
STEP, LAYER, NORM = 1.5e-4, 7e-6, 3e-5
PASSES = 6  # numbers kept per activation and row: forward, backward, noise and what is between


class Size(NamedTuple):
    """Of a data set: its training and test images, the pixels of one, its classes. The defaults are Fashion-MNIST's."""

    rows: int = 60_000
    test_rows: int = 10_000
    pixels: int = 784
    classes: int = 10


def size(config: Config) -> Size:
    """The size of a run's data, by the headers of its files; Fashion-MNIST's where they cannot be read."""
    return Size() if config.data.name == "fashion" else _size(config.data.name, config.data.dir)


@functools.cache
def _size(name: str, dir: str | None) -> Size:
    images, labels, test_images, _ = fetch.FASHION
    try:
        folder = Path(os.path.expanduser(dir)) if dir else fetch.DATA / name
        rows, height, width = _shape(folder, images)
        classes = idx.read_file(folder, labels, None)  # the header does not tell how many there are
        found = Size(rows, _shape(folder, test_images)[0], height * width, max(classes.content[classes.start :]) + 1)
    except (UserError, OSError, EOFError, ValueError, zlib.error):
        return Size()  # training will tell what is wrong with them
    return found if all(found) else Size()


def _shape(folder: Path, name: str) -> tuple[int, int, int]:
    """The shape that the header of a file of images tells."""
    path = idx.find(folder, name)
    if path is None:
        raise FileNotFoundError(folder / name)
    with gzip.open(path) if path.suffix == ".gz" else open(path, "rb") as file:
        header = file.read(16)
    rows, height, width = (int.from_bytes(header[at : at + 4], "big") for at in (4, 8, 12))
    return rows, height, width


def widths(config: Config) -> list[int]:
    """The widths of a model's layers, input and output included."""
    data = size(config)
    return kind(config.model.name).widths(config.model, data.pixels, data.classes)


def parameters(config: Config) -> int:
    """Weights of a model, nearly: what switches but the gate and other data add or take is left out."""
    return sum(_weights(widths, config) for widths, _, owned in _chains(config) if owned)


def products(config: Config) -> float:
    """Multiply-adds forward in training, for each row."""
    train, _ = rows(config)
    batch = config.epochs * train / max(steps(config), 1) or 1  # the mean: the last one of a pass may be smaller
    chains = _chains(config)
    return sum(_weights(widths, config) * (1 if some is None else some / batch) for widths, some, _ in chains)


def _chains(config: Config) -> list[tuple[list[int], int | None, bool]]:
    """The layers of a model as Kind.extra has them: those of its widths, then those beside them."""
    return [(widths(config), None, True), *kind(config.model.name).extra(config.model, size(config).pixels)]


def _weights(widths: Sequence[int], config: Config) -> int:
    """Of such layers; all but the last one have the gate."""
    counts = [a * b + b for a, b in pairwise(widths)]
    return sum(counts) + (sum(counts[:-1]) if config.gate else 0)


def rows(config: Config) -> tuple[int, int]:
    """Training and validation rows."""
    data = size(config)
    given = min(config.data.limit or data.rows, data.rows)
    train = round(given * config.data.split)
    normal = len(config.anomaly.classes) or data.classes
    return train * normal // data.classes, (given - train) * normal // data.classes


def work(config: Config) -> float:
    """Multiply-adds of a whole run: forward and backward in training, forward in validation."""
    train, held_out = rows(config)
    measured = products(_measured(config)) * held_out / config.eval_every
    return config.epochs * (3.0 * train * products(config) + measured)


def beside(config: Config) -> float:
    """Seconds of a core that a whole run, or a stack of such runs, takes beside its products: they are what counts in
    many thin layers. Nothing for a GPU."""
    layers = len(widths(config)) - 1
    of_each = LAYER * (2 if config.gate else 1) + (NORM if config.norm else 0.0)
    return steps(config) * (STEP + layers * of_each)


def bound(config: Config) -> float:
    """Multiply-adds of the importance-weighted bound at the end of a run: for each sample the decoder, which is half of
    the layers, and what is beside them see all validation and test rows. A run that pauses does not get there."""
    samples = getattr(config.model, "iwae_samples", None) or 0
    ends = config.last_epoch == config.epochs
    _, held_out = rows(config)
    layers, *more = (_weights(widths, config) for widths, some, _ in _chains(_measured(config)) if some is None)
    return ends * samples * (held_out + _tested(config)) * (layers / 2 + sum(more))


def _measured(config: Config) -> Config:
    """The run with the layers that evaluation uses: there is one sample of each image."""
    sampled = hasattr(config.model, "train_samples")
    return replace(config, model=replace(config.model, train_samples=1)) if sampled else config


def aside(configs: Sequence[Config], stacks: int, workers: int) -> float:
    """Seconds that so many stacks of so many workers take beside their training."""
    drawn = sum(config.figures and not kind(config.model.name).classifies for config in configs)
    return HERE * len(configs) + (RUN * len(configs) + STACK * stacks + PICTURES * drawn) / workers


def steps(config: Config) -> int:
    """Updates of a whole run."""
    train, _ = rows(config)
    return config.epochs * math.ceil(train / (config.batch_size or max(train, 1)))


def memory(config: Config) -> float:
    """Bytes that a run adds to its stack: states, and the activations of a batch or of a chunk of evaluation."""
    train, _ = rows(config)
    batch = min(config.batch_size or train, train)
    inner = sum(widths(config)[1:]) * (3 if config.gate else 1)  # F, G and F * G
    samples = getattr(config.model, "train_samples", 1)  # of each row
    activations = max(PASSES * min(batch, CHUNK) * samples, 2 * CHUNK) * inner
    numbers = STATES * parameters(config) + activations + batch * size(config).pixels
    return float(_bytes(config) * numbers)


def data_memory(config: Config) -> float:
    """Bytes of the files, which are read whole, and of the largest split that is measured, as floats."""
    data = size(config)
    _, held_out = rows(config)
    measured = max(held_out, _tested(config))
    return float(data.pixels * (data.rows + data.test_rows + _bytes(config) * measured))


def _tested(config: Config) -> int:
    """Test rows."""
    there = size(config).test_rows
    return min(config.data.limit or there, there)


def _bytes(config: Config) -> int:
    """Bytes of one number."""
    return 8 if config.precision == "float64" else 4
