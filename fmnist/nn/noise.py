"""The random numbers of training, each run's from a generator of its own, and noise on the input."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Noise:
    """The random numbers of K runs during training, each run's from a generator of its own.

    Starting an epoch seeds them from (seed of the run, epoch) alone: a resumed run needs no saved state, and the
    noise of a run does not depend on the runs beside it.
    """

    def __init__(self, runs: int, device: torch.device | str = "cpu") -> None:
        self.generators = [torch.Generator(device) for _ in range(runs)]
        self.buffers: dict[int, Tensor] = {}

    def start(self, seeds: Sequence[int]) -> None:
        for generator, seed in zip(self.generators, seeds, strict=True):
            generator.manual_seed(seed)

    def keep_mask(self, out: Tensor, keep: Sequence[float], rescale: bool = True) -> None:
        """Fill out (K, ...) run by run: 1/keep, or 1 without rescale, with probability keep, else 0.

        keep = 1 draws nothing. A 16-bit draw per unit, taken four at a time from a 64-bit one: the probability is a
        multiple of 1/65,536.
        """
        for mask, generator, share in zip(out, self.generators, keep, strict=True):
            below = round(share * 65536)
            if below == 65536:
                mask.fill_(1)
                continue
            bits = self._bits(mask.numel())
            bits.random_(-(2**63), None, generator=generator)
            torch.lt(bits.view(torch.int16)[: mask.numel()].view(mask.shape), below - 32768, out=mask)
            if rescale:
                mask.mul_(65536 / below if below else 0.0)

    def _bits(self, count: int) -> Tensor:
        """A kept buffer of at least so many 16-bit numbers, as 64-bit ones."""
        size = (count + 3) // 4
        if size not in self.buffers:
            self.buffers[size] = torch.empty(size, dtype=torch.int64, device=self.generators[0].device)
        return self.buffers[size]

    def normal(self, out: Tensor) -> Tensor:
        """Fill out (K, ...) with standard normal numbers, run by run."""
        for slot, generator in zip(out, self.generators, strict=True):
            slot.normal_(generator=generator)
        return out


class Corrupt(nn.Module):
    """What a denoising autoencoder is shown (Vincent et al. 2008): x plus Gaussian noise, cut to [0, 1], and pixels set
    to 0; in training and in evaluation.

    deviation and share: the noise's standard deviation and the probability of a pixel being zeroed, one per run or
    None. x (batch, features) or (K, batch, features) -> (K, batch, features). training_only: in evaluation x stays as
    it is, and in training the pixels that are kept are divided by 1 - share: dropout of the input.
    """

    def __init__(
        self, deviation: Sequence[float] | None, share: Sequence[float] | None, noise: Noise,
        training_only: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        self.deviation, self.share, self.noise, self.training_only = deviation, share, noise, training_only

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        if self.training_only and not self.training:
            return x
        shape = (len(self.noise.generators), *x.shape[-2:])
        y = x.expand(shape)
        if self.deviation is not None:
            drawn = self.noise.normal(torch.empty(shape, dtype=x.dtype, device=x.device))
            for slot, deviation in zip(drawn, self.deviation, strict=True):  # a tensor of them would be copied to a GPU
                slot.mul_(deviation)
            y = (y + drawn).clamp_(0, 1)
        if self.share is not None:
            kept = torch.empty(shape, dtype=x.dtype, device=x.device)
            self.noise.keep_mask(kept, [1 - share for share in self.share])
            y = y * (kept if self.training_only else kept != 0)
        return y

    def extra_repr(self) -> str:
        return f"noise {self.deviation}, mask {self.share}" + ", in training" * self.training_only
