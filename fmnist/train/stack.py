"""K runs as one model along a run axis: their weights, optimizer, noise, batches; a solo run is a stack of one."""

from collections.abc import Sequence
from dataclasses import asdict
from functools import cached_property

import torch
from torch import Tensor

from fmnist.config.schema import Config
from fmnist.data.batches import Batches
from fmnist.data.dataset import Dataset, Split, as_input, derive
from fmnist.nn import losses, models
from fmnist.nn.layers import initialise
from fmnist.nn.metrics import auroc, holes
from fmnist.nn.noise import Noise
from fmnist.nn.optim import Flat, Optimizer, schedule
from fmnist.nn.step import evaluate, negative_iwae, outputs
from fmnist.speed.step import TapedStep
from fmnist.train.watch import ROWS, WATCHES


class Stack:
    """K runs of one shape as one model, with everything their training needs."""

    def __init__(self, configs: Sequence[Config], dataset: Dataset, device: torch.device) -> None:
        self.configs = configs
        common = configs[0]
        self.dtype = torch.float64 if common.precision == "float64" else torch.float32
        self.noise = Noise(len(configs), device)
        parts = models.Parts(
            activation=common.model.activation,
            dropout=None if common.dropout is None else [c.dropout or 0.0 for c in configs],
            dropout_rescale=common.dropout_rescale, batch_norm=bool(common.batch_norm), skip=bool(common.skip),
            noise_deviation=None if common.noise is None else [c.noise or 0.0 for c in configs],
            mask=None if common.mask is None else [c.mask or 0.0 for c in configs],
            runs=(len(configs),), noise=self.noise, factory={"dtype": self.dtype, "device": device},
        )  # fmt: skip
        pixels = dataset.height * dataset.width
        self.model = models.build(common.model, parts, pixels, dataset.classes)
        for run, c in enumerate(configs):
            generator = torch.Generator().manual_seed(derive(c.seed, "weights"))
            initialise(self.model, run, c.init, c.init_scale, generator)
        self.criterion = self._criterion(device)
        self.inputs: dict[str, Tensor] = {}
        self.optimizer = Optimizer(common.optim.name, Flat(self.model), [asdict(c.optim) for c in configs])
        rows = common.batch_size or len(dataset.train.labels)
        self.step = TapedStep(self.model, self.criterion, self.optimizer, common.precision, rows)
        self.dataset = dataset

    @cached_property
    def feed(self) -> Batches:
        """The batches of training; made when first asked for, since what they hold is up to the step's kernels."""
        seeds = [c.order_seed for c in self.configs]
        return Batches(self.dataset.train, self.configs[0].batch_size, seeds, self._input_dtype)

    @property
    def _input_dtype(self) -> torch.dtype:
        return torch.uint8 if self.step.takes_pixels else self.dtype

    def _criterion(self, device: torch.device) -> losses.Criterion:
        def per_run(values: list[float]) -> Tensor:
            return torch.tensor(values, dtype=self.dtype, device=device)

        common = self.configs[0]
        if common.model.name == "vae":
            return losses.NegativeELBO(per_run([c.model.beta for c in self.configs]))
        if common.model.name == "autoencoder":
            return losses.Reconstruction(str(common.loss))
        smoothing = [c.label_smoothing or 0.0 for c in self.configs]
        return losses.Classification(str(common.loss), per_run(smoothing) if any(smoothing) else None)

    def epoch(self, epoch: int) -> dict[str, list[float]]:
        """Train for one pass; the means of its training metrics by tag, one per run."""
        self.start_noise(epoch)
        per_epoch = len(self.feed.slices)
        total = per_epoch * self.configs[0].epochs
        clip = [c.grad_clip for c in self.configs]
        self.step.totals.reset()
        for number, batch in enumerate(self.feed.epoch(epoch), start=(epoch - 1) * per_epoch):
            self.step(batch, [schedule(c.schedule, c.lr, number, total) for c in self.configs], clip)
        rows = len(self.feed.labels)
        sums = self.step.totals.up_to_date()
        totals = {"loss": sums["loss"], **sums}  # it comes first in every record
        return self._by_tag("train/", {tag: summed / rows for tag, summed in totals.items()})

    def measure(self, part: str, split: Split) -> dict[str, list[float]]:
        """The means over a split in evaluation mode, tags "part/...", one per run.

        What noise evaluation takes depends on the run's seed and the part alone.
        """
        self.start_noise(part)
        x = self._input(part, split)
        means = evaluate(self.model, self.criterion, x, split.labels, self.configs[0].precision)
        return self._by_tag(part + "/", means)

    def watch(self) -> dict[str, list[float]]:
        """The metrics that the knob `watch` asks for, by tag, one per run; "fit" is `measure` of the training rows."""
        common, train = self.configs[0], self.dataset.train
        if common.watch == "fit":
            return self.measure("fit", train)
        self.start_noise("watch")
        x = as_input(train.images[:ROWS], self.dtype)
        lr = [c.lr for c in self.configs]
        return self._by_tag("", WATCHES[str(common.watch)](self.model, self.criterion, x, train.labels[:ROWS], lr))

    def test(self, split: Split) -> dict[str, list[float]]:
        """`measure` of the test rows and what is measured only once: the importance-weighted bound, the gaps in a
        latent space of two numbers, the AUROCs."""
        common = self.configs[0]
        metrics = self.measure("test", split)
        if isinstance(self.model, models.VAE) and common.model.iwae_samples:
            self.start_noise("iwae")
            x = self._input("test", split)
            metrics["test/negative_iwae"] = negative_iwae(self.model, x, common.model.iwae_samples).tolist()
        if isinstance(self.model, models.Autoencoder | models.VAE) and (codes := self.codes(split)).shape[-1] == 2:
            metrics["test/holes"] = [holes(run) for run in codes]
        if common.anomaly.normal is not None:
            metrics |= self._anomaly(split, common.anomaly.normal)
        return metrics

    def _anomaly(self, split: Split, normal: int) -> dict[str, list[float]]:
        assert not isinstance(self.criterion, losses.Classification)
        self.start_noise("test")
        x = self._input("test", split)
        pieces = outputs(self.model, self.criterion, x, split.labels, self.configs[0].precision)
        scores = [self.criterion.scores(*piece) for piece in pieces]
        strange = split.labels != normal
        return {
            f"test/{name}": [auroc(run, strange) for run in torch.cat([s[name] for s in scores], -1)]
            for name in scores[0]
        }

    @torch.no_grad()
    def codes(self, split: Split) -> Tensor:
        """What an autoencoder's runs encode a split's images to, (K, n, code)."""
        assert isinstance(self.model, models.Autoencoder | models.VAE)
        self.model.eval()
        self.start_noise("codes")
        pieces = [self.model.encode(as_input(piece, self.dtype)) for piece in torch.split(split.images, 6000)]
        self.model.train()
        return torch.cat(pieces, -2)

    def start_noise(self, part: str | int) -> None:
        """Begin the noise of an epoch or of a part of evaluation."""
        self.noise.start([derive(c.seed, "noise", part) for c in self.configs])

    def _input(self, part: str, split: Split) -> Tensor:
        if self.step.takes_pixels:
            return split.images
        if part not in self.inputs:
            self.inputs = {part: as_input(split.images, self.dtype)}  # of one part at a time, for memory's sake
        return self.inputs[part]

    @staticmethod
    def _by_tag(prefix: str, metrics: dict[str, Tensor]) -> dict[str, list[float]]:
        together = torch.stack([metric.double() for metric in metrics.values()]).tolist()  # waits for the device once
        return {prefix + tag: values for tag, values in zip(metrics, together, strict=True)}

    def weights(self, run: int) -> dict[str, Tensor]:
        """One run's state dict, as its solo model would have it."""
        return {name: value[run].clone() for name, value in self.model.state_dict().items()}

    @torch.no_grad()
    def load_weights(self, run: int, state: dict[str, Tensor]) -> None:
        """Put back what `weights` gave."""
        for name, value in self.model.state_dict().items():
            value[run].copy_(state[name])


def pick_device(device: str) -> torch.device:
    """The device that a name stands for: "auto" is cuda where there is one."""
    return torch.device(("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device)
