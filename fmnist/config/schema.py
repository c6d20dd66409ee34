"""The knobs of a run: names, types, defaults and what each allows. conf/ says in words what they mean."""

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


GROUPS: dict[str, dict[str, type]] = {
    "model": {"mlp": MLPConfig, "deep": DeepConfig, "autoencoder": AutoencoderConfig, "vae": VAEConfig},
    "data": {"fashion": DataConfig, "idx": DataConfig},
    "optim": {"sgd": SGDConfig, "adam": AdamConfig, "adamw": AdamConfig},
}
LOSSES = {  # the first is the default
    "mlp": ("cross_entropy", "report", "report_rows"),
    "deep": ("cross_entropy", "report", "report_rows"),
    "autoencoder": ("mae", "mse", "bce"),
    "vae": ("bce",),
}
CLASSIFIERS = ("mlp", "deep")
# What a run is judged by on the validation rows (on the training rows where there are none), and which value is better.
JUDGED_BY = {"mlp": ("accuracy", max), "deep": ("accuracy", max), "autoencoder": ("loss", min), "vae": ("loss", min)}


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


# The figures that have training and validation in one chart, by model.
CHARTS = {
    "mlp": ("loss", "accuracy"), "deep": ("loss", "accuracy"),
    "autoencoder": ("loss", "mae", "mse"), "vae": ("loss", "nll", "kl"),
}  # fmt: skip
