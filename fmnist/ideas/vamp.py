"""The VampPrior (Tomczak & Welling 2018): p(z) is the mean of q(z|u) over pseudo-inputs u, images that are learnt."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from fmnist.config import schema
from fmnist.config.schema import AT_LEAST_0, COUNT, Config, autoencoder, knob
from fmnist.nn.losses import NegativeELBO, bernoulli
from fmnist.nn.models import VAE, Parts, reparametrised

JITTER = 0.01  # deviation of the noise on pseudo-inputs at the start, as in the authors' code


@dataclass
class VampConfig:
    """A VAE with the VampPrior. pseudo_inputs: how many."""

    name: str = "vamp"
    hidden: list[int] = knob([300, 300], COUNT)
    latent: int = knob(40, COUNT)
    pseudo_inputs: int = knob(500, "[1, 100000]")
    activation: str = knob("relu", schema.ACTIVATIONS)
    beta: float = knob(1.0, AT_LEAST_0, per_run=True)
    iwae_samples: int | None = knob(None, "[1, 10000]")
    train_samples: int = knob(1, "[1, 1000]")


class Sampled(NamedTuple):
    """The output of a VAE whose divergence has no closed form: logits of the image decoded from a sample z; log q(z|x)
    - log p(z) at that sample, which estimates it, (*runs, batch). In training there may be S samples of each image: S *
    batch rows, the first sample of all images before the second one."""

    logits: Tensor
    log_ratio: Tensor

    def divergence(self) -> Tensor:
        """See NegativeELBO."""
        return self.log_ratio


class ImportanceWeighted(NegativeELBO):
    """Trains a VAE by the bound of S samples (Burda et al. 2016), in nats per image: -log (1/S) sum_s p(x|z_s)
    (p(z_s) / q(z_s|x))^beta. It measures the negative ELBO, so that runs of different S can be compared."""

    @classmethod
    def of(cls, configs: Sequence[Config], factory: dict[str, Any]) -> NegativeELBO:
        """See Criterion. The bound of one sample is the ELBO, which is faster by its own rule on the tape."""
        return super().of(configs, factory) if configs[0].model.train_samples > 1 else NegativeELBO.of(configs, factory)

    def metrics(self, output: Any, x: Tensor, labels: Tensor, training: bool = False) -> dict[str, Tensor]:
        """See NegativeELBO; "nll" and "kl" are means over the samples."""
        if not training:
            return super().metrics(output, x, labels)
        samples = torch.unflatten(output.logits, -2, (-1, x.shape[-2]))
        nll = bernoulli(samples, x.unsqueeze(-3))
        divergence = torch.unflatten(output.log_ratio, -1, (-1, x.shape[-2]))
        beta = self.beta[..., None] if isinstance(self.beta, Tensor) else self.beta
        bound = (-nll - beta * divergence).logsumexp(-2) - math.log(nll.shape[-2])
        nll, divergence = nll.mean(-2), divergence.mean(-2)
        return {"loss": -bound, "nll": nll, "kl": divergence, "negative_elbo": nll + divergence}


class SampledVAE(VAE):
    """A VAE whose bound is estimated at its samples alone; x (*runs, batch, inputs) -> Sampled."""

    train_samples: int  # of each image in training

    def forward(self, x: Tensor) -> Any:
        q = self.posterior(x)
        if self.training and self.train_samples > 1:
            q = tuple(part.repeat(1, self.train_samples, 1) for part in q)
        z, log_ratio = self.draw(q, self.prior(), self.normal(q))
        return Sampled(self.decode(z), log_ratio)


def log_normal(z: Tensor, mean: Tensor | float, log_variance: Tensor | float) -> Tensor:
    """log N(z; mean, variance) summed over the latent numbers, without log(2 pi) / 2 for each: it cancels in ratios."""
    log_variance = torch.as_tensor(log_variance, dtype=z.dtype, device=z.device)
    return -((z - mean).square() * (-log_variance).exp() + log_variance).sum(-1) / 2


def log_mixture(z: Tensor, mean: Tensor, log_variance: Tensor) -> Tensor:
    """log of the mean of N(z; mean_k, variance_k) over k, with the same constant left out: z (*runs, batch, n), mean
    and log variance (*runs, K, n) -> (*runs, batch)."""
    with torch.autocast(z.device.type, enabled=False):  # sums of large terms: bfloat16 would leave nothing of them
        z, mean, log_variance = (part.float() if part.dtype == torch.bfloat16 else part
                                 for part in (z, mean, log_variance))  # fmt: skip
        precision = (-log_variance).exp()
        # (z - m)^2 / v = z^2 / v - 2 z m / v + m^2 / v: a product, and no tensor of batch x K x n numbers
        square = torch.cat([z.square(), z], -1) @ torch.cat([precision, -2 * mean * precision], -1).mT
        own = (mean.square() * precision + log_variance).sum(-1)
        return (-(square + own[..., None, :]) / 2).logsumexp(-1) - math.log(mean.shape[-2])


def log_prior(z: Tensor, p: tuple[Tensor, ...]) -> Tensor:
    """log p(z), with the same constant left out. p: mean and log variance of a mixture; nothing for N(0, 1)."""
    return log_mixture(z, *p) if p else -z.square().sum(-1) / 2


class PseudoInputs(nn.Module):
    """Images (*runs, count, inputs) that are learnt, kept in [0, 1] by a hard clip as in the authors' code."""

    def __init__(self, count: int, inputs: int, parts: Parts) -> None:
        super().__init__()
        self.images = nn.Parameter(torch.zeros(*parts.runs, count, inputs, **parts.factory))

    def forward(self) -> Tensor:
        return self.images.clamp(0, 1)

    @torch.no_grad()
    def start_from(self, images: Tensor, run: int, generator: torch.Generator) -> None:
        """Become training images, chosen at random, with a little noise: images (n, inputs) uint8. See Stack."""
        own = self.images[run]
        chosen = torch.randint(len(images), (len(own),), generator=generator).to(images.device)
        noise = torch.randn(own.shape, generator=generator, dtype=torch.float64).to(own)
        own.copy_(images[chosen].to(own) / 255 + JITTER * noise)


