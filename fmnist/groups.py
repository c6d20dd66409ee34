"""Which runs train together, and what they cost: decided from their configs alone. No torch."""

import json
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import fields, is_dataclass
from itertools import pairwise
from typing import Any, TypeVar

from fmnist.config import Callback, parse
from fmnist.schema import Config

TaskT = TypeVar("TaskT", bound=Callable[..., Any])

ROWS, TEST_ROWS, FEATURES, CLASSES = 60_000, 10_000, 784, 10  # Fashion-MNIST's; of other data they are a guess
PIECE = 6_000  # rows whose activations are counted: generously, those of a chunk of fmnist.step
STATES = 5  # numbers kept per parameter: itself, its gradient, two moments, the best so far
PROCESS = 0.5e9  # bytes of a process before it has any data: Python and torch
SPEED = 4e10  # multiply-adds a second of a core, where nothing is measured
START = 3.0  # seconds until a process trains
PASSES = 6  # numbers kept per activation and row: forward, backward, noise and what is between


def stackable(task: TaskT) -> TaskT:
    """Mark a task function that trains the run of its config and does nothing else: launchers may train several such
    runs together, by `fmnist.worker.train_group`."""
    task.stackable = True  # type: ignore[attr-defined]
    return task


def shape(config: Config) -> str:
    """What a run must share with another to be trained in one stack with it: all but the values of its per-run knobs
    (whether such a knob is null does count)."""

    def told(part: Any) -> Any:
        if not is_dataclass(part):
            return part
        knobs = {f.name: (getattr(part, f.name), f.metadata.get("per_run")) for f in fields(part)}
        return {name: value is None if per_run else told(value) for name, (value, per_run) in knobs.items()}

    return json.dumps(told(config), sort_keys=True)


def groups(configs: Sequence[Config]) -> list[list[int]]:
    """The places of the configs that may be trained together, the most work first. Within a group those that share
    a batch order are neighbours: a stack of them shares its first product."""
    found: dict[str, list[int]] = {}
    for index, config in enumerate(configs):
        found.setdefault(shape(config), []).append(index)
    together = [sorted(group, key=lambda index: (configs[index].order_seed, index)) for group in found.values()]
    return sorted(together, key=lambda group: -work(configs[group[0]]) * len(group))


def cut(group: Sequence[int], most: int, workers: int) -> list[list[int]]:
    """A group as stacks of nearly equal size, none above `most`, as many as keep all workers busy to the end."""
    pieces = math.ceil(len(group) / most)
    pieces = min(len(group), math.ceil(pieces / workers) * workers)
    bounds = [round(len(group) * piece / pieces) for piece in range(pieces + 1)]
    return [list(group[start:end]) for start, end in pairwise(bounds)]


def stacks(configs: Sequence[Config], most: int | Sequence[int], workers: int, room: float) -> list[list[int]]:
    """All configs as stacks, the most work first. most: runs in a stack, or in one of each of `groups(configs)`; room:
    bytes that one may take."""
    found = groups(configs)
    sizes = [most] * len(found) if isinstance(most, int) else most
    shared = workers if len(found) == 1 else 1  # several groups fill the workers by themselves, the longest first
    pieces = [
        piece for group, size in zip(found, sizes, strict=True)
        for piece in cut(group, max(1, int(min(size, room / memory(configs[group[0]])))), shared)
    ]  # fmt: skip
    while len(pieces) < workers and max(map(len, pieces)) > 1:
        longest = max(pieces, key=lambda piece: (len(piece) > 1) * work(configs[piece[0]]) * len(piece))
        pieces.remove(longest)
        pieces += cut(longest, math.ceil(len(longest) / 2), 1)
    return sorted(pieces, key=lambda piece: -work(configs[piece[0]]) * len(piece))


def widths(config: Config) -> list[int]:
    """The widths of a model's layers, input and output included."""
    model = config.model
    if model.name == "deep":
        return [FEATURES, *[model.width] * model.depth, CLASSES]
    if model.name == "mlp":
        return [FEATURES, *model.hidden, CLASSES]
    code = [*model.hidden, 2 * model.latent] if model.name == "vae" else list(model.hidden)
    return [FEATURES, *code, *code[-2::-1], FEATURES]


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


class DryRun(Callback):
    """Hydra callback: with dry_run=true a single run tells what it would do, and leaves before anything is written."""

    def on_run_start(self, config: Any, **_: Any) -> None:
        """Tell, and leave."""
        if not config.get("dry_run"):
            return
        checked = parse({key: value for key, value in config.items() if key != "hydra"})
        seconds = START + work(checked) / SPEED
        room = PROCESS + data_memory(checked) + memory(checked)
        print(
            f"{checked.model.name}: {parameters(checked):,} parameters, {checked.epochs:,} epochs, "
            f"{steps(checked):,} steps in {config.hydra.run.dir}; "
            f"about {duration(seconds)} on one core and {room / 1e9:.1f} GB"
        )
        raise SystemExit(0)

    def on_multirun_start(self, config: Any, **_: Any) -> None:
        """Refuse what other launchers cannot do: they would train."""
        if config.get("dry_run") and not str(config.hydra.launcher._target_).startswith("hydra_plugins.stacked"):
            print("error: dry_run must be null unless hydra/launcher is stacked or stacked_slurm", file=sys.stderr)
            raise SystemExit(2)
