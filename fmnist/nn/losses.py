"""Losses per example, from the model's raw output: output (*runs, batch, n) -> (*runs, batch)."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from fmnist.config.schema import Config


def cross_entropy(logits: Tensor, labels: Tensor, label_smoothing: Tensor | float = 0.0) -> Tensor:
    """-sum_c q_c log softmax(logits)_c with q = (1 - s) onehot + s / classes, in nats.

    logits (*runs, batch, classes); labels (batch,) or (*runs, batch) integers; label_smoothing a number or one per run.
    """
    log_p = logits.mT.log_softmax(-2).mT  # along contiguous memory, as our layers' outputs lie: 15 times as fast
    own = -log_p.gather(-1, labels.expand(log_p.shape[:-1])[..., None]).squeeze(-1)
    if isinstance(label_smoothing, float) and label_smoothing == 0:
        return own
    smoothing = torch.as_tensor(label_smoothing, dtype=own.dtype, device=own.device)[..., None]
    return torch.lerp(own, -log_p.mean(-1), smoothing.expand(own.shape))


def distillation(logits: Tensor, soft: Tensor, temperature: float) -> Tensor:
    """T^2 KL(q || softmax(logits / T)), in nats, q (*runs, batch, classes) a teacher's softmax at that temperature.
    By T^2 its gradients are as large as those by labels, whatever T is (Hinton et al. 2015)."""
    log_p = (logits / temperature).mT.log_softmax(-2).mT
    return temperature**2 * functional.kl_div(log_p, soft.to(log_p.dtype), reduction="none").sum(-1)


def report(logits: Tensor, labels: Tensor, over_rows: bool = False) -> Tensor:
    """The report's loss: -sum_c [t log p + (1 - t) log(1 - p)], binary cross-entropy summed over the classes, in nats.

    p is the softmax over classes or, with over_rows, over the rows of the batch, as the report has it by mistake: then
    each class is a distribution over the batch and the loss of one example depends on the others.
    """
    log_p = logits.log_softmax(-2 if over_rows else -1)
    # log(1 - p) from log p; the bound keeps it finite where p rounds to 1 (Maechler 2012)
    log_not_p = torch.log(-torch.expm1(log_p.clamp_max(-torch.finfo(log_p.dtype).eps)))
    target = labels.expand(log_p.shape[:-1])[..., None]
    return -(log_not_p.sum(-1) + (log_p.gather(-1, target) - log_not_p.gather(-1, target)).squeeze(-1))


def report_rows(logits: Tensor, labels: Tensor) -> Tensor:
    """The report's loss with its softmax over the rows of the batch."""
    return report(logits, labels, over_rows=True)


def brier(logits: Tensor, labels: Tensor) -> Tensor:
    """sum_c (p_c - t_c)^2 with p = softmax(logits): the Brier score (Brier 1950), in [0, 2]."""
    p = logits.softmax(-1)
    own = p.gather(-1, labels.expand(p.shape[:-1])[..., None]).squeeze(-1)
    return p.square().sum(-1) - 2 * own + 1


def bernoulli(logits: Tensor, x: Tensor) -> Tensor:
    """-log p(x) of independent Bernoulli pixels, summed, in nats: logits, x (*runs, batch, pixels), x in [0, 1].

    Grey levels count as probabilities, so that the floor is their entropy and not 0.
    """
    # softplus(z) - x z, with softplus(z) = max(z, 0) + log(1 + exp(-|z|)): log(1 + e) is several times as fast as
    # log1p, and as good to 1e-7. -|z| is written z - 2 max(z, 0): then autograd gives sigmoid(z) - x at z = 0 too.
    positive = logits.relu()
    return (positive - logits * x + torch.log(1 + torch.exp(logits - 2 * positive))).sum(-1)


def floor(x: Tensor) -> Tensor:
    """The least that `bernoulli` can be for an image: the entropy of its grey levels, in nats."""
    return -(torch.xlogy(x, x) + torch.xlogy(1 - x, 1 - x)).sum(-1)


def absolute(logits: Tensor, x: Tensor) -> Tensor:
    """sum |sigmoid(logits) - x| over the pixels: the report's autoencoder loss."""
    return (logits.sigmoid() - x).abs().sum(-1)


def squared(logits: Tensor, x: Tensor) -> Tensor:
    """sum (sigmoid(logits) - x)^2 over the pixels."""
    return (logits.sigmoid() - x).square().sum(-1)


