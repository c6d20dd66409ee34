"""Plain PyTorch: nn.Linear, torch.optim.Adam, tensors that stay in memory and are indexed by a permutation.

Also the other models, as PyTorch users write them, for `python -m fmnist.bench models`; and the forms of the step that
PyTorch offers:

    default        Adam as it is constructed
    fused          Adam(fused=True), as in all that follow
    compile-loss   torch.compile around model and loss; autograd's backward pass and Adam run as they are
    compile        torch.compile around the whole step: model, loss, backward pass and Adam are one graph
    compile-max    the same, mode max-autotune
    sgd            SGD, rows in their order, nothing measured while training: what the driver of LIBXSMM does
"""

from collections.abc import Callable
from itertools import pairwise

import entrant
import torch
from torch import Tensor, nn
from torch.nn import functional as F

KINDS = ["mlp", "dropout", "batch_norm", "skip", "autoencoder", "vae"]
FORMS = ["default", "fused", "compile-loss", "compile", "compile-max", "sgd"]
LATENT = 20
PRODUCT = (torch.from_numpy, torch.mm)

Step = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


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


def stepped(form: str, kind: str, model: nn.Module) -> Step:
    """A form of the step. It trains on a batch; it returns what `metrics` returns, detached."""
    parameters = list(model.parameters())
    if form == "sgd":
        optimizer = torch.optim.SGD(parameters, lr=entrant.SGD_RATE)
    else:
        optimizer = torch.optim.Adam(parameters, lr=1e-3, **({} if form == "default" else {"fused": True}))

    def measured(x: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        return metrics(kind, model, x, labels)

    if form == "compile-loss":
        measured = torch.compile(measured, dynamic=False)

    def step(x: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        loss, sums = measured(x, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.detach(), sums

    def whole(x: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """In words that the compiler takes into its graph: at `backward` it would cut the graph in two."""
        loss, sums = measured(x, labels)
        for parameter, gradient in zip(parameters, torch.autograd.grad(loss, parameters), strict=True):
            parameter.grad = gradient
        optimizer.step()
        return loss.detach(), sums

    if form not in ("compile", "compile-max"):
        return step
    torch._dynamo.config.trace_autograd_ops = True
    return torch.compile(whole, mode="max-autotune" if form == "compile-max" else None, dynamic=False)


def main() -> None:
    work = entrant.arguments(kind=KINDS, form=FORMS, device=["cpu", "cuda"])
    torch.set_num_threads(work.threads)
    torch.manual_seed(work.seed)
    x, labels = (torch.from_numpy(part).to(work.device) for part in entrant.load(work))
    model = build(work.kind, work.hidden)
    start(model, work.seed)
    model.to(work.device)
    step = stepped(work.form, work.kind, model)

    def train() -> tuple[float, float | None]:
        total, measured = (torch.zeros((), device=work.device) for _ in range(2))
        order = [] if work.full else torch.randperm(work.rows, device=work.device).split(work.batch)
        for batch_x, batch_labels in [(x, labels)] if work.full else ((x[rows], labels[rows]) for rows in order):
            loss, sums = step(batch_x, batch_labels)
            total += loss * len(batch_x)
            measured = measured + sums
        classifies = measured.dim() == 0
        return total.item() / work.rows, measured.item() / work.rows if classifies else None

    def train_in_order() -> None:
        for batch_x, batch_labels in zip(x.split(work.batch), labels.split(work.batch), strict=True):
            step(batch_x, batch_labels)

    if work.form == "sgd":
        weights = [parameter.detach().numpy() for parameter in model.parameters()]
        entrant.serve_without_figures(train_in_order, lambda: weights, work, "torch", product=PRODUCT)
    entrant.serve(train, "torch", product=PRODUCT)


if __name__ == "__main__":
    main()
