"""The knobs of a run: names, types, defaults and what each allows. conf/ says in words what they mean."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


def knob(default: Any, allowed: str | tuple[str, ...] | None = None, per_run: bool = False) -> Any:
    """A field with what it allows: an interval such as "[0, 1)" or a tuple of names.

    per_run marks the knobs in which the runs of one stack may differ (null or not must still agree).
    """
    metadata = {"allowed": allowed, "per_run": per_run}
    if isinstance(default, list):
        return field(default_factory=lambda: list(default), metadata=metadata)
    return field(default=default, metadata=metadata)


POSITIVE, COUNT, FRACTION, AT_LEAST_0 = "(0, inf)", "[1, inf)", "[0, 1)", "[0, inf)"
INITS = ("he", "glorot", "report", "report_weights", "report_biases")
ACTIVATIONS = ("relu", "gelu", "sigmoid", "tanh")


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
    depth: int = knob(20, COUNT)
    activation: str = knob("relu", ACTIVATIONS)


@dataclass
class AutoencoderConfig:
    """inputs - hidden - the same widths back - inputs; the last of hidden is the code."""

    name: str = "autoencoder"
    hidden: list[int] = knob([128, 64, 32], COUNT)
    activation: str = knob("relu", ACTIVATIONS)
    code: str = knob("relu", (*ACTIVATIONS, "identity"))


@dataclass
class VAEConfig:
    """inputs - hidden - a Gaussian over `latent` numbers - hidden back - inputs."""

    name: str = "vae"
    hidden: list[int] = knob([512, 256], COUNT)
    latent: int = knob(20, COUNT)
    activation: str = knob("relu", ACTIVATIONS)
    beta: float = knob(1.0, AT_LEAST_0, per_run=True)
    iwae_samples: int | None = knob(None, COUNT)


@dataclass
class AnomalyConfig:
    """Training on one class only, and telling it from the others."""

    normal: int | None = knob(None, AT_LEAST_0)


@dataclass
class DataConfig:
    """Files and splits; conf/data/*.yaml says what each knob means."""

    name: str = "fashion"
    dir: str | None = None
    split: float = knob(0.8, "(0, 1]")
    split_by: str = knob("tail", ("tail", "stratified"))
    split_seed: int = knob(0, AT_LEAST_0)
    limit: int | None = knob(None, COUNT)


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


@dataclass(frozen=True)
class Kind:
    """All that is to be known of a model without torch.

    config: its own knobs; build: its class, "module:name"; losses: those it can be trained by, the first by default.
    judged_by: the metric of the validation rows (of the training rows where there are none) by which runs are compared;
    better: max or min. charts: the metrics that have training and validation in one chart. widths: from its config, the
    number of inputs and of classes to the widths of its layers, both ends included, for estimates of time and memory.
    """

    config: type
    build: str
    losses: tuple[str, ...]
    judged_by: str
    better: Callable[..., Any]
    charts: tuple[str, ...]
    widths: Callable[[Any, int, int], list[int]]

    @property
    def classifies(self) -> bool:
        """Whether it tells classes apart; all others give images back."""
        return self.judged_by == "accuracy"


def _classifier(config: type, build: str, widths: Callable[[Any], list[int]]) -> Kind:
    def ends(model: Any, inputs: int, classes: int) -> list[int]:
        return [inputs, *widths(model), classes]

    losses = ("cross_entropy", "report", "report_rows")
    return Kind(config, f"fmnist.nn.models:{build}", losses, "accuracy", max, ("loss", "accuracy"), ends)


def _autoencoder(
    config: type, build: str, losses: tuple[str, ...], charts: tuple[str, ...], widths: Callable[[Any], list[int]]
) -> Kind:
    def ends(model: Any, inputs: int, classes: int) -> list[int]:
        down = widths(model)
        return [inputs, *down, *down[-2::-1], inputs]

    return Kind(config, f"fmnist.nn.models:{build}", losses, "loss", min, charts, ends)


MODELS: dict[str, Kind] = {
    "mlp": _classifier(MLPConfig, "MLP", lambda m: m.hidden),
    "deep": _classifier(DeepConfig, "Deep", lambda m: [m.width] * m.depth),
    "autoencoder": _autoencoder(
        AutoencoderConfig, "Autoencoder", ("mae", "mse", "bce"), ("loss", "mae", "mse"), lambda m: m.hidden
    ),
    "vae": _autoencoder(VAEConfig, "VAE", ("bce",), ("loss", "nll", "kl"), lambda m: [*m.hidden, 2 * m.latent]),
}
GROUPS: dict[str, dict[str, type]] = {
    "model": {name: kind.config for name, kind in MODELS.items()},
    "data": {"fashion": DataConfig, "idx": DataConfig},
    "optim": {"sgd": SGDConfig, "adam": AdamConfig, "adamw": AdamConfig},
}


@dataclass
class Knobs:
    """The flat part; conf/config.yaml says what each knob means."""

    seed: int = knob(0, AT_LEAST_0, per_run=True)
    order_seed: int = knob(0, AT_LEAST_0, per_run=True)
    epochs: int = knob(60, COUNT)
    batch_size: int | None = knob(128, COUNT)
    lr: float = knob(1e-3, POSITIVE, per_run=True)
    schedule: str = knob("one_cycle", ("constant", "cosine", "one_cycle"), per_run=True)
    grad_clip: float | None = knob(None, POSITIVE, per_run=True)
    dropout: float | None = knob(None, FRACTION, per_run=True)
    dropout_rescale: bool = True
    batch_norm: bool | None = None
    skip: bool | None = None
    loss: str | None = None
    label_smoothing: float | None = knob(None, FRACTION, per_run=True)
    noise: float | None = knob(None, AT_LEAST_0, per_run=True)
    mask: float | None = knob(None, FRACTION, per_run=True)
    init: str = knob("he", INITS, per_run=True)
    init_scale: float = knob(1.0, POSITIVE, per_run=True)
    patience: int | None = knob(None, COUNT, per_run=True)
    select: str = knob("last", ("last", "best"), per_run=True)
    precision: str = knob("float32", ("float32", "float64", "bfloat16"))
    device: str = "auto"
    eval_every: int = knob(1, COUNT)
    log_every: int = knob(1, COUNT)
    watch: str | None = knob(None, ("fit", "gradients", "inputs", "surface"))
    save_every: float = knob(15.0, AT_LEAST_0)
    until: float | None = knob(None, "(0, 1]")
    figures: bool = True


@dataclass
class Config(Knobs):
    """One run, complete and checked; `parse` makes it."""

    model: Any = field(default_factory=MLPConfig)
    data: DataConfig = field(default_factory=DataConfig)
    optim: Any = field(default_factory=AdamConfig)
    anomaly: AnomalyConfig = field(default_factory=AnomalyConfig)


# How and where a run is carried out, not what it computes.
NOT_HASHED = ("device", "log_every", "save_every", "until", "figures")
# Stands among the knobs, but is about the command: no part of a config.
ASIDE = ("dry_run",)
# Runs that differ in these alone are one configuration.
SEEDS = ("seed", "order_seed")