def mixed(p: tuple[Tensor, ...], normal: Tensor, generator: torch.Generator) -> Tensor:
    """Samples of a mixture of K normals (*runs, K, n), made of standard normal numbers (m, n): (*runs, m, n)."""
    mean, log_variance = p
    chosen = torch.randint(mean.shape[-2], (len(normal),), generator=generator).to(mean.device)
    return reparametrised(mean[..., chosen, :], log_variance[..., chosen, :], normal)


class VampVAE(SampledVAE):
    """A VAE with the VampPrior; x (*runs, batch, inputs) -> Sampled."""

    def __init__(
        self, parts: Parts, inputs: int, outputs: int, hidden: Sequence[int], latent: int, pseudo_inputs: int,
        train_samples: int,
    ) -> None:  # fmt: skip
        super().__init__(parts, inputs, outputs, hidden, latent)
        self.train_samples = train_samples
        self.pseudo_inputs = PseudoInputs(pseudo_inputs, inputs, parts)

    def prior(self) -> tuple[Tensor, ...]:
        """Mean and log variance of each component, (*runs, pseudo-inputs, latent)."""
        mean, log_variance = self.encoder(self.pseudo_inputs()).chunk(2, -1)
        return mean, log_variance

    def draw(self, q: tuple[Tensor, ...], p: tuple[Tensor, ...], normal: Tensor) -> tuple[Tensor, Tensor]:
        """See VAE."""
        z = reparametrised(q[0], q[1], normal)
        return z, -(normal.square() + q[1]).sum(-1) / 2 - log_prior(z, p)

    def from_prior(self, normal: Tensor, generator: torch.Generator) -> Tensor:
        """See VAE."""
        return mixed(self.prior(), normal, generator)


def _extra(model: VampConfig, inputs: int) -> list[tuple[list[int], int | None, bool]]:
    """See Kind: what the prior costs, and the decoder for all samples but the first."""
    decoder = [model.latent, *reversed(model.hidden), inputs]
    return [*prior_costs(model, inputs), *[(decoder, None, False)] * (model.train_samples - 1)]


def prior_costs(model: Any, inputs: int) -> list[tuple[list[int], int | None, bool]]:
    """What the prior costs, see Kind: the images that are learnt; the encoder, which sees them in each step; the
    densities of each code under all of them."""
    count, code = model.pseudo_inputs, 2 * model.latent
    densities = [([code, count], None, False)] * model.train_samples
    return [([count, inputs], 0, True), ([inputs, *model.hidden, code], count, False), *densities]


schema.MODELS["vamp"] = replace(
    autoencoder(
        VampConfig, "fmnist.ideas.vamp:VampVAE", "fmnist.ideas.vamp:ImportanceWeighted", ("bce",),
        ("loss", "nll", "kl"), lambda model: [*model.hidden, 2 * model.latent],
    ),
    extra=_extra,
)  # fmt: skip
