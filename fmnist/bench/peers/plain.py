"""Plain PyTorch: nn.Linear, torch.optim.Adam, tensors that stay in memory and are indexed by a permutation.

Also the other models, as PyTorch users write them, for `python -m fmnist.bench models`.
"""

from itertools import pairwise

import entrant
import torch
from torch import Tensor, nn
from torch.nn import functional as F

KINDS = ["mlp", "dropout", "batch_norm", "skip", "autoencoder", "vae"]
LATENT = 20


class Residual(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.inner = nn.Linear(inputs, outputs)
        self.projection = nn.Identity() if inputs == outputs else nn.Linear(inputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.projection(x) + F.relu(self.inner(x))


class VAE(nn.Module):
    def __init__(self, hidden: list[int]) -> None:
        super().__init__()
        self.encoder = mlp("mlp", [entrant.PIXELS, *hidden, 2 * LATENT])
        self.decoder = mlp("mlp", [LATENT, *reversed(hidden), entrant.PIXELS])

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        mean, log_variance = self.encoder(x).chunk(2, -1)
        z = mean + torch.exp(log_variance / 2) * torch.randn_like(mean)
        return self.decoder(z), mean, log_variance


def mlp(kind: str, widths: list[int]) -> nn.Sequential:
    parts: list[nn.Module] = []
    for inputs, outputs in pairwise(widths[:-1]):
        if kind == "skip":
            parts.append(Residual(inputs, outputs))
            continue
        parts.append(nn.Linear(inputs, outputs))
        if kind == "batch_norm":
            parts.append(nn.BatchNorm1d(outputs))
        parts.append(nn.ReLU())
        if kind == "dropout":
            parts.append(nn.Dropout(0.5))
    return nn.Sequential(*parts, nn.Linear(widths[-2], widths[-1]))


def build(kind: str, hidden: list[int]) -> nn.Module:
    if kind == "vae":
        return VAE(hidden)
    if kind != "autoencoder":
        return mlp(kind, [entrant.PIXELS, *hidden, entrant.CLASSES])
    encoder = mlp("mlp", [entrant.PIXELS, *hidden])
    return nn.Sequential(encoder, nn.ReLU(), mlp("mlp", [*reversed(hidden), entrant.PIXELS]))


@torch.no_grad()
def start(model: nn.Module, seed: int) -> None:
    """The initial weights that all entrants share."""
    linears = [layer for layer in model.modules() if isinstance(layer, nn.Linear)]
    drawn = entrant.initial([(layer.out_features, layer.in_features) for layer in linears], seed)
    for layer, weight in zip(linears, drawn, strict=True):
        layer.weight.copy_(torch.from_numpy(weight))
        layer.bias.zero_()


def metrics(kind: str, model: nn.Module, x: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """The loss to minimise, a mean over the rows, and sums over the rows of what is measured along with it."""
    output = model(x)
    if kind == "vae":
        logits, mean, log_variance = output
        nll = F.binary_cross_entropy_with_logits(logits, x, reduction="sum")
        kl = (mean.square() + log_variance.exp() - 1 - log_variance).sum() / 2
        return (nll + kl) / len(x), torch.stack([nll.detach(), kl.detach()])
    if kind == "autoencoder":
        image = torch.sigmoid(output)
        loss = F.l1_loss(image, x, reduction="sum") / len(x)
        with torch.no_grad():
            return loss, torch.stack([loss * len(x), F.mse_loss(image, x, reduction="sum")])
    return F.cross_entropy(output, labels), (output.argmax(1) == labels).sum()


def main() -> None:
    work = entrant.arguments(kind=KINDS)
    torch.set_num_threads(work.threads)
    torch.manual_seed(work.seed)
    x, labels = map(torch.from_numpy, entrant.load(work))
    model = build(work.kind, work.hidden)
    start(model, work.seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)

    def train() -> tuple[float, float | None]:
        total, measured = torch.zeros(()), torch.zeros(())
        order = [] if work.full else torch.randperm(work.rows).split(work.batch)
        for batch_x, batch_labels in [(x, labels)] if work.full else ((x[rows], labels[rows]) for rows in order):
            loss, sums = metrics(work.kind, model, batch_x, batch_labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.detach() * len(batch_x)
            measured = measured + sums
        classifies = measured.dim() == 0
        return total.item() / work.rows, measured.item() / work.rows if classifies else None

    entrant.serve(train, "torch")


if __name__ == "__main__":
    main()
