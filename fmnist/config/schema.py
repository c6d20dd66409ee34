"""The knobs of a run: names, types, defaults and what each allows. conf/ says in words what they mean."""

import importlib
import math
import pkgutil
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, fields
from typing import Any


def knob(default: Any, allowed: str | Collection[str] | None = None, per_run: bool = False, before: Any = None) -> Any:
    """A field with what it allows: an interval such as "[0, 1)", in steps "[0, inf, 1)", or a collection of names.

    per_run: whether the runs of one stack may differ in it (it must be null in all or in none of them). before: the
    value that says what runs did before there was this knob, where that is not its default.
    """
    metadata = {"allowed": allowed, "per_run": per_run, "before": before}
    if isinstance(default, list | dict):
        return field(default_factory=default.copy, metadata=metadata)
    return field(default=default, metadata=metadata)


POSITIVE, COUNT, FRACTION, AT_LEAST_0, WHOLE = "(0, inf)", "[1, inf)", "[0, 1)", "[0, inf)", "[0, inf, 1)"
LAYERS = 10_000  # of a model at most: a config that asks for more would fill the memory before it is refused
INITS = ("he", "glorot", "report", "report_weights", "report_biases")
# Lists and dicts of names can be added to: see fmnist/ideas/.
ACTIVATIONS = ["relu", "leaky_relu", "gelu", "silu", "sigmoid", "tanh", "identity"]
NORMS = ["batch", "layer"]
CLASS_LOSSES = ["cross_entropy", "brier", "report", "report_rows"]
IMAGE_LOSSES = ["mae", "mse", "bce"]
ANNEALED = ["dropout", "drop_path", "label_smoothing", "noise", "mask", "beta"]  # by `anneal`, as augmentations are
AUGMENTATIONS = {"shift": WHOLE, "flip": "[0, 1]", "cutout": WHOLE, "mixup": AT_LEAST_0}


@dataclass
class LinearConfig:
    """inputs - classes: softmax regression, without a hidden layer."""

    name: str = "linear"


@dataclass
class MLPConfig:
    """inputs - hidden - classes."""

    name: str = "mlp"
    hidden: list[int] = knob([300, 100], COUNT)
    activation: str = knob("relu", ACTIVATIONS)


@dataclass
class DeepConfig:
    """A stem to `width`, then depth - 1 hidden layers of that width, which skip connections can cross unchanged."""

    name: str = "deep"
    width: int = knob(32, COUNT)
    depth: int = knob(20, f"[1, {LAYERS}]")
    activation: str = knob("relu", ACTIVATIONS)


@dataclass
class AutoencoderConfig:
    """inputs - hidden - the same widths back - inputs; the last of hidden is the code."""

    name: str = "autoencoder"
    hidden: list[int] = knob([128, 64, 32], COUNT)
    activation: str = knob("relu", ACTIVATIONS)
    code: str = knob("relu", ACTIVATIONS)


@dataclass
class VAEConfig:
    """inputs - hidden - a Gaussian over `latent` numbers - hidden back - inputs."""

    name: str = "vae"
    hidden: list[int] = knob([512, 256], COUNT)
    latent: int = knob(20, COUNT)
    activation: str = knob("relu", ACTIVATIONS)
    beta: float = knob(1.0, AT_LEAST_0, per_run=True)
    iwae_samples: int | None = knob(None, "[1, 10000]")


@dataclass
class AnomalyConfig:
    """Training on one class only, or on several, and telling them from the others. normal: a number, or a list."""

    normal: Any = knob(None, WHOLE)

    @property
    def classes(self) -> list[int]:
        """The classes that are normal; none where all are trained on."""
        given = self.normal if isinstance(self.normal, list) else [self.normal]
        return [int(number) for number in given if number is not None]


@dataclass
class DataConfig:
    """Files and splits; conf/data/*.yaml says what each knob means."""

    name: str = "fashion"
    dir: str | None = None
    split: float = knob(0.8, "(0, 1]")
    split_by: str = knob("tail", ("tail", "stratified"))
    split_seed: int = knob(0, AT_LEAST_0)
    limit: int | None = knob(None, COUNT)
    binarise: bool | None = None


@dataclass
class SGDConfig:
    """torch.optim.SGD's arguments."""

    name: str = "sgd"
    momentum: float = knob(0.9, FRACTION, per_run=True)
    nesterov: bool | None = None
    weight_decay: float | None = knob(None, AT_LEAST_0, per_run=True)


