"""K runs as one model along a run axis: their weights, optimizer, noise, batches; a solo run is a stack of one."""

from collections.abc import Sequence
from dataclasses import asdict

import torch
from torch import Tensor

from fmnist import data, losses, models
from fmnist.layers import Noise, initialise
from fmnist.optim import Flat, Optimizer, schedule
from fmnist.schema import Config
from fmnist.step import AutogradStep, evaluate


class Stack:
    """K runs of one shape as one model, with everything their training needs."""

    def __init__(self, configs: Sequence[Config], dataset: data.Dataset, device: torch.device) -> None:
        self.configs = configs
        shape = configs[0]
        self.dtype = torch.float64 if shape.precision == "float64" else torch.float32
        self.noise = Noise(len(configs), device)
        settings = asdict(shape.model)
        parts = models.Parts(
            activation=settings.pop("activation"),
            dropout=None if shape.dropout is None else [c.dropout or 0.0 for c in configs],
            batch_norm=bool(shape.batch_norm), skip=bool(shape.skip), runs=(len(configs),), noise=self.noise,
            factory={"dtype": self.dtype, "device": device},
        )  # fmt: skip
        pixels = dataset.height * dataset.width
        self.model = models.build(settings.pop("name"), parts, pixels, dataset.classes, **settings)
        for run, c in enumerate(configs):
            generator = torch.Generator().manual_seed(data.derive(c.seed, "weights"))
            initialise(self.model, run, c.init, c.init_scale, generator)
        smoothing = [c.label_smoothing or 0.0 for c in configs]
        self.criterion = losses.Classification(
            str(shape.loss), torch.tensor(smoothing, dtype=self.dtype, device=device) if any(smoothing) else None
        )
        self.optimizer = Optimizer(shape.optim.name, Flat(self.model), [asdict(c.optim) for c in configs])
        self.step = AutogradStep(self.model, self.criterion, self.optimizer, shape.precision)
        self.feed = data.Batches(dataset.train, shape.batch_size, [c.order_seed for c in configs], self.dtype)

    def epoch(self, epoch: int) -> dict[str, list[float]]:
        """Train for one pass; the means of its training figures by tag, one per run."""
        self.noise.start([data.derive(c.seed, "noise", epoch) for c in self.configs])
        per_epoch = len(self.feed.slices)
        total = per_epoch * self.configs[0].epochs
        clip = [c.grad_clip for c in self.configs]
        sums: dict[str, Tensor] = {}
        for number, (x, labels) in enumerate(self.feed.epoch(epoch), start=(epoch - 1) * per_epoch):
            lr = [schedule(c.schedule, c.lr, number, total) for c in self.configs]
            for tag, figure in self.step(x, labels, lr, clip).items():
                sums[tag] = sums[tag] + figure if tag in sums else figure
        return self._by_tag("train/", {tag: total / len(self.feed.labels) for tag, total in sums.items()})

    def measure(self, prefix: str, x: Tensor, labels: Tensor) -> dict[str, list[float]]:
        """The means over these rows in evaluation mode by tag, one per run."""
        means = evaluate(self.model, self.criterion, x, labels, self.configs[0].precision)
        return self._by_tag(prefix, means)

    @staticmethod
    def _by_tag(prefix: str, figures: dict[str, Tensor]) -> dict[str, list[float]]:
        together = torch.stack([figure.double() for figure in figures.values()]).tolist()  # waits for the device once
        return {prefix + tag: values for tag, values in zip(figures, together, strict=True)}

    def weights(self, run: int) -> dict[str, Tensor]:
        """One run's state dict, as its solo model would have it."""
        return {name: value[run].clone() for name, value in self.model.state_dict().items()}

    @torch.no_grad()
    def load_weights(self, run: int, state: dict[str, Tensor]) -> None:
        """Put back what `weights` gave."""
        for name, value in self.model.state_dict().items():
            value[run].copy_(state[name])