def psnr(image: Tensor, x: Tensor) -> Tensor:
    """The peak signal-to-noise ratio of an image, in dB."""
    return -10 * (image - x).square().mean(-1).clamp_min(1e-12).log10()


def within_16th(image: Tensor, x: Tensor) -> Tensor:
    """The share of pixels within 1/16."""
    return ((image - x).abs() <= 1 / 16).to(x.dtype).mean(-1)


def exact(image: Tensor, x: Tensor) -> Tensor:
    """The report's accuracy of an autoencoder: the share of pixels with round(image) == x."""
    return (image.round() == x).to(x.dtype).mean(-1)


def ceiling(image: Tensor, x: Tensor) -> Tensor:
    """The most that `exact` can be: the share of pixels that are exactly 0 or 1."""
    return ((x == 0) | (x == 1)).to(x.dtype).mean(-1).expand(image.shape[:-1])


def kl(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL(N(mean, variance) || N(0, 1)) summed over the latent numbers, in nats (Kingma & Welling 2014, appendix B)."""
    return (mean.square() + log_variance.exp() - 1 - log_variance).sum(-1) / 2


# By the name of the knob `loss`: of a classifier from logits and labels, of an autoencoder from logits and images.
CLASSIFICATION: dict[str, Callable[..., Tensor]] = {
    "cross_entropy": cross_entropy, "brier": brier, "report": report, "report_rows": report_rows,
}  # fmt: skip
COUPLING = {"report_rows"}  # losses by which the rows of a batch see one another
RECONSTRUCTION: dict[str, Callable[..., Tensor]] = {"mae": absolute, "mse": squared, "bce": bernoulli}


# Metrics of each example that are measured in evaluation alone, by name: of a classifier from logits and labels, of an
# autoencoder from images (*runs, batch, pixels) in [0, 1] and what they should be.
CLASS_METRICS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {}
IMAGE_METRICS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "psnr": psnr, "within_16th": within_16th, "accuracy": exact, "accuracy_ceiling": ceiling,
}  # fmt: skip

Mix = tuple[Tensor, Tensor]  # for mixed images: the other label of each row, and the share of its own, (*runs, rows)


class Criterion:
    """What a model is trained and measured by: metrics per example from its output, (*runs, batch) each."""

    couples_rows = False  # whether the metrics of a row depend on other rows: then a batch cannot be cut

    def metrics(self, output: Any, x: Tensor, labels: Tensor, training: bool = False) -> dict[str, Tensor]:
        """The "loss", to be minimised, and what is measured along with it. training: with what is for training alone,
        such as label smoothing; without it the losses of runs that were trained in different ways can be compared."""
        raise NotImplementedError

    def evaluation_only(self, output: Any, x: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Metrics that are worth their cost only in evaluation."""
        return {}

    def scores(self, output: Any, x: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """How unlike the training images each example is, by name; {} where there is no such measure."""
        return {}

    @classmethod
    def of(cls, configs: Sequence[Config], factory: dict[str, Any]) -> "Criterion":
        """The criterion of K runs that agree in all but their per-run knobs. factory: dtype and device."""
        raise NotImplementedError


class Classification(Criterion):
    """What a classifier is trained and measured by. name: one of CLASSIFICATION; any other is a KeyError.

    mix: where images are mixed in training (Zhang et al. 2018), the other label of each row and the share of its own:
    the loss is the mean of the losses by both labels with these shares; the accuracy is that of the own label.
    soft: in training, a teacher's probabilities; `distillation` has a share of the loss. teacher: these shares, (runs,
    1), and the temperature.
    """

    def __init__(self, name: str, label_smoothing: Tensor | None = None, teacher: Any = None) -> None:
        self.name, self.loss = name, CLASSIFICATION[name]
        self.label_smoothing, self.teacher = label_smoothing, teacher
        self.couples_rows = name in COUPLING

    @classmethod
    def of(cls, configs: Sequence[Config], factory: dict[str, Any]) -> "Classification":
        """See Criterion."""
        smoothing = [config.label_smoothing or 0.0 for config in configs]
        weights = [[0.5 if config.teacher_weight is None else config.teacher_weight] for config in configs]
        teacher = torch.tensor(weights, **factory), configs[0].teacher_temperature or 1.0
        return cls(str(configs[0].loss), torch.tensor(smoothing, **factory) if any(smoothing) else None, teacher)

    def metrics(
        self, output: Tensor, x: Tensor, labels: Tensor, training: bool = False, mix: Mix | None = None,
        soft: Tensor | None = None,
    ) -> dict[str, Tensor]:  # fmt: skip
        """Per example, (*runs, batch): "loss", to be minimised, and accuracy as 0 or 1."""
        extra = (self.label_smoothing,) if training and self.label_smoothing is not None else ()
        loss = self.loss(output, labels, *extra)
        if mix is not None:
            other, share = mix
            loss = torch.lerp(self.loss(output, other, *extra), loss, share.to(loss.dtype).expand(loss.shape))
        if soft is not None:
            share, temperature = self.teacher
            loss = torch.lerp(loss, distillation(output, soft, temperature), share.to(loss.dtype).expand(loss.shape))
        return {"loss": loss, "accuracy": (self.predict(output) == labels).to(output.dtype)}

    def evaluation_only(self, output: Tensor, x: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """CLASS_METRICS."""
        return {name: metric(output, labels) for name, metric in CLASS_METRICS.items()}

    def logits(self, output: Tensor) -> Tensor:
        """Numbers whose softmax over the classes is the probability of each. A softmax over the rows has p(row|class):
        what follows is p(class|row)."""
        return output.log_softmax(-2) if self.couples_rows else output

    def predict(self, output: Tensor) -> Tensor:
        """The class each example is taken for, (*runs, batch)."""
        return self.logits(output).max(-1).indices  # argmax is several times slower


class Reconstruction(Criterion):
    """What an autoencoder is trained and measured by. name: one of RECONSTRUCTION, summed over pixels."""

    @classmethod
    def of(cls, configs: Sequence[Config], factory: dict[str, Any]) -> "Reconstruction":
        """See Criterion."""
        return cls(str(configs[0].loss))

    def __init__(self, name: str) -> None:
        self.name, self.loss = name, RECONSTRUCTION[name]

    def metrics(self, output: Tensor, x: Tensor, labels: Tensor, training: bool = False) -> dict[str, Tensor]:
        """Per example, (*runs, batch): "loss", and the absolute and squared error per pixel; x is the clean image."""
        error = output.detach().sigmoid() - x
        return {"loss": self.loss(output, x), "mae": error.abs().mean(-1), "mse": error.square().mean(-1)}

    def evaluation_only(self, output: Tensor, x: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """IMAGE_METRICS."""
        image = output.sigmoid()
        return {name: metric(image, x) for name, metric in IMAGE_METRICS.items()}

    def scores(self, output: Tensor, x: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """How unlike the training images each example is, by the reconstruction error. For bce it is the part above the
        floor of the image, which differs from image to image."""
        error = self.loss(output, x)
        return {"auroc": error - floor(x) if self.name == "bce" else error}


class NegativeELBO(Criterion):
    """What a VAE is trained and measured by: -log p(x|z) + beta KL(q(z|x) || p(z)), in nats per image.

    output.divergence() is the KL term, or estimates it. beta: a number or one per run (Higgins et al. 2017; 1 is the
    evidence lower bound).
    """

    @classmethod
    def of(cls, configs: Sequence[Config], factory: dict[str, Any]) -> "NegativeELBO":
        """See Criterion."""
        return cls(torch.tensor([config.model.beta for config in configs], **factory))

    def __init__(self, beta: Tensor | float = 1.0) -> None:
        self.beta = beta[:, None] if isinstance(beta, Tensor) else beta
        self.pixels = Reconstruction("bce")

    def metrics(self, output: Any, x: Tensor, labels: Tensor, training: bool = False) -> dict[str, Tensor]:
        """Per example, (*runs, batch): "loss", its terms "nll" and "kl", and their sum, "negative_elbo"."""
        nll, divergence = bernoulli(output.logits, x), output.divergence()
        return {"loss": nll + self.beta * divergence, "nll": nll, "kl": divergence, "negative_elbo": nll + divergence}

    def evaluation_only(self, output: Any, x: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """An autoencoder's metrics, of the image decoded from a sample."""
        pixels = self.pixels.metrics(output.logits, x, labels) | self.pixels.evaluation_only(output.logits, x, labels)
        return {name: metric for name, metric in pixels.items() if name != "loss"}

    def scores(self, output: Any, x: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """How unlike the training images each example is, by the reconstruction term and by the bound, both above the
        floor of the image."""
        metrics = self.metrics(output, x, labels)
        return {"auroc": metrics["nll"] - floor(x), "auroc_elbo": metrics["negative_elbo"] - floor(x)}