@dataclass
class AdamConfig:
    """torch.optim.Adam's and AdamW's arguments."""

    name: str = "adam"
    betas: list[float] = knob([0.9, 0.999], FRACTION, per_run=True)
    eps: float = knob(1e-8, POSITIVE, per_run=True)
    weight_decay: float | None = knob(None, AT_LEAST_0, per_run=True)


@dataclass
class LionConfig:
    """The settings of Lion (Chen et al. 2023)."""

    name: str = "lion"
    betas: list[float] = knob([0.9, 0.99], FRACTION, per_run=True)
    weight_decay: float | None = knob(None, AT_LEAST_0, per_run=True)


@dataclass
class MuonConfig:
    """The settings of Muon (Jordan et al. 2024); betas and eps are of AdamW, which updates all that is no matrix."""

    name: str = "muon"
    momentum: float = knob(0.95, FRACTION, per_run=True)
    betas: list[float] = knob([0.9, 0.999], FRACTION, per_run=True)
    eps: float = knob(1e-8, POSITIVE, per_run=True)
    weight_decay: float | None = knob(None, AT_LEAST_0, per_run=True)


@dataclass(frozen=True)
class Kind:
    """All facts about a model for which torch is not needed.

    config: its own knobs; build: its class, "module:name"; criterion: the class that trains and measures it; losses:
    those that it can have, the first by default. judged_by: the metric of the validation rows (or training rows where
    there are none) by which runs are compared; better: max or min. charts: the metrics that have training and
    validation in one chart. widths: of its layers, by its config and the numbers of inputs and classes. extra: layers
    beside them, by config and inputs: widths, rows a step (None: the batch's), whether the weights are its own.
    """

    config: type
    build: str
    criterion: str
    losses: Sequence[str]
    judged_by: str
    better: Callable[..., Any]
    charts: Sequence[str]
    widths: Callable[[Any, int, int], list[int]]
    extra: Callable[[Any, int], list[tuple[list[int], int | None, bool]]] = lambda model, inputs: []

    @property
    def classifies(self) -> bool:
        """Whether it is a classifier; all others reconstruct images."""
        return self.judged_by == "accuracy"


def classifier(config: type, build: str, hidden: Callable[[Any], list[int]]) -> Kind:
    """The entry of a classifier. hidden: a function of its config; the widths of its hidden layers."""
    return Kind(config, build, "fmnist.nn.losses:Classification", CLASS_LOSSES, "accuracy", max, ("loss", "accuracy"),
                lambda model, inputs, classes: [inputs, *hidden(model), classes])  # fmt: skip


def autoencoder(config: type, build: str, criterion: str, losses: Sequence[str], charts: Sequence[str],
                hidden: Callable[[Any], list[int]]) -> Kind:  # fmt: skip
    """The entry of a model that reconstructs images; its decoder mirrors its encoder. hidden: as for `classifier`."""

    def widths(model: Any, inputs: int, classes: int) -> list[int]:
        down = [inputs, *hidden(model)]
        return [*down, *down[-2::-1]]

    return Kind(config, build, criterion, losses, "loss", min, charts, widths)


MODELS: dict[str, Kind] = {
    "linear": classifier(LinearConfig, "fmnist.nn.models:MLP", lambda model: []),
    "mlp": classifier(MLPConfig, "fmnist.nn.models:MLP", lambda model: model.hidden),
    "deep": classifier(DeepConfig, "fmnist.nn.models:Deep", lambda model: [model.width] * model.depth),
    "autoencoder": autoencoder(AutoencoderConfig, "fmnist.nn.models:Autoencoder", "fmnist.nn.losses:Reconstruction",
                               IMAGE_LOSSES, ("loss", "mae", "mse"), lambda model: model.hidden),
    "vae": autoencoder(VAEConfig, "fmnist.nn.models:VAE", "fmnist.nn.losses:NegativeELBO", ("bce",),
                       ("loss", "nll", "kl"), lambda model: [*model.hidden, 2 * model.latent]),
}  # fmt: skip
DATA: dict[str, type] = {"fashion": DataConfig, "idx": DataConfig}
OPTIMIZERS: dict[str, type] = {
    "sgd": SGDConfig, "adam": AdamConfig, "adamw": AdamConfig, "lion": LionConfig, "muon": MuonConfig,
}  # fmt: skip
GROUPS: dict[str, dict[str, Any]] = {"model": MODELS, "data": DATA, "optim": OPTIMIZERS}


