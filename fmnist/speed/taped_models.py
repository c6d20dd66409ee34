"""How the models that reconstruct images are written on a tape; see taped."""

import torch
from torch import Tensor, nn

from fmnist.nn.models import VAE, Autoencoder, Encoded
from fmnist.speed.tape import Tape
from fmnist.speed.taped import Back, rule, write


@rule.register
def _(model: Autoencoder, tape: Tape, x: Tensor) -> tuple[Tensor, Back]:
    tape.compared = model.decoder[-1]
    return write(nn.Sequential(model.corrupt, model.encoder, model.decoder), tape, x)


@rule.register
def _(model: VAE, tape: Tape, x: Tensor) -> tuple[Encoded, Back]:
    both, encoder_back = write(nn.Sequential(model.corrupt, model.encoder), tape, x)
    mean, log_variance = both.chunk(2, -1)
    drawn = tape.by_row(*mean.shape)  # as VAE.normal draws it
    half, z = tape.like(log_variance), tape.like(log_variance)
    tape(model.noise.normal, drawn)
    tape(torch.div, log_variance, 2, out=half)
    tape(half.exp_)
    tape(torch.mul, half, drawn, out=half)
    tape(torch.add, mean, half, out=z)
    tape.compared = model.decoder[-1]
    logits, decoder_back = write(model.decoder, tape, z)

    def back(g: Encoded) -> None:
        dz = decoder_back(g.logits)
        d_both = tape.like(both)
        d_mean, d_log_variance = d_both.chunk(2, -1)
        tape(torch.add, g.mean, dz, out=d_mean)
        tape(torch.mul, dz, half, out=d_log_variance)  # half = deviation * noise; d z / d log variance is half of it
        tape(torch.add, g.log_variance, d_log_variance, alpha=0.5, out=d_log_variance)
        encoder_back(d_both)

    return Encoded(logits, mean, log_variance), back
