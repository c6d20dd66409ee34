"""K runs as one model along a run axis: their weights, optimizer, noise, batches; a solo run is a stack of one."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from fmnist import UserError
from fmnist.config.annealing import annealed, at
from fmnist.config.schema import Config, kind, load_ideas
from fmnist.data.batches import Batches
from fmnist.data.dataset import Dataset, Split, as_input, derive
from fmnist.nn.layers import initialise
from fmnist.nn.losses import Criterion
from fmnist.nn.models import Parts, build, imported
from fmnist.nn.noise import Noise
from fmnist.nn.optim import Average, Flat, Optimizer, schedule
from fmnist.nn.step import Step, by_tag, means
from fmnist.speed.kernels import black_share
from fmnist.speed.step import TapedStep
from fmnist.view.debug import DebugStep

load_ideas()  # a worker is given configs that another process has checked


class Stack:
    """K runs that agree in all but their per-run knobs as one model, with everything their training needs."""

    def __init__(self, configs: Sequence[Config], dataset: Dataset, device: torch.device) -> None:
        self.configs, self.dataset = configs, dataset
        common = self.common = configs[0]
        self.dtype = torch.float64 if common.precision == "float64" else torch.float32
        factory = self.factory = {"dtype": self.dtype, "device": device}
        self.noise = Noise(len(configs), device)
        strongest = [annealed(c, max) for c in configs]  # what is ever on is there from the start
        self.parts = Parts.of(strongest, self.noise, **factory)
        self.model = build(common.model, self.parts, dataset.height * dataset.width, dataset.classes)
        for run, c in enumerate(configs):
            generator = torch.Generator().manual_seed(derive(c.seed, "weights"))
            initialise(self.model, run, c.init, c.init_scale, generator, common.skip_scale)
            for start_from in filter(None, (getattr(layer, "start_from", None) for layer in self.model.modules())):
                start_from((dataset.grey or dataset).train.images, run, generator)
        self.criterion: Criterion = imported(kind(common.model.name).criterion).of(strongest, factory)
        flat = Flat(self.model)
        self.optimizer = Optimizer(common.optim.name, flat, [asdict(c.optim) for c in configs])
        self.average = None if common.ema is None else Average(self.model, flat, [c.ema or 0.0 for c in configs])
        rows = common.batch_size or len(dataset.train.labels)
        black = black_share(dataset.train.images)
        step = DebugStep if common.debug else TapedStep
        self.step: Step = step(self.model, self.criterion, self.optimizer, common.precision, rows, black)
        self.inputs: tuple[Tensor, Tensor] | None = None  # of the last split: its images, and the same as numbers
        self._anneal(common.epochs)

    @cached_property
    def feed(self) -> Batches:
        """The batches of training; made when first used, since the step's kernels decide what they hold."""
        dtype = torch.uint8 if self.step.takes_pixels else self.dtype
        seeds = [c.order_seed for c in self.configs]
        return Batches(self.dataset, self.common.batch_size, seeds, dtype, annealed(self.common, max).augment)

    def _anneal(self, epoch: int) -> None:
        """Give what `anneal` moves the values of an epoch. Outside of training they are those of the last one."""
        if self.common.anneal:
            now = [at(c, epoch) for c in self.configs]
            _take(self.parts, Parts.of(now, self.noise))
            _take(self.criterion, self.criterion.of(now, self.factory))
            self.step.renew()

    def train_epoch(self, epoch: int) -> dict[str, list[float]]:
        """Train for one pass; the means of its training metrics by tag, one per run."""
        self.start_noise(epoch)
        self._anneal(epoch)
        cycles = [self.feed.count * c.epochs // (c.cycles or 1) for c in self.configs]  # their steps
        clip = [c.grad_clip for c in self.configs]
        self.step.totals.reset()
        batches = self.feed.epoch(epoch, at(self.common, epoch).augment)
        for number, batch in enumerate(batches, start=(epoch - 1) * self.feed.count):
            asked = zip(self.configs, cycles, strict=True)
            self.step(batch, [schedule(c.schedule, c.lr, number % steps, steps) for c, steps in asked], clip)
            if self.average is not None:
                self.average.update(number + 1)
        rows = len(self.feed.labels)
        sums = self.step.totals.up_to_date()  # by the values of this epoch
        self._anneal(self.common.epochs)
        totals = {"loss": sums["loss"], **sums}  # it comes first in every record
        return by_tag("train/", {tag: summed / rows for tag, summed in totals.items()})

    def measure(self, part: str, split: Split) -> dict[str, list[float]]:
        """The means over a split in evaluation mode, tags "part/...", one per run.

        The noise of evaluation depends on the run's seed and the part alone.
        """
        self.start_noise(part)
        x = self.input(split)
        return by_tag(part + "/", means(self.model, self.criterion, x, split.labels, self.common.precision))

    @contextmanager
    def tested_weights(self) -> Iterator[None]:
        """Within it, the runs with select=average have the running average of their weights."""
        chosen = [run for run, c in enumerate(self.configs) if c.select == "average" and self.average is not None]
        before = {run: self.weights(run) for run in chosen}
        for run in chosen:
            self.load_weights(run, self.average.state_of(run))  # type: ignore[union-attr]
        try:
            yield
        finally:
            for run, weights in before.items():
                self.load_weights(run, weights)

    def start_noise(self, part: str | int) -> None:
        """Seed the noise of an epoch, or of a part of evaluation."""
        self.noise.start([derive(c.seed, "noise", part) for c in self.configs])

    def input(self, split: Split) -> Tensor:
        """The input of the model for the images of a split; that of the last split is kept."""
        if self.step.takes_pixels:
            return split.images
        if self.inputs is None or self.inputs[0] is not split.images:
            self.inputs = split.images, as_input(split.images, self.dtype)
        return self.inputs[1]

    def weights(self, run: int) -> dict[str, Tensor]:
        """One run's state dict, as its solo model would have it."""
        return {name: value[run].clone() for name, value in self.model.state_dict().items()}

    @torch.no_grad()
    def load_weights(self, run: int, state: dict[str, Tensor]) -> None:
        """Put back what `weights` gave. Raises UserError for the weights of another network."""
        check_weights(self.model, state)
        for name, value in self.model.state_dict().items():
            value[run].copy_(state[name])


def _take(held: Any, given: Any) -> None:
    """Put the values per run of another one into the same lists and tensors: layers and tapes look there."""
    for name, values in vars(held).items():
        if isinstance(values, list):
            values[:] = getattr(given, name)
        elif isinstance(values, Tensor):
            values.copy_(torch.zeros(()) if (new := getattr(given, name)) is None else new)


def check_weights(model: nn.Module, state: dict[str, Tensor]) -> None:
    """Raise UserError where a state dict is not of this model, whose runs are stacked."""
    for name, value in model.state_dict().items():
        if (there := state[name].shape) != (here := value.shape[1:]):
            raise UserError(f"{name} is {[*there]} in the checkpoint, {[*here]} here: were the data others?")