def kind(model: str) -> Kind:
    """The entry of the model of that name, if need be from fmnist/ideas/. Raises KeyError for an unknown name."""
    if model not in MODELS:
        load_ideas()
    return MODELS[model]


def load_ideas() -> None:
    """Import the files of fmnist/ideas/: each adds its names to the tables above."""
    folder = importlib.import_module("fmnist.ideas")
    for file in pkgutil.iter_modules(folder.__path__, "fmnist.ideas."):
        importlib.import_module(file.name)


@dataclass
class Knobs:
    """The knobs at the top level; conf/config.yaml says what each means."""

    seed: int = knob(0, AT_LEAST_0, per_run=True)
    order_seed: int = knob(0, AT_LEAST_0, per_run=True)
    epochs: int = knob(60, COUNT)
    batch_size: int | None = knob(128, COUNT)
    lr: float = knob(1e-3, POSITIVE, per_run=True)
    schedule: str = knob("one_cycle", ("constant", "cosine", "one_cycle"), per_run=True)
    cycles: int | None = knob(None, COUNT, per_run=True)
    grad_clip: float | None = knob(None, POSITIVE, per_run=True)
    dropout: float | None = knob(None, FRACTION, per_run=True)
    dropout_rescale: bool = True
    norm: str | None = knob(None, NORMS)
    batch_norm: bool | None = None
    skip: bool | None = None
    skip_scale: str = knob("depth", ("depth", "none"), before="none")
    drop_path: float | None = knob(None, FRACTION, per_run=True)
    gate: str | None = knob(None, ACTIVATIONS)
    loss: str | None = None
    label_smoothing: float | None = knob(None, FRACTION, per_run=True)
    teacher: str | None = None
    teacher_weight: float | None = knob(None, "[0, 1]", per_run=True)
    teacher_temperature: float | None = knob(None, POSITIVE)
    augment: dict[str, float | None] = knob({})
    noise: float | None = knob(None, AT_LEAST_0, per_run=True)
    mask: float | None = knob(None, FRACTION, per_run=True)
    anneal: dict[str, list[float]] = knob({})
    init: str = knob("he", INITS, per_run=True)
    init_scale: float = knob(1.0, POSITIVE, per_run=True)
    ema: float | None = knob(None, FRACTION, per_run=True)
    patience: int | None = knob(None, COUNT, per_run=True)
    select: str = knob("last", ("last", "best", "average"), per_run=True)
    precision: str = knob("float32", ("float32", "float64", "bfloat16"))
    device: str = "auto"
    eval_every: int = knob(1, COUNT)
    log_every: int = knob(1, COUNT)
    watch: str | None = knob(None, ("fit", "gradients", "inputs", "surface"))
    save_every: float = knob(15.0, AT_LEAST_0)
    until: float | None = knob(None, "(0, 1]")
    figures: bool = True
    histograms: bool | None = None
    debug: bool | None = None
    profile: bool = False


@dataclass
class Config(Knobs):
    """One run, complete and checked; `parse` makes it."""

    model: Any = field(default_factory=MLPConfig)
    data: DataConfig = field(default_factory=DataConfig)
    optim: Any = field(default_factory=AdamConfig)
    anomaly: AnomalyConfig = field(default_factory=AnomalyConfig)

    def measured(self, epoch: int) -> bool:
        """Whether the validation rows are measured after that epoch, and a row is recorded: a run ends at such."""
        return epoch % self.eval_every == 0 or epoch == self.epochs

    @property
    def last_epoch(self) -> int:
        """The epoch after which training ends: the run's last or, with `until`, the recorded one at which it pauses."""
        rows = math.ceil(round((self.until or 1.0) * self.epochs / self.eval_every, 9))
        return min(rows * self.eval_every, self.epochs)


# Knobs that came later, each with the value that says what older runs did.
BEFORE = {f.name: f.metadata["before"] for f in fields(Knobs) if f.metadata.get("before") is not None}
# Unset, these are not hashed: the run is what it was before there were any.
LATER = ("debug", "drop_path", "gate", "data.binarise", "anneal", "cycles",
         "teacher", "teacher_weight", "teacher_temperature")  # fmt: skip
# These say how and where a run is carried out, not what it computes.
NOT_HASHED = ("device", "log_every", "save_every", "until", "figures", "histograms", "profile")
BY_NAME = ("augment.", "anneal.")  # knobs of these groups are left out of a config where they are off
ASIDE = ("dry_run",)  # these stand among the knobs, but are about the command: they are no part of a config
# Runs that differ in these alone are one configuration.
SEEDS = ("seed", "order_seed")
