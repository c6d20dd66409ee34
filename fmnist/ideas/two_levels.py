"""A VAE with two levels of latent numbers (the HVAE of Tomczak & Welling 2018): q(z2|x) q(z1|x, z2), p(z1|z2) p(x|z1,
z2), with N(0, 1) or the VampPrior for p(z2)."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from torch import Tensor, nn

from fmnist.config import schema
from fmnist.config.schema import AT_LEAST_0, COUNT, autoencoder, knob
from fmnist.ideas.vamp import PseudoInputs, SampledVAE, log_normal, log_prior, mixed, prior_costs
from fmnist.nn.models import Parts, reparametrised


@dataclass
class TwoLevelsConfig:
    """latent: how many numbers each level has. hidden: the hidden layers of each network, from the image inwards."""

    name: str = "two_levels"
    hidden: list[int] = knob([300, 300], COUNT)
    latent: int = knob(40, COUNT)
    prior: str = knob("normal", ("normal", "vamp"))
    pseudo_inputs: int = knob(500, "[1, 100000]")
    activation: str = knob("relu", schema.ACTIVATIONS)
    beta: float = knob(1.0, AT_LEAST_0, per_run=True)
    iwae_samples: int | None = knob(None, "[1, 10000]")
    train_samples: int = knob(1, "[1, 1000]")


def network(parts: Parts, inputs: int, hidden: Sequence[int], outputs: int) -> nn.Sequential:
    """inputs - hidden - outputs, which are linear."""
    layers = [layer for i, o in pairwise([inputs, *hidden]) for layer in parts.hidden(i, o)]
    return nn.Sequential(*layers, parts.linear([inputs, *hidden][-1], outputs))


class Joint(nn.Module):
    """A network of two inputs, a (*runs, batch, a) and b alike: each has a first hidden layer of its own; the rest
    takes both."""

    def __init__(self, parts: Parts, a: int, b: int, hidden: Sequence[int], outputs: int) -> None:
        super().__init__()
        self.of_a, self.of_b = nn.Sequential(*parts.hidden(a, hidden[0])), nn.Sequential(*parts.hidden(b, hidden[0]))
        self.rest = network(parts, 2 * hidden[0], hidden[1:], outputs)

    def join(self, seen: Tensor, b: Tensor) -> Tensor:
        """The output, of what `of_a` makes of a."""
        y: Tensor = self.rest(torch.cat([seen, self.of_b(b)], -1))
        return y

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return self.join(self.of_a(a), b)


class TwoLevels(SampledVAE):
    """x (*runs, batch, inputs) -> Sampled. Its code is z2 and z1, one after the other; a Gaussian each."""

    def __init__(
        self, parts: Parts, inputs: int, outputs: int, hidden: Sequence[int], latent: int, prior: str,
        pseudo_inputs: int, train_samples: int,
    ) -> None:  # fmt: skip
        nn.Module.__init__(self)
        self.noise, self.width, self.train_samples = parts.noise, 2 * latent, train_samples
        self.corrupt = nn.Sequential(*parts.corrupt())
        back = list(reversed(hidden))
        self.q2 = network(parts, inputs, hidden, 2 * latent)
        self.q1 = Joint(parts, inputs, latent, hidden, 2 * latent)
        self.p1 = network(parts, latent, back, 2 * latent)
        self.pseudo_inputs = PseudoInputs(pseudo_inputs, inputs, parts) if prior == "vamp" else None
        self.px = Joint(parts, latent, latent, back, inputs)

    def posterior(self, x: Tensor) -> tuple[Tensor, ...]:
        """Mean and log variance of q(z2|x), and what q(z1|x, z2) has of x."""
        shown = self.corrupt(x)
        mean, log_variance = self.q2(shown).chunk(2, -1)
        return mean, log_variance, self.q1.of_a(shown).expand(*mean.shape[:-1], -1)

    def prior(self) -> tuple[Tensor, ...]:
        """Mean and log variance of each component of p(z2); nothing for N(0, 1)."""
        return () if self.pseudo_inputs is None else self.q2(self.pseudo_inputs()).chunk(2, -1)

    def draw(self, q: tuple[Tensor, ...], p: tuple[Tensor, ...], normal: Tensor) -> tuple[Tensor, Tensor]:
        """See VAE."""
        mean2, log_variance2, seen = q
        normal2, normal1 = normal.chunk(2, -1)
        z2 = reparametrised(mean2, log_variance2, normal2)
        mean1, log_variance1 = self.q1.join(seen, z2).chunk(2, -1)
        z1 = reparametrised(mean1, log_variance1, normal1)
        log_q = -(normal.square().sum(-1) + log_variance2.sum(-1) + log_variance1.sum(-1)) / 2
        log_p = log_prior(z2, p) + log_normal(z1, *self.p1(z2).chunk(2, -1))
        return torch.cat([z2, z1], -1), log_q - log_p

    def from_prior(self, normal: Tensor, generator: torch.Generator) -> Tensor:
        """See VAE."""
        z2, normal1 = normal.chunk(2, -1)
        if p := self.prior():
            z2 = mixed(p, z2, generator)
        mean, log_variance = self.p1(z2).chunk(2, -1)
        z1 = reparametrised(mean, log_variance, normal1)
        return torch.cat([z2.expand(*z1.shape), z1], -1)

    def encode(self, x: Tensor) -> Tensor:
        """The means of z2, and of z1 given that z2."""
        mean2, _, seen = self.posterior(x)
        return torch.cat([mean2, self.q1.join(seen, mean2).chunk(2, -1)[0]], -1)

    def decode(self, code: Tensor) -> Tensor:
        """See VAE."""
        z2, z1 = code.chunk(2, -1)
        logits: Tensor = self.px(z1, z2)
        return logits


def _extra(model: TwoLevelsConfig, inputs: int) -> list[tuple[list[int], int | None, bool]]:
    """See Kind. The chain of its widths is q2 and px; a last width of 0 makes the one before it that of a hidden
    layer. All but q2 and x's part of q1 works on each sample."""
    first, *rest = model.hidden
    last, *back = reversed(model.hidden)
    code = 2 * model.latent
    of_samples = [
        [model.latent, first, 0], [2 * first, *rest, code],  # q1 but for what it has of x
        [model.latent, last, *back, code],  # p1
        [last, back[0], 0] if back else [last, inputs],  # px, of its second input
    ]  # fmt: skip
    own = [[inputs, first, 0], *of_samples]
    again = [*of_samples, [code, last, *back, inputs]] * (model.train_samples - 1)
    prior = prior_costs(model, inputs) if model.prior == "vamp" else []
    return [*((widths, None, True) for widths in own), *((widths, None, False) for widths in again), *prior]


schema.MODELS["two_levels"] = replace(
    autoencoder(
        TwoLevelsConfig, "fmnist.ideas.two_levels:TwoLevels", "fmnist.ideas.vamp:ImportanceWeighted", ("bce",),
        ("loss", "nll", "kl"), lambda model: [*model.hidden, 2 * model.latent],
    ),
    extra=_extra,
)  # fmt: skip
